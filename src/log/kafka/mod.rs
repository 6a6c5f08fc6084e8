//! Apache Kafka as the log: a consumer group for input, one transaction per commit for output, a compacted topic for states.
//!
//! A [`KafkaLog`] belongs to one worker thread. A rebalance happens inside `poll` alone: revoked partitions are forgotten at once, assigned ones
//! are settled, restored and only then announced. Knows nothing of scores, models or the meaning of a state.

mod arrival;
mod gateway;
mod member;
mod membership;
mod models;
mod pairs;
mod reach;
mod recent;
mod restore;
mod settings;
mod states;
mod tail;
mod topics;
mod transaction;
mod trouble;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;

pub use gateway::{Appended, KafkaGateway};
pub use models::{ModelsTopic, announce};
pub use pairs::KafkaPairs;
pub use settings::KafkaSettings;
pub use states::LocalStates;
pub use tail::{Tail, tail};
pub use topics::{Finding, TopicPlan, create_topics, delete_topics, inspect_topics, verify_topics};

use arrival::Arrival;
use member::{join, leave, seek};
use membership::{Change, Membership};
use reach::Reach;
use settings::place;
use transaction::{Outcome, Transactions};

use super::{Commit, Log, LogError, LogEvents, MOST_BYTES, Partition, Polled, Readiness, Record, StateChange};
use crate::interaction::Timestamp;

/// The log of one worker.
pub struct KafkaLog {
    settings: KafkaSettings,
    worker_index: usize,
    topic: String,
    /// None once closed.
    consumer: Option<BaseConsumer<Membership>>,
    transactions: Transactions,
    states: LocalStates,
    /// Announced partitions with the position of their last commit (the beginning, where there is none).
    committed: BTreeMap<Partition, Offset>,
    /// Next offset to read, of partitions that have been read since their last rewind.
    next: BTreeMap<Partition, i64>,
    /// Partitions whose end has been reached since their last record.
    at_end: BTreeSet<Partition>,
    arrivals: VecDeque<Arrival>,
    /// Records that were read but could not be handed out yet.
    carried: Vec<Record>,
    /// The group has not said yet which partitions are this worker's.
    waiting: bool,
    /// A position was found out of range and is not mended yet.
    range_in_doubt: bool,
    reach: Reach,
    /// When the group was joined anew after it had refused this member's name.
    rejoined: Vec<Instant>,
    /// Everything owned went away without a revocation.
    forgotten: bool,
    events: LogEvents,
}

impl KafkaLog {
    /// Connects, fences older workers of the same slot, ends their transactions and joins the group; partitions come with the first polls.
    ///
    /// `worker_index` numbers the workers of this process from 0. Fails within about half a minute where no broker answers.
    pub fn open(settings: &KafkaSettings, worker_index: usize) -> Result<KafkaLog, LogError> {
        settings.validate().map_err(LogError::Fatal)?;
        let counts = topics::counts(settings)?;
        let transactions = Transactions::open(settings, worker_index, counts)?;
        let consumer = join(settings, worker_index)?;
        Ok(KafkaLog {
            settings: settings.clone(),
            worker_index,
            topic: settings.interactions(),
            consumer: Some(consumer),
            transactions,
            states: LocalStates::default(),
            committed: BTreeMap::new(),
            next: BTreeMap::new(),
            at_end: BTreeSet::new(),
            arrivals: VecDeque::new(),
            carried: Vec::new(),
            waiting: true,
            range_in_doubt: false,
            reach: Reach::default(),
            rejoined: Vec::new(),
            forgotten: false,
            events: LogEvents::default(),
        })
    }

    /// The states of this worker's partitions, for [`KafkaGateway::watch`].
    pub fn states(&self) -> LocalStates {
        self.states.clone()
    }

    fn consumer(&self) -> Result<&BaseConsumer<Membership>, LogError> {
        self.consumer.as_ref().ok_or_else(|| LogError::Fatal("the log is closed".into()))
    }

    fn owned(&self) -> Polled {
        Polled::Assigned(self.committed.keys().copied().collect())
    }

