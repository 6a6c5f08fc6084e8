//! The HTTP side of Kafka: durable appends to the input, and a look at the states that this process owns.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};

use super::membership::Journal;
use super::recent::Recent;
use super::settings::KafkaSettings;
use super::states::LocalStates;
use crate::log::{Delivered, Gateway, LogError, Partition, Stream};

/// Longer than `message.timeout.ms`, by which every delivery is reported.
const DELIVERY: Duration = Duration::from_secs(60);

/// Deliveries that one `append` waits for.
#[derive(Default)]
struct Waiting {
    state: Mutex<(usize, Option<KafkaError>)>,
    changed: Condvar,
}

struct Reports;

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Journal.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Journal.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Waiting>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Arc<Waiting>) {
        let mut state = waiting.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 -= 1;
        if let Err((e, _)) = result {
            state.1.get_or_insert(e.clone());
        }
        waiting.changed.notify_one();
    }
}

type Appender = ThreadedProducer<Reports, NoCustomPartitioner>;

/// Appends to the interactions topic and reads what is local, and the newest alerts. Other outputs are read from their topics instead
/// ([`super::Tail`]).
pub struct KafkaGateway {
    settings: KafkaSettings,
    topic: String,
    /// Replaced where it has become useless; an append keeps the one that it began with.
    producer: RwLock<Arc<Appender>>,
    states: Mutex<Vec<LocalStates>>,
    alerts: Mutex<Option<Recent>>,
}

impl KafkaGateway {
    pub fn open(settings: &KafkaSettings) -> Result<KafkaGateway, LogError> {
        settings.validate().map_err(LogError::Fatal)?;
        Ok(KafkaGateway {
            topic: settings.interactions(),
            settings: settings.clone(),
            producer: RwLock::new(Arc::new(appender(settings)?)),
            states: Mutex::default(),
            alerts: Mutex::default(),
        })
    }

    /// Lets [`Gateway::state`] see the states of a worker ([`super::KafkaLog::states`]).
    pub fn watch(&self, states: LocalStates) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).push(states);
    }

    fn failed(&self, e: &KafkaError, producer: &Arc<Appender>) -> LogError {
        match e.rdkafka_error_code() {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                LogError::Fatal(format!("no permission to write to {}; allow it to the user of log.kafka", self.topic))
            }
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                LogError::Fatal(format!("{} does not exist; run `rapport topics create`", self.topic))
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => LogError::Fatal(format!("{} takes no record of this size: {e}", self.topic)),
            _ if producer.client().fatal_error().is_some() => match self.replace(producer) {
                Ok(()) => LogError::Retriable(format!("not every record could be appended to {}: {e}; connected again", self.topic)),
                Err(e) => e,
            },
            _ => LogError::Retriable(format!("not every record could be appended to {}: {e}", self.topic)),
        }
    }
}

impl KafkaGateway {
    /// A new producer in the place of one that has met a fatal error, unless another append has done it already.
    fn replace(&self, useless: &Arc<Appender>) -> Result<(), LogError> {
        let mut current = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, useless) {
            *current = Arc::new(appender(&self.settings)?);
        }
        Ok(())
    }
}

fn appender(settings: &KafkaSettings) -> Result<Appender, LogError> {
    settings
        .appending_producer()
        .create_with_context(Reports)
        .map_err(|e| LogError::Fatal(format!("cannot create a Kafka producer from log.brokers and log.kafka: {e}")))
}

/// A record to append; the key decides about the partition where none is named.
pub struct Appended<'a> {
    pub partition: Option<Partition>,
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
}

impl KafkaGateway {
    /// Appends records as they are and blocks until every replica that must has every one.
    ///
    /// # Errors
    /// Some of the records may have been appended.
    pub fn append_raw<'a>(&self, records: impl Iterator<Item = Appended<'a>>) -> Result<(), LogError> {
        let producer = self.producer.read().unwrap_or_else(PoisonError::into_inner).clone();
        let waiting = Arc::new(Waiting::default());
        let deadline = Instant::now() + DELIVERY;
        let mut refused = None;
        for Appended { partition, key, value } in records {
            waiting.state.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
            let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.topic, waiting.clone()).payload(value);
            (record.partition, record.key) = (partition, key);
            loop {
                match producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) if Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(5));
                        record = same;
                    }
                    Err((e, _)) => {
                        waiting.state.lock().unwrap_or_else(PoisonError::into_inner).0 -= 1;
                        refused = Some(e);
                        break;
                    }
                }
            }
            if refused.is_some() {
                break;
            }
        }
        let mut state = waiting.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.0 > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LogError::Retriable(format!("{} did not confirm every record in time", self.topic)));
            }
            state = waiting.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        match refused.or(state.1.take()) {
            None => Ok(()),
            Some(e) => Err(self.failed(&e, &producer)),
        }
    }
}

impl Gateway for KafkaGateway {
    /// After an error some of the records may have been appended; a repeat of them is dropped by their ids.
    fn append(&self, records: Vec<(Box<str>, Vec<u8>)>) -> Result<(), LogError> {
        self.append_raw(records.iter().map(|(key, value)| Appended { partition: None, key: Some(key.as_bytes()), value }))
    }

    fn read(&self, stream: Stream, from: i64, max: usize) -> Result<Vec<Delivered>, LogError> {
        match (stream, &*self.recent(stream)?) {
            (Stream::Alerts, Some(recent)) => Ok(recent.read(from, max)),
            _ => Err(self.elsewhere(stream)),
        }
    }

    fn end(&self, stream: Stream) -> Result<i64, LogError> {
        match (stream, &*self.recent(stream)?) {
            (Stream::Alerts, Some(recent)) => Ok(recent.end()),
            _ => Err(self.elsewhere(stream)),
        }
    }

    fn state(&self, customer_id: &str) -> Result<Option<Vec<u8>>, LogError> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(states.iter().find_map(|s| s.find(customer_id)))
    }

    fn erase(&self, customer_id: &str) -> Result<bool, LogError> {
        let owners: Vec<LocalStates> = self.states.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut erased = false;
        for owner in owners.iter().filter(|owner| owner.find(customer_id).is_some()) {
            owner.erasures.wish(customer_id)?;
            erased = true;
        }
        Ok(erased)
    }
}

impl KafkaGateway {
    /// The newest alerts, read from the first question on.
    fn recent(&self, stream: Stream) -> Result<MutexGuard<'_, Option<Recent>>, LogError> {
        let mut recent = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        if stream == Stream::Alerts && recent.is_none() {
            *recent = Some(Recent::start(&self.settings)?);
        }
        Ok(recent)
    }

    /// A topic has an offset per partition, not one for all.
    fn elsewhere(&self, stream: Stream) -> LogError {
        let name = stream.name();
        LogError::Fatal(format!(
            "with log.kind = \"kafka\" {name} are read from the topic {}: run `rapport tail {name}` or any Kafka consumer",
            self.settings.stream(stream)
        ))
    }
}
