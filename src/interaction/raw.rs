//! The members of one JSON object as unparsed slices, so that each field is typed on its own and every error can name it.
//!
//! Knows JSON, not what the fields mean. Nothing here recurses: nesting of any depth is scanned with a loop.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{MAX_RECORD_BYTES, Reject, RejectClass};

/// Longest piece of a value that a message quotes, in bytes.
const QUOTED: usize = 48;

/// The fields of a record, found by name.
pub(super) struct RawObject<'a, const N: usize> {
    names: &'static [&'static str; N],
    values: [Option<&'a str>; N],
    /// Members whose name is none of `names`.
    pub unknown: usize,
}

impl<'a, const N: usize> RawObject<'a, N> {
    /// Reads one record: size, UTF-8, JSON, object, in this order. Of a repeated member the last one counts.
    pub fn parse(record: &'a [u8], names: &'static [&'static str; N]) -> Result<Self, Reject> {
        let malformed = |m: String| Reject::new(RejectClass::MalformedJson, m);
        if record.len() > MAX_RECORD_BYTES {
            let m = format!("the record is longer than {MAX_RECORD_BYTES} bytes");
            return Err(Reject::new(RejectClass::TooLarge, m));
        }
        let text = std::str::from_utf8(record)
            .map_err(|e| Reject::new(RejectClass::InvalidUtf8, format!("byte {} is no UTF-8", e.valid_up_to())))?;
        if text.starts_with('\u{feff}') {
            return Err(malformed("the record begins with a byte order mark, it must begin with {".into()));
        }
        let first = text.trim_ascii_start().bytes().next();
        let mut json = serde_json::Deserializer::from_str(text);
        let mut object = Self { names, values: [None; N], unknown: 0 };
        let parsed = match first {
            None => return Err(malformed("the record is empty, it must be a JSON object".into())),
            Some(b'{') => json.deserialize_map(&mut object),
            Some(_) => de::Deserialize::deserialize(&mut json).map(|IgnoredAny| ()),
        };
        parsed.and_then(|()| json.end()).map_err(|e| malformed(format!("the record is no JSON: {e}")))?;
        match first {
            Some(b'{') => Ok(object),
            _ => Err(Reject::new(
                RejectClass::NotAnObject,
                format!("the record is {}, it must be a JSON object", describe(text.trim_ascii())),
            )),
        }
    }

    /// The value of a field; `None` where it is absent or `null`.
    pub fn get(&self, field: usize) -> Option<&'a str> {
        self.values[field].filter(|v| *v != "null")
    }

    /// # Errors
    /// `missing_field` for the first of `fields` that is absent or `null`.
    pub fn require(&self, fields: &[usize]) -> Result<(), Reject> {
        match fields.iter().find(|f| self.get(**f).is_none()) {
            None => Ok(()),
            Some(f) => {
                let how = if self.values[*f].is_some() { "null" } else { "absent" };
                Err(Reject::new(RejectClass::MissingField, format!("{} is {how}, it is required", self.names[*f])))
            }
        }
    }

    /// An `invalid_field` that names the field, quotes its value and says what is `right`.
    pub fn invalid(&self, field: usize, right: &str) -> Reject {
        invalid(self.names[field], self.values[field].unwrap_or("null"), right)
    }

    /// A string; an empty one counts as absent.
    pub fn string(&self, field: usize) -> Result<Option<Cow<'a, str>>, Reject> {
        match self.get(field) {
            None => Ok(None),
            Some(raw) => match unquote(raw) {
                Some(s) => Ok(Some(s).filter(|s| !s.is_empty())),
                None => Err(self.invalid(field, "must be a string")),
            },
        }
    }

    /// A string of 1 to `max` bytes in a field that [`Self::require`] found.
    pub fn required_string(&self, field: usize, max: usize) -> Result<Cow<'a, str>, Reject> {
        match self.get(field).and_then(unquote) {
            Some(s) if (1..=max).contains(&s.len()) => Ok(s),
            Some(s) => Err(self.invalid(field, &format!("has {} bytes, must be a string of 1 to {max} bytes", s.len()))),
            None => Err(self.invalid(field, &format!("must be a string of 1 to {max} bytes"))),
        }
    }

    /// A finite number from `min` to `max`.
    pub fn number(&self, field: usize, min: f64, max: f64, right: &str) -> Result<Option<f64>, Reject> {
        match self.get(field) {
            None => Ok(None),
            Some(raw) => match number(raw) {
                // Adding 0 turns -0 into 0.
                Some(x) if (min..=max).contains(&x) => Ok(Some(x + 0.0)),
                _ => Err(self.invalid(field, right)),
            },
        }
    }
}

pub(super) fn invalid(name: &str, raw: &str, right: &str) -> Reject {
    Reject::new(RejectClass::InvalidField, format!("{name} is {}: {right}", describe(raw)))
}

/// The string that a scanned JSON value is; `None` where it is no string, or one that is no Unicode text (a lone surrogate).
pub(super) fn unquote(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    // The scan has checked escapes and control characters, so what has no backslash stands for itself.
    if inner.as_bytes().contains(&b'\\') { serde_json::from_str::<String>(raw).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// The finite number that a scanned JSON value is. JSON's numbers are a part of what Rust reads; `1e999` is not finite.
pub(super) fn number(raw: &str) -> Option<f64> {
    if !raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return None;
    }
    raw.parse().ok().filter(|x: &f64| x.is_finite())
}

/// What a scanned value is, for messages: its type and its beginning, on one line.
pub(super) fn describe(raw: &str) -> String {
    let kind = match raw.as_bytes().first() {
        Some(b'"') => "the string",
        Some(b'{') => "the object",
        Some(b'[') => "the array",
        Some(b't' | b'f') => "the boolean",
        Some(b'n') => return "null".into(),
        _ => "the number",
    };
    format!("{kind} {}", shorten(raw))
}

/// The first characters of `s`, control characters as spaces.
pub(super) fn shorten(s: &str) -> String {
    let short = &s[..s.floor_char_boundary(QUOTED)];
    let mut out: String = short.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < s.len() {
        out.push('…');
    }
    out
}

impl<'a, const N: usize> Visitor<'a> for &mut RawObject<'a, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        // Records of one producer have their members in one order: look first behind the member found last.
        let mut next = 0;
        // A name is scanned like any value, so one with a lone surrogate is a member that nobody knows, not an error.
        while let Some(name) = map.next_key::<&'a RawValue>()? {
            let found = unquote(name.get()).and_then(|name| (next..N).chain(0..next).find(|i| self.names[*i] == name));
            match found {
                Some(field) => {
                    self.values[field] = Some(map.next_value::<&'a RawValue>()?.get());
                    next = field + 1;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                    self.unknown += 1;
                }
            }
        }
        Ok(())
    }
}
