//! The registry from the command line, and what a running service makes of it: swap, rollback, shadow, and bundles that must not serve.

mod drift;
mod kafka;
mod promote;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use rapport::alert::Policies;
use rapport::engine::{Engine, EngineConfig, States};
use rapport::interaction::{DecodeOptions, Interaction, Timestamp, decode};
use rapport::model::{Manifest, Model};

use crate::brokers::unique;
use crate::process::{Finished, Process, RAPPORT, eventually, free_port};
use crate::{bundle, http};

const SOON: Duration = Duration::from_secs(60);

/// A folder with bundles of three seeds, a registry to be, and a configuration.
struct Desk {
    dir: tempfile::TempDir,
    port: u16,
}

impl Desk {
    fn new() -> Self {
        let desk = Desk { dir: tempfile::tempdir().expect("a folder"), port: free_port() };
        for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
            fs::create_dir(desk.file(name)).expect("a folder");
            bundle::write(&desk.file(name), seed);
        }
        let text = format!(
            "[log]\ndir = {:?}\n[model]\ndir = {:?}\nregistry = {:?}\nrebuilds_per_commit = 3\n[worker]\nthreads = 2\nbatch = 50\n[http]\nbind = \"127.0.0.1:{}\"\n",
            desk.file("log"),
            desk.file("a"),
            desk.file("registry"),
            desk.port
        );
        fs::write(desk.file("rapport.toml"), text).expect("a configuration");
        desk
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn version(&self, name: &str) -> String {
        version(&self.file(name))
    }

    /// `rapport models …` with this desk's configuration.
    fn models(&self, arguments: &[&str]) -> Finished {
        self.run(&[&["models"], arguments].concat())
    }

    /// `rapport` in the desk's folder, where its rapport.toml lies.
    fn run(&self, arguments: &[&str]) -> Finished {
        self.run_within(arguments, SOON)
    }

    fn run_within(&self, arguments: &[&str], timeout: Duration) -> Finished {
        let mut command = Command::new(RAPPORT);
        command.args(arguments).current_dir(self.dir.path()).env("RUST_BACKTRACE", "1");
        Process::spawn(&unique("rapport"), command, self.dir.path()).wait(timeout)
    }

    fn done(&self, arguments: &[&str]) -> String {
        let finished = self.models(arguments);
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
        finished.stdout.trim().to_owned()
    }

    fn refused(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let finished = self.models(arguments);
        assert_eq!(finished.code, Some(code), "{arguments:?}: {}{}", finished.stdout, finished.stderr);
        for word in words {
            assert!(finished.stderr.contains(word), "{arguments:?}: {word:?} is not in {}", finished.stderr);
        }
    }

    /// What `rapport score` says with a bundle, by interaction.
    fn expected(&self, name: &str) -> BTreeMap<String, Value> {
        let scored = self.run(&["score", "--model", name, "--input", "interactions.jsonl", "--output", "expected.jsonl"]);
        assert_eq!(scored.code, Some(0), "{}", scored.stderr);
        fs::read_to_string(self.file("expected.jsonl")).expect("scores").lines().map(|line| comparable(line.as_bytes())).collect()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut answer = http::agent().get(self.url(path)).call().ok().filter(|a| a.status().as_u16() == 200)?;
        answer.body_mut().read_to_string().ok()
    }

    fn serve(&self) -> Process {
        let mut command = Command::new(RAPPORT);
        command.arg("serve").current_dir(self.dir.path()).env("RUST_BACKTRACE", "1");
        let mut process = Process::spawn("serve", command, self.dir.path());
        eventually("serve is ready", SOON, || {
            assert!(process.ended().is_none(), "serve ended: {}", process.stderr());
            self.get("/readyz")
        });
        process
    }

    fn post(&self, lines: &[String]) {
        let taken = http::agent().post(self.url("/v1/interactions")).send(lines.concat().as_bytes()).expect("an answer");
        assert_eq!(taken.status().as_u16(), 202);
    }

