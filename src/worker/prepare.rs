//! From a batch of records to everything that one commit publishes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::WorkerOptions;
use super::cache::StateCache;
use super::observed::Observed;
use crate::customer::CustomerState;
use crate::engine::{Effects, Engine, Outcome, Phase, States};
use crate::interaction::{DecodeOptions, Interaction, Reject, Timestamp, decode};
use crate::log::{Commit, Log, LogError, Output, Partition, Record, StateChange};
use crate::metrics::{self, Stage};

/// A batch after the engine: all of its effects, and the states as they are once these are committed.
pub(super) struct Prepared {
    pub commit: Commit,
    pub states: Vec<(Partition, Box<str>, CustomerState)>,
    pub observed: Observed,
}

/// Decodes, loads states, applies the engine. Reads the log and writes nothing; the cache lends its states, which come back in the result.
///
/// # Errors
/// What loading a state gives; Fatal for a stored state that cannot be read or a model that fails. The cache is to be cleared then.
pub(super) fn prepare<L: Log>(
    records: &[Record],
    log: &mut L,
    engine: &mut Engine,
    cache: &mut StateCache,
    options: &WorkerOptions,
) -> Result<Prepared, LogError> {
    let started = Instant::now();
    let mut observed = Observed::default();
    let mut outputs = Outputs { records, topic: &options.topic, scores: Vec::new(), alerts: Vec::new(), dead_letters: Vec::new() };
    let mut accepted = Vec::new();
    for (i, record) in records.iter().enumerate() {
        let surroundings = DecodeOptions { key: Some(record.key.as_deref()), logged_at: record.logged_at };
        match decode(&record.value, surroundings) {
            Ok(decoded) => {
                observed.tolerated(&decoded);
                accepted.push((i, decoded.interaction));
            }
            Err(reject) => {
                observed.rejected(None, &reject);
                outputs.dead_letter(i, &reject);
            }
        }
    }
    metrics::stage(Stage::Decode, started.elapsed());

    let now = (options.clock)();
    let mut commit = Commit::default();
    let mut new_states = Vec::new();
    for pass in passes(records, accepted) {
        let mut states = States::with_capacity(pass.owners.len());
        for (customer, partition) in &pass.owners {
            if let Some(state) = load(log, cache, *partition, customer)? {
                states.insert(customer.clone(), state);
            }
        }
        let effects = timed(engine, &pass.batch, &mut states, now)?;
        for ((i, interaction), outcome) in pass.places.iter().zip(&pass.batch).zip(effects.outcomes) {
            observed.outcome(interaction, &outcome);
            match outcome {
                Outcome::Scored(score) => outputs.scores.push((*i, outputs.json(*i, &score.customer_id, &score)?)),
                Outcome::Rejected(reject) => outputs.dead_letter(*i, &reject),
                Outcome::Duplicate => {}
            }
        }
        for (at, alert) in effects.alerts {
            observed.alert(&alert);
            let i = pass.places[at];
            outputs.alerts.push((i, outputs.json(i, &alert.customer_id, &alert)?));
        }
        for customer in effects.changed {
            let Some(state) = states.get(&customer) else { continue };
            let partition = pass.owners[&customer];
            let mut bytes = Vec::new();
            state.encode(&mut bytes);
            commit.states.push(StateChange { partition, customer_id: customer, state: Some(bytes) });
        }
        new_states.extend(states.into_iter().map(|(customer, state)| (pass.owners[&customer], customer, state)));
    }
    for record in records {
        commit.offsets.insert(record.partition, record.offset + 1);
    }
    commit.scores = in_order(outputs.scores);
    commit.alerts = in_order(outputs.alerts);
    commit.dead_letters = in_order(outputs.dead_letters);
    Ok(Prepared { commit, states: new_states, observed })
}

/// Interactions that one call of the engine may take.
#[derive(Default)]
struct Pass {
    /// Which record each interaction of `batch` is.
    places: Vec<usize>,
    batch: Vec<Interaction>,
    /// The partition of each customer.
    owners: HashMap<Box<str>, Partition>,
}

/// Nearly always one pass. Where producers with different partitioners wrote one customer to two partitions, each partition keeps a state
/// of its own (it must be able to move to another worker alone), so these do not go into one call.
fn passes(records: &[Record], mut left: Vec<(usize, Interaction)>) -> Vec<Pass> {
    let mut passes = Vec::new();
    while !left.is_empty() {
        let mut pass = Pass::default();
        let mut rest = Vec::new();
        for (i, interaction) in left {
            let partition = records[i].partition;
            if *pass.owners.entry(interaction.customer_id.clone()).or_insert(partition) == partition {
                pass.places.push(i);
                pass.batch.push(interaction);
            } else {
                rest.push((i, interaction));
            }
        }
        passes.push(pass);
        left = rest;
    }
    passes
}

fn timed(engine: &mut Engine, batch: &[Interaction], states: &mut States, now: Timestamp) -> Result<Effects, LogError> {
    let started = Instant::now();
    let mut encoded = Duration::ZERO;
    let effects = engine
        .apply_observed(batch, states, now, |phase| match phase {
            Phase::Encoded => encoded = started.elapsed(),
            Phase::Stepped => {}
        })
        .map_err(|e| LogError::Fatal(format!("{e}; check the bundle with `rapport check` and start again")))?;
    metrics::stage(Stage::Encode, encoded);
    metrics::stage(Stage::Step, started.elapsed() - encoded);
    Ok(effects)
}

fn load<L: Log>(log: &mut L, cache: &mut StateCache, partition: Partition, customer: &str) -> Result<Option<CustomerState>, LogError> {
    if let Some(state) = cache.take(partition, customer) {
        return Ok(Some(state));
    }
    let Some(bytes) = log.load(partition, customer)? else { return Ok(None) };
    CustomerState::decode(&bytes).map(Some).map_err(|e| LogError::Fatal(format!("customer {customer:?}, partition {partition}: {e}")))
}

/// Outputs with the index of the record that caused each.
struct Outputs<'a> {
    records: &'a [Record],
    topic: &'a str,
    scores: Vec<(usize, Output)>,
    alerts: Vec<(usize, Output)>,
    dead_letters: Vec<(usize, Output)>,
}

impl Outputs<'_> {
    fn json(&self, i: usize, customer: &str, value: &impl serde::Serialize) -> Result<Output, LogError> {
        let value =
            serde_json::to_vec(value).map_err(|e| LogError::Fatal(format!("an output of customer {customer:?} is not JSON: {e}")))?;
        Ok(Output { partition: self.records[i].partition, key: Some(customer.as_bytes().to_vec()), value, headers: Vec::new() })
    }

    /// The record as it came, with where it came from and why it was not accepted.
    fn dead_letter(&mut self, i: usize, reject: &Reject) {
        let record = &self.records[i];
        let headers = vec![
            ("rapport.topic", self.topic.to_string()),
            ("rapport.partition", record.partition.to_string()),
            ("rapport.offset", record.offset.to_string()),
            ("rapport.error.class", reject.class.name().to_string()),
            ("rapport.error.message", reject.message.clone()),
        ];
        let output = Output { partition: record.partition, key: record.key.clone(), value: record.value.clone(), headers };
        self.dead_letters.push((i, output));
    }
}

fn in_order(mut outputs: Vec<(usize, Output)>) -> Vec<Output> {
    // Stable: alerts of one record keep the engine's order.
    outputs.sort_by_key(|(i, _)| *i);
    outputs.into_iter().map(|(_, output)| output).collect()
}
