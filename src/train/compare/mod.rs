//! Champion against challenger on the same labelled interactions: both score them with the engine of `serve`, from empty state, and the differences
//! are resampled by customer.
//!
//! Knows scores and labels; no registry.

mod resample;
mod rows;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::future::end_of_data;
use super::future::timeline::Timeline;
use super::record::{Recording, Sample, read_chosen, record_sample};
use crate::alert::Policies;
use crate::engine::{Engine, EngineConfig, Outcome, States};
use crate::interaction::{SATISFACTION, Timestamp};
use crate::model::{Manifest, Model};
pub use resample::Judged;
use resample::judge;
use rows::Rows;

/// What two models are compared by.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    pub interactions: &'a [PathBuf],
    pub labels: &'a [PathBuf],
    /// What lies before is history: it is scored and not judged.
    pub since: Option<Timestamp>,
    /// How much worse a head may be, in parts of 1.
    pub margin: f64,
    /// Most interactions to read, as whole customers; 0: all. Memory grows with what is read.
    pub max_interactions: usize,
}

/// What a comparison says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub margin: f64,
    /// Event times of the first and last interaction that was judged by, and their number.
    pub from: String,
    pub to: String,
    pub interactions: usize,
    /// Share of the customers, where some were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled: Option<f64>,
    /// How far ahead both looked, where both look ahead and the data reaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub horizon_days: Option<u32>,
    pub judged: Vec<Judged>,
    /// Heads of both that could not be judged.
    pub not_judged: Vec<NotJudged>,
}

/// A head of both models of which the data does not tell who is right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NotJudged {
    pub head: String,
    pub why: String,
}

/// Everything that a bundle says of a customer, by the names that scores have.
pub fn heads(manifest: &Manifest) -> Vec<String> {
    let mut heads: Vec<String> = manifest.satisfaction.iter().map(|_| SATISFACTION.to_owned()).collect();
    heads.extend(manifest.classes.keys().cloned());
    if let Some(future) = &manifest.future {
        let there = [("churn", future.churn.is_some()), ("spend", future.spend.is_some()), ("next_need", future.next_need.is_some())];
        heads.extend(there.into_iter().filter(|(_, there)| *there).map(|(name, _)| name.to_owned()));
    }
    heads.extend(manifest.behaviour.iter().flat_map(|_| ["segment", "anomaly"]).map(String::from));
    heads
}

