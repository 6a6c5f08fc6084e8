//! Where the cluster is and how the clients talk to it.
//!
//! Turns settings into librdkafka configurations, refuses properties that would break exactly-once, and hides secrets. Knows no topic's
//! content and opens no connection.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;

use crate::config::Config;
use crate::log::{LogError, Partition, Stream};

/// What `[log]`, `[log.kafka]` and `[worker] instance` say about Kafka.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `log.brokers`: comma-separated `host:port`.
    pub brokers: String,
    /// `log.group`: consumer group and first part of every transactional id.
    pub group: String,
    /// `log.prefix`: first part of every topic name, `rapport` by default.
    pub prefix: String,
    /// `worker.instance`: unique among the processes of a group and the same after a restart.
    pub instance: String,
    /// `[log.kafka]`: librdkafka properties, passed through to every client that knows them.
    pub properties: BTreeMap<String, String>,
}

/// Properties that this crate sets itself, with the reason why nobody else may.
const RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set log.brokers instead"),
    ("metadata.broker.list", "set log.brokers instead"),
    ("group.id", "set log.group instead"),
    ("group.instance.id", "set worker.instance instead"),
    ("client.id", "it is made of log.group and worker.instance"),
    ("transactional.id", "it is made of log.group and worker.instance; another would leave transactions open after a crash"),
    ("isolation.level", "only read_committed input and state give each score exactly once"),
    ("enable.auto.commit", "offsets commit with the scores, in one transaction"),
    ("enable.auto.offset.store", "offsets commit with the scores, in one transaction"),
    ("auto.offset.reset", "a new group starts at the earliest interaction; records lost to retention are reported, not skipped"),
    ("topic.auto.offset.reset", "a new group starts at the earliest interaction; records lost to retention are reported, not skipped"),
    ("enable.idempotence", "transactions need it"),
    ("acks", "transactions need acks=all"),
    ("request.required.acks", "transactions need acks=all"),
    ("enable.partition.eof", "the lag metric and the restore rely on it"),
    ("enable.gapless.guarantee", "transactions need it"),
    ("partitioner", "a customer must keep its partition whoever produces: murmur2, as Java producers do"),
];

const SECRET_WORDS: [&str; 4] = ["password", "key", "token", "secret"];

/// Properties that only a producer knows; everything that is in neither list goes to all clients.
const PRODUCER_ONLY: &[&str] = &[
    "linger.ms",
    "compression.",
    "batch.",
    "queue.buffering.",
    "transaction.",
    "retries",
    "delivery.timeout",
    "sticky.",
    "request.timeout.ms",
];
const PRODUCER_ONLY_MESSAGE: &[&str] = &["message.timeout.ms", "message.send.max.retries"];
const CONSUMER_ONLY: &[&str] = &[
    "fetch.",
    "queued.",
    "session.",
    "heartbeat.",
    "max.poll.",
    "max.partition.fetch",
    "group.",
    "partition.assignment",
    "coordinator.query",
    "check.crcs",
    "auto.commit",
    "receive.message.max",
];

fn is_any(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|p| name.starts_with(p))
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: BTreeMap<&str, &str> =
            self.properties.iter().map(|(k, v)| (k.as_str(), if is_secret(k) { "[hidden]" } else { v.as_str() })).collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("prefix", &self.prefix)
            .field("instance", &self.instance)
            .field("properties", &shown)
            .finish()
    }
}

/// Whether a property's value must not be shown: `ssl.key.password`, `sasl.password`, `ssl.key.pem`, …
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|w| name.contains(w)) || name == "sasl.oauthbearer.config" || name == "sasl.jaas.config"
}

impl From<&Config> for KafkaSettings {
    fn from(config: &Config) -> Self {
        KafkaSettings {
            brokers: config.log.brokers.clone(),
            group: config.log.group.clone(),
            prefix: config.log.prefix.clone(),
            instance: config.worker.instance.clone(),
            properties: config.log.kafka.clone(),
        }
    }
}

