//! The worker on a log that fails by a seed: what becomes visible is exactly what an undisturbed run makes visible, once.

mod simulated_log;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use rapport::alert::Policies;
use rapport::engine::{Engine, EngineConfig};
use rapport::interaction::Timestamp;
use rapport::log::{Commit, Log, LogError, Output, Partition, Polled, Readiness};
use rapport::model::Model;
use rapport::worker::{Stop, Turn, Worker, WorkerOptions, WorkerState};

use simulated_log::{CRASH, Cluster, Faults, SimulatedLog};

const PARTITIONS: usize = 4;

/// A wall clock that stands still, so that `scored_at` can be compared too.
fn clock() -> Timestamp {
    Timestamp(1_800_000_000_000_000)
}

fn worker(cluster: &Arc<Mutex<Cluster>>, index: usize, model: &Arc<Model>, batch: usize) -> Worker<SimulatedLog> {
    let engine = Engine::new(model.clone(), Arc::new(Policies::standard()), EngineConfig::default()).unwrap();
    let options = WorkerOptions { clock, ..WorkerOptions::new(index, batch, "rapport") };
    Worker::new(SimulatedLog::open(cluster, index), engine, options)
}

/// Customers who chat, buy, repeat themselves, come late and send nonsense. One of them is in two partitions.
fn input(seed: u64, records: usize) -> Vec<(usize, Option<Vec<u8>>, Vec<u8>, Timestamp)> {
    let mut random = StdRng::seed_from_u64(seed);
    let words = ["refund", "late", "thanks", "great", "broken", "again", "please", "help", "退款", "很好", "never", "order"];
    let mut earlier: Vec<(usize, Option<Vec<u8>>, Vec<u8>)> = Vec::new();
    let mut out = Vec::new();
    for i in 0..records {
        let at = Timestamp(1_700_000_000_000_000 + i as i64 * 60_000_000);
        let customer = random.random_range(0..17);
        let key = format!("c{customer}");
        // Customer 0 is written by two producers that disagree about partitions.
        let partition = if customer == 0 { random.random_range(0..2) } else { customer % PARTITIONS };
        let text = (0..random.random_range(1..9)).map(|_| *words.choose(&mut random).unwrap()).collect::<Vec<_>>().join(" ");
        let record = match random.random_range(0..20) {
            0 => (partition, None, b"{\"id\":\"no key\"}".to_vec()),
            1 => (partition, Some(key.into_bytes()), b"{not json".to_vec()),
            2 if !earlier.is_empty() => earlier.choose(&mut random).unwrap().clone(),
            kind => {
                let at = if kind == 3 { Timestamp(at.0 - 30 * Timestamp::MICROS_PER_DAY) } else { at };
                let (kind, more) = match kind {
                    4 => ("purchase", ",\"amount\":19.5,\"currency\":\"EUR\""),
                    5 => ("survey", ",\"rating\":2"),
                    _ => ("message", ""),
                };
                let json = format!(
                    "{{\"id\":\"i{i}\",\"customer_id\":\"{key}\",\"occurred_at\":\"{at}\",\"kind\":\"{kind}\",\"text\":\"{text}\"{more}}}"
                );
                (partition, Some(key.into_bytes()), json.into_bytes())
            }
        };
        earlier.push(record.clone());
        out.push((record.0, record.1, record.2, at));
    }
    out
}

/// Everything that a reader can see, by partition, and the stored states.
#[derive(Debug, PartialEq)]
struct Seen {
    outputs: Vec<[Vec<String>; 3]>,
    states: Vec<(Partition, Box<str>, Vec<u8>)>,
}

