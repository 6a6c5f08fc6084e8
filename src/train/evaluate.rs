//! Judges a bundle on labelled interactions: scores come from the engine of `serve`, baselines from the bundle, nothing is fitted.
//!
//! Knows scores and labels; no network.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::future::judge::{self as future, FutureReport};
use super::judge::{Judged, Task, TaskReport, Unknown, report};
use super::metrics::Row;
use super::record::{Counts, Labels, Recording, read_batches, record};
use super::slices::{Names, Who};
use super::tfidf::Tfidf;
use super::{SATISFACTION_CLASSES, TFIDF, satisfaction_class, tabular, tfidf};
use crate::alert::Policies;
use crate::engine::{ClassScore, Engine, EngineConfig, Outcome, Score, States};
use crate::interaction::{SATISFACTION, Timestamp};
use crate::model::{Model, Training};

/// What `--json` writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub model: String,
    pub tasks: BTreeMap<String, TaskReport>,
    /// Tasks of the future, as of a time.
    pub future: FutureReport,
    /// What of this the bundle may have been trained on, in words.
    pub seen: Option<String>,
}

/// One key per task, whatever it is of.
impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tasks<'a> {
            #[serde(flatten)]
            labelled: &'a BTreeMap<String, TaskReport>,
            #[serde(flatten)]
            future: &'a FutureReport,
        }
        let mut report = serializer.serialize_struct("Report", 3)?;
        report.serialize_field("model", &self.model)?;
        report.serialize_field("tasks", &Tasks { labelled: &self.tasks, future: &self.future })?;
        report.serialize_field("seen", &self.seen)?;
        report.end()
    }
}

/// Of the bootstrap: the same files give the same intervals.
const SEED: u64 = 1;

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
    horizon_days: Option<u32>,
    mut progress: impl FnMut(usize, usize),
) -> anyhow::Result<(Report, Counts)> {
    let recording = record(interactions, labels)?;
    let total = recording.counts.interactions;
    let known: HashMap<&str, (&Labels, Who)> = recording
        .customers
        .iter()
        .enumerate()
        .flat_map(|(number, c)| c.items.iter().zip(&c.labels).enumerate().map(move |(place, (item, labels))| (number, place, item, labels)))
        .filter(|(_, _, item, labels)| !labels.is_empty() && as_of.is_none_or(|t| item.occurred_at < t))
        .map(|(number, place, item, labels)| {
            let who = Who { customer: number as u32, language: item.language, kind: item.kind, segment: 0, place: place as u32 };
            (&*item.id, (labels, who))
        })
        .collect();
    let ahead = as_of.filter(|_| model.manifest.future.is_some());
    anyhow::ensure!(
        !known.is_empty() || ahead.is_some(),
        "there is nothing to judge: no label belongs to an accepted interaction{}",
        match (model.manifest.future.is_some(), as_of) {
            (true, _) => "; churn, spend and next need are judged as of a time, --as-of",
            (false, Some(_)) => ", and the model says no churn, spend or next need that could be judged as of a time",
            (false, None) => "",
        }
    );
    if let Some(at) = ahead.filter(|at| recording.from.is_none_or(|from| from >= *at)) {
        let what = recording.from.map_or("there is no valid interaction".into(), |from| format!("the first interaction is of {from}"));
        return Err(crate::cli::usage(format!("--as-of {at}: {what}; nobody is known by then")));
    }

    let names = Names::of(&recording, model.behaviour.as_deref());
    let mut judges = Judges::new(&model, names.clone());
    let version = model.manifest.version.clone();
    let engine = Engine::new(model.clone(), policies, EngineConfig::default())?.with_horizon(horizon_days);
    // Without a label only the states as of the time count.
    let mut engine = if known.is_empty() { engine.without_outlook() } else { engine };
    let mut states = States::new();
    let mut done = 0;
    read_batches(interactions, as_of, |batch| {
        for outcome in engine.apply(batch, &mut states, Timestamp(0))?.outcomes {
            if let Outcome::Scored(score) = outcome
                && let Some((labels, who)) = score.interaction_id.as_deref().and_then(|id| known.get(id))
            {
                judges.add(&score, labels, *who);
            }
        }
        done += batch.len();
        progress(done, total);
        Ok(())
    })?;

    let future = match ahead {
        Some(at) => future::judge(&mut engine, &states, &recording, &names, at)?,
        None => FutureReport::default(),
    };
    let seen = seen(&model.manifest.training, &recording, as_of, future != FutureReport::default());
    let report = Report { model: version, tasks: judges.report(&model, &recording, as_of)?, future, seen };
    anyhow::ensure!(
        !report.tasks.is_empty() || report.future != FutureReport::default(),
        "there is nothing to judge: the model has no head for any task of the labels"
    );
    Ok((report, recording.counts))
}

