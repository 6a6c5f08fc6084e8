//! Whole runs of `train` on small data.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::alert::Policies;
use crate::model::Model;
use crate::train::drifted::{Verdict, drifted};
use crate::train::evaluate::evaluate;
use crate::train::holdout::How;

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
    Job {
        interactions: vec![dir.join("i.jsonl")],
        labels: vec![dir.join("l.jsonl")],
        vectors: Source::default(),
        out: dir.join("bundle"),
        parent: None,
        seed: 3,
        until: None,
        config: config(),
    }
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
    let (report, _) =
        evaluate(model, Arc::new(Policies::standard()), &job.interactions, &job.labels, None, None, |_, _| {}).expect("a report");
    assert!(report.seen.as_deref().is_some_and(|s| s.starts_with("480 of 480 labelled interactions lie in the time")), "{:?}", report.seen);
    let satisfaction = &report.tasks["satisfaction"];
    assert!(satisfaction.quality.accuracy > 0.95, "{satisfaction:?}");
    assert!(satisfaction.baselines["tfidf"].quality.accuracy > 0.95, "{satisfaction:?}");
    assert!(report.tasks["intent"].quality.accuracy > 0.95, "{:?}", report.tasks["intent"]);
}

#[test]
fn what_was_learnt_by_heart_is_not_believed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut job = data(dir.path(), true, true, true);
    let text = fs::read_to_string(&job.interactions[0]).expect("interactions");
    // Every word is its own, and what it is rated says nothing of any other: some 24 labels are set aside to calibrate, too few to tell.
    let lines = text
        .lines()
        .enumerate()
        .map(|(i, line)| line.replace("this is", &format!("word{i}")).replace("great", "x").replace("broken and late", "x"));
    fs::write(&job.interactions[0], lines.map(|line| line.replace("thanks ", "") + "\n").collect::<String>()).expect("temporary file");
    job.config.epochs = 40;
    train(&job);
    let model = Model::load(&job.out).expect("a sound bundle");
    let scales = [model.manifest.satisfaction.as_ref().expect("a head").scale, model.manifest.classes["intent"].scale];
    assert!(scales.iter().all(|scale| *scale < 0.5), "{scales:?}");
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
    assert!(notes.iter().any(|n| n.contains(", 0, 0] to learn from, two classes need at least 5 each")), "{notes:?}");
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
    // Killed after the old bundle was moved away and before the new one came: the old one is back, whatever becomes of the next run.
    fs::rename(&job.out, dir.path().join(".bundle.old")).expect("a rename");
    let nobody = Job { until: Some(Timestamp(0)), ..job.clone() };
    make(&nobody, |_| {}).expect_err("nothing to learn from");
    assert_eq!(Model::load(&job.out).expect("a sound bundle").manifest.version, second.version);
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

#[test]
fn what_is_set_aside_is_never_fitted_on() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut job = data(dir.path(), true, true, true);
    job.config.epochs = 1;
    let (first, _) = train(&job);
    // Other words, kinds and labels where the customers are set aside: nothing that is fitted may notice, only the figures do.
    let lines = fs::read_to_string(&job.interactions[0]).expect("interactions");
    let judged = |line: &str| {
        let customer = line.split("\"customer_id\":\"").nth(1).and_then(|l| l.split('"').next()).expect("a customer");
        Holdout::Customers.part(customer, Timestamp(0)) == Part::Judge
    };
    let changed =
        |line: &str| if judged(line) { line.replace("this is", "zzyzx").replace("message", "email") } else { line.to_owned() } + "\n";
    fs::write(&job.interactions[0], lines.lines().map(changed).collect::<String>()).expect("temporary file");
    job.out = dir.path().join("changed");
    let (second, _) = train(&job);
    let fitted = |bundle: &Path| {
        let mut manifest = Model::load(bundle).expect("a sound bundle").manifest.clone();
        // What was read is more than what is fitted on.
        manifest.training.data = None;
        manifest.metrics = serde_json::Value::Null;
        manifest.version.clear();
        manifest
    };
    assert_eq!(fitted(&dir.path().join("bundle")), fitted(&job.out), "the manifest has the hashes of all that was fitted");
    assert_ne!(first.tasks["satisfaction"].quality, second.tasks["satisfaction"].quality);
}

