//! The Kafka log against real brokers: what commits is visible once and whole, what does not is not visible at all, and states follow
//! their partitions.
//!
//! The worker of these tests counts: a customer's state is the number of its interactions so far, and each score is `id=count`. So a lost,
//! repeated or wrongly restored record shows as a wrong count.

mod child;
mod commits;
mod moves;
mod topics;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rapport::log::kafka::{KafkaGateway, KafkaLog, KafkaSettings, TopicPlan, create_topics};
use rapport::log::{Commit, Gateway, Log, LogError, Output, Polled, Record, StateChange, Stream};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::brokers;
use crate::process::eventually;

/// Short sessions, so that tests need not wait for the death of a member.
pub fn settings(name: &str, instance: &str) -> KafkaSettings {
    let mut properties = BTreeMap::new();
    for (key, value) in [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500"), ("transaction.timeout.ms", "10000")] {
        properties.insert(key.to_owned(), value.to_owned());
    }
    KafkaSettings { brokers: brokers::shared().brokers(), group: name.into(), prefix: name.into(), instance: instance.into(), properties }
}

/// Topics of 4 partitions under a name of their own.
pub fn fresh(name: &str) -> KafkaSettings {
    let settings = settings(&brokers::unique(name), "a");
    create(&settings);
    settings
}

pub fn create(settings: &KafkaSettings) {
    let findings = create_topics(settings, TopicPlan { partitions: 4, replication_factor: 1 }).expect("topics");
    assert!(findings.iter().all(|f| f.good), "{findings:?}");
}

/// `count` interactions of ten customers, ids from `first` on, appended through the gateway.
pub fn append(settings: &KafkaSettings, first: usize, count: usize) {
    let gateway = KafkaGateway::open(settings).expect("a gateway");
    let records = (first..first + count).map(|i| (format!("c-{}", i % 10).into(), format!("i-{i}").into_bytes())).collect();
    gateway.append(records).expect("appended");
}

/// The commit of a counting worker.
pub fn count(log: &mut KafkaLog, records: &[Record]) -> Commit {
    let mut commit = Commit::default();
    let mut counts: HashMap<(i32, String), u64> = HashMap::new();
    for record in records {
        commit.offsets.insert(record.partition, record.offset + 1);
        let customer = String::from_utf8(record.key.clone().expect("a key")).expect("a customer");
        let count = counts.entry((record.partition, customer.clone())).or_insert_with(|| {
            let stored = log.load(record.partition, &customer).expect("a state");
            stored.map_or(0, |s| String::from_utf8(s).expect("digits").parse().expect("a count"))
        });
        *count += 1;
        let id = String::from_utf8(record.value.clone()).expect("an id");
        commit.scores.push(Output {
            partition: record.partition,
            key: record.key.clone(),
            value: format!("{id}={count}").into_bytes(),
            headers: vec![],
        });
    }
    for ((partition, customer), count) in counts {
        commit.states.push(StateChange { partition, customer_id: customer.into(), state: Some(count.to_string().into_bytes()) });
    }
    commit
}

/// Polls and commits until `enough` says so; fails after three minutes. Returns the records committed here.
pub fn work(log: &mut KafkaLog, batch: usize, mut enough: impl FnMut(&Polled, usize) -> bool) -> usize {
    let until = Instant::now() + Duration::from_secs(180);
    let mut done = 0;
    loop {
        assert!(Instant::now() < until, "only {done} records were committed in time");
        let Some(polled) = poll(log, batch, Duration::from_millis(200)) else { continue };
        if let Polled::Records(records) = &polled {
            let commit = count(log, records);
            loop {
                match log.commit(&commit) {
                    Ok(()) => done += records.len(),
                    Err(LogError::Abortable(reason)) => eprintln!("aborted: {reason}"),
                    Err(LogError::Retriable(reason)) => {
                        eprintln!("again: {reason}");
                        continue;
                    }
                    Err(e) => panic!("{e}"),
                }
                break;
            }
        }
        if enough(&polled, done) {
            return done;
        }
    }
}