/// Says how much of what is judged lies in the time that a bundle was trained on: labels, of interactions before `as_of` where that is given, and what came
/// from then on where `ahead` was judged.
fn seen(training: &Training, recording: &Recording, as_of: Option<Timestamp>, ahead: bool) -> Option<String> {
    let (from, to) = (Timestamp::parse(&training.from).ok()?, Timestamp::parse(&training.to).ok()?);
    let labelled = || {
        let all = recording.customers.iter().flat_map(|c| c.items.iter().zip(&c.labels));
        all.filter(|(item, labels)| !labels.is_empty() && as_of.is_none_or(|t| item.occurred_at < t))
    };
    let within = labelled().filter(|(item, _)| (from..=to).contains(&item.occurred_at)).count();
    let mut said = Vec::new();
    if within > 0 {
        said.push(format!(
            "{within} of {} labelled interactions lie in the time that the bundle was trained on, {from} to {to}",
            labelled().count()
        ));
    }
    if let Some(at) = as_of.filter(|at| ahead && *at <= to) {
        said.push(format!("what came from {at} on is judged, and the bundle was trained on interactions until {to}"));
    }
    (!said.is_empty()).then(|| format!("{}: if it was trained on them, these figures flatter it.", said.join("; ")))
}

/// The bundle's baseline of a task, where it has one.
fn read_tfidf(model: &Model, task: &str, classes: usize) -> anyhow::Result<Option<Tfidf>> {
    let name = tfidf::file(task);
    if !model.manifest.files.contains_key(&name) {
        return Ok(None);
    }
    let path: &Path = &model.dir().join(&name);
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let tfidf = Tfidf::decode(&bytes).filter(|t| t.classes() == classes);
    tfidf.with_context(|| format!("{} is no tf-idf baseline of this version: train the bundle anew", path.display())).map(Some)
}

/// One task while scores come in: `(customer, place)` of each row tells it from all others.
struct Judge {
    task: String,
    labels: Vec<String>,
    /// Number of every label of the model; empty for satisfaction.
    numbers: HashMap<String, usize>,
    rows: Vec<Judged>,
    /// Of every row, whether the score says that none of the labels is meant.
    unknown: Vec<bool>,
}

impl Judge {
    fn new(task: &str, labels: Vec<String>) -> Self {
        let numbers = labels.iter().enumerate().map(|(i, l)| (l.clone(), i)).collect();
        Self { task: task.to_owned(), labels, numbers, rows: Vec::new(), unknown: Vec::new() }
    }

    /// A score names the likeliest labels only: the others share the rest. What is said is the likeliest, also where it is called unknown.
    fn add(&mut self, score: &Score, label: &str, who: Who) {
        let find = |name: &str| score.classes.iter().find(|(n, _)| n.as_str() == name).map(|(_, s)| s);
        let Some(ClassScore::Top(top)) = find(&self.task) else { return };
        let unknown = matches!(find(&format!("{}_unknown", self.task)), Some(ClassScore::Unknown(true)));
        let number = |name: &str| self.numbers.get(name).copied();
        let none = self.numbers.len();
        let Some(first) = top.first() else { return };
        let named: f32 = top.iter().map(|t| t.probability).sum();
        let others = none.saturating_sub(top.len()).max(1) as f32;
        let mut p = vec![(1.0 - named).max(0.0) / others; none];
        for t in top {
            if let Some(i) = number(t.label.as_str()) {
                p[i] = t.probability;
            }
        }
        let predicted = number(first.label.as_str()).unwrap_or(none);
        let truth = number(label).unwrap_or(none);
        self.unknown.push(unknown);
        let event = (first.probability, first.label.as_str() == label);
        self.rows.push(Judged { row: Row { label: truth, predicted, p: p.into(), event }, rating: None, who });
    }

