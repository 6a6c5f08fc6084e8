//! One worker: poll a batch, decode, load states, apply the engine, commit all effects at once. One OS thread, nothing shared but the model.
//!
//! Knows a log by its trait alone, and neither HTTP nor configuration files.

mod backoff;
mod cache;
mod drift;
mod models;
mod observed;
mod prepare;
mod shadow;

pub(crate) use backoff::Backoff;
pub use backoff::Stop;
pub use models::{Models, Serving};
pub use shadow::Disagreement;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::customer::CustomerState;
use crate::engine::Engine;
use crate::interaction::Timestamp;
use crate::log::{Log, LogError, Partition, Polled, Readiness, Record};
use crate::metrics::{self, CommitOutcome, Stage};
use cache::Cache;
use prepare::Prepared;
use shadow::Shadow;

/// Decoded states kept per worker; a few KiB each.
const CACHED_CUSTOMERS: usize = 16_384;

/// How long one poll waits: bounds how late a stop is seen.
const POLL: Duration = Duration::from_millis(200);

/// What a worker is told at its start.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Its number in this process, for metrics.
    pub index: usize,
    /// Most records of one commit.
    pub batch: usize,
    /// Name of the input, for the provenance of dead letters.
    pub topic: String,
    /// Most customers of one commit whose window is run again for a new model; a batch that needs more is committed in parts.
    pub rebuilds: usize,
    /// Gives `scored_at` and times for metrics; no score or alert depends on it.
    pub clock: fn() -> Timestamp,
}

/// [`WorkerOptions::rebuilds`] where nobody says otherwise.
pub const REBUILDS_PER_COMMIT: usize = 32;

impl WorkerOptions {
    /// Worker `index` by the wall clock, on the input of `prefix`.
    pub fn new(index: usize, batch: usize, prefix: &str) -> Self {
        Self { index, batch, topic: format!("{prefix}.interactions"), rebuilds: REBUILDS_PER_COMMIT, clock: Timestamp::now }
    }
}

/// Where a running worker stands; told to whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerState {
    /// Waits for its partitions.
    Waiting,
    /// Reads back the states of its partitions.
    Restoring,
    /// Owns this many partitions and works.
    Working(usize),
    /// The log does not answer, for this reason; it keeps trying.
    Failing(String),
    /// It has ended; the reason where that was not asked for.
    Ended(Option<String>),
}

/// What one [`Worker::turn`] came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    Idle,
    /// The partitions that this worker owns from now on.
    Assigned(Vec<Partition>),
    /// Number of input records that were committed.
    Committed(usize),
}

/// Where a batch stands. It outlives a retriable failure, so that what was polled is neither lost nor applied twice.
#[allow(clippy::large_enum_variant)] // There is one per worker.
enum Work {
    None,
    Polled(Vec<Record>),
    /// Of these records, the first [`Prepared::taken`].
    Prepared(Vec<Record>, Prepared),
}

pub struct Worker<L: Log> {
    log: L,
    engine: Engine,
    shadow: Option<Shadow>,
    /// What is to serve, where that can change.
    models: Option<Models>,
    options: WorkerOptions,
    cache: Cache<CustomerState>,
    work: Work,
    /// None until the first assignment.
    owned: Option<Vec<Partition>>,
    /// Partitions whose lag was told last.
    lagging: Vec<Partition>,
}

impl<L: Log> Worker<L> {
    pub fn new(log: L, engine: Engine, options: WorkerOptions) -> Self {
        let cache = Cache::new(CACHED_CUSTOMERS);
        Self { log, engine, shadow: None, models: None, options, cache, work: Work::None, owned: None, lagging: Vec::new() }
    }

    /// Serves what `models` says from each next batch on, and tells it what it sees.
    pub fn following(mut self, models: Models) -> Self {
        self.engine.watch();
        self.models = Some(models);
        self
    }

    /// Works until a stop is requested, finishing the batch at hand, or the log fails for good; closes the log in both cases.
    ///
    /// # Errors
    /// The fatal error. Everything committed before stays committed.
    pub fn run(mut self, stop: &Stop, mut changed: impl FnMut(WorkerState)) -> Result<(), LogError> {
        let result = self.work_until(stop, &mut changed);
        // A failure to leave changes nothing that is committed, so it must not hide why the worker ended.
        if let Err(e) = self.log.close() {
            tracing::warn!(worker = self.options.index, "closing the log: {e}");
        }
        changed(WorkerState::Ended(result.as_ref().err().map(ToString::to_string)));
        result
    }

