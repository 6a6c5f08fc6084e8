//! Churn and spend on the command line: as of a time, over another horizon, judged, as Parquet.

use std::path::Path;
use std::time::Duration;

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use crate::process::{Finished, rapport};
use crate::segments::{at, trained};

/// Runs `rapport` on the small log of three kinds of customers and the bundle trained on it.
fn run(dir: &Path, command: &str, input: &str, extra: &[&str]) -> Finished {
    let paths = [trained().join("bundle"), trained().join("i.jsonl")].map(|p| p.to_str().expect("a path").to_owned());
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
    let done = run(dir, "score", "--input", &arguments);
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
    let mean = |p: &[f64]| p.iter().sum::<f64>() / p.len() as f64;
    assert!(mean(&later) > mean(&now) + 0.05, "{} {}", mean(&now), mean(&later));
    assert!(now.iter().zip(&longer).all(|(a, b)| b < a));
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
    let done =
        run(dir.path(), "evaluate", "--interactions", &["--as-of", &day, "--horizon-days", "30", "--json", &path(dir.path(), "e.json")]);
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
    // Nothing is known of what lies beyond the end of the data.
    let done = run(dir.path(), "evaluate", "--interactions", &["--as-of", &day, "--horizon-days", "90"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("pass the end of the data"), "{}", done.stderr);
}
