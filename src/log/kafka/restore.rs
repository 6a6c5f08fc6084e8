//! Rebuilds the states of newly assigned partitions from the state topic, in slices, while the group's consumer stays alive beside it.
//!
//! Order matters. The caller has settled the committed offsets first (`require stable`), so no older transaction can still commit offsets.
//! Then: 1. take each partition's high watermark; 2. wait until the last stable offset has reached it, that is, until every transaction that
//! was open then has ended; 3. read from the start until the broker reports an end of partition at or behind that watermark. Never to
//! `high watermark − 1`: transaction markers take offsets, so that record may not exist. Never to any reported end: a leader just elected, or a
//! follower, ends earlier for a moment.
//!
//! Knows nothing of the group, of transactions or of what a state means.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::membership::{EndJournal, Journal};
use super::settings::{KafkaSettings, place};
use crate::log::{LogError, Partition};

/// For one question. Short, because the group's consumer waits meanwhile; it is asked again.
const QUERY: Duration = Duration::from_secs(1);
/// After this long without a record or an end, it begins anew: what was measured may not exist any more.
const STALLED: Duration = Duration::from_secs(30);

type Customers = HashMap<Box<str>, Box<[u8]>>;

enum Phase {
    /// Asking for the high watermarks, with a client of its own: they are told at the isolation level of the client that asks.
    Measuring(Box<BaseConsumer<Journal>>),
    /// Waiting for the last stable offset of these partitions to reach the high watermark.
    Pinned(Vec<Partition>),
    /// Reading these partitions, whose ends have not been seen.
    Reading(Vec<Partition>),
}

pub(super) struct Restore {
    topic: String,
    committed: BaseConsumer<EndJournal>,
    states: BTreeMap<Partition, Customers>,
    /// High watermarks, as far as they are measured.
    ends: BTreeMap<Partition, i64>,
    phase: Phase,
    /// States read since last asked.
    read: u64,
    started: Instant,
    warned: Instant,
    /// When a record or an end came last.
    heard: Instant,
}

impl Restore {
    pub fn new(settings: &KafkaSettings, partitions: impl Iterator<Item = Partition>) -> Result<Restore, LogError> {
        let now = Instant::now();
        Ok(Restore {
            topic: settings.state(),
            committed: settings.reader(true).create_with_context(EndJournal::default()).map_err(no_reader)?,
            states: partitions.map(|p| (p, Customers::new())).collect(),
            ends: BTreeMap::new(),
            phase: Phase::Measuring(Box::new(reader(settings, false)?)),
            read: 0,
            started: now,
            warned: now,
            heard: now,
        })
    }

    /// Stops restoring a partition that was revoked meanwhile.
    pub fn give_up(&mut self, partition: Partition) {
        self.states.remove(&partition);
        match &mut self.phase {
            Phase::Measuring(_) => {}
            Phase::Pinned(left) | Phase::Reading(left) => left.retain(|&p| p != partition),
        }
    }

    /// States read since the last call, superseded ones included.
    pub fn take_read(&mut self) -> u64 {
        std::mem::take(&mut self.read)
    }

    /// Works for about `slice`. True once all is restored.
    pub fn step(&mut self, settings: &KafkaSettings, slice: Duration) -> Result<bool, LogError> {
        match &mut self.phase {
            Phase::Measuring(all) => {
                match self.states.keys().copied().find(|p| !self.ends.contains_key(p)) {
                    Some(partition) => {
                        let high = high_watermark(all, settings, &self.topic, partition)?;
                        self.ends.insert(partition, high);
                    }
                    None => self.phase = Phase::Pinned(self.states.keys().copied().collect()),
                }
                Ok(false)
            }
            Phase::Pinned(left) => {
                let Some(&partition) = left.last() else {
                    self.start_reading()?;
                    return Ok(false);
                };
                let stable = high_watermark(&self.committed, settings, &self.topic, partition)?;
                if Some(&stable) >= self.ends.get(&partition) {
                    left.pop();
                    return Ok(false);
                }
                if self.warned.elapsed() > Duration::from_secs(30) {
                    self.warned = Instant::now();
                    tracing::warn!(
                        "still waiting for an open transaction on {}; it ends by transaction.timeout.ms of its producer",
                        place(&self.topic, partition)
                    );
                }
                std::thread::sleep(slice.min(Duration::from_millis(50)));
                Ok(false)
            }
            Phase::Reading(_) => self.read_on(settings, Instant::now() + slice),
        }
    }

