//! Loading a bundle: every hash, shape and golden output is checked before it serves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use super::future::{self, Future, FutureGolden};
use super::plan::{Plans, Runner, Step};
use super::{BehaviourModel, FORMAT, Layout, Manifest, Reference, RowGraph, RowRunner, TabularModel, TextInput, Tokenizer, TokenizerFile};
use crate::customer::words;
use crate::interaction::Name;

/// Why a bundle was refused. Each message says what is wrong with which file.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("no model bundle at {0}: there is no manifest.json in it (`rapport train --out DIR` makes a bundle)")]
    Missing(PathBuf),
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("{0} is not what this version reads: {1}")]
    Content(PathBuf, String),
    #[error("{0} is damaged: its SHA-256 is {1}, the manifest says {2}")]
    Hash(PathBuf, String, String),
    #[error("the bundle does not compute what it did when it was made: {0}")]
    Golden(String),
}

/// A loaded, checked bundle. Shared by all workers.
pub struct Model {
    pub manifest: Manifest,
    pub tokenizer: Tokenizer,
    pub layout: Layout,
    /// The version as scores carry it.
    pub version: Name,
    /// xxh3-64 of the version, as customer states carry it.
    pub version_hash: u64,
    /// Class tasks in the order of the manifest.
    pub classes: Vec<ClassTask>,
    /// The graph of [`Manifest::future`].
    pub future: Option<Future>,
    /// Segments and anomaly.
    pub behaviour: Option<Arc<BehaviourModel>>,
    /// The dense network that others are measured against.
    pub tabular: Option<Arc<TabularModel>>,
    /// How inputs and outputs were distributed where it was fitted.
    pub reference: Option<Arc<Reference>>,
    pub(super) plans: Plans,
    dir: PathBuf,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("version", &self.version).field("dir", &self.dir).finish()
    }
}

/// Names of a class task, shared with every score.
#[derive(Debug, Clone)]
pub struct ClassTask {
    pub name: Name,
    /// `<task>_unknown`
    pub unknown: Name,
    pub labels: Vec<Name>,
}

/// `golden.json`: one sequence of real steps, made by the trainer, with the outputs of its last step.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    pub steps: Vec<GoldenStep>,
    /// Logits by output name (`satisfaction`, class tasks), and `state_out`.
    pub outputs: BTreeMap<String, Vec<f32>>,
    /// By file name, one row of every graph from rows to rows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, GoldenRow>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenRow {
    pub input: Vec<f32>,
    pub outputs: BTreeMap<String, Vec<f32>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenStep {
    pub tokens: Vec<u32>,
    pub bag: Vec<u32>,
    pub features: Vec<f32>,
}

/// Largest difference from a golden output: another processor sums in another order.
const GOLDEN_TOLERANCE: f32 = 1e-3;
/// Of satisfaction: below, at and above 3.
const CLASSES: usize = 3;

