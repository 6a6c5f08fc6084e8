//! Reads an output stream back, committed records only, without joining a group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::membership::Journal;
use super::restore::reader;
use super::settings::KafkaSettings;
use super::topics;
use crate::interaction::Timestamp;
use crate::log::{Delivered, LogError, Partition, Stream};

/// A reader of all partitions of one stream. Offsets rise within a partition; records of one customer keep their order.
pub struct Tail {
    topic: String,
    consumer: BaseConsumer<Journal>,
    next: BTreeMap<Partition, i64>,
    /// Partitions whose end has been reached since their last record.
    ended: BTreeSet<Partition>,
}

impl Tail {
    /// `from_beginning`: from the oldest record on; otherwise only what comes after the call.
    pub fn open(settings: &KafkaSettings, stream: Stream, from_beginning: bool) -> Result<Tail, LogError> {
        Self::open_last(settings, stream, if from_beginning { i64::MAX } else { 0 })
    }

    /// With up to `back` records of each partition that are there already. Offsets of transactions' ends count among them.
    pub fn open_last(settings: &KafkaSettings, stream: Stream, back: i64) -> Result<Tail, LogError> {
        Self::open_at(settings, stream, &BTreeMap::new(), back)
    }

    /// From these offsets on, or the oldest records left; partitions that are not named like [`Self::open_last`].
    pub fn open_at(settings: &KafkaSettings, stream: Stream, at: &BTreeMap<Partition, i64>, back: i64) -> Result<Tail, LogError> {
        settings.validate().map_err(LogError::Fatal)?;
        let topic = settings.stream(stream);
        let consumer = reader(settings, true)?;
        let count = topics::count(settings, &consumer, &topic)?
            .ok_or_else(|| LogError::Fatal(format!("{topic} does not exist; run `rapport topics create`")))?;
        let mut list = TopicPartitionList::new();
        let mut next = BTreeMap::new();
        for partition in 0..count {
            // Numbers, not `End`: a record that comes before the first fetch must not be missed.
            let (low, high) = topics::watermarks(settings, &consumer, &topic, partition)?;
            let start = at.get(&partition).copied().unwrap_or(high.saturating_sub(back)).max(low);
            next.insert(partition, start);
            list.add_partition_offset(&topic, partition, Offset::Offset(start))
                .map_err(|e| LogError::Fatal(format!("cannot read {topic}: {e}")))?;
        }
        consumer.assign(&list).map_err(|e| LogError::Fatal(format!("cannot read {topic}: {e}")))?;
        Ok(Tail { topic, consumer, next, ended: BTreeSet::new() })
    }

    /// Offset to go on at, by partition.
    pub fn positions(&self) -> &BTreeMap<Partition, i64> {
        &self.next
    }

    /// Whether every partition has been read to its end.
    pub fn at_end(&self) -> bool {
        self.ended.len() == self.next.len()
    }

    /// The next record, or `None` if none came within `timeout` or all that is there has been read.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Delivered>, LogError> {
        let until = std::time::Instant::now() + timeout;
        loop {
            match self.consumer.poll(until.saturating_duration_since(std::time::Instant::now())) {
                Some(Ok(message)) => {
                    self.next.insert(message.partition(), message.offset() + 1);
                    self.ended.remove(&message.partition());
                    return Ok(Some(delivered(&message)));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.ended.insert(partition);
                    if self.at_end() {
                        return Ok(None);
                    }
                }
                None => {}
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                    return Err(LogError::Fatal(format!(
                        "retention has deleted records of {} before they were read; start again",
                        self.topic
                    )));
                }
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed))) => {
                    return Err(LogError::Fatal(format!("no permission to read {}; allow it to the user of log.kafka", self.topic)));
                }
                Some(Err(e)) => tracing::warn!("reading {}: {e}", self.topic),
            }
            if std::time::Instant::now() >= until {
                return Ok(None);
            }
        }
    }
}

/// A message as an output that was read back.
pub(super) fn delivered(message: &BorrowedMessage<'_>) -> Delivered {
    let headers = message.headers().map(|headers| {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        headers.iter().map(|h| (h.key.to_owned(), text(h.value))).collect()
    });
    Delivered {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().unwrap_or_default().to_vec(),
        headers: headers.unwrap_or_default(),
        logged_at: message.timestamp().to_millis().map(Timestamp::from_millis),
    }
}

/// Follows a stream until `each` returns false.
pub fn tail(
    settings: &KafkaSettings,
    stream: Stream,
    from_beginning: bool,
    mut each: impl FnMut(Delivered) -> bool,
) -> Result<(), LogError> {
    let mut tail = Tail::open(settings, stream, from_beginning)?;
    loop {
        if let Some(record) = tail.next(Duration::from_secs(1))?
            && !each(record)
        {
            return Ok(());
        }
    }
}
