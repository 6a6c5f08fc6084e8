//! Customers as of many times: what a model may see of each then, and what came after within a horizon.
//!
//! Nothing from after a snapshot's time goes into what is seen of it. Knows no network.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::timeline::{Outcome, Timeline};
use crate::customer::Counters;
use crate::features::{BEHAVIOUR, Past, behaviour, past};
use crate::interaction::Timestamp;

/// One customer as of one time.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Number of the customer's timeline.
    pub customer: usize,
    pub at: Timestamp,
    pub behaviour: [f32; BEHAVIOUR.len()],
    pub past: Past,
    /// Number of the timeline's items that are known.
    pub known: usize,
    /// What the sequence network carries of the customer then; empty where it has learnt nothing. See [`super::carried`].
    pub carried: Arc<[f32]>,
    /// Days since the customer's own last interaction.
    pub recency: f32,
    /// Hashes of the categories of the latest interactions, newest first.
    pub latest: Box<[u32]>,
    /// How far ahead the outcome looks, in days.
    pub days: f32,
    pub outcome: Outcome,
    /// Number of the category that comes next.
    pub need: Option<u32>,
}

/// A time to look at a customer: with its first `upto` items known, and the outcome from item `from` on and before `until`.
struct Look {
    at: Timestamp,
    upto: usize,
    from: usize,
    days: f32,
    until: Timestamp,
}

/// Items of the window that serving keeps by default.
const WINDOW: usize = 32;

/// How snapshots are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// Nothing from here on is looked at.
    pub end: Timestamp,
    /// The horizon that counts most, in days.
    pub horizon: f32,
    /// About how many.
    pub count: usize,
    pub seed: u64,
}

/// Most snapshots of one customer.
const MOST: f64 = 64.0;
/// Share of snapshots right after an interaction, where scores are published; the others are at any time since the first one, as of which one may ask.
const AFTER: f64 = 0.4;
/// Exponent below 1: later times, and with them customers known for long, are drawn more often; they are most like what is asked about.
const LATE: f64 = 0.7;
/// Shortest horizon, in days.
const SHORTEST: f64 = 1.0;

fn days(micros: i64) -> f64 {
    micros as f64 / Timestamp::MICROS_PER_DAY as f64
}

fn later(at: Timestamp, days: f64) -> Timestamp {
    Timestamp(at.0.saturating_add((days * Timestamp::MICROS_PER_DAY as f64) as i64))
}

