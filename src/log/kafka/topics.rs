//! The topics: their names and shapes, creating what is missing, and saying what is wrong.

use std::future::Future;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use super::membership::Journal;
use super::restore::reader;
use super::settings::{KafkaSettings, place};
use super::transaction::Counts;
use crate::log::{LogError, Partition, Stream};

const QUERY: Duration = Duration::from_secs(10);
/// Room that a dead letter needs beyond its record, for the headers that say where it came from.
const HEADERS: i64 = 16 * 1024;
/// Largest record that a topic takes by default, in bytes.
const DEFAULT_MAX: i64 = 1_048_588;

/// One line of `rapport check` or `rapport topics create`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub good: bool,
    /// What was found and, where it is wrong, what to do.
    pub line: String,
}

impl Finding {
    fn good(line: String) -> Finding {
        Finding { good: true, line }
    }

    fn bad(line: String) -> Finding {
        Finding { good: false, line }
    }
}

/// What `rapport topics create` makes of missing topics.
#[derive(Debug, Clone, Copy)]
pub struct TopicPlan {
    /// Of interactions, state and every output; `models` has one.
    pub partitions: i32,
    /// −1: the brokers' default.
    pub replication_factor: i32,
}

struct Topic {
    name: String,
    compacted: bool,
    /// Whether it must have exactly as many partitions as the interactions.
    copartitioned: bool,
}

fn all(settings: &KafkaSettings) -> Vec<Topic> {
    let topic = |name: String, compacted: bool, copartitioned: bool| Topic { name, compacted, copartitioned };
    vec![
        topic(settings.interactions(), false, true),
        topic(settings.stream(Stream::Scores), false, false),
        topic(settings.stream(Stream::Alerts), false, false),
        topic(settings.stream(Stream::DeadLetters), false, false),
        topic(settings.stream(Stream::ScoresShadow), false, false),
        topic(settings.state(), true, true),
        topic(settings.models(), true, false),
    ]
}

/// Number of partitions of a topic; `None` if it does not exist.
pub(super) fn count(settings: &KafkaSettings, client: &BaseConsumer<Journal>, topic: &str) -> Result<Option<i32>, LogError> {
    let metadata = client.fetch_metadata(Some(topic), QUERY).map_err(|e| settings.unreachable("asking for topics", e))?;
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
    match found.error() {
        None => Ok(Some(found.partitions().len() as i32)),
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Ok(None),
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => {
            Err(LogError::Fatal(format!("no permission to see {topic}; allow it to the user of log.kafka")))
        }
        Some(e) => Err(LogError::Retriable(format!("{topic}: {}", RDKafkaErrorCode::from(e)))),
    }
}

/// First offset and the offset after the last committed record.
pub(super) fn watermarks(
    settings: &KafkaSettings,
    client: &BaseConsumer<Journal>,
    topic: &str,
    partition: Partition,
) -> Result<(i64, i64), LogError> {
    client.fetch_watermarks(topic, partition, QUERY).map_err(|e| match e.rdkafka_error_code() {
        Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
            LogError::Fatal(format!("{} does not exist; run `rapport check`", place(topic, partition)))
        }
        _ => settings.unreachable(&format!("asking for the end of {}", place(topic, partition)), e),
    })
}

/// Partition counts of the topics that a worker needs; all must exist, and input and state must have equally many.
pub(super) fn counts(settings: &KafkaSettings) -> Result<Counts, LogError> {
    let client = reader(settings, true)?;
    let need = |topic: String| {
        count(settings, &client, &topic)?.ok_or_else(|| LogError::Fatal(format!("{topic} does not exist; run `rapport topics create`")))
    };
    let counts = Counts {
        interactions: need(settings.interactions())?,
        scores: need(settings.stream(Stream::Scores))?,
        alerts: need(settings.stream(Stream::Alerts))?,
        dead_letters: need(settings.stream(Stream::DeadLetters))?,
        shadow: need(settings.stream(Stream::ScoresShadow))?,
    };
    let state = need(settings.state())?;
    if state != counts.interactions {
        return Err(LogError::Fatal(unequal(settings, counts.interactions, state)));
    }
    Ok(counts)
}

fn unequal(settings: &KafkaSettings, interactions: i32, state: i32) -> String {
    format!(
        "{} has {interactions} partitions but {} has {state}; they must be equal, because a state lies in the partition number of its input: {}",
        settings.interactions(),
        settings.state(),
        match state < interactions {
            true => format!(
                "a customer's partition depends on the count, so do not add partitions under stored states; start with a new log.prefix and \
                 `rapport topics create --partitions {interactions}`"
            ),
            false => format!("add partitions to {} only if it is still empty, or start with a new log.prefix", settings.interactions()),
        }
    )
}

