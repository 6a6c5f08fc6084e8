//! What is set aside before anything is fitted, and never fitted on: by time where customers have a history, else by customer; never by row.
//!
//! The first half of what is set aside calibrates, the second judges. Knows what was read; no network.

use std::ops::Range;

use serde::Deserialize;

use super::record::{Customer, Labels, Recording};
use crate::customer::Item;
use crate::interaction::Timestamp;

/// The key `holdout` of `train.toml`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// By time where the median customer spans more than a day, else by customer.
    #[default]
    Auto,
    Time,
    Customers,
}

/// How interactions are divided. Everything that is fitted sees [`Part::Fit`] alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holdout {
    /// Fit on what lies before `from`; calibrate on [from, middle), judge from `middle` on. A customer's history before is context.
    Time { from: Timestamp, middle: Timestamp },
    /// Whole customers, by a hash of their id.
    Customers,
}

/// Which part an interaction belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Fit,
    Calibrate,
    Judge,
}

/// Of interactions set aside where time divides.
const SHARE: f64 = 0.2;
/// Of customers set aside, in thousandths: fewer, since what is set aside is never learnt from.
const CUSTOMERS: u32 = 100;

impl Holdout {
    /// Divides as asked. By time, at least the labels of `horizon_days` fit behind the cut, where that leaves two thirds of the time to fit on.
    pub fn choose(recording: &Recording, how: How, horizon_days: u32) -> Self {
        let mut spans: Vec<i64> = recording.customers.iter().filter_map(span).collect();
        spans.sort_unstable();
        let median = spans.get(spans.len() / 2).copied().unwrap_or(0);
        let by_time = match how {
            How::Auto => median > Timestamp::MICROS_PER_DAY,
            How::Time => true,
            How::Customers => false,
        };
        let mut times: Vec<i64> = recording.customers.iter().flat_map(|c| &c.items).map(|i| i.occurred_at.0).collect();
        let (true, false) = (by_time, times.is_empty()) else { return Self::Customers };
        times.sort_unstable();
        let (first, last) = (times[0], times[times.len() - 1]);
        let by_share = times[((1.0 - SHARE) * times.len() as f64) as usize];
        let by_horizon = last - i64::from(horizon_days) * Timestamp::MICROS_PER_DAY;
        let from = by_share.min(by_horizon).max(first + (last - first) * 2 / 3);
        let behind = times.partition_point(|t| *t < from);
        let middle = times[behind + (times.len() - behind) / 2];
        Self::Time { from: Timestamp(from), middle: Timestamp(middle) }
    }

    /// The part of an interaction of this customer at this time.
    pub fn part(&self, customer: &str, at: Timestamp) -> Part {
        match *self {
            Self::Time { from, .. } if at < from => Part::Fit,
            Self::Time { middle, .. } if at < middle => Part::Calibrate,
            Self::Time { .. } => Part::Judge,
            Self::Customers => match super::record::customer_share(customer) {
                share if share >= CUSTOMERS => Part::Fit,
                share if share % 2 == 0 => Part::Calibrate,
                _ => Part::Judge,
            },
        }
    }
}

/// The division in words.
impl std::fmt::Display for Holdout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time { from, middle } => write!(
                f,
                "Divided by time: fitted on what lies before {from}, calibrated on what follows until {middle}, judged on the rest. What lies before \
                 is the history of what is judged."
            ),
            Self::Customers => write!(
                f,
                "Divided by customer, by a hash of the customer's id: nine tenths are fitted on, a twentieth calibrates, a twentieth judges. No \
                 customer is in two parts."
            ),
        }
    }
}

fn span(customer: &Customer) -> Option<i64> {
    let times = || customer.items.iter().map(|i| i.occurred_at.0);
    Some(times().max()? - times().min()?)
}

