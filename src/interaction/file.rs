//! Files of records: JSON Lines (plain or gzip, told by content) and Parquet (by extension), as the bytes that [`super::decode`] reads. They lie on
//! disk or in S3, from where they are fetched one at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::{Map, Value};

use crate::s3;

/// Version of the columns of an archive's files, kept in each under [`SCHEMA_KEY`].
pub const SCHEMA: &str = "1";
pub const SCHEMA_KEY: &str = "rapport.schema";

/// A record file that could not be read; says which and why.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct FileError {
    pub path: String,
    pub what: String,
}

/// How file names end that [`expand`] takes from a directory.
const ENDINGS: [&str; 5] = [".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"];

/// Puts the files of interactions under a directory, or under a prefix of S3, in its place: all of [`ENDINGS`], in the order of their names, folder by folder. Left out
/// are names that begin with `.` or `_`, files of labels (`*.labels.jsonl`), and of an archive's root everything but its `interactions`.
///
/// An archive's partitions are folders and its files are named by offset, so every customer's interactions keep their order.
///
/// # Errors
/// A directory or bucket that cannot be read, or has no such file.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, FileError> {
    let mut files = Vec::new();
    for path in paths {
        let (before, error) = (files.len(), |what| FileError { path: path.display().to_string(), what });
        let place = match remote(path) {
            Some(url) if !is_wanted(url) => {
                let keys = s3::list(url).map_err(error)?;
                let mut found = Vec::new();
                pick(&keys.iter().map(|key| (key.as_str(), key.as_str())).collect::<Vec<_>>(), &mut found);
                files.extend(found.into_iter().map(|key| PathBuf::from(format!("{}/{key}", url.trim_end_matches('/')))));
                "prefix"
            }
            None if path.is_dir() => {
                walk(path, &mut files).map_err(|e| error(e.to_string()))?;
                "directory"
            }
            _ => {
                files.push(path.clone());
                continue;
            }
        };
        if files.len() == before {
            return Err(error(format!("no file under this {place} ends in {}", ENDINGS.join(", "))));
        }
    }
    Ok(files)
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        names.push(entry?.file_name());
    }
    names.sort_unstable();
    let is_root = is_archive(names.iter().map(|n| n.to_str().unwrap_or_default()));
    for name in names {
        let (path, name) = (dir.join(&name), name.to_string_lossy());
        if is_passed_over(&name, is_root) {
            continue;
        }
        if path.is_dir() {
            walk(&path, files)?;
        } else if is_wanted(&name) {
            files.push(path);
        }
    }
    Ok(())
}

/// [`walk`] over the keys below one folder: each as what is left of it from that folder on, and whole.
fn pick<'a>(keys: &[(&'a str, &'a str)], files: &mut Vec<&'a str>) {
    let mut names: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (rest, key) in keys {
        let (name, below) = rest.split_once('/').unwrap_or((rest, ""));
        names.entry(name).or_default().push((below, key));
    }
    let is_root = is_archive(names.keys().copied());
    for (name, keys) in names.into_iter().filter(|(name, _)| !is_passed_over(name, is_root)) {
        let (below, own): (Vec<_>, Vec<_>) = keys.into_iter().partition(|(below, _)| !below.is_empty());
        files.extend(own.into_iter().map(|(_, key)| key).filter(|_| is_wanted(name)));
        pick(&below, files);
    }
}

/// The root of an archive has scores beside the interactions.
fn is_archive<'a>(names: impl Iterator<Item = &'a str>) -> bool {
    names.filter(|n| ["interactions", "scores"].contains(n)).count() == 2
}

fn is_passed_over(name: &str, in_archive: bool) -> bool {
    name.starts_with(['.', '_']) || in_archive && name != "interactions"
}

fn is_wanted(name: &str) -> bool {
    ENDINGS.iter().any(|e| name.ends_with(e)) && !name.contains(".labels.")
}

