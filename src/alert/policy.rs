//! Policies as configured and the state machine that each runs per customer.

use serde::{Deserialize, Serialize};

use super::{AlertState, Severity};
use crate::interaction::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    SatisfactionLow,
    SatisfactionDrop,
    RatingLow,
}

/// `[[alerts]]` of the configuration. Unknown keys are errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    pub name: String,
    pub kind: AlertKind,
}

/// A validated policy.
#[derive(Debug, Clone)]
pub struct Policy {
    pub name: Box<str>,
    pub kind: AlertKind,
}

/// All policies of one configuration, in order of precedence.
#[derive(Debug, Clone)]
pub struct Policies {
    pub all: Vec<Policy>,
}

/// What the engine saw at one interaction.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    pub customer_id: &'a str,
    pub interaction_id: &'a str,
    pub at: Timestamp,
    /// Expected rating 1–5; `None` where the model has no satisfaction head, or this interaction must not move satisfaction alerts.
    pub satisfaction: Option<f32>,
    /// Probability of a rating below 3; `None` with `satisfaction`.
    pub dissatisfied: Option<f32>,
    /// The customer's own usual level before this interaction.
    pub baseline: f32,
    /// How many values went into `baseline`, the pseudo-observations not counted.
    pub earlier_values: u32,
    /// The customer's own rating at this interaction, 1–5.
    pub rating: Option<f32>,
}

/// The part of a customer's state that policies own. Empty for a customer who never came near an alert.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AlertStates {}

/// What one observation did to one policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    pub id: Box<str>,
    /// Index into [`Policies::all`].
    pub policy: usize,
    pub kind: AlertKind,
    pub severity: Severity,
    pub state: AlertState,
    pub value: f32,
    pub baseline: f32,
    pub also: Vec<AlertKind>,
}

impl Policies {
    /// The policies of a configuration without `[[alerts]]`.
    pub fn standard() -> Self {
        Self { all: Vec::new() }
    }

    /// # Errors
    /// A message that names the policy, the key, the value and what would be right.
    pub fn new(configs: Vec<PolicyConfig>) -> Result<Self, String> {
        Ok(Self { all: configs.into_iter().map(|c| Policy { name: c.name.into(), kind: c.kind }).collect() })
    }

    /// Advances every policy by one interaction.
    pub fn observe(&self, states: &mut AlertStates, seen: Observation<'_>) -> Vec<Transition> {
        let _ = (states, seen);
        Vec::new()
    }
}

impl AlertStates {
    /// Appends the stored form (versioned by the customer state that it is part of).
    pub fn encode(&self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Reads what [`Self::encode`] wrote and advances `input` past it; `None` where the bytes are no such thing.
    pub fn decode(input: &mut &[u8]) -> Option<Self> {
        let _ = input;
        Some(Self::default())
    }
}
