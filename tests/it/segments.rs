//! Segments, anomaly and the tabular baseline from training to scores: a small log of customers of three kinds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rapport::customer::Counters;
use rapport::customer::words;
use rapport::interaction::Timestamp;
use rapport::model::{CHURN, DISSATISFIED, Manifest, Model, TabularRunner};
use rapport::train::config::Config;
use rapport::train::make::{Job, Progress, make};
use serde_json::Value;

use crate::process::{Process, cache, rapport, root};

const EACH: usize = 40;

pub fn at(day: usize, minute: usize) -> String {
    Timestamp((19_700 + day) as i64 * Timestamp::MICROS_PER_DAY + minute as i64 * 60_000_000).to_string()
}

/// Regular buyers of large amounts, buyers of one small order, and people who chat, never buy and rate badly at times.
fn interactions() -> String {
    let mut lines = Vec::new();
    let mut line = |customer: String, day: usize, rest: String| {
        let (n, time) = (lines.len(), at(day, lines.len() % 1440));
        lines.push((day, time.clone(), format!(r#"{{"id":"i{n}","customer_id":"{customer}","occurred_at":"{time}",{rest}}}"#)));
    };
    for c in 0..EACH {
        for day in (c % 9..400).step_by(9 + c % 4) {
            line(format!("regular-{c}"), day, format!(r#""kind":"purchase","channel":"web","amount":{}"#, 200 + (day * 7) % 90));
        }
        // Two lines of one order.
        for _ in 0..2 {
            line(format!("once-{c}"), (c * 9) % 400, format!(r#""kind":"purchase","channel":"store","amount":{}"#, 5 + c % 7));
        }
        for day in (3 * c % 40..400).step_by(25 + c % 10) {
            let (text, rating) = if (day + c) % 3 == 0 { ("it is broken again", 1) } else { ("thanks, that helps", 5) };
            line(
                format!("chatter-{c}"),
                day,
                format!(r#""kind":"{}","channel":"chat","text":"{text}","rating":{rating}"#, if rating == 1 { "email" } else { "message" }),
            );
        }
    }
    lines.sort();
    lines.into_iter().fold(String::new(), |mut all, (_, _, line)| {
        let _ = writeln!(all, "{line}");
        all
    })
}

pub fn job(dir: &Path, interactions: &str) -> Job {
    let file = dir.join("i.jsonl");
    std::fs::write(&file, interactions).expect("a file");
    let config = Config {
        epochs: 1,
        horizon_days: 30,
        embedding: 4,
        filters: 2,
        bag: 4,
        vector: 4,
        hidden: 4,
        bag_rows: 64,
        min_count: 1,
        ..Config::default()
    };
    Job {
        interactions: vec![file],
        labels: vec![],
        vectors: Default::default(),
        out: dir.join("bundle"),
        parent: None,
        seed: 1,
        until: None,
        config,
    }
}

pub fn train(job: &Job) -> Vec<String> {
    let mut notes = Vec::new();
    make(job, |p| {
        if let Progress::Note(text) = p {
            notes.push(text.to_owned());
        }
    })
    .expect("a bundle");
    notes
}

/// The folder of `i.jsonl` and `bundle`; trained once per test process.
pub fn trained() -> &'static Path {
    static DIR: OnceLock<(tempfile::TempDir, Vec<String>)> = OnceLock::new();
    let (dir, notes) = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder");
        let notes = train(&job(dir.path(), &interactions()));
        (dir, notes)
    });
    assert!(notes.iter().any(|n| n.contains(" segments: ")), "{notes:?}");
    dir.path()
}

fn score(dir: &Path, name: &str, extra: &[&str]) -> Vec<Value> {
    score_by(&trained().join("bundle"), dir, name, extra)
}

fn score_by(bundle: &Path, dir: &Path, name: &str, extra: &[&str]) -> Vec<Value> {
    let output = dir.join(name);
    let (model, input) = (bundle.to_path_buf(), dir.join("i.jsonl"));
    let paths = [model, input, output.clone()].map(|p| p.to_str().expect("a path").to_owned());
    let mut arguments = vec!["score", "--model", &paths[0], "--input", &paths[1], "--output", &paths[2]];
    arguments.extend(extra);
    let done = rapport(dir, arguments, Duration::from_secs(60));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let text = std::fs::read_to_string(output).expect("scores");
    text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
}

#[test]
fn every_score_has_a_segment_that_tells_the_kinds_apart() {
    let model = Model::load(trained().join("bundle")).expect("a sound bundle");
    let head = model.manifest.behaviour.as_ref().expect("segments");
    let labels: BTreeSet<&str> = head.segments.iter().map(|s| s.label.as_str()).collect();
    assert_eq!(labels.len(), head.segments.len(), "unique: {labels:?}");
    assert!((3..=8).contains(&labels.len()));
    assert!((head.segments.iter().map(|s| s.share).sum::<f32>() - 1.0).abs() < 1e-4);
    assert!(head.segments.iter().all(|s| s.profile.contains_key("recency_days")) && head.profile.contains_key("rating"));

    let dir = tempfile::tempdir().expect("a folder");
    std::fs::copy(trained().join("i.jsonl"), dir.path().join("i.jsonl")).expect("a copy");
    let scores = score(dir.path(), "s.jsonl", &[]);
    let (mut shares, mut seen) = (BTreeMap::<(String, u64), usize>::new(), HashMap::<String, usize>::new());
    for s in &scores {
        let (id, label) = (s["segment"]["id"].as_u64().expect("an id"), s["segment"]["label"].as_str().expect("a label"));
        assert_eq!(label, head.segments[id as usize].label);
        assert!((0.0..=1.0).contains(&s["anomaly"].as_f64().expect("a number")), "{s}");
        let customer = s["customer_id"].as_str().expect("an id").to_owned();
        let kind = customer.split('-').next().unwrap_or_default().to_owned();
        let times = seen.entry(customer).or_default();
        *times += 1;
        if *times > 4 {
            *shares.entry((kind, id)).or_default() += 1;
        }
    }
    // After their first days, those who chat share no segment with those who buy regularly.
    for id in 0..head.segments.len() as u64 {
        let of = |kind: &str| shares.get(&(kind.to_owned(), id)).copied().unwrap_or(0) as f64;
        let total = of("regular") + of("chatter");
        assert!(total < 20.0 || of("regular").max(of("chatter")) > 0.9 * total, "segment {id}: {shares:?}");
    }
}

#[test]
fn the_report_profiles_every_segment() {
    let read = |name: &str| std::fs::read_to_string(trained().join("bundle").join(name)).expect("a report");
    let (report, page) = (serde_json::from_str::<Value>(&read("report.json")).expect("JSON"), read("report.html"));
    let model = Model::load(trained().join("bundle")).expect("a sound bundle");
    let head = model.manifest.behaviour.as_ref().expect("segments");
    let segments = report["segments"]["segments"].as_array().expect("segments");
    let features: Vec<&str> = report["segments"]["features"].as_array().expect("features").iter().filter_map(Value::as_str).collect();
    assert!(features.contains(&"log_amount") && features.contains(&"mean_rating"), "{features:?}");
    let deviation = |segment: &Value, name: &str| {
        let place = features.iter().position(|f| *f == name).expect("a feature");
        segment["deviations"][place].as_f64().expect("a number")
    };
    assert_eq!(segments.len(), head.segments.len());
    let mut sums = vec![0.0; features.len()];
    for (segment, known) in segments.iter().zip(&head.segments) {
        let share = segment["share"].as_f64().expect("a number");
        assert_eq!((segment["label"].as_str(), share as f32), (Some(known.label.as_str()), known.share));
        assert_eq!(segment["deviations"].as_array().map(Vec::len), Some(features.len()));
        // Who buys for more than all do on average stands above 0 in the amount, and the other way round.
        let (own, all) = (known.profile["amount"], head.profile["amount"]);
        if own > 2.0 * all || own < 0.1 * all {
            assert_eq!(deviation(segment, "log_amount") > 0.0, own > all, "{segment}");
        }
        sums.iter_mut().zip(&features).for_each(|(sum, name)| *sum += share * deviation(segment, name));
        for part in [format!("<td class=\"left\">{}</td><td>{:.1} %</td>", known.label, 100.0 * share), format!("<br>{}</th>", known.label)]
        {
            assert!(page.contains(&part), "{part}");
        }
    }
    // All together are the whole, which is 0.
    assert!(sums.iter().all(|sum| sum.abs() < 0.02), "{sums:?}");
    let shown = deviation(&segments[0], "log_amount");
    assert!(page.contains(&format!("{shown:+.1}").replace('-', "−")), "{shown}");

    // Drift of every head, and how the heads of the future were learnt.
    let names: Vec<&str> = report["outputs"].as_array().expect("outputs").iter().filter_map(|o| o["name"].as_str()).collect();
    for head in ["satisfaction.value", "churn.probability", "spend.purchases", "spend.amount"] {
        assert!(names.contains(&head) && page.contains(&format!("<figcaption>{head}, PSI ")), "{head}: {names:?}");
    }
    let epochs = report["future_epochs"].as_array().expect("losses");
    for part in ["fit", "calibration"] {
        let losses: Vec<f64> = epochs.iter().filter_map(|e| e[part].as_f64()).collect();
        assert!(losses.len() >= 3 && losses.iter().skip(1).any(|loss| *loss < losses[0]), "{part}: {losses:?}");
        // What is fitted on is learnt to the end; the customers aside may have had their best before.
        assert!(part != "fit" || losses[0] > losses[losses.len() - 1], "{losses:?}");
    }
}

#[test]
fn silence_and_strange_behaviour_show() {
    let dir = tempfile::tempdir().expect("a folder");
    // One customer who does what nobody did in training.
    let strange = (0..40).fold(interactions(), |mut all, n| {
        let kind = ["purchase", "return"][n % 2];
        let _ = writeln!(
            all,
            r#"{{"id":"x{n}","customer_id":"strange","occurred_at":"{}","kind":"{kind}","amount":90000,"quantity":5000,"rating":1}}"#,
            at(398, n)
        );
        all
    });
    std::fs::write(dir.path().join("i.jsonl"), strange).expect("a file");
    let last: HashMap<String, Value> =
        score(dir.path(), "s.jsonl", &[]).into_iter().map(|s| (s["customer_id"].as_str().expect("an id").to_owned(), s)).collect();
    assert!(last["strange"]["anomaly"].as_f64().expect("a number") > 0.99, "{}", last["strange"]);
    let usual = last.iter().filter(|(c, s)| *c != "strange" && s["anomaly"].as_f64().is_some_and(|a| a < 0.99)).count();
    assert!(usual > 3 * EACH * 8 / 10, "{usual}");

    // As of the next moment nothing has changed; as of a later one silence has.
    let now = score(dir.path(), "now.jsonl", &["--as-of", &at(400, 0)]);
    let later = score(dir.path(), "later.jsonl", &["--as-of", &at(700, 0)]);
    assert_eq!((now.len(), later.len()), (3 * EACH + 1, 3 * EACH + 1));
    let regular = |scores: &[Value]| {
        let of = scores.iter().filter(|s| s["customer_id"].as_str().is_some_and(|c| c.starts_with("regular")));
        of.map(|s| s["anomaly"].as_f64().expect("a number")).collect::<Vec<_>>()
    };
    let (before, after) = (regular(&now), regular(&later));
    assert!(before.iter().filter(|a| **a < 0.95).count() > EACH * 8 / 10, "{before:?}");
    assert!(after.iter().all(|a| *a > 0.95), "a regular customer who has been silent for 300 days is unusual: {after:?}");
    assert!(now.iter().zip(&later).any(|(a, b)| a["segment"] != b["segment"]));
}

#[test]
fn the_dense_baseline_knows_who_churns_and_who_is_dissatisfied() {
    let model = Model::load(trained().join("bundle")).expect("a sound bundle");
    let dense = model.tabular.as_ref().expect("the bundle has the baseline");
    let mut runner = TabularRunner::new(dense).expect("runs");
    let input = &dense.input;
    assert_eq!(input.kinds.names(), ["email", "message", "purchase"]);
    // Emails complain, messages thank.
    let day = |d: i64| Timestamp((19_700 + d) * Timestamp::MICROS_PER_DAY);
    let mut talked = Counters { interactions: 5, customer_interactions: 5, visits: 5, ..Counters::default() };
    (talked.first, talked.first_visit, talked.last, talked.last_by_customer, talked.last_visit) =
        (day(0), day(0), day(120), day(120), day(120));
    (talked.visit_days, talked.visit_days_squared, talked.last_visit_days) = (120.0, 3600.0, 30.0);
    let rows = ["email", "message"].map(|k| input.row(&talked, words::hash(k), words::hash("chat"), day(150))).to_vec();
    let p = runner.predict(DISSATISFIED, rows).expect("runs").expect("a target");
    assert!(p[0] > 0.6 && p[1] < 0.4, "{p:?}");
    // One order long ago against five visits.
    let mut once = Counters { interactions: 2, customer_interactions: 2, visits: 1, purchases: 2, amount: 12.0, ..Counters::default() };
    (once.first, once.first_visit, once.last, once.last_by_customer, once.last_visit) = (day(0), day(0), day(0), day(0), day(0));
    (once.first_purchase, once.last_purchase) = (day(0), day(0));
    let rows = vec![
        input.row(&once, words::hash("purchase"), words::hash("store"), day(150)),
        input.row(&talked, words::hash("message"), words::hash("chat"), day(121)),
    ];
    let p = runner.predict(CHURN, rows).expect("runs").expect("a target");
    assert!(p[0] > 0.7 && p[0] > p[1] + 0.2, "{p:?}");
    assert_eq!(runner.predict("spend", vec![]).expect("runs"), None);
}

#[test]
fn evaluate_puts_the_dense_network_beside_the_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let paths =
        [trained().join("bundle"), trained().join("i.jsonl"), dir.path().join("e.json")].map(|p| p.to_str().expect("a path").to_owned());
    let as_of = at(365, 0);
    let arguments = ["evaluate", "--model", &paths[0], "--interactions", &paths[1], "--as-of", &as_of, "--json", &paths[2]];
    let done = rapport(dir.path(), arguments, Duration::from_secs(60));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("tabular (dissatisfied or not)"), "{}", done.stdout);
    let report: Value = serde_json::from_slice(&std::fs::read(&paths[2]).expect("a report")).expect("JSON");
    let satisfaction = &report["tasks"]["satisfaction"];
    let dense = &satisfaction["baselines"]["tabular"];
    // The kind says it all.
    assert!(dense["auroc"].as_f64() > Some(0.9) && dense["log_loss"].as_f64() < Some(0.5), "{dense}");
    assert_eq!((&dense["n"], &dense["of"]), (&satisfaction["n"], &"dissatisfied or not".into()));
    let churn = &report["tasks"]["churn"]["baselines"]["tabular"];
    assert!(churn["auroc"].as_f64() > Some(0.7), "{churn}");
    let made: Value = serde_json::from_slice(&std::fs::read(trained().join("bundle/report.json")).expect("a report")).expect("JSON");
    assert!(made["tasks"]["satisfaction"]["baselines"]["tabular"]["auroc"].as_f64() > Some(0.8), "{made}");
    // Training judges churn beside it, too.
    let churn = &made["future"]["churn"];
    assert!(churn["baselines"]["tabular"]["auroc"].as_f64() > Some(0.6), "{churn}");
    assert!(churn["curves"]["differences"]["tabular"]["auroc"][0].is_number(), "{churn}");
}

#[test]
fn training_cuts_what_it_judges_by_the_segments_that_scores_name() {
    // Those who buy regularly rate, too.
    let rates = |line: &str| if line.contains("regular-") { line.replace('}', r#","rating":4}"#) } else { line.to_owned() } + "\n";
    let dir = tempfile::tempdir().expect("a folder");
    let log: String = interactions().lines().map(rates).collect();
    train(&job(dir.path(), &log));
    let bundle = dir.path().join("bundle");
    let made: Value = serde_json::from_slice(&std::fs::read(bundle.join("report.json")).expect("a report")).expect("JSON");
    let slices = |report: &Value| -> BTreeMap<String, u64> {
        let all = report["slices"].as_array().expect("slices").iter().filter(|s| s["by"] == "segment");
        all.map(|s| (s["value"].as_str().expect("a label").to_owned(), s["n"].as_u64().expect("a number"))).collect()
    };
    // "… calibrated on what follows until T, judged on the rest."
    let divided = made["data"]["holdout"].as_str().expect("words");
    let middle = divided.split("until ").nth(1).and_then(|rest| rest.split(',').next()).expect("a time");
    let rated: BTreeSet<String> = log
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).expect("JSON"))
        .filter(|i| i["rating"].is_number() && i["occurred_at"].as_str() >= Some(middle))
        .map(|i| i["id"].as_str().expect("an id").to_owned())
        .collect();
    let mut counts = BTreeMap::<String, u64>::new();
    let scores = score_by(&bundle, dir.path(), "s.jsonl", &[]);
    for s in scores.iter().filter(|s| s["interaction_id"].as_str().is_some_and(|id| rated.contains(id))) {
        *counts.entry(s["segment"]["label"].as_str().expect("a label").to_owned()).or_default() += 1;
    }
    assert!(counts.len() > 1, "{counts:?}");
    counts.retain(|_, n| *n >= 30);
    assert_eq!(slices(&made["tasks"]["satisfaction"]), counts);
    // Customers as of a time are cut likewise.
    for task in ["churn", "spend"] {
        assert!(slices(&made["future"][task]).len() > 1, "{task}: {}", made["future"][task]["slices"]);
    }
    let page = std::fs::read_to_string(bundle.join("report.html")).expect("a page");
    for part in [
        "<h2>Anomaly</h2>",
        "Squared error of the autoencoder",
        "Loss of the dense network (churn), with dropout",
        "Purchases, by what was expected",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let anomaly = &made["anomaly"];
    let sum = |part: &str| anomaly[part].as_array().expect("shares").iter().filter_map(Value::as_f64).sum::<f64>();
    assert!((sum("fitted") - 1.0).abs() < 1e-9 && (sum("judged") - 1.0).abs() < 1e-9, "{anomaly}");
    // A tenth each where it was fitted.
    assert!(anomaly["fitted"].as_array().expect("shares").iter().all(|s| (s.as_f64().unwrap_or(0.0) - 0.1).abs() < 0.02), "{anomaly}");
}

#[test]
fn onnx_runtime_agrees_on_both_graphs() {
    let python = cache().join("venv/bin/python");
    assert!(python.exists(), "no {}: run `make deps`", python.display());
    let dir = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(&python);
    command.arg(root().join("tests/check_onnx.py")).args(["--bundle".as_ref(), trained().join("bundle").as_os_str()]);
    let checked = Process::spawn("check-onnx", command, dir.path()).wait(Duration::from_secs(120));
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    for output in [
        "autoencoder.onnx:code",
        "autoencoder.onnx:reconstruction",
        "tabular.onnx:churn",
        "tabular.onnx:dissatisfied",
        "future.onnx:survival",
        "future.onnx:spend",
    ] {
        assert!(checked.stdout.contains(output), "{}", checked.stdout);
    }
}

#[test]
fn a_bundle_whose_parts_do_not_fit_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let copy = |change: &dyn Fn(&mut Value)| {
        for entry in std::fs::read_dir(trained().join("bundle")).expect("a bundle").flatten().filter(|e| e.path().is_file()) {
            std::fs::copy(entry.path(), dir.path().join(entry.file_name())).expect("a copy");
        }
        std::fs::create_dir_all(dir.path().join("baselines")).expect("a folder");
        for entry in std::fs::read_dir(trained().join("bundle/baselines")).into_iter().flatten().flatten() {
            std::fs::copy(entry.path(), dir.path().join("baselines").join(entry.file_name())).expect("a copy");
        }
        let path = dir.path().join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).expect("a manifest")).expect("JSON");
        change(&mut manifest["behaviour"]);
        let mut manifest: Manifest = serde_json::from_value(manifest).expect("a manifest");
        manifest.version = manifest.content_version().expect("JSON");
        std::fs::write(&path, serde_json::to_vec(&manifest).expect("JSON")).expect("a manifest");
        Model::load(dir.path()).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(copy(&|_| {}), Ok(()));
    for (said, change) in [
        ("not those of this version", &(|b: &mut Value| b["feature_hash"] = "other".into()) as &dyn Fn(&mut Value)),
        ("not of one width", &|b| b["segments"][0]["center"] = serde_json::json!([1.0])),
        ("code has the shape", &|b| {
            b["segments"].as_array_mut().into_iter().flatten().for_each(|s| s["center"] = serde_json::json!([1.0]))
        }),
        ("error_quantiles", &|b| b["error_quantiles"] = serde_json::json!([2.0, 1.0])),
    ] {
        let error = copy(change).expect_err(said);
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn data_without_behaviour_leaves_the_parts_out_and_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let lines = (0..80).fold(String::new(), |mut all, c| {
        let _ = writeln!(all, r#"{{"id":"{c}","customer_id":"c{c}","occurred_at":"{}","kind":"review","text":"text {c}"}}"#, at(c, 0));
        all
    });
    let job = job(dir.path(), &lines);
    let notes = train(&job);
    for said in ["left out: segments and anomaly: 0 customers came back", "left out: the tabular baseline of dissatisfied: 0 rows with"] {
        assert!(notes.iter().any(|n| n.contains(said)), "{said}: {notes:?}");
    }
    let model = Model::load(&job.out).expect("a sound bundle");
    assert!(model.behaviour.is_none() && !model.manifest.files.contains_key("autoencoder.onnx"));
    let head = std::fs::read_to_string(job.out.join("manifest.json")).expect("a manifest");
    assert!(!head.contains("\"behaviour\""));
}