/// The URL of a file or prefix that lies in S3.
pub fn remote(path: &Path) -> Option<&str> {
    path.to_str().filter(|url| s3::parse(url).is_some())
}

/// The records of one file, one after the other, in bounded memory.
pub struct Records {
    path: PathBuf,
    source: Source,
    line: u64,
}

enum Source {
    Lines(Box<dyn BufRead + Send>),
    Parquet { reader: Box<ParquetRecordBatchReader>, batch: Option<RecordBatch>, row: usize },
}

impl Records {
    /// Opens `path`; `-` is standard input. What lies in S3 is fetched whole, see [`s3::fetch`].
    ///
    /// # Errors
    /// The file cannot be opened, or is no Parquet file although it is named so.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let error = |what: String| FileError { path: path.display().to_string(), what };
        let source = if path == Path::new("-") {
            Source::Lines(unzipped(io::stdin()).map_err(|e| error(e.to_string()))?)
        } else {
            let file = match remote(path) {
                Some(url) => s3::fetch(url).map_err(error)?,
                None => File::open(path).map_err(|e| error(e.to_string()))?,
            };
            if path.extension().is_some_and(|e| e == "parquet") {
                let unreadable = |e| error(format!("no readable Parquet file: {e}"));
                let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?;
                // Files of others name no version.
                let metadata = builder.metadata().file_metadata().key_value_metadata().into_iter().flatten();
                if let Some(version) =
                    metadata.filter(|kv| kv.key == SCHEMA_KEY).filter_map(|kv| kv.value.as_deref()).find(|v| *v != SCHEMA)
                {
                    return Err(error(format!(
                        "{SCHEMA_KEY} is {version}, this build reads {SCHEMA}: read it with the rapport that wrote it"
                    )));
                }
                let reader = builder.build().map_err(unreadable)?;
                Source::Parquet { reader: Box::new(reader), batch: None, row: 0 }
            } else {
                Source::Lines(unzipped(file).map_err(|e| error(e.to_string()))?)
            }
        };
        Ok(Self { path: path.to_owned(), source, line: 0 })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the next record into `record` and returns its line (or row) number from 1 on; `None` at the end. Blank lines are passed over.
    pub fn next(&mut self, record: &mut Vec<u8>) -> Result<Option<u64>, FileError> {
        let error = |path: &Path, what: String| FileError { path: path.display().to_string(), what };
        record.clear();
        match &mut self.source {
            Source::Lines(lines) => loop {
                self.line += 1;
                let n = read_line(lines, record).map_err(|e| error(&self.path, format!("line {}: {e}", self.line)))?;
                if n == 0 {
                    return Ok(None);
                }
                while record.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
                    record.pop();
                }
                if record.iter().all(u8::is_ascii_whitespace) {
                    record.clear();
                    continue;
                }
                return Ok(Some(self.line));
            },
            Source::Parquet { reader, batch, row } => loop {
                if let Some(rows) = batch.as_ref().filter(|b| *row < b.num_rows()) {
                    self.line += 1;
                    let value = json_row(rows, *row).map_err(|what| error(&self.path, format!("row {}: {what}", self.line)))?;
                    serde_json::to_writer(&mut *record, &value).map_err(|e| error(&self.path, e.to_string()))?;
                    *row += 1;
                    return Ok(Some(self.line));
                }
                match reader.next() {
                    None => return Ok(None),
                    Some(next) => *batch = Some(next.and_then(plain).map_err(|e| error(&self.path, e.to_string()))?),
                }
                *row = 0;
            },
        }
    }
}

/// Appends a line to `record`: all of it, or one byte more than [`super::decode`] takes, so that the longest line needs no more memory than that.
fn read_line(lines: &mut dyn BufRead, record: &mut Vec<u8>) -> io::Result<usize> {
    // The line break, which may be two bytes, is not part of the record.
    let most = super::MAX_RECORD_BYTES + 3;
    let n = Read::take(&mut *lines, most as u64).read_until(b'\n', record)?;
    if n == most && record.last() != Some(&b'\n') {
        lines.skip_until(b'\n')?;
    }
    Ok(n)
}

