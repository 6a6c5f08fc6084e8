//! What librdkafka tells a member of the group between two polls: assignments, revocations, statistics, log lines.
//!
//! Callbacks only note; [`super::KafkaLog`] acts on the notes, in the worker's thread. An assignment is answered by the log (with offsets, once
//! they are known), a revocation at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::log::Partition;

/// Sends librdkafka's lines to `tracing`. Broken connections are warnings: librdkafka reconnects by itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Journal;

impl ClientContext for Journal {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => tracing::error!("librdkafka: {fac} {message}"),
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!("librdkafka: {fac} {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!("librdkafka: {fac} {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition arrives here too.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::debug!("librdkafka: {error}: {reason}");
        }
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ConsumerContext for Journal {}

/// The journal of a client that has to know *which* end of a partition it has reached: a fetch from a broker that lags, such as a leader just
/// elected, ends earlier than the partition. The bindings report an end without its offset, but with librdkafka's words, right before `poll`
/// returns it.
#[derive(Debug, Default)]
pub(super) struct EndJournal(Mutex<Option<i64>>);

impl EndJournal {
    /// Offset of the end that the last `poll` returned; `None` where the words were others.
    pub fn take(&self) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for EndJournal {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Journal.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = end_in(reason);
        }
        Journal.error(error, reason);
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ConsumerContext for EndJournal {}

/// The offset in `Fetch from broker 1 reached end of partition at offset 12 (HighwaterMark 13)`.
fn end_in(reason: &str) -> Option<i64> {
    let (_, offset) = reason.split_once("end of partition at offset ")?;
    offset.split(' ').next()?.parse().ok()
}

/// One rebalance event, in the order in which it came.
#[derive(Debug)]
pub(super) enum Change {
    /// Must be answered by `assign` (or `incremental_assign` if `incremental`), also when it is empty.
    Assigned { partitions: Vec<Partition>, incremental: bool },
    /// Already given up; `all`: whatever the member had, unanswered assignments included.
    Revoked { partitions: Vec<Partition>, all: bool },
}

#[derive(Debug, Default)]
pub(super) struct Membership {
    changes: Mutex<VecDeque<Change>>,
    ends: Mutex<BTreeMap<Partition, i64>>,
    closing: AtomicBool,
}

impl Membership {
    pub fn next(&self) -> Option<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub fn changed(&self) -> bool {
        !self.changes.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Newest known end (last stable offset) of each partition, a few seconds old.
    pub fn ends(&self) -> BTreeMap<Partition, i64> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on assignments are declined at once: an unanswered one would keep the consumer from closing.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    fn note(&self, change: Change) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Journal.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Journal.error(error, reason);
    }

    fn stats_raw(&self, json: &[u8]) {
        let Ok(stats) = serde_json::from_slice::<Statistics>(json) else { return };
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in stats.topics.into_values() {
            for partition in topic.partitions.into_values() {
                let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
                if partition.partition >= 0 && end >= 0 {
                    ends.insert(partition.partition, end);
                }
            }
        }
    }
}

impl ConsumerContext for Membership {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, tpl: &mut TopicPartitionList) {
        let partitions: Vec<Partition> = tpl.elements().iter().map(|e| e.partition()).collect();
        let incremental = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let assigned = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if assigned && !self.closing.load(Ordering::SeqCst) {
            self.note(Change::Assigned { partitions, incremental });
            return;
        }
        // A failure here means that the member has left already; the next event says so.
        let answered = match (assigned, incremental) {
            (true, true) => consumer.incremental_assign(&TopicPartitionList::new()),
            (false, true) => consumer.incremental_unassign(tpl),
            (_, false) => consumer.unassign(),
        };
        if let Err(e) = answered {
            tracing::warn!("giving up partitions {partitions:?}: {e}");
        }
        self.note(Change::Revoked { partitions, all: !incremental });
    }
}

/// The part of librdkafka's statistics that the lag needs.
#[derive(serde::Deserialize)]
struct Statistics {
    #[serde(default)]
    topics: BTreeMap<String, TopicStatistics>,
}

#[derive(serde::Deserialize)]
struct TopicStatistics {
    #[serde(default)]
    partitions: BTreeMap<String, PartitionStatistics>,
}

#[derive(serde::Deserialize)]
struct PartitionStatistics {
    partition: Partition,
    hi_offset: i64,
    ls_offset: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_partition_is_found_in_the_words_about_it() {
        assert_eq!(end_in("Fetch from broker 1 reached end of partition at offset 12 (HighwaterMark 13)"), Some(12));
        assert_eq!(end_in("Fetch from broker 1 failed: broker transport failure"), None);
    }
}
