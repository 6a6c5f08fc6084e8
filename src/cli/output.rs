//! Output files: JSON Lines, or Parquet whose columns mirror the JSON.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{
    ArrayRef, BooleanBuilder, Float32Array, Float32Builder, ListBuilder, RecordBatch, StringBuilder, StructArray, StructBuilder,
    TimestampMicrosecondBuilder, UInt32Array, UInt32Builder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use serde::Serialize;

use super::{STDOUT, probe, usage};
use crate::engine::{ClassScore, Score};
use crate::interaction::file::remote;
use crate::interaction::{Name, Timestamp};
use crate::model::Model;

/// Writes one JSON object a line; `-` is standard output, a name that ends in `.gz` is compressed.
pub struct LineWriter {
    out: BufWriter<Box<dyn Write>>,
    name: String,
}

impl LineWriter {
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file: Box<dyn Write> = if path == Path::new("-") { Box::new(io::stdout().lock()) } else { crate::import::create(path)? };
        Ok(Self { out: BufWriter::with_capacity(1 << 18, file), name: path.display().to_string() })
    }

    pub fn write(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let written = serde_json::to_writer(&mut self.out, value).map_err(io::Error::from).and_then(|()| self.out.write_all(b"\n"));
        written.with_context(|| format!("cannot write {}", self.name))
    }

    pub fn finish(mut self) -> anyhow::Result<()> {
        self.out.flush().with_context(|| format!("cannot write {}", self.name))
    }
}

pub(super) fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

/// Opens nothing for writing before it is sure that every input can be read, that every output has a place, and that none would overwrite an input or
/// another output.
/// Each path comes with the flag that named it.
///
/// # Errors
/// A usage error that names the flags.
pub fn check_files(inputs: &[(&str, &Path)], outputs: &[(&str, &Path)]) -> anyhow::Result<()> {
    let files = || inputs.iter().filter(|(_, p)| *p != Path::new("-") && remote(p).is_none());
    for (flag, path) in files() {
        File::open(path).map_err(|e| usage(format!("{flag} {}: {e}; name a file that can be read", path.display())))?;
    }
    let mut seen: Vec<(&str, PathBuf)> = files().map(|(flag, path)| (*flag, same(path))).collect();
    for (flag, path) in outputs {
        let place = same(path);
        if let Some((other, _)) = seen.iter().find(|(_, p)| *p == place) {
            return Err(usage(format!("{flag} {} is the file of {other} too, which would be lost: name another", path.display())));
        }
        if *path != Path::new("-") {
            writable(path).map_err(|e| usage(format!("{flag} {}: {e}; name a file that can be written", path.display())))?;
        }
        seen.push((flag, place));
    }
    Ok(())
}

/// Whether a file can be written here, as far as can be told without writing it.
fn writable(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if found.is_file() => File::options().write(true).open(path).map(drop),
        // A pipe or a device, which opening may block or change.
        Ok(_) => Ok(()),
        Err(_) => {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            probe(folder).map_err(|e| io::Error::new(e.kind(), format!("nothing can be made in {}: {e}", folder.display())))
        }
    }
}

/// Writes a text whole; `-` is standard output.
pub(super) fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return io::stdout().write_all(text.as_bytes()).context(STDOUT);
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The file that a path leads to, by one name; of a file that is to come, its directory's name and its own.
fn same(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = parent.canonicalize().unwrap_or_else(|_| parent.into());
        path.file_name().map_or_else(|| parent.clone(), |name| parent.join(name))
    })
}

/// Writes scores as the file's extension says.
pub enum ScoreWriter {
    Lines(LineWriter),
    Parquet(Box<ParquetScores>),
}

impl ScoreWriter {
    pub fn create(path: &Path, model: &Model) -> anyhow::Result<Self> {
        if path.extension().is_some_and(|e| e == "parquet") {
            Ok(Self::Parquet(Box::new(ParquetScores::new(create(path)?, model)?)))
        } else {
            LineWriter::create(path).map(Self::Lines)
        }
    }

    pub fn write(&mut self, score: &Score) -> anyhow::Result<()> {
        match self {
            Self::Lines(lines) => lines.write(score),
            Self::Parquet(rows) => rows.write(score),
        }
    }

    pub fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Lines(lines) => lines.finish(),
            Self::Parquet(rows) => rows.finish(),
        }
    }
}

/// Scores as columns: `satisfaction` and `segment` are structs, a class task a list of (label, probability).
pub struct ParquetScores {
    writer: ArrowWriter<File>,
    schema: Arc<Schema>,
    tasks: Vec<(Name, Name)>,
    satisfied: bool,
    churn: bool,
    spend: bool,
    segmented: bool,
    rows: Vec<Score>,
}