impl KafkaSettings {
    /// Checks everything that can be checked without a broker. `Err` is one line that names the key, the value and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        for (key, value) in
            [("log.brokers", &self.brokers), ("log.group", &self.group), ("log.prefix", &self.prefix), ("worker.instance", &self.instance)]
        {
            if value.trim().is_empty() {
                return Err(format!("{key} is empty; {}", Self::example(key)));
            }
        }
        for broker in self.brokers.split(',') {
            let port = broker.trim().rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                return Err(format!("log.brokers names {broker:?}, which is no host:port; {}", Self::example("log.brokers")));
            }
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.prefix.len() > 200 || !self.prefix.chars().all(legal) {
            return Err(format!(
                "log.prefix = {:?} cannot begin a topic name: up to 200 ASCII letters, digits, '.', '_' and '-' are right",
                self.prefix
            ));
        }
        for (name, reason) in RESERVED {
            if self.properties.contains_key(*name) {
                return Err(format!("log.kafka.\"{name}\" cannot be set: {reason}"));
            }
        }
        for (key, config) in [("consumer", self.consumer(0)), ("producer", self.transactional_producer(0))] {
            config.create_native_config().map_err(|e| match e {
                rdkafka::error::KafkaError::ClientConfig(_, reason, name, value) => {
                    let value = if is_secret(&name) { "[hidden]".to_owned() } else { format!("{value:?}") };
                    format!("log.kafka.\"{name}\" = {value} is refused by the Kafka {key}: {reason}")
                }
                other => format!("log.kafka is refused by the Kafka {key}: {other}"),
            })?;
        }
        // librdkafka finds these two only when a client is created.
        let transaction_ms = self.transaction_timeout().as_millis() as u64;
        for (name, most) in [("socket.timeout.ms", transaction_ms + 100), ("message.timeout.ms", transaction_ms)] {
            if let Some(ms) = self.properties.get(name).and_then(|ms| ms.parse::<u64>().ok()).filter(|ms| *ms > most) {
                return Err(format!(
                    "log.kafka.\"{name}\" = \"{ms}\" is longer than a transaction may take; right is at most {most}, or a longer \
                     log.kafka.\"transaction.timeout.ms\" (now {transaction_ms})"
                ));
            }
        }
        Ok(())
    }

    fn example(key: &str) -> &'static str {
        match key {
            "log.brokers" => "right is, for example, \"kafka-1:9092,kafka-2:9092\"",
            "log.group" => "right is, for example, \"rapport\"",
            "log.prefix" => "right is, for example, \"rapport\"",
            _ => "right is a name that no other process of the group has, for example \"rapport-1\"",
        }
    }

    pub fn interactions(&self) -> String {
        format!("{}.interactions", self.prefix)
    }

    pub fn state(&self) -> String {
        format!("{}.state", self.prefix)
    }

    pub fn models(&self) -> String {
        format!("{}.models", self.prefix)
    }

    pub fn stream(&self, stream: Stream) -> String {
        format!("{}.{}", self.prefix, stream.name())
    }

    /// Name of a worker slot: the same after a restart, so that a new process fences the old one and ends its transaction.
    pub(super) fn slot(&self, worker_index: usize) -> String {
        format!("{}-{}-{}", self.group, self.instance, worker_index)
    }

    /// Whether the group uses the protocol of KIP-848 (`group.protocol=consumer`).
    pub(super) fn new_protocol(&self) -> bool {
        self.properties.get("group.protocol").is_some_and(|p| p == "consumer")
    }

    fn base(&self, skip: impl Fn(&str) -> bool) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (key, value) in &self.properties {
            if !skip(key) {
                config.set(key, value);
            }
        }
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", format!("{}-{}", self.group, self.instance));
        config
    }

    fn base_consumer(&self, skip_group: bool) -> ClientConfig {
        let membership = ["group.", "session.", "heartbeat.", "partition.assignment", "max.poll.interval"];
        let mut config =
            self.base(|k| is_any(k, PRODUCER_ONLY) || PRODUCER_ONLY_MESSAGE.contains(&k) || (skip_group && is_any(k, &membership)));
        config.set("group.id", &self.group).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("isolation.level", "read_committed").set("auto.offset.reset", "error").set("enable.partition.eof", "true");
        config
    }

    /// A member of the group. Static under the classic protocol, so that a restart within `session.timeout.ms` moves no partition; not under
    /// KIP-848, where brokers refuse a killed member's name until its session ends and rebalances are incremental anyway.
    pub(super) fn consumer(&self, worker_index: usize) -> ClientConfig {
        let mut config = self.base_consumer(false);
        if !self.new_protocol() {
            config.set("group.instance.id", self.slot(worker_index));
            if !self.properties.contains_key("partition.assignment.strategy") {
                config.set("partition.assignment.strategy", "range");
            }
        }
        // 64 MB per partition by default.
        if !self.properties.contains_key("queued.max.messages.kbytes") {
            config.set("queued.max.messages.kbytes", "16384");
        }
        if !self.properties.contains_key("statistics.interval.ms") {
            config.set("statistics.interval.ms", "2000");
        }
        config
    }

    /// A reader of assigned partitions that joins no group. `committed`: whether it stops before open transactions and skips aborted ones.
    pub(super) fn reader(&self, committed: bool) -> ClientConfig {
        let mut config = self.base_consumer(true);
        // Followers may lag behind what has been measured at the leader.
        config.remove("client.rack");
        config.set("isolation.level", if committed { "read_committed" } else { "read_uncommitted" });
        // The end of a partition is reported with the fetch that finds nothing; the default makes it wait half a second.
        config.set("fetch.wait.max.ms", "50");
        config
    }

    /// After which brokers abort an open transaction: how long a dead worker can keep readers of its outputs waiting.
    pub(super) fn transaction_timeout(&self) -> Duration {
        let set = self.properties.get("transaction.timeout.ms").and_then(|ms| ms.parse().ok());
        Duration::from_millis(set.unwrap_or(15_000))
    }

    pub(super) fn transactional_producer(&self, worker_index: usize) -> ClientConfig {
        let mut config = self.base_producer();
        // Any wait here is a wait of every commit: the batch is complete when it is produced.
        config.set("linger.ms", "0");
        if !self.properties.contains_key("socket.nagle.disable") {
            config.set("socket.nagle.disable", "true");
        }
        let transaction_ms = self.transaction_timeout().as_millis() as u64;
        if !self.properties.contains_key("transaction.timeout.ms") {
            config.set("transaction.timeout.ms", transaction_ms.to_string());
        }
        // librdkafka refuses a socket time-out above the transaction's: a request could outlive it.
        if !self.properties.contains_key("socket.timeout.ms") {
            config.set("socket.timeout.ms", transaction_ms.clamp(1_000, 10_000).to_string());
        }
        config.set("transactional.id", self.slot(worker_index)).set("enable.idempotence", "true");
        config
    }

    /// Appends single records durably, outside transactions.
    pub(super) fn appending_producer(&self) -> ClientConfig {
        let mut config = self.base_producer();
        config.remove("transaction.timeout.ms");
        if !self.properties.contains_key("linger.ms") {
            config.set("linger.ms", "2");
        }
        if !self.properties.contains_key("message.timeout.ms") {
            config.set("message.timeout.ms", "30000");
        }
        config.set("enable.idempotence", "true");
        config
    }

    /// A client for topics and their settings.
    pub(super) fn admin(&self) -> ClientConfig {
        let mut config = self.base_producer();
        config.remove("partitioner");
        for key in self.properties.keys().filter(|k| is_any(k, PRODUCER_ONLY) || PRODUCER_ONLY_MESSAGE.contains(&k.as_str())) {
            config.remove(key);
        }
        config
    }

    fn base_producer(&self) -> ClientConfig {
        let mut config = self.base(|k| is_any(k, CONSUMER_ONLY));
        config.set("partitioner", "murmur2_random");
        // The broker's topic decides what is too large, not the client: a dead letter is larger than its record by its headers.
        if !self.properties.contains_key("message.max.bytes") {
            config.set("message.max.bytes", "104857600");
        }
        // Brokers measure what is sent, compressed. A producer that compresses gets ten megabytes into the input, and the dead letter
        // of such a record has to fit, too.
        if !self.properties.keys().any(|k| k == "compression.type" || k == "compression.codec") {
            config.set("compression.type", "zstd");
        }
        config
    }

    /// What to say when no broker answers.
    pub(super) fn unreachable(&self, what: &str, error: impl fmt::Display) -> LogError {
        LogError::Fatal(format!(
            "no Kafka broker answered at log.brokers = {:?} ({what}: {error}); start the brokers or correct log.brokers, and log.kafka where \
             TLS or SASL is needed",
            self.brokers
        ))
    }

    /// What to say when another process took a worker's name.
    pub(super) fn fenced(&self, error: impl fmt::Display) -> LogError {
        LogError::Fatal(format!(
            "another process has taken over worker.instance = {:?} of log.group = {:?} ({error}); give each process its own worker.instance and start again",
            self.instance, self.group
        ))
    }
}

