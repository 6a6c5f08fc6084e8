//! `rapport train` that cannot finish: the bundle that was there stays, half of one is never left, the message says what was wrong, and a run that
//! was killed goes on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rapport::model::Model;

use crate::process::{Process, RAPPORT, eventually, rapport};

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

/// The inputs and a bundle, as [`left`] names them.
const INPUTS: [&str; 4] = ["bundle", "i.jsonl", "l.jsonl", "train.toml"];

/// What lies in `dir`, without what the processes said.
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

/// All files under `dir`, by name.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn version(dir: &Path) -> String {
    Model::load(dir.join("bundle")).expect("a sound bundle").manifest.version.clone()
}

#[test]
fn a_full_disk_leaves_the_old_bundle() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 60, 1);
    assert_eq!(spawn("first", dir.path(), RAPPORT, &ARGUMENTS).wait(PATIENCE).code, Some(0));
    let first = version(dir.path());

    // A limit on the size of a file, with the signal of it ignored: the write of the word table fails midway, as on a full disk. The fit is long
    // enough for a checkpoint, which cannot be written either.
    write(dir.path(), 60, 300);
    let limited = format!("trap '' XFSZ; ulimit -f 64; exec {RAPPORT} {} --seed 2", ARGUMENTS.join(" "));
    let full = spawn("full", dir.path(), "bash", &["-c", &limited]).wait(PATIENCE);
    assert_eq!(full.code, Some(1), "{}", full.stderr);
    assert!(full.stderr.contains("cannot write") && full.stderr.contains(".onnx"), "{}", full.stderr);
    assert_eq!(full.stderr.matches("cannot write bundle.checkpoint").count(), 1, "{}", full.stderr);
    assert_eq!((version(dir.path()), left(dir.path())), (first, INPUTS.map(String::from).to_vec()));
}

#[test]
fn a_killed_run_goes_on_and_makes_the_same_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, dir) = (dir.path().join("whole"), dir.path().join("killed"));
    for dir in [&whole, &dir] {
        fs::create_dir(dir).unwrap();
        write(dir, 300, 100);
    }
    assert_eq!(spawn("whole", &whole, RAPPORT, &ARGUMENTS).wait(PATIENCE).code, Some(0));
    assert_eq!(left(&whole), INPUTS);

    // Killed in the middle of an epoch, beside the bundle of an earlier run.
    let short = [&ARGUMENTS[..], &["--epochs", "1"]].concat();
    assert_eq!(spawn("short", &dir, RAPPORT, &short).wait(PATIENCE).code, Some(0));
    let short_version = version(&dir);
    let mut killed = spawn("killed", &dir, RAPPORT, &ARGUMENTS);
    let checkpoint = dir.join("bundle.checkpoint");
    eventually("a checkpoint", PATIENCE, || checkpoint.exists().then_some(()));
    killed.kill();
    let mut there = left(&dir);
    // Another may have been in the making.
    there.retain(|name| name != "bundle.checkpoint.new");
    assert_eq!(there, ["bundle", "bundle.checkpoint", "i.jsonl", "l.jsonl", "train.toml"]);
    assert_eq!(version(&dir), short_version);
    let kept = fs::read(&checkpoint).unwrap();

    // One that is damaged or of another run is named and not used.
    let mut damaged = kept.clone();
    damaged[kept.len() / 2] ^= 1;
    for (bytes, why) in [(&damaged, "it is damaged or no checkpoint"), (&kept, "it is of a run with other settings")] {
        fs::write(&checkpoint, bytes).unwrap();
        let run = spawn("other", &dir, RAPPORT, &short).wait(PATIENCE);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("bundle.checkpoint is not used, the fit starts anew: {why}")), "{}", run.stderr);
        assert_eq!((version(&dir), left(&dir)), (short_version.clone(), INPUTS.map(String::from).to_vec()));
    }

    // The same arguments again: it goes on, and nothing tells the result from that of the run without a break.
    fs::write(&checkpoint, &kept).unwrap();
    let run = spawn("again", &dir, RAPPORT, &ARGUMENTS).wait(PATIENCE);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("resumed from bundle.checkpoint: epoch ") && !run.stderr.contains("epoch 1,"), "{}", run.stderr);
    assert_eq!(left(&dir), INPUTS);
    let (made, expected) = (files(&dir.join("bundle")), files(&whole.join("bundle")));
    assert_eq!(made.len(), expected.len());
    for ((path, bytes), expected) in made.iter().zip(expected.values()) {
        assert!(bytes == expected, "{} differs", path.display());
    }
}

#[test]
fn odd_data_is_named_and_still_makes_a_sound_bundle() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 60, 1);
    let (interactions, labels) = (dir.path().join("i.jsonl"), dir.path().join("l.jsonl"));
    let train = |arguments: &[&str], says: &str| {
        let run = spawn("odd", dir.path(), RAPPORT, arguments).wait(PATIENCE);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert!(run.stderr.contains(says), "{says}: {}", run.stderr);
        Model::load(dir.path().join("bundle")).expect("a sound bundle").manifest.satisfaction.is_some()
    };
    let unlabelled: Vec<&str> = ARGUMENTS.into_iter().filter(|a| !["--labels", "l.jsonl"].contains(a)).collect();
    assert!(!train(&unlabelled, "there are no labels to learn from: the bundle has no head"));
    let mut lines = fs::read_to_string(&interactions).unwrap();
    for (i, amount) in ["NaN", "Infinity", "-1", "1e999"].into_iter().enumerate() {
        let _ = writeln!(
            lines,
            r#"{{"id":"odd{i}","customer_id":"c1","occurred_at":"2024-01-02T12:00:00Z","kind":"purchase","amount":{amount}}}"#
        );
    }
    fs::write(&interactions, lines).unwrap();
    assert!(train(&ARGUMENTS, "240 interactions, 240 labels; 4 rejected"));
    let one_class = fs::read_to_string(&labels).unwrap().replace("1.5", "4.5");
    fs::write(&labels, one_class).unwrap();
    assert!(!train(&ARGUMENTS, "left out: satisfaction: of ratings below, at and above 3 there are [0, 0, "));
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
