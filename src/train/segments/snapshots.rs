//! What customers had done as of several times: after interactions, and in the silence between and after them.
//!
//! Sees the part to fit on alone, but for [`judged`]. Each customer is drawn equally often, so that none dominates; a customer's times depend on seed and id only.

use std::ops::Range;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng, seq};
use xxhash_rust::xxh3::xxh3_64;

use crate::customer::{Counters, Item, words};
use crate::interaction::{Actor, Timestamp};
use crate::train::holdout::{Holdout, Part};
use crate::train::record::{Customer, Recording};

/// One customer as of one time.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Place of the customer in the recording.
    pub customer: usize,
    pub at: Timestamp,
    pub counters: Counters,
    /// Hashes of kind and channel of the last interaction.
    pub kind: u32,
    pub channel: u32,
    /// Interactions in which the customer said something.
    pub talks: u32,
    /// Whether no interaction by the customer follows within the horizon; `None` where the part ends before, or the customer never acted.
    pub churned: Option<bool>,
}

/// Most snapshots of all customers together, and of one.
const MOST: usize = 50_000;
const MOST_EACH: usize = 8;

/// The interactions of a customer that may be fitted on.
pub fn to_fit<'a>(customer: &'a Customer, holdout: &Holdout) -> &'a [Item] {
    let n = customer.items.iter().take_while(|i| holdout.part(&customer.id, i.occurred_at) == Part::Fit).count();
    &customer.items[..n]
}

/// Where the part to fit on ends.
fn end(recording: &Recording, holdout: &Holdout) -> Timestamp {
    match *holdout {
        Holdout::Time { from, .. } => from,
        Holdout::Customers => recording.to.unwrap_or_default(),
    }
}

/// What of a customer is drawn from.
struct Span<'a> {
    /// All that may be known.
    items: &'a [Item],
    /// The first item that may be drawn.
    own: usize,
    /// Times that may be drawn.
    silent: Range<i64>,
}

/// Draws snapshots of every customer with an interaction to fit on; of a seeded part of them where they are too many.
pub fn draw(recording: &Recording, holdout: &Holdout, horizon_days: u32, seed: u64) -> Vec<Snapshot> {
    let end = end(recording, holdout);
    let horizon = i64::from(horizon_days) * Timestamp::MICROS_PER_DAY;
    let span = |customer| {
        let items = to_fit(customer, holdout);
        items.first().map(|first| Span { items, own: 0, silent: first.occurred_at.0..end.0 })
    };
    let mut snapshots = draw_from(recording, seed, span);
    snapshots.iter_mut().for_each(|s| s.churned = churned(to_fit(&recording.customers[s.customer], holdout), s, horizon, end));
    snapshots
}

/// Snapshots of the part that judges, drawn alike: after its interactions and at times within it, with what lies before known. Without labels.
pub fn judged(recording: &Recording, holdout: &Holdout, seed: u64) -> Vec<Snapshot> {
    let end = recording.to.unwrap_or_default().0;
    draw_from(recording, seed, |customer| {
        let items = customer.items.as_slice();
        let first = items.first()?.occurred_at;
        let own = items.iter().take_while(|i| holdout.part(&customer.id, i.occurred_at) != Part::Judge).count();
        match *holdout {
            Holdout::Customers => (own == 0).then_some(Span { items, own, silent: first.0..end }),
            Holdout::Time { middle, .. } => Some(Span { items, own, silent: first.max(middle).0..end }),
        }
    })
}

