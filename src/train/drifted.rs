//! `rapport train --if-drift`: whether interactions since a bundle was trained differ so much from those that it was fitted on that it is time to
//! train again.
//!
//! Knows bundles, files and the index; trains nothing.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::record::{Sample, read_chosen, record_sample};
use crate::alert::Policies;
use crate::cli::usage;
use crate::engine::{Engine, EngineConfig, States};
use crate::interaction::{Interaction, Timestamp};
use crate::model::drift::Drift;
use crate::model::{Model, Reference};

/// Fewer new interactions than this say nothing: chance alone gives ten bins of `n` values an index of about 9 / n.
const FEWEST: u64 = 500;

/// What comparing showed.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Too few interactions came after the bundle's training range.
    TooFew(u64),
    /// Nothing is beyond the limit; the farthest.
    Steady { n: u64, farthest: Option<Drift> },
    /// What is beyond the limit, farthest first.
    Drifted(Vec<Drift>),
}

/// Compares the interactions after the bundle's training range with its reference. Those before are their customers' history. Second: the share
/// of the customers, where `sample` left some out.
///
/// # Errors
/// Files that cannot be read; a bundle without reference.
pub fn drifted(model: Arc<Model>, interactions: &[PathBuf], sample: Sample, limit: f64) -> anyhow::Result<(Verdict, Option<f64>)> {
    if model.reference.is_none() {
        return Err(usage(format!("--if-drift {}: the bundle has no {}, train it anew", model.dir().display(), Reference::FILE)));
    }
    let end = Timestamp::parse(&model.manifest.training.to).map_err(|e| anyhow::anyhow!("training range of the bundle: {e}"))?;
    let recording = record_sample(interactions, &[], sample)?;
    let n = recording.customers.iter().flat_map(|c| &c.items).filter(|item| item.occurred_at > end).count() as u64;
    let sampled = recording.sampled;
    if n < FEWEST {
        return Ok((Verdict::TooFew(n), sampled));
    }
    let customers: HashSet<Box<str>> = recording.customers.into_iter().map(|c| c.id).collect();
    // Nobody reads alerts here.
    let mut engine = Engine::new(model, Arc::new(Policies { all: Vec::new() }), EngineConfig::default())?;
    engine.watch_after(end);
    let mut states = States::new();
    let chosen = |i: &Interaction| sample.until.is_none_or(|until| i.occurred_at < until) && customers.contains(&i.customer_id);
    read_chosen(interactions, chosen, |batch| {
        engine.apply(batch, &mut states, Timestamp(0))?;
        Ok(())
    })?;
    let mut drift = engine.take_counts().map_or(Vec::new(), |watch| watch.drift());
    drift.sort_by(|a, b| b.psi.total_cmp(&a.psi));
    let beyond: Vec<Drift> = drift.iter().filter(|d| d.psi > limit).cloned().collect();
    let steady = || Verdict::Steady { n, farthest: drift.first().cloned() };
    Ok((if beyond.is_empty() { steady() } else { Verdict::Drifted(beyond) }, sampled))
}

impl Verdict {
    /// In words.
    pub fn sentence(&self, limit: f64) -> String {
        match self {
            Self::TooFew(n) => format!("{n} interactions are newer than the bundle's training range, {FEWEST} are needed to tell a drift"),
            Self::Steady { n, farthest } => {
                let farthest = farthest.as_ref().map_or(String::new(), |d| format!(": the farthest is {} with {:.3}", d.name, d.psi));
                format!("no input or output of {n} new interactions has a population stability index above {limit}{farthest}")
            }
            Self::Drifted(beyond) => {
                let named: Vec<String> = beyond
                    .iter()
                    .take(8)
                    .map(|d| format!("{} {} {:.3}", if d.is_input { "input" } else { "output" }, d.name, d.psi))
                    .collect();
                let more = beyond.len().saturating_sub(named.len());
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("population stability index above {limit}: {}{more}", named.join(", "))
            }
        }
    }
}