/// Polls once; `None` where that has to be done again.
pub fn poll(log: &mut KafkaLog, max: usize, timeout: Duration) -> Option<Polled> {
    match log.poll(max, timeout) {
        Ok(polled) => Some(polled),
        Err(LogError::Retriable(reason)) => {
            eprintln!("again: {reason}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// Polls until records come.
pub fn wait_records(log: &mut KafkaLog, max: usize) -> Vec<Record> {
    eventually("records", Duration::from_secs(60), || match poll(log, max, Duration::from_secs(1)) {
        Some(Polled::Records(records)) => Some(records),
        _ => None,
    })
}

/// Polls until these partitions are owned.
pub fn wait_assigned(log: &mut KafkaLog, wanted: &[i32]) {
    eventually(&format!("partitions {wanted:?}"), Duration::from_secs(60), || match poll(log, 1, Duration::from_millis(200)) {
        Some(Polled::Assigned(partitions)) if partitions == wanted => Some(()),
        Some(Polled::Records(records)) => panic!("unexpected records {records:?}"),
        _ => None,
    });
}

/// Leaves the group. On a busy machine that may take longer than the log waits; the member is left behind then.
pub fn close(mut log: KafkaLog) {
    match log.close() {
        Ok(()) => {}
        Err(LogError::Retriable(reason)) => eprintln!("closing: {reason}"),
        Err(e) => panic!("{e}"),
    }
}

/// All committed values of a topic by partition, through a consumer that shares nothing with the log but librdkafka.
pub fn committed(settings: &KafkaSettings, topic: &str) -> Vec<(i32, Option<Vec<u8>>, Option<Vec<u8>>)> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &settings.brokers).set("group.id", "reader").set("enable.auto.commit", "false");
    client.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = client.create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("metadata");
    let mut open: Vec<i32> = (0..metadata.topics()[0].partitions().len() as i32).collect();
    let mut list = TopicPartitionList::new();
    for &p in &open {
        list.add_partition_offset(topic, p, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&list).expect("assigned");
    let mut records = Vec::new();
    let until = Instant::now() + Duration::from_secs(30);
    while !open.is_empty() {
        assert!(Instant::now() < until, "{topic} has no end ({})", settings.prefix);
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(m)) => records.push((m.partition(), m.key().map(<[u8]>::to_vec), m.payload().map(<[u8]>::to_vec))),
            Some(Err(KafkaError::PartitionEOF(p))) => open.retain(|&o| o != p),
            _ => {}
        }
    }
    records
}

/// Every id of `0..n` has exactly one committed score, and each customer's counts run 1, 2, 3 … in order.
pub fn assert_counted_once(settings: &KafkaSettings, n: usize) {
    let scores = committed(settings, &settings.stream(Stream::Scores));
    assert_scores_counted_once(scores.into_iter().map(|(_, key, value)| (key.expect("a key"), value.expect("a value"))), n);
}

pub fn assert_scores_counted_once(scores: impl Iterator<Item = (Vec<u8>, Vec<u8>)>, n: usize) {
    let mut seen = vec![0; n];
    let mut last: HashMap<Vec<u8>, u64> = HashMap::new();
    for (key, value) in scores {
        let text = String::from_utf8(value).expect("text");
        let (id, count) = text.split_once('=').expect("id=count");
        seen[id.trim_start_matches("i-").parse::<usize>().expect("a number")] += 1;
        let last = last.entry(key).or_default();
        *last += 1;
        assert_eq!(count.parse::<u64>().expect("a count"), *last, "the state did not follow: {text}");
    }
    let wrong: Vec<_> = seen.iter().enumerate().filter(|(_, times)| **times != 1).collect();
    assert!(wrong.is_empty(), "not exactly once (id, times): {wrong:?}");
}