fn seen(cluster: &Cluster) -> Seen {
    fn text(o: Output) -> String {
        format!("{:?} {:?} {}", o.key, o.headers, String::from_utf8_lossy(&o.value))
    }
    fn scores(c: &Commit) -> &Vec<Output> {
        &c.scores
    }
    fn alerts(c: &Commit) -> &Vec<Output> {
        &c.alerts
    }
    fn dead_letters(c: &Commit) -> &Vec<Output> {
        &c.dead_letters
    }
    let of = |p, stream| cluster.visible(p, stream).into_iter().map(text).collect::<Vec<_>>();
    Seen {
        outputs: (0..PARTITIONS as Partition).map(|p| [of(p, scores), of(p, alerts), of(p, dead_letters)]).collect(),
        states: cluster.states().iter().map(|((p, c), s)| (*p, c.clone(), s.clone())).collect(),
    }
}

/// Runs workers in turns of a seed until all input is committed; a crashed one is replaced by a fresh one.
fn run(model: &Arc<Model>, seed: u64, workers: usize, batch: usize, faults: Faults, records: usize) -> (Seen, usize) {
    let cluster = Cluster::new(seed, PARTITIONS, workers, faults);
    for (partition, key, value, at) in input(7, records) {
        cluster.lock().unwrap().append(partition, key.as_deref(), &value, at);
    }
    let mut running: Vec<_> = (0..workers).map(|i| worker(&cluster, i, model, batch)).collect();
    let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
    let mut crashes = 0;
    for turn in 0.. {
        assert!(turn < 1_000_000, "no progress");
        if cluster.lock().unwrap().drained() {
            break;
        }
        let i = random.random_range(0..workers);
        match running[i].turn() {
            Ok(Turn::Idle | Turn::Assigned(_) | Turn::Committed(_)) | Err(LogError::Retriable(_) | LogError::Abortable(_)) => {}
            Err(LogError::Fatal(message)) => {
                assert_eq!(message, CRASH);
                crashes += 1;
                running[i] = worker(&cluster, i, model, batch);
            }
        }
    }
    let cluster = cluster.lock().unwrap();
    if faults.crash > 0.0 {
        println!("seed {seed}: {:?}", cluster.counts);
    }
    (seen(&cluster), crashes)
}

#[test]
fn faults_change_nothing_that_is_visible() {
    let model = crate::bundle::model();
    let records = 400;
    let (undisturbed, _) = run(&model, 0, 1, 64, Faults::NONE, records);
    let counts: Vec<usize> = (0..3).map(|s| undisturbed.outputs.iter().map(|p| p[s].len()).sum()).collect();
    assert!(counts[0] > 250 && counts[1] > 3 && counts[2] > 20, "scores, alerts, dead letters: {counts:?}");
    let mut crashes = 0;
    for seed in 1..=12 {
        let faults = Faults { rebalance: 0.05, retriable: 0.1, abort: 0.1, crash: 0.05 };
        let (seen, crashed) = run(&model, seed, 1 + seed as usize % 3, 1 + seed as usize * 5, faults, records);
        assert_eq!(seen.outputs, undisturbed.outputs, "seed {seed}");
        assert_eq!(seen.states, undisturbed.states, "seed {seed}");
        crashes += crashed;
    }
    assert!(crashes > 20, "only {crashes} crashes");
}

#[test]
fn a_dead_letter_says_where_it_came_from_and_keeps_the_bytes() {
    let model = crate::bundle::model();
    let cluster = Cluster::new(0, PARTITIONS, 1, Faults::NONE);
    let bad: &[u8] = b"\xff{";
    cluster.lock().unwrap().append(2, Some(b"k"), b"{", clock());
    cluster.lock().unwrap().append(2, None, bad, clock());
    let mut worker = worker(&cluster, 0, &model, 10);
    assert_eq!(worker.turn().unwrap(), Turn::Assigned(vec![0, 1, 2, 3]));
    assert_eq!(worker.turn().unwrap(), Turn::Committed(2));
    let letters = cluster.lock().unwrap().visible(2, |c| &c.dead_letters);
    assert_eq!((letters[1].key.as_deref(), letters[1].value.as_slice()), (None, bad));
    let header = |name: &str| letters[1].headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()).unwrap();
    assert_eq!(header("rapport.topic"), "rapport.interactions");
    assert_eq!(header("rapport.partition"), "2");
    assert_eq!(header("rapport.offset"), "1");
    assert_eq!(header("rapport.error.class"), "invalid_utf8");
    assert!(!header("rapport.error.message").is_empty());
    assert_eq!(letters[0].key.as_deref(), Some(b"k".as_slice()));
}

