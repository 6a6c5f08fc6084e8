//! One interaction of one customer: the input record of the whole system.
//!
//! Knows nothing of customers' states, models or logs.

mod decode;
pub mod file;
mod label;
mod language;
mod name;
mod raw;
mod time;

pub use decode::{DecodeOptions, Decoded, FIELDS, decode};
pub use label::{Label, LabelSet, LabelValue, RESERVED_TASKS, SATISFACTION, UNKNOWN_SUFFIX, aggregate};
pub use name::Name;
pub use time::{Timestamp, parse_duration};

use std::collections::BTreeMap;

use serde::Serialize;

/// Longest record that is read at all, in bytes; a longer one is [`RejectClass::TooLarge`].
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// Longest text that is kept, in bytes; a longer one is cut at a character boundary.
pub const MAX_TEXT_BYTES: usize = 16 << 10;

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Actor {
    Customer = 0,
    Agent = 1,
    System = 2,
}

/// A validated interaction. Absent optional fields are `None`; an empty optional string counts as absent.
/// Serialises to a record that [`decode`] reads back as the same interaction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Interaction {
    pub id: Box<str>,
    pub customer_id: Box<str>,
    pub occurred_at: Timestamp,
    pub kind: Box<str>,
    pub actor: Actor,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Box<str>>,
    /// The customer's own rating, 1–5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rating: Option<f64>,
    /// On a survey: the id of the interaction that `rating` rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<Box<str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<Box<str>, Attribute>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Attribute {
    Text(Box<str>),
    Number(f64),
    Bool(bool),
}

/// Why a record was not accepted. The names are part of the public contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectClass {
    MalformedJson,
    InvalidUtf8,
    NotAnObject,
    MissingField,
    InvalidField,
    TooLarge,
    KeyMismatch,
    Late,
    Future,
}

impl RejectClass {
    pub const ALL: [RejectClass; 9] = [
        Self::MalformedJson,
        Self::InvalidUtf8,
        Self::NotAnObject,
        Self::MissingField,
        Self::InvalidField,
        Self::TooLarge,
        Self::KeyMismatch,
        Self::Late,
        Self::Future,
    ];

    /// The public name, as in `rapport.error.class`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::NotAnObject => "not_an_object",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::TooLarge => "too_large",
            Self::KeyMismatch => "key_mismatch",
            Self::Late => "late",
            Self::Future => "future",
        }
    }
}

/// A record that was not accepted: its class, and a message that names the field, the value and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", class.name())]
pub struct Reject {
    pub class: RejectClass,
    pub message: String,
}

impl Reject {
    pub fn new(class: RejectClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }
}
