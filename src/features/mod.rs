//! An interaction and the state of its customer before it → the numbers that a sequence model reads.
//!
//! Knows no bundle: which columns a bundle adds (one-hots) and how it scales them is [`crate::model::Layout`].

mod behaviour;
mod future;
mod overlap;

pub use behaviour::{BEHAVIOUR, behaviour};
pub use future::{NEED_COLUMNS, Past, Visits, needs, past};
pub use overlap::Overlap;

use std::collections::VecDeque;

use crate::customer::{Counters, Item, words};
use crate::interaction::Actor;

/// Names of the numeric features of one step, in order. Part of a bundle's layout hash: a change makes every bundle of before unusable.
pub const NUMERIC: [&str; 32] = [
    "text",
    "log_words",
    "question",
    "exclamation",
    "digit",
    "log_turn",
    "log_customer_turn",
    "same_words_customer",
    "same_words_agent",
    "repetition",
    "repeated",
    "new_conversation",
    "log_hours_since_last",
    "log_days_since_customer",
    "log_interactions",
    "log_tenure_days",
    "amount_given",
    "log_amount",
    "log_quantity",
    "log_purchases",
    "log_returns",
    "log_days_since_purchase",
    "log_mean_gap_days",
    "log_total_amount",
    "rated_before",
    "last_rating",
    "mean_rating",
    "actor_customer",
    "actor_agent",
    "actor_system",
    "log_agent_words",
    "consecutive",
];

/// Computes the numeric features of `item`, given the `window` of interactions and the counters before it.
///
/// A rating is read only in steps after its own interaction. Logs are natural, of 1 + x.
pub fn numeric(window: &VecDeque<Item>, upto: usize, before: &Counters, item: &Item, overlap: &mut Overlap) -> [f32; NUMERIC.len()] {
    let flag = |b: bool| b as u8 as f32;
    let log = |x: f64| x.max(0.0).ln_1p() as f32;
    let earlier = || window.iter().take(upto).rev();
    let starts = before.starts_conversation(item);
    let (turn, customer_turn) = if starts { (0, 0) } else { (before.turns, before.customer_turns) };
    let seen = before.interactions > 0;
    let has_text = item.length > 0;

    let (mut with_customer, mut with_agent, mut repetition, mut agent_words) = (0.0, 0.0, 0.0f32, 0);
    let (mut customer_text, mut agent_text) = (false, false);
    if has_text {
        overlap.set(&item.tokens);
    }
    for old in earlier().filter(|o| o.length > 0) {
        match old.actor {
            Actor::Customer => {
                if has_text {
                    let jaccard = overlap.jaccard(old);
                    if !customer_text {
                        with_customer = jaccard;
                    }
                    repetition = repetition.max(jaccard);
                }
                customer_text = true;
            }
            Actor::Agent if !agent_text => {
                agent_text = true;
                agent_words = old.length;
                if has_text {
                    with_agent = overlap.jaccard(old);
                }
            }
            _ => {}
        }
    }
    let previous_actor = earlier().next().map(|o| o.actor);
    let purchases = before.purchases > 0;
    [
        flag(has_text),
        log(item.length as f64),
        flag(item.marks & words::QUESTION != 0),
        flag(item.marks & words::EXCLAMATION != 0),
        flag(item.marks & words::DIGIT != 0),
        log(turn as f64),
        log(customer_turn as f64),
        with_customer,
        with_agent,
        repetition,
        flag(repetition > 0.5),
        flag(starts),
        if seen { log(item.occurred_at.seconds_since(before.last) / 3600.0) } else { 0.0 },
        if before.customer_interactions > 0 { log(item.occurred_at.days_since(before.last_by_customer)) } else { 0.0 },
        log(before.interactions as f64),
        if seen { log(item.occurred_at.days_since(before.first)) } else { 0.0 },
        flag(!item.amount.is_nan()),
        if item.amount.is_nan() { 0.0 } else { log(item.amount as f64) },
        if item.quantity.is_nan() { 0.0 } else { log(item.quantity as f64) },
        log(before.purchases as f64),
        log(before.returns as f64),
        if purchases { log(item.occurred_at.days_since(before.last_purchase)) } else { 0.0 },
        if before.gaps > 0 { log((before.gap_days / before.gaps as f32) as f64) } else { 0.0 },
        log(before.amount as f64),
        flag(before.ratings > 0),
        if before.ratings > 0 { (before.last_rating - 3.0) / 2.0 } else { 0.0 },
        if before.ratings > 0 { (before.rating_sum / before.ratings as f32 - 3.0) / 2.0 } else { 0.0 },
        flag(item.actor == Actor::Customer),
        flag(item.actor == Actor::Agent),
        flag(item.actor == Actor::System),
        log(agent_words as f64),
        flag(previous_actor == Some(item.actor)),
    ]
}
