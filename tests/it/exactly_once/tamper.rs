//! The judge is judged: a dump with one record repeated, lost or altered must fail, whichever the topic.

use std::fs;
use std::path::Path;

use super::trial::{ReadBack, Trial};
use crate::brokers::RECORD_END;

/// Fails if the judge of this trial would not notice.
pub fn the_judge_notices(trial: &Trial, read: &ReadBack) {
    for topic in ["scores", "alerts", "dead letters"] {
        for (how, tamper) in [("repeated", repeat as fn(&mut Vec<Vec<u8>>)), ("lost", lose), ("altered", alter)] {
            let file = trial.dir().join("tampered.dump");
            let mut tampered = read.clone();
            let dump = match topic {
                "scores" => &mut tampered.scores,
                "alerts" => &mut tampered.alerts,
                _ => &mut tampered.dead_letters,
            };
            let mut records = records(dump);
            assert!(!records.is_empty(), "the trial has no {topic}: it would prove nothing about them");
            tamper(&mut records);
            fs::write(&file, records.concat()).expect("the tampered dump");
            *dump = file;
            let faults = trial.judge(&tampered).expect_err(&format!("the judge did not see that one of the {topic} was {how}"));
            assert!(faults.contains("not exactly once"), "the judge failed for another reason: {faults}");
        }
    }
}

fn records(dump: &Path) -> Vec<Vec<u8>> {
    let text = fs::read(dump).expect("the dump");
    let mut records = vec![Vec::new()];
    for line in text.split_inclusive(|b| *b == b'\n') {
        let last = records.last_mut().expect("never empty");
        last.extend_from_slice(line);
        if line.ends_with(RECORD_END.as_bytes()) {
            records.push(Vec::new());
        }
    }
    records.retain(|r| !r.is_empty());
    records
}

fn repeat(records: &mut Vec<Vec<u8>>) {
    let middle = records.len() / 2;
    records.push(records[middle].clone());
}

fn lose(records: &mut Vec<Vec<u8>>) {
    records.remove(records.len() / 2);
}

/// Changes the last digit of a number, or the last letter of bytes that hold none.
fn alter(records: &mut Vec<Vec<u8>>) {
    let middle = records.len() / 2;
    let record = &mut records[middle];
    let value = record.iter().rposition(|b| *b == crate::brokers::FIELD_END.as_bytes()[0]).expect("a value") + 1;
    let end = record.len() - RECORD_END.len();
    let digit = (value..end).rev().find(|at| record[*at].is_ascii_digit()).unwrap_or(end - 1);
    record[digit] = if record[digit] == b'7' { b'8' } else { b'7' };
}
