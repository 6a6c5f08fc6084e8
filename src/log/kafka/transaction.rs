//! One transactional producer and the life of a transaction: begin, produce, offsets, drain, commit; abort when anything goes wrong.
//!
//! Knows no consumer beyond its group metadata and decides nothing about rewinding.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::membership::Journal;
use super::settings::KafkaSettings;
use crate::log::{Commit, LogError, Output, Stream};

/// How long brokers may be away in the middle of a transaction before the worker gives up. Below `max.poll.interval.ms`.
const PATIENCE: Duration = Duration::from_secs(120);
const CALL: Duration = Duration::from_secs(5);

/// Keeps the first failed delivery of the running transaction.
#[derive(Default)]
pub(super) struct Deliveries {
    failed: Mutex<Option<(KafkaError, String)>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Journal.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Journal.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| (error.clone(), message.topic().to_owned()));
        }
    }
}

/// Partition counts of the output topics, to decide whether an output can keep its input's partition number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub interactions: i32,
    pub scores: i32,
    pub alerts: i32,
    pub dead_letters: i32,
}

pub(super) struct Transactions {
    settings: KafkaSettings,
    producer: BaseProducer<Deliveries>,
    counts: Counts,
    interactions: String,
    state: String,
    scores: String,
    alerts: String,
    dead_letters: String,
}

/// Why a transaction did not commit. Only `Aborted` leaves the producer usable; then nothing of it is visible.
enum Failure {
    /// Must be aborted (not yet done).
    Abort(String),
    Fatal(LogError),
}

