//! The archive, with the process that writes it killed at random moments: read back, it holds exactly what was scored, each once, in order.

mod kafka;
mod s3;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use arrow::array::AsArray;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rapport::interaction::file::{Records, expand};
use rapport::interaction::{DecodeOptions, Interaction, decode};
use serde_json::Value;

use crate::process::{Process, RAPPORT, eventually, free_port};
use crate::{bundle, http};

const SOON: Duration = Duration::from_secs(60);

/// One file of an archive: what its name says and the ids in it.
#[derive(Debug)]
pub struct Archived {
    first: i64,
    last: i64,
    ids: Vec<String>,
}

/// The files of a topic by partition, in the order of their names. They must be whole, not empty, and without overlap.
pub fn files(archive: &Path, topic: &str) -> BTreeMap<i32, Vec<Archived>> {
    let mut partitions: BTreeMap<i32, Vec<Archived>> = BTreeMap::new();
    for path in parquet_files(&archive.join(topic)) {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let (first, last) = name.split_once('-').expect("two offsets");
        let folder = path.parent().and_then(Path::file_name).expect("a folder").to_string_lossy().into_owned();
        let partition = folder.strip_prefix("partition=").and_then(|p| p.parse().ok()).expect("a partition");
        let file = Archived { first: first.parse().expect("digits"), last: last.parse().expect("digits"), ids: ids(&path, topic) };
        assert!(!file.ids.is_empty() && file.first <= file.last && first.len() == 20, "{file:?}");
        let before = partitions.entry(partition).or_default();
        assert!(before.last().is_none_or(|b| b.last < file.first), "{} overlaps the one before", path.display());
        before.push(file);
    }
    partitions
}

fn parquet_files(dir: &Path) -> Vec<PathBuf> {
    if dir.is_dir() { expand(&[dir.to_owned()]).expect("files") } else { Vec::new() }
}

fn ids(path: &Path, topic: &str) -> Vec<String> {
    let name = if topic == "scores" { "interaction_id" } else { "id" };
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("a file")).expect("Parquet");
    let metadata = reader.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    assert!(metadata.iter().any(|kv| kv.key == "rapport.schema" && kv.value.as_deref() == Some("1")), "{metadata:?}");
    let batches = reader.build().expect("a reader").map(|b| b.expect("a batch"));
    batches
        .flat_map(|b| {
            b.column_by_name(name).expect(name).as_string::<i32>().iter().map(|id| id.expect("an id").to_owned()).collect::<Vec<_>>()
        })
        .collect()
}

/// Every interaction of an archive, as `train` reads it.
pub fn interactions(archive: &Path) -> Vec<Interaction> {
    let mut all = Vec::new();
    for path in expand(&[archive.to_owned()]).expect("an archive") {
        let mut records = Records::open(&path).expect("readable");
        let mut record = Vec::new();
        while records.next(&mut record).expect("readable").is_some() {
            all.push(decode(&record, DecodeOptions::default()).expect("valid").interaction);
        }
    }
    all
}

fn flat(files: &BTreeMap<i32, Vec<Archived>>) -> BTreeMap<i32, Vec<String>> {
    files.iter().map(|(p, files)| (*p, files.iter().flat_map(|f| f.ids.clone()).collect())).collect()
}

fn serve(dir: &Path) -> (Process, String) {
    let port = free_port();
    let file = dir.join("rapport.toml");
    let text = format!(
        "[log]\ndir = {:?}\n[model]\ndir = {:?}\n[worker]\nthreads = 2\nbatch = 16\n[http]\nbind = \"127.0.0.1:{port}\"\n[archive]\nurl = {:?}\nroll_bytes = 4096\nroll_seconds = 1\n",
        dir.join("log"),
        bundle::dir(),
        format!("file://{}", dir.join("archive").display())
    );
    fs::write(&file, text).expect("the configuration");
    let mut command = Command::new(RAPPORT);
    command.args(["serve", "--config"]).arg(file).current_dir(dir).env("RUST_BACKTRACE", "1");
    let mut process = Process::spawn("serve", command, dir);
    let url = format!("http://127.0.0.1:{port}");
    eventually("serve is ready", SOON, || {
        assert!(process.ended().is_none(), "serve ended: {}", process.stderr());
        http::agent().get(&format!("{url}/readyz")).call().is_ok_and(|a| a.status() == 200).then_some(())
    });
    (process, url)
}