/// 60 customers with a message a week for 20 weeks; in the last weeks most turn bad, in other words.
fn histories(dir: &Path) -> Job {
    let job = data(dir, true, false, true);
    let (mut interactions, mut labels) = (String::new(), String::new());
    for week in 0..20 {
        for c in 0..60 {
            let good = if week < 17 { (c + week) % 3 > 0 } else { c % 10 == 0 };
            let words = if good { "thanks this is great" } else { "this is broken" };
            let late = if week >= 17 { " unheard" } else { "" };
            let at = Timestamp(
                Timestamp::parse("2024-01-01T00:00:00Z").expect("a time").0 + (week * 7 * 86_400 + c) * Timestamp::MICROS_PER_SECOND,
            );
            let _ = writeln!(
                interactions,
                r#"{{"id":"{c}-{week}","customer_id":"c{c}","occurred_at":"{at}","kind":"message","text":"{words}{late}"}}"#
            );
            let mean = if good { 4.5 } else { 1.5 };
            let _ = writeln!(labels, r#"{{"interaction_id":"{c}-{week}","task":"satisfaction","value":{mean}}}"#);
        }
    }
    fs::write(dir.join("i.jsonl"), interactions).expect("temporary file");
    fs::write(dir.join("l.jsonl"), labels).expect("temporary file");
    job
}

#[test]
fn histories_are_judged_on_their_end_and_the_report_says_so() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut job = histories(dir.path());
    job.config.horizon_days = 14;
    job.config.epochs = 2;
    let (made, _) = train(&job);
    // The last fifth of 20 weeks: two to calibrate, two to judge.
    let task = &made.tasks["satisfaction"];
    assert_eq!((task.quality.n, task.customers), (120, 60));
    let read = |file: &str| fs::read_to_string(job.out.join(file)).expect(file);
    assert!(!read("tokenizer.json").contains("unheard"), "the vocabulary is of the part that is fitted on");
    let report: serde_json::Value = serde_json::from_str(&read("report.json")).expect("JSON");
    assert_eq!(report["model"], made.version.as_str());
    let sizes = |i: usize| report["data"]["parts"][i]["interactions"].as_u64();
    assert_eq!([sizes(0), sizes(1), sizes(2)], [Some(960), Some(120), Some(120)]);
    assert_eq!(report["epochs"].as_array().map(Vec::len), Some(2));
    assert!(report["epochs"][1]["calibration"].as_f64().is_some_and(|loss| loss > 0.0));
    // Most are bad where they are judged: the scores have moved.
    assert!(report["outputs"][0]["psi"].as_f64().is_some_and(|psi| psi > 0.2), "{}", report["outputs"]);
    let page = read("report.html");
    for part in [
        "Divided by time",
        "Reliability",
        "ROC of dissatisfied",
        "tfidf, ",
        "Confusion",
        "Loss per label",
        "Score drift",
        "tfidf",
        &made.version,
    ] {
        assert!(page.contains(part), "{part}");
    }
    for outside in ["http://", "https://", "<script", "src=", "url("] {
        let found = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!found.contains(outside), "{outside} in a self-contained page");
    }
}

