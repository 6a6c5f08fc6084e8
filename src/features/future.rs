//! What the heads of the future read beside behaviour: which needs a customer had of late, and the sizes that their forms are scaled by.
//!
//! Knows no bundle: the numbers of categories are the caller's.

use std::collections::HashMap;

use crate::customer::Counters;
use crate::interaction::Timestamp;

/// Columns of a category in [`needs`].
pub const NEED_COLUMNS: usize = 2;
/// Newest interactions with a category that [`needs`] looks at.
const LATEST: usize = 32;
/// How much a category still weighs after one more interaction.
const DECAY: f32 = 0.85;

/// Writes what categories the customer's latest interactions had: `[decayed count of each | share of each]`.
///
/// `categories` are hashes, newest first, 0 for none; `numbers` maps hashes to columns; `out` is [`NEED_COLUMNS`] × their number wide.
pub fn needs(categories: impl Iterator<Item = u32>, numbers: &HashMap<u32, u32>, out: &mut [f32]) {
    out.fill(0.0);
    let width = out.len() / NEED_COLUMNS;
    let (mut weight, mut seen) = (1.0, 0u8);
    for category in categories.filter(|c| *c != 0).take(LATEST) {
        if let Some(&number) = numbers.get(&category) {
            out[number as usize] += weight;
            out[width + number as usize] += 1.0;
        }
        weight *= DECAY;
        seen += 1;
    }
    for share in &mut out[width..] {
        *share /= f32::from(seen.max(1));
    }
}

/// What the forms of churn and spend start from.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Past {
    pub visits: Visits,
    pub purchases: f32,
    /// Of all purchases, in the customer's own currency.
    pub amount: f32,
}

/// Recency and frequency as models of buying till death take them: visits after the first, and weeks since the first at the last visit and now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Visits {
    pub repeats: f64,
    pub last: f64,
    pub age: f64,
}

/// The past of a customer with these counters as of `at`.
pub fn past(c: &Counters, at: Timestamp) -> Past {
    let weeks = |from: Timestamp, to: Timestamp| to.days_since(from).max(0.0) / 7.0;
    // Who has never come is like a customer who came just now.
    let visits = if c.visits > 0 {
        let (last, age) = (weeks(c.first_visit, c.last_visit), weeks(c.first_visit, at.max(c.last)));
        Visits { repeats: f64::from(c.visits - 1), last, age }
    } else {
        Visits::default()
    };
    Past { visits, purchases: c.purchases as f32, amount: c.amount }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_category_weighs_most_and_shares_count_unknown_ones() {
        let numbers = HashMap::from([(7, 0), (9, 1)]);
        let mut out = [9.0; 4];
        needs([9, 0, 7, 5, 7].into_iter(), &numbers, &mut out);
        assert_eq!(out, [DECAY + DECAY * DECAY * DECAY, 1.0, 0.5, 0.25]);
        needs(std::iter::empty(), &numbers, &mut out);
        assert_eq!(out, [0.0; 4]);
    }
}
