//! One transactional producer and the life of a transaction: begin, produce, drain, offsets, commit; abort when anything goes wrong.
//!
//! Knows no consumer beyond its group metadata and decides nothing about rewinding.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
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

/// How long brokers may be away in the middle of work before the worker gives up. Together with `transaction.timeout.ms` before it, and the
/// question how the transaction ended after it, below `max.poll.interval.ms`.
const RECONNECT: Duration = Duration::from_secs(150);
/// How long no broker may answer at the start.
const CONNECT: Duration = Duration::from_secs(30);
/// A broker that has just started may not know a topic yet; after this long it does not exist.
const MISSING: Duration = Duration::from_secs(60);
/// Sleep between two looks at delivery reports that have not come.
const UNREPORTED: Duration = Duration::from_micros(300);
/// Most producers that may become useless for no known reason within [`LOSSES_WITHIN`].
const MOST_LOSSES: usize = 5;
const LOSSES_WITHIN: Duration = Duration::from_secs(120);
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
    pub shadow: i32,
}

pub(super) struct Transactions {
    settings: KafkaSettings,
    worker_index: usize,
    /// Of `transaction.timeout.ms`. Nothing comes of a transaction that is older.
    timeout: Duration,
    /// Shared with calls that do not return, see [`Transactions::send_offsets`].
    producer: Arc<BaseProducer<Deliveries>>,
    /// When producers became useless for no known reason.
    losses: Vec<Instant>,
    /// Since when an output topic cannot be found.
    missing: Option<Instant>,
    counts: Counts,
    interactions: String,
    state: String,
    scores: String,
    alerts: String,
    dead_letters: String,
    shadow: String,
}

/// How a transaction ended.
pub(super) enum Outcome {
    Committed,
    /// Nothing of it is visible.
    Aborted(String),
    /// The brokers were away for so long that it timed out, or that its end was not heard of. It has ended by now: the group's committed offsets
    /// tell how.
    Unknown(String),
}

/// Why a transaction did not commit.
enum Failure {
    /// Must be aborted (not yet done).
    Abort(String),
    /// The same, because a topic cannot be found.
    Missing(String),
    /// The producer is of no more use, by no other's fault.
    Lost(String),
    Fatal(LogError),
}

impl Transactions {
    /// Fences every older producer of the same slot and ends its open transaction.
    pub fn open(settings: &KafkaSettings, worker_index: usize, counts: Counts) -> Result<Transactions, LogError> {
        Ok(Transactions {
            interactions: settings.interactions(),
            state: settings.state(),
            scores: settings.stream(Stream::Scores),
            alerts: settings.stream(Stream::Alerts),
            dead_letters: settings.stream(Stream::DeadLetters),
            shadow: settings.stream(Stream::ScoresShadow),
            timeout: settings.transaction_timeout(),
            producer: connect(settings, worker_index, CONNECT)?,
            losses: Vec::new(),
            missing: None,
            settings: settings.clone(),
            worker_index,
            counts,
        })
    }

