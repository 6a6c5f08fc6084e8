//! What is set aside before anything is fitted, and never fitted on: by time where customers have a history, else by customer; never by row.
//!
//! The first half of what is set aside calibrates, the second judges.

use super::record::{Customer, Recording};
use crate::interaction::Timestamp;

/// How interactions are divided. Everything that is fitted sees [`Part::Fit`] alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holdout {
    /// Fit on what lies before `from`; calibrate on [from, middle), judge from `middle` on. A customer's history before is context.
    Time { from: Timestamp, middle: Timestamp },
    /// Whole customers, by a hash of their id.
    Customers,
}

/// Which part an interaction belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Fit,
    Calibrate,
    Judge,
}

/// Of customers set aside, and of interactions where time divides.
const SHARE: f64 = 0.2;

impl Holdout {
    /// By time where the median customer spans more than a day. At least the labels of `horizon_days` fit behind the cut, where that
    /// leaves half of the time to fit on.
    pub fn choose(recording: &Recording, horizon_days: u32) -> Self {
        let mut spans: Vec<i64> = recording.customers.iter().filter_map(span).collect();
        spans.sort_unstable();
        let median = spans.get(spans.len() / 2).copied().unwrap_or(0);
        if median <= Timestamp::MICROS_PER_DAY {
            return Self::Customers;
        }
        let mut times: Vec<i64> = recording.customers.iter().flat_map(|c| &c.items).map(|i| i.occurred_at.0).collect();
        times.sort_unstable();
        let (first, last) = (times[0], times[times.len() - 1]);
        let by_share = times[((1.0 - SHARE) * times.len() as f64) as usize];
        let by_horizon = last - i64::from(horizon_days) * Timestamp::MICROS_PER_DAY;
        let from = by_share.min(by_horizon).max(first + (last - first) / 2);
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
                share if share >= (1000.0 * SHARE) as u32 => Part::Fit,
                share if share % 2 == 0 => Part::Calibrate,
                _ => Part::Judge,
            },
        }
    }
}

fn span(customer: &Customer) -> Option<i64> {
    let times = || customer.items.iter().map(|i| i.occurred_at.0);
    Some(times().max()? - times().min()?)
}
