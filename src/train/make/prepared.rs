//! What is known of the data before any network is: vocabulary, feature scaling, tasks, mean ratings; all of it from the part that is fitted on.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::golden::golden;
use super::heads::Heads;
use super::notes::Notes;
use super::{Job, Origin};
use crate::customer::words;
use crate::features::NUMERIC;
use crate::model::{ClassHead, FORMAT, Golden, GoldenRow, Layout, Manifest, SatisfactionHead, TokenizerFile, Training};
use crate::train::config::Config;
use crate::train::dataset::{ClassTask, Dataset};
use crate::train::holdout::View;
use crate::train::judge::TaskReport;
use crate::train::lineage::CODE;
use crate::train::network::{Architecture, Network, TaskShape};
use crate::train::record::Recording;
use crate::train::vectors::Vectors;
use crate::train::{onnx, prepare, satisfaction_class};

/// Classes of satisfaction: below, at and above 3.
pub use crate::train::network::CLASSES;

/// See the file's first line.
pub struct Prepared {
    pub tokenizer: TokenizerFile,
    pub layout: Layout,
    pub tasks: Vec<ClassTask>,
    /// Whether there is enough to learn satisfaction from.
    pub satisfaction: bool,
    /// Mean rating of each class.
    pub class_values: [f32; CLASSES],
    /// Mean of all ratings.
    pub mean: f32,
    pub vectors: Vectors,
}

impl Prepared {
    /// Looks at the part that is fitted on, and says what it leaves out.
    pub fn new(fit: &[View<'_>], recording: &Recording, vectors: Vectors, config: &Config, notes: &mut Notes<'_>) -> Self {
        let (tasks, left_out) = prepare::tasks(fit, &config.prepare(), &config.auxiliary);
        for what in left_out {
            notes.left_out(what);
        }
        let mut sums = [(0.0f64, 0usize); CLASSES];
        for mean in fit.iter().flat_map(View::own).filter_map(|(_, l)| l.satisfaction) {
            let sum = &mut sums[satisfaction_class(mean)];
            sum.0 += f64::from(mean);
            sum.1 += 1;
        }
        let rated: usize = sums.iter().map(|s| s.1).sum();
        let classes = sums.iter().filter(|s| s.1 >= config.min_class).count();
        if rated > 0 && classes < 2 {
            let counts = sums.map(|s| s.1);
            notes.left_out(format!(
                "satisfaction: of ratings below, at and above 3 there are {counts:?} to learn from, two classes need at least {} each",
                config.min_class
            ));
        }
        if rated == 0 {
            notes.left_out("satisfaction: there is no rating among the labels or interactions".into());
        }
        let mut class_values = [2.0, 3.0, 4.0];
        for (value, (sum, n)) in class_values.iter_mut().zip(sums) {
            if n > 0 {
                *value = (sum / n as f64) as f32;
            }
        }
        let total: f64 = sums.iter().map(|s| s.0).sum();
        let mean = if rated == 0 { 3.0 } else { (total / rated as f64) as f32 };
        Self {
            tokenizer: prepare::tokenizer(fit, recording, &config.prepare(), &vectors),
            layout: prepare::layout(fit, recording),
            tasks,
            satisfaction: classes >= 2,
            class_values,
            mean,
            vectors,
        }
    }

    /// Sequences of the views, with the labels of their part.
    pub fn dataset(&self, views: &[View<'_>]) -> Dataset {
        let mut data = prepare::dataset(views, &self.tokenizer, &self.layout, &self.tasks);
        let words = self.tokenizer.words.iter().enumerate();
        data.vectors = words.filter_map(|(i, word)| Some((i + 2, self.vectors.get(word)?.to_vec()))).collect();
        if !self.satisfaction {
            data.sequences.iter_mut().flat_map(|s| &mut s.steps).for_each(|s| s.satisfaction = None);
        }
        data
    }

    pub fn architecture(&self, config: &Config) -> Architecture {
        Architecture {
            sizes: config.sizes(),
            vocabulary: self.tokenizer.words.len() + 2,
            bag_rows: self.tokenizer.bag_rows as usize,
            vector: config.vector,
            hidden: config.hidden,
            features: self.layout.width(),
            customer: NUMERIC.iter().position(|name| *name == "actor_customer"),
            satisfaction: self.satisfaction,
            votes_rate: config.votes_rate,
            opinions_rate: config.opinions_rate,
            tasks: self.tasks.iter().map(|t| TaskShape { labels: t.labels.len(), wide: !t.auxiliary }).collect(),
        }
    }

    /// Names of the tasks that become outputs.
    fn exported(&self) -> Vec<Option<&str>> {
        self.tasks.iter().map(|t| (!t.auxiliary).then_some(&*t.name)).collect()
    }

    /// Graphs, tables and golden outputs; `rows` are those of the graphs from rows to rows.
    pub fn files(&self, network: &Network, rows: BTreeMap<String, GoldenRow>) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let exported = self.exported();
        Ok(BTreeMap::from([
            ("text_cnn.onnx".to_owned(), onnx::text_graph(network)),
            ("sequence.onnx".to_owned(), onnx::sequence_graph(network, &exported)),
            ("tokenizer.json".to_owned(), json_file(&self.tokenizer)?),
            ("preprocessing.json".to_owned(), json_file(&self.layout)?),
            ("golden.json".to_owned(), json_file(&Golden { rows, ..golden(self, network)? })?),
        ]))
    }

    /// The manifest, but for version and file hashes.
    pub fn manifest(
        &self,
        job: &Job,
        recording: &Recording,
        network: &Network,
        heads: &Heads,
        tasks: &BTreeMap<String, TaskReport>,
        origin: &Origin,
    ) -> Manifest {
        let widths = onnx::widths(network);
        let satisfaction = self.satisfaction.then(|| SatisfactionHead {
            scale: heads.satisfaction.scale,
            bias: std::array::from_fn(|i| heads.satisfaction.bias[i]),
            class_values: self.class_values,
            mean: self.mean,
        });
        let classes = self.tasks.iter().zip(&heads.classes).filter(|(t, _)| !t.auxiliary).map(|(task, (scaling, unknown_below))| {
            let labels = task.labels.iter().map(|l| l.to_string()).collect();
            (task.name.to_string(), ClassHead { labels, scale: scaling.scale, unknown_below: *unknown_below })
        });
        let metrics = tasks.iter().map(|(task, report)| {
            let baselines: BTreeMap<_, _> = report.baselines.iter().map(|(name, b)| (*name, &b.quality)).collect();
            (task.clone(), json!({ "held_out": report.quality, "baselines": baselines }))
        });
        Manifest {
            format: FORMAT,
            version: String::new(),
            splitter: words::SPLITTER,
            vector: widths.vector,
            features: self.layout.width(),
            state: widths.state,
            feature_hash: self.layout.hash(),
            satisfaction,
            classes: classes.collect(),
            future: None,
            behaviour: None,
            training: Training {
                from: origin.from.to_string(),
                to: origin.to.to_string(),
                customers: recording.customers.len(),
                interactions: recording.counts.interactions,
                data: Some(origin.data.clone()),
                seed: job.seed,
                vectors: (!self.vectors.words.is_empty()).then(|| self.vectors.hash.clone()),
                parent: origin.parent.clone(),
                horizon_days: job.config.horizon_days,
                code: CODE.into(),
            },
            metrics: Value::Object(metrics.collect()),
            files: BTreeMap::new(),
        }
    }
}

/// A JSON file: one value, a newline at its end.
pub fn json_file(value: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}