    /// The baseline's rows, in the order of this judge's own.
    fn baseline(&self, tfidf: &Tfidf, recording: &Recording, as_of: Option<Timestamp>) -> Vec<Row> {
        let event = (self.task == SATISFACTION).then_some(0);
        let mut rows: HashMap<(u32, u32), Row> = HashMap::new();
        for (number, customer) in recording.customers.iter().enumerate() {
            let mut exchange = tfidf.exchange();
            for (place, (item, labels)) in customer.items.iter().zip(&customer.labels).enumerate() {
                let label = match event {
                    Some(_) => labels.satisfaction.map(satisfaction_class),
                    None => labels.classes.get(self.task.as_str()).map(|l| self.numbers.get(&**l).copied().unwrap_or(self.labels.len())),
                };
                if let Some(label) = label.filter(|_| as_of.is_none_or(|t| item.occurred_at < t)) {
                    rows.insert((number as u32, place as u32), Row::new(&tfidf.probabilities(&exchange.document(item)), label, event));
                }
                exchange.add(item);
            }
        }
        self.rows.iter().filter_map(|j| rows.remove(&(j.who.customer, j.who.place))).collect()
    }
}

struct Judges {
    satisfaction: Judge,
    classes: Vec<Judge>,
    names: Names,
}

impl Judges {
    fn new(model: &Model, names: Names) -> Self {
        let classes = model.classes.iter().map(|task| Judge::new(task.name.as_str(), task.labels.iter().map(|l| l.to_string()).collect()));
        let satisfaction = Judge::new(SATISFACTION, SATISFACTION_CLASSES.map(String::from).to_vec());
        Self { satisfaction, classes: classes.collect(), names }
    }

    fn add(&mut self, score: &Score, labels: &Labels, mut who: Who) {
        if let Some(segment) = &score.segment {
            who.segment = segment.id + 1;
        }
        if let (Some(mean), Some(s)) = (labels.satisfaction, score.satisfaction) {
            let row = Row::new(&[s.dissatisfied, s.neutral, s.satisfied], satisfaction_class(mean), Some(0));
            self.satisfaction.rows.push(Judged { row, rating: Some((s.value, mean)), who });
        }
        for judge in &mut self.classes {
            if let Some(label) = labels.classes.get(judge.task.as_str()) {
                judge.add(score, label, who);
            }
        }
    }

    fn report(self, model: &Model, recording: &Recording, as_of: Option<Timestamp>) -> anyhow::Result<BTreeMap<String, TaskReport>> {
        let mean = model.manifest.satisfaction.as_ref().map_or(3.0, |h| h.mean);
        let mut tasks = BTreeMap::new();
        for judge in [&self.satisfaction].into_iter().chain(&self.classes).filter(|j| !j.rows.is_empty()) {
            let is_satisfaction = judge.task == SATISFACTION;
            let tfidf = read_tfidf(model, &judge.task, judge.labels.len())?;
            let baselines: Vec<_> = tfidf.iter().map(|t| (TFIDF, judge.baseline(t, recording, as_of))).collect();
            let task = Task { labels: judge.labels.clone(), event: is_satisfaction.then_some(0), mean, names: &self.names, seed: SEED };
            if let Some(mut report) = report(&task, &judge.rows, &baselines) {
                let knows = |j: &Judged| j.row.label < judge.labels.len();
                report.unknown_labels = (!is_satisfaction).then(|| judge.rows.iter().filter(|j| !knows(j)).count());
                if model.manifest.classes.get(&judge.task).is_some_and(|head| head.unknown_below.is_some()) {
                    report.unknown = Some(Unknown::of(judge.rows.iter().map(knows).zip(judge.unknown.iter().copied())));
                }
                if let (true, Some(dense)) = (is_satisfaction, &model.tabular) {
                    tabular::add(&mut report, &task, &judge.rows, dense, recording)?;
                }
                tasks.insert(judge.task.clone(), report);
            }
        }
        Ok(tasks)
    }
}
