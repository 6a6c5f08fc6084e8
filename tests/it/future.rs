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