const ROWS: usize = 8192;

impl ParquetScores {
    fn new(file: File, model: &Model) -> anyhow::Result<Self> {
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let mut fields = vec![
            Field::new("customer_id", DataType::Utf8, false),
            Field::new("interaction_id", DataType::Utf8, true),
            Field::new("occurred_at", time(), false),
            Field::new("scored_at", time(), false),
            Field::new("model", DataType::Utf8, false),
        ];
        let satisfied = model.manifest.satisfaction.is_some();
        if satisfied {
            fields.push(Field::new("satisfaction", DataType::Struct(satisfaction_fields()), false));
        }
        let need = model.future.iter().filter_map(|f| f.task.as_ref());
        let tasks: Vec<(Name, Name)> = model.classes.iter().chain(need).map(|t| (t.name.clone(), t.unknown.clone())).collect();
        for (task, unknown) in &tasks {
            let item = Field::new("item", DataType::Struct(class_fields()), true);
            fields.push(Field::new(task.as_str(), DataType::List(Arc::new(item)), false));
            fields.push(Field::new(unknown.as_str(), DataType::Boolean, true));
        }
        let future = model.manifest.future.as_ref();
        let (churn, spend) = (future.is_some_and(|f| f.churn.is_some()), future.is_some_and(|f| f.spend.is_some()));
        if churn {
            fields.push(Field::new("churn", DataType::Struct(ahead_fields(&["probability"])), false));
        }
        if spend {
            fields.push(Field::new("spend", DataType::Struct(ahead_fields(&["purchases", "amount"])), false));
        }
        let segmented = model.behaviour.is_some();
        if segmented {
            fields.push(Field::new("segment", DataType::Struct(segment_fields()), false));
            fields.push(Field::new("anomaly", DataType::Float32, false));
        }
        let schema = Arc::new(Schema::new(fields));
        let writer = ArrowWriter::try_new(file, schema.clone(), None)?;
        Ok(Self { writer, schema, tasks, satisfied, churn, spend, segmented, rows: Vec::with_capacity(ROWS) })
    }

    fn write(&mut self, score: &Score) -> anyhow::Result<()> {
        self.rows.push(score.clone());
        if self.rows.len() >= ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let rows = &self.rows;
        let times = |of: fn(&Score) -> Timestamp| -> ArrayRef {
            let mut b = TimestampMicrosecondBuilder::new();
            rows.iter().for_each(|r| b.append_value(of(r).0));
            Arc::new(b.finish().with_timezone("UTC"))
        };
        let strings = |of: fn(&Score) -> Option<&str>| -> ArrayRef {
            let mut b = StringBuilder::new();
            rows.iter().for_each(|r| b.append_option(of(r)));
            Arc::new(b.finish())
        };
        let mut columns = vec![
            strings(|r| Some(&r.customer_id)),
            strings(|r| r.interaction_id.as_deref()),
            times(|r| r.occurred_at),
            times(|r| r.scored_at),
            strings(|r| Some(r.model.as_str())),
        ];
        if self.satisfied {
            let of: [fn(&crate::engine::Satisfaction) -> f32; 5] =
                [|s| s.value, |s| s.dissatisfied, |s| s.neutral, |s| s.satisfied, |s| s.baseline];
            let parts = of.map(|of| -> ArrayRef {
                let mut b = Float32Builder::new();
                rows.iter().for_each(|r| b.append_option(r.satisfaction.as_ref().map(of)));
                Arc::new(b.finish())
            });
            columns.push(Arc::new(StructArray::new(satisfaction_fields(), parts.to_vec(), None)));
        }
        for (task, unknown) in &self.tasks {
            columns.push(Arc::new(class_list(rows, task)));
            let mut b = BooleanBuilder::new();
            rows.iter().for_each(|r| b.append_option(r.classes.contains_key(unknown).then_some(true)));
            columns.push(Arc::new(b.finish()));
        }
        let days = |of: fn(&Score) -> Option<u32>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<UInt32Array>()) };
        let floats = |of: fn(&Score) -> Option<f32>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<Float32Array>()) };
        if self.churn {
            let parts = vec![floats(|r| r.churn.map(|c| c.probability)), days(|r| r.churn.map(|c| c.horizon_days))];
            columns.push(Arc::new(StructArray::new(ahead_fields(&["probability"]), parts, None)));
        }
        if self.spend {
            let (purchases, amount) = (floats(|r| r.spend.map(|s| s.purchases)), floats(|r| r.spend.map(|s| s.amount)));
            let parts = vec![purchases, amount, days(|r| r.spend.map(|s| s.horizon_days))];
            columns.push(Arc::new(StructArray::new(ahead_fields(&["purchases", "amount"]), parts, None)));
        }
        if self.segmented {
            let (mut ids, mut labels, mut anomalies) = (UInt32Builder::new(), StringBuilder::new(), Float32Builder::new());
            for row in rows {
                ids.append_option(row.segment.as_ref().map(|s| s.id));
                labels.append_option(row.segment.as_ref().map(|s| s.label.as_str()));
                anomalies.append_option(row.anomaly);
            }
            let parts: Vec<ArrayRef> = vec![Arc::new(ids.finish()), Arc::new(labels.finish())];
            columns.push(Arc::new(StructArray::new(segment_fields(), parts, None)));
            columns.push(Arc::new(anomalies.finish()));
        }
        self.writer.write(&RecordBatch::try_new(self.schema.clone(), columns)?)?;
        self.rows.clear();
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.flush()?;
        self.writer.close()?;
        Ok(())
    }
}

