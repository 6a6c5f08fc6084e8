//! The score: what is published for every accepted interaction.

use serde::Serialize;

use crate::interaction::Timestamp;

/// One output record. Keys and meanings are the public contract; numbers are `f32`, printed in the shortest form that reads back to the same bits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    pub customer_id: Box<str>,
    pub interaction_id: Option<Box<str>>,
    pub occurred_at: Timestamp,
    pub scored_at: Timestamp,
    pub model: std::sync::Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub satisfaction: Option<Satisfaction>,
    /// Class tasks by name, `intent` among them: top 5 in falling order.
    #[serde(flatten)]
    pub classes: ClassTasks,
}

/// Serialised as one key per task.
pub type ClassTasks = std::collections::BTreeMap<std::sync::Arc<str>, Vec<ClassProbability>>;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Satisfaction {
    /// Expected rating, 1–5.
    pub value: f32,
    pub dissatisfied: f32,
    pub neutral: f32,
    pub satisfied: f32,
    /// The customer's usual level, from earlier values.
    pub baseline: f32,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassProbability {
    pub label: std::sync::Arc<str>,
    pub probability: f32,
}