    /// Waits for so many records of an output.
    fn records(&self, output: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} {output}"), SOON, || {
            let lines = self.get(&format!("/v1/{output}?from=0&limit=10000"))?;
            let records: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
            (records.len() >= count).then_some(records)
        })
    }

    fn metric(&self, line: &str) -> Option<f64> {
        self.get("/metrics")?.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
    }

    fn wait_for_metric(&self, line: &str, value: f64) {
        eventually(&format!("{line} {value}"), SOON, || (self.metric(line)? == value).then_some(()));
    }
}

/// Changes a bundle's manifest as a trainer could have written it.
fn rewrite(dir: &Path, change: impl FnOnce(&mut Manifest)) {
    let path = dir.join("manifest.json");
    let mut manifest: Manifest = serde_json::from_slice(&fs::read(&path).expect("a manifest")).expect("a manifest");
    change(&mut manifest);
    manifest.version = manifest.content_version().expect("a version");
    fs::write(path, serde_json::to_vec(&manifest).expect("JSON")).expect("a manifest");
}

fn version(dir: &Path) -> String {
    Model::load(dir).expect("a bundle").version.to_string()
}

/// Interaction id, and the score without the time at which it was made.
fn comparable(json: &[u8]) -> (String, Value) {
    let mut score: Value = serde_json::from_slice(json).expect("a score");
    score.as_object_mut().expect("a score").remove("scored_at").expect("its time");
    (score["interaction_id"].as_str().expect("its interaction").to_owned(), score)
}

/// Conversations of `customers`, each `turns` long, all of them a turn at a time; no two texts of a customer are alike.
fn lines(customers: usize, turns: usize) -> Vec<String> {
    let texts = ["please help", "my order is late again", "never again , broken", "thanks great", "refund 退款", "great order thanks"];
    let line = |turn: usize, customer: usize| {
        let at = Timestamp(1_780_000_000_000_000 + (turn * customers + customer) as i64 * 1_000_000);
        let (kind, text) = match (turn + customer) % 7 {
            6 => ("visit", String::new()),
            n => ("message", format!(",\"text\":\"{} {turn}\"", texts[(n * 5 + turn * 3) % texts.len()])),
        };
        format!("{{\"id\":\"i{customer}-{turn}\",\"customer_id\":\"c{customer}\",\"occurred_at\":\"{at}\",\"kind\":\"{kind}\"{text}}}\n")
    };
    (0..turns).flat_map(|turn| (0..customers).map(move |customer| line(turn, customer))).collect()
}

#[test]
fn the_first_bundle_has_nothing_to_be_compared_with() {
    let desk = Desk::new();
    fs::remove_dir_all(desk.file("a")).expect("a folder");
    desk.refused(&["promote", "b", "--interactions", "nowhere.jsonl"], 2, &["--interactions nowhere.jsonl"]);
    let promoted = desk.models(&["promote", "b"]);
    assert_eq!((promoted.code, promoted.stdout.trim()), (Some(0), &*desk.version("b")), "{}", promoted.stderr);
    assert!(promoted.stderr.contains("nothing serves yet") && promoted.stderr.contains("it was not judged"), "{}", promoted.stderr);
}