/// A customer as one part sees it: the history up to the part's end, of which the labels of the part alone may be looked at.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// Number of the customer in the recording.
    pub number: usize,
    pub id: &'a str,
    pub items: &'a [Item],
    labels: &'a [Labels],
    part: Range<usize>,
}

impl<'a> View<'a> {
    /// All of a customer, as one part.
    pub fn whole(number: usize, customer: &'a Customer) -> Self {
        Self { number, id: &customer.id, items: &customer.items, labels: &customer.labels, part: 0..customer.items.len() }
    }

    /// Whether the item at `i` belongs to the part; else it is history.
    pub fn contains(&self, i: usize) -> bool {
        self.part.contains(&i)
    }

    /// Labels of the item at `i`, where it belongs to the part.
    pub fn labels(&self, i: usize) -> Option<&'a Labels> {
        self.contains(i).then(|| &self.labels[i])
    }

    /// Items and labels of the part itself, without what came before it.
    pub fn own(&self) -> impl Iterator<Item = (&'a Item, &'a Labels)> + use<'a> {
        self.items[self.part.clone()].iter().zip(&self.labels[self.part.clone()])
    }
}

/// All customers, divided.
#[derive(Debug)]
pub struct Division<'a> {
    recording: &'a Recording,
    /// Per customer: where calibration begins, and where judging does.
    cuts: Vec<(usize, usize)>,
}

impl<'a> Division<'a> {
    /// Divides every customer. The time that decides is the customer's newest so far: what arrives late, after something that was set aside, has
    /// been seen with it and is set aside too.
    pub fn new(recording: &'a Recording, holdout: &Holdout) -> Self {
        let cut = |customer: &Customer| {
            let mut newest = Timestamp(i64::MIN);
            let parts = customer.items.iter().map(|item| {
                newest = newest.max(item.occurred_at);
                holdout.part(&customer.id, newest)
            });
            parts.fold((0, 0), |(fit, calibrate), part| match part {
                Part::Fit => (fit + 1, calibrate + 1),
                Part::Calibrate => (fit, calibrate + 1),
                Part::Judge => (fit, calibrate),
            })
        };
        Self { recording, cuts: recording.customers.iter().map(cut).collect() }
    }