    fn work_until(&mut self, stop: &Stop, changed: &mut impl FnMut(WorkerState)) -> Result<(), LogError> {
        let mut backoff = Backoff::default();
        let mut told = None;
        let mut tell = |state: WorkerState| {
            if told.as_ref() != Some(&state) {
                changed(state.clone());
                told = Some(state);
            }
        };
        let mut lag_told: Option<Instant> = None;
        while !stop.requested() {
            match self.turn() {
                Ok(_) => {
                    backoff.reset();
                    tell(self.state());
                }
                Err(LogError::Fatal(message)) => return Err(LogError::Fatal(message)),
                Err(LogError::Retriable(message)) => {
                    tracing::warn!(worker = self.options.index, "trying again: {message}");
                    tell(WorkerState::Failing(message));
                    backoff.pause(stop);
                }
                Err(LogError::Abortable(message)) => {
                    tracing::warn!(worker = self.options.index, "reading again from the last commit: {message}");
                    tell(WorkerState::Failing(message));
                    backoff.pause(stop);
                }
            }
            if lag_told.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
                lag_told = Some(Instant::now());
                self.observe_log();
                if let (Some(models), Some(counted)) = (&self.models, self.engine.take_counts()) {
                    models.counted(&self.engine.model().version, &counted);
                }
            }
        }
        Ok(())
    }

    /// Where it stands after a turn that did not fail.
    fn state(&self) -> WorkerState {
        match (self.log.readiness(), &self.owned) {
            (Readiness::Ready, Some(owned)) => WorkerState::Working(owned.len()),
            (Readiness::Restoring, _) => WorkerState::Restoring,
            (Readiness::Waiting, _) | (Readiness::Ready, None) => WorkerState::Waiting,
        }
    }

    fn observe_log(&mut self) {
        self.tell_lag();
        let events = self.log.events();
        metrics::states_restored(events.restored_states);
        if events.restores > 0 {
            metrics::restored(Duration::from_secs_f64(events.restore_seconds.max(0.0)));
        }
        if events.lost_records > 0 {
            metrics::lost(events.lost_records);
            tracing::error!("{} interactions were deleted by retention before they were read; keep them longer", events.lost_records);
        }
    }

    /// One poll and one commit, or what is left of the last turn after a retriable failure.
    ///
    /// # Errors
    /// Retriable: call again after a pause. Abortable: the batch is forgotten, and polled again. Fatal: give up.
    pub fn turn(&mut self) -> Result<Turn, LogError> {
        let result = self.try_turn();
        if matches!(result, Err(LogError::Abortable(_))) {
            self.forget();
        }
        result
    }

    fn try_turn(&mut self) -> Result<Turn, LogError> {
        loop {
            self.work = match std::mem::replace(&mut self.work, Work::None) {
                Work::None => match self.log.poll(self.options.batch, POLL)? {
                    Polled::Idle => return Ok(Turn::Idle),
                    Polled::Assigned(partitions) => return Ok(self.assigned(partitions)),
                    Polled::Erased => {
                        tracing::info!(worker = self.options.index, "erased the state of a customer");
                        self.forget();
                        return Ok(Turn::Idle);
                    }
                    Polled::Records(records) => Work::Polled(records),
                },
                Work::Polled(records) => {
                    self.follow();
                    let Self { log, engine, shadow, cache, options, .. } = self;
                    match prepare::prepare(&records, log, engine, shadow, cache, options) {
                        Ok(prepared) => Work::Prepared(records, prepared),
                        Err(e) => {
                            // States that were on loan from the cache are gone with the failed attempt; the log still has them.
                            self.work = Work::Polled(records);
                            return Err(e);
                        }
                    }
                }
                Work::Prepared(mut records, prepared) => {
                    let started = Instant::now();
                    let result = self.log.commit(&prepared.commit);
                    metrics::commit(match &result {
                        Ok(()) => CommitOutcome::Committed,
                        Err(LogError::Retriable(_)) => CommitOutcome::Retried,
                        Err(LogError::Abortable(_)) => CommitOutcome::Aborted,
                        Err(LogError::Fatal(_)) => CommitOutcome::Fatal,
                    });
                    if let Err(e) = result {
                        self.work = Work::Prepared(records, prepared);
                        return Err(e);
                    }
                    metrics::stage(Stage::Commit, started.elapsed());
                    let taken = prepared.taken;
                    prepared.observed.report(&records[..taken], &prepared.commit, (self.options.clock)());
                    for (partition, customer, state) in prepared.states {
                        self.cache.put(partition, customer, state);
                    }
                    if let Some(shadow) = &mut self.shadow {
                        shadow.keep(prepared.hidden);
                    }
                    if taken < records.len() {
                        records.drain(..taken);
                        self.work = Work::Polled(records);
                    }
                    return Ok(Turn::Committed(taken));
                }
            }
        }
    }

    /// Takes up what is to serve, between two commits. Everything slow was done by whoever loaded it.
    fn follow(&mut self) {
        let Some(models) = &self.models else { return };
        let serving = models.now();
        let worker = self.options.index;
        if !Arc::ptr_eq(self.engine.model(), &serving.champion) {
            match self.engine.with_model(serving.champion.clone()) {
                Ok(engine) => {
                    tracing::info!(worker, model = %serving.champion.version, "another model serves from here on");
                    self.engine = engine;
                }
                // Does not happen with a bundle that was loaded and checked.
                Err(e) => tracing::error!(worker, model = %serving.champion.version, "the old model goes on serving: {e}"),
            }
        }
        match (&serving.shadow, &self.shadow) {
            (None, None) => {}
            (Some(model), Some(shadow)) if Arc::ptr_eq(model, shadow.model()) => {}
            (None, Some(_)) => self.shadow = None,
            (Some(model), _) => match Shadow::new(model.clone(), &self.engine, CACHED_CUSTOMERS) {
                Ok(shadow) => self.shadow = Some(shadow),
                Err(e) => tracing::error!(worker, model = %model.version, "cannot score in shadow: {e}"),
            },
        }
    }

    /// Which state belongs to which partition may have changed while others owned it.
    fn assigned(&mut self, partitions: Vec<Partition>) -> Turn {
        self.forget();
        self.tell_lag();
        metrics::rebalanced(self.options.index, partitions.len());
        self.owned = Some(partitions.clone());
        Turn::Assigned(partitions)
    }

    /// A partition that is gone is another's to tell.
    fn tell_lag(&mut self) {
        let lag = self.log.lag();
        for gone in self.lagging.iter().filter(|gone| lag.iter().all(|(partition, _)| partition != *gone)) {
            metrics::forget_lag(*gone);
        }
        lag.iter().for_each(|(partition, records)| metrics::lag(*partition, *records));
        self.lagging = lag.into_iter().map(|(partition, _)| partition).collect();
    }

    fn forget(&mut self) {
        self.cache.clear();
        if let Some(shadow) = &mut self.shadow {
            shadow.forget();
        }
        self.work = Work::None;
    }
}
