//! Rebuilds the states of newly assigned partitions from the state topic, in slices, while the group's consumer stays alive beside it.
//!
//! Order matters. The caller has settled the committed offsets first (`require stable`), so no older transaction can still commit offsets.
//! Then: 1. take each partition's high watermark; 2. wait until the last stable offset has reached it, that is, until every transaction that
//! was open then has ended; 3. read from the start to the end of partition that the broker reports. Never to `high watermark − 1`:
//! transaction markers take offsets, so that record may not exist.
//!
//! Knows nothing of the group, of transactions or of what a state means.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::membership::Journal;
use super::settings::{KafkaSettings, place};
use crate::log::{LogError, Partition};

const QUERY: Duration = Duration::from_secs(5);

type Customers = HashMap<Box<str>, Box<[u8]>>;

enum Phase {
    /// The high watermarks are unknown yet.
    Unmeasured,
    /// Waiting for the last stable offset of these partitions to reach the high watermark beside them.
    Pinned(BTreeMap<Partition, i64>),
    /// Reading; these partitions' ends have not been seen.
    Reading(Vec<Partition>),
}

pub(super) struct Restore {
    topic: String,
    committed: BaseConsumer<Journal>,
    states: BTreeMap<Partition, Customers>,
    phase: Phase,
    started: Instant,
    warned: Instant,
}

impl Restore {
    pub fn new(settings: &KafkaSettings, partitions: impl Iterator<Item = Partition>) -> Result<Restore, LogError> {
        let committed = reader(settings, true)?;
        Ok(Restore {
            topic: settings.state(),
            committed,
            states: partitions.map(|p| (p, Customers::new())).collect(),
            phase: Phase::Unmeasured,
            started: Instant::now(),
            warned: Instant::now(),
        })
    }

    /// Stops restoring a partition that was revoked meanwhile.
    pub fn give_up(&mut self, partition: Partition) {
        self.states.remove(&partition);
        match &mut self.phase {
            Phase::Unmeasured => {}
            Phase::Pinned(watermarks) => {
                watermarks.remove(&partition);
            }
            Phase::Reading(open) => open.retain(|&p| p != partition),
        }
    }

    /// Works for about `slice`. True once all is restored.
    pub fn step(&mut self, settings: &KafkaSettings, slice: Duration) -> Result<bool, LogError> {
        match &mut self.phase {
            Phase::Unmeasured => {
                // A client of its own: watermarks are asked for at the isolation level of the asking client.
                let all = reader(settings, false)?;
                let mut watermarks = BTreeMap::new();
                for &partition in self.states.keys() {
                    let (_, high) = watermarks_of(&all, settings, &self.topic, partition)?;
                    watermarks.insert(partition, high);
                }
                self.phase = Phase::Pinned(watermarks);
                Ok(false)
            }
            Phase::Pinned(watermarks) => {
                let mut reached = Vec::new();
                for (&partition, &high) in watermarks.iter() {
                    if watermarks_of(&self.committed, settings, &self.topic, partition)?.1 >= high {
                        reached.push(partition);
                    }
                }
                watermarks.retain(|p, _| !reached.contains(p));
                if watermarks.is_empty() {
                    self.start_reading()?;
                } else {
                    if self.warned.elapsed() > Duration::from_secs(30) {
                        self.warned = Instant::now();
                        tracing::warn!(
                            "still waiting for open transactions on {} partitions {:?}; they end by transaction.timeout.ms of their producer",
                            self.topic,
                            watermarks.keys()
                        );
                    }
                    std::thread::sleep(slice.min(Duration::from_millis(50)));
                }
                Ok(false)
            }
            Phase::Reading(open) => {
                let until = Instant::now() + slice;
                while !open.is_empty() {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    match self.committed.poll(left) {
                        None => {}
                        Some(Err(KafkaError::PartitionEOF(partition))) => open.retain(|&p| p != partition),
                        Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                            // Compaction moved the start of the log past where we read: start these partitions over.
                            tracing::warn!("{} was cut while it was read; restoring again", self.topic);
                            self.states.values_mut().for_each(Customers::clear);
                            self.start_reading()?;
                            return Ok(false);
                        }
                        Some(Err(e)) => tracing::debug!("restoring {}: {e}", self.topic),
                        Some(Ok(message)) => {
                            let Some(customers) = self.states.get_mut(&message.partition()) else { continue };
                            let Some(Ok(customer)) = message.key().map(std::str::from_utf8) else {
                                tracing::warn!(
                                    "{} offset {} has no customer id as its key; skipped",
                                    place(&self.topic, message.partition()),
                                    message.offset()
                                );
                                continue;
                            };
                            match message.payload() {
                                Some(state) => customers.insert(customer.into(), state.into()),
                                None => customers.remove(customer),
                            };
                        }
                    }
                }
                Ok(true)
            }
        }
    }

    fn start_reading(&mut self) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        for &partition in self.states.keys() {
            list.add_partition_offset(&self.topic, partition, Offset::Beginning)
                .map_err(|e| LogError::Fatal(format!("cannot read {}: {e}", self.topic)))?;
        }
        self.committed.assign(&list).map_err(|e| LogError::Fatal(format!("cannot read {}: {e}", self.topic)))?;
        self.phase = Phase::Reading(self.states.keys().copied().collect());
        Ok(())
    }

    /// What was restored, and how long it took.
    pub fn finish(self) -> (BTreeMap<Partition, Customers>, Duration) {
        (self.states, self.started.elapsed())
    }
}

/// A client that reads assigned partitions and joins no group.
pub(super) fn reader(settings: &KafkaSettings, committed: bool) -> Result<BaseConsumer<Journal>, LogError> {
    settings
        .reader(committed)
        .create_with_context(Journal)
        .map_err(|e| LogError::Fatal(format!("cannot create a Kafka reader from log.brokers and log.kafka: {e}")))
}

fn watermarks_of(
    client: &BaseConsumer<Journal>,
    settings: &KafkaSettings,
    topic: &str,
    partition: Partition,
) -> Result<(i64, i64), LogError> {
    client.fetch_watermarks(topic, partition, QUERY).map_err(|e| match e.rdkafka_error_code() {
        Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
            LogError::Fatal(format!(
                "{} does not exist although {} does; the two topics must have equally many partitions: run `rapport check`",
                place(topic, partition),
                place(&settings.interactions(), partition)
            ))
        }
        _ => LogError::Retriable(format!("cannot ask for the end of {}: {e}", place(topic, partition))),
    })
}
