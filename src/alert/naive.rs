//! The rules of `docs/alerts.md` written a second time, as questions to the whole history of a customer, with no state at all. Slow and plain;
//! the state machine must say the same.

use proptest::prelude::*;

use super::machine::{Observation, Transition};
use super::{AlertKind, AlertState, AlertStates, Policies, Policy, PolicyConfig, Severity};
use crate::interaction::Timestamp;

const HOUR: i64 = 3_600_000_000;

/// What happened, in order of arrival: every observation with its transition.
type History<'a> = [(Observation<'a>, Option<Transition>)];

fn naive(policies: &Policies, past: &History<'_>, now: Observation<'_>) -> Option<Transition> {
    if now.satisfaction.is_none() && now.rating.is_none() {
        return None;
    }
    // Interactions that say nothing of satisfaction do not exist for alerts.
    let past: Vec<&(Observation<'_>, Option<Transition>)> =
        past.iter().filter(|(o, _)| o.satisfaction.is_some() || o.rating.is_some()).collect();
    let fires = |policy: &Policy, o: &Observation<'_>| -> bool {
        let band = policy.points;
        match policy.kind {
            AlertKind::SatisfactionLow => {
                matches!((band, o.satisfaction), (Some(b), Some(v)) if v <= b.raise)
                    || matches!((policy.dissatisfied, o.dissatisfied), (Some(b), Some(p)) if p >= b.raise)
            }
            AlertKind::SatisfactionDrop => {
                o.earlier_values >= 3 && matches!((band, o.satisfaction), (Some(b), Some(v)) if o.baseline - v >= b.raise)
            }
            AlertKind::RatingLow => matches!((band, o.rating), (Some(b), Some(r)) if r <= b.raise),
        }
    };
    let over = |policy: &Policy, o: &Observation<'_>| -> bool {
        match policy.kind {
            AlertKind::SatisfactionLow => {
                policy.points.is_none_or(|b| o.satisfaction.is_some_and(|v| v > b.resolve))
                    && policy.dissatisfied.is_none_or(|b| o.dissatisfied.is_some_and(|p| p < b.resolve))
            }
            AlertKind::SatisfactionDrop => o.satisfaction.is_some_and(|v| policy.points.is_some_and(|b| o.baseline - v < b.resolve)),
            AlertKind::RatingLow => o.rating.is_some_and(|r| policy.points.is_some_and(|b| r > b.resolve)),
        }
    };
    let critical = |policy: &Policy, o: &Observation<'_>| -> bool {
        policy.severity == Severity::Critical
            || policy.critical.is_some_and(|c| match policy.kind {
                AlertKind::SatisfactionLow => o.satisfaction.is_some_and(|v| v <= c),
                AlertKind::SatisfactionDrop => o.satisfaction.is_some_and(|v| o.baseline - v >= c),
                AlertKind::RatingLow => o.rating.is_some_and(|r| r <= c),
            })
            || policy.critical_dissatisfied.zip(o.dissatisfied).is_some_and(|(c, p)| p >= c)
    };
    let level = |policy: &Policy| policy.kind != AlertKind::RatingLow;

    // Raised at i, resolved at j: who took part?
    let raised_before = |end: usize| (0..end).rev().find(|i| past[*i].1.as_ref().is_some_and(|t| t.state == AlertState::Raised));
    let takes_part = |p: usize, from: usize, to: usize| {
        past[from].1.as_ref().is_some_and(|t| t.policy == p)
            || (level(&policies.all[p]) && past[from..to].iter().any(|(o, _)| fires(&policies.all[p], o)))
    };
    let cooling = |p: usize| {
        let ended = (0..past.len()).rev().find(|j| {
            past[*j].1.as_ref().is_some_and(|t| t.state == AlertState::Resolved) && raised_before(*j).is_some_and(|i| takes_part(p, i, *j))
        });
        ended.is_some_and(|j| {
            let since = |o: &Observation<'_>| (o.at.0 - past[j].0.at.0).max(0);
            past[j + 1..].iter().map(|(o, _)| o).chain([&now]).all(|o| since(o) < policies.all[p].cooldown)
        })
    };
    let firing: Vec<usize> = (0..policies.all.len()).filter(|p| fires(&policies.all[*p], &now)).collect();
    let mut also: Vec<AlertKind> = Vec::new();
    let mut note = |kind: AlertKind, own: AlertKind| {
        if kind != own && !also.contains(&kind) {
            also.push(kind);
        }
    };
    let own_number = |p: usize| match policies.all[p].kind {
        AlertKind::RatingLow => now.rating.or(now.satisfaction),
        _ => now.satisfaction.or(now.rating),
    };

    let raised = raised_before(past.len());
    let open = raised.filter(|i| past[*i..].iter().all(|(_, t)| t.as_ref().is_none_or(|t| t.state != AlertState::Resolved)));
    let Some(start) = open else {
        let able: Vec<usize> = firing.into_iter().filter(|p| !cooling(*p)).collect();
        let worst = able.iter().copied().find(|p| critical(&policies.all[*p], &now));
        let owner = worst.or(able.first().copied())?;
        let kind = policies.all[owner].kind;
        able.iter().for_each(|p| note(policies.all[*p].kind, kind));
        return Some(Transition {
            id: id(now.customer_id, &policies.all[owner].name, now.interaction_id),
            policy: owner,
            kind,
            severity: if worst.is_some() { Severity::Critical } else { Severity::Warning },
            state: AlertState::Raised,
            value: own_number(owner).expect("it fired"),
            baseline: now.baseline,
            also,
        });
    };

    let (first, opening) = past[start];
    let opening = opening.as_ref().expect("raised");
    let owner = &policies.all[opening.policy];
    let episode: Vec<&Observation<'_>> = past[start..].iter().map(|(o, _)| o).chain([&now]).collect();
    let owner_over = if level(owner) {
        over(owner, &now)
    } else {
        // The last rating of the episode that is either low or good decides.
        let last = episode.iter().rev().find(|o| fires(owner, o) || over(owner, o));
        let last = last.expect("the raising rating is low");
        !fires(owner, last) || owner.expire_after.is_some_and(|after| now.at.0 - last.at.0 >= after)
    };
    let others_over = (0..policies.all.len())
        .filter(|p| *p != opening.policy && level(&policies.all[*p]))
        .all(|p| over(&policies.all[p], &now) || !episode.iter().any(|o| fires(&policies.all[p], o)));
    let escalated = past[start..].iter().filter_map(|(_, t)| t.as_ref()).any(|t| t.severity == Severity::Critical);
    let transition = |state, severity, value, also| Transition {
        id: id(first.customer_id, &owner.name, first.interaction_id),
        policy: opening.policy,
        kind: owner.kind,
        severity,
        state,
        value,
        baseline: now.baseline,
        also,
    };
    if firing.is_empty() && owner_over && others_over {
        let severity = if escalated { Severity::Critical } else { Severity::Warning };
        return Some(transition(AlertState::Resolved, severity, own_number(opening.policy).expect("it counts"), Vec::new()));
    }
    let worst = firing.iter().copied().find(|p| critical(&policies.all[*p], &now));
    let long = owner.escalate_after.is_some_and(|n| episode.len() > n as usize);
    if escalated || (worst.is_none() && !long) {
        return None;
    }
    let earlier = &episode[..episode.len() - 1];
    for p in firing.into_iter().filter(|p| !cooling(*p)) {
        let policy = &policies.all[p];
        if !level(policy) || !earlier.iter().any(|o| fires(policy, o)) {
            note(policy.kind, owner.kind);
        }
    }
    let value = own_number(worst.unwrap_or(opening.policy)).expect("it counts");
    Some(transition(AlertState::Escalated, Severity::Critical, value, also))
}

