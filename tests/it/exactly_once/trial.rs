//! One proof: topics of its own, what `rapport score` says, workers, a feed of chosen pace, and the judge.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::sample::Line;
use crate::brokers::{Cluster, Isolation, unique};
use crate::http;
use crate::process::{Process, RAPPORT, eventually, free_port, rapport, root};

const PARTITIONS: &str = "4";

pub struct Trial<'a> {
    cluster: &'a Cluster,
    prefix: String,
    dir: tempfile::TempDir,
    lines: Vec<Line>,
    sent: AtomicUsize,
    /// Records per second; 0 pauses.
    pace: AtomicUsize,
    /// The test has failed; the feed need not go on.
    given_up: AtomicBool,
    kills: AtomicUsize,
}

/// One `rapport serve`.
pub struct Worker {
    instance: &'static str,
    port: u16,
    process: Process,
}

impl Worker {
    /// Fails the test where it has ended by itself.
    pub fn lives(&mut self) {
        assert!(self.process.ended().is_none(), "worker {} ended by itself: {}", self.instance, self.process.stderr());
    }

    /// Waits until it has its partitions and works.
    pub fn wait_ready(&mut self) {
        eventually("the worker is ready", Duration::from_secs(120), || {
            self.lives();
            let answer = http::agent().get(format!("http://127.0.0.1:{}/readyz", self.port)).call();
            answer.is_ok_and(|a| a.status().as_u16() == 200).then_some(())
        });
    }

    /// Waits until it works, then stops it in good order.
    pub fn stop(&mut self) {
        self.wait_ready();
        self.process.signal(libc::SIGTERM);
        let stopped = self.process.wait(Duration::from_secs(40));
        assert_eq!(stopped.code, Some(0), "a graceful stop ends with 0: {}", stopped.stderr);
    }
}

/// Dumps of the topics.
#[derive(Clone)]
pub struct ReadBack {
    pub scores: PathBuf,
    pub alerts: PathBuf,
    pub dead_letters: PathBuf,
    pub input: PathBuf,
}

