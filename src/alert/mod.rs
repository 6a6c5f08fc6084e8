//! Alert policies and their state machine: at most one open episode per customer, which any number of policies may belong to.
//!
//! Knows scores as plain numbers; no model, log or clock. `docs/alerts.md` tells the rules to users.

mod config;
mod machine;
#[cfg(test)]
mod naive;
mod policy;
mod states;
#[cfg(test)]
mod tests;

pub use config::PolicyConfig;
pub use machine::{Observation, Transition};
pub use policy::{AlertKind, Policies, Policy};
pub use states::AlertStates;

use serde::{Deserialize, Serialize};

use crate::interaction::{Name, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Warning,
    Critical,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    Raised,
    Escalated,
    Resolved,
}

/// One transition of one episode, as published. (`id`, `state`) is unique.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alert {
    /// 32 hex digits: hash of customer, policy and the interaction that raised the episode.
    pub id: Box<str>,
    pub customer_id: Box<str>,
    /// The interaction of this transition.
    pub interaction_id: Box<str>,
    pub policy: Box<str>,
    pub kind: AlertKind,
    pub severity: Severity,
    pub state: AlertState,
    /// Event time.
    pub at: Timestamp,
    /// The rating, own or expected (1–5), that decided this transition.
    pub value: f32,
    /// The customer's own usual level before this interaction.
    pub baseline: f32,
    pub reasons: Vec<Reason>,
    /// Other kinds that this interaction would have raised.
    pub also: Vec<AlertKind>,
    /// Most likely need, where the model has such a head.
    pub suggestion: Option<Name>,
}

/// An interaction that weighed on the value: how much lower the value is for its being there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reason {
    pub interaction_id: Box<str>,
    pub weight: f32,
    pub words: Vec<WordWeight>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WordWeight {
    pub word: Box<str>,
    pub weight: f32,
}
