//! Event time: microseconds since 1970-01-01T00:00:00Z.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// A moment, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub const MICROS_PER_SECOND: i64 = 1_000_000;
    pub const MICROS_PER_DAY: i64 = 86_400 * Self::MICROS_PER_SECOND;

    /// Reads RFC 3339; years outside 1970–2100 and anything else are an error that says what would be right.
    pub fn parse(s: &str) -> Result<Self, String> {
        let t = DateTime::parse_from_rfc3339(s)
            .map_err(|e| format!("{s:?} is no RFC 3339 time such as 2026-11-23T09:30:00Z ({e})"))?
            .with_timezone(&Utc);
        if !(0..4_133_980_800).contains(&t.timestamp()) {
            return Err(format!("{s:?} is outside the years 1970 to 2100"));
        }
        Ok(Self(t.timestamp_micros()))
    }

    /// The wall clock.
    pub fn now() -> Self {
        Self(Utc::now().timestamp_micros())
    }

    pub fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1000))
    }

    pub fn millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Seconds from `earlier` to `self`; 0 where `earlier` is later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        (self.0.saturating_sub(earlier.0)).max(0) as f64 / Self::MICROS_PER_SECOND as f64
    }

    pub fn days_since(self, earlier: Self) -> f64 {
        self.seconds_since(earlier) / 86_400.0
    }
}

/// RFC 3339 in UTC with as many fractional digits as needed (0, 3 or 6).
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(t) => f.write_str(&t.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "@{}us", self.0),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// A span of time as configurations write it: a whole number and one of `s`, `m`, `h`, `d`, at most 36,500 days. `None` for anything else.
pub fn parse_duration(s: &str) -> Option<Duration> {
    let unit = s.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u64 = s[..s.len() - 1].parse().ok()?;
    number.checked_mul(seconds).filter(|s| *s <= 36_500 * 86_400).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_duration("0s"), Some(Duration::ZERO));
        for bad in ["", "d", "7", "7w", "-1d", "1.5h", " 1d", "999999999999999999999d", "36501d", "7ｄ"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