/// Scores what is given with both models and compares them.
///
/// # Errors
/// Files that cannot be read, labels that are none, no valid interaction to judge; a model that fails.
pub fn compare(
    models: [&Arc<Model>; 2],
    config: EngineConfig,
    given: &Given<'_>,
    mut progress: impl FnMut(usize, usize),
) -> anyhow::Result<Comparison> {
    // The same customers whatever is compared.
    let sample = Sample { interactions: given.max_interactions, seed: 1, until: None };
    let recording = record_sample(given.interactions, given.labels, sample)?;
    let judged = |at: Timestamp| given.since.is_none_or(|since| at >= since);
    let times = || recording.customers.iter().flat_map(|c| &c.items).map(|i| i.occurred_at).filter(|at| judged(*at));
    let (Some(from), Some(to)) = (times().min(), times().max()) else {
        let since = given.since.map_or(String::new(), |t| format!(" from {t} on"));
        return Err(crate::cli::usage(format!("--interactions: there is no valid interaction{since}")));
    };
    let ahead = Ahead::new(models, from, &recording);
    let total = recording.counts.interactions;
    let timelines: Vec<Timeline<'_>> = recording.customers.iter().map(Timeline::new).collect();
    let numbers: HashMap<&str, usize> = recording.customers.iter().enumerate().map(|(c, customer)| (&*customer.id, c)).collect();
    let places: HashMap<&str, (usize, usize)> = recording
        .customers
        .iter()
        .enumerate()
        .flat_map(|(c, customer)| customer.items.iter().enumerate().map(move |(i, item)| (&*item.id, (c, i))))
        .collect();

    let silent = Arc::new(Policies { all: Vec::new() });
    let engine = |model: &Arc<Model>| Ok::<_, anyhow::Error>(Engine::new(model.clone(), silent.clone(), config)?.with_horizon(ahead.days));
    let mut engines = [engine(models[0])?, engine(models[1])?];
    let mut states = [States::new(), States::new()];
    let mut rows = Rows::default();
    let mut done = 0;
    let chosen = |id: &str| numbers.contains_key(id);
    read_chosen(
        given.interactions,
        |interaction| chosen(&interaction.customer_id),
        |batch| {
            let mut scored = Vec::new();
            for (engine, states) in engines.iter_mut().zip(&mut states) {
                scored.push(engine.apply(batch, states, Timestamp(0))?.outcomes);
            }
            let theirs = scored.pop().unwrap_or_default();
            for pair in scored.pop().unwrap_or_default().into_iter().zip(theirs) {
                let (Outcome::Scored(a), Outcome::Scored(b)) = pair else { continue };
                let Some(&(c, i)) = a.interaction_id.as_deref().and_then(|id| places.get(id)) else { continue };
                if !judged(a.occurred_at) {
                    continue;
                }
                rows.labelled(c, &recording.customers[c].labels[i], [&a, &b]);
                if let Some(until) = ahead.until(a.occurred_at) {
                    rows.future(c, &timelines[c], a.occurred_at, until, [&a, &b]);
                }
            }
            done += batch.len();
            progress(done, total);
            Ok(())
        },
    )?;

    let measures = rows.finish();
    let judged: Vec<Judged> =
        measures.iter().map(|((head, measure), rows)| judge(head, measure, rows, given.margin, measures.len())).collect();
    let [ours, theirs] = models.map(|m| heads(&m.manifest));
    let both = ours.into_iter().filter(|h| theirs.contains(h) && judged.iter().all(|j| j.head != *h));
    Ok(Comparison {
        margin: given.margin,
        from: from.to_string(),
        to: to.to_string(),
        interactions: times().count(),
        sampled: recording.sampled,
        horizon_days: ahead.days,
        not_judged: both.map(|head| NotJudged { why: ahead.why_not(&head), head }).collect(),
        judged,
    })
}

/// How far ahead both models look.
struct Ahead {
    days: Option<u32>,
    /// Of what there is to judge by, in days.
    span: f64,
    end: Timestamp,
}

impl Ahead {
    /// As far as the champion, whatever the challenger was trained for: churn and spend have an answer for any horizon. At most about half of
    /// the time that there is to judge by, so that the interactions of its first half have a known outcome.
    fn new([champion, challenger]: [&Arc<Model>; 2], from: Timestamp, recording: &Recording) -> Self {
        let end = end_of_data(recording).unwrap_or(from);
        let span = end.days_since(from);
        let champions = champion.manifest.future.as_ref().filter(|_| challenger.manifest.future.is_some()).map(|head| head.horizon_days);
        let days = champions.map(|days| days.min((span / 2.0).round() as u32)).filter(|days| *days > 0);
        Self { days, span, end }
    }

    /// Where the horizon of a score at `at` ends; `None` where the data ends before.
    fn until(&self, at: Timestamp) -> Option<Timestamp> {
        let until = Timestamp(at.0 + i64::from(self.days?) * Timestamp::MICROS_PER_DAY);
        (until <= self.end).then_some(until)
    }

    fn why_not(&self, head: &str) -> String {
        match (head, self.days) {
            ("segment" | "anomaly", _) => "no label says what is right".into(),
            ("churn" | "spend" | "next_need", None) => format!("the interactions to judge by span {:.1} days, one is needed", self.span),
            ("spend", Some(days)) => format!("nobody purchased within {days} days"),
            ("next_need", Some(days)) => format!("no category came within {days} days"),
            _ => "there is no label".into(),
        }
    }
}
