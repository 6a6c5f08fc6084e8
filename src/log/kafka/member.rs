//! Joining and leaving the group, and moving its consumer.
//!
//! Knows nothing of transactions, states or what is read.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::Offset;

use super::arrival::list_of;
use super::membership::Membership;
use super::settings::KafkaSettings;
use crate::log::{LogError, Partition};

const QUERY: Duration = Duration::from_secs(5);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(5);

/// A new member of the group.
pub(super) fn join(settings: &KafkaSettings, worker_index: usize) -> Result<BaseConsumer<Membership>, LogError> {
    let consumer: BaseConsumer<Membership> = settings
        .consumer(worker_index)
        .create_with_context(Membership::default())
        .map_err(|e| LogError::Fatal(format!("cannot create a Kafka consumer from log.brokers and log.kafka: {e}")))?;
    let topic = settings.interactions();
    consumer.subscribe(&[&topic]).map_err(|e| LogError::Fatal(format!("cannot subscribe to {topic}: {e}")))?;
    Ok(consumer)
}

/// Closes a member, in bounded time. `unanswered`: an assignment is.
pub(super) fn leave(consumer: BaseConsumer<Membership>, unanswered: bool) -> Result<(), LogError> {
    consumer.context().close();
    if unanswered || consumer.context().changed() {
        // It would keep the consumer from closing.
        let _ = consumer.unassign();
    }
    // Dropping waits for the brokers; on a thread of its own, so that the wait is bounded.
    let (done, left) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(consumer);
        let _ = done.send(());
    });
    left.recv_timeout(LEAVE).map_err(|_| LogError::Retriable("leaving the group takes longer than expected; it is left behind".into()))
}

/// Moves the consumer; what it has fetched ahead is dropped. Partitions of a lost assignment are left to the coming revocation.
pub(super) fn seek(consumer: &BaseConsumer<Membership>, topic: &str, positions: &BTreeMap<Partition, Offset>) -> Result<(), LogError> {
    let mut left = positions.clone();
    let mut last = String::new();
    for _ in 0..20 {
        if left.is_empty() || consumer.assignment_lost() {
            return Ok(());
        }
        match consumer.seek_partitions(list_of(topic, &left)?, QUERY) {
            Ok(answer) => {
                for element in answer.elements() {
                    match element.error() {
                        Ok(()) => {
                            left.remove(&element.partition());
                        }
                        Err(e) => last = e.to_string(),
                    }
                }
            }
            Err(e) => last = e.to_string(),
        }
        if !left.is_empty() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(LogError::Fatal(format!("cannot go back to the last commit in {topic} partitions {:?}: {last}; start again", left.keys())))
}
