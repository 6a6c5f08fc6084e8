//! Reads scores with their inputs out of their two topics, committed records only, without joining a group.
//!
//! Scores lead: interactions are fetched as far as a score asks for them. What comes early for other partitions is held, and a partition that
//! runs ahead is paused, so memory stays bounded. Knows records as bytes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::membership::Journal;
use super::settings::{KafkaSettings, place};
use super::tail::delivered;
use super::topics;
use crate::log::{LogError, Pairs, Partition, Position, Scored, Stream};

/// Bytes of interactions that are held for a partition before it is paused.
const HELD: usize = 1 << 20;
/// How long an interaction may be awaited whose score is there already.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a partition may have no leader at the opening.
const LEADERLESS: Duration = Duration::from_secs(10);

pub struct KafkaPairs {
    scores_topic: String,
    interactions_topic: String,
    scores: BaseConsumer<Journal>,
    interactions: BaseConsumer<Journal>,
    parts: Vec<Part>,
    /// Records that retention deleted between the positions and what is left.
    lost: u64,
    /// Since when scores have been waiting without an interaction coming.
    waiting: Option<Instant>,
}

#[derive(Default)]
struct Part {
    /// Interactions before this are not read.
    start: i64,
    /// Scores whose interaction is still to come.
    scores: VecDeque<Scored>,
    /// Interactions whose score is still to come, by offset.
    interactions: VecDeque<(i64, Vec<u8>)>,
    bytes: usize,
    paused: bool,
    ended: bool,
}

impl KafkaPairs {
    /// Starts at `positions`, in a partition that is not among them at the oldest record.
    ///
    /// # Errors
    /// Fatal: a topic is missing, the two have unequal partitions, or a position lies behind the end.
    pub fn open(settings: &KafkaSettings, positions: &BTreeMap<Partition, Position>) -> Result<Self, LogError> {
        settings.validate().map_err(LogError::Fatal)?;
        let (scores_topic, interactions_topic) = (settings.stream(Stream::Scores), settings.interactions());
        let (scores, interactions) = (follower(settings)?, follower(settings)?);
        let count = |client, topic: &str| {
            topics::count(settings, client, topic)?
                .ok_or_else(|| LogError::Fatal(format!("{topic} does not exist; run `rapport topics create`")))
        };
        let (of_scores, of_interactions) = (count(&scores, &scores_topic)?, count(&interactions, &interactions_topic)?);
        if of_scores != of_interactions {
            return Err(LogError::Fatal(format!(
                "{scores_topic} has {of_scores} partitions and {interactions_topic} has {of_interactions}; the archive needs equally many, \
                 as `rapport topics create` makes them, so that a score lies in the partition number of its interaction"
            )));
        }
        let mut pairs = Self { scores_topic, interactions_topic, scores, interactions, parts: Vec::new(), lost: 0, waiting: None };
        let (mut score_list, mut interaction_list) = (TopicPartitionList::new(), TopicPartitionList::new());
        for partition in 0..of_scores {
            let position = positions.get(&partition).copied().unwrap_or_default();
            let known = positions.contains_key(&partition);
            let mut begin = |client, topic: &str, list: &mut TopicPartitionList, from: i64| -> Result<i64, LogError> {
                let (low, high) = patiently(|| topics::watermarks(settings, client, topic, partition))?;
                let place = place(topic, partition);
                if from > high {
                    return Err(LogError::Fatal(format!(
                        "it has {place} up to offset {from}, but the topic ends at {high}: that is another topic's archive; set archive.url to a new place"
                    )));
                }
                if known && low > from {
                    pairs.lost += (low - from) as u64;
                    tracing::error!("retention deleted {place} from offset {from} to {low} before it was archived; keep it longer");
                }
                let start = from.max(low);
                list.add_partition_offset(topic, partition, Offset::Offset(start))
                    .map_err(|e| LogError::Fatal(format!("cannot read {place}: {e}")))?;
                Ok(start)
            };
            begin(&pairs.scores, &pairs.scores_topic, &mut score_list, position.score)?;
            let start = begin(&pairs.interactions, &pairs.interactions_topic, &mut interaction_list, position.input)?;
            pairs.parts.push(Part { start, ..Part::default() });
        }
        for (client, list, topic) in
            [(&pairs.scores, score_list, &pairs.scores_topic), (&pairs.interactions, interaction_list, &pairs.interactions_topic)]
        {
            client.assign(&list).map_err(|e| LogError::Fatal(format!("cannot read {topic}: {e}")))?;
        }
        Ok(pairs)
    }

