//! Judges a bundle on labelled interactions: scores come from the engine of `serve`, baselines from the bundle, nothing is fitted.
//!
//! Knows scores and labels; no network.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde::Serialize;

use super::metrics::{Quality, Row, judge, row};
use super::record::{Counts, Labels, Recording, read_interactions, record};
use super::satisfaction_class;
use super::tfidf::{Exchange, Tfidf};
use crate::alert::Policies;
use crate::engine::{ClassScore, Engine, EngineConfig, Outcome, Score, States};
use crate::interaction::{Interaction, SATISFACTION, Timestamp};
use crate::model::Model;

/// Quality of the model on one task, and of the bundle's baselines on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskReport {
    #[serde(flatten)]
    pub quality: Quality,
    /// Labels that the model does not know; each counts as a miss unless the score says "unknown".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_labels: Option<usize>,
    pub baselines: BTreeMap<&'static str, Quality>,
}

/// What `--json` writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub model: String,
    pub tasks: BTreeMap<String, TaskReport>,
}

/// Interactions of one call of the engine.
const BATCH: usize = 1024;
const CLASSES: usize = 3;

/// Runs the engine over `interactions`, from empty state, and compares its scores with the labels.
///
/// # Errors
/// Files that cannot be read, labels that are none, a baseline that is damaged; nothing to compare.
pub fn evaluate(
    model: Arc<Model>,
    policies: Arc<Policies>,
    interactions: &[PathBuf],
    labels: &[PathBuf],
    as_of: Option<Timestamp>,
    mut progress: impl FnMut(usize, usize),
) -> anyhow::Result<(Report, Counts)> {
    let recording = record(interactions, labels)?;
    let total = recording.counts.interactions;
    let known: HashMap<&str, &Labels> = recording
        .customers
        .iter()
        .flat_map(|c| c.items.iter().zip(&c.labels))
        .filter(|(item, labels)| !labels.is_empty() && as_of.is_none_or(|t| item.occurred_at < t))
        .map(|(item, labels)| (&*item.id, labels))
        .collect();
    anyhow::ensure!(!known.is_empty(), "there is nothing to judge: no label belongs to an accepted interaction");

    let version = model.manifest.version.clone();
    let tfidf = read_tfidf(&model)?;
    let mut judges = Judges::new(&model);
    let mut engine = Engine::new(model, policies, EngineConfig::default())?;
    let mut states = States::new();
    let mut batch: Vec<Interaction> = Vec::new();
    let mut done = 0;
    let mut flush = |batch: &mut Vec<Interaction>| -> anyhow::Result<()> {
        for outcome in engine.apply(batch, &mut states, Timestamp(0))?.outcomes {
            if let Outcome::Scored(score) = outcome
                && let Some(labels) = score.interaction_id.as_deref().and_then(|id| known.get(id))
            {
                judges.add(&score, labels);
            }
        }
        done += batch.len();
        progress(done, total);
        batch.clear();
        Ok(())
    };
    read_interactions(interactions, |interaction| {
        if as_of.is_none_or(|t| interaction.occurred_at < t) {
            batch.push(interaction);
        }
        if batch.len() == BATCH { flush(&mut batch) } else { Ok(()) }
    })?;
    flush(&mut batch)?;

    let mut report = judges.report(version);
    if let (Some(tfidf), Some(task)) = (tfidf, report.tasks.get_mut(SATISFACTION)) {
        task.baselines.insert("tfidf", judge_tfidf(&tfidf, &recording, as_of));
    }
    anyhow::ensure!(!report.tasks.is_empty(), "there is nothing to judge: the model has no head for any task of the labels");
    Ok((report, recording.counts))
}

