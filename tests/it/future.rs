//! Churn and spend on the command line: as of a time, over another horizon, judged, as Parquet.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use parquet::file::reader::{FileReader, SerializedFileReader};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::process::{Finished, rapport};
use crate::segments::{at, job, train, trained};

/// The folder of a small log of weekly buyers, of whom one in eight leaves after each purchase, and of the bundle trained on it.
fn lapsing() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let mut rng = SmallRng::seed_from_u64(8);
        let mut lines = Vec::new();
        for c in 0..300 {
            let mut day = c * 13 % 390;
            while day < 400 {
                let n = lines.len();
                let time = at(day, n % 1440);
                lines.push((
                    time.clone(),
                    format!(r#"{{"id":"i{n}","customer_id":"c{c:03}","occurred_at":"{time}","kind":"purchase","amount":{}}}"#, 10 + c % 5),
                ));
                if rng.random_range(0..8) == 0 {
                    break;
                }
                day += rng.random_range(6..9);
            }
        }
        lines.sort();
        let dir = tempfile::tempdir().expect("a folder");
        train(&job(dir.path(), &lines.into_iter().map(|(_, line)| line + "\n").collect::<String>()));
        dir
    });
    dir.path()
}

/// Runs `rapport` on a log and the bundle trained on it.
fn run(dir: &Path, command: &str, input: &str, extra: &[&str]) -> Finished {
    run_on(trained(), dir, command, input, extra)
}

fn run_on(log: &Path, dir: &Path, command: &str, input: &str, extra: &[&str]) -> Finished {
    let paths = [log.join("bundle"), log.join("i.jsonl")].map(|p| p.to_str().expect("a path").to_owned());
    let mut arguments = vec![command, "--model", &paths[0], input, &paths[1]];
    arguments.extend(extra);
    rapport(dir, arguments, Duration::from_secs(60))
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().expect("a path").to_owned()
}

/// Churn of every customer as of a day, in order of customer.
fn churn(dir: &Path, day: usize, extra: &[&str]) -> (Vec<f64>, String) {
    let (day, file) = (at(day, 0), path(dir, "s.jsonl"));
    let mut arguments = vec!["--output", &file, "--as-of", &day];
    arguments.extend(extra);
    let done = run_on(lapsing(), dir, "score", "--input", &arguments);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let text = std::fs::read_to_string(&file).expect("scores");
    let scores = text.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
    (scores.map(|s| s["churn"]["probability"].as_f64().expect("a probability")).collect(), done.stderr)
}

#[test]
fn silence_raises_churn_and_a_longer_horizon_lowers_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (now, said) = churn(dir.path(), 400, &[]);
    assert!(said.contains("30 days from") && said.contains("purchases, amount") && said.contains("80 % interval"), "{said}");
    let (later, _) = churn(dir.path(), 430, &[]);
    let (longer, said) = churn(dir.path(), 400, &["--horizon-days", "60"]);
    assert!(said.contains("60 days from"), "{said}");
    // Those who still come; of the others silence says nothing new.
    let active: Vec<usize> = (0..now.len()).filter(|i| now[*i] < 0.5).collect();
    assert!(active.len() >= 20, "{} of {}", active.len(), now.len());
    let mean = |p: &[f64]| active.iter().map(|i| p[*i]).sum::<f64>() / active.len() as f64;
    assert!(mean(&later) > mean(&now) + 0.2, "{} {}", mean(&now), mean(&later));
    assert!(now.iter().zip(&longer).all(|(a, b)| b <= a) && mean(&longer) < mean(&now));
}

/// The number after `before` in what was said, without separators.
fn after(said: &str, before: &str) -> f64 {
    let rest = said.split_once(before).unwrap_or_else(|| panic!("{before:?} is not in {said}")).1;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c))).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("no number after {before:?} in {said}"))
}

