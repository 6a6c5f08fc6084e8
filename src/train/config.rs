//! `train.toml`: every number of a training run, with defaults that were tuned once.
//!
//! Knows no data and no files but its own.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::holdout::How;
use super::lookup::Sizes;
use super::search::Search;
use super::shape::Shape;
use super::{fit, optimizer, prepare};
use crate::cli::usage;

/// Settings of `rapport train`. A key that it does not know is an error.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How far ahead labels of the future look.
    pub horizon_days: u32,
    /// Most interactions that are kept, as whole customers chosen by the seed; 0: all. Memory grows with it, not with the files.
    pub max_interactions: usize,
    /// Most steps of the optimiser in one fit of a network; 0: as many as its epochs make.
    pub max_steps: usize,
    /// Class tasks that shape the text encoder but become no output of the bundle.
    pub auxiliary: Vec<String>,
    /// How the part that is set aside for calibration and judging is chosen.
    pub holdout: How,
    pub epochs: usize,
    /// Stop after so many epochs without a lower loss on the calibration part, and keep the best epoch; 0: never.
    pub patience: usize,
    /// Conversations per batch.
    pub batch: usize,
    /// Steps of back-propagation through time.
    pub chunk: usize,
    pub learning_rate: f32,
    /// Learning rates of the n-grams' votes on labels and opinions on satisfaction, over that of the rest. A rare n-gram is seen a few times only and
    /// each time moves its row by about ten learning rates, whatever the gradient's size.
    pub votes_rate: f32,
    pub opinions_rate: f32,
    pub weight_decay: f32,
    pub warm_up: usize,
    pub dropout: f32,
    pub word_dropout: f32,
    pub bag_dropout: f32,
    /// Weights of the losses beside 1 for the classes of satisfaction.
    pub mean_loss: f32,
    pub class_loss: f32,
    /// Standard deviation, in logits, of what all ratings of a customer share and nothing in the sequence tells; 0: nothing.
    pub intercept_deviation: f32,
    pub smoothing: f32,
    pub min_count: u32,
    pub max_words: usize,
    pub bag_rows: u32,
    pub min_class: usize,
    /// Widths: word embedding, filters per width, n-gram embedding, text vector, hidden vector.
    pub embedding: usize,
    pub filters: usize,
    pub bag: usize,
    pub vector: usize,
    pub hidden: usize,
    /// A class task says "unknown" below this quantile of its largest held-out probability; 0: never.
    pub unknown_quantile: f64,
    /// Random trials of other settings; must come last in the file, as any table.
    pub search: Search,
    /// Keys that the user has set, which the data's shape does not touch.
    #[serde(skip)]
    pub given: BTreeSet<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            horizon_days: 90,
            max_interactions: 1_000_000,
            max_steps: 0,
            auxiliary: Vec::new(),
            holdout: How::Auto,
            epochs: 3,
            patience: 0,
            batch: 16,
            chunk: 64,
            learning_rate: 1e-3,
            votes_rate: 30.0,
            opinions_rate: 0.0,
            weight_decay: 0.02,
            warm_up: 50,
            dropout: 0.3,
            word_dropout: 0.1,
            bag_dropout: 0.3,
            mean_loss: 0.0,
            intercept_deviation: 1.0,
            class_loss: 0.2,
            smoothing: 0.05,
            min_count: 2,
            max_words: 16_000,
            bag_rows: 65_536,
            min_class: 5,
            embedding: 100,
            filters: 32,
            bag: 32,
            vector: 96,
            hidden: 96,
            unknown_quantile: 0.015,
            search: Search::default(),
            given: BTreeSet::new(),
        }
    }
}