fn unzipped(file: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = BufReader::with_capacity(1 << 18, file);
    if file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file))));
    }
    Ok(Box::new(file))
}

/// Numbers as `f64`, times as microseconds: cast by column, which is far cheaper than by cell.
fn plain(rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<ArrayRef> = rows
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Timestamp(..) => cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None)),
            kind if kind.is_numeric() => cast(column, &DataType::Float64),
            _ => Ok(column.clone()),
        })
        .collect::<Result<_, _>>()?;
    let fields: Vec<Field> =
        rows.schema().fields().iter().zip(&columns).map(|(f, c)| Field::new(f.name(), c.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// One row of [`plain`] columns as the JSON object that it mirrors. `attributes` is a JSON string; absent values are left out.
fn json_row(rows: &RecordBatch, row: usize) -> Result<Value, String> {
    let mut object = Map::new();
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        if column.is_null(row) {
            continue;
        }
        let value = match column.data_type() {
            DataType::Utf8 => Value::from(column.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => Value::from(column.as_string::<i64>().value(row)),
            DataType::Utf8View => Value::from(column.as_string_view().value(row)),
            DataType::Boolean => Value::from(column.as_boolean().value(row)),
            DataType::Timestamp(..) => {
                let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
                Value::from(super::Timestamp(micros).to_string())
            }
            DataType::Float64 => number(field.name(), column.as_primitive::<Float64Type>().value(row)),
            other => return Err(format!("column {} has type {other}; strings, numbers, booleans and timestamps are read", field.name())),
        };
        let value = match (field.name().as_str(), &value) {
            ("attributes", Value::String(json)) => serde_json::from_str(json).map_err(|e| format!("column attributes is no JSON: {e}"))?,
            _ => value,
        };
        object.insert(field.name().clone(), value);
    }
    Ok(Value::Object(object))
}

/// A number as JSON. What JSON has no number for must not pass for absent: it becomes what [`super::decode`] rejects, under the field's name.
fn number(field: &str, x: f64) -> Value {
    match field {
        _ if x.is_finite() => Value::from(x),
        "amount" | "quantity" | "rating" => Value::from(x.to_string()),
        // A string is what other fields take.
        _ => Value::from(vec![x.to_string()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_another_schema_are_refused() {
        use arrow::array::{ArrayRef, StringArray};
        use parquet::arrow::ArrowWriter;
        use parquet::file::metadata::KeyValue;
        use parquet::file::properties::WriterProperties;

        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.parquet");
        for (version, message) in [(None, None), (Some("1"), None), (Some("2"), Some("rapport.schema is 2, this build reads 1"))] {
            let metadata = version.map(|v: &str| vec![KeyValue::new(SCHEMA_KEY.into(), v.to_owned())]);
            let ids: ArrayRef = std::sync::Arc::new(StringArray::from(vec!["i"]));
            let batch = arrow::array::RecordBatch::try_from_iter([("id", ids)]).expect("a batch");
            let properties = WriterProperties::builder().set_key_value_metadata(metadata).build();
            let file = File::create(&path).expect("a file");
            let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
            writer.write(&batch).expect("rows");
            writer.close().expect("a file");
            match (Records::open(&path), message) {
                (Ok(_), None) => {}
                (Err(e), Some(message)) => assert!(e.to_string().contains(message), "{e}"),
                (opened, _) => panic!("{version:?}: {:?}", opened.err()),
            }
        }
    }

    #[test]
    fn a_directory_stands_for_its_files_in_the_order_of_their_names() {
        let root = tempfile::tempdir().expect("a directory");
        let make = |names: &[&str]| {
            for name in names {
                let path = root.path().join(name);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::fs::write(path, "").expect("a file");
            }
        };
        make(&["archive/interactions/partition=1/10-12.parquet", "archive/interactions/partition=1/02-09.parquet"]);
        make(&["archive/interactions/partition=0/00-07.parquet", "archive/interactions/partition=0/08-09.parquet#1"]);
        make(&["archive/scores/partition=0/00-07.parquet", "archive/.rapport-archive.lock"]);
        make(&["more/b.jsonl.gz", "more/a.jsonl", "more/a.labels.jsonl", "more/_SUCCESS", "more/.x.jsonl", "more/notes.txt", "none/x.txt"]);
        let names = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(|p| root.path().join(p)).collect();
            expand(&paths).map(|files| {
                files.iter().map(|f| f.strip_prefix(root.path()).expect("below").display().to_string()).collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(names(&["more", "not/there.jsonl"]).expect("files"), "more/a.jsonl more/b.jsonl.gz not/there.jsonl");
        let expected = "archive/interactions/partition=0/00-07.parquet archive/interactions/partition=1/02-09.parquet \
                        archive/interactions/partition=1/10-12.parquet";
        assert_eq!(names(&["archive"]).expect("files"), expected);
        assert_eq!(names(&["archive/interactions"]).expect("files"), expected);
        assert!(names(&["none"]).expect_err("nothing in it").to_string().contains(".parquet"));

        // The same names as keys of a bucket.
        let mut keys = Vec::new();
        let mut folders = vec![root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()) {
                match path.is_dir() {
                    true => folders.push(path),
                    false => keys.push(path.strip_prefix(root.path()).expect("below").display().to_string()),
                }
            }
        }
        let below = |prefix: &str| {
            let keys: Vec<(&str, &str)> = keys.iter().filter_map(|k| Some((k.strip_prefix(prefix)?, k.as_str()))).collect();
            let mut files = Vec::new();
            pick(&keys, &mut files);
            files.join(" ")
        };
        assert_eq!(below("archive/"), expected);
        assert_eq!(below("archive/interactions/"), expected);
        assert_eq!(below(""), format!("{expected} more/a.jsonl more/b.jsonl.gz"));
        assert_eq!(below("none/"), "");
    }

    #[test]
    fn a_number_that_json_has_not_is_rejected_under_its_name() {
        use arrow::array::{Float32Array, Float64Array, StringArray, TimestampMicrosecondArray};
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(StringArray::from(vec!["a", "b", "c", "d"]))),
            ("customer_id", Arc::new(StringArray::from(vec!["x"; 4]))),
            ("occurred_at", Arc::new(TimestampMicrosecondArray::from(vec![0; 4]))),
            ("kind", Arc::new(StringArray::from(vec!["purchase"; 4]))),
            ("amount", Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(1.5), None, Some(2.0)]))),
            ("quantity", Arc::new(Float32Array::from(vec![1.0, f32::NEG_INFINITY, 1.0, 1.0]))),
            ("item", Arc::new(Float64Array::from(vec![None, None, None, Some(f64::NAN)]))),
        ];
        let rows = plain(RecordBatch::try_from_iter(columns).expect("columns")).expect("a batch");
        let decoded: Vec<_> = (0..4)
            .map(|row| {
                let json = json_row(&rows, row).expect("a row").to_string();
                super::super::decode(json.as_bytes(), super::super::DecodeOptions::default()).map(|d| d.interaction.amount)
            })
            .collect();
        let said = |row: usize| decoded[row].as_ref().expect_err("rejected").to_string();
        assert_eq!(
            said(0),
            "invalid_field: amount is the string \"NaN\": must be a number of at least 0; what is paid back is of kind return"
        );
        assert_eq!(said(1), "invalid_field: quantity is the string \"-inf\": must be a number of at least 0");
        assert_eq!(decoded[2], Ok(None), "null is absent");
        assert_eq!(said(3), "invalid_field: item is the array [\"NaN\"]: must be a string");
    }
}
