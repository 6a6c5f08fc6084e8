//! A small hyper-parameter search with a budget: random trials (Bergstra and Bengio, 2012), chosen by the loss on the calibration part alone.
//!
//! Knows settings and the training loop. The part that judges is not here, so it cannot be searched on.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::dataset::Dataset;
use super::fit::{self, Fitted};
use super::network::Architecture;

/// The table `[search]` of `train.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Search {
    /// Networks to train, the first with the settings as they are; 0: no search.
    pub budget: usize,
    /// Keys whose values are drawn; see [`KEYS`].
    pub keys: Vec<String>,
}

impl Default for Search {
    fn default() -> Self {
        Self { budget: 0, keys: ["learning_rate", "epochs", "dropout"].map(String::from).to_vec() }
    }
}

/// What may be searched. Weights of losses are not among them, since they change what the loss measures.
pub const KEYS: [&str; 6] = ["learning_rate", "epochs", "weight_decay", "dropout", "word_dropout", "bag_dropout"];

/// One trained network: what was drawn, and how it did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    pub settings: BTreeMap<String, f64>,
    /// Per label on the calibration part; absent where nothing is labelled there.
    pub loss: Option<f32>,
}

impl Search {
    /// Says which value is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.budget > 1000 {
            return Err(format!("search.budget = {} must be from 0 to 1000", self.budget));
        }
        match self.keys.iter().find(|k| !KEYS.contains(&k.as_str())) {
            Some(key) => Err(format!("search.keys: {key:?} cannot be searched, of {KEYS:?} each can")),
            None => Ok(()),
        }
    }
}

/// Draws a value for every key, around the one that is set.
fn draw(config: &Config, rng: &mut SmallRng) -> Config {
    let mut drawn = config.clone();
    for key in &config.search.keys {
        let factor = 3f32.powf(rng.random_range(-1.0..1.0));
        let rate = rng.random_range(0.0..0.5);
        match key.as_str() {
            "learning_rate" => drawn.learning_rate = (config.learning_rate * factor).min(1.0),
            "weight_decay" => drawn.weight_decay = (config.weight_decay * factor).min(1.0),
            "epochs" => drawn.epochs = rng.random_range(config.epochs.div_ceil(2)..=2 * config.epochs),
            "dropout" => drawn.dropout = rate,
            "word_dropout" => drawn.word_dropout = rate,
            "bag_dropout" => drawn.bag_dropout = rate,
            _ => {}
        }
    }
    drawn
}

fn settings(config: &Config) -> BTreeMap<String, f64> {
    let value = |key: &String| match key.as_str() {
        "learning_rate" => f64::from(config.learning_rate),
        "weight_decay" => f64::from(config.weight_decay),
        "epochs" => config.epochs as f64,
        "dropout" => f64::from(config.dropout),
        "word_dropout" => f64::from(config.word_dropout),
        _ => f64::from(config.bag_dropout),
    };
    config.search.keys.iter().map(|key| (key.clone(), value(key))).collect()
}

/// Trains as often as the budget says and returns the network with the lowest loss on the calibration part, and every trial. `progress` is told the
/// number of the trial, the share of it that is done, and the loss.
pub fn search(
    data: &Dataset,
    calibration: &Dataset,
    architecture: &Architecture,
    config: &Config,
    seed: u64,
    mut progress: impl FnMut(usize, f32, f32),
) -> (Fitted, Vec<Trial>) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x5ea7c4);
    let mut train = |trial: usize, config: &Config| {
        let fitted = fit::fit(data, calibration, architecture.clone(), &config.fit(), seed, |done, loss| progress(trial, done, loss));
        let loss = fitted.epochs.iter().find(|e| e.epoch == fitted.kept).and_then(|e| e.calibration);
        (fitted, Trial { settings: settings(config), loss })
    };
    let (mut best, first) = train(1, config);
    let (mut least, mut trials) = (first.loss, vec![first]);
    for trial in 2..=config.search.budget {
        let (fitted, drawn) = train(trial, &draw(config, &mut rng));
        if drawn.loss.is_some_and(|loss| least.is_none_or(|least| loss < least)) {
            (best, least) = (fitted, drawn.loss);
        }
        trials.push(drawn);
    }
    (best, trials)
}