/// Looks at every topic. `Err` only if no broker answers. All findings good: `serve` can start.
pub fn inspect_topics(settings: &KafkaSettings) -> Result<Vec<Finding>, LogError> {
    let client = reader(settings, true)?;
    let mut findings = Vec::new();
    let mut found = Vec::new();
    for topic in all(settings) {
        match count(settings, &client, &topic.name)? {
            None => findings.push(Finding::bad(format!("topic {} does not exist; run `rapport topics create`", topic.name))),
            Some(partitions) => {
                findings.push(Finding::good(format!("topic {} exists with {partitions} partitions", topic.name)));
                found.push((topic, partitions));
            }
        }
    }
    let of = |name: &str| found.iter().find(|(t, _)| t.name == name).map(|(_, partitions)| *partitions);
    if let (Some(interactions), Some(state)) = (of(&settings.interactions()), of(&settings.state())) {
        findings.push(match interactions == state {
            true => Finding::good(format!("{} and {} have equally many partitions", settings.interactions(), settings.state())),
            false => Finding::bad(unequal(settings, interactions, state)),
        });
    }
    findings.extend(inspect_configs(settings, &found)?);
    Ok(findings)
}

/// Clean-up policies and largest record sizes. Says so where the user may not read them.
fn inspect_configs(settings: &KafkaSettings, found: &[(Topic, i32)]) -> Result<Vec<Finding>, LogError> {
    let admin = admin(settings)?;
    let wanted: Vec<ResourceSpecifier<'_>> = found.iter().map(|(t, _)| ResourceSpecifier::Topic(&t.name)).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let options = AdminOptions::new().request_timeout(Some(QUERY));
    // Brokers have answered already; one that is away now comes back.
    let answers =
        wait(admin.describe_configs(&wanted, &options))?.map_err(|e| LogError::Retriable(format!("asking for topic settings: {e}")))?;
    let mut findings = Vec::new();
    let mut largest = Vec::new();
    for ((topic, _), answer) in found.iter().zip(answers) {
        let resource = match answer {
            Ok(resource) => resource,
            Err(e) => {
                findings.push(Finding::good(format!("topic {}: its settings cannot be read ({e}); not checked", topic.name)));
                continue;
            }
        };
        let value = |key: &str| resource.get(key).and_then(|entry| entry.value.clone());
        if let Some(policy) = value("cleanup.policy")
            && topic.compacted
        {
            findings.push(match policy.as_str() {
                "compact" => Finding::good(format!("topic {} is compacted", topic.name)),
                other => Finding::bad(format!(
                    "topic {} has cleanup.policy={other}, which loses states; right is compact: kafka-configs --alter --entity-type topics \
                     --entity-name {} --add-config cleanup.policy=compact",
                    topic.name, topic.name
                )),
            });
        }
        largest.push((topic.name.clone(), value("max.message.bytes").and_then(|v| v.parse::<i64>().ok()).unwrap_or(DEFAULT_MAX)));
    }
    let of = |name: String| largest.iter().find(|(n, _)| *n == name).map(|(_, size)| *size);
    if let (Some(input), Some(dead)) = (of(settings.interactions()), of(settings.stream(Stream::DeadLetters)))
        && dead < input + HEADERS
    {
        findings.push(Finding::bad(format!(
            "topic {} takes records of {dead} bytes, {} of {input}: a dead letter is its record and up to {HEADERS} bytes of headers; \
             kafka-configs --alter --entity-type topics --entity-name {} --add-config max.message.bytes={}",
            settings.stream(Stream::DeadLetters),
            settings.interactions(),
            settings.stream(Stream::DeadLetters),
            2 * input
        )));
    }
    Ok(findings)
}

/// `Err` with everything that is wrong, if anything is; for the start of `serve`.
pub fn verify_topics(settings: &KafkaSettings) -> Result<(), LogError> {
    let bad: Vec<String> = inspect_topics(settings)?.into_iter().filter(|f| !f.good).map(|f| f.line).collect();
    match bad.is_empty() {
        true => Ok(()),
        false => Err(LogError::Fatal(bad.join("\n"))),
    }
}

