//! Scores as columns that mirror their JSON. Class tasks differ from bundle to bundle, so a file has those that its scores have.
//!
//! Knows the published JSON alone: an archive outlives the version that wrote its scores.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value};

use super::columns::time;
use crate::interaction::Timestamp;

type Row = Map<String, Value>;

/// Rows on their way to columns, and the columns of their file.
#[derive(Default)]
pub(super) struct ScoreRows {
    rows: Vec<Row>,
    /// Columns beside the fixed ones.
    tasks: BTreeMap<String, DataType>,
    /// The file has begun, so its columns stay.
    begun: bool,
}

impl ScoreRows {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether every field of the row has a column in this file, or can get one.
    pub fn fits(&self, row: &Row) -> bool {
        row.iter().filter(|(name, _)| !is_fixed(name)).all(|(name, value)| match self.tasks.get(name) {
            Some(kind) => *kind == kind_of(value),
            None => !self.begun,
        })
    }

    /// Adds a row that fits.
    pub fn push(&mut self, row: Row) {
        for (name, value) in row.iter().filter(|(name, _)| !is_fixed(name)) {
            if !self.tasks.contains_key(name) {
                self.tasks.insert(name.clone(), kind_of(value));
            }
        }
        self.rows.push(row);
    }

    /// The rows as columns; they are gone then.
    pub fn batch(&mut self) -> Result<RecordBatch, ArrowError> {
        self.begun = true;
        let (head, tail) = fixed();
        let tasks = self.tasks.iter().map(|(name, kind)| Field::new(name, kind.clone(), true));
        let fields: Vec<Field> = head.into_iter().chain(tasks).chain(tail).collect();
        let columns = fields.iter().map(|field| {
            let values: Vec<Option<&Value>> = self.rows.iter().map(|row| row.get(field.name()).filter(|v| !v.is_null())).collect();
            column(field.data_type(), &values)
        });
        let columns = columns.collect::<Result<_, _>>()?;
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        self.rows.clear();
        Ok(batch)
    }

    /// The file is published; the next one has columns of its own.
    pub fn forget_columns(&mut self) {
        self.begun = false;
        self.tasks.clear();
    }

    pub fn scored_at(row: &Row) -> Option<Timestamp> {
        Timestamp::parse(row.get("scored_at")?.as_str()?).ok()
    }
}

fn structure(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Fields>())
}

/// The columns before and behind those of the class tasks.
fn fixed() -> (Vec<Field>, Vec<Field>) {
    use DataType::{Float32, UInt32, Utf8};
    let satisfaction = ["value", "dissatisfied", "neutral", "satisfied", "baseline"].map(|name| (name, Float32));
    let head = vec![
        Field::new("customer_id", Utf8, false),
        Field::new("interaction_id", Utf8, true),
        Field::new("occurred_at", time(), true),
        Field::new("scored_at", time(), true),
        Field::new("model", Utf8, true),
        Field::new("satisfaction", structure(&satisfaction), true),
    ];
    let tail = vec![
        Field::new("churn", structure(&[("probability", Float32), ("horizon_days", UInt32)]), true),
        Field::new("spend", structure(&[("purchases", Float32), ("amount", Float32), ("horizon_days", UInt32)]), true),
        Field::new("segment", structure(&[("id", UInt32), ("label", Utf8)]), true),
        Field::new("anomaly", Float32, true),
    ];
    (head, tail)
}

fn is_fixed(name: &str) -> bool {
    let known =
        ["customer_id", "interaction_id", "occurred_at", "scored_at", "model", "satisfaction", "churn", "spend", "segment", "anomaly"];
    known.contains(&name)
}

/// A class task is a list of (label, probability), a mark of none of them a boolean; of anything else the JSON is kept.
fn kind_of(value: &Value) -> DataType {
    match value {
        Value::Array(_) => {
            let item = structure(&[("label", DataType::Utf8), ("probability", DataType::Float32)]);
            DataType::List(Arc::new(Field::new("item", item, true)))
        }
        Value::Bool(_) => DataType::Boolean,
        _ => DataType::Utf8,
    }
}