#[test]
fn the_forecast_stands_beside_its_bias_and_the_last_period() {
    let dir = tempfile::tempdir().expect("a folder");
    // What lies on the bounds of the last period, repeats, other kinds, other actors, and what comes later.
    let (day, before) = (at(390, 0), at(360, 0));
    let mut input = std::fs::read_to_string(lapsing().join("i.jsonl")).expect("a log");
    let mut add = |id: &str, time: &str, kind: &str, amount: &str| {
        let line = format!(r#"{{"id":"{id}","customer_id":"late-{id}","occurred_at":"{time}","kind":"{kind}"{amount}}}"#);
        input += &format!("{line}\n{line}\n");
    };
    add("on", &before, "purchase", r#","amount":1000000"#);
    add("end", &day, "purchase", r#","amount":7000000"#);
    add("back", &at(380, 1), "return", r#","amount":500"#);
    add("free", &at(380, 2), "purchase", "");
    std::fs::write(dir.path().join("i.jsonl"), &input).expect("a log");
    let paths =
        [lapsing().join("bundle"), dir.path().join("i.jsonl"), dir.path().join("s.jsonl")].map(|p| p.to_str().expect("a path").to_owned());
    let arguments = ["score", "--model", &paths[0], "--input", &paths[1], "--output", &paths[2], "--as-of", &day];
    let done = rapport(dir.path(), arguments, Duration::from_secs(60));
    assert_eq!(done.code, Some(0), "{}", done.stderr);

    // From the file: purchases of [day 360, day 390), each once, of customers who had come before and of others.
    let mut seen = std::collections::HashSet::new();
    let records = || input.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let known: std::collections::HashSet<String> =
        records().filter(|i| i["occurred_at"].as_str() < Some(&before)).map(|i| i["customer_id"].to_string()).collect();
    let (mut purchases, mut amount) = ([0; 2], [0.0; 2]);
    for i in records() {
        let time = i["occurred_at"].as_str().expect("a time");
        if seen.insert(i["id"].to_string()) && i["kind"] == "purchase" && time >= before.as_str() && time < day.as_str() {
            let of = usize::from(!known.contains(&i["customer_id"].to_string()));
            purchases[of] += 1;
            amount[of] += i["amount"].as_f64().unwrap_or(0.0);
        }
    }
    assert!(purchases[0] > 100 && purchases[1] > 2 && (1e6..2e6).contains(&amount[1]) && amount[0] < 1e6, "{purchases:?} {amount:?}");
    let said = [
        format!("\n30 days before: {} purchases, amount {:.0} of the customers known before them\n", purchases[0], amount[0]),
        format!("\nand of newcomers, of whom no forecast knows: {} purchases, amount {:.0}\n", purchases[1], amount[1]),
    ];
    assert!(done.stderr.contains(&said.concat().replace("\n\n", "\n")), "{said:?} {}", done.stderr);
    // Thirty days a year before would begin on day 25, with fewer than thirty days of customers to know by then; twenty days do not.
    assert!(!done.stderr.contains("a year before"), "{}", done.stderr);
    let other = path(dir.path(), "t.jsonl");
    let nearer = arguments.map(|a| if a == paths[2] { other.as_str() } else { a });
    let nearer = rapport(dir.path(), [&nearer[..], &["--horizon-days", "20"]].concat(), Duration::from_secs(60));
    let (from, until) = (at(25, 0), at(45, 0));
    let known: std::collections::HashSet<String> =
        records().filter(|i| i["occurred_at"].as_str() < Some(&from)).map(|i| i["customer_id"].to_string()).collect();
    let then = |i: &Value| i["kind"] == "purchase" && (Some(&*from)..Some(&*until)).contains(&i["occurred_at"].as_str());
    let purchases = records().filter(|i| then(i) && known.contains(&i["customer_id"].to_string())).count();
    let said = format!("\n20 days a year before, from {from}: {purchases} purchases, amount ");
    assert!(purchases > 20 && nearer.stderr.contains(&said), "{said} {}", nearer.stderr);

    // From the scores.
    let scores = std::fs::read_to_string(&paths[2]).expect("scores");
    let sum = |key: &str| -> f64 {
        scores.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON")["spend"][key].as_f64().expect("a number")).sum()
    };
    let said = &done.stderr;
    for (key, before) in [("purchases", format!("30 days from {day}: ")), ("amount", " purchases, amount ".to_owned())] {
        let (shown, interval) = (after(said, &before), said.split_once(&before).expect("there").1);
        assert!((shown - sum(key)).abs() <= 0.51, "{key}: {} in {said}", sum(key));
        assert!(after(interval, " (") < shown && shown < after(interval, "–"), "{key}: {said}");
    }

    // From the report: what was expected on what was set aside against what came.
    let report: Value = serde_json::from_slice(&std::fs::read(lapsing().join("bundle/report.json")).expect("a report")).expect("JSON");
    let spend = &report["future"]["spend"];
    let number = |pointer: &str| spend.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {spend}"));
    let bias = |of: &str| 100.0 * (number(&format!("/expected/{of}/expected")) / number(&format!("/actual/{of}")) - 1.0);
    let held_out = "on what training set aside, 30 days ahead: purchases ";
    assert!((after(said, held_out) - bias("purchases")).abs() < 0.051, "{} in {said}", bias("purchases"));
    let of_amount = &said[said.find(held_out).expect("there")..];
    assert!((after(of_amount, "amount ") - bias("amount")).abs() < 0.051, "{} in {said}", bias("amount"));
    // The report has the interval and the last period too, and its page says the same.
    for of in ["purchases", "amount"] {
        assert!(
            number(&format!("/expected/{of}/low")) < number(&format!("/expected/{of}/high")) && number(&format!("/last_period/{of}")) > 0.0
        );
    }
    let page = std::fs::read_to_string(lapsing().join("bundle/report.html")).expect("a page");
    let row = format!(
        "<tr><td>purchases</td><td>{:.0}</td><td class=\"interval\">{:.0}–{:.0}</td><td>{:.0}</td><td>{:+.1} %</td><td>{:.0}</td><td>{:.0}</td></tr>",
        number("/expected/purchases/expected"),
        number("/expected/purchases/low"),
        number("/expected/purchases/high"),
        number("/actual/purchases"),
        bias("purchases"),
        number("/last_period/purchases"),
        number("/last_period_newcomers/purchases")
    );
    assert!(page.contains(&row), "{row}");
}

#[test]
fn parquet_has_the_columns_of_the_json() {
    let dir = tempfile::tempdir().expect("a folder");
    let done = run(dir.path(), "score", "--input", &["--output", &path(dir.path(), "s.parquet")]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let reader = SerializedFileReader::new(std::fs::File::open(dir.path().join("s.parquet")).expect("scores")).expect("Parquet");
    let columns: Vec<String> = reader.metadata().file_metadata().schema_descr().columns().iter().map(|c| c.path().string()).collect();
    for column in ["churn.probability", "churn.horizon_days", "spend.purchases", "spend.amount", "spend.horizon_days"] {
        assert!(columns.iter().any(|c| c == column), "{column}: {columns:?}");
    }
}

#[test]
fn evaluation_as_of_a_time_judges_beside_baselines() {
    let dir = tempfile::tempdir().expect("a folder");
    let day = at(360, 0);
    let (json, html) = (path(dir.path(), "e.json"), path(dir.path(), "e.html"));
    let outputs = ["--json", &json, "--html", &html];
    let done = run(dir.path(), "evaluate", "--interactions", &[&["--as-of", &day, "--horizon-days", "30"], &outputs[..]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(dir.path().join("e.json")).expect("a report")).expect("JSON");
    let churn = &report["tasks"]["churn"];
    assert!(churn["auroc"].as_f64().expect("a number") > 0.9, "{churn}");
    assert!(churn["baselines"]["bgnbd"]["log_loss"].is_number() && churn["baselines"]["recency"]["auroc"].is_number(), "{churn}");
    let spend = &report["tasks"]["spend"];
    assert!(
        spend["bias_purchases"].as_f64().expect("a number").abs() < 0.5 && spend["actual"]["purchases"].as_f64() > Some(50.0),
        "{spend}"
    );
    // Figures, their intervals, and differences to the same customers' baselines.
    for figure in ["rmse_purchases", "deviance_purchases", "rmse_days", "rmse_amount", "bias_purchases", "bias_amount"] {
        let (value, interval) = (spend[figure].as_f64().expect("a number"), &spend["intervals"][figure]);
        assert!(interval[0].as_f64() <= Some(value) && interval[1].as_f64() >= Some(value), "{figure}: {spend}");
        assert!(spend["differences"]["paretonbd"][figure][1].is_number() && spend["baselines"]["bgnbd"][figure].is_number(), "{figure}");
    }
    assert!(churn["accuracy"].as_f64() > Some(0.8) && churn["confusion"]["counts"][0][0].as_u64() > Some(10), "{churn}");
    assert_eq!(spend["deciles"]["purchases"].as_array().map(Vec::len), Some(10));
    assert!(churn["slices"].as_array().is_some_and(|s| s.iter().any(|s| s["by"] == "length")), "{churn}");
    // The page has the same figures, beside those of the models of visits.
    let page = std::fs::read_to_string(&html).expect("a page");
    let shown = format!("{:.3}", spend["baselines"]["paretonbd"]["rmse_days"].as_f64().expect("a number"));
    for part in ["<h2>churn</h2>", "<h2>spend</h2>", "paretonbd", "30 days ahead", "</html>", &shown] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // Standard output takes the page, whole and alone.
    let done = run(dir.path(), "evaluate", "--interactions", &["--as-of", &day, "--horizon-days", "30", "--html", "-"]);
    assert_eq!((done.code, done.stdout == page), (Some(0), true), "{} {}", done.stdout, done.stderr);
    // Nothing is known of what lies beyond the end of the data.
    let done = run(dir.path(), "evaluate", "--interactions", &["--as-of", &day, "--horizon-days", "90"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("pass the end of the data"), "{}", done.stderr);
}

#[test]
fn as_of_a_time_each_customer_has_one_score_and_nothing_else_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let (model, input, output) = (lapsing().join("bundle"), dir.path().join("i.jsonl"), path(dir.path(), "s.jsonl"));
    // Not in order of customer; one who comes at the time itself, one who comes later; texts that would raise alerts at any other time.
    let day = at(390, 0);
    let mut lines = String::new();
    for (id, customer, time) in [
        ("z1", "zoe", at(380, 0)),
        ("a1", "ann", at(381, 0)),
        ("z2", "zoe", at(382, 0)),
        ("b1", "bob", day.clone()),
        ("m1", "Max", at(383, 0)),
        ("c1", "cat", at(391, 0)),
        ("a2", "ann", at(392, 0)),
    ] {
        lines += &format!(r#"{{"id":"{id}","customer_id":"{customer}","occurred_at":"{time}","kind":"review","rating":1}}"#);
        lines.push('\n');
    }
    std::fs::write(&input, lines).expect("interactions");
    let paths = [&model, &input].map(|p| p.to_str().expect("a path").to_owned());
    let arguments = ["score", "--model", &paths[0], "--input", &paths[1], "--output", &output];
    let usual = rapport(dir.path(), arguments, Duration::from_secs(60));
    assert!(usual.code == Some(0) && !usual.stderr.contains(" 0 alerts"), "ratings of 1 raise alerts: {}", usual.stderr);

    let done = rapport(dir.path(), arguments.into_iter().chain(["--as-of", &day]), Duration::from_secs(60));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("3 scored, 0 rejected, 0 duplicates, 0 alerts\n"), "{}", done.stderr);
    let text = std::fs::read_to_string(&output).expect("scores");
    let scores: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let customers: Vec<&str> = scores.iter().map(|s| s["customer_id"].as_str().expect("an id")).collect();
    assert_eq!(customers, ["Max", "ann", "zoe"]);
    for score in &scores {
        assert!(score.get("interaction_id").is_some_and(Value::is_null) && score["occurred_at"] == day.as_str(), "{score}");
    }

    let alerts = path(dir.path(), "a.jsonl");
    let both = rapport(dir.path(), arguments.into_iter().chain(["--as-of", &day, "--alerts", &alerts]), Duration::from_secs(60));
    assert_eq!(both.code, Some(2), "{}", both.stderr);
    assert!(both.stderr.contains("--alerts") && both.stderr.contains("--as-of") && !dir.path().join("a.jsonl").exists(), "{}", both.stderr);
}
