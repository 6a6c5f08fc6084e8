//! Bad records among good ones through `rapport serve`: over HTTP, in the embedded log, and in Apache Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rapport::interaction::RejectClass;
use rapport::log::embedded::Embedded;
use rapport::log::{Gateway, Stream};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use super::records::{BadRecord, bad_in_a_log, bad_values, good};
use crate::brokers::{self, unique};
use crate::process::{Process, RAPPORT, eventually, free_port, rapport};
use crate::{bundle, http};

const SOON: Duration = Duration::from_secs(120);

/// A dead letter as any log delivers it.
struct DeadLetter {
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    headers: BTreeMap<String, String>,
}

/// Everything bad, each behind a good record, and a late one last. Bad records and the ids of the good ones.
fn mixture() -> (Vec<(Option<Vec<u8>>, Vec<u8>)>, Vec<BadRecord>, BTreeSet<String>) {
    let mut bad: Vec<BadRecord> = bad_values().into_iter().chain(bad_in_a_log()).collect();
    let (mut records, mut ids) = (Vec::new(), BTreeSet::new());
    for (n, record) in bad.iter().enumerate() {
        let (customer, value) = good(n);
        records.push((Some(customer.into_bytes()), value));
        records.push((record.key.clone(), record.value.clone()));
        ids.insert(format!("good-{n}"));
    }
    let late = super::late();
    records.push((late.key.clone(), late.value.clone()));
    bad.push(late);
    (records, bad, ids)
}

/// Each bad record is one dead letter with its key, bytes, class and place; there are no others. `place` finds a record by partition and offset.
fn check(bad: &[BadRecord], letters: Vec<DeadLetter>, topic: &str, place: impl Fn(&str, &str) -> Option<(Option<Vec<u8>>, Vec<u8>)>) {
    let mut by_record: BTreeMap<(Option<Vec<u8>>, Vec<u8>), BTreeMap<String, String>> = BTreeMap::new();
    for letter in letters {
        let named = |name: &str| letter.headers.get(name).map_or("", String::as_str);
        assert_eq!(named("rapport.topic"), topic);
        let at = place(named("rapport.partition"), named("rapport.offset"));
        assert!(at == Some((letter.key.clone(), letter.value.clone())), "a dead letter names another record: {:?}", letter.headers);
        let before = by_record.insert((letter.key, letter.value), letter.headers);
        assert!(before.is_none(), "a record became two dead letters: {before:?}");
    }
    for record in bad {
        let headers =
            by_record.remove(&(record.key.clone(), record.value.clone())).unwrap_or_else(|| panic!("no dead letter for {}", record.name));
        assert_eq!(headers["rapport.error.class"], record.class.name(), "{}: {headers:?}", record.name);
        assert!(!headers["rapport.error.message"].is_empty() && headers.len() == 5, "{}: {headers:?}", record.name);
    }
    assert!(by_record.is_empty(), "good records became dead letters: {:?}", by_record.values().collect::<Vec<_>>());
}

fn scored_ids<'a>(scores: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let id = |s: &[u8]| serde_json::from_slice::<Value>(s).expect("a score")["interaction_id"].as_str().expect("an id").to_owned();
    let mut ids: Vec<String> = scores.map(id).collect();
    ids.sort();
    ids
}

/// Starts `serve` with this `[log]` and waits until it is ready. Its base address, too.
fn serve(dir: &Path, log: &str) -> (Process, String) {
    let port = free_port();
    let config = dir.join("rapport.toml");
    let model = bundle::dir();
    std::fs::write(&config, format!("{log}\n[model]\ndir = {model:?}\n[worker]\nthreads = 1\n[http]\nbind = \"127.0.0.1:{port}\"\n"))
        .unwrap();
    let mut command = Command::new(RAPPORT);
    command.args(["serve", "--config"]).arg(&config).current_dir(dir).env("RUST_BACKTRACE", "1");
    let mut process = Process::spawn("serve", command, dir);
    let url = format!("http://127.0.0.1:{port}");
    eventually("serve is ready", SOON, || {
        assert!(process.ended().is_none(), "serve ended: {}", process.stderr());
        http::agent().get(format!("{url}/readyz")).call().ok().filter(|r| r.status() == 200).map(drop)
    });
    (process, url)
}