#[test]
fn a_state_that_cannot_be_read_stops_the_worker_and_names_the_customer() {
    let model = crate::bundle::model();
    let cluster = Cluster::new(0, PARTITIONS, 1, Faults::NONE);
    let json = br#"{"id":"i","customer_id":"c-9","occurred_at":"2026-01-01T00:00:00Z","kind":"visit"}"#;
    cluster.lock().unwrap().append(1, Some(b"c-9"), json, clock());
    cluster.lock().unwrap().store(1, "c-9", b"\xfe not a state");
    let mut worker = worker(&cluster, 0, &model, 10);
    worker.turn().unwrap();
    match worker.turn() {
        Err(LogError::Fatal(message)) => assert!(message.contains("\"c-9\"") && message.contains("partition 1"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(!cluster.lock().unwrap().drained());
}

/// A log that goes through what a Kafka log goes through, one step a poll.
struct ScriptedLog(std::vec::IntoIter<(Readiness, Result<Polled, LogError>)>, Readiness, Stop);

impl Log for ScriptedLog {
    fn poll(&mut self, _: usize, _: Duration) -> Result<Polled, LogError> {
        let Some((readiness, polled)) = self.0.next() else {
            self.2.request();
            return Ok(Polled::Idle);
        };
        self.1 = readiness;
        polled
    }

    fn readiness(&self) -> Readiness {
        self.1
    }

    fn load(&mut self, _: Partition, _: &str) -> Result<Option<Vec<u8>>, LogError> {
        Ok(None)
    }

    fn commit(&mut self, _: &Commit) -> Result<(), LogError> {
        Ok(())
    }

    fn lag(&mut self) -> Vec<(Partition, i64)> {
        Vec::new()
    }

    fn close(&mut self) -> Result<(), LogError> {
        Ok(())
    }
}

#[test]
fn a_worker_tells_that_it_waits_restores_works_and_fails() {
    let away = || Err(LogError::Retriable("no broker".into()));
    let script = vec![
        (Readiness::Waiting, Ok(Polled::Idle)),
        (Readiness::Restoring, Ok(Polled::Idle)),
        (Readiness::Restoring, away()),
        (Readiness::Restoring, Ok(Polled::Idle)),
        (Readiness::Ready, Ok(Polled::Assigned(vec![0, 1]))),
        (Readiness::Ready, Ok(Polled::Idle)),
        (Readiness::Ready, away()),
        (Readiness::Ready, Ok(Polled::Idle)),
        // A revocation, and one partition back.
        (Readiness::Waiting, Ok(Polled::Assigned(vec![]))),
        (Readiness::Restoring, Ok(Polled::Idle)),
        (Readiness::Ready, Ok(Polled::Assigned(vec![1]))),
    ];
    let stop = Stop::default();
    let log = ScriptedLog(script.into_iter(), Readiness::Waiting, stop.clone());
    let engine = Engine::new(crate::bundle::model(), Arc::new(Policies::standard()), EngineConfig::default()).unwrap();
    let mut told = Vec::new();
    Worker::new(log, engine, WorkerOptions::new(0, 10, "rapport")).run(&stop, |state| told.push(state)).unwrap();
    let failing = || WorkerState::Failing("no broker".into());
    let working = WorkerState::Working;
    let (waiting, restoring) = (|| WorkerState::Waiting, || WorkerState::Restoring);
    let wanted = [
        waiting(),
        restoring(),
        failing(),
        restoring(),
        working(2),
        failing(),
        working(2),
        waiting(),
        restoring(),
        working(1),
        WorkerState::Ended(None),
    ];
    assert_eq!(told, wanted);
}
