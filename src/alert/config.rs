//! `[[alerts]]` of the configuration: its keys, their defaults, and what is wrong with a value. Knows TOML's types, not its syntax.

use serde::Deserialize;

use super::policy::{Band, digest};
use super::{AlertKind, Policy, Severity};
use crate::interaction::parse_duration;

/// One `[[alerts]]` table. Unknown keys are errors; a key that is left out has the default of its kind.
///
/// "Points" are on the scale of ratings, 1–5. For `satisfaction_drop` they count from the customer's own baseline downwards.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// 1–64 bytes, unique. Part of the alert ids.
    pub name: String,
    pub kind: AlertKind,
    /// Severity of a new episode that is not at the `critical` level (default `warning`).
    pub severity: Option<Severity>,
    /// Raises at or below this expected rating (2.5), at a drop of at least this many points (0.4), at or below this own rating (2).
    pub raise: Option<f64>,
    /// `satisfaction_low`: raises at or above this probability of dissatisfaction (0.75). Given without `raise`, or `raise` without it, only the
    /// given one raises.
    pub raise_dissatisfied: Option<f64>,
    /// Over above this expected rating (2.8), at a drop of less than this many points (0.16), above this own rating (same as `raise`).
    pub resolve: Option<f64>,
    /// `satisfaction_low`: and below this probability of dissatisfaction (0.5625).
    pub resolve_dissatisfied: Option<f64>,
    /// Critical at or below this expected rating (2.0), from this many points (0.8), at or below this own rating (1); 0 switches it off.
    pub critical: Option<f64>,
    /// `satisfaction_low`: critical at or above this probability of dissatisfaction (0.9); 0 switches it off.
    pub critical_dissatisfied: Option<f64>,
    /// Critical after this many more of the customer's interactions while open (`satisfaction_low` 6, else 0: never).
    pub escalate_after: Option<u32>,
    /// Event time after an episode during which the policy raises nothing (default `24h`).
    pub cooldown: Option<String>,
    /// `rating_low`: event time after the last low rating from which on the episode is over without a better one (`30d`; `0s`: never).
    pub expire_after: Option<String>,
}

const HOUR: i64 = 3_600_000_000;

impl Policy {
    /// Every key at its default.
    pub(super) fn standard(name: &str, kind: AlertKind) -> Self {
        let (points, dissatisfied, critical, escalate_after, expire_after) = match kind {
            AlertKind::SatisfactionLow => {
                (Band { raise: 2.5, resolve: 2.8 }, Some(Band { raise: 0.75, resolve: 0.5625 }), 2.0, Some(6), None)
            }
            AlertKind::SatisfactionDrop => (Band { raise: 0.4, resolve: 0.16 }, None, 0.8, None, None),
            AlertKind::RatingLow => (Band { raise: 2.0, resolve: 2.0 }, None, 1.0, None, Some(30 * 24 * HOUR)),
        };
        let hash = digest(&[name, kind.name()]);
        Self {
            name: name.into(),
            kind,
            severity: Severity::Warning,
            points: Some(points),
            dissatisfied,
            critical: Some(critical),
            critical_dissatisfied: dissatisfied.map(|_| 0.9),
            escalate_after,
            cooldown: 24 * HOUR,
            expire_after,
            key: u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]),
        }
    }
}

impl PolicyConfig {
    pub(super) fn validate(&self) -> Result<Policy, String> {
        if !(1..=64).contains(&self.name.len()) || self.name.chars().any(char::is_control) {
            return Err(format!("[[alerts]] name = {:?}: must have 1 to 64 bytes and no control characters", self.name));
        }
        let mut policy = Policy::standard(&self.name, self.kind);
        policy.severity = self.severity.unwrap_or(policy.severity);

        if self.kind != AlertKind::SatisfactionLow {
            self.refuse("raise_dissatisfied", &self.raise_dissatisfied)?;
            self.refuse("resolve_dissatisfied", &self.resolve_dissatisfied)?;
            self.refuse("critical_dissatisfied", &self.critical_dissatisfied)?;
        }
        if self.kind != AlertKind::RatingLow {
            self.refuse("expire_after", &self.expire_after)?;
        }
        if self.raise.is_some() && self.raise_dissatisfied.is_none() {
            self.refuse_without("resolve_dissatisfied", &self.resolve_dissatisfied, "raise_dissatisfied")?;
            self.refuse_without("critical_dissatisfied", &self.critical_dissatisfied, "raise_dissatisfied")?;
            policy.dissatisfied = None;
        }
        if self.raise_dissatisfied.is_some() && self.raise.is_none() {
            self.refuse_without("resolve", &self.resolve, "raise")?;
            policy.points = None;
        }
        if let Some(default) = policy.points {
            policy.points = Some(self.points(default)?);
        }
        if let Some(default) = policy.dissatisfied {
            policy.dissatisfied = Some(self.dissatisfied(default)?);
        }
        policy.critical = self.critical(&policy)?;
        policy.critical_dissatisfied = self.critical_dissatisfied(&policy)?;
        policy.escalate_after = self.escalate_after.or(policy.escalate_after).filter(|n| *n > 0);
        if let Some(text) = &self.cooldown {
            policy.cooldown = self.duration("cooldown", text)?;
        }
        if let Some(text) = &self.expire_after {
            policy.expire_after = Some(self.duration("expire_after", text)?).filter(|d| *d > 0);
        }
        Ok(policy)
    }

