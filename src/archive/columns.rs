//! Interactions as columns that mirror their JSON, and what every Parquet file of ours has.
//!
//! Read back by [`crate::interaction::file`]. Knows no archive; `simulate` writes its files by it too.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::interaction::file::{SCHEMA, SCHEMA_KEY};
use crate::interaction::{Actor, Interaction};

/// Bytes of a row group: what a reader holds at once.
const ROW_GROUP: usize = 32 << 20;

/// zstd, row groups of bounded size, and the version of the columns.
pub fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_bytes(Some(ROW_GROUP))
        .set_key_value_metadata(Some(vec![KeyValue::new(SCHEMA_KEY.into(), SCHEMA.to_owned())]))
        .build()
}

/// Microseconds in UTC.
pub(super) fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// One column per field of an interaction; `attributes` is a JSON string.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let field = |name: &str| match name {
            "occurred_at" => Field::new(name, time(), false),
            "amount" | "quantity" | "rating" => Field::new(name, DataType::Float64, true),
            "id" | "customer_id" | "kind" | "actor" => Field::new(name, DataType::Utf8, false),
            _ => Field::new(name, DataType::Utf8, true),
        };
        Arc::new(Schema::new(crate::interaction::FIELDS.map(field).to_vec()))
    });
    SCHEMA.clone()
}

/// Interactions as columns of [`schema`].
pub fn batch(rows: &[Interaction]) -> Result<RecordBatch, ArrowError> {
    fn strings<'a>(rows: &'a [Interaction], of: impl Fn(&'a Interaction) -> Option<&'a str>) -> ArrayRef {
        Arc::new(StringArray::from_iter(rows.iter().map(of)))
    }
    let numbers = |of: fn(&Interaction) -> Option<f64>| -> ArrayRef { Arc::new(Float64Array::from_iter(rows.iter().map(of))) };
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.occurred_at.0)).with_timezone("UTC");
    let actor = |r: &Interaction| match r.actor {
        Actor::Customer => "customer",
        Actor::Agent => "agent",
        Actor::System => "system",
    };
    let attributes: Vec<Option<String>> = rows
        .iter()
        .map(|r| match r.attributes.is_empty() {
            true => Ok(None),
            false => serde_json::to_string(&r.attributes).map(Some),
        })
        .collect::<Result<_, _>>()
        .map_err(|e| ArrowError::JsonError(e.to_string()))?;
    RecordBatch::try_new(
        schema(),
        vec![
            strings(rows, |r| Some(&r.id)),
            strings(rows, |r| Some(&r.customer_id)),
            Arc::new(times),
            strings(rows, |r| Some(&r.kind)),
            strings(rows, |r| Some(actor(r))),
            strings(rows, |r| r.conversation_id.as_deref()),
            strings(rows, |r| r.channel.as_deref()),
            strings(rows, |r| r.language.as_deref()),
            strings(rows, |r| r.item.as_deref()),
            strings(rows, |r| r.category.as_deref()),
            strings(rows, |r| r.text.as_deref()),
            numbers(|r| r.amount),
            numbers(|r| r.quantity),
            strings(rows, |r| r.currency.as_deref()),
            numbers(|r| r.rating),
            strings(rows, |r| r.about.as_deref()),
            Arc::new(StringArray::from_iter(attributes)),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::file::Records;
    use crate::interaction::{DecodeOptions, decode};
    use parquet::arrow::ArrowWriter;

    #[test]
    fn what_is_written_reads_back_as_the_same_interactions() {
        let all = r#"{"id":"i1","customer_id":"c","occurred_at":"2024-05-01T10:00:00.000123Z","kind":"survey","actor":"system","conversation_id":"k",
            "channel":"web","language":"zh-Hans","item":"x","category":"y","text":"你好 \"quoted\"\n","amount":0.1,"quantity":3,"currency":"EUR",
            "rating":2.5,"about":"i0","attributes":{"a":"b","n":1.5,"t":true}}"#;
        let least = r#"{"id":"i2","customer_id":"c","occurred_at":"1970-01-01T00:00:00Z","kind":"message"}"#;
        let rows = [all, least].map(|line| decode(line.as_bytes(), DecodeOptions::default()).expect("valid").interaction);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("i.parquet");
        let file = std::fs::File::create(&path).expect("a file");
        let mut writer = ArrowWriter::try_new(file, schema(), Some(properties())).expect("a writer");
        writer.write(&batch(&rows).expect("columns")).expect("written");
        writer.close().expect("closed");
        let mut records = Records::open(&path).expect("readable");
        let mut record = Vec::new();
        for row in &rows {
            records.next(&mut record).expect("readable").expect("a row");
            let read = decode(&record, DecodeOptions::default()).expect("valid");
            assert_eq!((&read.interaction, read.unknown_fields), (row, 0));
        }
        assert_eq!(records.next(&mut record).expect("readable"), None);
    }
}
