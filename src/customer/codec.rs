//! The stored form of [`CustomerState`]: compact, versioned, little-endian; variable-length integers as in LEB128.
//!
//! Layout: format byte, fields in the order of the struct, an xxh3 check of 4 bytes at the end. Names and numbers that are absent cost a bit each.

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64;

use super::{Baseline, Counters, CustomerState, Item, ModelState, RecentText, distinct};
use crate::alert::AlertStates;
use crate::interaction::{Actor, Timestamp};

/// Version of the stored form (and of the word splitter and hash that it depends on).
pub const FORMAT: u8 = 2;

/// Bytes that are no stored state of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorruptState {
    #[error("the stored state has format {0}, this version reads format {FORMAT}: run the version that wrote it, or erase the customer")]
    Format(u8),
    #[error("the stored state is damaged (its check does not match): erase the customer or restore the state topic")]
    Damaged,
}

impl CustomerState {
    /// Appends the stored form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(FORMAT);
        put_time(out, self.newest);
        put_len(out, self.seen.len());
        for id in &self.seen {
            out.extend_from_slice(&id.to_le_bytes());
        }
        put_len(out, self.window.len());
        let mut last = self.newest;
        for item in &self.window {
            put_item(out, item, last);
            last = item.occurred_at;
        }
        put_counters(out, &self.before);
        put_counters(out, &self.now);
        put_len(out, self.texts.len());
        for text in &self.texts {
            put_str(out, &text.interaction_id);
            put_str(out, &text.words);
        }
        self.alerts.encode(out);
        out.push(self.model.is_some() as u8);
        if let Some(m) = &self.model {
            out.extend_from_slice(&m.version.to_le_bytes());
            put_len(out, m.vector.len());
            for x in &m.vector {
                put_f32(out, *x);
            }
            put_f32(out, m.baseline.sum);
            put_f32(out, m.baseline.weight);
            put_int(out, m.baseline.count as u64);
        }
        let check = xxh3_64(&out[start..]) as u32;
        out.extend_from_slice(&check.to_le_bytes());
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`CorruptState`] where the bytes are anything else; never a panic.
    pub fn decode(bytes: &[u8]) -> Result<Self, CorruptState> {
        let (&format, _) = bytes.split_first().ok_or(CorruptState::Damaged)?;
        if format != FORMAT {
            return Err(CorruptState::Format(format));
        }
        let (body, check) = bytes.split_last_chunk::<4>().ok_or(CorruptState::Damaged)?;
        if (xxh3_64(body) as u32).to_le_bytes() != *check {
            return Err(CorruptState::Damaged);
        }
        let mut input = body.get(1..).ok_or(CorruptState::Damaged)?;
        let state = read(&mut input).ok_or(CorruptState::Damaged)?;
        if input.is_empty() { Ok(state) } else { Err(CorruptState::Damaged) }
    }
}

fn read(input: &mut &[u8]) -> Option<CustomerState> {
    let newest = get_time(input)?;
    let seen = get_list(input, |i| Some(u64::from_le_bytes(take(i)?)))?;
    let mut last = newest;
    let window = get_list(input, |i| {
        let item = get_item(i, last)?;
        last = item.occurred_at;
        Some(item)
    })?;
    let before = get_counters(input)?;
    let now = get_counters(input)?;
    let texts = get_list(input, |i| Some(RecentText { interaction_id: get_str(i)?, words: get_str(i)? }))?;
    let alerts = AlertStates::decode(input)?;
    let model = match take::<1>(input)?[0] {
        0 => None,
        1 => Some(ModelState {
            version: u64::from_le_bytes(take(input)?),
            vector: Vec::from(get_list(input, get_f32)?).into(),
            baseline: Baseline { sum: get_f32(input)?, weight: get_f32(input)?, count: get_int(input)?.try_into().ok()? },
        }),
        _ => return None,
    };
    Some(CustomerState { newest, seen, window, before, now, texts, alerts, model })
}

// One bit per optional part of an item.
const CHANNEL: u64 = 1;
const LANGUAGE: u64 = 2;
const CATEGORY: u64 = 4;
const ITEM: u64 = 8;
const CONVERSATION: u64 = 16;
const AMOUNT: u64 = 32;
const QUANTITY: u64 = 64;
const RATING: u64 = 128;
const TEXT: u64 = 256;

