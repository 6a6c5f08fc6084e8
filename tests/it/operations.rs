//! `rapport dead-letters` and `rapport erase`, on the embedded log stopped and running, and on Apache Kafka.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rapport::log::embedded::Embedded;
use rapport::log::{Gateway, Stream};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use crate::brokers::{self, unique};
use crate::process::{Finished, Process, RAPPORT, eventually, free_port, rapport};
use crate::{bundle, http};

const SOON: Duration = Duration::from_secs(120);

/// A directory with a configuration; the service that it is of runs or not.
struct Place {
    dir: tempfile::TempDir,
    url: String,
}

impl Place {
    /// With this `[log]`.
    fn new(log: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let log = log(dir.path());
        let text = format!("{log}\n[model]\ndir = {:?}\n[worker]\nthreads = 2\n[http]\nbind = \"127.0.0.1:{port}\"\n", bundle::dir());
        std::fs::write(dir.path().join("rapport.toml"), text).unwrap();
        Self { dir, url: format!("http://127.0.0.1:{port}") }
    }

    fn embedded() -> Self {
        Self::new(|dir| format!("[log]\ndir = {:?}", dir.join("log")))
    }

    fn log(&self) -> Embedded {
        Embedded::open_with(&self.dir.path().join("log"), 2).unwrap()
    }

    fn serve(&self) -> Process {
        let mut command = Command::new(RAPPORT);
        command.args(["serve", "--config", "rapport.toml"]).current_dir(self.dir.path()).env("RUST_BACKTRACE", "1");
        let mut process = Process::spawn(&unique("serve"), command, self.dir.path());
        eventually("serve is ready", SOON, || {
            assert!(process.ended().is_none(), "serve ended: {}", process.stderr());
            (self.get("/readyz").0 == 200).then_some(())
        });
        process
    }

    fn stop(process: Process) {
        let mut process = process;
        process.signal(libc::SIGTERM);
        let ended = process.wait(SOON);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }

    fn get(&self, path: &str) -> (u16, String) {
        match http::agent().get(format!("{}{path}", self.url)).call() {
            Ok(response) => {
                let answer = http::answer(Ok(response));
                (answer.code, answer.body)
            }
            Err(_) => (0, String::new()),
        }
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let config = self.dir.path().join("rapport.toml");
        rapport(self.dir.path(), arguments.iter().copied().chain(["--config", config.to_str().unwrap()]), SOON)
    }

    /// Runs a command that must succeed, and its lines of JSON.
    #[track_caller]
    fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        let done = self.run(arguments);
        assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    fn scored(&self) -> usize {
        self.get("/v1/scores?from=0&limit=10000").1.lines().count()
    }
}

fn message(id: &str, customer: &str, at: &str) -> (Option<Vec<u8>>, Vec<u8>) {
    let value = format!(r#"{{"id":"{id}","customer_id":"{customer}","occurred_at":"{at}","kind":"message","text":"please help"}}"#);
    (Some(customer.into()), value.into_bytes())
}

/// Two good records of one customer, one of another; no JSON, no UTF-8, and one without a key.
fn mixture() -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
    let good = message("i-1", "ann/ü", "2026-01-20T00:00:00Z");
    let (_, keyless) = message("i-3", "bob", "2026-01-20T00:00:00Z");
    vec![
        good,
        (Some(b"bob".to_vec()), b"{\"no json".to_vec()),
        message("i-2", "ann/ü", "2026-01-20T00:01:00Z"),
        (Some(b"bob".to_vec()), b"\xff\xfe".to_vec()),
        (None, keyless),
        message("i-4", "bob", "2026-01-20T00:00:00Z"),
    ]
}

fn classes(lines: &[Value]) -> Vec<&str> {
    let mut classes: Vec<&str> = lines.iter().map(|l| l["class"].as_str().unwrap()).collect();
    classes.sort_unstable();
    classes
}