/// Interaction `i` as it is sent; one in nine repeats an earlier one, one in thirteen is late.
fn line(i: usize) -> String {
    let n = if i % 9 == 8 { i - 3 } else { i };
    let day = if n % 13 == 12 { 1 } else { 20 };
    let rest = format!(r#""amount":{}.25,"attributes":{{"n":{n}}},"text":"please help 退款 {n}""#, n % 7);
    let at = format!("2026-01-{day:02}T00:{:02}:{:02}Z", n / 60 % 60, n % 60);
    format!(r#"{{"id":"i{n}","customer_id":"c{}","occurred_at":"{at}","kind":"message",{rest}}}"#, n % 23)
}

fn scored_ids(url: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    loop {
        let page = http::agent().get(&format!("{url}/v1/scores?from={}&limit=5000", all.len())).call();
        let body = page.expect("an answer").body_mut().read_to_string().expect("text");
        if body.is_empty() {
            return all;
        }
        let text = |line: &str, field: &str| serde_json::from_str::<Value>(line).expect("JSON")[field].as_str().expect(field).to_owned();
        all.extend(body.lines().map(|l| (text(l, "customer_id"), text(l, "interaction_id"))));
    }
}

#[test]
fn beside_the_embedded_log_it_holds_what_was_scored_although_serve_is_killed() {
    let seed = 5;
    let mut rng = SmallRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let archive = dir.path().join("archive");
    let (mut process, mut url) = serve(dir.path());
    let (total, kills) = (2_000, 6);
    for sent in (0..total).step_by(50) {
        let body: String = (sent..sent + 50).map(|i| line(i) + "\n").collect();
        let answer = http::agent().post(&format!("{url}/v1/interactions")).send(body.as_bytes());
        assert_eq!(answer.expect("an answer").status(), 202);
        if sent % (total / kills) == 300 {
            std::thread::sleep(Duration::from_millis(rng.random_range(0..400)));
            process.kill();
            // What a kill in the middle of writing leaves.
            let half = archive.join("scores/partition=0/00000000000000000000-00000000000000000009.parquet#1");
            fs::create_dir_all(half.parent().expect("a folder")).expect("a folder");
            fs::write(&half, "PAR1 and no more").expect("a half file");
            (process, url) = serve(dir.path());
            eventually("the half file is removed", SOON, || (!half.exists()).then_some(()));
        }
    }
    let accepted = (0..total).filter(|i| i % 9 != 8).filter(|i| i % 13 != 12 || i / 23 == 0).count();
    let scored = eventually("everything is scored", SOON, || Some(scored_ids(&url)).filter(|s| s.len() >= accepted));
    process.signal(libc::SIGTERM);
    let ended = process.wait(SOON);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let (of_interactions, of_scores) = (files(&archive, "interactions"), files(&archive, "scores"));
    assert_eq!(
        flat(&of_interactions),
        flat(&of_scores),
        "interactions and scores of a partition are the same, in the same order (seed {seed})"
    );
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (customer, id) in scored {
        expected.entry(customer).or_default().push(id);
    }
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for interaction in interactions(&archive) {
        let n: usize = interaction.id[1..].parse().expect("a number");
        let sent = decode(line(n).as_bytes(), DecodeOptions::default()).expect("valid").interaction;
        assert_eq!(interaction, sent);
        found.entry(interaction.customer_id.to_string()).or_default().push(interaction.id.to_string());
    }
    assert_eq!(found, expected, "each scored interaction once, every customer's in order");
    assert!(of_interactions.values().any(|f| f.len() >= 3), "nothing was rolled: {of_interactions:?}");
}