    fn read_on(&mut self, settings: &KafkaSettings, until: Instant) -> Result<bool, LogError> {
        while let Phase::Reading(open) = &mut self.phase {
            if open.is_empty() {
                return Ok(true);
            }
            if self.heard.elapsed() > STALLED {
                tracing::warn!("{} partitions {open:?} have not ended for {STALLED:?}; restoring again", self.topic);
                self.ends.clear();
                self.phase = Phase::Measuring(Box::new(reader(settings, false)?));
                return Ok(false);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            match self.committed.poll(left) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.heard = Instant::now();
                    let end = self.committed.context().take();
                    // Below, it is the end of a broker that lags; as it moves on, the end is reported again.
                    if end >= self.ends.get(&partition).copied() {
                        open.retain(|&p| p != partition);
                    }
                }
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                    // Compaction moved the start of the log past where we read: start these partitions over.
                    tracing::warn!("{} was cut while it was read; restoring again", self.topic);
                    self.start_reading()?;
                }
                Some(Err(e)) => tracing::debug!("restoring {}: {e}", self.topic),
                Some(Ok(message)) => {
                    self.heard = Instant::now();
                    let Some(customers) = self.states.get_mut(&message.partition()) else { continue };
                    let Some(Ok(customer)) = message.key().map(std::str::from_utf8) else {
                        tracing::warn!(
                            "{} offset {} has no customer id as its key; skipped",
                            place(&self.topic, message.partition()),
                            message.offset()
                        );
                        continue;
                    };
                    self.read += 1;
                    match message.payload() {
                        Some(state) => customers.insert(customer.into(), state.into()),
                        None => customers.remove(customer),
                    };
                }
            }
        }
        Ok(false)
    }

    fn start_reading(&mut self) -> Result<(), LogError> {
        self.states.values_mut().for_each(Customers::clear);
        let mut list = TopicPartitionList::new();
        for &partition in self.states.keys() {
            list.add_partition_offset(&self.topic, partition, Offset::Beginning)
                .map_err(|e| LogError::Fatal(format!("cannot read {}: {e}", self.topic)))?;
        }
        self.committed.assign(&list).map_err(|e| LogError::Fatal(format!("cannot read {}: {e}", self.topic)))?;
        self.phase = Phase::Reading(self.states.keys().copied().collect());
        self.heard = Instant::now();
        Ok(())
    }

    /// What was restored, and how long it took.
    pub fn finish(self) -> (BTreeMap<Partition, Customers>, Duration) {
        (self.states, self.started.elapsed())
    }
}

/// A client that reads assigned partitions and joins no group.
pub(super) fn reader(settings: &KafkaSettings, committed: bool) -> Result<BaseConsumer<Journal>, LogError> {
    settings.reader(committed).create_with_context(Journal).map_err(no_reader)
}

fn no_reader(e: KafkaError) -> LogError {
    LogError::Fatal(format!("cannot create a Kafka reader from log.brokers and log.kafka: {e}"))
}

/// At the isolation level of the client: of committed records, the last stable offset.
fn high_watermark<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    settings: &KafkaSettings,
    topic: &str,
    partition: Partition,
) -> Result<i64, LogError> {
    client.fetch_watermarks(topic, partition, QUERY).map(|(_, high)| high).map_err(|e| match e.rdkafka_error_code() {
        Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
            LogError::Retriable(format!(
                "{} does not exist although {} does; the two topics must have equally many partitions: run `rapport check`",
                place(topic, partition),
                place(&settings.interactions(), partition)
            ))
        }
        _ => LogError::Retriable(format!("cannot ask for the end of {}: {e}", place(topic, partition))),
    })
}