fn draw_from<'a>(recording: &'a Recording, seed: u64, span: impl Fn(&'a Customer) -> Option<Span<'a>>) -> Vec<Snapshot> {
    let mut customers: Vec<(u64, usize)> = (0..recording.customers.len())
        .filter(|&c| span(&recording.customers[c]).is_some())
        .map(|c| (xxh3_64(recording.customers[c].id.as_bytes()) ^ seed, c))
        .collect();
    if customers.len() > MOST / 2 {
        customers.sort_by_key(|(share, c)| (share.wrapping_mul(0x9e37_79b9_7f4a_7c15), *c));
        customers.truncate(MOST / 2);
        customers.sort_by_key(|c| c.1);
    }
    let half = (MOST / customers.len().max(1)).clamp(2, MOST_EACH) / 2;
    let mut snapshots = Vec::new();
    for (share, customer) in customers {
        let Some(Span { items, own, silent }) = span(&recording.customers[customer]) else { continue };
        let mut rng = SmallRng::seed_from_u64(share);
        let length = items.len() - own;
        let mut after: Vec<usize> = seq::index::sample(&mut rng, length, half.min(length)).into_iter().map(|i| own + i).collect();
        after.sort_unstable();
        let mut silent: Vec<i64> = (0..half).filter(|_| !silent.is_empty()).map(|_| rng.random_range(silent.clone())).collect();
        silent.sort_unstable();
        follow(items, customer, &after, &silent, &mut snapshots);
    }
    snapshots
}

/// Snapshots after the interactions at places `after` and at the times `silent`, both rising.
fn follow(items: &[Item], customer: usize, after: &[usize], silent: &[i64], out: &mut Vec<Snapshot>) {
    let (mut counters, mut talks) = (Counters::default(), 0);
    let (mut after, mut silent) = (after.iter().peekable(), silent.iter().peekable());
    for (place, item) in items.iter().enumerate() {
        counters.add(item);
        talks += u32::from(item.actor == Actor::Customer && talks_by(item));
        let snapshot =
            |at| Snapshot { customer, at, counters: counters.clone(), kind: item.kind, channel: item.channel, talks, churned: None };
        if after.next_if(|a| **a == place).is_some() {
            out.push(snapshot(counters.last));
        }
        let next = items.get(place + 1).map_or(i64::MAX, |next| next.occurred_at.0);
        while let Some(at) = silent.next_if(|t| **t < next) {
            out.push(snapshot(Timestamp(*at).max(counters.last)));
        }
    }
}

/// Whether the customer says something in an interaction.
fn talks_by(item: &Item) -> bool {
    const TALKS: [&str; 5] = ["message", "email", "call", "review", "ticket_opened"];
    item.length > 0 || TALKS.iter().any(|k| words::hash(k) == item.kind)
}

