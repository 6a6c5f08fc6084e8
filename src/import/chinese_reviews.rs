//! Chinese shopping reviews in nine categories: `cat,label,review` with label 1 (positive) or 0 (negative).
//!
//! The label is the publisher's, not a rating that the customer gave, so it becomes a class of task `sentiment`. Every review is a customer
//! of its own.

use std::path::Path;

use anyhow::Context;

use super::read::{some_rows, stem, table};
use super::{Place, Row, Sink, invented_time};

/// Reads one file, for example `online_shopping_9_cats.csv.gz`.
///
/// # Errors
/// A file that cannot be read or is no file of this set; output that cannot be written.
pub fn import(path: &Path, sink: &mut Sink) -> anyhow::Result<()> {
    let stem = stem(path);
    let before = sink.written();
    let mut rows = table(path, b',', "the Chinese shopping reviews", &[&["cat"], &["label"], &["review"]])?;
    let mut row = csv::StringRecord::new();
    let mut number = 0;
    loop {
        match rows.read_record(&mut row) {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) if e.is_io_error() => return Err(e).with_context(|| format!("cannot read {}", path.display())),
            Err(e) => {
                sink.bad(Place { file: path, line: e.position().map_or(0, csv::Position::line) }, &e);
                continue;
            }
        }
        number += 1;
        let place = Place { file: path, line: row.position().map_or(0, csv::Position::line) };
        let (Some(category), Some(label), Some(review), 3) = (row.get(0), row.get(1), row.get(2), row.len()) else {
            sink.bad(place, format_args!("{} columns, there should be 3", row.len()));
            continue;
        };
        let sentiment = match label {
            "0" => "negative",
            "1" => "positive",
            other => {
                sink.bad(place, format_args!("label {other:?} is neither 0 nor 1"));
                continue;
            }
        };
        // A byte order mark in the middle of the file is an accident of its making.
        let review = review.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        if review.is_empty() {
            sink.leave_out("without text");
            continue;
        }
        let id = format!("review-{stem}-{number:05}");
        let row = Row {
            language: Some("zh"),
            category: Some(category),
            text: Some(review),
            ..Row::new(&id, &id, invented_time(number, 0), "review")
        };
        if sink.interaction(&row, place)? {
            sink.class(&id, "sentiment", sentiment, place)?;
        }
    }
    some_rows(path, sink.written() - before, "the Chinese shopping reviews", "cat,label,review with label 0 or 1")
}
