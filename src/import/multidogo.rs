//! MultiDoGO (Peskov et al., EMNLP 2019): customer turns of service conversations in six domains, each with its intent.
//!
//! Tab-separated with a header and quoted fields; the agents' turns are not in this part of the set, so turn numbers have gaps. A turn with
//! several intents (`a<div>b`) is labelled by its first.

use std::path::Path;

use anyhow::Context;

use super::read::{some_rows, stem, table};
use super::{Place, Row, Sink, invented_time};
use crate::interaction::Timestamp;

/// One customer turn as published.
pub struct Turn<'a> {
    /// Number of its conversation within the file, from 1.
    pub conversation: usize,
    /// The publisher's id of the conversation.
    pub conversation_id: &'a str,
    /// Number of the turn in its conversation, agents' turns counted.
    pub turn: usize,
    pub text: &'a str,
    pub intent: &'a str,
}

/// Reads one file, for example `airline_train.tsv.gz`; the domain is the file's name up to `_`.
///
/// # Errors
/// A file that cannot be read or is no file of this set; output that cannot be written.
pub fn import(path: &Path, sink: &mut Sink) -> anyhow::Result<()> {
    let stem = stem(path);
    let before = sink.written();
    read(path, sink, |turn, place, sink| write(&stem, turn, invented_time(turn.conversation, turn.turn), place, sink))?;
    some_rows(path, sink.written() - before, "MultiDoGO", "a customer turn")
}

/// Calls `each` with every sound row in file order; the others are counted in `sink`.
///
/// # Errors
/// A file that cannot be read or is no file of this set; what `each` returns.
pub fn read(
    path: &Path,
    sink: &mut Sink,
    mut each: impl FnMut(&Turn<'_>, Place<'_>, &mut Sink) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let columns: [&[&str]; 6] = [&["conversationid"], &["turnnumber"], &["utteranceid"], &["utterance"], &["slot-labels"], &["intent"]];
    let mut rows = table(path, b'\t', "MultiDoGO", &columns)?;
    let mut row = csv::StringRecord::new();
    let (mut conversation, mut current) = (0, String::new());
    loop {
        match rows.read_record(&mut row) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(e) if e.is_io_error() => return Err(e).with_context(|| format!("cannot read {}", path.display())),
            Err(e) => {
                sink.bad(Place { file: path, line: e.position().map_or(0, csv::Position::line) }, &e);
                continue;
            }
        }
        let place = Place { file: path, line: row.position().map_or(0, csv::Position::line) };
        let (Some(conversation_id), Some(turn), Some(text), Some(intents), 6) = (row.get(0), row.get(1), row.get(3), row.get(5), row.len())
        else {
            sink.bad(place, format_args!("{} columns, there should be 6", row.len()));
            continue;
        };
        // Some files print turn numbers as 4.0.
        let Some(turn) = turn.strip_suffix(".0").unwrap_or(turn).parse().ok().filter(|_| !conversation_id.is_empty()) else {
            sink.bad(place, format_args!("turn {turn:?} of conversation {conversation_id:?} is no turn number"));
            continue;
        };
        if conversation_id != current {
            conversation += 1;
            conversation_id.clone_into(&mut current);
        }
        let intent = intents.split("<div>").next().unwrap_or_default().trim();
        each(&Turn { conversation, conversation_id, turn, text: text.trim(), intent }, place, sink)?;
    }
}

/// Writes one turn of the file `stem` as an interaction that happened at `at`, and its intent as a label.
///
/// # Errors
/// Output that cannot be written.
pub fn write(stem: &str, turn: &Turn<'_>, at: Timestamp, place: Place<'_>, sink: &mut Sink) -> anyhow::Result<()> {
    let customer = format!("multidogo-{stem}-{:05}", turn.conversation);
    let id = format!("{customer}-{:02}", turn.turn);
    let row = Row {
        conversation_id: Some(turn.conversation_id),
        channel: Some("chat"),
        language: Some("en"),
        text: Some(turn.text).filter(|t| !t.is_empty()),
        attributes: &[("domain", stem.split('-').next().unwrap_or(stem))],
        ..Row::new(&id, &customer, at, "message")
    };
    if sink.interaction(&row, place)? && !turn.intent.is_empty() {
        sink.class(&id, "intent", turn.intent, place)?;
    }
    Ok(())
}
