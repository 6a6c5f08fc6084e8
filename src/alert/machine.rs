//! The state machine: an interaction's observation and a customer's alert states in, at most one transition out.
//!
//! A customer has at most one open episode. The policy that raised it owns it; every other policy whose condition shows while it is open joins it
//! silently, so that one drop is one alert. It ends when the conditions of the owner and of all that joined are over at one and the same
//! interaction; then all of them cool down. Time is event time, and time that runs backwards counts as none.

use super::policy::digest;
use super::states::{Cooling, Episode};
use super::{AlertKind, AlertState, AlertStates, Policies, Severity};
use crate::interaction::Timestamp;

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

impl Observation<'_> {
    /// Points below the baseline.
    pub(super) fn drop(&self) -> Option<f32> {
        self.satisfaction.map(|value| self.baseline - value)
    }

    /// Whether it can move an alert at all.
    pub(super) fn counts(&self) -> bool {
        self.satisfaction.is_some() || self.rating.is_some()
    }
}

/// What one observation did to the customer's episode.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// 32 hex digits: hash of customer, policy and the interaction that raised the episode.
    pub id: Box<str>,
    /// Index into [`Policies::all`] of the policy that raised the episode.
    pub policy: usize,
    pub kind: AlertKind,
    pub severity: Severity,
    pub state: AlertState,
    /// The rating, own or expected, that decided.
    pub value: f32,
    pub baseline: f32,
    /// Other kinds that this interaction would have raised, had it been theirs to raise.
    pub also: Vec<AlertKind>,
}

impl Policies {
    /// Advances a customer's alerts by one interaction. Call it once per interaction, in order of arrival, and never to rebuild a state:
    /// a state that was rebuilt keeps its alerts. At most one transition results.
    pub fn observe(&self, states: &mut AlertStates, seen: Observation<'_>) -> Option<Transition> {
        if !seen.counts() {
            return None;
        }
        self.forget(states, seen.at);
        let firing: Vec<usize> = (0..self.all.len()).filter(|p| self.all[*p].fires(&seen)).collect();
        match states.open.take() {
            None if firing.is_empty() => None,
            None => self.raise(states, &seen, &firing),
            Some(episode) => self.advance(states, episode, &seen, &firing),
        }
    }

    /// Drops cooldowns that have passed, and everything of policies that are configured no more.
    fn forget(&self, states: &mut AlertStates, now: Timestamp) {
        states.cooling.retain(|c| self.by_key(c.policy).is_some_and(|p| now.0.saturating_sub(c.since.0).max(0) < self.all[p].cooldown));
        states.open = states.open.take().filter(|e| self.by_key(e.owner).is_some());
        if let Some(e) = &mut states.open {
            e.joined.retain(|key| self.by_key(*key).is_some());
        }
    }

    fn raise(&self, states: &mut AlertStates, seen: &Observation<'_>, firing: &[usize]) -> Option<Transition> {
        let able = self.able(states, firing);
        // Critical first, then the order of the policies: `min_by_key` keeps the first of equals.
        let owner = able.iter().copied().min_by_key(|p| !self.all[*p].is_critical(seen))?;
        let policy = &self.all[owner];
        let mut episode = Episode {
            id: digest(&[seen.customer_id, &policy.name, seen.interaction_id]),
            critical: policy.is_critical(seen),
            interactions: 0,
            low_rating_at: (!policy.kind.is_level()).then_some(seen.at),
            owner: policy.key,
            joined: Vec::new(),
        };
        self.join(&mut episode, firing);
        let transition = self.transition(&episode, owner, owner, AlertState::Raised, seen, &able);
        states.open = Some(episode);
        Some(transition)
    }

    fn advance(&self, states: &mut AlertStates, mut episode: Episode, seen: &Observation<'_>, firing: &[usize]) -> Option<Transition> {
        let owner = self.by_key(episode.owner)?;
        let policy = &self.all[owner];
        episode.interactions = episode.interactions.saturating_add(1);
        if !policy.kind.is_level() {
            if policy.fires(seen) {
                episode.low_rating_at = Some(seen.at);
            } else if policy.is_over(seen) {
                episode.low_rating_at = None;
            }
        }
        if firing.is_empty() && self.is_over(&episode, owner, seen) {
            for key in std::iter::once(episode.owner).chain(episode.joined.iter().copied()) {
                states.cooling.retain(|c| c.policy != key);
                states.cooling.push(Cooling { policy: key, since: seen.at });
            }
            return Some(self.transition(&episode, owner, owner, AlertState::Resolved, seen, &[]));
        }
        let new: Vec<usize> = firing.iter().copied().filter(|p| !episode.joined.contains(&self.all[*p].key)).collect();
        self.join(&mut episode, firing);
        let worst = firing.iter().copied().find(|p| self.all[*p].is_critical(seen));
        let long = policy.escalate_after.is_some_and(|n| episode.interactions >= n);
        let escalates = !episode.critical && (worst.is_some() || long);
        episode.critical |= escalates;
        let transition = escalates.then(|| {
            let also = self.able(states, &new);
            self.transition(&episode, owner, worst.unwrap_or(owner), AlertState::Escalated, seen, &also)
        });
        states.open = Some(episode);
        transition
    }

    /// Those of `firing` that are not cooling down.
    fn able(&self, states: &AlertStates, firing: &[usize]) -> Vec<usize> {
        firing.iter().copied().filter(|p| states.cooling.iter().all(|c| c.policy != self.all[*p].key)).collect()
    }

    /// A level that shows joins, cooling down or not, and is waited for. A rating is an event: there is nothing to wait for.
    fn join(&self, episode: &mut Episode, firing: &[usize]) {
        for policy in firing.iter().map(|p| &self.all[*p]).filter(|p| p.kind.is_level()) {
            if policy.key != episode.owner && !episode.joined.contains(&policy.key) {
                episode.joined.push(policy.key);
            }
        }
    }

    fn is_over(&self, episode: &Episode, owner: usize, seen: &Observation<'_>) -> bool {
        let policy = &self.all[owner];
        let owner_over = if policy.kind.is_level() {
            policy.is_over(seen)
        } else {
            let expired = |t: Timestamp| policy.expire_after.is_some_and(|after| seen.at.0.saturating_sub(t.0) >= after);
            episode.low_rating_at.is_none_or(expired)
        };
        owner_over && episode.joined.iter().filter_map(|key| self.by_key(*key)).all(|p| self.all[p].is_over(seen))
    }

    fn transition(
        &self,
        episode: &Episode,
        owner: usize,
        decided: usize,
        state: AlertState,
        seen: &Observation<'_>,
        would_raise: &[usize],
    ) -> Transition {
        let kind = self.all[owner].kind;
        let mut also: Vec<AlertKind> = Vec::new();
        for other in would_raise.iter().map(|p| self.all[*p].kind).filter(|k| *k != kind) {
            if !also.contains(&other) {
                also.push(other);
            }
        }
        Transition {
            id: episode.id.iter().map(|b| format!("{b:02x}")).collect::<String>().into(),
            policy: owner,
            kind,
            severity: if episode.critical { Severity::Critical } else { Severity::Warning },
            state,
            value: self.all[decided].measure(seen),
            baseline: seen.baseline,
            also,
        }
    }
}
