//! Whole runs of `train` on small data.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::alert::Policies;
use crate::model::Model;
use crate::train::evaluate::evaluate;

fn config() -> Config {
    Config {
        epochs: 12,
        learning_rate: 0.01,
        warm_up: 2,
        embedding: 8,
        filters: 4,
        bag: 8,
        vector: 8,
        hidden: 8,
        bag_rows: 512,
        min_count: 1,
        ..Config::default()
    }
}

/// 120 customers with four messages each: "bad" ones are rated 1.5, "good" ones 4.5, with intents to match.
fn data(dir: &Path, satisfaction: bool, intent: bool, text: bool) -> Job {
    let (mut interactions, mut labels) = (String::new(), String::new());
    for c in 0..120 {
        for turn in 0..4 {
            let good = (c * 7 + turn * 3) % 5 < 2;
            let words = if good { "thanks this is great" } else { "this is broken and late" };
            let text = if text { format!(r#","text":"{words} {}""#, c % 9) } else { String::new() };
            let _ = writeln!(
                interactions,
                r#"{{"id":"{c}-{turn}","customer_id":"c{c}","occurred_at":"2024-01-{:02}T10:{turn:02}:00Z","kind":"message"{text}}}"#,
                1 + c % 28
            );
            if satisfaction {
                let mean = if good { 4.5 } else { 1.5 };
                let _ = writeln!(labels, r#"{{"interaction_id":"{c}-{turn}","task":"satisfaction","value":{mean}}}"#);
            }
            if intent {
                let class = if good { "praise" } else { "complaint" };
                let _ = writeln!(labels, r#"{{"interaction_id":"{c}-{turn}","task":"intent","value":"{class}"}}"#);
            }
        }
    }
    fs::write(dir.join("i.jsonl"), interactions).expect("temporary file");
    fs::write(dir.join("l.jsonl"), labels).expect("temporary file");
    Job { interactions: vec![dir.join("i.jsonl")], labels: vec![dir.join("l.jsonl")], out: dir.join("bundle"), seed: 3, config: config() }
}

fn train(job: &Job) -> (Made, Vec<String>) {
    let mut notes = Vec::new();
    let made = make(job, |p| {
        if let Progress::Note(text) = p {
            notes.push(text.to_owned());
        }
    });
    (made.expect("a bundle"), notes)
}

#[test]
fn learns_both_tasks_and_the_bundle_serves() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let job = data(dir.path(), true, true, true);
    let (made, _) = train(&job);
    // Loading runs the golden steps through tract: the exported graphs compute what burn computed.
    let model = Model::load(&job.out).expect("a sound bundle");
    assert_eq!(model.manifest.version, made.version);
    assert!(made.version.starts_with("2024-01-28-"), "{}", made.version);
    let (report, _) = evaluate(model, Arc::new(Policies::standard()), &job.interactions, &job.labels, None, |_, _| {}).expect("a report");
    let satisfaction = &report.tasks["satisfaction"];
    assert!(satisfaction.quality.accuracy > 0.95, "{satisfaction:?}");
    assert!(satisfaction.baselines["tfidf"].quality.accuracy > 0.95, "{satisfaction:?}");
    assert!(report.tasks["intent"].quality.accuracy > 0.95, "{:?}", report.tasks["intent"]);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut job = data(dir.path(), true, true, true);
    let (first, _) = train(&job);
    job.out = dir.path().join("elsewhere/again");
    let (second, _) = train(&job);
    assert_eq!(first.version, second.version);
    for file in
        ["manifest.json", "text_cnn.onnx", "sequence.onnx", "tokenizer.json", "preprocessing.json", "golden.json", "baselines/tfidf.bin"]
    {
        let read = |bundle: &str| fs::read(dir.path().join(bundle).join(file)).expect(file);
        assert!(read("bundle") == read("elsewhere/again"), "{file} differs");
    }
    job.seed += 1;
    assert_ne!(train(&job).0.version, first.version);
}

#[test]
fn what_has_no_labels_is_left_out_and_said_so() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for (satisfaction, intent, text, said) in [
        (false, true, true, "left out: satisfaction"),
        (true, false, true, "interactions, 480 labels"),
        (false, false, true, "has no head"),
        (true, false, false, "interactions, 480 labels"),
    ] {
        let job = data(dir.path(), satisfaction, intent, text);
        let (_, notes) = train(&job);
        assert!(notes.iter().any(|n| n.contains(said)), "{said}: {notes:?}");
        let model = Model::load(&job.out).expect("a sound bundle");
        assert_eq!(model.manifest.satisfaction.is_some(), satisfaction);
        assert_eq!(model.manifest.classes.contains_key("intent"), intent);
    }
}

#[test]
fn one_class_only_is_no_head() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let job = data(dir.path(), true, true, true);
    let labels = fs::read_to_string(&job.labels[0]).expect("labels").replace("4.5", "1.5").replace("praise", "complaint");
    fs::write(&job.labels[0], labels).expect("temporary file");
    let (_, notes) = train(&job);
    assert!(notes.iter().any(|n| n.contains("satisfaction: of ratings below, at and above 3 there are [480, 0, 0]")), "{notes:?}");
    assert!(notes.iter().any(|n| n.contains("intent: 1 of 1 classes")), "{notes:?}");
}

#[test]
fn a_bundle_is_replaced_whole_and_other_directories_are_not() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut job = data(dir.path(), true, false, true);
    job.config.epochs = 1;
    let (first, _) = train(&job);
    job.seed = 9;
    let (second, _) = train(&job);
    assert_ne!(first.version, second.version);
    assert_eq!(Model::load(&job.out).expect("a sound bundle").manifest.version, second.version);
    let left: Vec<_> = fs::read_dir(dir.path()).expect("directory").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    job.out = dir.path().to_path_buf();
    let error = make(&job, |_| {}).expect_err("not a bundle").to_string();
    assert!(error.contains("is no model bundle"), "{error}");
}

#[test]
fn empty_input_says_so() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let job = data(dir.path(), true, false, true);
    fs::write(&job.interactions[0], "{\n").expect("temporary file");
    let error = make(&job, |_| {}).expect_err("nothing to read").to_string();
    assert!(error.contains("no valid interaction") && error.contains("1 records rejected"), "{error}");
}