impl Model {
    /// Loads and checks the bundle in `dir`.
    ///
    /// # Errors
    /// [`BundleError`] says which file is wrong and how; never a panic, whatever the files hold.
    pub fn load(dir: impl AsRef<Path>) -> Result<Arc<Self>, BundleError> {
        let dir = dir.as_ref().to_path_buf();
        let manifest: Manifest = {
            let path = dir.join("manifest.json");
            let bytes = fs::read(&path).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => BundleError::Missing(dir.clone()),
                _ => BundleError::Read(path.clone(), e),
            })?;
            parse(&path, &bytes)?
        };
        let wrong = |file: &str, what: String| BundleError::Content(dir.join(file), what);
        if manifest.format != FORMAT {
            return Err(wrong("manifest.json", format!("format {} instead of {FORMAT}", manifest.format)));
        }
        if manifest.splitter != words::SPLITTER {
            return Err(wrong("manifest.json", format!("word splitter {} instead of {}", manifest.splitter, words::SPLITTER)));
        }
        let version = manifest.content_version().map_err(|e| wrong("manifest.json", e.to_string()))?;
        if version != manifest.version {
            let what = format!("it says version {}, its content is that of {version}: it was changed after training", manifest.version);
            return Err(wrong("manifest.json", what));
        }
        let mut files = BTreeMap::new();
        for (name, hash) in &manifest.files {
            let path = dir.join(name);
            if name.split('/').any(|part| part == ".." || part.is_empty()) {
                return Err(wrong("manifest.json", format!("file name {name:?} leaves the bundle")));
            }
            let bytes = fs::read(&path).map_err(|e| BundleError::Read(path.clone(), e))?;
            let found = super::hex(&Sha256::digest(&bytes));
            if found != *hash {
                return Err(BundleError::Hash(path, found, hash.clone()));
            }
            files.insert(name.as_str(), bytes);
        }
        let file =
            |name: &str| files.get(name).map(Vec::as_slice).ok_or_else(|| wrong("manifest.json", format!("{name} is not among its files")));
        let words: TokenizerFile = parse(&dir.join("tokenizer.json"), file("tokenizer.json")?)?;
        if words.bag_rows < 2 || words.splitter != words::SPLITTER {
            return Err(wrong("tokenizer.json", format!("bag_rows {} or splitter {} out of range", words.bag_rows, words.splitter)));
        }
        let mut layout: Layout = parse(&dir.join("preprocessing.json"), file("preprocessing.json")?)?;
        layout.prepare();
        if !layout.fits() || layout.hash() != manifest.feature_hash || layout.width() != manifest.features {
            return Err(wrong("preprocessing.json", "its feature columns are not those of this version: train the bundle anew".into()));
        }
        let golden: Golden = parse(&dir.join("golden.json"), file("golden.json")?)?;
        let plans = Plans::build(&manifest, file("text_cnn.onnx")?, file("sequence.onnx")?).map_err(|(name, what)| wrong(name, what))?;
        let future = match &manifest.future {
            Some(head) => {
                let graph = Future::build(head, file(future::GRAPH)?, manifest.state).map_err(|e| wrong(future::GRAPH, e))?;
                let golden: FutureGolden = parse(&dir.join(future::GOLDEN), file(future::GOLDEN)?)?;
                graph.check(head, &golden, GOLDEN_TOLERANCE).map_err(BundleError::Golden)?;
                Some(graph)
            }
            None => None,
        };
        let behaviour = match (&manifest.behaviour, &layout.behaviour) {
            (None, _) => None,
            (Some(head), Some(input)) => {
                let made = BehaviourModel::build(head, input, file("autoencoder.onnx")?);
                Some(Arc::new(made.map_err(|e| wrong("autoencoder.onnx", e))?))
            }
            (Some(_), None) => return Err(wrong("preprocessing.json", "it has no behaviour, which the manifest speaks of".into())),
        };
        let tabular = match &layout.tabular {
            None => None,
            Some(input) => Some(Arc::new(TabularModel::build(input, file("tabular.onnx")?).map_err(|e| wrong("tabular.onnx", e))?)),
        };
        let reference = match files.get(Reference::FILE) {
            None => None,
            Some(bytes) => Some(Arc::new(Reference::read(bytes).map_err(|e| wrong(Reference::FILE, e))?)),
        };
        let classes = manifest
            .classes
            .iter()
            .map(|(task, head)| ClassTask {
                name: task.as_str().into(),
                unknown: format!("{task}_unknown").as_str().into(),
                labels: head.labels.iter().map(|l| l.as_str().into()).collect(),
            })
            .collect();
        let model = Arc::new(Self {
            tokenizer: Tokenizer::new(&words),
            layout,
            version: Name::from(manifest.version.as_str()),
            version_hash: xxh3_64(manifest.version.as_bytes()),
            classes,
            future,
            behaviour,
            tabular,
            reference,
            plans,
            manifest,
            dir,
        });
        model.check_golden(&golden)?;
        Ok(model)
    }

    /// The class task of this name, with its head.
    pub fn class_task(&self, name: &str) -> Option<(&ClassTask, &super::ClassHead)> {
        let task = self.classes.iter().find(|t| t.name.as_str() == name)?;
        Some((task, self.manifest.classes.get(name)?))
    }

    /// The lowest expected rating that a score can have.
    pub fn lowest_rating(&self) -> Option<f32> {
        self.manifest.satisfaction.as_ref().map(|h| h.class_values.into_iter().fold(5.0, f32::min))
    }

    /// Where the bundle lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn check_golden(self: &Arc<Self>, golden: &Golden) -> Result<(), BundleError> {
        let mut runner = Runner::new(self.clone()).map_err(BundleError::Golden)?;
        let mut state = vec![0.0; self.manifest.state];
        let mut outputs = BTreeMap::new();
        if golden.steps.is_empty() {
            return Err(BundleError::Golden("golden.json has no step".into()));
        }
        for (i, step) in golden.steps.iter().enumerate() {
            if step.features.len() != self.manifest.features {
                return Err(BundleError::Golden(format!("step {i} has {} features", step.features.len())));
            }
            let text = TextInput { tokens: step.tokens.clone(), bag: step.bag.clone() };
            let mut vector = vec![0.0; self.manifest.vector];
            runner.encode(&text, &mut vector).map_err(BundleError::Golden)?;
            let rows = [Step { text: &vector, features: &step.features, state: &state }];
            let mut next = Vec::new();
            runner
                .step(&rows, |_, name, values| {
                    outputs.insert(name.to_owned(), values.to_vec());
                    if name == "state_out" {
                        next = values.to_vec();
                    }
                })
                .map_err(BundleError::Golden)?;
            if next.len() != state.len() {
                return Err(BundleError::Golden(format!(
                    "output state_out has {} numbers, the manifest wants {}",
                    next.len(),
                    state.len()
                )));
            }
            state = next;
        }
        let m = &self.manifest;
        let heads = m.satisfaction.iter().map(|_| ("satisfaction", CLASSES));
        let tasks = m.classes.iter().map(|(task, head)| (task.as_str(), head.labels.len()));
        for (name, width) in [("state_out", m.state)].into_iter().chain(heads).chain(tasks) {
            let found = outputs.get(name).map_or(0, Vec::len);
            if found != width {
                return Err(BundleError::Golden(format!("output {name} has {found} numbers, the manifest wants {width}")));
            }
        }
        compare(&golden.outputs, &outputs).map_err(BundleError::Golden)?;
        let graphs =
            [("autoencoder.onnx", self.behaviour.as_ref().map(|b| b.graph())), ("tabular.onnx", self.tabular.as_ref().map(|t| t.graph()))];
        for (file, graph) in graphs.into_iter().filter_map(|(f, g)| Some((f, g?))) {
            let golden = golden.rows.get(file).ok_or_else(|| BundleError::Golden(format!("there is no row for {file}")))?;
            check_row(graph, golden).map_err(|e| BundleError::Golden(format!("{file}: {e}")))?;
        }
        Ok(())
    }
}