/// 1,500 customers with four messages each of two intents, and a third one that only those have who are judged: too rare to learn.
fn with_a_rare_intent(dir: &Path) -> Job {
    let mut job = data(dir, false, true, true);
    let (mut interactions, mut labels) = (String::new(), String::new());
    for c in 0..1500 {
        let judged = Holdout::Customers.part(&format!("c{c}"), Timestamp(0)) == Part::Judge;
        for turn in 0..4 {
            let (class, words) = match (c * 7 + turn * 3) % 5 {
                0 if judged && c % 2 == 0 => ("strange", "zzyzx"),
                0 | 1 => ("praise", "thanks this is great"),
                _ => ("complaint", "this is broken and late"),
            };
            let _ = writeln!(
                interactions,
                r#"{{"id":"{c}-{turn}","customer_id":"c{c}","occurred_at":"2024-01-{:02}T10:{turn:02}:00Z","kind":"message","text":"{words} w{} v{}"}}"#,
                1 + c % 28,
                c % 31,
                (c * 7 + turn * 5) % 37
            );
            // One in ten is labelled wrongly, so that nothing is sure.
            let class = if (c * 13 + turn) % 10 == 0 { "praise" } else { class };
            let _ = writeln!(labels, r#"{{"interaction_id":"{c}-{turn}","task":"intent","value":"{class}"}}"#);
        }
    }
    fs::write(&job.interactions[0], interactions).expect("temporary file");
    fs::write(&job.labels[0], labels).expect("temporary file");
    job.config.epochs = 3;
    job.config.unknown_quantile = 0.1;
    job
}

#[test]
fn a_class_task_is_judged_alike_by_training_and_evaluation() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let job = with_a_rare_intent(dir.path());
    let (made, _) = train(&job);
    let trained = &made.tasks["intent"];
    // What training judged on, alone.
    let lines = fs::read_to_string(&job.interactions[0]).expect("interactions");
    let judged = |line: &&str| {
        let customer = line.split("\"customer_id\":\"").nth(1).and_then(|l| l.split('"').next()).expect("a customer");
        Holdout::Customers.part(customer, Timestamp(0)) == Part::Judge
    };
    let path = dir.path().join("judged.jsonl");
    fs::write(&path, lines.lines().filter(judged).map(|l| l.to_owned() + "\n").collect::<String>()).expect("temporary file");
    let model = Model::load(&job.out).expect("a sound bundle");
    assert!(model.manifest.classes["intent"].unknown_below.is_some());
    let (report, _) = evaluate(model, Arc::new(Policies::standard()), &[path], &job.labels, None, None, |_, _| {}).expect("a report");
    let evaluated = &report.tasks["intent"];
    let strange = trained.unknown_labels.expect("a class task");
    assert!(strange > 20 && trained.quality.n > 200, "{strange} of {}", trained.quality.n);
    let figures = |t: &TaskReport| {
        (t.quality.n, t.customers, t.quality.accuracy, t.quality.macro_f1, t.unknown_labels, t.recall_at.clone(), t.confusion.clone())
    };
    assert_eq!(figures(trained), figures(evaluated));
    // The last bits of two libraries may fall on either side of a threshold.
    let [ours, theirs] = [trained, evaluated].map(|t| t.unknown.expect("a threshold"));
    assert_eq!((ours.known, ours.unknown), (theirs.known, theirs.unknown));
    assert!(ours.known_called_unknown > 0 && ours.known_called_unknown.abs_diff(theirs.known_called_unknown) <= 3, "{ours:?} {theirs:?}");
    assert!(ours.recall.zip(theirs.recall).is_some_and(|(a, b)| a > 0.5 && (a - b).abs() < 0.1), "{ours:?} {theirs:?}");
    assert!((trained.quality.log_loss - evaluated.quality.log_loss).abs() < 1e-4);
    let tfidf = |t: &TaskReport| (t.baselines["tfidf"].quality.n, t.baselines["tfidf"].quality.accuracy);
    assert_eq!(tfidf(trained), tfidf(evaluated));
    // The likeliest label is said, whatever the threshold; a label that nobody knows is a miss.
    assert_eq!((ours.known + ours.unknown, ours.unknown), (trained.quality.n, strange));
    let hits: usize = (0..2).map(|i| trained.confusion.counts[i][i]).sum();
    assert!((trained.quality.accuracy - hits as f64 / trained.quality.n as f64).abs() < 1e-9, "{:?}", trained.confusion);
    assert!(trained.confusion.counts.iter().all(|row| row.get(2).is_none_or(|n| *n == 0)), "nothing is said to be none of them");
    assert!(trained.quality.accuracy <= 1.0 - strange as f64 / trained.quality.n as f64);
}

#[test]
fn training_waits_for_drift() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut job = histories(dir.path());
    job.config.epochs = 1;
    job.config.holdout = How::Customers;
    train(&job);
    let model = Model::load(&job.out).expect("a sound bundle");
    let judge = |lines: &str| {
        let path = dir.path().join("new.jsonl");
        fs::write(&path, lines).expect("temporary file");
        drifted(model.clone(), &[path], Sample::default(), 0.2).expect("comparable").0
    };
    let old = fs::read_to_string(&job.interactions[0]).expect("interactions");
    assert_eq!(judge(&old), Verdict::TooFew(0));
    // The same customers' interactions again, in the next leap year and by others: nothing is new but the time.
    let later = old.replace("2024-", "2028-").replace("\"id\":\"", "\"id\":\"n").replace("\"customer_id\":\"", "\"customer_id\":\"n");
    let verdict = judge(&later);
    assert!(matches!(&verdict, Verdict::Steady { n: 1200, .. }), "{verdict:?}");
    assert!(verdict.sentence(0.2).contains("no input or output of 1200 new interactions"), "{}", verdict.sentence(0.2));
    let Verdict::Drifted(beyond) = judge(&later.replace("this is broken", "broken! and this? is 4 very long new story of it all")) else {
        panic!("no drift seen")
    };
    assert!(beyond.iter().any(|d| d.name == "log_words") && beyond.iter().all(|d| d.psi > 0.2), "{beyond:?}");
}