#[test]
fn a_running_service_takes_up_what_is_promoted_and_rolled_back() {
    let desk = Desk::new();
    let all = lines(40, 12);
    fs::write(desk.file("interactions.jsonl"), all.concat()).expect("interactions");
    let expected = ["a", "b"].map(|name| desk.expected(name));
    let versions = ["a", "b"].map(|name| desk.version(name));
    let (first, rest) = all.split_at(160);
    let (second, third) = rest.split_at(160);

    let mut serve = desk.serve();
    desk.post(first);
    desk.records("scores", first.len());
    assert_eq!(desk.done(&["promote", "b", "--force", "a test"]), versions[1]);
    desk.wait_for_metric(&format!("rapport_model_info{{version=\"{}\"}}", versions[1]), 1.0);
    desk.post(second);
    desk.records("scores", first.len() + second.len());
    let rebuilt = desk.metric("rapport_states_rebuilt_total").expect("a metric");
    assert_eq!(rebuilt, 40.0, "each of 40 customers once");

    assert_eq!(desk.done(&["rollback"]), versions[0]);
    desk.wait_for_metric(&format!("rapport_model_info{{version=\"{}\"}}", versions[0]), 1.0);
    desk.post(third);
    let scores = desk.records("scores", all.len());
    assert_eq!(scores.len(), all.len(), "none lost, none twice");
    let mut seen = [0, 0];
    for score in &scores {
        let (id, score) = comparable(score.to_string().as_bytes());
        let model = versions.iter().position(|v| score["model"] == v.as_str()).expect("one of the two");
        seen[model] += 1;
        assert_eq!(score, expected[model][&id], "as if {} had scored all of the history", versions[model]);
    }
    assert_eq!(seen, [first.len() + third.len(), second.len()]);

    // A restart serves what the registry says, not what model.dir says.
    assert_eq!(desk.done(&["rollback", &versions[1]]), versions[1]);
    desk.wait_for_metric(&format!("rapport_model_info{{version=\"{}\"}}", versions[1]), 1.0);
    serve.signal(libc::SIGTERM);
    assert_eq!(serve.wait(SOON).code, Some(0));
    let _serve = desk.serve();
    desk.wait_for_metric(&format!("rapport_model_info{{version=\"{}\"}}", versions[1]), 1.0);

    let list = desk.done(&["list"]);
    let champion = list.lines().find(|l| l.contains("champion")).unwrap_or_else(|| panic!("{list}"));
    assert!(champion.starts_with(&versions[1]) && champion.contains("intent"), "{list}");
    let shown: Value = serde_json::from_str(&desk.done(&["show", &versions[1]])).expect("JSON");
    let actions: Vec<_> =
        shown["history"].as_array().expect("a history").iter().map(|e| e["action"].as_str().expect("an action")).collect();
    assert_eq!(actions, ["promoted", "rolled_back"]);
    assert_eq!(shown["history"][0]["forced"], "a test");
    assert_eq!(shown["history"][0]["parent"], versions[0].as_str());
    assert_eq!(shown["history"][0]["training"]["seed"], 2);
    assert_eq!(shown["manifest"]["version"], versions[1].as_str());
}

#[test]
fn a_challenger_scores_in_shadow_and_changes_nothing() {
    let desk = Desk::new();
    bundle::write_ahead(&desk.file("a"), 1, 90);
    bundle::write_ahead(&desk.file("b"), 2, 90);
    let all = lines(30, 10);
    fs::write(desk.file("interactions.jsonl"), all.concat()).expect("interactions");
    let expected = ["a", "b"].map(|name| desk.expected(name));
    let (before, after) = all.split_at(120);
    let _serve = desk.serve();
    desk.post(before);
    desk.records("scores", before.len());
    let challenger = desk.done(&["promote", "b", "--shadow"]);
    assert!(desk.done(&["list"]).lines().any(|l| l.starts_with(&challenger) && l.contains("shadow")));
    desk.wait_for_metric(&format!("rapport_shadow_model_info{{version=\"{challenger}\"}}"), 1.0);
    desk.post(after);
    let scores = desk.records("scores", all.len());
    assert!(scores.iter().all(|s| expected[0][s["interaction_id"].as_str().unwrap()] == comparable(s.to_string().as_bytes()).1));
    let theirs = desk.records("scores-shadow", after.len());
    assert_eq!(theirs.len(), after.len(), "from the promotion on, each once");
    for score in &theirs {
        let (id, score) = comparable(score.to_string().as_bytes());
        assert_eq!(score, expected[1][&id], "as if it had scored all of the history");
    }

    let difference = |score: &Value| {
        let of = |n: usize| expected[n][score["interaction_id"].as_str().unwrap()]["satisfaction"]["dissatisfied"].as_f64().unwrap();
        (of(0) - of(1)).abs()
    };
    let sum: f64 = theirs.iter().map(difference).sum();
    assert_eq!(desk.metric("rapport_shadow_scores_total"), Some(after.len() as f64));
    let told = desk.metric("rapport_shadow_dissatisfied_difference_sum").expect("a metric");
    assert!(sum > 0.0 && (told - sum).abs() < 1e-3 * sum, "{told} instead of {sum}");
    assert!(desk.metric("rapport_shadow_class_total{same=\"no\",task=\"intent\"}").expect("a metric") > 0.0);
    let of = |n: usize, score: &Value| expected[n][score["interaction_id"].as_str().unwrap()].clone();
    for (name, key) in [("churn", "/churn/probability"), ("anomaly", "/anomaly")] {
        let number = |n, score| of(n, score).pointer(key).and_then(Value::as_f64).expect("a number");
        let sum: f64 = theirs.iter().map(|score| (number(0, score) - number(1, score)).abs()).sum();
        let told = desk.metric(&format!("rapport_shadow_{name}_difference_sum")).expect("a metric");
        assert!(sum > 0.0 && (told - sum).abs() < 1e-3 * sum, "{name}: {told} instead of {sum}");
    }
    for name in ["purchases", "amount"] {
        assert_eq!(desk.metric(&format!("rapport_shadow_{name}_difference_count")), Some(after.len() as f64));
    }
    let same = theirs.iter().filter(|s| of(0, s)["segment"]["label"] == of(1, s)["segment"]["label"]).count() as f64;
    let told = desk.metric("rapport_shadow_class_total{same=\"yes\",task=\"segment\"}");
    assert_eq!(told.unwrap_or(0.0), same);

    desk.done(&["rollback", "--shadow"]);
    eventually("no shadow", SOON, || (!desk.get("/metrics")?.contains("rapport_shadow_model_info{")).then_some(()));
}

