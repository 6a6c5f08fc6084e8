//! CLINC150 (Larson et al., EMNLP 2019): single texts with one of 150 intents, and texts out of scope (intent `oos`).
//!
//! One JSON object of splits (`train`, `val`, `test`, `oos_train`, …), each a list of `[text, intent]`. Every text is a customer of its own.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use super::read::{open, stem};
use super::{Place, Row, Sink, invented_time};

/// Reads one file, for example `data_full.json.gz`: the named splits, or all where none is named.
///
/// # Errors
/// A file that cannot be read or is no file of this set, a split that it lacks; output that cannot be written.
pub fn import(path: &Path, splits: &[String], sink: &mut Sink) -> anyhow::Result<()> {
    let no_set =
        || format!("{} is no file of CLINC150: it should be one JSON object of splits, each a list of [text, intent]", path.display());
    let data: serde_json::Map<String, Value> = serde_json::from_reader(open(path)?).with_context(no_set)?;
    for split in splits {
        if !data.contains_key(split) {
            let there: Vec<&str> = data.keys().map(String::as_str).collect();
            bail!("{} has no split {split:?}; it has {}", path.display(), there.join(", "));
        }
    }
    let stem = stem(path);
    let before = sink.written();
    let mut number = 0;
    for (split, texts) in data.iter().filter(|(name, _)| splits.is_empty() || splits.contains(name)) {
        for (index, text) in texts.as_array().with_context(no_set)?.iter().enumerate() {
            // JSON has no lines of its own; the place is the text's number in its split.
            let place = Place { file: path, line: index as u64 + 1 };
            let Some([Value::String(text), Value::String(intent)]) = text.as_array().map(Vec::as_slice) else {
                sink.bad(place, format_args!("entry of split {split:?} is not [text, intent]"));
                continue;
            };
            number += 1;
            let id = format!("clinc150-{stem}-{split}-{:05}", index + 1);
            let row = Row {
                channel: Some("chat"),
                language: Some("en"),
                text: Some(text.trim()),
                ..Row::new(&id, &id, invented_time(number, 0), "message")
            };
            if sink.interaction(&row, place)? {
                sink.class(&id, "intent", intent, place)?;
            }
        }
    }
    if sink.written() == before {
        bail!(no_set());
    }
    Ok(())
}
