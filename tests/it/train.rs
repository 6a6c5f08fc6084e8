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
        (path("none.jsonl"), vec![], 2, "none.jsonl"),
        (i.clone(), vec!["--labels".to_owned(), path("none.jsonl")], 2, "none.jsonl"),
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

/// Twenty weeks of sixty customers, from a year on; every third text is the unhappy one.
fn weeks(year: u32, name: &str, unhappy: &str) -> String {
    let mut lines = String::new();
    for (week, c) in (0..20u32).flat_map(|week| (0..60u32).map(move |c| (week, c))) {
        let text = if (c + week) % 3 > 0 { "thanks this is great" } else { unhappy };
        let (month, day) = (1 + week / 4, 1 + week % 4 * 7);
        let rating = if (c + week) % 3 > 0 { 5 } else { 1 };
        let _ = writeln!(
            lines,
            r#"{{"id":"{name}{c}-{week}","customer_id":"{name}{c}","occurred_at":"{year}-{month:02}-{day:02}T00:00:{c:02}Z","kind":"review","text":"{text}","rating":{rating}}}"#
        );
    }
    lines
}

#[test]
fn if_drift_trains_only_where_something_has_drifted() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, 1);
    let settings = fs::read_to_string(dir.path().join("train.toml")).unwrap();
    fs::write(dir.path().join("train.toml"), settings + "holdout = \"customers\"\n").unwrap();
    let old = weeks(2024, "o", "this is broken");
    fs::write(dir.path().join("old.jsonl"), &old).unwrap();
    let train = |out: &str, more: &[&str]| {
        let run = spawn(out, dir.path(), RAPPORT, &[&["train", "--config", "train.toml", "--out", out], more].concat()).wait(PATIENCE);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let bundle = dir.path().join(out);
        (bundle.exists().then(|| Model::load(bundle).expect("a sound bundle").manifest.clone()), run.stderr)
    };
    let (first, _) = train("first", &["--interactions", "old.jsonl"]);
    let first = first.expect("trained");
    assert_eq!(first.training.parent, None);
    // The same again four years later, by others: nothing is new but the time.
    fs::write(dir.path().join("steady.jsonl"), old.clone() + &weeks(2028, "n", "this is broken")).unwrap();
    let (next, said) = train("next", &["--interactions", "steady.jsonl", "--if-drift", "first"]);
    assert!(next.is_none() && said.contains("not trained: no input or output of 1200 new interactions"), "{said}");
    fs::write(dir.path().join("drifted.jsonl"), old + &weeks(2028, "n", "broken! and this? is 4 very long new story of it all")).unwrap();
    // As of a time before it, nothing has come.
    let drifted = ["--interactions", "drifted.jsonl", "--if-drift", "first"];
    let (next, said) = train("next", &[&drifted[..], &["--until", "2028-01-01T00:00:00Z"]].concat());
    assert!(next.is_none() && said.contains("not trained: 0 interactions are newer"), "{said}");
    let (next, said) = train("next", &[&drifted[..], &["--drift-limit", "100"]].concat());
    assert!(next.is_none() && said.contains("not trained: no input or output"), "{said}");
    let (next, said) = train("next", &[&drifted[..], &["--max-interactions", "1200"]].concat());
    assert!(
        said.contains("population stability index above 0.2: input ") && said.contains("% of the customers (--max-interactions)"),
        "{said}"
    );
    let training = next.expect("trained").training;
    assert_eq!(training.parent.as_deref(), Some(first.version.as_str()));
    assert!(training.data.as_ref().is_some_and(|data| data.len() == 64 && Some(data) != first.training.data.as_ref()), "{training:?}");
    assert!(training.code.starts_with(concat!(env!("CARGO_PKG_VERSION"), "+src.")), "{training:?}");
    // The word table of a bundle makes it the parent.
    let (third, _) = train("third", &["--interactions", "old.jsonl", "--vectors", "next"]);
    let third = third.expect("trained");
    assert_eq!(
        third.training.parent,
        Some(fs::read_to_string(dir.path().join("next/manifest.json")).map(|m| manifest_version(&m)).unwrap())
    );
    assert_eq!(third.training.data, first.training.data, "the same interactions");
    let report = fs::read_to_string(dir.path().join("third/report.html")).unwrap();
    for part in [third.training.data.unwrap(), third.training.code, third.training.parent.unwrap()] {
        assert!(report.contains(&part), "{part}");
    }
}

fn manifest_version(manifest: &str) -> String {
    let manifest: serde_json::Value = serde_json::from_str(manifest).unwrap();
    manifest["version"].as_str().unwrap().to_owned()
}

