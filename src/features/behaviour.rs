//! What a customer has done so far, seen from any later time → the numbers that churn, spend, segments and anomaly are read from.
//!
//! Needs no interaction at that time: silence alone changes them.

use crate::customer::{Counters, decay};
use crate::interaction::Timestamp;

/// Names of the behaviour features, in order. Part of a bundle's layout hash. Logs are natural, of 1 + x; times are in days.
pub const BEHAVIOUR: [&str; 32] = [
    "log_recency",
    "log_tenure",
    "log_visits",
    "log_span",
    "log_mean_pause",
    "log_sd_pause",
    "log_last_pause",
    "recency_of_tenure",
    "log_visits_per_year",
    "visited_twice",
    "visited_thrice",
    "recency_of_mean_pause",
    "log_purchases",
    "log_days_since_purchase",
    "log_amount",
    "log_mean_amount",
    "log_last_amount",
    "log_first_amount",
    "log_quantity",
    "log_returns",
    "recent_visits_30",
    "recent_visits_90",
    "recent_visits_365",
    "recent_amount_30",
    "recent_amount_90",
    "recent_amount_365",
    "log_customer_interactions",
    "log_interactions",
    "customer_share",
    "rated",
    "last_rating",
    "mean_rating",
];

/// The behaviour up to now of a customer with these counters, as of `at` (a time before the last interaction counts as that).
pub fn behaviour(c: &Counters, at: Timestamp) -> [f32; BEHAVIOUR.len()] {
    let at = at.max(c.last);
    let flag = |b: bool| b as u8 as f32;
    let log = |x: f64| x.max(0.0).ln_1p() as f32;
    let days = |since: Timestamp| at.days_since(since);
    let visited = c.visits > 0;
    let recency = if visited { days(c.last_by_customer) } else { 0.0 };
    let tenure = if visited { days(c.first_visit) } else { 0.0 };
    let span = if visited { c.last_visit.days_since(c.first_visit) } else { 0.0 };
    let pauses = f64::from(c.visits.saturating_sub(1));
    let mean_pause = if pauses > 0.0 { f64::from(c.visit_days) / pauses } else { 0.0 };
    let variance = if pauses > 1.0 { f64::from(c.visit_days_squared) / pauses - mean_pause * mean_pause } else { 0.0 };
    let bought = c.purchases > 0;
    let mut recent_visits = c.recent_visits;
    decay(&mut recent_visits, if visited { days(c.last_visit) as f32 } else { 0.0 });
    let mut recent_amount = c.recent_amount;
    decay(&mut recent_amount, if bought { days(c.last_purchase) as f32 } else { 0.0 });
    let rated = c.ratings > 0;
    [
        log(recency),
        log(tenure),
        log(f64::from(c.visits)),
        log(span),
        log(mean_pause),
        log(variance.max(0.0).sqrt()),
        log(f64::from(c.last_visit_days)),
        if tenure > 0.0 { (recency / tenure) as f32 } else { 0.0 },
        log(f64::from(c.visits) * 365.0 / (tenure + 10.0)),
        flag(c.visits > 1),
        flag(c.visits > 2),
        if mean_pause > 0.0 { log(recency) - log(mean_pause) } else { 0.0 },
        log(f64::from(c.purchases)),
        if bought { log(days(c.last_purchase)) } else { 0.0 },
        log(f64::from(c.amount)),
        if bought { log(f64::from(c.amount / c.purchases as f32)) } else { 0.0 },
        log(f64::from(c.last_amount)),
        log(f64::from(c.first_amount)),
        log(f64::from(c.quantity)),
        log(f64::from(c.returns)),
        log(f64::from(recent_visits[0])),
        log(f64::from(recent_visits[1])),
        log(f64::from(recent_visits[2])),
        log(f64::from(recent_amount[0])),
        log(f64::from(recent_amount[1])),
        log(f64::from(recent_amount[2])),
        log(f64::from(c.customer_interactions)),
        log(f64::from(c.interactions)),
        c.customer_interactions as f32 / c.interactions.max(1) as f32,
        flag(rated),
        if rated { (c.last_rating - 3.0) / 2.0 } else { 0.0 },
        if rated { (c.rating_sum / c.ratings as f32 - 3.0) / 2.0 } else { 0.0 },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::words::Splitter;
    use crate::customer::{CustomerState, Item};
    use crate::interaction::{DecodeOptions, decode};

    fn get(row: &[f32], name: &str) -> f32 {
        row[BEHAVIOUR.iter().position(|n| *n == name).expect("a feature")]
    }

    #[test]
    fn silence_changes_what_depends_on_time_and_nothing_else() {
        let mut state = CustomerState::default();
        for (i, (day, amount)) in [(1, 10.0), (1, 5.0), (11, 20.0)].into_iter().enumerate() {
            let line = format!(
                r#"{{"id":"{i}","customer_id":"c","occurred_at":"2024-01-{day:02}T10:0{i}:00Z","kind":"purchase","amount":{amount}}}"#
            );
            let interaction = decode(line.as_bytes(), DecodeOptions::default()).expect("valid").interaction;
            state.push(Item::new(&interaction, &Splitter::default()), None, 32);
        }
        let at = |t: &str| behaviour(&state.now, Timestamp::parse(t).expect("a time"));
        let (then, later) = (at("2024-01-11T10:02:00Z"), at("2024-03-11T10:02:00Z"));
        assert_eq!(get(&then, "log_recency"), 0.0);
        assert!((get(&later, "log_recency") - 61f32.ln()).abs() < 1e-5);
        // Two lines of one morning are one visit; the pause is that between visits.
        assert!((get(&then, "log_visits") - 3f32.ln()).abs() < 1e-6);
        assert!((get(&then, "log_mean_pause") - 11f32.ln()).abs() < 1e-3);
        assert!((get(&then, "log_amount") - 36f32.ln()).abs() < 1e-6);
        // After 60 days, two half-lives of 30.
        let amount = 20.0 + 15.0 * (-10f32 / 30.0).exp2();
        assert!((get(&later, "recent_amount_30") - (amount / 4.0).ln_1p()).abs() < 1e-3);
        for name in ["log_visits", "log_amount", "log_quantity", "log_mean_pause", "log_last_amount"] {
            assert_eq!(get(&then, name), get(&later, name), "{name}");
        }
        // A time that is past already is no time travel.
        assert_eq!(at("2023-01-01T00:00:00Z"), then);
    }

    #[test]
    fn an_empty_state_gives_finite_numbers() {
        assert!(behaviour(&Counters::default(), Timestamp(0)).iter().all(|x| x.is_finite()));
    }
}