fn stop(mut process: Process) {
    process.signal(libc::SIGTERM);
    let ended = process.wait(Duration::from_secs(40));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn embedded_log_and_http_lose_nothing_and_name_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (records, bad, mut good_ids) = mixture();
    let path = dir.path().join("log");
    // One partition: an offset is a place in `records`. A producer of the embedded log before this one wrote whatever it liked.
    Embedded::open_with(&path, 1).and_then(|log| log.append_raw(records.clone())).unwrap();

    let (process, url) = serve(dir.path(), &format!("[log]\ndir = {path:?}"));
    let (mut body, mut wrong) = (Vec::new(), Vec::new());
    for (n, record) in bad_values().into_iter().enumerate() {
        let (_, value) = good(n + 1_000);
        good_ids.insert(format!("good-{}", n + 1_000));
        for line in [&value, &record.value] {
            body.extend_from_slice(line);
            body.push(b'\n');
        }
        wrong.push((2 * n as u64 + 2, record.class.name().to_string()));
    }
    let answer = http::answer(http::agent().post(format!("{url}/v1/interactions")).send(&body[..]));
    assert_eq!(answer.code, 202, "{}", answer.body);
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer["accepted"], wrong.len());
    let errors = answer["errors"].as_array().unwrap().iter();
    let errors: Vec<_> = errors.map(|e| (e["line"].as_u64().unwrap(), e["class"].as_str().unwrap().to_string())).collect();
    assert_eq!(errors, wrong);

    let ready = eventually("every good record is scored", SOON, || {
        let scores = http::answer(http::agent().get(format!("{url}/v1/scores?from=0&limit=10000")).call());
        (scores.body.lines().count() >= good_ids.len()).then_some(scores)
    });
    assert_eq!(ready.code, 200);
    stop(process);

    let log = Embedded::open(&path).unwrap();
    let scores = log.read(Stream::Scores, 0, 100_000).unwrap();
    assert_eq!(scored_ids(scores.iter().map(|s| &s.value[..])), good_ids.into_iter().collect::<Vec<_>>());
    let letters = log.read(Stream::DeadLetters, 0, 100_000).unwrap();
    let letters = letters.into_iter().map(|d| DeadLetter { key: d.key, value: d.value, headers: d.headers.into_iter().collect() });
    check(&bad, letters.collect(), "rapport.interactions", |partition, offset| {
        assert_eq!(partition, "0");
        records.get(offset.parse::<usize>().ok()?).cloned()
    });
}

#[test]
fn kafka_loses_nothing_and_every_bad_record_is_one_dead_letter() {
    let cluster = brokers::shared();
    let dir = tempfile::tempdir().unwrap();
    let prefix = unique("bad-input");
    let topic = |name: &str| format!("{prefix}.{name}");
    let log = format!("[log]\nkind = \"kafka\"\nbrokers = {:?}\ngroup = {prefix:?}\nprefix = {prefix:?}", cluster.brokers());
    let config = dir.path().join("topics.toml").display().to_string();
    std::fs::write(&config, &log).unwrap();
    let created = rapport(dir.path(), ["topics", "create", "--config", &config, "--partitions", "2"], SOON);
    assert_eq!(created.code, Some(0), "{}", created.stderr);

    let (records, bad, good_ids) = mixture();
    // The broker judges a batch as it is sent, so that compressed even ten megabytes come through.
    let producer: BaseProducer =
        cluster.client().set("compression.type", "zstd").set("message.max.bytes", "20000000").create().expect("a producer");
    let input = topic("interactions");
    for (n, (key, value)) in records.iter().enumerate() {
        let mut record = BaseRecord::<[u8], [u8]>::to(&input).payload(value);
        // The late record has to follow those of its customer, and a key alone would not tell where the bad ones go.
        record = record.partition(key.as_ref().map_or(n as i32 % 2, |k| i32::from(k.last().is_some_and(|b| b % 2 == 1))));
        if let Some(key) = key {
            record = record.key(key);
        }
        producer.send(record).unwrap_or_else(|(e, _)| panic!("record {n}: {e}"));
        producer.flush(SOON).expect("the broker took it");
    }

    let (mut process, _) = serve(dir.path(), &log);
    cluster.wait_consumed(&prefix, &input, SOON, || assert!(process.ended().is_none(), "serve ended: {}", process.stderr()));
    stop(process);

    let scores = cluster.consume_committed(&topic("scores"));
    let scores = scores.iter().map(|s| s.value.as_deref().expect("a score"));
    assert_eq!(scored_ids(scores), good_ids.into_iter().collect::<Vec<_>>());
    let sent: BTreeMap<(String, String), _> = cluster
        .consume_committed(&input)
        .into_iter()
        .map(|r| ((r.partition.to_string(), r.offset.to_string()), (r.key, r.value.unwrap_or_default())))
        .collect();
    let letters = cluster.consume_committed(&topic("dead-letters")).into_iter();
    let letters = letters.map(|d| DeadLetter { key: d.key, value: d.value.unwrap_or_default(), headers: d.headers.into_iter().collect() });
    check(&bad, letters.collect(), &input, |partition, offset| sent.get(&(partition.into(), offset.into())).cloned());
    assert!(bad.iter().any(|r| r.class == RejectClass::Late));
}
