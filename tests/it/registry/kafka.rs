//! A swap under load on Apache Kafka: nothing is lost or scored twice, every score is that of one model or the other on the whole history, and an
//! announced bundle that is damaged changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use rapport::alert::Policies;
use rapport::engine::{Engine, EngineConfig, States};
use rapport::interaction::{DecodeOptions, Timestamp, decode};
use rapport::model::Model;

use super::{Desk, comparable, lines};
use crate::brokers::{shared, unique};
use crate::http;
use crate::process::{Process, RAPPORT, eventually, free_port};

const SOON: Duration = Duration::from_secs(60);

struct Worker {
    process: Process,
    port: u16,
}

impl Worker {
    fn start(desk: &Desk, instance: &str) -> Self {
        let port = free_port();
        let mut command = Command::new(RAPPORT);
        command.arg("serve").args(["--bind", &format!("127.0.0.1:{port}")]).env("RAPPORT_WORKER_INSTANCE", instance);
        command.current_dir(desk.dir.path()).env("RUST_BACKTRACE", "1");
        Worker { process: Process::spawn(&unique(&format!("serve-{instance}")), command, desk.dir.path()), port }
    }

    fn get(&mut self, path: &str) -> Option<String> {
        assert!(self.process.ended().is_none(), "a worker ended by itself: {}", self.process.stderr());
        let mut answer = http::agent().get(format!("http://127.0.0.1:{}{path}", self.port)).call().ok()?;
        (answer.status().as_u16() == 200).then(|| answer.body_mut().read_to_string().ok()).flatten()
    }

    fn wait_for_metric(&mut self, line: &str) {
        eventually(line, SOON, || self.get("/metrics")?.lines().any(|l| l == line).then_some(()));
    }
}