#[test]
fn what_must_not_serve_is_refused_and_what_serves_stays() {
    let desk = Desk::new();
    // Nothing to judge by, no reason, no registry.
    desk.refused(&["promote", "b"], 2, &["--interactions"]);
    desk.refused(&["promote", "b", "--force", " "], 2, &["--force"]);
    desk.refused(&["promote", "nowhere", "--force", "x"], 2, &["nowhere", "rapport train"]);
    desk.refused(&["rollback"], 1, &["nothing served before"]);
    desk.refused(&["rollback", "2020-01-01-00000000"], 2, &["2020-01-01-00000000"]);
    fs::write(desk.file("without.toml"), "").expect("a configuration");
    desk.refused(&["list", "--config", "without.toml"], 2, &["model.registry", "RAPPORT_MODEL_REGISTRY"]);

    // Data from within the training range (2026-01), and data without any label.
    let line = |i: usize, day: u32, rating: &str| {
        format!(
            "{{\"id\":\"i{i}\",\"customer_id\":\"c{}\",\"occurred_at\":\"2026-0{day}-02T00:00:00Z\",\"kind\":\"review\",\"text\":\"great order {i}\"{rating}}}\n",
            i % 9
        )
    };
    let rated: String = (0..40).map(|i| line(i, 1, ",\"rating\":5")).collect();
    fs::write(desk.file("overlap.jsonl"), rated).expect("interactions");
    desk.refused(&["promote", "b", "--interactions", "overlap.jsonl"], 1, &["overlap in time", "2026-01-01"]);
    fs::write(desk.file("unlabelled.jsonl"), (0..40).map(|i| line(i, 3, "")).collect::<String>()).expect("interactions");
    desk.refused(&["promote", "b", "--interactions", "unlabelled.jsonl"], 1, &["nothing to judge"]);

    // A bundle without one of the champion's heads.
    rewrite(&desk.file("c"), |manifest| manifest.classes.clear());
    desk.refused(&["promote", "c", "--interactions", "unlabelled.jsonl"], 1, &["lacks intent"]);

    // A damaged bundle, on the way in and in its place.
    let damage = |path: PathBuf| {
        let mut bytes = fs::read(&path).expect("a file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).expect("a file");
    };
    damage(desk.file("b/sequence.onnx"));
    desk.refused(&["promote", "b", "--force", "x"], 1, &["sequence.onnx is damaged"]);
    let champion = desk.version("a");
    let list = desk.done(&["list"]);
    assert!(list.lines().count() == 2 && list.contains(&champion), "{list}");
    bundle::write(&desk.file("b"), 2);
    let next = desk.done(&["promote", "b", "--force", "x"]);
    damage(desk.file("registry").join(&next).join("text_cnn.onnx"));
    desk.done(&["rollback"]);
    desk.refused(&["rollback", &next], 1, &["text_cnn.onnx is damaged", "what serves stays"]);
    assert!(desk.done(&["list"]).lines().any(|l| l.starts_with(&champion) && l.contains("champion")));
}

/// The champion knows what the labels will be, the challenger does not.
#[test]
fn a_challenger_is_judged_by_what_both_say_of_the_same_interactions() {
    let desk = Desk::new();
    let all = lines(80, 8);
    fs::write(desk.file("interactions.jsonl"), all.concat()).expect("interactions");
    // Labels by what the champion says: no other model can do better on them.
    let labels: String = desk
        .expected("a")
        .iter()
        .map(|(id, score)| {
            let s = &score["satisfaction"];
            let p = ["dissatisfied", "neutral", "satisfied"].map(|k| s[k].as_f64().unwrap());
            let value = if p[0] >= p[1] && p[0] >= p[2] {
                1
            } else if p[1] >= p[2] {
                3
            } else {
                5
            };
            format!("{{\"interaction_id\":\"{id}\",\"task\":\"satisfaction\",\"value\":{value}}}\n")
        })
        .collect();
    fs::write(desk.file("labels.jsonl"), labels).expect("labels");
    let by = ["--interactions", "interactions.jsonl", "--labels", "labels.jsonl"];
    desk.refused(&[&["promote", "b"], &by[..]].concat(), 1, &["satisfaction is worse by more than 0.01", "accuracy"]);
    // The same graphs under another version: equal skill passes.
    fs::create_dir(desk.file("again")).expect("a folder");
    for entry in fs::read_dir(desk.file("a")).expect("a folder").map(Result::unwrap) {
        fs::copy(entry.path(), desk.file("again").join(entry.file_name())).expect("a copy");
    }
    rewrite(&desk.file("again"), |manifest| manifest.training.seed = 99);
    let again = desk.version("again");
    assert_eq!(desk.done(&[&["promote", "again"], &by[..]].concat()), again);
    let shown: Value = serde_json::from_str(&desk.done(&["show", &again])).expect("JSON");
    let judged = &shown["history"][0]["judged"]["comparison"]["judged"];
    assert!(
        judged.as_array().is_some_and(|j| j.iter().all(|j| j["difference"] == 0.0)) && shown["history"][0]["forced"].is_null(),
        "{shown}"
    );
    // What is worse can be forced, and the reason stays.
    let forced = desk.done(&[&["promote", "b"], &by[..], &["--force", "only one left"]].concat());
    let shown: Value = serde_json::from_str(&desk.done(&["show", &forced])).expect("JSON");
    assert_eq!(shown["history"][0]["forced"], "only one left");
    assert!(shown["history"][0]["judged"]["refusal"].as_str().is_some_and(|r| r.contains("worse")), "{shown}");
}

#[test]
fn a_rebuild_alone_raises_no_alert_and_open_ones_stay() {
    let desk = Desk::new();
    let batch = |lines: &[String]| -> Vec<Interaction> {
        lines.iter().map(|l| decode(l.trim_end().as_bytes(), DecodeOptions::default()).expect("valid").interaction).collect()
    };
    let config = EngineConfig::default();
    let policies = Arc::new(Policies::standard());
    let mut old = Engine::new(Model::load(desk.file("a")).expect("a bundle"), policies.clone(), config).expect("runs");
    let mut states = States::new();
    let effects = old.apply(&batch(&lines(60, 12)), &mut states, Timestamp(0)).expect("scored");
    assert!(effects.alerts.len() > 3, "the histories raise alerts: {}", effects.alerts.len());
    let before: BTreeMap<_, _> = states.iter().map(|(c, s)| (c.clone(), s.alerts.clone())).collect();

    let mut new = old.with_model(Model::load(desk.file("b")).expect("a bundle")).expect("runs");
    assert!(states.values().all(|s| new.must_rebuild(s) && !old.must_rebuild(s)));
    // A visit says nothing of satisfaction: what would be raised now came from the swap.
    let visit =
        |c: usize| format!("{{\"id\":\"v{c}\",\"customer_id\":\"c{c}\",\"occurred_at\":\"2026-06-30T00:00:00Z\",\"kind\":\"visit\"}}\n");
    let effects = new.apply(&batch(&(0..60).map(visit).collect::<Vec<_>>()), &mut states, Timestamp(0)).expect("scored");
    assert!(effects.alerts.is_empty(), "{:?}", effects.alerts);
    assert!(states.iter().all(|(c, s)| s.alerts == before[c] && !new.must_rebuild(s)));
}