/// Snapshots at random times: a third looks as far as the horizon, a third as far as there is data, a third anywhere between.
pub fn draw(timelines: &[Timeline<'_>], numbers: &HashMap<u32, u32>, wanted: Draw, takes: impl Fn(&str) -> bool) -> Vec<Snapshot> {
    let mut rng = SmallRng::seed_from_u64(wanted.seed);
    let span = |t: &Timeline<'_>| t.items.first().map_or(0.0, |i| days(wanted.end.0 - i.occurred_at.0) - SHORTEST).max(0.0);
    let total: f64 = timelines.iter().filter(|t| takes(t.id)).map(span).sum();
    let mut snapshots = Vec::new();
    for (n, timeline) in timelines.iter().enumerate().filter(|(_, t)| takes(t.id)) {
        let span = span(timeline);
        if span <= 0.0 {
            continue;
        }
        let share = (wanted.count as f64 * span / total).min(MOST);
        let count = share as usize + usize::from(rng.random::<f64>() < share.fract());
        let first = timeline.items[0].occurred_at;
        let last = later(first, span);
        let eligible = timeline.before(last);
        let mut looks: Vec<Look> = (0..count)
            .map(|_| {
                let (at, upto) = if rng.random::<f64>() < AFTER && eligible > 0 {
                    let item = rng.random_range(0..eligible);
                    (timeline.items[item].occurred_at, item + 1)
                } else {
                    let at = later(first, rng.random::<f64>().powf(LATE) * span);
                    // Not before the first interaction: nobody is known then.
                    (at, timeline.before(at).max(1))
                };
                let room = days(wanted.end.0 - at.0);
                let ahead = match rng.random_range(0..3) {
                    0 => f64::from(wanted.horizon).min(room),
                    1 => room,
                    _ => SHORTEST + rng.random::<f64>() * (room - SHORTEST).max(0.0),
                };
                // What is at this very time, or came with it, is not ahead.
                let from = timeline.before(Timestamp(at.0 + 1)).max(upto);
                Look { at, upto, from, days: ahead as f32, until: Timestamp(later(at, ahead).0.min(wanted.end.0)) }
            })
            .collect();
        walk(n, timeline, numbers, &mut looks, &mut snapshots);
    }
    snapshots
}

/// Snapshots of every customer with an interaction before each of the times, with the outcome from that time on.
pub fn grid(
    timelines: &[Timeline<'_>],
    numbers: &HashMap<u32, u32>,
    times: &[Timestamp],
    horizon: f32,
    takes: impl Fn(&str) -> bool,
) -> Vec<Snapshot> {
    let mut snapshots = Vec::new();
    for (n, timeline) in timelines.iter().enumerate().filter(|(_, t)| takes(t.id)) {
        let look = |at: &Timestamp| {
            let upto = timeline.before(*at);
            (upto > 0).then(|| Look { at: *at, upto, from: upto, days: horizon, until: later(*at, f64::from(horizon)) })
        };
        walk(n, timeline, numbers, &mut times.iter().filter_map(look).collect::<Vec<_>>(), &mut snapshots);
    }
    snapshots
}

/// Snapshots right after interactions from `from` on and before `end`, evenly picked, about `count`; nothing that comes after is looked at.
pub fn after_each(
    timelines: &[Timeline<'_>],
    numbers: &HashMap<u32, u32>,
    (from, end): (Timestamp, Timestamp),
    count: usize,
    takes: impl Fn(&str) -> bool,
) -> Vec<Snapshot> {
    let all: usize = timelines.iter().filter(|t| takes(t.id)).map(|t| t.before(end) - t.before(from)).sum();
    let every = all.div_ceil(count.max(1)).max(1);
    let (mut snapshots, mut passed) = (Vec::new(), 0);
    for (n, timeline) in timelines.iter().enumerate().filter(|(_, t)| takes(t.id)) {
        let (first, items) = (timeline.before(from), timeline.before(end));
        let look = |i: usize| {
            let at = timeline.items[i].occurred_at;
            Look { at, upto: i + 1, from: i + 1, days: 0.0, until: at }
        };
        let mut looks: Vec<Look> = (first..items).filter(|i| (passed + i - first).is_multiple_of(every)).map(look).collect();
        passed += items - first;
        walk(n, timeline, numbers, &mut looks, &mut snapshots);
    }
    snapshots
}

fn walk(customer: usize, timeline: &Timeline<'_>, numbers: &HashMap<u32, u32>, looks: &mut [Look], out: &mut Vec<Snapshot>) {
    looks.sort_by_key(|l| (l.upto, l.at));
    let mut counters = Counters::default();
    let mut window: VecDeque<u32> = VecDeque::new();
    let mut known = 0;
    for look in looks {
        for item in &timeline.items[known..look.upto] {
            counters.add(item);
            window.push_front(item.category);
            window.truncate(WINDOW);
        }
        known = look.upto;
        let outcome = timeline.outcome(look.from, look.until);
        out.push(Snapshot {
            customer,
            at: look.at,
            behaviour: behaviour(&counters, look.at),
            past: past(&counters, look.at),
            known: look.upto,
            carried: Arc::default(),
            recency: look.at.days_since(counters.last_by_customer.max(counters.first)) as f32,
            latest: window.iter().copied().filter(|c| *c != 0).collect(),
            days: look.days,
            outcome,
            need: numbers.get(&outcome.need).copied(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::words;
    use crate::train::future::timeline::tests::customer;

    fn at(t: &str) -> Timestamp {
        Timestamp::parse(t).expect("a time")
    }

    #[test]
    fn the_future_does_not_leak_into_what_is_seen() {
        let rows: Vec<(String, String)> = (1..=28)
            .map(|d| (format!("2024-01-{d:02}T10:00:00Z"), format!(r#""kind":"purchase","amount":{d},"category":"c{}""#, d % 3)))
            .collect();
        let rows: Vec<(&str, &str)> = rows.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let numbers: HashMap<u32, u32> = (0..3).map(|i| (words::hash(&format!("c{i}")), i)).collect();
        let whole = customer("c", &rows);
        let end = at("2024-01-20T00:00:00Z");
        let wanted = Draw { end, horizon: 5.0, count: 60, seed: 3 };
        let timelines = [Timeline::new(&whole)];
        let all = draw(&timelines, &numbers, wanted, |_| true);
        assert!(all.len() > 50, "{}", all.len());
        // Of a customer whose history ends there, the same is seen; and nothing from the end on is an outcome.
        let short = customer("c", &rows[..19]);
        let cut = draw(&[Timeline::new(&short)], &numbers, wanted, |_| true);
        for (a, b) in all.iter().zip(&cut) {
            assert_eq!((a.at, a.behaviour, a.past, a.outcome), (b.at, b.behaviour, b.past, b.outcome));
            assert!(a.at < end && f64::from(a.days) <= days(end.0 - a.at.0) + 1e-3);
            let ahead = rows.iter().filter(|(t, _)| at(t) > a.at && at(t) <= later(a.at, f64::from(a.days)) && at(t) < end).count();
            assert!(ahead.abs_diff(a.outcome.purchases as usize) <= 1, "{a:?}");
            let seen = rows.iter().filter(|(t, _)| at(t) <= a.at).count();
            assert_eq!(a.past.purchases as usize, seen.max(1), "{a:?}");
        }
        // Cut into what was seen, an outcome is of the other side alone.
        let grid = grid(&timelines, &numbers, &[at("2024-01-10T10:00:00Z")], 3.0, |_| true);
        assert_eq!(grid.len(), 1);
        assert_eq!((grid[0].past.purchases, grid[0].outcome.purchases, grid[0].outcome.amount), (9.0, 3, 33.0));
        assert_eq!((grid[0].need, grid[0].latest[0]), (Some(1), words::hash("c0")));
    }
}