fn id(customer: &str, policy: &str, interaction: &str) -> Box<str> {
    let hash = super::policy::digest(&[customer, policy, interaction]);
    format!("{:032x}", u128::from_be_bytes(hash)).into()
}

/// Configurations that are valid by construction, around the levels that the observations below use.
fn config() -> impl Strategy<Value = PolicyConfig> {
    let kind = prop_oneof![Just(AlertKind::SatisfactionLow), Just(AlertKind::SatisfactionDrop), Just(AlertKind::RatingLow)];
    (kind, any::<bool>(), 1u8..=3, prop::option::of(0u32..5), prop::sample::select(vec![0i64, 1, 5, 30]), any::<bool>(), 0u8..3).prop_map(
        |(kind, critical, step, escalate_after, cooldown, short, trigger)| {
            let low = kind == AlertKind::SatisfactionLow;
            let step = f64::from(step);
            PolicyConfig {
                name: String::new(),
                kind,
                severity: critical.then_some(Severity::Critical).filter(|_| step == 3.0),
                raise: match kind {
                    AlertKind::SatisfactionLow => (trigger != 0).then_some(1.5 + 0.5 * step),
                    AlertKind::SatisfactionDrop => Some(0.5 * step),
                    AlertKind::RatingLow => Some(step),
                },
                raise_dissatisfied: (low && trigger != 1).then_some(0.3 * step),
                resolve: None,
                resolve_dissatisfied: None,
                critical: None,
                critical_dissatisfied: None,
                escalate_after,
                cooldown: Some(format!("{cooldown}h")),
                expire_after: (kind == AlertKind::RatingLow).then(|| if short { "10h".into() } else { "0s".into() }),
            }
        },
    )
}

