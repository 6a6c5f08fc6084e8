//! An outcome that someone recorded; read in training and evaluation only.

use std::collections::BTreeMap;

use super::Reject;
use super::raw::{self, RawObject};

/// The task whose labels are numbers.
pub const SATISFACTION: &str = "satisfaction";
/// Names of score fields, which no class task may have; neither may it end in [`UNKNOWN_SUFFIX`].
pub const RESERVED_TASKS: [&str; 10] =
    ["customer_id", "interaction_id", "occurred_at", "scored_at", "model", "next_need", "churn", "spend", "segment", "anomaly"];
/// `<task>_unknown` is a score field too.
pub const UNKNOWN_SUFFIX: &str = "_unknown";

const FIELDS: [&str; 3] = ["interaction_id", "task", "value"];
const INTERACTION_ID: usize = 0;
const TASK: usize = 1;
const VALUE: usize = 2;
const MAX_ID_BYTES: usize = 128;
const MAX_TASK_BYTES: usize = 64;
const MAX_CLASS_BYTES: usize = 128;

/// `{"interaction_id": "...", "task": "satisfaction", "value": 2.67}`
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    pub interaction_id: Box<str>,
    pub task: Box<str>,
    pub value: LabelValue,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LabelValue {
    /// A mean rating, 1–5, of task `satisfaction`.
    Rating(f64),
    /// A class of any other task.
    Class(Box<str>),
}

impl Label {
    /// Decodes and validates one line.
    ///
    /// # Errors
    /// A [`Reject`] as for an interaction: `too_large`, `invalid_utf8`, `malformed_json`, `not_an_object`, `missing_field`, `invalid_field`.
    pub fn decode(line: &[u8]) -> Result<Self, Reject> {
        let fields = RawObject::parse(line, &FIELDS)?;
        fields.require(&[INTERACTION_ID, TASK, VALUE])?;
        let interaction_id = fields.required_string(INTERACTION_ID, MAX_ID_BYTES)?;
        let task = fields.required_string(TASK, MAX_TASK_BYTES)?;
        if task.chars().any(char::is_control) {
            return Err(fields.invalid(TASK, "must have no control characters"));
        }
        if RESERVED_TASKS.contains(&&*task) || task.ends_with(UNKNOWN_SUFFIX) {
            return Err(fields.invalid(TASK, "is the name of a score field, choose another"));
        }
        let value = if task == SATISFACTION {
            let right = "must be a number from 1 to 5, as the task is satisfaction";
            LabelValue::Rating(fields.number(VALUE, 1.0, 5.0, right)?.ok_or_else(|| fields.invalid(VALUE, right))?)
        } else {
            let raw = fields.get(VALUE).unwrap_or("null");
            let class = raw::unquote(raw).filter(|c| (1..=MAX_CLASS_BYTES).contains(&c.len()));
            let right = "must be a string of 1 to 128 bytes, as the task is one of classes";
            LabelValue::Class(class.ok_or_else(|| fields.invalid(VALUE, right))?.into())
        };
        Ok(Self { interaction_id: interaction_id.into(), task: task.into(), value })
    }
}

/// One value per interaction and task.
pub type LabelSet = BTreeMap<Box<str>, BTreeMap<Box<str>, LabelValue>>;

/// Ratings, and how often each class was named.
type Said = (Vec<f64>, BTreeMap<Box<str>, usize>);

/// Merges several labels of one interaction and task: the mean of ratings, the most frequent of classes (of equally frequent ones the first in
/// byte order). The order of the labels does not matter, to the last bit.
pub fn aggregate(labels: impl IntoIterator<Item = Label>) -> LabelSet {
    let mut all: BTreeMap<(Box<str>, Box<str>), Said> = BTreeMap::new();
    for label in labels {
        let (ratings, classes) = all.entry((label.interaction_id, label.task)).or_default();
        match label.value {
            LabelValue::Rating(r) => ratings.push(r),
            LabelValue::Class(c) => *classes.entry(c).or_default() += 1,
        }
    }
    let mut merged = LabelSet::new();
    for ((interaction, task), (mut ratings, classes)) in all {
        ratings.sort_by(f64::total_cmp);
        // `max_by_key` keeps the last of equals, so count from the back.
        let class = classes.into_iter().rev().max_by_key(|(_, n)| *n).map(|(c, _)| LabelValue::Class(c));
        let rating = (!ratings.is_empty()).then(|| LabelValue::Rating(ratings.iter().sum::<f64>() / ratings.len() as f64));
        if let Some(value) = rating.or(class) {
            merged.entry(interaction).or_default().insert(task, value);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::super::RejectClass;
    use super::*;

    fn label(task: &str, value: &str) -> Label {
        Label::decode(format!(r#"{{"interaction_id":"i","task":"{task}","value":{value}}}"#).as_bytes()).expect("valid")
    }

    #[test]
    fn satisfaction_is_a_number_and_anything_else_a_class() {
        assert_eq!(label("satisfaction", "2.67").value, LabelValue::Rating(2.67));
        assert_eq!(label("intent", "\"refund\"").value, LabelValue::Class("refund".into()));
    }

    #[test]
    fn wrong_labels_say_why() {
        let class = |line: &str| Label::decode(line.as_bytes()).expect_err(line);
        for (line, expected, mentions) in [
            (r#"{"task":"intent","value":"a"}"#, RejectClass::MissingField, "interaction_id"),
            (r#"{"interaction_id":"i","task":null,"value":"a"}"#, RejectClass::MissingField, "task"),
            (r#"{"interaction_id":"i","task":"intent"}"#, RejectClass::MissingField, "value"),
            (r#"{"interaction_id":"","task":"intent","value":"a"}"#, RejectClass::InvalidField, "interaction_id"),
            (r#"{"interaction_id":"i","task":"satisfaction","value":"3"}"#, RejectClass::InvalidField, "value"),
            (r#"{"interaction_id":"i","task":"satisfaction","value":0.99}"#, RejectClass::InvalidField, "from 1 to 5"),
            (r#"{"interaction_id":"i","task":"intent","value":3}"#, RejectClass::InvalidField, "string"),
            (r#"{"interaction_id":"i","task":"intent","value":""}"#, RejectClass::InvalidField, "string"),
            (r#"{"interaction_id":"i","task":"churn","value":"a"}"#, RejectClass::InvalidField, "score field"),
            (r#"{"interaction_id":"i","task":"intent_unknown","value":"a"}"#, RejectClass::InvalidField, "score field"),
            (r#"["i","intent","a"]"#, RejectClass::NotAnObject, "object"),
            (r#"{"interaction_id":"i""#, RejectClass::MalformedJson, "JSON"),
            ("", RejectClass::MalformedJson, "empty"),
        ] {
            let reject = class(line);
            assert_eq!(reject.class, expected, "{line}: {reject}");
            assert!(reject.message.contains(mentions), "{line}: {reject}");
        }
    }

    #[test]
    fn several_labels_merge_to_the_mean_and_the_most_frequent() {
        let all = vec![
            label("satisfaction", "1"),
            label("satisfaction", "2"),
            label("satisfaction", "2"),
            label("intent", "\"b\""),
            label("intent", "\"c\""),
            label("intent", "\"c\""),
            label("intent", "\"b\""),
            label("intent", "\"a\""),
        ];
        let merged = aggregate(all.clone());
        assert_eq!(merged["i"]["satisfaction"], LabelValue::Rating(5.0 / 3.0));
        assert_eq!(merged["i"]["intent"], LabelValue::Class("b".into()), "b and c are equally frequent");
        assert_eq!(merged, aggregate(all.into_iter().rev()));
    }
}