fn column(kind: &DataType, values: &[Option<&Value>]) -> Result<ArrayRef, ArrowError> {
    let values_of = |get: fn(&Value) -> Option<f64>| values.iter().map(move |v| v.and_then(get));
    Ok(match kind {
        DataType::Float32 => Arc::new(Float32Array::from_iter(values_of(Value::as_f64).map(|n| n.map(|n| n as f32)))),
        DataType::UInt32 => {
            Arc::new(UInt32Array::from_iter(values.iter().map(|v| v.and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()))))
        }
        DataType::Boolean => Arc::new(BooleanArray::from_iter(values.iter().map(|v| v.and_then(Value::as_bool)))),
        DataType::Timestamp(..) => {
            let times = values.iter().map(|v| v.and_then(Value::as_str).and_then(|s| Timestamp::parse(s).ok()).map(|t| t.0));
            Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC"))
        }
        DataType::Struct(fields) => {
            let children = fields.iter().map(|field| {
                let inner: Vec<Option<&Value>> = values.iter().map(|v| v.and_then(|v| v.get(field.name()))).collect();
                column(field.data_type(), &inner)
            });
            let nulls = NullBuffer::from_iter(values.iter().map(Option::is_some));
            Arc::new(StructArray::try_new(fields.clone(), children.collect::<Result<_, _>>()?, Some(nulls))?)
        }
        DataType::List(item) => {
            let lists = values.iter().map(|v| v.and_then(Value::as_array).map_or(&[][..], Vec::as_slice));
            let offsets = OffsetBuffer::from_lengths(lists.clone().map(<[Value]>::len));
            let items: Vec<Option<&Value>> = lists.flatten().map(Some).collect();
            let nulls = NullBuffer::from_iter(values.iter().map(Option::is_some));
            Arc::new(ListArray::try_new(item.clone(), offsets, column(item.data_type(), &items)?, Some(nulls))?)
        }
        _ => {
            let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            Arc::new(StringArray::from_iter(values.iter().map(|v| v.map(text))))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Float32Type;
    use serde_json::json;

    fn row(more: Value) -> Row {
        let mut row = json!({"customer_id": "c", "interaction_id": "i", "occurred_at": "2024-05-01T10:00:00Z",
            "scored_at": "2024-05-01T10:00:00.25Z", "model": "m"});
        row.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        row.as_object().expect("an object").clone()
    }

    #[test]
    fn columns_mirror_the_fields_and_absent_ones_are_null() {
        let mut rows = ScoreRows::default();
        rows.push(row(json!({"satisfaction": {"value": 2.4, "dissatisfied": 0.61, "neutral": 0.3, "satisfied": 0.09, "baseline": 3.6}})));
        rows.push(row(json!({"intent": [{"label": "refund", "probability": 0.71}, {"label": "other", "probability": 0.2}],
            "intent_unknown": true, "churn": {"probability": 0.18, "horizon_days": 90}, "anomaly": 0.97})));
        let batch = rows.batch().expect("columns");
        let names: Vec<_> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(
            names,
            [
                "customer_id",
                "interaction_id",
                "occurred_at",
                "scored_at",
                "model",
                "satisfaction",
                "intent",
                "intent_unknown",
                "churn",
                "spend",
                "segment",
                "anomaly"
            ]
        );
        let of = |name: &str| batch.column_by_name(name).expect(name).clone();
        let satisfaction = of("satisfaction");
        assert!(satisfaction.is_valid(0) && satisfaction.is_null(1));
        assert_eq!(satisfaction.as_struct().column(1).as_primitive::<Float32Type>().value(0), 0.61);
        let intent = of("intent");
        assert!(intent.is_null(0) && intent.as_list::<i32>().value(1).len() == 2);
        assert!(of("intent_unknown").is_null(0) && of("intent_unknown").as_boolean().value(1));
        assert_eq!(of("churn").as_struct().column(0).as_primitive::<Float32Type>().value(1), 0.18);
        assert_eq!(of("spend").null_count(), 2);
    }

    #[test]
    fn a_new_task_does_not_fit_into_a_file_that_has_begun() {
        let mut rows = ScoreRows::default();
        let (intent, mood) = (row(json!({"intent": []})), row(json!({"mood": []})));
        rows.push(intent.clone());
        assert!(rows.fits(&mood) && !rows.fits(&row(json!({"intent": true}))));
        rows.batch().expect("columns");
        assert!(rows.fits(&intent) && !rows.fits(&mood) && rows.fits(&row(json!({"anomaly": 0.5}))));
        rows.forget_columns();
        assert!(rows.fits(&mood));
    }
}
