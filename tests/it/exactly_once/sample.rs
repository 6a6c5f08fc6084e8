//! The interactions of the proof: the real ones that ship with `rapport demo`, with repeats and malformed records mixed in.

use std::io::{BufRead, BufReader};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::process::root;

/// A record as it is sent.
pub struct Line {
    pub key: Option<String>,
    pub value: Vec<u8>,
}

/// The first `count` shipped interactions in their order, and between them one repeat in 41 and one malformed record in 53.
pub fn lines(count: usize) -> Vec<Line> {
    let path = root().join("deploy/demo/interactions.jsonl.gz");
    let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines = Vec::new();
    for (i, text) in BufReader::new(MultiGzDecoder::new(file)).lines().take(count).enumerate() {
        let text = text.expect("the shipped interactions are UTF-8");
        let interaction: Value = serde_json::from_str(&text).expect("the shipped interactions are JSON");
        let key = interaction["customer_id"].as_str().map(str::to_owned);
        if i % 53 == 0 {
            lines.push(malformed(i, &text, &key));
        }
        lines.push(Line { key: key.clone(), value: text.clone().into_bytes() });
        if i % 41 == 0 {
            lines.push(Line { key, value: text.into_bytes() });
        }
    }
    assert!(lines.len() >= count, "only {} interactions ship", lines.len());
    lines
}

/// A record that must be rejected, each with bytes of its own; its class does not depend on its key.
fn malformed(i: usize, text: &str, key: &Option<String>) -> Line {
    let key = key.clone();
    let time = "\"occurred_at\":\"2010-10-01T10:00:00Z\"";
    let with = |rest: &str| format!("{{\"id\":\"bad-{i}\",\"customer_id\":\"bad\",\"kind\":\"message\",{rest}}}").into_bytes();
    let bad = Some("bad".to_owned());
    match i / 53 % 8 {
        0 => Line { key, value: text.as_bytes()[..text.len() - 2].to_vec() },
        1 => Line { key: None, value: format!("[{i}]").into_bytes() },
        2 => Line { key: bad, value: with("\"text\":\"no time\"") },
        3 => Line { key: bad, value: with(&format!("{time},\"rating\":7")) },
        4 => Line { key: bad, value: with("\"occurred_at\":\"9999-01-01T00:00:00Z\"") },
        5 => Line { key: bad, value: [with(&format!("{time},\"text\":\"x")).as_slice(), b"\xff\xfe\"}"].concat() },
        6 => Line { key: None, value: with(&format!("{time},\"amount\":NaN")) },
        _ => Line { key, value: with(&format!("{time},\"amount\":-1")) },
    }
}