/// Creates what is missing and reports what is there; a topic with another number of partitions is a bad finding and stays as it is.
pub fn create_topics(settings: &KafkaSettings, plan: TopicPlan) -> Result<Vec<Finding>, LogError> {
    let client = reader(settings, true)?;
    let admin = admin(settings)?;
    let mut findings = Vec::new();
    let mut missing = Vec::new();
    for topic in all(settings) {
        match count(settings, &client, &topic.name)? {
            None => missing.push(topic),
            Some(partitions) if topic.copartitioned && partitions != plan.partitions => findings.push(Finding::bad(format!(
                "topic {} exists with {partitions} partitions instead of {}; run again with --partitions {partitions}, or choose another prefix",
                topic.name, plan.partitions
            ))),
            Some(partitions) => findings.push(Finding::good(format!("topic {} exists with {partitions} partitions", topic.name))),
        }
    }
    if findings.iter().any(|f| !f.good) || missing.is_empty() {
        return Ok(findings);
    }
    // Room for a dead letter that is as large as its record may be, and its headers.
    let dead_letter_max = (2 * DEFAULT_MAX).to_string();
    let wanted: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|topic| {
            let partitions = if topic.name == settings.models() { 1 } else { plan.partitions };
            let new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(plan.replication_factor));
            match (topic.compacted, topic.name == settings.stream(Stream::DeadLetters)) {
                // Small segments: the newest is never compacted, and a restore reads all of it.
                (true, _) => new.set("cleanup.policy", "compact").set("segment.bytes", "67108864"),
                (_, true) => new.set("max.message.bytes", &dead_letter_max),
                _ => new,
            }
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(QUERY)).operation_timeout(Some(QUERY));
    let answers = wait(admin.create_topics(&wanted, &options))?.map_err(|e| settings.unreachable("creating topics", e))?;
    for (answer, topic) in answers.into_iter().zip(&missing) {
        findings.push(match answer {
            Ok(name) => Finding::good(format!("topic {name} created")),
            Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => Finding::good(format!("topic {name} exists")),
            Err((name, RDKafkaErrorCode::InvalidReplicationFactor)) => Finding::bad(match plan.replication_factor {
                ..0 => format!("topic {name} was not created: the brokers' default.replication.factor is more than there are brokers"),
                n => format!("topic {name} was not created: --replication-factor {n} is more than there are brokers, or 0"),
            }),
            Err((_, e)) => Finding::bad(format!("topic {} was not created: {e}", topic.name)),
        });
    }
    // Brokers tell of a new topic a moment after its creation is acknowledged; what runs next must find it.
    let until = Instant::now() + QUERY;
    if findings.iter().all(|f| f.good) {
        for topic in &missing {
            while count(settings, &client, &topic.name)?.is_none() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    Ok(findings)
}

/// Deletes the topics, with all that is in them.
///
/// # Errors
/// What could not be deleted.
pub fn delete_topics(settings: &KafkaSettings) -> Result<(), LogError> {
    let admin = admin(settings)?;
    let topics = all(settings);
    let names: Vec<&str> = topics.iter().map(|t| t.name.as_str()).collect();
    let options = AdminOptions::new().request_timeout(Some(QUERY)).operation_timeout(Some(QUERY));
    let answers = wait(admin.delete_topics(&names, &options))?.map_err(|e| settings.unreachable("deleting topics", e))?;
    let left: Vec<String> = answers
        .into_iter()
        .filter_map(Result::err)
        // A broker that is slow about it goes on by itself.
        .filter(|(_, e)| !matches!(e, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::RequestTimedOut))
        .map(|(name, e)| format!("topic {name} was not deleted: {e}"))
        .collect();
    if left.is_empty() { Ok(()) } else { Err(LogError::Fatal(left.join("; "))) }
}

fn admin(settings: &KafkaSettings) -> Result<AdminClient<Journal>, LogError> {
    settings
        .admin()
        .create_with_context(Journal)
        .map_err(|e: KafkaError| LogError::Fatal(format!("cannot create a Kafka client from log.brokers and log.kafka: {e}")))
}

/// Waits for an answer of the admin client, which has its own thread; on a thread of its own, because the caller's may belong to a runtime.
fn wait<F: Future<Output: Send> + Send>(answer: F) -> Result<F::Output, LogError> {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| tokio::runtime::Builder::new_current_thread().build().map(|runtime| runtime.block_on(answer)));
        match waiting.join() {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(LogError::Fatal(format!("cannot wait for the brokers: {e}"))),
            Err(_) => Err(LogError::Fatal("waiting for the brokers failed".into())),
        }
    })
}