#[derive(Debug, Clone)]
struct Seen {
    hours: i64,
    satisfaction: Option<u8>,
    baseline: u8,
    earlier_values: u32,
    rating: Option<u8>,
}

fn seen() -> impl Strategy<Value = Seen> {
    let satisfaction = prop_oneof![1 => Just(None), 6 => (8u8..=40).prop_map(Some)];
    let rating = prop_oneof![5 => Just(None), 1 => (1u8..=5).prop_map(Some)];
    (-4i64..12, satisfaction, 25u8..35, 0u32..8, rating).prop_map(|(hours, satisfaction, baseline, earlier_values, rating)| Seen {
        hours,
        satisfaction,
        baseline,
        earlier_values,
        rating,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Also after every stored state was written and read back, and whatever the order of event times.
    #[test]
    fn the_machine_says_what_the_history_says(configs in prop::collection::vec(config(), 1..5), steps in prop::collection::vec(seen(), 1..60)) {
        let configs = configs.into_iter().enumerate().map(|(i, c)| PolicyConfig { name: format!("p{i}"), ..c }).collect();
        let policies = Policies::new(configs).map_err(TestCaseError::fail)?;
        let ids: Vec<String> = (0..steps.len()).map(|i| format!("i{i}")).collect();
        let mut states = AlertStates::default();
        let mut history = Vec::new();
        let mut at = 0;
        let mut published = std::collections::HashSet::new();
        for (step, interaction_id) in steps.iter().zip(&ids) {
            at += step.hours * HOUR;
            let satisfaction = step.satisfaction.map(|v| f32::from(v) / 10.0);
            let observation = Observation {
                customer_id: "c",
                interaction_id,
                at: Timestamp(at),
                satisfaction,
                dissatisfied: satisfaction.map(|v| ((4.0 - v) / 3.0).clamp(0.0, 1.0)),
                baseline: f32::from(step.baseline) / 10.0,
                earlier_values: step.earlier_values,
                rating: step.rating.map(f32::from),
            };
            let expected = naive(&policies, &history, observation);
            let mut bytes = Vec::new();
            states.encode(&mut bytes);
            states = AlertStates::decode(&mut &bytes[..]).expect("reads back");
            let got = policies.observe(&mut states, observation);
            prop_assert_eq!(&got, &expected, "at {}", interaction_id);
            if let Some(t) = &got {
                prop_assert!(published.insert((t.id.clone(), t.state)), "{:?} twice", t);
            }
            history.push((observation, got));
        }
    }
}
