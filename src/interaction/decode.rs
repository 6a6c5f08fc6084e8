//! Bytes to [`Interaction`]: every check that the contract names, none that it does not.

use super::{Interaction, Reject, RejectClass, Timestamp};

/// What the record's surroundings say.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecodeOptions<'a> {
    /// `Some(key)` where records have keys: the key must equal `customer_id`, a null key (`Some(None)`) never does.
    pub key: Option<Option<&'a [u8]>>,
    /// When the log took the record; an interaction over 24 h later than this is `future`.
    pub logged_at: Option<Timestamp>,
}

/// An accepted interaction and what was tolerated in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub interaction: Interaction,
    /// Number of fields that the contract does not know.
    pub unknown_fields: usize,
    /// The text was over [`super::MAX_TEXT_BYTES`] and was cut.
    pub text_cut: bool,
}

/// Decodes and validates one record.
///
/// # Errors
/// A [`Reject`] of the class that the contract names.
pub fn decode(value: &[u8], options: DecodeOptions<'_>) -> Result<Decoded, Reject> {
    let _ = (value, options);
    Err(Reject::new(RejectClass::MalformedJson, "not written yet"))
}
