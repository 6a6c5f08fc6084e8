//! Whatever bytes come in, each bad record ends once, in the class that the contract names, and no good record beside it is lost.

mod logs;
mod records;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rapport::interaction::{DecodeOptions, FIELDS, RejectClass, Timestamp, decode};
use serde_json::Value;

use crate::bundle;
use crate::process::rapport;
use records::{BadRecord, bad_in_a_log, bad_values, good};

fn options(key: Option<&[u8]>) -> DecodeOptions<'_> {
    DecodeOptions { key: Some(key), logged_at: Some(Timestamp::parse("2026-11-23T12:00:00Z").unwrap()) }
}

#[test]
fn every_bad_record_gets_its_class_and_a_message_that_helps() {
    let all: Vec<BadRecord> = bad_values().into_iter().chain(bad_in_a_log()).collect();
    let names: BTreeSet<&str> = all.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "every case is another one");
    for record in &all {
        let reject = decode(&record.value, options(record.key.as_deref())).expect_err(&record.name);
        assert_eq!(reject.class, record.class, "{}: {reject}", record.name);
        assert!(reject.message.len() < 400 && !reject.message.contains(char::is_control), "{}: {reject}", record.name);
        if matches!(record.class, RejectClass::MissingField | RejectClass::InvalidField) {
            assert!(FIELDS.iter().any(|f| reject.message.starts_with(f)), "{}: {reject}", record.name);
        }
    }
    // `late` needs a customer's history.
    let classes: BTreeSet<RejectClass> = all.iter().map(|r| r.class).chain([RejectClass::Late]).collect();
    assert_eq!(classes, RejectClass::ALL.into());
}

#[test]
fn good_records_with_odd_parts_are_accepted() {
    for n in 0..60 {
        let (customer, value) = good(n);
        let decoded =
            decode(&value, options(Some(customer.as_bytes()))).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&value)));
        assert_eq!(&*decoded.interaction.customer_id, customer);
    }
}

/// Ten days behind the newest interaction of its customer, where it comes behind some of [`good`].
fn late() -> BadRecord {
    let (customer, value) = good(0);
    let value = String::from_utf8(value).unwrap().replace("good-0", "late").replace("2026-11-21", "2026-11-11");
    BadRecord { name: "late".into(), key: Some(customer.into_bytes()), value: value.into_bytes(), class: RejectClass::Late }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

#[test]
fn score_rejects_each_bad_line_once_and_scores_every_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let mut input = Vec::new();
    let (mut bad, mut scored, mut line) = (Vec::new(), Vec::new(), 0);
    let mut add = |value: &[u8]| {
        input.extend_from_slice(value);
        input.push(b'\n');
        line += 1;
        line
    };
    for (n, record) in bad_values().into_iter().enumerate() {
        add(&good(n).1);
        scored.push(format!("good-{n}"));
        bad.push((add(&record.value), record));
        // In the middle: only the engine knows that it is late, and what comes after it was rejected before.
        if n == 20 {
            bad.push((add(&late().value), late()));
        }
    }
    std::fs::write(file("in.jsonl"), input).unwrap();

    let model = bundle::dir().display().to_string();
    let (input, output, rejects) = (file("in.jsonl"), file("out.jsonl"), file("rejects.jsonl"));
    let arguments = ["score", "--model", &model, "--input", &input, "--output", &output, "--rejects", &rejects];
    let done = rapport(dir.path(), arguments, Duration::from_secs(120));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("{} scored, {} rejected, 0 duplicates", scored.len(), bad.len())), "{}", done.stderr);

    let ids: Vec<_> = lines(Path::new(&output)).iter().map(|s| s["interaction_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, scored);
    let rejects = lines(Path::new(&rejects));
    assert_eq!(rejects.len(), bad.len());
    for (reject, (line, record)) in rejects.iter().zip(&bad) {
        assert_eq!(reject["class"], record.class.name(), "{}: {reject}", record.name);
        assert_eq!((reject["file"].as_str(), reject["line"].as_u64()), (Some(input.as_str()), Some(*line)), "{}", record.name);
        assert!(reject["message"].as_str().is_some_and(|m| !m.is_empty()), "{}", record.name);
        // A line is kept whole unless it is too large to be read whole.
        if record.class != RejectClass::TooLarge {
            assert_eq!(reject["raw"].as_str(), Some(&*String::from_utf8_lossy(&record.value)), "{}", record.name);
        }
    }

    let strict = rapport(dir.path(), arguments.into_iter().chain(["--strict"]), Duration::from_secs(120));
    assert_eq!(strict.code, Some(1), "{}", strict.stderr);
}
