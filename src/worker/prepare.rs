//! From a batch of records to everything that one commit publishes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::WorkerOptions;
use super::cache::Cache;
use super::observed::Observed;
use super::shadow::{Hidden, Shadow, disagreement};
use crate::customer::CustomerState;
use crate::engine::{Effects, Engine, Outcome, Phase, Score, States};
use crate::interaction::{DecodeOptions, Interaction, Reject, Timestamp, decode};
use crate::log::{Commit, Log, LogError, OFFSET_HEADER, Output, Partition, Record, StateChange};
use crate::metrics::{self, Stage};

/// A batch after the engine: all of its effects, and the states as they are once these are committed.
pub(super) struct Prepared {
    /// How many of the records these are the effects of: all, unless more customers than allowed need another model's hidden vector.
    pub taken: usize,
    pub commit: Commit,
    pub states: Vec<(Partition, Box<str>, CustomerState)>,
    pub hidden: Vec<Hidden>,
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
    shadow: &mut Option<Shadow>,
    cache: &mut Cache<CustomerState>,
    options: &WorkerOptions,
) -> Result<Prepared, LogError> {
    let started = Instant::now();
    let mut observed = Observed::default();
    let mut outputs = Outputs { records, topic: &options.topic, scores: vec![], shadow: vec![], alerts: vec![], dead_letters: vec![] };
    let mut accepted = Vec::new();
    let mut loaded: Loaded = HashMap::new();
    let mut taken = records.len();
    for (i, record) in records.iter().enumerate() {
        let surroundings = DecodeOptions { key: Some(record.key.as_deref()), logged_at: record.logged_at };
        match decode(&record.value, surroundings) {
            Ok(decoded) => {
                let customer = &decoded.interaction.customer_id;
                let of_partition = loaded.entry(record.partition).or_default();
                if !of_partition.contains_key(customer) {
                    let state = load(log, cache, record.partition, customer)?;
                    let mut rebuilds = 0;
                    if let Some(state) = &state {
                        let of_shadow = shadow.as_ref().is_some_and(|s| s.must_rebuild(record.partition, customer, state));
                        rebuilds = usize::from(engine.must_rebuild(state)) + usize::from(of_shadow);
                    }
                    // At least one customer goes through, whatever the limit.
                    if rebuilds > 0 && observed.rebuilt > 0 && observed.rebuilt + rebuilds > options.rebuilds {
                        if let Some(state) = state {
                            cache.put(record.partition, customer.clone(), state);
                        }
                        taken = i;
                        break;
                    }
                    observed.rebuilt += rebuilds;
                    of_partition.insert(customer.clone(), state);
                }
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
    let (mut new_states, mut hidden) = (Vec::new(), Vec::new());
    for pass in passes(records, accepted) {
        let mut states = States::with_capacity(pass.owners.len());
        for (customer, partition) in &pass.owners {
            if let Some(state) = loaded.get_mut(partition).and_then(|of| of.remove(customer)).flatten() {
                states.insert(customer.clone(), state);
            }
        }
        let copies = shadow.as_mut().map(|s| s.copies(&states, |customer| pass.owners[customer]));
        let effects = timed(engine, &pass.batch, &mut states, now)?;
        let challenges = challenge(shadow, copies, &pass, now, &mut hidden);
        for (((i, interaction), outcome), theirs) in pass.places.iter().zip(&pass.batch).zip(effects.outcomes).zip(challenges) {
            observed.outcome(interaction, &outcome);
            match outcome {
                Outcome::Scored(score) => {
                    let mut output = outputs.json(*i, &score.customer_id, &score)?;
                    output.headers = vec![(OFFSET_HEADER, records[*i].offset.to_string())];
                    outputs.scores.push((*i, output));
                    if let Some(theirs) = theirs {
                        observed.challenged(disagreement(&score, &theirs));
                        outputs.shadow.push((*i, outputs.json(*i, &theirs.customer_id, &theirs)?));
                    }
                }
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
    for record in &records[..taken] {
        commit.offsets.insert(record.partition, record.offset + 1);
    }
    commit.scores = in_order(outputs.scores);
    commit.shadow = in_order(outputs.shadow);
    commit.alerts = in_order(outputs.alerts);
    commit.dead_letters = in_order(outputs.dead_letters);
    Ok(Prepared { taken, commit, states: new_states, hidden, observed })
}

/// States by partition and customer, `None` for a customer who has none yet.
type Loaded = HashMap<Partition, HashMap<Box<str>, Option<CustomerState>>>;

/// What the challenger says of a pass, one for each interaction. One that fails is dropped: it must not hold up the champion.
fn challenge(
    shadow: &mut Option<Shadow>,
    copies: Option<States>,
    pass: &Pass,
    now: Timestamp,
    hidden: &mut Vec<Hidden>,
) -> Vec<Option<Score>> {
    let nothing = || vec![None; pass.batch.len()];
    let (Some(challenger), Some(mut copies)) = (shadow.as_mut(), copies) else { return nothing() };
    match challenger.scores(&pass.batch, &mut copies, now) {
        Ok(scores) => {
            let states = copies.into_iter().filter_map(|(customer, state)| Some((pass.owners[&customer], customer, state.model?)));
            hidden.extend(states);
            scores
        }
        Err(e) => {
            tracing::error!(model = %challenger.model().version, "the challenger in shadow is dropped: {e}");
            *shadow = None;
            nothing()
        }
    }
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

fn load<L: Log>(
    log: &mut L,
    cache: &mut Cache<CustomerState>,
    partition: Partition,
    customer: &str,
) -> Result<Option<CustomerState>, LogError> {
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
    shadow: Vec<(usize, Output)>,
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
            (OFFSET_HEADER, record.offset.to_string()),
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