fn put_item(out: &mut Vec<u8>, item: &Item, last: Timestamp) {
    let names = [item.channel, item.language, item.category, item.item, item.conversation];
    let numbers = [item.amount, item.quantity, item.rating];
    let mut parts = 0;
    for (i, name) in names.iter().enumerate() {
        parts |= ((*name != 0) as u64) << i;
    }
    for (i, number) in numbers.iter().enumerate() {
        parts |= (!number.is_nan() as u64) << (i + 5);
    }
    if item.length > 0 {
        parts |= TEXT;
    }
    put_int(out, parts);
    out.push(item.actor as u8);
    put_str(out, &item.id);
    put_int(out, zigzag(item.occurred_at.0 - last.0));
    out.extend_from_slice(&item.kind.to_le_bytes());
    for name in names.into_iter().filter(|n| *n != 0) {
        out.extend_from_slice(&name.to_le_bytes());
    }
    for number in numbers.into_iter().filter(|n| !n.is_nan()) {
        put_f32(out, number);
    }
    if item.length > 0 {
        put_int(out, item.length as u64);
        out.push(item.marks);
        put_len(out, item.tokens.len());
        for token in &item.tokens {
            out.extend_from_slice(&token.to_le_bytes());
        }
    }
}

fn get_item(input: &mut &[u8], last: Timestamp) -> Option<Item> {
    let parts = get_int(input)?;
    let actor = match take::<1>(input)?[0] {
        0 => Actor::Customer,
        1 => Actor::Agent,
        2 => Actor::System,
        _ => return None,
    };
    let id = get_str(input)?;
    let occurred_at = Timestamp(last.0.checked_add(unzigzag(get_int(input)?))?);
    let word = |input: &mut &[u8]| Some(u32::from_le_bytes(take(input)?));
    let kind = word(input)?;
    let mut name = |bit| if parts & bit != 0 { word(input) } else { Some(0) };
    let (channel, language, category, item, conversation) =
        (name(CHANNEL)?, name(LANGUAGE)?, name(CATEGORY)?, name(ITEM)?, name(CONVERSATION)?);
    let mut number = |bit| if parts & bit != 0 { get_f32(input) } else { Some(f32::NAN) };
    let (amount, quantity, rating) = (number(AMOUNT)?, number(QUANTITY)?, number(RATING)?);
    let (mut length, mut marks, mut tokens) = (0, 0, Box::default());
    if parts & TEXT != 0 {
        length = get_int(input)?.try_into().ok()?;
        marks = take::<1>(input)?[0];
        tokens = Vec::from(get_list(input, word)?).into_boxed_slice();
    }
    let distinct = distinct(&tokens);
    Some(Item {
        id,
        occurred_at,
        actor,
        kind,
        channel,
        language,
        category,
        item,
        conversation,
        amount,
        quantity,
        rating,
        tokens,
        length,
        distinct,
        marks,
    })
}

fn put_counters(out: &mut Vec<u8>, c: &Counters) {
    for time in [c.first, c.last, c.last_by_customer, c.first_purchase, c.last_purchase] {
        put_time(out, time);
    }
    for n in [c.interactions, c.customer_interactions, c.turns, c.customer_turns, c.purchases, c.returns, c.gaps, c.ratings] {
        put_int(out, n as u64);
    }
    out.extend_from_slice(&c.conversation.to_le_bytes());
    if c.purchases > 0 {
        for x in [c.gap_days, c.gap_days_squared, c.last_gap_days, c.amount, c.quantity, c.first_amount, c.last_amount] {
            put_f32(out, x);
        }
    }
    if c.ratings > 0 {
        put_f32(out, c.rating_sum);
        put_f32(out, c.last_rating);
    }
    put_int(out, c.visits as u64);
    if c.visits > 0 {
        put_time(out, c.first_visit);
        put_time(out, c.last_visit);
        put_f32s(out, &[c.visit_days, c.visit_days_squared, c.last_visit_days]);
        put_f32s(out, &c.recent_visits);
    }
    if c.purchases > 0 {
        put_f32s(out, &c.recent_amount);
    }
}