impl<'a> Trial<'a> {
    /// Creates the topics and lets `rapport score` say what is expected.
    pub fn prepare(cluster: &'a Cluster, name: &str, lines: Vec<Line>) -> Self {
        let dir = tempfile::Builder::new().prefix(name).tempdir().expect("a folder");
        let (sent, pace, given_up, kills) = Default::default();
        let trial = Trial { cluster, prefix: unique(name), dir, lines, sent, pace, given_up, kills };
        let mut file = Vec::new();
        for line in &trial.lines {
            file.extend_from_slice(&line.value);
            file.push(b'\n');
        }
        fs::write(trial.file("interactions.jsonl"), file).expect("the interactions");
        let model = champion();
        let arguments: Vec<PathBuf> = vec!["score".into(), "--model".into(), model, "--input".into(), trial.file("interactions.jsonl")];
        let outputs = [("--output", "expected-scores"), ("--alerts", "expected-alerts"), ("--rejects", "expected-rejects")];
        let outputs = outputs.into_iter().flat_map(|(flag, name)| [flag.into(), trial.file(&format!("{name}.jsonl"))]);
        let scored = rapport(trial.dir(), arguments.into_iter().chain(outputs), Duration::from_secs(120));
        assert_eq!(scored.code, Some(0), "rapport score: {}", scored.stderr);

        let config = trial.config("topics");
        let create = ["topics", "create", "--config", &config.display().to_string(), "--partitions", PARTITIONS].map(PathBuf::from);
        let created = rapport(trial.dir(), create, Duration::from_secs(60));
        assert_eq!(created.code, Some(0), "rapport topics create: {}", created.stderr);
        trial
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// How many workers were killed inside a transaction.
    pub fn kills(&self) -> usize {
        self.kills.load(Ordering::Relaxed)
    }

    /// Starts `rapport serve` as this instance of the group.
    pub fn worker(&self, instance: &'static str) -> Worker {
        let port = free_port();
        let mut command = Command::new(RAPPORT);
        command.arg("serve").arg("--config").arg(self.config(instance)).args(["--bind", &format!("127.0.0.1:{port}")]);
        command.env("RUST_BACKTRACE", "1");
        Worker { instance, port, process: Process::spawn(&unique(&format!("serve-{instance}")), command, self.dir()) }
    }

    /// Runs `work` while every line is sent in order, keyed by customer, at [`Self::pace`].
    pub fn while_feeding(&self, work: impl FnOnce()) {
        struct GiveUp<'a>(&'a AtomicBool);
        impl Drop for GiveUp<'_> {
            fn drop(&mut self) {
                self.0.store(std::thread::panicking(), Ordering::Relaxed);
            }
        }
        std::thread::scope(|scope| {
            let feed = scope.spawn(|| self.feed());
            let guard = GiveUp(&self.given_up);
            work();
            self.pace(100_000);
            drop(guard);
            feed.join().expect("the feed");
        });
    }

    fn feed(&self) {
        let producer: BaseProducer = self.cluster.client().set("enable.idempotence", "true").create().expect("a producer");
        let topic = self.topic("interactions");
        for line in &self.lines {
            let pause = loop {
                if self.given_up.load(Ordering::Relaxed) {
                    return;
                }
                match self.pace.load(Ordering::Relaxed) {
                    0 => producer.poll(Duration::from_millis(20)),
                    pace => break Duration::from_secs(1) / pace as u32,
                };
            };
            producer.poll(Duration::ZERO);
            std::thread::sleep(pause);
            let mut record = BaseRecord::<[u8], [u8]>::to(&topic).payload(&line.value);
            if let Some(key) = &line.key {
                record = record.key(key.as_bytes());
            }
            producer.send(record).unwrap_or_else(|(e, _)| panic!("cannot send: {e}"));
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        producer.flush(Duration::from_secs(90)).expect("everything was taken by the brokers");
    }

    pub fn pace(&self, records_per_second: usize) {
        self.pace.store(records_per_second, Ordering::Relaxed);
    }

    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until so many lines were sent (or all).
    pub fn wait_for(&self, sent: usize) {
        let enough = sent.min(self.lines.len());
        eventually("the feed goes on", Duration::from_secs(120), || (self.sent() >= enough).then_some(()));
    }

    /// How many lines are still to be sent.
    pub fn left(&self) -> usize {
        self.lines.len() - self.sent()
    }

    /// Waits until the group has committed everything sent until now, by these workers.
    pub fn wait_consumed(&self, workers: &mut [&mut Worker]) {
        let topic = self.topic("interactions");
        self.cluster.wait_consumed(&self.prefix, &topic, Duration::from_secs(300), || workers.iter_mut().for_each(|w| w.lives()));
    }

    /// Waits until the group commits something from now on.
    pub fn wait_progress(&self, worker: &mut Worker) {
        let (topic, partitions) = (self.topic("interactions"), PARTITIONS.parse().expect("a number"));
        let mut before = None;
        eventually("the group commits something", Duration::from_secs(120), || {
            worker.lives();
            let now: i64 = self.cluster.committed(&self.prefix, &topic, partitions)?.iter().sum();
            (now > *before.get_or_insert(now)).then_some(())
        });
    }

    /// kill −9 at a random moment at which the worker's transaction is open at its broker and stays so: the worker is halted, so that a
    /// commit on its way would have arrived, before the broker is asked again.
    pub fn kill_inside_transaction(&self, worker: &mut Worker, rng: &mut SmallRng) {
        let id = format!("{}-{}-", self.prefix, worker.instance);
        let open = || self.cluster.open_transactions().iter().any(|open| open.starts_with(&id));
        eventually(&format!("a transaction of {} is open", worker.instance), Duration::from_secs(90), || {
            worker.lives();
            assert!(self.sent() < self.lines.len(), "the feed ended before the kills: more lines, or a slower pace");
            std::thread::sleep(Duration::from_micros(rng.random_range(0..40_000)));
            worker.process.signal(libc::SIGSTOP);
            let inside = open() && {
                std::thread::sleep(Duration::from_millis(30));
                open()
            };
            if inside {
                worker.process.kill();
                self.kills.fetch_add(1, Ordering::Relaxed);
                return Some(());
            }
            worker.process.signal(libc::SIGCONT);
            None
        });
    }

    /// What the Java client reads of every topic.
    pub fn read_back(&self) -> ReadBack {
        let dump = |name: &str| {
            let file = self.file(&format!("{name}.dump"));
            self.cluster.dump(&self.topic(name), Isolation::Committed, &file);
            file
        };
        ReadBack { scores: dump("scores"), alerts: dump("alerts"), dead_letters: dump("dead-letters"), input: dump("interactions") }
    }

    /// The judge's one line, or what it found wrong.
    pub fn judge(&self, read: &ReadBack) -> Result<String, String> {
        let mut command = Command::new("python3");
        command.arg(root().join("tests/check_exactly_once.py"));
        for name in ["expected-scores", "expected-alerts", "expected-rejects"] {
            command.arg(format!("--{name}")).arg(self.file(&format!("{name}.jsonl")));
        }
        let dumps = [("scores", &read.scores), ("alerts", &read.alerts), ("dead-letters", &read.dead_letters), ("input", &read.input)];
        for (name, file) in dumps {
            command.arg(format!("--{name}")).arg(file);
        }
        command.args(["--topic", &self.topic("interactions")]);
        let judged = Process::spawn(&unique("judge"), command, self.dir()).wait(Duration::from_secs(120));
        match judged.code {
            Some(0) => Ok(judged.stdout.trim().to_owned()),
            _ => Err(format!("{}{}", judged.stdout, judged.stderr)),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn config(&self, instance: &str) -> PathBuf {
        let file = self.file(&format!("{instance}.toml"));
        let Trial { prefix, .. } = self;
        let text = format!(
            r#"
[log]
kind = "kafka"
brokers = "{brokers}"
group = "{prefix}"
prefix = "{prefix}"

[log.kafka]
"session.timeout.ms" = "6000"
"heartbeat.interval.ms" = "1000"

[model]
dir = "{model}"

[worker]
threads = 1
instance = "{instance}"

[state]
dir = "{state}"
"#,
            brokers = self.cluster.brokers(),
            model = champion().display(),
            state = self.file(&format!("state-{instance}")).display(),
        );
        fs::write(&file, text).expect("the configuration");
        file
    }
}

/// The bundle that ships.
fn champion() -> PathBuf {
    root().join("onnx/champion")
}