#[test]
fn patience_keeps_the_best_epoch() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut job = data(dir.path(), true, false, true);
    // Nothing can be learned: the labels have nothing to do with the texts.
    let shuffled: String = fs::read_to_string(&job.labels[0])
        .expect("labels")
        .lines()
        .enumerate()
        .map(|(i, l)| {
            l.replace("4.5", "1.5")
                .replace("1.5", if crate::customer::words::hash(&i.to_string()).is_multiple_of(2) { "1.5" } else { "4.5" })
                + "\n"
        })
        .collect();
    fs::write(&job.labels[0], shuffled).expect("temporary file");
    // So large a step that the loss jumps up and down.
    job.config.learning_rate = 0.2;
    job.config.epochs = 40;
    job.config.patience = 2;
    let (_, notes) = train(&job);
    assert!(notes.iter().any(|n| n.starts_with("stopped after epoch")), "{notes:?}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(job.out.join("report.json")).expect("a report")).expect("JSON");
    let losses: Vec<f64> = report["epochs"].as_array().expect("epochs").iter().filter_map(|e| e["calibration"].as_f64()).collect();
    let kept = report["kept_epoch"].as_u64().expect("a number") as usize;
    assert_eq!(losses.len(), kept + 2);
    assert!(losses.iter().all(|l| *l >= losses[kept - 1]), "{losses:?}");
}

#[test]
fn amounts_that_are_no_numbers_are_rejected_and_said() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut job = data(dir.path(), true, false, true);
    job.config.epochs = 1;
    let mut lines = fs::read_to_string(&job.interactions[0]).expect("interactions");
    for (i, amount) in ["NaN", "-1", "1e999", "\"12\""].into_iter().enumerate() {
        let _ = writeln!(
            lines,
            r#"{{"id":"bad{i}","customer_id":"x","occurred_at":"2024-01-01T10:00:00Z","kind":"purchase","amount":{amount}}}"#
        );
    }
    fs::write(&job.interactions[0], lines).expect("temporary file");
    let (made, notes) = train(&job);
    assert!(notes.iter().any(|n| n.contains("4 rejected")), "{notes:?}");
    assert_eq!(made.counts.rejected, 4);
    Model::load(&job.out).expect("a sound bundle");
}

#[test]
fn too_few_customers_to_set_any_aside_says_so() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let job = data(dir.path(), true, false, true);
    let lonely = (0..).map(|i| format!("lonely{i}")).find(|c| Holdout::Customers.part(c, Timestamp(0)) == Part::Judge).expect("some");
    let line = format!(r#"{{"id":"1","customer_id":"{lonely}","occurred_at":"2024-01-01T10:00:00Z","kind":"visit"}}"#);
    fs::write(&job.interactions[0], line).expect("temporary file");
    let error = make(&job, |_| {}).expect_err("nothing to fit on").to_string();
    assert!(error.contains("nothing is left to fit on"), "{error}");
    assert!(!job.out.exists());
}

#[test]
fn a_search_keeps_the_trial_with_the_lowest_loss_where_it_is_calibrated() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut job = data(dir.path(), true, false, true);
    job.config.epochs = 2;
    // Too low and too short: some other trial must win.
    job.config.learning_rate = 0.002;
    job.config.search.budget = 12;
    job.config.search.keys = vec!["learning_rate".into(), "epochs".into()];
    train(&job);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(job.out.join("report.json")).expect("a report")).expect("JSON");
    let losses: Vec<f64> = report["trials"].as_array().expect("trials").iter().filter_map(|t| t["loss"].as_f64()).collect();
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(losses.len() == 12 && least < losses[0], "{losses:?}");
    let kept = report["epochs"].as_array().and_then(|e| e.last()).and_then(|e| e["calibration"].as_f64());
    assert_eq!(kept, Some(least));
}

#[test]
fn a_search_that_was_broken_off_keeps_its_trials() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut job = data(dir.path(), true, false, true);
    job.config.epochs = 4;
    job.config.search.budget = 3;
    job.config.search.keys = vec!["learning_rate".into()];
    let (whole, _) = train(&job);
    job.out = dir.path().join("broken/off");
    let checkpoint = dir.path().join("broken/off.checkpoint");
    let mut second = false;
    // Ends in the middle of the second fit, as soon as there is a checkpoint of it; each step takes long enough for one to be worth it.
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        make(&job, |p| {
            if let Progress::Fit("fitting 2 of 3", ..) = p {
                if !std::mem::replace(&mut second, true) {
                    let _ = fs::remove_file(&checkpoint);
                }
                assert!(!checkpoint.exists(), "killed");
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
        })
    }));
    assert!(broken.is_err() && checkpoint.exists() && !job.out.exists());
    let (made, notes) = train(&job);
    assert!(notes.iter().any(|n| n.contains("off.checkpoint: fit 2, epoch ")), "{notes:?}");
    assert_eq!(made.version, whole.version);
    let report = |bundle: &str| fs::read(dir.path().join(bundle).join("report.json")).expect("a report");
    assert!(report("broken/off") == report("bundle"), "every trial, also the first, is in the report");
    assert!(!checkpoint.exists());
}