impl Transactions {
    /// Fences every older producer of the same slot and ends its open transaction.
    pub fn open(settings: &KafkaSettings, worker_index: usize, counts: Counts) -> Result<Transactions, LogError> {
        let producer: BaseProducer<Deliveries> =
            settings
                .transactional_producer(worker_index)
                .create_with_context(Deliveries::default())
                .map_err(|e| LogError::Fatal(format!("cannot create a Kafka producer from log.brokers and log.kafka: {e}")))?;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match producer.init_transactions(CALL) {
                Ok(()) => break,
                Err(KafkaError::Transaction(e)) if e.is_retriable() && Instant::now() < deadline => {
                    tracing::debug!("opening transactions: {e}");
                    producer.poll(Duration::from_millis(100));
                }
                Err(e) if matches!(e.rdkafka_error_code(), Some(RDKafkaErrorCode::OperationTimedOut)) => {
                    return Err(settings.unreachable("opening transactions", e));
                }
                Err(e) => return Err(LogError::Fatal(format!("cannot open Kafka transactions as {:?}: {e}", settings.slot(worker_index)))),
            }
        }
        Ok(Transactions {
            interactions: settings.interactions(),
            state: settings.state(),
            scores: settings.stream(Stream::Scores),
            alerts: settings.stream(Stream::Alerts),
            dead_letters: settings.stream(Stream::DeadLetters),
            settings: settings.clone(),
            producer,
            counts,
        })
    }

    /// `Ok`: everything of the commit is visible. `Abortable`: nothing is, and the transaction has been aborted.
    pub fn run(&self, commit: &Commit, group: &ConsumerGroupMetadata) -> Result<(), LogError> {
        match self.producer.begin_transaction() {
            Ok(()) => {}
            Err(KafkaError::Transaction(e)) if e.is_retriable() => {
                return Err(LogError::Retriable(format!("beginning a transaction: {e}")));
            }
            Err(e) => return Err(self.settings.fenced(e)),
        }
        *self.producer.context().failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let deadline = Instant::now() + PATIENCE;
        match self.attempt(commit, group, deadline) {
            Ok(()) => Ok(()),
            Err(Failure::Fatal(e)) => Err(e),
            Err(Failure::Abort(reason)) => {
                self.abort()?;
                Err(LogError::Abortable(reason))
            }
        }
    }

    fn attempt(&self, commit: &Commit, group: &ConsumerGroupMetadata, deadline: Instant) -> Result<(), Failure> {
        for (topic, count, outputs) in [
            (&self.scores, self.counts.scores, &commit.scores),
            (&self.alerts, self.counts.alerts, &commit.alerts),
            (&self.dead_letters, self.counts.dead_letters, &commit.dead_letters),
        ] {
            for output in outputs {
                self.produce(output_record(topic, output, count == self.counts.interactions), deadline)?;
            }
        }
        for change in &commit.states {
            let mut record = BaseRecord::<[u8], [u8]>::to(&self.state).partition(change.partition).key(change.customer_id.as_bytes());
            if let Some(state) = &change.state {
                record = record.payload(state);
            }
            self.produce(record, deadline)?;
        }
        if !commit.offsets.is_empty() {
            let mut offsets = TopicPartitionList::new();
            for (&partition, &offset) in &commit.offsets {
                offsets
                    .add_partition_offset(&self.interactions, partition, Offset::Offset(offset))
                    .map_err(|e| Failure::Abort(format!("offset {offset} of partition {partition}: {e}")))?;
            }
            self.retry("committing offsets", deadline, || self.producer.send_offsets_to_transaction(&offsets, group, CALL))?;
        }
        // commit_transaction flushes in slices of 100 ms unless nothing is in flight.
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(1));
            if Instant::now() > deadline {
                return Err(Failure::Abort(format!("records were not delivered within {PATIENCE:?}")));
            }
        }
        self.check_deliveries()?;
        self.retry("committing a transaction", deadline, || self.producer.commit_transaction(CALL))
    }

    fn produce(&self, mut record: BaseRecord<'_, [u8], [u8]>, deadline: Instant) -> Result<(), Failure> {
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) if Instant::now() < deadline => {
                    self.producer.poll(Duration::from_millis(5));
                    record = same;
                }
                Err((e, same)) => return Err(self.refused(&e, same.topic)),
            }
        }
    }

    fn check_deliveries(&self) -> Result<(), Failure> {
        let failed = self.producer.context().failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failed {
            None => Ok(()),
            Some((e, topic)) => Err(self.refused(&e, &topic)),
        }
    }

    /// A record that the topic will never take must not be tried for ever.
    fn refused(&self, e: &KafkaError, topic: &str) -> Failure {
        match e.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Failure::Fatal(LogError::Fatal(format!(
                "{topic} takes no record of this size; raise max.message.bytes of the topic above that of {} and start again",
                self.interactions
            ))),
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Failure::Fatal(LogError::Fatal(format!(
                "no permission to write to {topic}; allow it to the user of log.kafka and start again"
            ))),
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownPartition) => {
                Failure::Fatal(LogError::Fatal(format!("{topic} or one of its partitions does not exist; run `rapport check`")))
            }
            _ => Failure::Abort(format!("{topic}: {e}")),
        }
    }

    /// Repeats a call of the transaction until it succeeds, must be aborted, or the patience ends.
    fn retry(&self, what: &str, deadline: Instant, call: impl Fn() -> KafkaResult<()>) -> Result<(), Failure> {
        loop {
            let error = match call() {
                Ok(()) => return Ok(()),
                Err(e) => e,
            };
            match &error {
                KafkaError::Transaction(e) if e.is_fatal() => return Err(Failure::Fatal(self.settings.fenced(format!("{what}: {e}")))),
                KafkaError::Transaction(e) if e.txn_requires_abort() => {
                    // A delivery that failed for good explains more than the abort that it causes.
                    self.producer.poll(Duration::ZERO);
                    self.check_deliveries()?;
                    return Err(Failure::Abort(format!("{what}: {e}")));
                }
                KafkaError::Transaction(e) if e.is_retriable() => {}
                KafkaError::Flush(_) => {}
                other => return Err(Failure::Fatal(LogError::Fatal(format!("{what}: {other}; start again")))),
            }
            if Instant::now() > deadline {
                // Whether it committed is unknown; only a new start, which reads the committed offsets, can tell.
                return Err(Failure::Fatal(
                    self.settings.unreachable(what, format!("{error}; the outcome is unknown until the worker starts again")),
                ));
            }
            tracing::debug!("{what}: {error}; trying again");
            self.producer.poll(Duration::from_millis(50));
        }
    }

    fn abort(&self) -> Result<(), LogError> {
        let deadline = Instant::now() + PATIENCE;
        // Delivery reports are served by polling alone, and aborting waits for them.
        let drained = Instant::now() + Duration::from_secs(1);
        while self.producer.in_flight_count() > 0 && Instant::now() < drained {
            self.producer.poll(Duration::from_millis(1));
        }
        loop {
            match self.producer.abort_transaction(Duration::from_secs(1)) {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(e)) if e.is_retriable() && Instant::now() < deadline => {
                    tracing::debug!("aborting a transaction: {e}; trying again");
                    self.producer.poll(Duration::from_millis(50));
                }
                Err(KafkaError::Transaction(e)) if e.is_retriable() => return Err(self.settings.unreachable("aborting a transaction", e)),
                Err(e) => return Err(self.settings.fenced(format!("aborting a transaction: {e}"))),
            }
        }
    }
}

fn output_record<'a>(topic: &'a str, output: &'a Output, same_partition: bool) -> BaseRecord<'a, [u8], [u8]> {
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).payload(&output.value);
    if same_partition {
        record = record.partition(output.partition);
    }
    if let Some(key) = &output.key {
        record = record.key(key);
    }
    if !output.headers.is_empty() {
        let headers = output.headers.iter().fold(OwnedHeaders::new_with_capacity(output.headers.len()), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value.as_bytes()) })
        });
        record = record.headers(headers);
    }
    record
}
