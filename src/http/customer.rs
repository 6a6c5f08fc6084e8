//! `GET /v1/customers/{id}`: the stored state of a customer, readable, with the scores of its window where the log still holds them; `DELETE` erases
//! the state.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::outputs::blocking;
use super::problem::Problem;
use super::server::App;
use crate::customer::{CustomerState, Item, words};
use crate::interaction::{Actor, Timestamp};
use crate::log::{Delivered, Gateway, LogError, Stream};

/// Scores are looked for backwards from the newest, this many records at a time and this often at most.
const LOOK_BACK: i64 = 4_000;
const LOOKS: usize = 10;

/// What the state keeps of names is their hashes; these are told back.
const KINDS: [&str; 11] =
    ["message", "email", "review", "call", "purchase", "return", "visit", "ticket_opened", "ticket_closed", "campaign", "survey"];
const CHANNELS: [&str; 14] =
    ["chat", "web", "email", "phone", "app", "store", "sms", "social", "whatsapp", "messenger", "voice", "mail", "forum", "online"];
static NAMES: LazyLock<HashMap<u32, &'static str>> =
    LazyLock::new(|| KINDS.into_iter().chain(CHANNELS).map(|name| (words::hash(name), name)).collect());

#[derive(Debug, Serialize)]
struct View {
    customer_id: String,
    /// Accepted so far, and of them the customer's own.
    interactions: u32,
    by_customer: u32,
    first_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
    purchases: u32,
    /// Mean of the customer's own ratings.
    mean_rating: Option<f32>,
    /// The customer's usual satisfaction, as of the newest score; `null` where the log no longer holds it.
    baseline: Option<f64>,
    /// Values that went into the baseline.
    earlier_values: u32,
    /// Oldest first.
    window: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    interaction_id: Box<str>,
    occurred_at: Timestamp,
    actor: &'static str,
    /// `null` for a word of the sender's own, of which the state keeps a hash alone; likewise `channel`.
    kind: Option<&'static str>,
    channel: Option<&'static str>,
    amount: Option<f32>,
    quantity: Option<f32>,
    rating: Option<f32>,
    /// Words of the whole text.
    words: u32,
    /// The kept words of the text; of the last few texts alone.
    text: Option<String>,
    /// As published; absent where the log no longer holds the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    satisfaction: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<Value>,
}

pub(super) async fn view(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<impl Serialize>, Problem> {
    blocking(move || {
        let stored = app.gateway.state(&id)?.ok_or_else(|| Problem::not_found(format!("no customer {id:?} is known to this process")))?;
        let state =
            CustomerState::decode(&stored).map_err(|e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("customer {id:?}: {e}")))?;
        // A backend that keeps no readable outputs has none to show; the state is worth showing without.
        let mut scores = scores_of(&*app.gateway, &id, state.window.len()).unwrap_or_default();
        let usual = state.window.iter().rev().find_map(|item| scores.get(&*item.id)?.pointer("/satisfaction/baseline")?.as_f64());
        let held = state.model.as_ref().map(|m| m.baseline).unwrap_or_default();
        let mut texts: HashMap<&str, String> = state.texts.iter().map(|t| (&*t.interaction_id, readable(&t.words))).collect();
        let window = state.window.iter().map(|item| entry(item, texts.remove(&*item.id), scores.remove(&*item.id))).collect();
        let any = state.now.interactions > 0;
        Ok(Json(View {
            customer_id: id,
            interactions: state.now.interactions,
            by_customer: state.now.customer_interactions,
            first_at: any.then_some(state.now.first),
            last_at: any.then_some(state.now.last),
            purchases: state.now.purchases,
            mean_rating: (state.now.ratings > 0).then(|| state.now.rating_sum / state.now.ratings as f32),
            baseline: usual,
            earlier_values: held.count,
            window,
        }))
    })
    .await
}

/// 204 once the state is gone, durably.
pub(super) async fn erase(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    if let Some(reason) = app.status.not_ready() {
        return Err(Problem::unavailable(format!("not ready: {reason}")));
    }
    blocking(move || match app.gateway.erase(&id)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found(format!("no customer {id:?} is known to this process"))),
    })
    .await
}

fn entry(item: &Item, text: Option<String>, score: Option<Value>) -> Entry {
    let number = |n: f32| (!n.is_nan()).then_some(n);
    let mut score = score.unwrap_or_default();
    let mut part = |name| score.get_mut(name).map(Value::take);
    Entry {
        interaction_id: item.id.clone(),
        occurred_at: item.occurred_at,
        actor: match item.actor {
            Actor::Customer => "customer",
            Actor::Agent => "agent",
            Actor::System => "system",
        },
        kind: NAMES.get(&item.kind).copied(),
        channel: NAMES.get(&item.channel).copied(),
        amount: number(item.amount),
        quantity: number(item.quantity),
        rating: number(item.rating),
        words: item.length,
        text,
        satisfaction: part("satisfaction"),
        intent: part("intent"),
    }
}

/// The newest scores of a customer by interaction id, at most `wanted`, as far back as is quick.
fn scores_of(gateway: &dyn Gateway, customer_id: &str, wanted: usize) -> Result<HashMap<String, Value>, LogError> {
    let mut found = HashMap::new();
    let mut until = gateway.end(Stream::Scores)?;
    for _ in 0..LOOKS {
        let from = (until - LOOK_BACK).max(0);
        let records = gateway.read(Stream::Scores, from, usize::try_from(until - from).unwrap_or(0))?;
        let of_customer = |r: &&Delivered| r.offset < until && r.key.as_deref() == Some(customer_id.as_bytes());
        for record in records.iter().rev().filter(of_customer) {
            let Ok(score) = serde_json::from_slice::<Value>(&record.value) else { continue };
            let Some(id) = score.get("interaction_id").and_then(Value::as_str).map(str::to_owned) else { continue };
            // The newest of an id stands: a replayed interaction may have been scored again long after.
            found.entry(id).or_insert(score);
        }
        until = from;
        if found.len() >= wanted || until == 0 {
            break;
        }
    }
    Ok(found)
}

/// Kept words are lower case and apart from each other; put together again as a person would write them.
fn readable(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    let mut open = true;
    for word in words.split(' ').filter(|w| !w.is_empty()) {
        let ideographic = |c: char| matches!(c, '\u{3000}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ff60}' | '\u{20000}'..='\u{3ffff}');
        let first = word.chars().next().unwrap_or(' ');
        let joins = matches!(first, '.' | ',' | '!' | '?' | ';' | ':' | ')' | ']' | '%' | '\'' | '’')
            || word == "n't"
            || word == "n’t"
            || (ideographic(first) && out.chars().next_back().is_some_and(ideographic));
        if !(open || joins) {
            out.push(' ');
        }
        out.push_str(word);
        open = matches!(word, "(" | "[" | "$" | "£" | "€" | "#");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_words_read_like_a_text() {
        for (kept, read) in [
            ("i do n't want it , it 's broken !", "i don't want it, it's broken!"),
            ("我 要 退 货 iphone 很 慢 ！", "我要退货 iphone 很慢！"),
            ("paid $ 20 ( late )", "paid $20 (late)"),
            ("", ""),
        ] {
            assert_eq!(readable(kept), read);
        }
    }
}