    /// The customers that have something in this part.
    pub fn views(&self, part: Part) -> Vec<View<'a>> {
        let view = |(number, (customer, &(fit, calibrate))): (usize, (&'a Customer, &(usize, usize)))| {
            let part = match part {
                Part::Fit => 0..fit,
                Part::Calibrate => fit..calibrate,
                Part::Judge => calibrate..customer.items.len(),
            };
            let view = View { number, id: &customer.id, items: &customer.items[..part.end], labels: &customer.labels, part };
            (!view.part.is_empty()).then_some(view)
        };
        self.recording.customers.iter().zip(&self.cuts).enumerate().filter_map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::words::Splitter;
    use crate::interaction::{DecodeOptions, decode};

    /// `days` of each customer's interactions after 2024-01-01, in order of arrival.
    fn recording(customers: &[(String, Vec<f64>)]) -> Recording {
        let start = Timestamp::parse("2024-01-01T00:00:00Z").expect("a time").0;
        let item = |id: &str, i: usize, day: f64| {
            let at = Timestamp(start + (day * Timestamp::MICROS_PER_DAY as f64) as i64);
            let line = format!(r#"{{"id":"{id}-{i}","customer_id":"{id}","occurred_at":"{at}","kind":"visit"}}"#);
            Item::new(&decode(line.as_bytes(), DecodeOptions::default()).expect("valid").interaction, &Splitter::default())
        };
        let customer = |(id, days): &(String, Vec<f64>)| Customer {
            id: id.as_str().into(),
            items: days.iter().enumerate().map(|(i, d)| item(id, i, *d)).collect(),
            labels: vec![Labels::default(); days.len()],
        };
        Recording { customers: customers.iter().map(customer).collect(), ..Recording::default() }
    }

    fn conversations(n: usize) -> Recording {
        recording(&(0..n).map(|i| (format!("c{i}"), vec![i as f64, i as f64 + 0.01, i as f64 + 0.02])).collect::<Vec<_>>())
    }

    fn histories(n: usize) -> Recording {
        recording(&(0..n).map(|i| (format!("c{i}"), (0..100).map(|d| f64::from(d) + i as f64 / 1000.0).collect())).collect::<Vec<_>>())
    }

    #[test]
    fn conversations_are_divided_by_customer_and_never_within_one() {
        let recording = conversations(2000);
        let holdout = Holdout::choose(&recording, How::Auto, 90);
        assert_eq!(holdout, Holdout::Customers);
        let division = Division::new(&recording, &holdout);
        let sizes = [Part::Fit, Part::Calibrate, Part::Judge].map(|p| {
            let views = division.views(p);
            assert!(views.iter().all(|v| v.items.len() == 3 && v.own().count() == 3));
            views.len()
        });
        assert_eq!(sizes.iter().sum::<usize>(), 2000);
        assert!(sizes[0].abs_diff(1800) < 50 && sizes[1].abs_diff(100) < 30 && sizes[2].abs_diff(100) < 30, "{sizes:?}");
        // Whatever else is in the data, a customer stays in its part.
        let few = conversations(10);
        let part = |r: &Recording, id: &str| holdout.part(id, r.customers[0].items[0].occurred_at);
        assert!(few.customers.iter().all(|c| part(&few, &c.id) == part(&recording, &c.id)));
    }

    #[test]
    fn histories_are_divided_by_time_with_the_horizon_behind_the_cut() {
        let recording = histories(50);
        let day = |t: Timestamp| t.days_since(Timestamp::parse("2024-01-01T00:00:00Z").expect("a time"));
        let Holdout::Time { from, middle } = Holdout::choose(&recording, How::Auto, 30) else { panic!("by customer") };
        assert!((day(from) - 69.05).abs() < 0.1 && (day(middle) - 84.5).abs() < 1.0, "{} {}", day(from), day(middle));
        // The horizon leaves two thirds of the time to fit on.
        let Holdout::Time { from, .. } = Holdout::choose(&recording, How::Auto, 90) else { panic!("by customer") };
        assert!((day(from) - 66.0).abs() < 0.1);
        assert_eq!(Holdout::choose(&recording, How::Customers, 30), Holdout::Customers);
        assert!(matches!(Holdout::choose(&conversations(20), How::Time, 1), Holdout::Time { .. }));
    }

    #[test]
    fn what_arrives_late_after_the_cut_is_not_fitted_on_and_history_is_context() {
        let recording =
            recording(&[("a".into(), vec![1.0, 2.0, 11.0, 9.0, 16.0, 14.0]), ("b".into(), vec![3.0]), ("c".into(), vec![17.0])]);
        let at = |day: i64| Timestamp(recording.customers[0].items[0].occurred_at.0 + (day - 1) * Timestamp::MICROS_PER_DAY);
        let division = Division::new(&recording, &Holdout::Time { from: at(10), middle: at(15) });
        let shape = |p| division.views(p).iter().map(|v| (v.id.to_owned(), v.items.len(), v.own().count())).collect::<Vec<_>>();
        assert_eq!(shape(Part::Fit), [("a".into(), 2, 2), ("b".into(), 1, 1)]);
        assert_eq!(shape(Part::Calibrate), [("a".into(), 4, 2)]);
        assert_eq!(shape(Part::Judge), [("a".into(), 6, 2), ("c".into(), 1, 1)]);
        let view = &division.views(Part::Judge)[0];
        assert!(view.labels(3).is_none() && view.labels(4).is_some());
    }

    #[test]
    fn nothing_at_all_is_no_panic() {
        assert_eq!(Holdout::choose(&Recording::default(), How::Time, 90), Holdout::Customers);
    }
}
