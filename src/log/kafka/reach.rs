//! Whether any broker can be reached. librdkafka reconnects by itself and says nothing while a topic is idle, so that a worker without brokers
//! looks like one without work; here it is asked.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::membership::Membership;
use super::settings::KafkaSettings;
use crate::log::LogError;

/// A broken connection mends itself mostly within this time.
const MENDS: Duration = Duration::from_secs(8);
/// For one question.
const QUERY: Duration = Duration::from_secs(1);
/// The same error is told once in this time; librdkafka repeats it many times a second.
const REPEAT: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Reach {
    /// When the first connection broke since a broker was heard of last.
    silent: Option<Instant>,
    told: Vec<(Option<RDKafkaErrorCode>, Instant)>,
}

impl Reach {
    /// A connection broke.
    pub fn lost(&mut self, topic: &str, error: &KafkaError) {
        let now = Instant::now();
        self.silent.get_or_insert(now);
        let code = error.rdkafka_error_code();
        self.told.retain(|(_, at)| at.elapsed() < REPEAT);
        if self.told.iter().all(|(told, _)| *told != code) {
            self.told.push((code, now));
            tracing::warn!("reading {topic}: {error}");
        }
    }

    /// A broker has answered.
    pub fn heard(&mut self) {
        self.silent = None;
    }

    /// Asks a broker where one was not heard of for a while after a connection broke. Retriable where none answers.
    pub fn check(&mut self, consumer: &BaseConsumer<Membership>, settings: &KafkaSettings, topic: &str) -> Result<(), LogError> {
        let Some(silent) = self.silent.map(|since| since.elapsed()).filter(|silent| *silent > MENDS) else { return Ok(()) };
        match consumer.fetch_metadata(Some(topic), QUERY) {
            Ok(_) => {
                self.silent = None;
                Ok(())
            }
            Err(e) => Err(LogError::Retriable(format!(
                "no Kafka broker at log.brokers = {:?} has answered for {} s: {e}",
                settings.brokers,
                silent.as_secs()
            ))),
        }
    }
}