/// The bundle's baseline, where it has one.
fn read_tfidf(model: &Model) -> anyhow::Result<Option<Tfidf>> {
    const NAME: &str = "baselines/tfidf.bin";
    if !model.manifest.files.contains_key(NAME) {
        return Ok(None);
    }
    let path: &Path = &model.dir().join(NAME);
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let tfidf = Tfidf::decode(&bytes).filter(|t| t.classes() == CLASSES);
    tfidf.with_context(|| format!("{} is no tf-idf baseline of this version: train the bundle anew", path.display())).map(Some)
}

fn judge_tfidf(tfidf: &Tfidf, recording: &Recording, as_of: Option<Timestamp>) -> Quality {
    let mut rows = Vec::new();
    for customer in &recording.customers {
        let mut exchange = Exchange::default();
        for (item, labels) in customer.items.iter().zip(&customer.labels) {
            if let Some(mean) = labels.satisfaction
                && as_of.is_none_or(|t| item.occurred_at < t)
            {
                rows.push(row(&tfidf.probabilities(&exchange.document(item)), satisfaction_class(mean), Some(0)));
            }
            exchange.add(item);
        }
    }
    judge(&rows)
}

/// One class task of the model while scores come in.
struct Judge {
    task: String,
    /// Number of every label of the model.
    numbers: HashMap<String, usize>,
    rows: Vec<Row>,
    unknown_labels: usize,
}

struct Judges {
    satisfaction: Vec<Row>,
    classes: Vec<Judge>,
}

impl Judges {
    fn new(model: &Model) -> Self {
        let classes = model.classes.iter().map(|task| Judge {
            task: task.name.to_string(),
            numbers: task.labels.iter().enumerate().map(|(i, l)| (l.to_string(), i)).collect(),
            rows: Vec::new(),
            unknown_labels: 0,
        });
        Self { satisfaction: Vec::new(), classes: classes.collect() }
    }

    fn add(&mut self, score: &Score, labels: &Labels) {
        if let (Some(mean), Some(s)) = (labels.satisfaction, score.satisfaction) {
            self.satisfaction.push(row(&[s.dissatisfied, s.neutral, s.satisfied], satisfaction_class(mean), Some(0)));
        }
        for judge in &mut self.classes {
            if let Some(label) = labels.classes.get(judge.task.as_str()) {
                judge.add(score, label);
            }
        }
    }

    fn report(self, model: String) -> Report {
        let mut tasks = BTreeMap::new();
        let mut report = |task: &str, rows: &[Row], unknown_labels| {
            if !rows.is_empty() {
                tasks.insert(task.to_owned(), TaskReport { quality: judge(rows), unknown_labels, baselines: BTreeMap::new() });
            }
        };
        report(SATISFACTION, &self.satisfaction, None);
        for j in &self.classes {
            report(&j.task, &j.rows, Some(j.unknown_labels));
        }
        Report { model, tasks }
    }
}

impl Judge {
    /// A score names the likeliest labels only: a label that it does not name has its share of the rest.
    fn add(&mut self, score: &Score, label: &str) {
        let find = |name: &str| score.classes.iter().find(|(n, _)| n.as_str() == name).map(|(_, s)| s);
        let Some(ClassScore::Top(top)) = find(&self.task) else { return };
        let unknown = matches!(find(&format!("{}_unknown", self.task)), Some(ClassScore::Unknown(true)));
        let number = |name: &str| self.numbers.get(name).copied();
        let none = self.numbers.len();
        let Some(first) = top.first() else { return };
        let predicted = if unknown { none } else { number(first.label.as_str()).unwrap_or(none) };
        let probability = number(label).map(|_| {
            let named: f32 = top.iter().map(|t| t.probability).sum();
            let others = (none - top.len()).max(1) as f32;
            top.iter().find(|t| t.label.as_str() == label).map_or((1.0 - named).max(0.0) / others, |t| t.probability)
        });
        let label_number = number(label).unwrap_or(none);
        self.unknown_labels += usize::from(label_number == none);
        let event = (first.probability, first.label.as_str() == label);
        self.rows.push(Row { label: label_number, predicted, probability, event });
    }
}
