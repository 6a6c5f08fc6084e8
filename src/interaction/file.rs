//! Files of records: JSON Lines (plain or gzip, told by content) and Parquet (by extension), as the bytes that [`super::decode`] reads.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::{Map, Value};

/// A record file that could not be read; says which and why.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct FileError {
    pub path: String,
    pub what: String,
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
    /// Opens `path`; `-` is standard input.
    ///
    /// # Errors
    /// The file cannot be opened, or is no Parquet file although it is named so.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let error = |what: String| FileError { path: path.display().to_string(), what };
        let source = if path == Path::new("-") {
            Source::Lines(unzipped(io::stdin()).map_err(|e| error(e.to_string()))?)
        } else {
            let file = File::open(path).map_err(|e| error(e.to_string()))?;
            if path.extension().is_some_and(|e| e == "parquet") {
                let reader = ParquetRecordBatchReaderBuilder::try_new(file)
                    .and_then(|b| b.build())
                    .map_err(|e| error(format!("no readable Parquet file: {e}")))?;
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
                    Some(next) => *batch = Some(next.map_err(|e| error(&self.path, e.to_string()))?),
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

/// One row as the JSON object that it mirrors. `attributes` is a JSON string; absent values are left out.
fn json_row(rows: &RecordBatch, row: usize) -> Result<Value, String> {
    let mut object = Map::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        if column.is_null(row) {
            continue;
        }
        let value = match column.data_type() {
            DataType::Utf8 => Value::from(column.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => Value::from(column.as_string::<i64>().value(row)),
            DataType::Utf8View => Value::from(column.as_string_view().value(row)),
            DataType::Boolean => Value::from(column.as_boolean().value(row)),
            DataType::Timestamp(..) => {
                let micros =
                    arrow::compute::cast(&column.slice(row, 1), &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None))
                        .map_err(|e| format!("column {}: {e}", field.name()))?;
                let micros = micros.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(0);
                Value::from(super::Timestamp(micros).to_string())
            }
            kind if kind.is_numeric() => {
                let number =
                    arrow::compute::cast(&column.slice(row, 1), &DataType::Float64).map_err(|e| format!("column {}: {e}", field.name()))?;
                Value::from(number.as_primitive::<Float64Type>().value(0))
            }
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