    /// Takes in what the group has decided. True if an announced partition went away.
    fn take_changes(&mut self) -> Result<bool, LogError> {
        let mut lost = std::mem::take(&mut self.forgotten);
        while let Some(change) = self.consumer()?.context().next() {
            match change {
                Change::Assigned { partitions, incremental } => {
                    tracing::info!("{}: assigned partitions {partitions:?}", self.topic);
                    self.waiting = false;
                    self.arrivals.push_back(Arrival::new(&self.topic, partitions, incremental));
                }
                Change::Revoked { partitions, all } => {
                    tracing::info!("{}: gave up partitions {partitions:?}", self.topic);
                    if all {
                        self.arrivals.clear();
                        self.waiting = true;
                    }
                    for partition in partitions {
                        lost |= self.committed.remove(&partition).is_some();
                        self.next.remove(&partition);
                        self.at_end.remove(&partition);
                        self.states.forget(partition);
                        self.carried.retain(|r| r.partition != partition);
                        self.arrivals.iter_mut().for_each(|a| a.give_up(partition));
                    }
                }
            }
        }
        Ok(lost)
    }

    /// Moves the first arrival on for about a slice. True once its partitions are owned.
    fn advance_arrival(&mut self) -> Result<bool, LogError> {
        let Some(mut arrival) = self.arrivals.pop_front() else { return Ok(false) };
        let arrived = match self.consumer() {
            Ok(consumer) => arrival.step(&self.settings, consumer),
            Err(e) => Err(e),
        };
        self.events.restored_states += arrival.take_read();
        if !matches!(arrived, Ok(true)) {
            self.arrivals.push_front(arrival);
            return arrived;
        }
        let arrived = arrival.finish();
        let partitions: Vec<Partition> = arrived.positions.keys().copied().collect();
        let mut restored = 0;
        for (partition, customers) in arrived.states {
            self.events.restores += 1;
            restored += customers.len();
            self.states.put(partition, customers);
        }
        self.events.restore_seconds += arrived.took.as_secs_f64();
        self.committed.extend(arrived.positions);
        tracing::info!(
            "{}: reading partitions {partitions:?}; {restored} states restored in {:.2} s",
            self.topic,
            arrived.took.as_secs_f64()
        );
        Ok(true)
    }

    /// What is to be done beside reading: partitions that arrive, positions out of range, brokers that are silent. True if partitions were taken
    /// over.
    fn attend(&mut self) -> Result<bool, LogError> {
        if self.advance_arrival()? {
            return Ok(true);
        }
        if self.range_in_doubt && self.arrivals.is_empty() {
            self.mend_range()?;
        }
        if let Some(consumer) = &self.consumer {
            self.reach.check(consumer, &self.settings, &self.topic)?;
        }
        Ok(false)
    }

    /// Up to `max` carried records of announced partitions.
    fn take_carried(&mut self, max: usize) -> Vec<Record> {
        let (mut ready, waiting): (Vec<_>, Vec<_>) = self.carried.drain(..).partition(|r| self.committed.contains_key(&r.partition));
        self.carried = ready.split_off(ready.len().min(max));
        self.carried.extend(waiting);
        ready
    }