    fn points(&self, default: Band) -> Result<Band, String> {
        let drop = self.kind == AlertKind::SatisfactionDrop;
        let raise = self.raise.unwrap_or(f64::from(default.raise));
        match drop {
            true if !(0.0 < raise && raise <= 4.0) => return Err(self.wrong("raise", raise, "must be over 0 and at most 4 points")),
            false if !(1.0..=5.0).contains(&raise) => return Err(self.wrong("raise", raise, "must be a rating from 1 to 5")),
            _ => {}
        }
        // A `raise` alone moves the band: on a scale of ratings it keeps its width, from a baseline downwards its proportions.
        let (up, down) = (f64::from(default.resolve), f64::from(default.raise));
        let resolve = self.resolve.unwrap_or(if drop { raise * (up / down) } else { (raise + (up - down)).min(5.0) });
        let band = Band { raise: raise as f32, resolve: resolve as f32 };
        let (fits, right) = match self.kind {
            AlertKind::SatisfactionLow => (band.raise < band.resolve && band.resolve < 5.0, "must be over raise and below 5"),
            AlertKind::SatisfactionDrop => (0.0 < band.resolve && band.resolve < band.raise, "must be over 0 and below raise"),
            AlertKind::RatingLow => (band.raise <= band.resolve && band.resolve < 5.0, "must be at least raise and below 5"),
        };
        if !fits {
            return Err(self.wrong("resolve", resolve, &format!("{right} (raise = {raise})")));
        }
        Ok(band)
    }

    fn dissatisfied(&self, default: Band) -> Result<Band, String> {
        let raise = self.raise_dissatisfied.unwrap_or(f64::from(default.raise));
        if !(0.0 < raise && raise <= 1.0) {
            return Err(self.wrong("raise_dissatisfied", raise, "must be a probability over 0 and at most 1"));
        }
        let resolve = self.resolve_dissatisfied.unwrap_or(raise * f64::from(default.resolve / default.raise));
        let band = Band { raise: raise as f32, resolve: resolve as f32 };
        if !(0.0 < band.resolve && band.resolve < band.raise) {
            return Err(self.wrong("resolve_dissatisfied", resolve, &format!("must be over 0 and below raise_dissatisfied ({raise})")));
        }
        Ok(band)
    }

    /// A default that `raise` has passed by is left out; a given value must be at least as bad as `raise`.
    fn critical(&self, policy: &Policy) -> Result<Option<f32>, String> {
        let drop = self.kind == AlertKind::SatisfactionDrop;
        let fits = |x: f64| {
            let in_range = if drop { 0.0 < x && x <= 4.0 } else { (1.0..=5.0).contains(&x) };
            in_range && policy.points.is_none_or(|band| if drop { x as f32 >= band.raise } else { x as f32 <= band.raise })
        };
        match self.critical {
            None => Ok(policy.critical.filter(|x| fits(f64::from(*x)))),
            Some(0.0) => Ok(None),
            Some(x) if fits(x) => Ok(Some(x as f32)),
            Some(x) if drop => Err(self.wrong("critical", x, "must be at least raise and at most 4 points, or 0 for never")),
            Some(x) => Err(self.wrong("critical", x, "must be a rating from 1 to raise, or 0 for never")),
        }
    }

    /// As [`Self::critical`], of the probability.
    fn critical_dissatisfied(&self, policy: &Policy) -> Result<Option<f32>, String> {
        let fits = |x: f64| policy.dissatisfied.is_some_and(|band| x as f32 >= band.raise && x <= 1.0);
        match self.critical_dissatisfied {
            None => Ok(policy.critical_dissatisfied.filter(|x| fits(f64::from(*x)))),
            Some(0.0) => Ok(None),
            Some(x) if fits(x) => Ok(Some(x as f32)),
            Some(x) => Err(self.wrong("critical_dissatisfied", x, "must be a probability from raise_dissatisfied to 1, or 0 for never")),
        }
    }

    fn duration(&self, key: &str, text: &str) -> Result<i64, String> {
        let right = "must be a time such as \"90s\", \"15m\", \"12h\" or \"7d\"";
        let span = parse_duration(text).and_then(|d| i64::try_from(d.as_micros()).ok());
        span.ok_or_else(|| format!("[[alerts]] {:?}: {key} = {text:?}: {right}", self.name))
    }

    fn refuse<T>(&self, key: &str, value: &Option<T>) -> Result<(), String> {
        match value {
            None => Ok(()),
            Some(_) => Err(format!("[[alerts]] {:?}: {key} means nothing for kind {:?}: remove it", self.name, self.kind.name())),
        }
    }

    fn refuse_without(&self, key: &str, value: &Option<f64>, other: &str) -> Result<(), String> {
        match value {
            None => Ok(()),
            Some(x) => Err(self.wrong(key, *x, &format!("means nothing without {other}: remove it or add {other}"))),
        }
    }

    fn wrong(&self, key: &str, value: f64, right: &str) -> String {
        format!("[[alerts]] {:?}: {key} = {value}: {right}", self.name)
    }
}
