//! What a policy looks for in one interaction. Knows no state: whether it may speak is the machine's to decide.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Observation, PolicyConfig, Severity};

/// A drop is measured only against a baseline of at least this many values of the customer's own.
pub(super) const DROP_NEEDS_VALUES: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    SatisfactionLow,
    SatisfactionDrop,
    RatingLow,
}

impl AlertKind {
    pub const ALL: [AlertKind; 3] = [Self::SatisfactionLow, Self::SatisfactionDrop, Self::RatingLow];

    /// The public name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SatisfactionLow => "satisfaction_low",
            Self::SatisfactionDrop => "satisfaction_drop",
            Self::RatingLow => "rating_low",
        }
    }

    /// Whether each interaction shows if the condition still holds. A rating is an event: it says nothing until the next rating.
    pub(super) fn is_level(self) -> bool {
        self != Self::RatingLow
    }
}

/// Where a condition begins and where it ends; the gap between the two is the hysteresis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Band {
    pub raise: f32,
    pub resolve: f32,
}

/// A validated policy; [`PolicyConfig`] documents the numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub name: Box<str>,
    pub kind: AlertKind,
    pub severity: Severity,
    /// Points of the scale 1–5; for a drop, points below the baseline.
    pub(super) points: Option<Band>,
    /// Probability of dissatisfaction (`satisfaction_low` alone).
    pub(super) dissatisfied: Option<Band>,
    pub(super) critical: Option<f32>,
    pub(super) critical_dissatisfied: Option<f32>,
    pub(super) escalate_after: Option<u32>,
    /// Microseconds.
    pub(super) cooldown: i64,
    /// Microseconds (`rating_low` alone).
    pub(super) expire_after: Option<i64>,
    /// Names the policy in stored states: hash of name and kind.
    pub(super) key: u32,
}

impl Policy {
    /// Whether this interaction shows the condition.
    pub(super) fn fires(&self, seen: &Observation<'_>) -> bool {
        match self.kind {
            AlertKind::SatisfactionLow => {
                let low = self.points.zip(seen.satisfaction).is_some_and(|(band, value)| value <= band.raise);
                let likely = self.dissatisfied.zip(seen.dissatisfied).is_some_and(|(band, p)| p >= band.raise);
                low || likely
            }
            AlertKind::SatisfactionDrop => {
                let fell = self.points.zip(seen.drop()).is_some_and(|(band, drop)| drop >= band.raise);
                fell && seen.earlier_values >= DROP_NEEDS_VALUES
            }
            AlertKind::RatingLow => self.points.zip(seen.rating).is_some_and(|(band, rating)| rating <= band.raise),
        }
    }

    /// Whether the condition, where it shows, is of the worse level.
    pub(super) fn is_critical(&self, seen: &Observation<'_>) -> bool {
        let worse = self.critical.is_some_and(|critical| match self.kind {
            AlertKind::SatisfactionLow => seen.satisfaction.is_some_and(|value| value <= critical),
            AlertKind::SatisfactionDrop => seen.drop().is_some_and(|drop| drop >= critical),
            AlertKind::RatingLow => seen.rating.is_some_and(|rating| rating <= critical),
        });
        let surer = self.critical_dissatisfied.zip(seen.dissatisfied).is_some_and(|(critical, p)| p >= critical);
        self.severity == Severity::Critical || worse || surer
    }

    /// Whether this interaction shows that the condition is over. What it does not show is not over.
    pub(super) fn is_over(&self, seen: &Observation<'_>) -> bool {
        match self.kind {
            AlertKind::SatisfactionLow => {
                let high = self.points.is_none_or(|band| seen.satisfaction.is_some_and(|value| value > band.resolve));
                let unlikely = self.dissatisfied.is_none_or(|band| seen.dissatisfied.is_some_and(|p| p < band.resolve));
                high && unlikely
            }
            AlertKind::SatisfactionDrop => self.points.zip(seen.drop()).is_some_and(|(band, drop)| drop < band.resolve),
            AlertKind::RatingLow => self.points.zip(seen.rating).is_some_and(|(band, rating)| rating > band.resolve),
        }
    }

    /// The number that the policy looks at, else the nearest thing to it that this interaction has.
    pub(super) fn measure(&self, seen: &Observation<'_>) -> f32 {
        let own_first = if self.kind.is_level() { seen.satisfaction.or(seen.rating) } else { seen.rating.or(seen.satisfaction) };
        own_first.unwrap_or(seen.baseline)
    }
}

/// All policies of one configuration, in order of precedence.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies {
    pub all: Vec<Policy>,
}

impl Policies {
    /// The policies of a configuration without `[[alerts]]`: one of each kind, named for its kind, with every key at its default.
    pub fn standard() -> Self {
        Self { all: AlertKind::ALL.map(|kind| Policy::standard(kind.name(), kind)).into() }
    }

    /// The policies of `[[alerts]]`, in its order. An empty list means no alerts.
    ///
    /// # Errors
    /// A message that names the policy, the key, the value and what would be right.
    pub fn new(configs: Vec<PolicyConfig>) -> Result<Self, String> {
        const MOST: usize = 64;
        if configs.len() > MOST {
            return Err(format!("[[alerts]] has {} policies, at most {MOST} are possible", configs.len()));
        }
        let all = configs.iter().map(PolicyConfig::validate).collect::<Result<Vec<_>, _>>()?;
        for (i, policy) in all.iter().enumerate() {
            if all[..i].iter().any(|other| other.name == policy.name || other.key == policy.key) {
                return Err(format!("[[alerts]] name = {:?}: another policy has this name, choose a different one", policy.name));
            }
        }
        Ok(Self { all })
    }

    /// What can never happen with a model whose expected ratings lie from `lowest` up, in words.
    pub fn out_of_reach(&self, lowest: f32) -> Vec<String> {
        let low = self.all.iter().filter(|p| p.kind == AlertKind::SatisfactionLow && p.dissatisfied.is_none());
        low.filter_map(|p| Some((p, p.points.filter(|band| band.raise < lowest)?.raise)))
            .map(|(p, raise)| {
                let name = &p.name;
                format!("[[alerts]] {name:?}: raise = {raise} is below {lowest:.2}, the lowest rating this model says, so it never fires: set raise_dissatisfied")
            })
            .collect()
    }

    pub(super) fn by_key(&self, key: u32) -> Option<usize> {
        self.all.iter().position(|p| p.key == key)
    }
}

/// 16 bytes of SHA-256 over `parts`, each after its length, so that no two lists of parts run together to the same bytes.
pub(super) fn digest(parts: &[&str]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut out = [0; 16];
    out.copy_from_slice(&hash.finalize()[..16]);
    out
}