    /// Collects until `max` records, [`MOST_BYTES`] or until nothing more is there; a rebalance ends it early. Everything collected is in
    /// `records` also after an error.
    fn collect(&mut self, records: &mut Vec<Record>, max: usize, deadline: Instant) -> Result<(), LogError> {
        let mut bytes = records.iter().map(Record::size).sum::<usize>();
        while records.len() < max && bytes < MOST_BYTES {
            let wait = match records.is_empty() && self.arrivals.is_empty() {
                true => deadline.saturating_duration_since(Instant::now()),
                false => Duration::ZERO,
            };
            let consumer = self.consumer()?;
            match consumer.poll(wait) {
                None => {
                    if consumer.context().changed() || wait.is_zero() {
                        return Ok(());
                    }
                }
                Some(Ok(message)) => {
                    let record = Record {
                        partition: message.partition(),
                        offset: message.offset(),
                        key: message.key().map(<[u8]>::to_vec),
                        value: message.payload().unwrap_or_default().to_vec(),
                        logged_at: message.timestamp().to_millis().map(Timestamp::from_millis),
                    };
                    drop(message);
                    bytes += record.size();
                    self.reach.heard();
                    self.at_end.remove(&record.partition);
                    self.next.insert(record.partition, record.offset + 1);
                    if self.committed.contains_key(&record.partition) {
                        records.push(record);
                    } else {
                        self.carried.push(record);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.reach.heard();
                    self.at_end.insert(partition);
                }
                Some(Err(error)) => {
                    self.consumer_error(&error)?;
                    if self.forgotten {
                        records.clear();
                        return Ok(());
                    }
                    if Instant::now() >= deadline {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Carries out a wish to erase a customer whose states are here, in a transaction of its own; false where there is none.
    fn erase_wished(&mut self) -> Result<bool, LogError> {
        let states = self.states.clone();
        let Some(erasure) = states.erasures.take(|_| true) else { return Ok(false) };
        let places = states.places(&erasure.customer_id);
        let customer_id = || erasure.customer_id.clone();
        let commit = Commit {
            states: places.iter().map(|&partition| StateChange { partition, customer_id: customer_id(), state: None }).collect(),
            // As they are: by them the broker refuses a worker that has lost the partition.
            offsets: places.iter().filter_map(|p| Some((*p, self.committed.get(p)?.to_raw().filter(|offset| *offset >= 0)?))).collect(),
            ..Commit::default()
        };
        if places.is_empty() {
            // Its partition went away after the wish was made. Whoever wished is told to try again, and then asks who has it now.
            return Ok(false);
        }
        if let Err(e) = self.commit(&commit) {
            states.erasures.put_back(erasure);
            return Err(e);
        }
        erasure.done();
        Ok(true)
    }

    /// Whether the group's committed offsets are those of a transaction whose end was not heard of.
    fn has_committed(&self, commit: &Commit) -> Result<bool, LogError> {
        let partitions: BTreeSet<Partition> = commit.offsets.keys().copied().collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match arrival::settle(&self.topic, &partitions, self.consumer()?)? {
                Some(positions) => {
                    let wanted = commit.offsets.iter().map(|(&p, &o)| (p, Offset::Offset(o)));
                    return Ok(!partitions.is_empty() && positions.into_iter().eq(wanted));
                }
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
                None => return Err(self.settings.unreachable("asking for the committed offsets", "no answer")),
            }
        }
    }

    fn moves(&self, commit: &Commit) -> bool {
        commit.offsets.iter().any(|(p, offset)| self.committed.get(p) != Some(&Offset::Offset(*offset)))
    }

    /// Puts every owned partition back to its last commit, after a transaction was aborted. A member whose name was taken meanwhile reads nothing
    /// more and cannot go back: it joins the group again, and its next poll says that everything went away.
    fn rewind(&mut self) -> Result<(), LogError> {
        let committed = &self.committed;
        self.carried.retain(|r| !committed.contains_key(&r.partition));
        self.next.clear();
        self.at_end.clear();
        let consumer = self.consumer()?;
        if let Some((RDKafkaErrorCode::FencedInstanceId, reason)) = consumer.client().fatal_error() {
            return self.rejoin(&reason);
        }
        match seek(consumer, &self.topic, &self.committed) {
            // It was taken while the consumer was to move.
            Err(e) => match consumer.client().fatal_error() {
                Some((RDKafkaErrorCode::FencedInstanceId, reason)) => self.rejoin(&reason),
                _ => Err(e),
            },
            Ok(()) => Ok(()),
        }
    }
}

impl Log for KafkaLog {
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Polled, LogError> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.take_changes()? {
                return Ok(self.owned());
            }
            if self.erase_wished()? {
                return Ok(Polled::Erased);
            }
            // Trouble is told when there is nothing else to do, and the consumer is polled in any case: rebalances and fencing go on.
            let trouble = match self.attend() {
                Ok(true) => return Ok(self.owned()),
                Ok(false) => None,
                Err(LogError::Fatal(message)) => return Err(LogError::Fatal(message)),
                Err(e) => Some(e),
            };
            let until = if trouble.is_some() { Instant::now() } else { deadline };
            let mut records = self.take_carried(max);
            let collected = self.collect(&mut records, max, until);
            let changed = self.forgotten || self.consumer()?.context().changed();
            if changed || collected.is_err() {
                // Handed out by a later call, as far as their partitions stay.
                records.append(&mut self.carried);
                self.carried = records;
                collected?;
                continue;
            }
            if !records.is_empty() {
                return Ok(Polled::Records(records));
            }
            if let Some(e) = trouble {
                return Err(e);
            }
            if Instant::now() >= deadline {
                return Ok(Polled::Idle);
            }
        }
    }

    fn load(&mut self, partition: Partition, customer_id: &str) -> Result<Option<Vec<u8>>, LogError> {
        Ok(self.states.get(partition, customer_id))
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), LogError> {
        let foreign =
            commit.offsets.keys().chain(commit.states.iter().map(|s| &s.partition)).find(|p| !self.committed.contains_key(p)).copied();
        if let Some(partition) = foreign {
            self.rewind()?;
            return Err(LogError::Abortable(format!("{} is no longer this worker's", place(&self.topic, partition))));
        }
        let consumer = self.consumer()?;
        // Read anew for every transaction: it carries the generation by which the broker refuses a member that lost its partitions.
        let group = consumer.group_metadata().ok_or_else(|| LogError::Fatal("the Kafka consumer belongs to no group".into()))?;
        let outcome = match consumer.assignment_lost() {
            true => Outcome::Aborted("the group has given this worker's partitions away".into()),
            false => self.transactions.run(commit, group)?,
        };
        let aborted = match outcome {
            Outcome::Committed => None,
            Outcome::Aborted(reason) => Some(reason),
            // Offsets that do not move tell nothing of how it ended.
            Outcome::Unknown(reason) if !self.moves(commit) => Some(reason),
            Outcome::Unknown(reason) => (!self.has_committed(commit)?).then_some(reason),
        };
        if let Some(reason) = aborted {
            self.rewind()?;
            return Err(LogError::Abortable(reason));
        }
        self.committed.extend(commit.offsets.iter().map(|(&p, &o)| (p, Offset::Offset(o))));
        self.states.apply(&commit.states);
        Ok(())
    }

    fn lag(&mut self) -> Vec<(Partition, i64)> {
        let ends = self.consumer.as_ref().map(|c| c.context().ends()).unwrap_or_default();
        let behind = |partition: &Partition, position: &Offset| {
            let next = match (self.next.get(partition), position) {
                (Some(&next), _) => next,
                (None, Offset::Offset(offset)) => *offset,
                (None, _) => 0,
            };
            match self.at_end.contains(partition) {
                true => 0,
                false => ends.get(partition).map_or(0, |end| (end - next).max(0)),
            }
        };
        let owned = self.committed.iter().map(|(partition, position)| (*partition, behind(partition, position)));
        owned.chain(self.arrivals.iter().flat_map(Arrival::behind)).collect()
    }

    fn readiness(&self) -> Readiness {
        match (self.waiting, self.arrivals.is_empty()) {
            (true, _) => Readiness::Waiting,
            (false, false) => Readiness::Restoring,
            (false, true) => Readiness::Ready,
        }
    }

    fn events(&mut self) -> LogEvents {
        std::mem::take(&mut self.events)
    }

    /// Gives up the partitions. A member of a KIP-848 group leaves at once; a static member of a classic group keeps its partitions until it is
    /// back or `session.timeout.ms` has passed, so that a restart moves none.
    fn close(&mut self) -> Result<(), LogError> {
        let Some(consumer) = self.consumer.take() else { return Ok(()) };
        let unanswered = !self.arrivals.is_empty();
        self.forget_all();
        leave(consumer, unanswered)
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        if let Err(e) = self.close() {
            tracing::warn!("{e}");
        }
    }
}