#[test]
fn a_registered_bundle_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 60, 1);
    assert_eq!(spawn("first", dir.path(), RAPPORT, &ARGUMENTS).wait(PATIENCE).code, Some(0));
    let registry = dir.path().join("registry");
    let registry_text = registry.to_str().unwrap();
    fs::write(dir.path().join("rapport.toml"), format!("[model]\ndir = \"none\"\nregistry = {registry_text:?}\n")).unwrap();
    let promoted = spawn("promote", dir.path(), RAPPORT, &["models", "promote", "bundle", "--force", "the first"]).wait(PATIENCE);
    assert_eq!(promoted.code, Some(0), "{}", promoted.stderr);
    let registered = registry.join(promoted.stdout.trim());
    let before = files(&registered);
    std::os::unix::fs::symlink(&registered, dir.path().join("link")).unwrap();
    for out in [registered.to_str().unwrap(), "registry/next", "link"] {
        let arguments = [&ARGUMENTS[..ARGUMENTS.len() - 1], &[out, "--seed", "2"]].concat();
        let refused = spawn("again", dir.path(), RAPPORT, &arguments).wait(PATIENCE);
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("lies in the model registry") && refused.stderr.contains("rapport models promote"),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(files(&registered), before);
    assert!(!registry.join("next").exists());
}

#[test]
fn one_command_from_csv_makes_the_bundle_of_two() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, 1);
    let mut csv = "ref;cust;when;note;stars\n".to_owned();
    for c in 0..60 {
        for turn in 0..4 {
            let (text, stars) = if (c + turn) % 2 == 0 { ("thanks a lot", 5) } else { ("still broken", 1) };
            let _ = writeln!(csv, "{c}-{turn};c{c};{:02}.01.2024 10:0{turn};{text};{stars}", 1 + c % 28);
        }
    }
    fs::write(dir.path().join("calls.csv"), csv).unwrap();
    let run = |arguments: &[&str]| spawn("run", dir.path(), RAPPORT, arguments).wait(PATIENCE);
    let map = "--delimiter ; --map id=ref --map customer_id=cust --map occurred_at=when --map text=note --label satisfaction=stars --set kind=call";
    let time = ["--time-format", "%d.%m.%Y %H:%M"];
    let import =
        [&["import", "csv", "calls.csv"], &map.split(' ').collect::<Vec<_>>()[..], &time, &["--out", "i.jsonl", "--labels", "l.jsonl"]];
    let done = run(&import.concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let two = run(&["train", "--interactions", "i.jsonl", "--labels", "l.jsonl", "--config", "train.toml", "--out", "two"]);
    assert_eq!(two.code, Some(0), "{}", two.stderr);

    let source = format!("csv {map} --time-format '{}'", time[1]);
    let one = run(&["train", "--import", &source, "--interactions", "calls.csv", "--config", "train.toml", "--out", "one"]);
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    assert!(one.stderr.contains("240 interactions, 240 labels, 0 rows skipped"), "{}", one.stderr);
    assert_eq!(one.stdout, two.stdout, "the same version");
    let bytes = |name: &str| files(&dir.path().join(name)).into_values().collect::<Vec<_>>();
    assert!(bytes("one") == bytes("two"));
    let there = left(dir.path());
    assert_eq!(there, ["calls.csv", "i.jsonl", "l.jsonl", "one", "train.toml", "two"]);

    for (source, file, code, word) in [
        ("retail", "calls.csv", 2, "unrecognized subcommand 'retail'"),
        ("csv --map id", "calls.csv", 2, "NAME=VALUE"),
        ("csv --set 'kind=call", "calls.csv", 2, "is not closed"),
        ("cdnow --out x.jsonl", "calls.csv", 2, "--out"),
        ("cdnow", "none.csv", 2, "none.csv is no file"),
        ("cdnow", "calls.csv", 1, "is no file of CDNOW"),
    ] {
        let wrong = run(&["train", "--import", source, "--interactions", file, "--out", "wrong"]);
        assert_eq!(wrong.code, Some(code), "{source}: {}", wrong.stderr);
        assert!(wrong.stderr.contains(word), "{source}: {}", wrong.stderr);
        assert_eq!(left(dir.path()), there, "{source}");
    }
}