    /// Records that retention had deleted before the opening.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn read_scores(&mut self, max: usize, timeout: Duration) -> Result<(), LogError> {
        let mut timeout = timeout;
        for _ in 0..max {
            match self.scores.poll(timeout) {
                None => break,
                Some(Ok(message)) => {
                    if let Some(part) = self.parts.get_mut(message.partition() as usize) {
                        part.scores.push_back(Scored::new(delivered(&message)));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if let Some(part) = self.parts.get_mut(partition as usize) {
                        part.ended = true;
                    }
                }
                Some(Err(e)) => failed(&self.scores_topic, &e)?,
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    fn read_interactions(&mut self, max: usize, timeout: Duration) -> Result<(), LogError> {
        let mut timeout = timeout;
        for _ in 0..max {
            match self.interactions.poll(timeout) {
                None => break,
                Some(Ok(message)) => {
                    let partition = message.partition();
                    let Some(part) = self.parts.get_mut(partition as usize) else { continue };
                    let value = message.payload().unwrap_or_default().to_vec();
                    part.bytes += value.len();
                    part.interactions.push_back((message.offset(), value));
                    self.waiting = None;
                    if part.bytes > HELD && part.scores.is_empty() && !part.paused {
                        part.paused = true;
                        drop(message);
                        self.flow(partition, BaseConsumer::pause, "pause")?;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(e)) => failed(&self.interactions_topic, &e)?,
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    /// Moves pairs that are complete to `found`; lets partitions that wait for interactions read on.
    fn join(&mut self, found: &mut Vec<Scored>) -> Result<(), LogError> {
        let mut resumed = Vec::new();
        for (partition, part) in self.parts.iter_mut().enumerate() {
            part.join(found);
            if part.paused && !part.scores.is_empty() {
                part.paused = false;
                resumed.push(partition as Partition);
            }
        }
        for partition in resumed {
            self.flow(partition, BaseConsumer::resume, "resume")?;
        }
        Ok(())
    }

    fn flow(
        &self,
        partition: Partition,
        call: impl Fn(&BaseConsumer<Journal>, &TopicPartitionList) -> Result<(), KafkaError>,
        what: &str,
    ) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.interactions_topic, partition);
        call(&self.interactions, &list)
            .map_err(|e| LogError::Retriable(format!("cannot {what} reading {}: {e}", place(&self.interactions_topic, partition))))
    }

    fn is_waiting(&self) -> bool {
        self.parts.iter().any(|p| !p.scores.is_empty())
    }
}

impl Part {
    fn join(&mut self, found: &mut Vec<Scored>) {
        while let Some(scored) = self.scores.front() {
            let mut input = None;
            // What lies before the start was archived before, or is gone.
            if let Some(offset) = scored.input_offset.filter(|offset| *offset >= self.start) {
                // Those without a score in between were duplicates, or not accepted.
                while self.interactions.front().is_some_and(|(at, _)| *at < offset) {
                    self.take();
                }
                match self.interactions.front() {
                    None => return,
                    Some((at, _)) if *at == offset => input = self.take(),
                    Some(_) => {}
                }
            }
            if let Some(scored) = self.scores.pop_front() {
                found.push(Scored { input, ..scored });
            }
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let (_, value) = self.interactions.pop_front()?;
        self.bytes -= value.len();
        Some(value)
    }
}

impl Pairs for KafkaPairs {
    fn next(&mut self, max: usize, timeout: Duration) -> Result<Vec<Scored>, LogError> {
        let until = Instant::now() + timeout;
        let mut found = Vec::new();
        loop {
            self.join(&mut found)?;
            let left = until.saturating_duration_since(Instant::now());
            if !found.is_empty() || left.is_zero() {
                return Ok(found);
            }
            if !self.is_waiting() {
                self.waiting = None;
                self.read_scores(max, left)?;
                continue;
            }
            let since = *self.waiting.get_or_insert_with(Instant::now);
            if since.elapsed() > PATIENCE {
                self.waiting = None;
                return Err(LogError::Retriable(format!(
                    "interactions of {} do not come although their scores are there",
                    self.interactions_topic
                )));
            }
            self.read_interactions(max, left)?;
        }
    }

    fn at_end(&self) -> bool {
        self.parts.iter().all(|p| p.ended && p.scores.is_empty())
    }
}

/// Asks again for some seconds: a partition that was just created, or whose broker has just died, has no leader for a moment.
fn patiently<T>(ask: impl Fn() -> Result<T, LogError>) -> Result<T, LogError> {
    let until = Instant::now() + LEADERLESS;
    loop {
        match ask() {
            Err(e) if Instant::now() < until => {
                tracing::debug!("{e}; asking again");
                std::thread::sleep(Duration::from_millis(200));
            }
            answer => return answer,
        }
    }
}

/// A client that reads assigned partitions and joins no group.
fn follower(settings: &KafkaSettings) -> Result<BaseConsumer<Journal>, LogError> {
    let mut config = settings.reader(true);
    // It follows for ever: an idle fetch every half second is often enough. And 16 MB are read ahead at most, not 64.
    config.set("fetch.wait.max.ms", "500");
    if config.get("queued.max.messages.kbytes").is_none() {
        config.set("queued.max.messages.kbytes", "16384");
    }
    config
        .create_with_context(Journal)
        .map_err(|e| LogError::Fatal(format!("cannot create a Kafka reader from log.brokers and log.kafka: {e}")))
}

fn failed(topic: &str, e: &KafkaError) -> Result<(), LogError> {
    match e {
        KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => {
            Err(LogError::Retriable(format!("retention has deleted records of {topic} before they were read")))
        }
        KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            Err(LogError::Fatal(format!("no permission to read {topic}; allow it to the user of log.kafka")))
        }
        e => {
            tracing::warn!("reading {topic}: {e}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(offset: i64, input_offset: Option<i64>) -> Scored {
        Scored { partition: 0, offset, score: Vec::new(), input_offset, input: None }
    }

    #[test]
    fn a_score_gets_its_own_interaction_or_none() {
        let mut part = Part { start: 10, ..Part::default() };
        for at in [10, 11, 12, 15] {
            part.interactions.push_back((at, vec![at as u8; 3]));
            part.bytes += 3;
        }
        // Archived before, without an offset, one after a repeat, one that is gone, one still to come.
        part.scores.extend([
            score(0, Some(4)),
            score(1, None),
            score(2, Some(11)),
            score(4, Some(13)),
            score(5, Some(15)),
            score(6, Some(16)),
        ]);
        let mut found = Vec::new();
        part.join(&mut found);
        let inputs: Vec<_> = found.iter().map(|s| (s.offset, s.input.as_ref().map(|i| i[0]))).collect();
        assert_eq!(inputs, [(0, None), (1, None), (2, Some(11)), (4, None), (5, Some(15))]);
        assert_eq!((part.scores.len(), part.interactions.len(), part.bytes), (1, 0, 0));
    }
}
