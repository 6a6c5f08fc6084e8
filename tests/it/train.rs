//! `rapport train` that cannot finish: the bundle that was there stays, half of one is never left, and the message says what was wrong.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rapport::model::Model;

use crate::process::{Process, RAPPORT, rapport};

const PATIENCE: Duration = Duration::from_secs(60);

/// Conversations with ratings, and settings of a small network.
fn write(dir: &Path, customers: usize, epochs: usize) {
    let (mut interactions, mut labels) = (String::new(), String::new());
    for c in 0..customers {
        for turn in 0..4 {
            let good = (c + turn) % 2 == 0;
            let text = if good { "thanks a lot" } else { "still broken" };
            let at = format!("2024-01-{:02}T10:0{turn}:00Z", 1 + c % 28);
            let _ = writeln!(
                interactions,
                r#"{{"id":"{c}-{turn}","customer_id":"c{c}","occurred_at":"{at}","kind":"message","text":"{text}"}}"#
            );
            let mean = if good { 4.5 } else { 1.5 };
            let _ = writeln!(labels, r#"{{"interaction_id":"{c}-{turn}","task":"satisfaction","value":{mean}}}"#);
        }
    }
    fs::write(dir.join("i.jsonl"), interactions).unwrap();
    fs::write(dir.join("l.jsonl"), labels).unwrap();
    let sizes = "embedding = 8\nfilters = 4\nbag = 8\nvector = 8\nhidden = 8\nbag_rows = 16384";
    fs::write(dir.join("train.toml"), format!("epochs = {epochs}\n{sizes}\n")).unwrap();
}

const ARGUMENTS: [&str; 9] = ["train", "--interactions", "i.jsonl", "--labels", "l.jsonl", "--config", "train.toml", "--out", "bundle"];

/// What lies in `dir` beside the inputs and what the processes said.
fn left(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|n| !n.ends_with(".out") && !n.ends_with(".err")).collect();
    names.sort();
    names
}

fn spawn(name: &str, dir: &Path, program: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir);
    Process::spawn(name, command, dir)
}

#[test]
fn a_full_disk_or_a_kill_leaves_the_old_bundle() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 60, 1);
    assert_eq!(spawn("first", dir.path(), RAPPORT, &ARGUMENTS).wait(PATIENCE).code, Some(0));
    let version = || Model::load(dir.path().join("bundle")).expect("a sound bundle").manifest.version.clone();
    let (first, inputs) = (version(), ["bundle", "i.jsonl", "l.jsonl", "train.toml"]);

    // A limit on the size of a file, with the signal of it ignored: the write of the word table fails midway, as on a full disk.
    let limited = format!("trap '' XFSZ; ulimit -f 64; exec {RAPPORT} {} --seed 2", ARGUMENTS.join(" "));
    let full = spawn("full", dir.path(), "bash", &["-c", &limited]).wait(PATIENCE);
    assert_eq!(full.code, Some(1), "{}", full.stderr);
    assert!(full.stderr.contains("cannot write") && full.stderr.contains(".onnx"), "{}", full.stderr);
    assert_eq!((version(), left(dir.path())), (first.clone(), inputs.map(String::from).to_vec()));

    // Killed in the middle of an epoch.
    write(dir.path(), 2000, 500);
    let mut killed = spawn("killed", dir.path(), RAPPORT, &ARGUMENTS);
    let said = dir.path().join("killed.err");
    let deadline = std::time::Instant::now() + PATIENCE;
    while !fs::read_to_string(&said).unwrap().contains("8000 interactions") {
        assert!(std::time::Instant::now() < deadline, "never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    killed.kill();
    assert_eq!((version(), left(dir.path())), (first.clone(), inputs.map(String::from).to_vec()));

    // And the next run works.
    write(dir.path(), 60, 2);
    assert_eq!(spawn("next", dir.path(), RAPPORT, &ARGUMENTS).wait(PATIENCE).code, Some(0));
    assert_ne!(version(), first);
}

#[test]
fn broken_input_says_what_is_wrong_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 20, 1);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("empty.jsonl"), "").unwrap();
    fs::write(path("old.toml"), "refit = false\n").unwrap();
    fs::write(path("wrong.jsonl"), "{\"interaction_id\":\"0-0\",\"task\":\"satisfaction\",\"value\":\"good\"}\n").unwrap();
    let (i, l, out) = (path("i.jsonl"), path("l.jsonl"), path("bundle"));
    for (interactions, more, code, word) in [
        (path("empty.jsonl"), vec![], 2, "no valid interaction"),
        (path("none.jsonl"), vec![], 1, "none.jsonl"),
        (i.clone(), vec!["--config".to_owned(), path("old.toml")], 2, "refit is no key any more"),
        (i.clone(), vec!["--labels".to_owned(), path("wrong.jsonl")], 2, "wrong.jsonl:1"),
        (i.clone(), vec!["--labels".to_owned(), l.clone(), "--if-drift".to_owned(), path("nowhere")], 2, "no model bundle"),
        (i, vec!["--labels".to_owned(), l, "--drift-limit".to_owned(), "0.1".to_owned()], 2, "--if-drift"),
    ] {
        let mut arguments = vec!["train", "--interactions", &interactions, "--out", &out];
        arguments.extend(more.iter().map(String::as_str));
        let finished = rapport(dir.path(), &arguments, PATIENCE);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert_eq!(finished.code, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(word) && !said.contains("panicked"), "{arguments:?}: {said}");
        assert!(!Path::new(&out).exists());
    }
}
