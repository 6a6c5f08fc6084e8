//! `rapport train --if-drift`: whether interactions since a bundle was trained differ so much from those that it was fitted on that it is time to
//! train again.
//!
//! Knows bundles, files and the index; trains nothing.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::prepare;
use super::record::{read_batches, record};
use crate::alert::Policies;
use crate::cli::usage;
use crate::engine::{Engine, EngineConfig, Outcome, States, watch_score};
use crate::interaction::Timestamp;
use crate::model::drift::Drift;
use crate::model::{Model, Reference, Watch};

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

/// Compares the interactions after the bundle's training range with its reference. Those before are their customers' history.
///
/// # Errors
/// Files that cannot be read; a bundle without reference.
pub fn drifted(model: Arc<Model>, policies: Arc<Policies>, interactions: &[PathBuf], limit: f64) -> anyhow::Result<Verdict> {
    let path = model.dir().join(Reference::FILE);
    if !model.manifest.files.contains_key(Reference::FILE) {
        return Err(usage(format!("--if-drift {}: the bundle has no {}, train it anew", model.dir().display(), Reference::FILE)));
    }
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let reference = Reference::read(&bytes).map_err(|what| anyhow::anyhow!("{}: {what}", path.display()))?;
    let end = Timestamp::parse(&model.manifest.training.to).map_err(|e| anyhow::anyhow!("training range of the bundle: {e}"))?;
    let mut watch = Watch::new(Arc::new(reference));

    let recording = record(interactions, &[])?;
    let mut features = vec![0.0; model.layout.width()];
    let mut new: HashSet<&str> = HashSet::new();
    for customer in &recording.customers {
        for (item, row) in customer.items.iter().zip(prepare::numeric(&customer.items)) {
            if item.occurred_at > end {
                model.layout.scale(&row, item, &mut features);
                watch.input(&features);
                new.insert(&item.id);
            }
        }
    }
    let n = watch.interactions();
    if n < FEWEST {
        return Ok(Verdict::TooFew(n));
    }
    let mut engine = Engine::new(model, policies, EngineConfig::default())?;
    let mut states = States::new();
    read_batches(interactions, None, |batch| {
        for outcome in engine.apply(batch, &mut states, Timestamp(0))?.outcomes {
            if let Outcome::Scored(score) = outcome
                && score.interaction_id.as_deref().is_some_and(|id| new.contains(id))
            {
                watch_score(&mut watch, &score);
            }
        }
        Ok(())
    })?;
    let mut drift = watch.drift();
    drift.sort_by(|a, b| b.psi.total_cmp(&a.psi));
    let beyond: Vec<Drift> = drift.iter().filter(|d| d.psi > limit).cloned().collect();
    Ok(if beyond.is_empty() { Verdict::Steady { n, farthest: drift.into_iter().next() } } else { Verdict::Drifted(beyond) })
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
