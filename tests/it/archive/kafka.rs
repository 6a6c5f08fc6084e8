//! `rapport archive` on real Kafka, with aborted transactions, repeats and rejects among what it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rapport::log::kafka::{KafkaGateway, KafkaLog, KafkaSettings};
use rapport::log::{Commit, Gateway, Log, OFFSET_HEADER, Output, Polled, Stream};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{SOON, files, flat, interactions};
use crate::brokers::unique;
use crate::http::agent;
use crate::kafka_log::{fresh, work};
use crate::process::{Finished, Process, RAPPORT, eventually, free_port, rapport};

/// Topics in which every third interaction has no score, as if it were a repeat or rejected.
pub struct Scored {
    pub settings: KafkaSettings,
    /// Ids with a score by partition, in order.
    pub ids: BTreeMap<i32, Vec<String>>,
    sent: usize,
}

impl Scored {
    pub fn new(name: &str) -> Self {
        Self { settings: fresh(name), ids: BTreeMap::new(), sent: 0 }
    }

    /// Appends interactions and scores them, in transactions of their own; and then a transaction that is aborted.
    pub fn more(&mut self, log: &mut KafkaLog, count: usize) {
        let gateway = KafkaGateway::open(&self.settings).expect("a gateway");
        let lines = (self.sent..self.sent + count).map(|i| {
            let customer = format!("c{}", i % 17);
            let line = format!(
                r#"{{"id":"i{i}","customer_id":"{customer}","occurred_at":"2026-01-20T00:00:{:02}Z","kind":"message","text":"hello {i}"}}"#,
                i % 60
            );
            (customer.into(), line.into_bytes())
        });
        gateway.append(lines.collect()).expect("appended");
        self.sent += count;
        let mut left = count;
        while left > 0 {
            let Ok(Polled::Records(records)) = log.poll(20, Duration::from_millis(200)) else { continue };
            let mut commit = Commit::default();
            for record in &records {
                commit.offsets.insert(record.partition, record.offset + 1);
                let line: serde_json::Value = serde_json::from_slice(&record.value).expect("JSON");
                let id = line["id"].as_str().expect("an id").to_owned();
                if id[1..].parse::<usize>().expect("a number") % 3 == 2 {
                    continue;
                }
                commit.scores.push(score(record.partition, record.offset, &id, &line["customer_id"]));
                self.ids.entry(record.partition).or_default().push(id);
            }
            log.commit(&commit).expect("committed");
            left -= records.len();
        }
        self.abort();
    }

    /// Scores that nobody may see.
    fn abort(&self) {
        let mut client = crate::brokers::shared().client();
        let producer: BaseProducer = client.set("transactional.id", unique("aborts")).create().expect("a producer");
        producer.init_transactions(SOON).expect("a transactional producer");
        producer.begin_transaction().expect("a transaction");
        let topic = self.settings.stream(Stream::Scores);
        for partition in 0..4 {
            let output = score(partition, 0, "aborted", &"c0".into());
            let headers = OwnedHeaders::new().insert(Header { key: OFFSET_HEADER, value: Some("0") });
            let record = BaseRecord::<[u8], [u8]>::to(&topic).partition(partition).payload(&output.value).headers(headers);
            producer.send(record).map_err(|(e, _)| e).expect("sent");
        }
        producer.flush(SOON).expect("delivered");
        producer.abort_transaction(SOON).expect("aborted");
    }

    /// A configuration that archives to `url`.
    pub fn config(&self, dir: &Path, url: &str, roll_bytes: usize) -> PathBuf {
        let KafkaSettings { brokers, prefix, .. } = &self.settings;
        let text = format!(
            "[log]\nkind = \"kafka\"\nbrokers = {brokers:?}\nprefix = {prefix:?}\ngroup = {prefix:?}\n[archive]\nurl = {url:?}\nroll_bytes = {roll_bytes}\nroll_seconds = 1\n"
        );
        let file = dir.join(format!("{}.toml", unique("archive")));
        std::fs::write(&file, text).expect("the configuration");
        file
    }

    /// The archive holds exactly the scored ones.
    pub fn check(&self, archive: &Path) {
        let (of_interactions, of_scores) = (files(archive, "interactions"), files(archive, "scores"));
        assert_eq!(flat(&of_interactions), self.ids, "interactions");
        assert_eq!(flat(&of_scores), self.ids, "scores");
        let all = interactions(archive);
        let distinct: BTreeSet<&str> = all.iter().map(|i| &*i.id).collect();
        assert_eq!((all.len(), distinct.len()), (self.ids.values().map(Vec::len).sum(), all.len()));
        assert!(all.iter().all(|i| i.text.as_deref() == Some(&format!("hello {}", &i.id[1..]))));
        for files in [of_interactions, of_scores] {
            assert!(files.values().map(Vec::len).sum::<usize>() > 8, "nothing was rolled");
        }
    }
}

