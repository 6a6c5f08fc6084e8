//! Any CSV with a header line, by a mapping of its columns to the fields of an interaction.

use std::io::BufRead;
use std::path::Path;

use anyhow::Context;
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::{Map, Value};

use super::read::{open, stem};
use super::{Place, Sink};
use crate::interaction::{Label, SATISFACTION, Timestamp};

const TEXT_FIELDS: [&str; 12] =
    ["id", "customer_id", "occurred_at", "kind", "actor", "conversation_id", "channel", "language", "item", "category", "text", "currency"];
const NUMBER_FIELDS: [&str; 3] = ["amount", "quantity", "rating"];
const ABOUT: &str = "about";
const ATTRIBUTE: &str = "attributes.";

/// Forms of `occurred_at` that are tried where no format is given, beside RFC 3339.
const GUESSES: [&str; 6] = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y/%m/%d", "%Y%m%d"];

/// A mapping that does not fit itself or the file: wrong usage, nothing wrong with the data.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MappingError(pub String);

/// How a CSV becomes interactions and labels.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Field and column.
    columns: Vec<(String, String)>,
    /// Field and what it is in every row.
    constants: Vec<(String, String)>,
    /// Task and column.
    labels: Vec<(String, String)>,
    time: TimeFormat,
    delimiter: u8,
}

#[derive(Debug, Clone)]
enum TimeFormat {
    Guess,
    UnixSeconds,
    UnixMillis,
    Pattern(String),
}

impl Mapping {
    /// `time_format` is a strftime pattern, `unix` (seconds) or `unix-ms`; times without an offset are UTC.
    ///
    /// # Errors
    /// A field that interactions do not have, one set twice, a required one missing.
    pub fn new(
        columns: Vec<(String, String)>,
        constants: Vec<(String, String)>,
        labels: Vec<(String, String)>,
        time_format: Option<&str>,
        delimiter: u8,
    ) -> Result<Self, MappingError> {
        let fields: Vec<&str> = columns.iter().chain(&constants).map(|(field, _)| field.as_str()).collect();
        for (i, field) in fields.iter().enumerate() {
            let known = TEXT_FIELDS.contains(field) || NUMBER_FIELDS.contains(field) || *field == ABOUT;
            if !known && field.strip_prefix(ATTRIBUTE).is_none_or(str::is_empty) {
                return Err(MappingError(format!(
                    "{field:?} is no field of an interaction; there are {}, {}, {ABOUT} and {ATTRIBUTE}NAME",
                    TEXT_FIELDS.join(", "),
                    NUMBER_FIELDS.join(", ")
                )));
            }
            if fields[..i].contains(field) {
                return Err(MappingError(format!("{field} is given twice; name one column or one value for it")));
            }
        }
        for required in ["customer_id", "occurred_at", "kind"] {
            if !fields.contains(&required) {
                return Err(MappingError(format!("{required} is missing; add --map {required}=COLUMN or --set {required}=VALUE")));
            }
        }
        for (task, _) in &labels {
            let value = if task == SATISFACTION { Value::from(3) } else { Value::from("class") };
            let line = serde_json::json!({ "interaction_id": "i", "task": task, "value": value });
            Label::decode(line.to_string().as_bytes()).map_err(|e| MappingError(format!("--label {task:?}: {}", e.message)))?;
        }
        let time = match time_format {
            None => TimeFormat::Guess,
            Some("unix") => TimeFormat::UnixSeconds,
            Some("unix-ms") => TimeFormat::UnixMillis,
            Some(pattern) => TimeFormat::Pattern(pattern.to_owned()),
        };
        Ok(Self { columns, constants, labels, time, delimiter })
    }
}

/// A file's rows, and where in them the mapped columns are.
struct Rows {
    rows: csv::Reader<Box<dyn BufRead>>,
    width: usize,
    columns: Vec<(String, usize)>,
    labels: Vec<(String, usize)>,
}

impl Rows {
    fn open(path: &Path, mapping: &Mapping) -> anyhow::Result<Self> {
        let mut rows = csv::ReaderBuilder::new().delimiter(mapping.delimiter).flexible(true).from_reader(open(path)?);
        let header = rows.headers().with_context(|| format!("cannot read {}", path.display()))?.clone();
        let index = |named: &[(String, String)]| -> Result<Vec<(String, usize)>, MappingError> {
            let find = |(name, column): &(String, String)| match header.iter().position(|have| have.trim() == column) {
                Some(index) => Ok((name.clone(), index)),
                None => {
                    let there = header.iter().collect::<Vec<_>>().join(", ");
                    let one = if header.len() == 1 { ". One column only: is --delimiter another?" } else { "" };
                    Err(MappingError(format!("{} has no column {column:?} for {name}; it has {there}{one}", path.display())))
                }
            };
            named.iter().map(find).collect()
        };
        let (columns, labels) = (index(&mapping.columns)?, index(&mapping.labels)?);
        Ok(Self { rows, width: header.len(), columns, labels })
    }
}

/// Looks for the mapped columns of a file and reads no row.
///
/// # Errors
/// [`MappingError`] where the file lacks a named column; a file that cannot be read.
pub fn check(path: &Path, mapping: &Mapping) -> anyhow::Result<()> {
    Rows::open(path, mapping).map(drop)
}

