//! What goes wrong while the input is read, and what is done about it: a refused name, positions out of range, errors that need somebody.
//!
//! Knows nothing of transactions and restores.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::KafkaLog;
use super::arrival::list_of;
use super::member::{join, leave};
use super::settings::place;
use crate::log::LogError;

/// For one question, while nothing else goes on in the worker.
const QUERY: Duration = Duration::from_secs(1);
const MOST_REJOINS: usize = 10;
const REJOIN_WINDOW: Duration = Duration::from_secs(180);
/// Before the first join anew; doubled up to three times.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);

impl KafkaLog {
    /// Notes an error that passes, and tells one that does not.
    pub(super) fn consumer_error(&mut self, error: &KafkaError) -> Result<(), LogError> {
        match error {
            KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId) => return self.rejoin(&error.to_string()),
            KafkaError::MessageConsumptionFatal(_) => {
                return Err(LogError::Fatal(format!("the Kafka consumer cannot go on: {error}; start again")));
            }
            _ => {}
        }
        match error.rdkafka_error_code() {
            // Told once, and that partition's fetcher has given up: it must not be forgotten before it is mended.
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.range_in_doubt = true;
                Ok(())
            }
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                Err(LogError::Retriable(format!("{} does not exist; run `rapport topics create`", self.topic)))
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed) => Err(LogError::Fatal(format!(
                "no permission to read {} in log.group = {:?} ({error}); allow it to the user of log.kafka",
                self.topic, self.settings.group
            ))),
            Some(RDKafkaErrorCode::SaslAuthenticationFailed) => {
                Err(LogError::Fatal(format!("the brokers refuse the user of log.kafka: {error}; correct sasl.username and sasl.password")))
            }
            Some(RDKafkaErrorCode::PollExceeded) => {
                tracing::warn!(
                    "a commit or restore took longer than max.poll.interval.ms; the group has given the partitions away for now"
                );
                Ok(())
            }
            // Connections come and go; librdkafka goes on by itself.
            _ => {
                self.reach.lost(&self.topic, error);
                Ok(())
            }
        }
    }

    /// The group refuses this static member's name. Another process may have taken it; but a join whose answer was lost with a broker looks the
    /// same, so it is tried again [`MOST_REJOINS`] times in [`REJOIN_WINDOW`]. Where there is another process, the two fence each other until one gives up.
    pub(super) fn rejoin(&mut self, error: &str) -> Result<(), LogError> {
        self.rejoined.retain(|at| at.elapsed() < REJOIN_WINDOW);
        if self.rejoined.len() >= MOST_REJOINS {
            return Err(self.settings.fenced(error));
        }
        let pause = REJOIN_PAUSE.saturating_mul(1 << self.rejoined.len().min(3));
        tracing::warn!("{error}; joining the group again in {pause:?}");
        if let Some(old) = self.consumer.take()
            && let Err(e) = leave(old, !self.arrivals.is_empty())
        {
            tracing::warn!("{e}");
        }
        std::thread::sleep(pause);
        self.consumer = Some(join(&self.settings, self.worker_index)?);
        self.rejoined.push(Instant::now());
        self.forget_all();
        Ok(())
    }

    /// As if nothing had ever been assigned.
    pub(super) fn forget_all(&mut self) {
        for &partition in self.committed.keys() {
            self.states.forget(partition);
        }
        self.committed.clear();
        self.next.clear();
        self.at_end.clear();
        self.arrivals.clear();
        self.carried.clear();
        self.range_in_doubt = false;
        self.waiting = true;
        self.forgotten = true;
    }

    /// A position lies outside its partition: retention has deleted interactions before they were read. Loud, and on with the oldest one left.
    /// Tried again until it succeeds; not while partitions arrive, because assigning here would answer for them.
    pub(super) fn mend_range(&mut self) -> Result<(), LogError> {
        if self.committed.is_empty() {
            // Given away meanwhile; whoever has it now is told itself.
            self.range_in_doubt = false;
            return Ok(());
        }
        let consumer = self.consumer.as_ref().ok_or_else(|| LogError::Fatal("the log is closed".into()))?;
        let mut moved = BTreeMap::new();
        let mut lost = 0;
        for (&partition, &position) in &self.committed {
            let next = match (self.next.get(&partition), position) {
                (Some(&next), _) => next,
                (None, Offset::Offset(offset)) => offset,
                (None, position) => {
                    moved.insert(partition, position);
                    continue;
                }
            };
            let (low, high) = consumer
                .fetch_watermarks(&self.topic, partition, QUERY)
                .map_err(|e| LogError::Retriable(format!("cannot ask for the range of {}: {e}", place(&self.topic, partition))))?;
            if next > high {
                return Err(LogError::Fatal(format!(
                    "{} ends at offset {high}, before the next offset to read, {next}: the topic was deleted and created again, or records were \
                     lost; reset the offsets of log.group = {:?} (kafka-consumer-groups --reset-offsets) or choose another log.group",
                    place(&self.topic, partition),
                    self.settings.group
                )));
            }
            if next < low {
                tracing::error!(
                    "{}: {} interactions from offset {next} on were deleted by retention before they were scored; going on at {low}; keep \
                     interactions longer or add workers",
                    place(&self.topic, partition),
                    low - next
                );
                lost += (low - next) as u64;
            }
            moved.insert(partition, Offset::Offset(next.max(low)));
        }
        for (&partition, &position) in &moved {
            if let Offset::Offset(offset) = position {
                self.next.insert(partition, offset);
            }
        }
        // A partition whose fetcher has given up takes no seek, only a new assignment.
        let list = list_of(&self.topic, &moved)?;
        let assigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(&list).and_then(|()| consumer.incremental_assign(&list)),
            _ => consumer.assign(&list),
        };
        assigned.map_err(|e| LogError::Fatal(format!("cannot go on with {} at the oldest records left: {e}; start again", self.topic)))?;
        self.events.lost_records += lost;
        self.range_in_doubt = false;
        Ok(())
    }
}
