//! `rapport serve` on the embedded log as a process: scores over HTTP, kill −9, signals, and what it says when it cannot start.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rapport::alert::Policies;
use rapport::engine::{Engine, EngineConfig, Outcome, States};
use rapport::interaction::{DecodeOptions, Timestamp, decode};

use crate::process::{Finished, Process, RAPPORT, eventually, free_port};
use crate::{bundle, http};

const SOON: Duration = Duration::from_secs(60);

struct Served {
    process: Process,
    url: String,
}

fn command(dir: &Path, config: &Path) -> Command {
    let mut command = Command::new(RAPPORT);
    command.args(["serve", "--config"]).arg(config).current_dir(dir);
    command.env_remove("RAPPORT_LOG").env("RUST_BACKTRACE", "1");
    command
}

fn configure(dir: &Path, port: u16) -> std::path::PathBuf {
    let file = dir.join("rapport.toml");
    let text = format!(
        "[log]\ndir = {:?}\n[model]\ndir = {:?}\n[worker]\nthreads = 2\nbatch = 7\n[http]\nbind = \"127.0.0.1:{port}\"\n",
        dir.join("log"),
        bundle::dir()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Starts `serve` and waits until it is ready.
fn serve(dir: &Path) -> Served {
    let port = free_port();
    let mut process = Process::spawn("serve", command(dir, &configure(dir, port)), dir);
    let url = format!("http://127.0.0.1:{port}");
    eventually("serve is ready", SOON, || {
        if let Some(status) = process.ended() {
            panic!("serve ended with {status}: {}", process.stderr());
        }
        (get(&format!("{url}/readyz")).0 == 200).then_some(())
    });
    Served { process, url }
}

/// Code (0 where nobody answers) and body.
fn get(url: &str) -> (u16, String) {
    match http::agent().get(url).call() {
        Ok(mut response) => (response.status().as_u16(), response.body_mut().read_to_string().unwrap_or_default()),
        Err(_) => (0, String::new()),
    }
}

fn interaction(i: usize) -> String {
    let customer = i % 20;
    let at = Timestamp(1_767_225_600_000_000 + i as i64 * 30_000_000);
    let texts = ["please help", "my order is late again", "never again , broken", "thanks great", "refund 退款"];
    format!(
        "{{\"id\":\"i{i}\",\"customer_id\":\"c{customer}\",\"occurred_at\":\"{at}\",\"kind\":\"message\",\"text\":\"{}\"}}",
        texts[(i / 20 + customer) % texts.len()]
    )
}

/// Scores by the engine alone, `scored_at` left out, by interaction.
fn expected(count: usize) -> BTreeMap<String, serde_json::Value> {
    let mut engine = Engine::new(bundle::model(), Arc::new(Policies::standard()), EngineConfig::default()).unwrap();
    let batch: Vec<_> = (0..count).map(|i| decode(interaction(i).as_bytes(), DecodeOptions::default()).unwrap().interaction).collect();
    let effects = engine.apply(&batch, &mut States::new(), Timestamp(0)).unwrap();
    let mut all = BTreeMap::new();
    for outcome in effects.outcomes {
        let Outcome::Scored(score) = outcome else { panic!("{outcome:?}") };
        // Through text, as published: a JSON value made from an f32 directly has the digits of an f64.
        let (key, value) = comparable(serde_json::from_slice(&serde_json::to_vec(&score).unwrap()).unwrap());
        assert!(all.insert(key, value).is_none());
    }
    all
}

fn comparable(mut value: serde_json::Value) -> (String, serde_json::Value) {
    value.as_object_mut().unwrap().remove("scored_at").unwrap();
    (value["interaction_id"].as_str().unwrap().to_string(), value)
}

fn scores(url: &str) -> Vec<serde_json::Value> {
    let mut all = Vec::new();
    loop {
        let (code, body) = get(&format!("{url}/v1/scores?from={}&limit=500", all.len()));
        assert_eq!(code, 200, "{body}");
        let page: Vec<serde_json::Value> = body.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

#[test]
fn every_interaction_is_scored_once_although_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let total = 1_200;
    let mut sent = 0;
    let mut served = serve(dir.path());
    for round in 0..6 {
        let until = total * (round + 1) / 6;
        while sent < until {
            let next = (sent + 25).min(until);
            let body: String = (sent..next).map(|i| interaction(i) + "\n").collect();
            let answer = http::agent().post(&format!("{}/v1/interactions", served.url)).send(body.as_bytes());
            assert_eq!(answer.unwrap().status().as_u16(), 202);
            sent = next;
        }
        if round < 5 {
            // In the middle of the work: some of the batch is committed and some is not.
            std::thread::sleep(Duration::from_millis(3 * round as u64));
            served.process.kill();
            served = serve(dir.path());
        }
    }
    let expected = expected(total);
    let found = eventually("everything is scored", SOON, || {
        let found = scores(&served.url);
        (found.len() >= expected.len()).then_some(found)
    });
    assert_eq!(found.len(), expected.len());
    let found: HashMap<_, _> = found.into_iter().map(comparable).collect();
    for (id, score) in &expected {
        assert_eq!(found.get(id), Some(score));
    }

    // SIGTERM: what is at hand is finished, the log is left, exit 0; the next one finds nothing to do.
    let asked = Instant::now();
    served.process.signal(libc::SIGTERM);
    let Finished { code, stderr, .. } = served.process.wait(Duration::from_secs(30));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(asked.elapsed() < Duration::from_secs(20), "the stop took {:?}", asked.elapsed());
    let again = serve(dir.path());
    assert_eq!(scores(&again.url).len(), expected.len());
}

/// Runs `serve` to its end; it must end by itself.
fn refused(dir: &Path, config: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = command(dir, config);
    command.args(flags);
    let finished = Process::spawn("refused", command, dir).wait(SOON);
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    assert_eq!(finished.stdout, "");
    (finished.code, finished.stderr)
}

#[test]
fn what_cannot_start_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    let config = dir.path().join("rapport.toml");
    let free = format!("127.0.0.1:{}", free_port());
    let check = |config: &Path, flags: &[&str], code: i32, words: &[&str]| {
        let (found, said) = refused(dir.path(), config, flags);
        assert_eq!(found, Some(code), "{flags:?}: {said}");
        assert!(words.iter().all(|w| said.contains(w)), "{words:?} are not in {said}");
    };

    check(&config, &[], 1, &["cannot listen on 127.0.0.1:", "http.bind"]);
    check(&config, &["--bind", &free], 1, &["open in another process", "[log] dir"]);
    drop(served);

    check(&config, &["--model", "/does/not/exist"], 2, &["--model", "/does/not/exist", "rapport train"]);
    check(&config, &["--bind", "0.0.0.0:0"], 2, &["--bind", "0.0.0.0:0", "http.tls_cert", "http.token"]);
    check(&config, &["--threads", "0"], 2, &["--threads", "from 1"]);
    check(Path::new("/does/not/exist.toml"), &[], 2, &["/does/not/exist.toml", "--config"]);

    let corrupt = dir.path().join("corrupt");
    std::fs::create_dir(&corrupt).unwrap();
    for entry in std::fs::read_dir(bundle::dir()).unwrap().map(Result::unwrap) {
        let mut bytes = std::fs::read(entry.path()).unwrap();
        if entry.file_name() == "sequence.onnx" {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        std::fs::write(corrupt.join(entry.file_name()), bytes).unwrap();
    }
    check(&config, &["--bind", &free, "--model", corrupt.to_str().unwrap()], 1, &["sequence.onnx", "damaged"]);

    let file = |text: &str| {
        let file = dir.path().join("wrong.toml");
        std::fs::write(&file, text).unwrap();
        file
    };
    check(&file("[worker]\nthread = 2\n"), &[], 2, &["wrong.toml", "worker.thread", "did you mean worker.threads?"]);
    check(&file("[log]\nkind = \"kafka\"\n"), &[], 2, &["log.brokers"]);
    let model = bundle::dir().display();
    let in_the_way = format!("[log]\ndir = \"{}/log\"\n[model]\ndir = \"{model}\"\n", config.display());
    check(&file(&in_the_way), &["--bind", &free], 1, &["rapport.toml/log", "RAPPORT_LOG_DIR"]);
    let unreachable = format!("[log]\nkind = \"kafka\"\nbrokers = \"127.0.0.1:{}\"\n[model]\ndir = \"{model}\"\n", free_port());
    check(&file(&unreachable), &["--bind", &free], 1, &["127.0.0.1:", "log.brokers"]);
}