fn churned(items: &[Item], snapshot: &Snapshot, horizon: i64, end: Timestamp) -> Option<bool> {
    let until = snapshot.at.0.saturating_add(horizon);
    if until > end.0 || snapshot.counters.customer_interactions == 0 {
        return None;
    }
    let follows = |i: &Item| i.actor == Actor::Customer && i.occurred_at > snapshot.at && i.occurred_at.0 <= until;
    Some(!items.iter().any(follows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::words::Splitter;
    use crate::interaction::{DecodeOptions, decode};

    const DAY: i64 = Timestamp::MICROS_PER_DAY;

    fn customer(id: &str, days: &[i64]) -> Customer {
        let items: Vec<Item> = days
            .iter()
            .map(|day| {
                let at = Timestamp(day * DAY);
                let line = format!(r#"{{"id":"{day}","customer_id":"{id}","occurred_at":"{at}","kind":"purchase","amount":1}}"#);
                Item::new(&decode(line.as_bytes(), DecodeOptions::default()).expect("valid").interaction, &Splitter::default())
            })
            .collect();
        Customer { id: id.into(), labels: vec![Default::default(); items.len()], items }
    }

    fn recording(customers: Vec<Customer>) -> Recording {
        let times = || customers.iter().flat_map(|c| &c.items).map(|i| i.occurred_at);
        let (from, to) = (times().min(), times().max());
        Recording { customers, from, to, ..Recording::default() }
    }

    #[test]
    fn nothing_after_the_cut_is_seen() {
        let days: Vec<i64> = (1..200).collect();
        let recording = recording(vec![customer("busy", &days), customer("new", &[150, 160]), customer("old", &[3])]);
        let holdout = Holdout::Time { from: Timestamp(100 * DAY), middle: Timestamp(150 * DAY) };
        let snapshots = draw(&recording, &holdout, 30, 1);
        assert!(snapshots.iter().all(|s| s.at.0 < 100 * DAY && s.counters.last.0 < 100 * DAY && s.customer != 1));
        // A busy customer has as many snapshots as a silent one, but for those after interactions that there are none of.
        let count = |c| snapshots.iter().filter(|s| s.customer == c).count();
        assert_eq!((count(0), count(2)), (MOST_EACH, 1 + MOST_EACH / 2));
        for s in snapshots.iter().filter(|s| s.customer == 2) {
            assert_eq!(s.counters.interactions, 1);
            assert_eq!(s.churned, (s.at.0 <= 70 * DAY).then_some(true), "{}", s.at);
        }
        for s in snapshots.iter().filter(|s| s.customer == 0) {
            assert_eq!(i64::from(s.counters.interactions), s.at.0 / DAY, "all up to then and no more");
            // The label comes from the part alone: where the horizon passes its end there is none.
            assert_eq!(s.churned, (s.at.0 <= 70 * DAY).then_some(false), "{}", s.at);
        }
    }

    #[test]
    fn the_judged_part_is_drawn_with_its_history_known() {
        let days: Vec<i64> = (1..200).collect();
        let recording = recording(vec![customer("busy", &days), customer("old", &[3])]);
        let holdout = Holdout::Time { from: Timestamp(100 * DAY), middle: Timestamp(150 * DAY) };
        let snapshots = judged(&recording, &holdout, 1);
        assert!(snapshots.iter().all(|s| s.at.0 >= 150 * DAY && s.at.0 <= 199 * DAY && s.churned.is_none()));
        for s in &snapshots {
            let known = if s.customer == 0 { s.at.0 / DAY } else { 1 };
            assert_eq!(i64::from(s.counters.interactions), known, "all up to then and no more");
        }
        let count = |c| snapshots.iter().filter(|s| s.customer == c).count();
        assert_eq!((count(0), count(1)), (MOST_EACH, MOST_EACH / 2), "who is silent there is known by silence alone");
        // By customer, those of the other parts are not looked at.
        let recording = self::recording((0..400).map(|i| customer(&format!("c{i}"), &[1, 5])).collect());
        let parts = judged(&recording, &Holdout::Customers, 1);
        let part = |s: &Snapshot| Holdout::Customers.part(&recording.customers[s.customer].id, s.at);
        assert!(!parts.is_empty() && parts.iter().all(|s| part(s) == Part::Judge));
    }

    #[test]
    fn the_horizon_counts_from_the_snapshot_and_ends_with_it() {
        let c = customer("c", &[0, 10, 100]);
        let at = |day: i64, count: usize| {
            let mut counters = Counters::default();
            c.items[..count].iter().for_each(|i| counters.add(i));
            Snapshot { customer: 0, at: Timestamp(day * DAY), counters, kind: 0, channel: 0, talks: 0, churned: None }
        };
        let churned = |day, count, horizon: i64| churned(&c.items, &at(day, count), horizon * DAY, Timestamp(120 * DAY));
        assert_eq!(churned(0, 1, 10), Some(false), "the last moment is within");
        assert_eq!(churned(10, 2, 80), Some(true), "the interaction itself is not after it");
        assert_eq!(churned(10, 2, 90), Some(false));
        assert_eq!(churned(50, 2, 71), None, "the data ends before");
    }

    #[test]
    fn many_customers_are_thinned_by_seed() {
        let recording = recording((0..60_000).map(|i| customer(&format!("c{i}"), &[i % 50])).collect());
        let snapshots = draw(&recording, &Holdout::Customers, 30, 1);
        assert!(snapshots.len() <= MOST && snapshots.len() > MOST / 2, "{}", snapshots.len());
        let of = |s: &[Snapshot]| s.iter().map(|s| s.customer).collect::<Vec<_>>();
        assert_eq!(of(&snapshots), of(&draw(&recording, &Holdout::Customers, 30, 1)));
        assert_ne!(of(&snapshots), of(&draw(&recording, &Holdout::Customers, 30, 2)));
    }
}
