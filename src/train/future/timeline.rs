//! A customer's recorded interactions in order of time: what lay before a time, and what came after it.
//!
//! Labels of the future come from here alone. Knows no model.

use crate::customer::{Item, words};
use crate::features::Visits;
use crate::interaction::{Actor, Timestamp};
use crate::train::record::Customer;

/// Interactions by `occurred_at`, those of one time in order of arrival.
#[derive(Debug)]
pub struct Timeline<'a> {
    pub id: &'a str,
    pub items: Vec<&'a Item>,
    /// Purchases and their amount among the first n items.
    sums: Vec<(u32, f64)>,
}

/// What happened between two times.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// The customer did anything at all.
    pub returned: bool,
    pub purchases: u32,
    pub amount: f64,
    /// Hash of the next category; 0: none.
    pub need: u32,
}

impl<'a> Timeline<'a> {
    pub fn new(customer: &'a Customer) -> Self {
        let mut items: Vec<&Item> = customer.items.iter().collect();
        items.sort_by_key(|i| i.occurred_at);
        let purchase = words::hash("purchase");
        let mut sums = vec![(0, 0.0)];
        for item in &items {
            let (n, amount) = sums[sums.len() - 1];
            let bought = item.kind == purchase;
            let paid = if bought && !item.amount.is_nan() { f64::from(item.amount) } else { 0.0 };
            sums.push((n + u32::from(bought), amount + paid));
        }
        Self { id: &customer.id, items, sums }
    }

    /// Number of items before `at`.
    pub fn before(&self, at: Timestamp) -> usize {
        self.items.partition_point(|i| i.occurred_at < at)
    }

    /// What the items from number `from` on and before `until` amount to.
    pub fn outcome(&self, from: usize, until: Timestamp) -> Outcome {
        let to = self.before(until).max(from);
        let after = &self.items[from..to];
        let ((n0, a0), (n1, a1)) = (self.sums[from], self.sums[to]);
        Outcome {
            returned: after.iter().any(|i| i.actor == Actor::Customer),
            purchases: n1 - n0,
            amount: a1 - a0,
            need: after.iter().map(|i| i.category).find(|c| *c != 0).unwrap_or(0),
        }
    }

    /// Different days (UTC) with an interaction by the customer among the first `upto` items; see [`Visits`]. `None` without any.
    pub fn visits(&self, upto: usize, at: Timestamp) -> Option<Visits> {
        let mut days = self.items[..upto].iter().filter(|i| i.actor == Actor::Customer).map(|i| day(i.occurred_at));
        let first = days.next()?;
        let (mut last, mut repeats) = (first, 0u32);
        for day in days {
            repeats += u32::from(day > last);
            last = last.max(day);
        }
        let weeks = |days: i64| days.max(0) as f64 / 7.0;
        // The last day that is wholly or partly before `at`.
        let now = day(Timestamp(at.0 - 1));
        Some(Visits { repeats: f64::from(repeats), last: weeks(last - first), age: weeks(now - first) })
    }

    /// Different days (UTC) with a purchase from item `from` on and before `until`, without the day of the last purchase before.
    pub fn purchase_days(&self, from: usize, until: Timestamp) -> u32 {
        let purchase = words::hash("purchase");
        let bought = |items: &[&Item]| items.iter().filter(|i| i.kind == purchase).map(|i| day(i.occurred_at)).collect::<Vec<_>>();
        let before = bought(&self.items[..from]).pop();
        let mut days = bought(&self.items[from..self.before(until).max(from)]);
        days.dedup();
        (days.len() - usize::from(before.is_some() && days.first() == before.as_ref())) as u32
    }

    /// Different days with an interaction by the customer from item `from` on and before `until`, without the day of the item before.
    pub fn visits_after(&self, from: usize, until: Timestamp) -> u32 {
        let mut last = from.checked_sub(1).map_or(i64::MIN, |i| day(self.items[i].occurred_at));
        let mut n = 0;
        for item in self.items[from..self.before(until).max(from)].iter().filter(|i| i.actor == Actor::Customer) {
            n += u32::from(day(item.occurred_at) > last);
            last = last.max(day(item.occurred_at));
        }
        n
    }
}

fn day(at: Timestamp) -> i64 {
    at.0.div_euclid(Timestamp::MICROS_PER_DAY)
}

#[cfg(test)]
pub(in crate::train) mod tests {
    use super::*;
    use crate::customer::words::Splitter;
    use crate::interaction::{DecodeOptions, decode};
    use crate::train::record::Labels;

