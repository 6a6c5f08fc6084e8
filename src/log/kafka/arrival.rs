//! Partitions on their way in: assigned by the group, not yet announced by `poll`.
//!
//! 1. Settle: the committed offsets, asked for under `require stable`, so that a dead worker's pending transaction has ended.
//! 2. Answer the assignment with these offsets, paused.
//! 3. Restore.
//!
//! All in steps of a slice, so that the group's consumer is polled in between and a further rebalance can take partitions away.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::membership::Membership;
use super::restore::Restore;
use super::settings::{KafkaSettings, place};
use crate::log::{LogError, Partition};

/// How long one step may take.
const SLICE: Duration = Duration::from_millis(200);
/// Pause before committed offsets are asked for again.
const AGAIN: Duration = Duration::from_millis(50);
/// For the question how far a partition's end is. Short, because the group's consumer waits meanwhile; it is asked once.
const QUERY: Duration = Duration::from_secs(1);

pub(super) struct Arrival {
    topic: String,
    /// Whether the assignment adds to the earlier ones instead of replacing them.
    incremental: bool,
    phase: Phase,
    warned: Instant,
}

enum Phase {
    Unsettled(BTreeSet<Partition>),
    Restoring {
        positions: BTreeMap<Partition, Offset>,
        /// Records behind the end at this time; none where nobody answered.
        behind: BTreeMap<Partition, Option<i64>>,
        restore: Box<Restore>,
    },
    /// Assigned nothing.
    Empty,
}

/// What a worker owns now.
pub(super) struct Arrived {
    pub positions: BTreeMap<Partition, Offset>,
    pub states: BTreeMap<Partition, HashMap<Box<str>, Box<[u8]>>>,
    pub took: Duration,
}

impl Arrival {
    pub fn new(topic: &str, partitions: Vec<Partition>, incremental: bool) -> Arrival {
        let phase = Phase::Unsettled(partitions.into_iter().collect());
        Arrival { topic: topic.to_owned(), incremental, phase, warned: Instant::now() }
    }

    /// Takes out a partition that was revoked before it was announced.
    pub fn give_up(&mut self, partition: Partition) {
        match &mut self.phase {
            Phase::Unsettled(partitions) => {
                partitions.remove(&partition);
            }
            Phase::Restoring { positions, behind, restore } => {
                positions.remove(&partition);
                behind.remove(&partition);
                restore.give_up(partition);
            }
            Phase::Empty => {}
        }
    }

    /// States read back since the last call.
    pub fn take_read(&mut self) -> u64 {
        match &mut self.phase {
            Phase::Restoring { restore, .. } => restore.take_read(),
            Phase::Unsettled(_) | Phase::Empty => 0,
        }
    }

    /// How many records each partition was behind its end when it arrived, as far as that is known.
    pub fn behind(&self) -> impl Iterator<Item = (Partition, i64)> + '_ {
        let behind = match &self.phase {
            Phase::Restoring { behind, .. } => Some(behind),
            Phase::Unsettled(_) | Phase::Empty => None,
        };
        behind.into_iter().flatten().filter_map(|(partition, records)| Some((*partition, (*records)?)))
    }

    /// Works for about a slice. True once the partitions can be announced.
    pub fn step(&mut self, settings: &KafkaSettings, consumer: &BaseConsumer<Membership>) -> Result<bool, LogError> {
        match &mut self.phase {
            Phase::Empty => Ok(true),
            Phase::Restoring { positions, behind, restore } => {
                if let Some((&partition, &position)) = positions.iter().find(|(p, _)| !behind.contains_key(p)) {
                    behind.insert(partition, records_behind(consumer, &self.topic, partition, position));
                }
                let done = restore.step(settings, SLICE)?;
                if done {
                    let list = list_of(&self.topic, positions)?;
                    consumer.resume(&list).map_err(|e| LogError::Fatal(format!("cannot resume reading {}: {e}", self.topic)))?;
                }
                Ok(done)
            }
            Phase::Unsettled(partitions) => {
                let Some(positions) = settle(&self.topic, partitions, consumer)? else {
                    if self.warned.elapsed() > Duration::from_secs(30) {
                        self.warned = Instant::now();
                        tracing::warn!(
                            "still asking for the committed offsets of {} partitions {partitions:?}; they wait for open transactions, which end \
                             by transaction.timeout.ms of their producer",
                            self.topic
                        );
                    }
                    std::thread::sleep(AGAIN);
                    return Ok(false);
                };
                let list = list_of(&self.topic, &positions)?;
                let answered = if self.incremental { consumer.incremental_assign(&list) } else { consumer.assign(&list) };
                answered.map_err(|e| LogError::Retriable(format!("cannot take over partitions of {}: {e}", self.topic)))?;
                if positions.is_empty() {
                    self.phase = Phase::Empty;
                    return Ok(true);
                }
                consumer.pause(&list).map_err(|e| LogError::Fatal(format!("cannot pause reading {}: {e}", self.topic)))?;
                let restore = Restore::new(settings, positions.keys().copied())?;
                self.phase = Phase::Restoring { positions, behind: BTreeMap::new(), restore: Box::new(restore) };
                Ok(false)
            }
        }
    }

    pub fn finish(self) -> Arrived {
        match self.phase {
            Phase::Restoring { positions, restore, .. } => {
                let (states, took) = restore.finish();
                Arrived { positions, states, took }
            }
            Phase::Unsettled(_) | Phase::Empty => Arrived { positions: BTreeMap::new(), states: BTreeMap::new(), took: Duration::ZERO },
        }
    }
}

fn records_behind(consumer: &BaseConsumer<Membership>, topic: &str, partition: Partition, position: Offset) -> Option<i64> {
    let (low, end) = consumer.fetch_watermarks(topic, partition, QUERY).ok()?;
    let next = if let Offset::Offset(offset) = position { offset } else { low };
    Some((end - next).max(0))
}

/// Committed offsets (the beginning, where there is none); `None` while a transaction on them is pending or the coordinator is away.
pub(super) fn settle(
    topic: &str,
    partitions: &BTreeSet<Partition>,
    consumer: &BaseConsumer<Membership>,
) -> Result<Option<BTreeMap<Partition, Offset>>, LogError> {
    if partitions.is_empty() {
        return Ok(Some(BTreeMap::new()));
    }
    let mut asked = TopicPartitionList::with_capacity(partitions.len());
    for &partition in partitions {
        asked.add_partition(topic, partition);
    }
    // A consumer of isolation level read_committed asks for stable offsets.
    let answer = match consumer.committed_offsets(asked, Duration::from_secs(1)) {
        Ok(answer) => answer,
        Err(e) => {
            tracing::debug!("committed offsets of {topic}: {e}; asking again");
            return Ok(None);
        }
    };
    let mut positions = BTreeMap::new();
    for element in answer.elements() {
        if let Err(e) = element.error() {
            tracing::debug!("committed offset of {}: {e}; asking again", place(topic, element.partition()));
            return Ok(None);
        }
        let position = match element.offset() {
            Offset::Offset(offset) => Offset::Offset(offset),
            _ => Offset::Beginning,
        };
        positions.insert(element.partition(), position);
    }
    Ok(Some(positions))
}

pub(super) fn list_of(topic: &str, positions: &BTreeMap<Partition, Offset>) -> Result<TopicPartitionList, LogError> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (&partition, &position) in positions {
        list.add_partition_offset(topic, partition, position)
            .map_err(|e| LogError::Fatal(format!("{} has no position {position:?}: {e}", place(topic, partition))))?;
    }
    Ok(list)
}