#[test]
fn dead_letters_of_a_stopped_embedded_log_are_listed_and_put_back_as_they_were() {
    let place = Place::embedded();
    let nowhere = place.run(&["dead-letters", "list"]);
    assert!(nowhere.code == Some(2) && nowhere.stderr.contains("there is no embedded log in"), "{}", nowhere.stderr);
    place.log().append_raw(mixture()).unwrap();
    let process = place.serve();
    eventually("all is scored", SOON, || (place.scored() == 3).then_some(()));
    // While it runs, over HTTP.
    let running = place.lines(&["dead-letters", "list"]);
    Place::stop(process);

    let all = place.lines(&["dead-letters", "list"]);
    assert_eq!(classes(&all), ["invalid_utf8", "key_mismatch", "malformed_json"]);
    assert_eq!(classes(&running), classes(&all));
    let of = |class: &str| all.iter().find(|l| l["class"] == class).unwrap();
    let broken = of("malformed_json");
    assert_eq!((&broken["topic"], &broken["key"], &broken["raw"]), (&"rapport.interactions".into(), &"bob".into(), &"{\"no json".into()));
    assert!(broken["offset"].is_u64() && broken["partition"].is_u64() && broken["message"].is_string() && broken["logged_at"].is_string());
    assert_eq!((&of("invalid_utf8")["raw_base64"], &broken["raw_base64"]), (&"//4=".into(), &Value::Null));
    assert_eq!(of("key_mismatch")["key"], Value::Null);

    assert_eq!(place.lines(&["dead-letters", "list", "--limit", "2"]).len(), 2);
    assert_eq!(place.lines(&["dead-letters", "list", "--since", "2100-01-01T00:00:00Z"]).len(), 0);
    assert_eq!(
        place.lines(&["dead-letters", "list", "--since", broken["logged_at"].as_str().unwrap(), "--class", "malformed_json"]).len(),
        1
    );
    let unknown = place.run(&["dead-letters", "list", "--class", "broken"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("malformed_json"), "{}", unknown.stderr);

    // What was refused is refused again, byte for byte; nothing else is touched.
    let chosen = ["dead-letters", "replay", "--class", "invalid_utf8", "--class", "key_mismatch"];
    let dry = place.lines(&[&chosen[..], &["--dry-run"]].concat());
    let process = place.serve();
    Place::stop(process);
    assert_eq!(place.lines(&["dead-letters", "list"]), all, "a dry run puts nothing back");
    assert_eq!(place.lines(&chosen), dry);
    let process = place.serve();
    eventually("it is refused again", SOON, || (place.lines(&["dead-letters", "list"]).len() == 5).then_some(()));
    Place::stop(process);
    let letters = place.log().read(Stream::DeadLetters, 0, 100).unwrap();
    let kept = |letter: &rapport::log::Delivered| (letter.key.clone(), letter.value.clone());
    assert_eq!(
        letters[3..].iter().map(kept).collect::<std::collections::BTreeSet<_>>(),
        [(Some(b"bob".to_vec()), b"\xff\xfe".to_vec()), mixture()[4].clone()].into()
    );
}

#[test]
fn a_running_service_takes_back_what_it_would_now_accept() {
    let place = Place::embedded();
    // Ten days late: refused under the default, accepted where a month is allowed.
    let late = message("late", "ann", "2026-01-10T00:00:00Z");
    place.log().append_raw(vec![message("now", "ann", "2026-01-20T00:00:00Z"), late.clone(), (None, b"{".to_vec())]).unwrap();
    let process = place.serve();
    eventually("it is refused", SOON, || (place.lines(&["dead-letters", "list"]).len() == 2).then_some(()));
    Place::stop(process);
    let config = place.dir.path().join("rapport.toml");
    let text = std::fs::read_to_string(&config).unwrap() + "[state]\nallowed_lateness = \"30d\"\n";
    std::fs::write(&config, text).unwrap();
    let process = place.serve();
    let done = place.run(&["dead-letters", "replay"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let put_back: Vec<Value> = done.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(classes(&put_back), ["late"], "{}", done.stderr);
    assert!(done.stderr.contains("not put back: offset") && done.stderr.contains("malformed_json"), "{}", done.stderr);
    eventually("it is scored now", SOON, || (place.scored() == 2).then_some(()));
    Place::stop(process);
}

#[test]
fn an_erased_customer_is_a_new_one() {
    let place = Place::embedded();
    place.log().append_raw(mixture()).unwrap();
    let process = place.serve();
    eventually("all is scored", SOON, || (place.scored() == 3).then_some(()));
    let ann = "/v1/customers/ann%2F%C3%BC";
    assert!(place.get(ann).1.contains("\"interactions\":2"), "{}", place.get(ann).1);

    // Running: the worker, which has the state in its cache, does it.
    let done = place.run(&["erase", "--customer", "ann/ü"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(place.get(ann).0, 404);
    let again = place.run(&["erase", "--customer", "ann/ü"]);
    assert!(again.code == Some(1) && again.stderr.contains("nothing is known of customer"), "{}", again.stderr);
    // The repeat of an id is none to somebody who is new.
    let (_, repeat) = message("i-2", "ann/ü", "2026-01-20T00:01:00Z");
    let answer = http::answer(http::agent().post(format!("{}/v1/interactions", place.url)).send(&repeat[..]));
    assert_eq!(answer.code, 202, "{}", answer.body);
    eventually("it is scored as the first", SOON, || place.get(ann).1.contains("\"interactions\":1").then_some(()));
    assert!(place.get("/v1/customers/bob").1.contains("\"interactions\":1"), "others stay");
    Place::stop(process);

    // Stopped.
    assert_eq!(place.run(&["erase", "--customer", "ann/ü"]).code, Some(0));
    assert!(place.log().state("ann/ü").unwrap().is_none() && place.log().state("bob").unwrap().is_some());
    assert_eq!(place.run(&["erase", "--customer", "ann/ü"]).code, Some(1));
}

#[test]
fn kafka_puts_dead_letters_back_and_forgets_a_customer_for_good() {
    let cluster = brokers::shared();
    let prefix = unique("operations");
    let place =
        Place::new(|_| format!("[log]\nkind = \"kafka\"\nbrokers = {:?}\ngroup = {prefix:?}\nprefix = {prefix:?}", cluster.brokers()));
    let created = place.run(&["topics", "create", "--partitions", "2"]);
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    let producer: BaseProducer = cluster.client().create().unwrap();
    let input = format!("{prefix}.interactions");
    let send = |(key, value): (Option<Vec<u8>>, Vec<u8>), partition: i32| {
        let mut record = BaseRecord::<[u8], [u8]>::to(&input).payload(&value).partition(partition);
        if let Some(key) = &key {
            record = record.key(key);
        }
        producer.send(record).map_err(|(e, _)| e).unwrap();
        producer.flush(SOON).unwrap();
    };
    // By hand, so that no partitioner would find the same places.
    for (n, record) in mixture().into_iter().enumerate() {
        send(record, i32::from(n % 2 == 1));
    }
    let scored = || cluster.consume_committed(&format!("{prefix}.scores")).len();
    let mut process = place.serve();
    cluster.wait_consumed(&prefix, &input, SOON, || assert!(process.ended().is_none(), "serve ended: {}", process.stderr()));

    let all = place.lines(&["dead-letters", "list"]);
    assert_eq!(classes(&all), ["invalid_utf8", "key_mismatch", "malformed_json"]);
    let chosen = ["dead-letters", "replay", "--class", "invalid_utf8"];
    assert_eq!(place.lines(&[&chosen[..], &["--dry-run"]].concat()).len(), 1);
    assert_eq!(place.lines(&chosen).len(), 1);
    cluster.wait_consumed(&prefix, &input, SOON, || assert!(process.ended().is_none(), "serve ended: {}", process.stderr()));
    let after = place.lines(&["dead-letters", "list"]);
    assert_eq!(classes(&after), ["invalid_utf8", "invalid_utf8", "key_mismatch", "malformed_json"]);
    let twins: Vec<_> = after.iter().filter(|l| l["class"] == "invalid_utf8").collect();
    for key in ["partition", "key", "raw_base64"] {
        assert_eq!(twins[0][key], twins[1][key], "{key}");
    }
    assert_ne!(twins[0]["offset"], twins[1]["offset"]);

    let ann = "/v1/customers/ann%2F%C3%BC";
    assert!(place.get(ann).1.contains("\"interactions\":2"), "{}", place.get(ann).1);
    let before = scored();
    let done = place.run(&["erase", "--customer", "ann/ü"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(place.get(ann).0, 404);
    let nobody = place.run(&["erase", "--customer", "nobody"]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("by --url"), "{}", nobody.stderr);
    // For good: a process that restores the states finds none.
    Place::stop(process);
    let mut process = place.serve();
    assert_eq!((place.get(ann).0, place.get("/v1/customers/bob").0), (404, 200));
    send(message("i-1", "ann/ü", "2026-01-20T00:00:00Z"), 0);
    cluster.wait_consumed(&prefix, &input, SOON, || assert!(process.ended().is_none(), "serve ended: {}", process.stderr()));
    assert!(place.get(ann).1.contains("\"interactions\":1"), "{}", place.get(ann).1);
    assert_eq!(scored(), before + 1);
    Place::stop(process);
}

#[test]
fn a_bench_measures_with_and_without_a_swap() {
    let (dir, cluster) = (tempfile::tempdir().unwrap(), brokers::shared());
    let small = ["--customers", "40", "--interactions", "400", "--rate", "100", "--seconds", "1", "--threads", "2", "--json", "-"];
    let (model, brokers) = (bundle::dir().to_string_lossy().into_owned(), cluster.brokers());
    for (log, place) in [("embedded", &[][..]), ("kafka", &["--brokers", &brokers, "--partitions", "2"])] {
        let done = rapport(dir.path(), [&["bench", "--model", &model], place, &small[..]].concat(), SOON);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let report: Value = serde_json::from_str(&done.stdout).unwrap();
        assert!(report["log"].as_str().unwrap().starts_with(log), "{report}");
        assert_ne!(report["model"], report["swapped_to"], "{report}");
        for part in ["steady", "swap"] {
            assert!(report[part]["p999"].as_f64().unwrap() > 0.0, "{report}");
        }
        let difference = report["swap"]["p999"].as_f64().unwrap() - report["steady"]["p999"].as_f64().unwrap();
        assert!((report["p999_difference"].as_f64().unwrap() - difference).abs() < 1e-6, "{report}");
        let made =
            done.stderr.lines().find_map(|line| line.strip_prefix("topics ")?.strip_suffix(".* were made and are deleted at the end"));
        assert_eq!(made.is_some(), log == "kafka", "{}", done.stderr);
        if let Some(prefix) = made {
            assert!(prefix.starts_with("rapport-bench-"), "{prefix}");
            assert!(!done.stderr.contains("cannot"), "{}", done.stderr);
            let gone = || cluster.topics().iter().all(|topic| !topic.starts_with(prefix)).then_some(());
            eventually("the topics of the bench are gone", SOON, gone);
        }
    }
}