    /// A customer of `(time, rest of the record)`.
    pub fn customer(id: &str, rows: &[(&str, &str)]) -> Customer {
        let item = |(i, (at, rest)): (usize, &(&str, &str))| {
            let line = format!(r#"{{"id":"{id}-{i}","customer_id":"{id}","occurred_at":"{at}",{rest}}}"#);
            Item::new(&decode(line.as_bytes(), DecodeOptions::default()).expect("valid").interaction, &Splitter::default())
        };
        let items: Vec<Item> = rows.iter().enumerate().map(item).collect();
        Customer { id: id.into(), labels: vec![Labels::default(); items.len()], items }
    }

    fn at(t: &str) -> Timestamp {
        Timestamp::parse(t).expect("a time")
    }

    #[test]
    fn outcomes_lie_within_their_bounds() {
        let c = customer(
            "c",
            &[
                ("2024-01-01T10:00:00Z", r#""kind":"purchase","amount":5,"category":"a""#),
                ("2024-01-03T10:00:00Z", r#""kind":"campaign","category":"b""#),
                ("2024-01-02T10:00:00Z", r#""kind":"visit""#),
                ("2024-01-05T10:00:00Z", r#""kind":"purchase","amount":7,"category":"c""#),
                ("2024-01-05T10:00:00Z", r#""kind":"purchase""#),
            ],
        );
        let t = Timeline::new(&c);
        let b = words::hash("b");
        let outcome = |from: &str, until: &str| t.outcome(t.before(at(from)), at(until));
        // A time's own interactions come after it, the end's do not.
        let whole = outcome("2024-01-01T10:00:00Z", "2024-01-05T10:00:00Z");
        assert_eq!(whole, Outcome { returned: true, purchases: 1, amount: 5.0, need: words::hash("a") });
        // A campaign is no return, but may name a need.
        assert_eq!(outcome("2024-01-03T00:00:00Z", "2024-01-04T00:00:00Z"), Outcome { need: b, ..Outcome::default() });
        let end = outcome("2024-01-04T00:00:00Z", "2025-01-01T00:00:00Z");
        assert_eq!((end.returned, end.purchases, end.amount, end.need), (true, 2, 7.0, words::hash("c")));
        assert_eq!(outcome("2024-01-06T00:00:00Z", "2025-01-01T00:00:00Z"), Outcome::default());
    }

    #[test]
    fn visits_are_different_days_of_the_customer() {
        let c = customer(
            "c",
            &[
                ("2024-01-01T10:00:00Z", r#""kind":"visit""#),
                ("2024-01-01T23:00:00Z", r#""kind":"visit""#),
                ("2024-01-08T01:00:00Z", r#""kind":"visit""#),
                ("2024-01-15T01:00:00Z", r#""kind":"message","actor":"agent""#),
                ("2024-01-22T01:00:00Z", r#""kind":"visit""#),
                ("2024-01-22T02:00:00Z", r#""kind":"visit""#),
            ],
        );
        let t = Timeline::new(&c);
        let cut = at("2024-01-16T00:00:00Z");
        assert_eq!(t.visits(t.before(cut), cut), Some(Visits { repeats: 1.0, last: 1.0, age: 2.0 }));
        assert_eq!(t.visits_after(t.before(cut), at("2024-02-01T00:00:00Z")), 1);
        assert_eq!(t.visits(0, cut), None);
    }

    #[test]
    fn purchase_days_are_different_days_with_a_purchase() {
        let buys = r#""kind":"purchase","amount":1"#;
        let c = customer(
            "c",
            &[
                ("2024-01-01T10:00:00Z", buys),
                ("2024-01-01T23:00:00Z", buys),
                ("2024-01-02T01:00:00Z", r#""kind":"visit""#),
                ("2024-01-08T01:00:00Z", buys),
                ("2024-01-08T02:00:00Z", buys),
                ("2024-01-09T02:00:00Z", buys),
            ],
        );
        let t = Timeline::new(&c);
        let days = |from: &str, until: &str| t.purchase_days(t.before(at(from)), at(until));
        assert_eq!(days("2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"), 3);
        // The rest of a day that has had a purchase is no other day.
        assert_eq!(days("2024-01-01T12:00:00Z", "2024-02-01T00:00:00Z"), 2);
        assert_eq!(days("2024-01-08T01:30:00Z", "2024-01-09T02:00:00Z"), 0);
        assert_eq!(days("2024-01-10T00:00:00Z", "2024-02-01T00:00:00Z"), 0);
    }
}