/// Reads one file. A row without an id gets one of the file's name and its line.
///
/// # Errors
/// As of [`check`]; a file without a good row; output that cannot be written.
pub fn import(path: &Path, mapping: &Mapping, sink: &mut Sink) -> anyhow::Result<()> {
    let stem = stem(path);
    let before = sink.written();
    let Rows { mut rows, width, columns, labels } = Rows::open(path, mapping)?;
    let mut row = csv::StringRecord::new();
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
        let line = row.position().map_or(0, csv::Position::line);
        let place = Place { file: path, line };
        if row.len() != width {
            sink.bad(place, format_args!("{} columns, the header has {}", row.len(), width));
            continue;
        }
        let taken = columns.iter().map(|(field, index)| (field.as_str(), row.get(*index).unwrap_or_default()));
        let constant = mapping.constants.iter().map(|(field, value)| (field.as_str(), value.as_str()));
        let (at, mut interaction) = match interaction(taken.chain(constant), mapping) {
            Ok(found) => found,
            Err(why) => {
                sink.bad(place, why);
                continue;
            }
        };
        let id = interaction.entry("id").or_insert_with(|| Value::from(format!("{stem}-{line:07}")));
        let id = id.as_str().unwrap_or_default().to_owned();
        if sink.object(&interaction, at, place)? {
            for (task, index) in &labels {
                label(&id, task, row.get(*index).unwrap_or_default().trim(), place, sink)?;
            }
        }
    }
    anyhow::ensure!(
        sink.written() > before,
        "{} gave not one interaction; see the rows skipped above and check the mapping",
        path.display()
    );
    Ok(())
}

/// The fields of one row; an empty cell is an absent field.
fn interaction<'a>(cells: impl Iterator<Item = (&'a str, &'a str)>, mapping: &Mapping) -> Result<(Timestamp, Map<String, Value>), String> {
    let mut out = Map::new();
    let mut attributes = Map::new();
    let mut at = None;
    for (field, cell) in cells {
        let cell = cell.trim();
        if cell.is_empty() {
            continue;
        }
        if field == "occurred_at" {
            let time = mapping.time.parse(cell)?;
            at = Some(time);
            out.insert(field.to_owned(), Value::from(time.to_string()));
        } else if NUMBER_FIELDS.contains(&field) {
            let number = cell.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            out.insert(field.to_owned(), number.ok_or_else(|| format!("{field} {cell:?} is no number"))?.into());
        } else if let Some(name) = field.strip_prefix(ATTRIBUTE) {
            attributes.insert(name.to_owned(), cell.into());
        } else {
            out.insert(field.to_owned(), cell.into());
        }
    }
    if !attributes.is_empty() {
        out.insert("attributes".into(), attributes.into());
    }
    for required in ["customer_id", "kind"] {
        if !out.contains_key(required) {
            return Err(format!("{required} is empty"));
        }
    }
    Ok((at.ok_or("occurred_at is empty")?, out))
}

/// Writes one cell of a label column; an empty cell is no label.
fn label(id: &str, task: &str, value: &str, place: Place<'_>, sink: &mut Sink) -> anyhow::Result<()> {
    if value.is_empty() {
        return Ok(());
    }
    if task != SATISFACTION {
        return sink.class(id, task, value, place);
    }
    match value.parse::<f64>() {
        Ok(rating) => sink.rating(id, rating, place),
        Err(_) => {
            sink.bad(place, format_args!("label satisfaction {value:?} is no number; the interaction is kept without it"));
            Ok(())
        }
    }
}

impl TimeFormat {
    fn parse(&self, s: &str) -> Result<Timestamp, String> {
        let bad = |wanted: &str| format!("occurred_at {s:?} is not {wanted}");
        let numeric = |scale: i64, wanted| {
            let whole = s.strip_suffix(".0").unwrap_or(s).parse::<i64>().ok();
            whole.and_then(|n| n.checked_mul(scale)).map(Timestamp).ok_or_else(|| bad(wanted))
        };
        match self {
            Self::UnixSeconds => numeric(1_000_000, "a whole number of seconds since 1970"),
            Self::UnixMillis => numeric(1000, "a whole number of milliseconds since 1970"),
            Self::Pattern(pattern) => by_pattern(s, pattern).ok_or_else(|| bad(&format!("of the form {pattern:?}"))),
            Self::Guess => DateTime::parse_from_rfc3339(s)
                .ok()
                .map(|t| Timestamp(t.timestamp_micros()))
                .or_else(|| GUESSES.iter().find_map(|pattern| by_pattern(s, pattern)))
                .ok_or_else(|| bad("RFC 3339 or year-month-day with or without a time; say its form with --time-format")),
        }
    }
}

fn by_pattern(s: &str, pattern: &str) -> Option<Timestamp> {
    let micros = DateTime::parse_from_str(s, pattern)
        .map(|t| t.timestamp_micros())
        .or_else(|_| NaiveDateTime::parse_from_str(s, pattern).map(|t| t.and_utc().timestamp_micros()))
        .or_else(|_| NaiveDate::parse_from_str(s, pattern).map(|d| d.and_time(Default::default()).and_utc().timestamp_micros()));
    micros.ok().map(Timestamp)
}
