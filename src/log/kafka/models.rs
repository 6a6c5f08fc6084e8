//! The models topic: the newest announcement of every role, by key.
//!
//! Knows keys and bytes; what an announcement says is the caller's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::membership::Journal;
use super::restore::reader;
use super::settings::KafkaSettings;
use super::topics;
use crate::log::LogError;

/// How long an announcement may take to be durable.
const DELIVERY: Duration = Duration::from_secs(30);
/// How long reading to the end may take at the start.
const START: Duration = Duration::from_secs(30);

/// Writes one announcement and returns once it is durable.
///
/// # Errors
/// No broker, no topic, no permission.
pub fn announce(settings: &KafkaSettings, key: &str, value: &[u8]) -> Result<(), LogError> {
    settings.validate().map_err(LogError::Fatal)?;
    let topic = settings.models();
    let client = reader(settings, true)?;
    if topics::count(settings, &client, &topic)?.is_none() {
        return Err(LogError::Fatal(format!("{topic} does not exist; run `rapport topics create`")));
    }
    let producer: BaseProducer = settings
        .appending_producer()
        .create()
        .map_err(|e| LogError::Fatal(format!("cannot create a Kafka producer from log.brokers and log.kafka: {e}")))?;
    let failed = |e: KafkaError| LogError::Fatal(format!("cannot announce on {topic}: {e}"));
    producer.send(BaseRecord::to(&topic).partition(0).key(key.as_bytes()).payload(value)).map_err(|(e, _)| failed(e))?;
    producer.flush(DELIVERY).map_err(failed)
}

/// A reader of the models topic.
pub struct ModelsTopic {
    topic: String,
    consumer: BaseConsumer<Journal>,
    newest: BTreeMap<String, Vec<u8>>,
}

impl ModelsTopic {
    /// Reads what is there.
    ///
    /// # Errors
    /// No broker, no topic, or its end was not reached within half a minute.
    pub fn open(settings: &KafkaSettings) -> Result<Self, LogError> {
        settings.validate().map_err(LogError::Fatal)?;
        let topic = settings.models();
        let consumer = reader(settings, true)?;
        if topics::count(settings, &consumer, &topic)?.is_none() {
            return Err(LogError::Fatal(format!("{topic} does not exist; run `rapport topics create`")));
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Beginning)
            .and_then(|()| consumer.assign(&list))
            .map_err(|e| LogError::Fatal(format!("cannot read {topic}: {e}")))?;
        let mut models = Self { topic, consumer, newest: BTreeMap::new() };
        let until = Instant::now() + START;
        while !models.step(Duration::from_millis(500))? {
            if Instant::now() > until {
                return Err(LogError::Fatal(format!("the end of {} was not reached within {START:?}", models.topic)));
            }
        }
        Ok(models)
    }

    /// The newest announcement by key, with what comes within `timeout`.
    ///
    /// # Errors
    /// No permission.
    pub fn newest(&mut self, timeout: Duration) -> Result<&BTreeMap<String, Vec<u8>>, LogError> {
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            self.step(left)?;
            if left.is_zero() {
                return Ok(&self.newest);
            }
        }
    }

    /// Takes one record in; true at the end of the topic.
    fn step(&mut self, timeout: Duration) -> Result<bool, LogError> {
        match self.consumer.poll(timeout) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(true),
            Some(Ok(message)) => {
                if let Some(Ok(key)) = message.key().map(std::str::from_utf8) {
                    match message.payload() {
                        Some(value) => self.newest.insert(key.to_owned(), value.to_vec()),
                        None => self.newest.remove(key),
                    };
                }
            }
            // Connections come and go; librdkafka goes on by itself.
            Some(Err(e)) => tracing::warn!("reading {}: {e}", self.topic),
        }
        Ok(false)
    }
}