impl Config {
    /// Reads `path`, or the defaults where there is none.
    ///
    /// # Errors
    /// A usage error that names the key, the value and what would be right.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).map_err(|e| usage(format!("--config {}: {e}", path.display())))?;
        let wrong = |what: String| usage(format!("{}: {what}", path.display()));
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
        if table.contains_key("refit") {
            return Err(wrong("refit is no key any more: what is set aside for judging is never fitted on; leave it out".into()));
        }
        let mut config: Self = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        config.given = table.keys().cloned().collect();
        config.check().map_err(wrong)?;
        Ok(config)
    }

    /// Says which key has a value out of range.
    pub fn check(&self) -> Result<(), String> {
        let counts = [
            ("horizon_days", self.horizon_days as usize, 1, 3650),
            ("epochs", self.epochs, 1, 1000),
            ("patience", self.patience, 0, 1000),
            ("batch", self.batch, 1, 4096),
            ("chunk", self.chunk, 2, 1024),
            ("warm_up", self.warm_up, 0, 100_000),
            ("min_count", self.min_count as usize, 1, 1_000_000),
            ("max_words", self.max_words, 0, 1_000_000),
            ("bag_rows", self.bag_rows as usize, 2, 4_194_304),
            ("min_class", self.min_class, 1, 1_000_000),
            ("embedding", self.embedding, 1, 1024),
            ("filters", self.filters, 1, 1024),
            ("bag", self.bag, 1, 1024),
            ("vector", self.vector, 1, 1024),
            ("hidden", self.hidden, 1, 1024),
        ];
        for (key, value, least, most) in counts {
            if !(least..=most).contains(&value) {
                return Err(format!("{key} = {value} must be from {least} to {most}"));
            }
        }
        let shares = [
            ("dropout", self.dropout),
            ("word_dropout", self.word_dropout),
            ("bag_dropout", self.bag_dropout),
            ("smoothing", self.smoothing),
            ("unknown_quantile", self.unknown_quantile as f32),
        ];
        for (key, value) in shares {
            if !(0.0..0.95).contains(&value) {
                return Err(format!("{key} = {value} must be from 0 to below 0.95"));
            }
        }
        let positive = [
            ("votes_rate", self.votes_rate, 1000.0),
            ("opinions_rate", self.opinions_rate, 1000.0),
            ("learning_rate", self.learning_rate, 1.0),
            ("weight_decay", self.weight_decay, 1.0),
            ("mean_loss", self.mean_loss, 100.0),
            ("intercept_deviation", self.intercept_deviation, 3.0),
            ("class_loss", self.class_loss, 100.0),
        ];
        for (key, value, most) in positive {
            if !(0.0..=most).contains(&value) {
                return Err(format!("{key} = {value} must be from 0 to {most}"));
            }
        }
        self.search.check()
    }

    /// These settings with those that were neither given nor changed replaced by what suits the data's shape.
    pub fn suited(&self, shape: Shape) -> Self {
        let suited = shape.settings();
        let (mut config, usual) = (self.clone(), Self::default());
        macro_rules! take {
            ($($key:ident),*) => {
                $(if !self.given.contains(stringify!($key)) && self.$key == usual.$key { config.$key = suited.$key; })*
            };
        }
        take!(
            epochs,
            batch,
            learning_rate,
            votes_rate,
            opinions_rate,
            filters,
            bag,
            smoothing,
            dropout,
            bag_dropout,
            mean_loss,
            intercept_deviation,
            class_loss
        );
        config
    }

    pub fn sizes(&self) -> Sizes {
        Sizes { embedding: self.embedding, filters: self.filters, bag: self.bag }
    }

    pub fn prepare(&self) -> prepare::Settings {
        prepare::Settings { min_count: self.min_count, max_words: self.max_words, bag_rows: self.bag_rows, min_class: self.min_class }
    }

    pub fn fit(&self) -> fit::Settings {
        fit::Settings {
            epochs: self.epochs,
            max_steps: self.max_steps,
            batch: self.batch,
            chunk: self.chunk,
            dropout: self.dropout,
            word_dropout: self.word_dropout,
            bag_dropout: self.bag_dropout,
            mean_loss: self.mean_loss,
            intercept_deviation: self.intercept_deviation,
            class_loss: self.class_loss,
            smoothing: self.smoothing,
            patience: self.patience,
            optimizer: optimizer::Settings {
                learning_rate: self.learning_rate,
                beta1: 0.9,
                beta2: 0.99,
                epsilon: 1e-8,
                weight_decay: self.weight_decay,
                clip: 1.0,
                warm_up: self.warm_up,
                floor: 0.05,
                average: 0.99,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("train.toml");
        std::fs::write(&path, text).expect("temporary file");
        Config::load(Some(&path)).map_err(|e| e.to_string())
    }

    /// Tables flattened to `table.key`.
    fn flat(prefix: &str, table: toml::Table) -> Vec<(String, toml::Value)> {
        table
            .into_iter()
            .flat_map(|(key, value)| match value {
                toml::Value::Table(table) => flat(&format!("{prefix}{key}."), table),
                value => vec![(format!("{prefix}{key}"), value)],
            })
            .collect()
    }

    #[test]
    fn the_documentation_names_every_key_with_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/training.md");
        let text = std::fs::read_to_string(path).expect("the documentation");
        let (_, section) = text.split_once("## `train.toml`").expect("the section");
        let mut documented = std::collections::BTreeMap::new();
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.trim_matches('|').splitn(3, '|').map(str::trim).collect();
            let default = cells[1].trim_end_matches(" *").trim_matches('`');
            let value = format!("value = {default}").parse::<toml::Table>().expect(row)["value"].clone();
            assert!(
                documented.insert(cells[0].trim_matches('`').to_owned(), (value, cells[1].ends_with('*'))).is_none(),
                "{row} is there twice"
            );
        }
        let config = Config::default();
        let defaults = flat("", toml::Table::try_from(&config).expect("a table"));
        let names = |keys: Vec<&String>| keys.into_iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(documented.keys().collect()), names(defaults.iter().map(|(key, _)| key).collect()));
        let texts = |many| Shape::Texts { customers: 1, many };
        let shapes = [Shape::Conversations { steps: 1, many: false }, Shape::Sessions { rated: 1 }, texts(false), texts(true)];
        let suited: Vec<_> = shapes.map(|s| flat("", toml::Table::try_from(s.settings()).expect("a table"))).into();
        for (i, (key, default)) in defaults.iter().enumerate() {
            let (said, follows) = &documented[key];
            match (default.as_float(), said.as_float()) {
                (Some(is), Some(said)) => assert!((is - said).abs() <= 1e-6 * is.abs(), "{key} is {is}, not {said}"),
                _ => assert_eq!(default, said, "{key}"),
            }
            assert_eq!(*follows, suited.iter().any(|settings| settings[i].1 != *default), "whether {key} follows the data's shape");
        }
    }

    #[test]
    fn wrong_keys_and_values_name_what_would_be_right() {
        assert_eq!(load("holdout = \"time\"\npatience = 2").map(|c| (c.holdout, c.patience)), Ok((How::Time, 2)));
        assert_eq!(load("").map(|c| c.holdout), Ok(How::Auto));
        for (text, mentions) in [
            ("refit = true", "refit is no key any more"),
            ("holdout = \"random\"", "`auto`, `time`, `customers`"),
            ("epoch = 3", "unknown field `epoch`"),
            ("dropout = 1.5", "dropout = 1.5 must be from 0"),
            ("[search]\nkeys = [\"hidden\"]", "search.keys: \"hidden\" cannot be searched"),
        ] {
            let error = load(text).expect_err(text);
            assert!(error.contains("train.toml") && error.contains(mentions), "{error}");
        }
    }
}