fn satisfaction_fields() -> Fields {
    ["value", "dissatisfied", "neutral", "satisfied", "baseline"].map(|n| Field::new(n, DataType::Float32, true)).to_vec().into()
}

/// Numbers over a horizon.
fn ahead_fields(numbers: &[&str]) -> Fields {
    let numbers = numbers.iter().map(|n| Field::new(*n, DataType::Float32, true));
    numbers.chain([Field::new("horizon_days", DataType::UInt32, true)]).collect()
}

fn segment_fields() -> Fields {
    vec![Field::new("id", DataType::UInt32, true), Field::new("label", DataType::Utf8, true)].into()
}

fn class_fields() -> Fields {
    vec![Field::new("label", DataType::Utf8, true), Field::new("probability", DataType::Float32, true)].into()
}

fn class_list(rows: &[Score], task: &Name) -> arrow::array::ListArray {
    let item = StructBuilder::new(class_fields(), vec![Box::new(StringBuilder::new()), Box::new(Float32Builder::new())]);
    let mut list = ListBuilder::new(item);
    for row in rows {
        if let Some(ClassScore::Top(top)) = row.classes.get(task) {
            for class in top {
                let one = list.values();
                if let Some(b) = one.field_builder::<StringBuilder>(0) {
                    b.append_value(class.label.as_str());
                }
                if let Some(b) = one.field_builder::<Float32Builder>(1) {
                    b.append_value(class.probability);
                }
                one.append(true);
            }
        }
        list.append(true);
    }
    list.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overwrites_what_is_read_or_written_beside_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (input, link) = (dir.path().join("in.jsonl"), dir.path().join("link.jsonl"));
        std::fs::write(&input, "{}\n").expect("temporary file");
        std::os::unix::fs::symlink(&input, &link).expect("a link");
        let (new, dash) = (dir.path().join("new.jsonl"), Path::new("-"));
        let check = |inputs: &[&Path], outputs: &[(&'static str, &Path)]| {
            check_files(&inputs.iter().map(|p| ("--input", *p)).collect::<Vec<_>>(), outputs).map_err(|e| e.to_string())
        };
        check(&[&input], &[("--output", &new), ("--alerts", dash)]).expect("all different");
        check(&[dash], &[("--output", dash)]).expect("standard input and output differ");
        for (outputs, other) in [
            ([("--output", input.as_path()), ("--alerts", dash)], "--input"),
            ([("--output", link.as_path()), ("--alerts", dash)], "--input"),
            ([("--output", new.as_path()), ("--alerts", new.as_path())], "--output"),
            ([("--output", dash), ("--alerts", dash)], "--output"),
        ] {
            let error = check(&[&input], &outputs).expect_err("the same file");
            assert!(error.contains(other) && error.contains("name another"), "{error}");
        }
        let error = check(&[&dir.path().join("none")], &[("--output", &new)]).expect_err("no input");
        assert!(error.contains("--input") && !new.exists(), "{error}");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told_before_any_work() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "kept").expect("temporary file");
        let check = |output: &Path| check_files(&[], &[("--json", output)]).map_err(|e| e.to_string());
        for good in [file.as_path(), Path::new("/dev/null"), Path::new("-"), Path::new("new.json"), &dir.path().join("new")] {
            check(good).expect("a place");
        }
        for bad in [dir.path().to_owned(), dir.path().join("none/new"), file.join("new"), "/proc/new".into()] {
            let error = check(&bad).expect_err("no place");
            assert!(error.contains("--json") && error.contains(&bad.display().to_string()), "{error}");
        }
        assert_eq!(std::fs::read(&file).expect("the file"), b"kept");
    }
}