fn get_counters(input: &mut &[u8]) -> Option<Counters> {
    let mut c = Counters::default();
    for time in [&mut c.first, &mut c.last, &mut c.last_by_customer, &mut c.first_purchase, &mut c.last_purchase] {
        *time = get_time(input)?;
    }
    for n in [
        &mut c.interactions,
        &mut c.customer_interactions,
        &mut c.turns,
        &mut c.customer_turns,
        &mut c.purchases,
        &mut c.returns,
        &mut c.gaps,
        &mut c.ratings,
    ] {
        *n = get_int(input)?.try_into().ok()?;
    }
    c.conversation = u32::from_le_bytes(take(input)?);
    if c.purchases > 0 {
        for x in [
            &mut c.gap_days,
            &mut c.gap_days_squared,
            &mut c.last_gap_days,
            &mut c.amount,
            &mut c.quantity,
            &mut c.first_amount,
            &mut c.last_amount,
        ] {
            *x = get_f32(input)?;
        }
    }
    if c.ratings > 0 {
        c.rating_sum = get_f32(input)?;
        c.last_rating = get_f32(input)?;
    }
    c.visits = get_int(input)?.try_into().ok()?;
    if c.visits > 0 {
        c.first_visit = get_time(input)?;
        c.last_visit = get_time(input)?;
        for x in [&mut c.visit_days, &mut c.visit_days_squared, &mut c.last_visit_days].into_iter().chain(&mut c.recent_visits) {
            *x = get_f32(input)?;
        }
    }
    if c.purchases > 0 {
        for x in &mut c.recent_amount {
            *x = get_f32(input)?;
        }
    }
    Some(c)
}