fn check_row(graph: &Arc<RowGraph>, golden: &GoldenRow) -> Result<(), String> {
    let mut outputs = BTreeMap::new();
    RowRunner::new(graph.clone())?.run(&[&golden.input], |_, name, values| {
        outputs.insert(name.to_owned(), values.to_vec());
    })?;
    compare(&golden.outputs, &outputs)
}

/// Every output must be among the golden ones, and they among the outputs.
fn compare(golden: &BTreeMap<String, Vec<f32>>, outputs: &BTreeMap<String, Vec<f32>>) -> Result<(), String> {
    if let Some(name) = golden.keys().find(|name| !outputs.contains_key(*name)) {
        return Err(format!("there is no output {name}"));
    }
    for (name, found) in outputs {
        let expected = golden.get(name).ok_or_else(|| format!("golden.json has no output {name}"))?;
        if found.len() != expected.len() {
            return Err(format!("output {name} has {} numbers instead of {}", found.len(), expected.len()));
        }
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, |a: f32, b| if b > a || b.is_nan() { b } else { a });
        if worst.is_nan() || worst > GOLDEN_TOLERANCE {
            return Err(format!("output {name} is off by {worst} (at most {GOLDEN_TOLERANCE})"));
        }
    }
    Ok(())
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path, bytes: &[u8]) -> Result<T, BundleError> {
    serde_json::from_slice(bytes).map_err(|e| BundleError::Content(path.into(), e.to_string()))
}