fn score(partition: i32, offset: i64, id: &str, customer: &serde_json::Value) -> Output {
    let at = "2026-01-20T00:00:00Z";
    let value = serde_json::json!({"customer_id": customer, "interaction_id": id, "occurred_at": at, "scored_at": at, "model": "m",
        "intent": [{"label": "ask", "probability": 0.5}]});
    let headers = vec![(OFFSET_HEADER, offset.to_string())];
    Output { partition, key: customer.as_str().map(|c| c.as_bytes().to_vec()), value: value.to_string().into_bytes(), headers }
}

pub fn worker(settings: &KafkaSettings) -> KafkaLog {
    let mut log = KafkaLog::open(settings, 0).expect("a log");
    work(&mut log, 1, |polled, _| matches!(polled, Polled::Assigned(_)));
    log
}

pub fn archiver(dir: &Path, config: &Path, environment: &[(&str, String)]) -> Process {
    let mut command = Command::new(RAPPORT);
    command.args(["archive", "--config"]).arg(config).envs(environment.iter().map(|(k, v)| (*k, v))).env("RUST_BACKTRACE", "1");
    Process::spawn(&unique("archiver"), command, dir)
}

fn once(dir: &Path, config: &Path) -> Finished {
    rapport(dir, ["archive", "--once", "--config", config.to_str().expect("UTF-8")], SOON)
}

#[test]
fn kafkas_archive_has_each_scored_interaction_once_although_it_is_killed() {
    let seed = 11;
    let mut rng = SmallRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let mut scored = Scored::new("archive");
    let archive = dir.path().join("archive");
    let config = scored.config(dir.path(), archive.to_str().expect("UTF-8"), 3000);
    let mut log = worker(&scored.settings);
    scored.more(&mut log, 60);
    tells_how_it_stands(dir.path(), &config);
    for _ in 0..5 {
        let mut archiver = archiver(dir.path(), &config, &[]);
        let until = Instant::now() + Duration::from_millis(rng.random_range(700..2200));
        while Instant::now() < until {
            scored.more(&mut log, 60);
        }
        assert!(archiver.ended().is_none(), "the archive ended: {}", archiver.stderr());
        archiver.kill();
    }
    for _ in 0..2 {
        let Finished { code, stderr, .. } = once(dir.path(), &config);
        assert_eq!(code, Some(0), "{stderr}");
        scored.check(&archive);
    }

    // Without limits, one file a partition; and one process at a time.
    let whole = dir.path().join("whole");
    let config = scored.config(dir.path(), whole.to_str().expect("UTF-8"), 1 << 30);
    assert_eq!(once(dir.path(), &config).code, Some(0));
    let found = files(&whole, "interactions");
    assert_eq!(flat(&found), scored.ids);
    assert!(found.values().all(|files| files.len() == 1), "{found:?}");
    let lock = std::fs::File::open(whole.join(".rapport-archive.lock")).expect("the lock");
    lock.lock().expect("locked");
    let refused = once(dir.path(), &config);
    assert!(refused.code == Some(1) && refused.stderr.contains("another process archives"), "{}", refused.stderr);
}

/// `--bind` serves the archive's metrics and nothing of the API.
fn tells_how_it_stands(dir: &Path, config: &Path) {
    let bind = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(RAPPORT);
    command.args(["archive", "--bind", &bind, "--config"]).arg(config);
    let mut archiver = Process::spawn("watched-archiver", command, dir);
    let get = |path: &str| {
        let mut answer = agent().get(format!("http://{bind}{path}")).call().ok().filter(|a| a.status().as_u16() == 200)?;
        answer.body_mut().read_to_string().ok()
    };
    eventually("rows are published", SOON, || {
        assert!(archiver.ended().is_none(), "the archive ended: {}", archiver.stderr());
        let page = get("/metrics")?;
        let rows = page.lines().find_map(|l| l.strip_prefix("rapport_archive_rows_total{topic=\"scores\"} "))?;
        assert!(page.contains("\nrapport_ready 1\n") && page.contains("\nrapport_archive_lag_seconds "), "{page}");
        (rows.parse::<f64>().ok()? > 0.0).then_some(())
    });
    assert_eq!(get("/healthz").as_deref(), Some("alive\n"));
    assert!(get("/v1/scores").is_none() && get("/readyz").is_none());
    archiver.signal(libc::SIGTERM);
    assert_eq!(archiver.wait(SOON).code, Some(0), "{}", archiver.stderr());
}

#[test]
fn an_archive_of_other_topics_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut scored = Scored::new("archived-topics");
    let mut log = worker(&scored.settings);
    scored.more(&mut log, 40);
    let url = dir.path().join("archive");
    let url = url.to_str().expect("UTF-8");
    assert_eq!(once(dir.path(), &scored.config(dir.path(), url, 1 << 20)).code, Some(0));
    let refused = once(dir.path(), &Scored::new("other-topics").config(dir.path(), url, 1 << 20));
    assert!(refused.code == Some(1) && refused.stderr.contains("another topic's archive"), "{}", refused.stderr);
}