fn put_int(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn get_int(input: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take::<1>(input)?;
        n |= ((byte & 0x7f) as u64) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    put_int(out, zigzag(time.0));
}

fn get_time(input: &mut &[u8]) -> Option<Timestamp> {
    Some(Timestamp(unzigzag(get_int(input)?)))
}

fn put_len(out: &mut Vec<u8>, n: usize) {
    put_int(out, n as u64);
}

fn put_f32(out: &mut Vec<u8>, x: f32) {
    out.extend_from_slice(&x.to_le_bytes());
}

fn put_f32s(out: &mut Vec<u8>, numbers: &[f32]) {
    numbers.iter().for_each(|x| put_f32(out, *x));
}

fn get_f32(input: &mut &[u8]) -> Option<f32> {
    Some(f32::from_le_bytes(take(input)?))
}

fn put_str(out: &mut Vec<u8>, s: &str) {
    put_len(out, s.len());
    out.extend_from_slice(s.as_bytes());
}

fn get_str(input: &mut &[u8]) -> Option<Box<str>> {
    let n: usize = get_int(input)?.try_into().ok()?;
    let (head, tail) = input.split_at_checked(n)?;
    *input = tail;
    std::str::from_utf8(head).ok().map(Box::from)
}

fn get_list<T>(input: &mut &[u8], mut one: impl FnMut(&mut &[u8]) -> Option<T>) -> Option<VecDeque<T>> {
    let n: usize = get_int(input)?.try_into().ok()?;
    // Every element takes at least a byte: a damaged length cannot ask for more memory than that.
    if n > input.len() {
        return None;
    }
    (0..n).map(|_| one(input)).collect()
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = input.split_first_chunk::<N>()?;
    *input = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn actor() -> impl Strategy<Value = Actor> {
        prop_oneof![Just(Actor::Customer), Just(Actor::Agent), Just(Actor::System)]
    }

    fn maybe(number: impl Strategy<Value = f32>) -> impl Strategy<Value = f32> {
        proptest::option::of(number).prop_map(|n| n.unwrap_or(f32::NAN))
    }

    prop_compose! {
        fn item()(
            id in "[a-z0-9é]{1,20}", time in 0i64..4_000_000_000_000_000, actor in actor(), names in any::<[u32; 6]>(), absent in any::<u8>(),
            numbers in (maybe(0.0f32..1e6), maybe(0.0f32..99.0), maybe(1.0f32..5.0)), tokens in proptest::collection::vec(1u32.., 0..130), more in 0u32..1000, marks in 0u8..8,
        ) -> Item {
            let name = |i: usize| if absent & (1 << i) != 0 { 0 } else { names[i] };
            let tokens: Box<[u32]> = tokens.into();
            Item {
                id: id.into(), occurred_at: Timestamp(time), actor, kind: names[5].max(1),
                channel: name(0), language: name(1), category: name(2), item: name(3), conversation: name(4),
                amount: numbers.0, quantity: numbers.1, rating: numbers.2,
                length: if tokens.is_empty() { 0 } else { tokens.len() as u32 + more },
                marks: if tokens.is_empty() { 0 } else { marks },
                distinct: distinct(&tokens), tokens,
            }
        }
    }

    prop_compose! {
        fn state()(
            items in proptest::collection::vec((item(), proptest::option::of("[a-z]{1,9}( [a-z]{1,9}){0,5}")), 0..50),
            ids in proptest::collection::vec(any::<u64>(), 0..70), vector in proptest::collection::vec(-1.0f32..1.0, 0..40), has_model in any::<bool>(),
        ) -> CustomerState {
            let mut state = CustomerState::default();
            ids.into_iter().for_each(|id| state.saw(id, 64));
            for (item, words) in items {
                state.newest = state.newest.max(item.occurred_at);
                state.push(item, words.map(Box::from), 32);
            }
            let mut baseline = Baseline::default();
            vector.iter().for_each(|x| baseline.add(3.0 + x));
            state.model = has_model.then(|| ModelState { version: 7, vector: vector.into(), baseline });
            state
        }
    }

    proptest! {
        #[test]
        fn round_trip(state in state()) {
            let mut bytes = Vec::new();
            state.encode(&mut bytes);
            prop_assert_eq!(CustomerState::decode(&bytes), Ok(state));
        }

        #[test]
        fn damage_is_told_and_never_panics(state in state(), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            state.encode(&mut bytes);
            prop_assert!(CustomerState::decode(&bytes[..cut.index(bytes.len())]).is_err());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(CustomerState::decode(&bytes).is_err());
        }

        /// Even where the check happens to match, arbitrary bytes are an error or a state, not a crash.
        #[test]
        fn arbitrary_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            bytes.insert(0, FORMAT);
            let check = xxh3_64(&bytes) as u32;
            bytes.extend_from_slice(&check.to_le_bytes());
            let _ = CustomerState::decode(&bytes);
        }
    }

    /// A full window of 32 interactions with texts of 15 words, 16-byte ids, a full id memory and the champion's vector sizes.
    fn full() -> CustomerState {
        let mut state = CustomerState::default();
        for n in 0..100u64 {
            let id = format!("interaction-{n:04}");
            let tokens: Box<[u32]> = (0..15).map(|i| (n as u32 * 31 + i).wrapping_mul(2_654_435_761) | 1).collect();
            let item = Item {
                id: id.into(),
                occurred_at: Timestamp(1_700_000_000_000_000 + n as i64 * 37_000_001),
                actor: if n % 2 == 0 { Actor::Customer } else { Actor::Agent },
                kind: 0x1234_5678,
                channel: 0x9abc_def0,
                language: 77,
                category: 0,
                item: 0,
                conversation: 0x0bad_cafe,
                amount: f32::NAN,
                quantity: f32::NAN,
                rating: if n % 10 == 0 { 4.0 } else { f32::NAN },
                distinct: distinct(&tokens),
                tokens,
                length: 15,
                marks: 1,
            };
            state.newest = item.occurred_at;
            state.saw(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), 64);
            let words = (n % 2 == 0).then(|| vec!["refunds"; 15].join(" ").into());
            state.push(item, words, 32);
        }
        let mut baseline = Baseline::default();
        (0..20).for_each(|i| baseline.add(3.0 + i as f32 / 40.0));
        state.model = Some(ModelState { version: 42, vector: (0..384).map(|i| i as f32 / 384.0).collect(), baseline });
        state
    }

    #[test]
    fn a_full_window_takes_at_most_8_kib() {
        let mut bytes = Vec::new();
        full().encode(&mut bytes);
        assert!(bytes.len() <= 8192, "{} bytes", bytes.len());
    }

    /// The stored form does not change by accident: changing it needs a new [`FORMAT`], and these numbers.
    #[test]
    fn golden_bytes() {
        let mut bytes = Vec::new();
        full().encode(&mut bytes);
        assert_eq!((bytes.len(), format!("{:016x}", xxh3_64(&bytes)).as_str()), (6117, "64a26283791088fd"));
        let mut empty = Vec::new();
        CustomerState::default().encode(&mut empty);
        assert_eq!(
            crate::model::hex(&empty),
            "020000000000000000000000000000000000000000000000000000000000000000000000000000000000000020b3d5df"
        );
    }
}
