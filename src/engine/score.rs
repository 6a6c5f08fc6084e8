//! The score: what is published for every accepted interaction.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::interaction::{Name, Timestamp};

/// One output record. Keys and meanings are the public contract; numbers are `f32`, printed in the shortest form that reads back to the same bits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    pub customer_id: Box<str>,
    pub interaction_id: Option<Box<str>>,
    pub occurred_at: Timestamp,
    pub scored_at: Timestamp,
    pub model: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub satisfaction: Option<Satisfaction>,
    /// One key per class task, and `<task>_unknown` where none of its labels fits.
    #[serde(flatten)]
    pub classes: BTreeMap<Name, ClassScore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<Churn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spend: Option<Spend>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<Segment>,
    /// Share of the training snapshots that are less unusual, 0–1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomaly: Option<f32>,
}

/// Nothing more by the customer within the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Churn {
    pub probability: f32,
    pub horizon_days: u32,
}

/// Expected purchases within the horizon, and their amount in the customer's own currency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spend {
    pub purchases: f32,
    pub amount: f32,
    pub horizon_days: u32,
}

/// A group of customers who behave alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Segment {
    pub id: u32,
    pub label: Name,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Satisfaction {
    /// Expected rating, 1–5.
    pub value: f32,
    /// Calibrated probabilities of a rating below, at and above 3.
    pub dissatisfied: f32,
    pub neutral: f32,
    pub satisfied: f32,
    /// The customer's own usual level, from earlier values.
    pub baseline: f32,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ClassScore {
    /// Top 5, most probable first.
    Top(Vec<ClassProbability>),
    Unknown(bool),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassProbability {
    pub label: Name,
    pub probability: f32,
}