#[test]
fn files_that_break_off_are_named_and_leave_no_bundle() {
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 200, 1);
    let path = |name: &str| dir.path().join(name);
    let lines = fs::read_to_string(path("i.jsonl")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, lines.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    fs::write(path("cut.jsonl.gz"), &gzip[..gzip.len() / 2]).unwrap();

    let rows: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let columns = ["id", "customer_id", "occurred_at", "kind", "text"].map(|name| {
        let values: StringArray = rows.iter().map(|r| r[name].as_str()).collect();
        (name, std::sync::Arc::new(values) as ArrayRef)
    });
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let parquet = writer.into_inner().unwrap();
    fs::write(path("whole.parquet"), &parquet).unwrap();
    fs::write(path("cut.parquet"), &parquet[..parquet.len() / 2]).unwrap();
    // The end, which says what is where, is there, and the rows are not what it says.
    let mut damaged = parquet.clone();
    damaged[4..parquet.len() / 2].fill(0xa5);
    fs::write(path("damaged.parquet"), &damaged).unwrap();

    let model = crate::bundle::dir().to_str().unwrap();
    for file in ["cut.jsonl.gz", "cut.parquet", "damaged.parquet"] {
        for command in [
            vec!["train", "--interactions", file, "--labels", "l.jsonl", "--config", "train.toml", "--out", "bundle"],
            vec!["score", "--model", model, "--input", file, "--output", "scores.jsonl"],
        ] {
            let run = spawn("cut", dir.path(), RAPPORT, &command).wait(PATIENCE);
            assert_eq!(run.code, Some(1), "{command:?}: {}", run.stderr);
            assert!(run.stderr.contains(file) && !run.stderr.contains("panicked"), "{command:?}: {}", run.stderr);
        }
        assert!(!path("bundle").exists() && !path(".bundle.new").exists(), "{file}");
    }
    let run =
        spawn("whole", dir.path(), RAPPORT, &["score", "--model", model, "--input", "whole.parquet", "--output", "s.jsonl"]).wait(PATIENCE);
    assert_eq!((run.code, run.stderr.contains("800 scored, 0 rejected")), (Some(0), true), "{}", run.stderr);
}

#[test]
fn flags_bound_what_is_read_and_how_long_each_fit_is() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 60, 40);
    // Customers who come back and buy, so that every kind of network is fitted.
    let mut lines = fs::read_to_string(dir.path().join("i.jsonl")).unwrap();
    for c in 0..120 {
        for week in 0..if c % 2 == 0 { 30 } else { 6 } {
            let day = rapport::interaction::Timestamp(1_701_388_800_000_000 + (7 * week + c % 7) * 86_400_000_000);
            let _ = writeln!(
                lines,
                r#"{{"id":"b{c}-{week}","customer_id":"b{c}","occurred_at":"{day}","kind":"purchase","amount":{}}}"#,
                10 + c % 5
            );
        }
    }
    fs::write(dir.path().join("i.jsonl"), lines).unwrap();
    let run = |more: &[&str]| spawn("run", dir.path(), RAPPORT, &[&ARGUMENTS[..], more].concat()).wait(PATIENCE);
    let done = run(&["--max-steps", "7", "--horizon-days", "30"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let steps: Vec<&str> = done.stderr.lines().filter(|l| l.contains(" steps in ")).collect();
    // The network of the labels, and the four of the future.
    let said = ["fitting: 7 steps in ", "fitting churn, spend and next need: 28 steps in "];
    assert!(steps.len() == 2 && steps.iter().zip(said).all(|(line, said)| line.starts_with(said)), "{}", done.stderr);

    let done = run(&["--max-interactions", "500", "--max-steps", "7"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("for max_interactions = 500"), "{}", done.stderr);
    let read: usize = done.stderr.lines().find_map(|l| l.split_once(" interactions, ")?.0.parse().ok()).expect("a count");
    assert!((400..=500).contains(&read), "{read}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("bundle/manifest.json")).unwrap()).unwrap();
    assert_eq!(report["training"]["interactions"], read);
}

/// By `script` of util-linux, which gives a command a terminal.
#[test]
fn a_terminal_shows_what_is_being_done_and_a_file_does_not() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 60, 1);
    let plain = spawn("plain", dir.path(), RAPPORT, &ARGUMENTS).wait(PATIENCE);
    assert_eq!(plain.code, Some(0), "{}", plain.stderr);
    assert!(!plain.stderr.contains('\u{1b}') && !plain.stderr.contains('\r') && !plain.stderr.contains("reading"), "{}", plain.stderr);
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no `script` here");
        return;
    }
    let command = format!("{RAPPORT} {}", ARGUMENTS.join(" "));
    let shown = spawn("shown", dir.path(), "script", &["-qec", &command, "/dev/null"]).wait(PATIENCE);
    assert_eq!(shown.code, Some(0), "{}{}", shown.stdout, shown.stderr);
    for stage in [" reading ", " finding segments ", "loss "] {
        assert!(shown.stdout.contains(stage), "{stage:?}: {}", shown.stdout);
    }
}