#[test]
fn a_swap_under_load_loses_nothing_and_repeats_nothing() {
    let cluster = shared();
    let desk = Desk::new();
    let prefix = unique("swap");
    let text = format!(
        "[log]\nkind = \"kafka\"\nbrokers = \"{}\"\ngroup = \"{prefix}\"\nprefix = \"{prefix}\"\n[log.kafka]\n\"session.timeout.ms\" = \"6000\"\n\
         [model]\ndir = {:?}\nregistry = {:?}\nrebuilds_per_commit = 4\n[worker]\nthreads = 1\n[state]\ndir = {:?}\n",
        cluster.brokers(),
        desk.file("a"),
        desk.file("registry"),
        desk.file("state"),
    );
    fs::write(desk.file("rapport.toml"), text).expect("a configuration");
    let created = desk.run(&["topics", "create", "--partitions", "4", "--replication-factor", "1"]);
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    let all = lines(120, 20);
    fs::write(desk.file("interactions.jsonl"), all.concat()).expect("interactions");
    let expected = ["a", "b"].map(|name| desk.expected(name));
    let versions = ["a", "b"].map(|name| desk.version(name));

    // A damaged copy whose manifest is whole, so that the announcement's hash fits.
    fs::create_dir(desk.file("damaged")).expect("a folder");
    for entry in fs::read_dir(desk.file("c")).expect("a folder").map(Result::unwrap) {
        let mut bytes = fs::read(entry.path()).expect("a file");
        if entry.file_name() == "sequence.onnx" {
            bytes.push(0);
        }
        fs::write(desk.file("damaged").join(entry.file_name()), bytes).expect("a copy");
    }

    let mut workers = ["one", "two"].map(|instance| Worker::start(&desk, instance));
    for worker in &mut workers {
        eventually("a worker is ready", SOON, || worker.get("/readyz"));
    }
    let (sent, swapped, failed) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        struct Failed<'a>(&'a AtomicBool);
        impl Drop for Failed<'_> {
            fn drop(&mut self) {
                self.0.store(std::thread::panicking(), Ordering::Relaxed);
            }
        }
        scope.spawn(|| {
            let producer: BaseProducer = cluster.client().set("enable.idempotence", "true").create().expect("a producer");
            let topic = format!("{prefix}.interactions");
            for line in &all {
                // Where the swap takes long, a third of the interactions waits for it.
                while sent.load(Ordering::Relaxed) == 1600 && !swapped.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed) {
                    producer.poll(Duration::from_millis(20));
                }
                if failed.load(Ordering::Relaxed) {
                    return;
                }
                let customer = line.split('"').nth(7).expect("a customer");
                let record = BaseRecord::<[u8], [u8]>::to(&topic).key(customer.as_bytes()).payload(line.trim_end().as_bytes());
                producer.send(record).unwrap_or_else(|(e, _)| panic!("cannot send: {e}"));
                producer.poll(Duration::ZERO);
                sent.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(2500));
            }
            producer.flush(SOON).expect("all were taken");
        });
        let _failed = Failed(&failed);
        let wait_for = |count| eventually("the feed goes on", SOON, || (sent.load(Ordering::Relaxed) >= count).then_some(()));
        wait_for(600);
        let promoted = desk.models(&["promote", "b", "--force", "a test"]);
        assert_eq!(promoted.code, Some(0), "{}", promoted.stderr);
        for worker in &mut workers {
            worker.wait_for_metric(&format!("rapport_model_info{{version=\"{}\"}} 1", versions[1]));
        }
        swapped.store(true, Ordering::Relaxed);
        announce_damaged(&desk, &prefix);
        for worker in &mut workers {
            worker.wait_for_metric("rapport_model_swaps_total{outcome=\"refused\",role=\"champion\"} 1");
            worker.wait_for_metric(&format!("rapport_model_info{{version=\"{}\"}} 1", versions[1]));
            assert!(worker.process.stderr().contains("sequence.onnx is damaged"), "{}", worker.process.stderr());
        }
    });
    cluster.wait_consumed(&prefix, &format!("{prefix}.interactions"), SOON, || {
        for worker in &mut workers {
            assert!(worker.process.ended().is_none(), "a worker ended by itself: {}", worker.process.stderr());
        }
    });
    for worker in &mut workers {
        worker.process.signal(libc::SIGTERM);
        assert_eq!(worker.process.wait(SOON).code, Some(0));
    }

    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    let mut by_model = [0, 0];
    let mut models: BTreeMap<String, usize> = BTreeMap::new();
    for record in cluster.consume_committed(&format!("{prefix}.scores")) {
        let (id, score) = comparable(&record.value.expect("a score"));
        let model = versions.iter().position(|v| score["model"] == v.as_str()).expect("one of the two");
        assert_eq!(score, expected[model][&id], "as if {} had scored all of the history", versions[model]);
        models.insert(id.clone(), model);
        *seen.entry(id).or_default() += 1;
        by_model[model] += 1;
        // In a partition's order, a customer's scores never go back to the old model.
        let customer = score["customer_id"].as_str().expect("a customer").to_owned();
        let before = last.insert(customer, model).unwrap_or(0);
        assert!(before <= model);
    }
    assert_eq!(seen.len(), all.len(), "none lost");
    assert!(seen.values().all(|n| *n == 1), "none twice");
    assert!(by_model[0] > 300 && by_model[1] > 300, "{by_model:?}");

    // Alerts are those of engines that change between the same two interactions of each customer, and no others: none from the swap alone.
    let policies = Arc::new(Policies::standard());
    let engine = |name: &str| {
        let model = Model::load(desk.file(name)).expect("a bundle");
        Engine::new(model, policies.clone(), EngineConfig::default()).expect("runs")
    };
    let (mut engines, mut states, mut raised) = (["a", "b"].map(engine), States::new(), Vec::new());
    for line in &all {
        let interaction = decode(line.trim_end().as_bytes(), DecodeOptions::default()).expect("valid").interaction;
        let effects = engines[models[&*interaction.id]].apply(&[interaction], &mut states, Timestamp(0)).expect("scored");
        // By way of the text: numbers are 32 bits wide.
        let published = |alert| serde_json::from_slice::<Value>(&serde_json::to_vec(&alert).expect("JSON")).expect("JSON");
        raised.extend(effects.alerts.into_iter().map(|(_, alert)| published(alert)));
    }
    let alerts = cluster.consume_committed(&format!("{prefix}.alerts")).into_iter();
    let mut alerts: Vec<Value> = alerts.map(|r| serde_json::from_slice(&r.value.expect("an alert")).expect("JSON")).collect();
    let key = |alert: &Value| (alert["id"].to_string(), alert["at"].to_string(), alert["state"].to_string());
    raised.sort_by_key(key);
    alerts.sort_by_key(key);
    let by = |model: usize| raised.iter().filter(|a| models[a["interaction_id"].as_str().expect("an id")] == model).count();
    assert!(by(0) > 3 && by(1) > 3, "both raise alerts: {} and {}", by(0), by(1));
    assert_eq!(alerts, raised);

    // A service without that journal, and with another champion in model.dir, follows the topic.
    fs::remove_file(desk.file("registry/registry.json")).expect("the journal");
    announce(&desk, &prefix, "b", &versions[1]);
    let mut worker = Worker::start(&desk, "one");
    worker.wait_for_metric(&format!("rapport_model_info{{version=\"{}\"}} 1", versions[1]));
}

fn announce_damaged(desk: &Desk, prefix: &str) {
    announce(desk, prefix, "damaged", &desk.version("c"));
}

/// As another version of the program, or another program, could.
fn announce(desk: &Desk, prefix: &str, name: &str, version: &str) {
    let sha256 = rapport::model::registry::manifest_hash(&desk.file(name)).expect("a manifest");
    let at = rapport::interaction::Timestamp::now().to_string();
    let value = serde_json::json!({ "version": version, "location": desk.file(name), "sha256": sha256, "at": at }).to_string();
    let producer: BaseProducer = shared().client().create().expect("a producer");
    producer.send(BaseRecord::to(&format!("{prefix}.models")).key("champion").payload(&value)).expect("taken");
    producer.flush(SOON).expect("taken");
}