/// `rapport.state[3]`, as messages name a partition.
pub(super) fn place(topic: &str, partition: Partition) -> String {
    format!("{topic}[{partition}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(properties: &[(&str, &str)]) -> KafkaSettings {
        KafkaSettings {
            brokers: "127.0.0.1:9092".into(),
            group: "g".into(),
            prefix: "rapport".into(),
            instance: "i".into(),
            properties: properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        }
    }

    #[test]
    fn good_settings_pass() {
        settings(&[]).validate().unwrap();
        settings(&[("session.timeout.ms", "6000"), ("compression.type", "zstd"), ("security.protocol", "ssl")]).validate().unwrap();
        settings(&[("group.protocol", "consumer")]).validate().unwrap();
        let login =
            [("security.protocol", "sasl_ssl"), ("sasl.mechanism", "SCRAM-SHA-512"), ("sasl.username", "u"), ("sasl.password", "p")];
        settings(&login).validate().unwrap();
        settings(&[("transaction.timeout.ms", "3000")]).validate().unwrap();
        settings(&[("socket.timeout.ms", "15100"), ("message.timeout.ms", "15000")]).validate().unwrap();
    }

    #[test]
    fn properties_that_break_exactly_once_are_refused_by_name() {
        for (name, _) in RESERVED {
            let message = settings(&[(*name, "x")]).validate().unwrap_err();
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn an_unknown_property_and_a_wrong_value_are_refused() {
        let message = settings(&[("sesion.timeout.ms", "6000")]).validate().unwrap_err();
        assert!(message.contains("sesion.timeout.ms"), "{message}");
        let message = settings(&[("transaction.timeout.ms", "abc")]).validate().unwrap_err();
        assert!(message.contains("transaction.timeout.ms") && message.contains("abc"), "{message}");
        for (name, value) in [("socket.timeout.ms", "20000"), ("message.timeout.ms", "15001")] {
            let message = settings(&[(name, value)]).validate().unwrap_err();
            assert!(message.contains(name) && message.contains(value) && message.contains("at most 15"), "{message}");
        }
        let message = settings(&[("security.protocol", "tls")]).validate().unwrap_err();
        assert!(message.contains("security.protocol") && message.contains("tls"), "{message}");
    }

    #[test]
    fn brokers_and_prefix_are_checked() {
        let mut s = settings(&[]);
        s.brokers = "kafka".into();
        assert!(s.validate().unwrap_err().contains("log.brokers"));
        let mut s = settings(&[]);
        s.prefix = "a b".into();
        assert!(s.validate().unwrap_err().contains("log.prefix"));
    }

    #[test]
    fn secrets_are_hidden() {
        let shown = format!("{:?}", settings(&[("sasl.password", "hunter2"), ("ssl.key.pem", "hunter2"), ("sasl.username", "ann")]));
        assert!(!shown.contains("hunter2") && shown.contains("ann"), "{shown}");
    }
}