    /// `Retriable`: nothing has begun.
    pub fn run(&mut self, commit: &Commit, group: ConsumerGroupMetadata) -> Result<Outcome, LogError> {
        match self.producer.begin_transaction() {
            Ok(()) => {}
            Err(KafkaError::Transaction(e)) if e.is_retriable() => {
                return Err(LogError::Retriable(format!("beginning a transaction: {e}")));
            }
            Err(e) => match self.useless("beginning a transaction", &e, Duration::ZERO) {
                Failure::Fatal(e) => return Err(e),
                Failure::Abort(reason) | Failure::Missing(reason) | Failure::Lost(reason) => {
                    self.replace(&reason, Duration::ZERO)?;
                    return Err(LogError::Retriable(reason));
                }
            },
        }
        *self.producer.context().failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let begun = Instant::now();
        let failure = match self.attempt(commit, group, begun) {
            Ok(()) => {
                self.missing = None;
                return Ok(Outcome::Committed);
            }
            Err(Failure::Missing(reason)) if self.missing.get_or_insert(begun).elapsed() > MISSING => {
                Failure::Fatal(LogError::Fatal(format!("{reason}; run `rapport check`")))
            }
            Err(Failure::Abort(reason) | Failure::Missing(reason)) => match self.abort(begun) {
                Ok(()) => return Ok(Outcome::Aborted(reason)),
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        match failure {
            Failure::Fatal(e) => Err(e),
            Failure::Abort(reason) | Failure::Missing(reason) | Failure::Lost(reason) => {
                self.replace(&reason, begun.elapsed())?;
                Ok(Outcome::Unknown(reason))
            }
        }
    }

    /// Another producer in the place of one that is of no more use; `age` of its last transaction.
    fn replace(&mut self, reason: &str, age: Duration) -> Result<(), LogError> {
        tracing::warn!("{reason}; connecting again");
        // An outage makes transactions old, and may take as long as it likes.
        if age < self.timeout {
            self.losses.retain(|at| at.elapsed() < LOSSES_WITHIN);
            if self.losses.len() >= MOST_LOSSES {
                return Err(LogError::Fatal(format!(
                    "the Kafka producer had to be replaced {MOST_LOSSES} times within {LOSSES_WITHIN:?}, the last time because of: {reason}"
                )));
            }
            self.losses.push(Instant::now());
        }
        self.producer = connect(&self.settings, self.worker_index, RECONNECT)?;
        Ok(())
    }

    fn attempt(&self, commit: &Commit, group: ConsumerGroupMetadata, begun: Instant) -> Result<(), Failure> {
        let deadline = begun + self.timeout;
        for (topic, count, outputs) in [
            (&self.scores, self.counts.scores, &commit.scores),
            (&self.alerts, self.counts.alerts, &commit.alerts),
            (&self.dead_letters, self.counts.dead_letters, &commit.dead_letters),
            (&self.shadow, self.counts.shadow, &commit.shadow),
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
        // Drained before anything else: commit_transaction flushes in slices of 100 ms unless nothing is in flight, and offsets that are sent
        // while the broker still completes the last transaction are tried again only after 100 ms (records after 20).
        if !self.drained(deadline) {
            return Err(Failure::Abort(format!("records were not delivered within {:?}", self.timeout)));
        }
        self.check_deliveries()?;
        if !commit.offsets.is_empty() {
            let mut offsets = TopicPartitionList::new();
            for (&partition, &offset) in &commit.offsets {
                offsets
                    .add_partition_offset(&self.interactions, partition, Offset::Offset(offset))
                    .map_err(|e| Failure::Abort(format!("offset {offset} of partition {partition}: {e}")))?;
            }
            let (offsets, group) = (Arc::new(offsets), Arc::new(group));
            self.retry("committing offsets", begun, || self.send_offsets(&offsets, &group, deadline))?;
        }
        self.retry("committing a transaction", begun, || Some(self.producer.commit_transaction(CALL)))
    }

    /// Serves delivery reports until none is due any more; whether that was so before the deadline.
    ///
    /// Polls without waiting, and sleeps where nothing came: `BaseProducer::poll` waits until its deadline whatever comes, and spins for the last
    /// millisecond of it, since librdkafka waits in whole ones.
    fn drained(&self, deadline: Instant) -> bool {
        loop {
            let before = self.producer.in_flight_count();
            if before == 0 {
                return true;
            }
            self.producer.poll(Duration::ZERO);
            if self.producer.in_flight_count() == before {
                if Instant::now() > deadline {
                    return false;
                }
                std::thread::sleep(UNREPORTED);
            }
        }
    }

    /// On a thread of its own; `None` where the call has not returned by the deadline. librdkafka lets it wait without an end where the group's
    /// coordinator dies, no other has taken over at the first question, and no connection changes afterwards. The thread keeps the producer then;
    /// the next one fences it.
    fn send_offsets(
        &self,
        offsets: &Arc<TopicPartitionList>,
        group: &Arc<ConsumerGroupMetadata>,
        deadline: Instant,
    ) -> Option<KafkaResult<()>> {
        let (producer, offsets, group) = (self.producer.clone(), offsets.clone(), group.clone());
        let (answer, answered) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            // Nobody listens any more where it comes after the deadline.
            let _ = answer.send(producer.send_offsets_to_transaction(&offsets, &group, CALL));
        });
        answered.recv_timeout(deadline.saturating_duration_since(Instant::now()).max(CALL)).ok()
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
                Failure::Missing(format!("{topic} or one of its partitions does not exist"))
            }
            _ => Failure::Abort(format!("{topic}: {e}")),
        }
    }

    /// Repeats a call of the transaction until it succeeds, the transaction must be aborted, or is too old.
    fn retry(&self, what: &str, begun: Instant, call: impl Fn() -> Option<KafkaResult<()>>) -> Result<(), Failure> {
        loop {
            let error = match call() {
                Some(Ok(())) => return Ok(()),
                Some(Err(e)) => e,
                None => return Err(Failure::Lost(format!("{what}: no answer for {:?}", begun.elapsed()))),
            };
            match &error {
                KafkaError::Transaction(e) if e.is_fatal() => return Err(self.useless(what, &error, begun.elapsed())),
                KafkaError::Transaction(e) if e.txn_requires_abort() => {
                    // A delivery that failed for good explains more than the abort that it causes.
                    self.producer.poll(Duration::ZERO);
                    self.check_deliveries()?;
                    return Err(Failure::Abort(format!("{what}: {e}")));
                }
                KafkaError::Transaction(e) if e.is_retriable() => {}
                KafkaError::Flush(_) => {}
                other => return Err(self.useless(what, other, begun.elapsed())),
            }
            if begun.elapsed() > self.timeout {
                return Err(Failure::Lost(format!("{what}: {error}; no answer for {:?}", begun.elapsed())));
            }
            tracing::debug!("{what}: {error}; trying again");
            self.producer.poll(Duration::from_millis(50));
        }
    }

    fn abort(&self, begun: Instant) -> Result<(), Failure> {
        // At least a moment of its own, where the attempt has used up the time.
        let deadline = (begun + self.timeout).max(Instant::now() + CALL);
        // Delivery reports are served by polling alone, and aborting waits for them.
        self.drained(Instant::now() + Duration::from_secs(1));
        loop {
            match self.producer.abort_transaction(Duration::from_secs(1)) {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(e)) if e.is_retriable() && Instant::now() < deadline => {
                    tracing::debug!("aborting a transaction: {e}; trying again");
                    self.producer.poll(Duration::from_millis(50));
                }
                Err(KafkaError::Transaction(e)) if e.is_retriable() => return Err(Failure::Lost(format!("aborting a transaction: {e}"))),
                Err(e) => return Err(self.useless("aborting a transaction", &e, begun.elapsed())),
            }
        }
    }

    /// What it means that the producer goes no further; `age` of its transaction.
    fn useless(&self, what: &str, error: &KafkaError, age: Duration) -> Failure {
        use RDKafkaErrorCode::*;
        let reason = format!("{what}: {error}");
        match error.rdkafka_error_code() {
            // The brokers raise the epoch when a transaction times out, or when another process opens the same slot; its age tells which.
            Some(Fenced | ProducerFenced | InvalidProducerEpoch) if age < self.timeout => Failure::Fatal(self.settings.fenced(reason)),
            Some(TransactionalIdAuthorizationFailed | ClusterAuthorizationFailed) => Failure::Fatal(LogError::Fatal(format!(
                "no permission for the transactional id {:?} ({reason}); allow the user of log.kafka to write to it and start again",
                self.settings.slot(self.worker_index)
            ))),
            _ => Failure::Lost(reason),
        }
    }
}

/// A producer of the slot, ready to begin transactions; older ones are fenced and their transactions ended.
fn connect(settings: &KafkaSettings, worker_index: usize, patience: Duration) -> Result<Arc<BaseProducer<Deliveries>>, LogError> {
    let producer: BaseProducer<Deliveries> = settings
        .transactional_producer(worker_index)
        .create_with_context(Deliveries::default())
        .map_err(|e| LogError::Fatal(format!("cannot create a Kafka producer from log.brokers and log.kafka: {e}")))?;
    let deadline = Instant::now() + patience;
    loop {
        match producer.init_transactions(CALL) {
            Ok(()) => return Ok(Arc::new(producer)),
            Err(KafkaError::Transaction(e)) if e.is_retriable() && Instant::now() < deadline => {
                tracing::debug!("opening transactions: {e}");
                producer.poll(Duration::from_millis(100));
            }
            Err(KafkaError::Transaction(e)) if e.is_retriable() => return Err(settings.unreachable("opening transactions", e)),
            Err(e) => return Err(LogError::Fatal(format!("cannot open Kafka transactions as {:?}: {e}", settings.slot(worker_index)))),
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
