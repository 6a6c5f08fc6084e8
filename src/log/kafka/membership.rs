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
use rdkafka::error::KafkaError;
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
        if !matches!(error, KafkaError::PartitionEOF(_)) {
            tracing::debug!("librdkafka: {error}: {reason}");
        }
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ConsumerContext for Journal {}

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
