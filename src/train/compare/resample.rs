//! Whether the challenger is worse by one measure: the customers are drawn anew, each with all of its rows.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::rows::Row;

/// Resamples of the customers.
const RESAMPLES: usize = 1000;
/// At most how often, over all measures together, a challenger that is just as much worse as it may be is called worse (Bonferroni).
const CHANCE: f64 = 0.05;

/// One head by one measure. All measures are 1 at best, and differences are in parts of 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    pub head: String,
    /// `accuracy`; `auroc`, of churn; `quadratic`: 1 − half the squared distance of the probabilities from what came true; `purchases`, `amount`: 1 − mean
    /// |error| over the root mean square of what came true.
    pub measure: &'static str,
    pub n: usize,
    pub customers: usize,
    pub champion: f64,
    pub challenger: f64,
    /// Challenger − champion.
    pub difference: f64,
    /// 95 % interval of the difference.
    pub interval: [f64; 2],
    /// Share of the resamples in which the challenger is worse by more than the margin.
    pub share_worse: f64,
    pub worse: bool,
}

/// Paired bootstrap over customers, by one of so many `measures`. Ten that were each as strict as one alone would refuse up to two of five challengers
/// that are just as much worse as they may be.
pub(super) fn judge(head: &str, measure: &'static str, rows: &[Row], margin: f64, measures: usize) -> Judged {
    let mut sums: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    let mut means = [0.0f64; 2];
    for (customer, values) in rows {
        let sum = sums.entry(*customer).or_default();
        sum.0 += f64::from(values[1]) - f64::from(values[0]);
        sum.1 += 1.0;
        means[0] += f64::from(values[0]);
        means[1] += f64::from(values[1]);
    }
    let n = rows.len().max(1) as f64;
    let means = means.map(|m| m / n);
    let sums: Vec<(f64, f64)> = sums.into_values().collect();
    let mut random = SmallRng::seed_from_u64(1);
    let mut differences: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let (mut difference, mut weight) = (0.0, 0.0);
            for _ in 0..sums.len() {
                let (d, w) = sums[random.random_range(0..sums.len())];
                difference += d;
                weight += w;
            }
            difference / weight
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    let quantile = |q: f64| differences[((RESAMPLES - 1) as f64 * q).round() as usize];
    let share_worse = differences.iter().filter(|d| **d < -margin).count() as f64 / RESAMPLES as f64;
    Judged {
        head: head.to_owned(),
        measure,
        n: rows.len(),
        customers: sums.len(),
        champion: means[0],
        challenger: means[1],
        difference: means[1] - means[0],
        interval: [quantile(0.025), quantile(0.975)],
        share_worse,
        worse: share_worse >= 1.0 - CHANCE / measures.max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: u32, value: impl Fn(u32, &mut SmallRng) -> [f32; 2]) -> Vec<Row> {
        let mut random = SmallRng::seed_from_u64(7);
        (0..n).map(|i| (i / 3, value(i, &mut random))).collect()
    }

    #[test]
    fn clearly_worse_is_worse_and_equal_skill_is_not() {
        let hit = |random: &mut SmallRng, p: f64| f32::from(random.random_bool(p));
        let equal = judge("x", "accuracy", &rows(1500, |_, r| [hit(r, 0.8), hit(r, 0.8)]), 0.01, 1);
        assert!(!equal.worse && equal.interval[0] < 0.0 && equal.interval[1] > 0.0, "{equal:?}");
        let worse = judge("x", "accuracy", &rows(1500, |_, r| [hit(r, 0.8), hit(r, 0.7)]), 0.01, 1);
        assert!(worse.worse && worse.share_worse > 0.99 && (worse.difference + 0.1).abs() < 0.04, "{worse:?}");
        let better = judge("x", "accuracy", &rows(1500, |_, r| [hit(r, 0.7), hit(r, 0.8)]), 0.01, 1);
        assert!(!better.worse && better.share_worse == 0.0, "{better:?}");
        // Within the margin.
        let slightly = rows(3000, |i, _| [0.5, if i % 200 == 0 { 0.0 } else { 0.5 }]);
        assert!(!judge("x", "quadratic", &slightly, 0.01, 1).worse);
        assert!(judge("x", "quadratic", &slightly, 0.0, 1).worse);
        // What one measure alone is sure of may be chance among many.
        let unsure = rows(1500, |_, r| [hit(r, 0.8), hit(r, 0.755)]);
        let [alone, among] = [1, 50].map(|measures| judge("x", "accuracy", &unsure, 0.01, measures));
        assert!(alone.worse && !among.worse && alone.share_worse < 0.999, "{alone:?}");
    }

    #[test]
    fn customers_are_resampled_whole() {
        // One customer with most rows decides the mean, and its absence from a resample widens the interval.
        let mut lopsided = rows(60, |_, _| [1.0, 1.0]);
        lopsided.extend((0..200).map(|_| (99, [1.0, 0.0])));
        let judged = judge("x", "accuracy", &lopsided, 0.01, 1);
        assert_eq!((judged.customers, judged.n), (21, 260));
        assert!(judged.interval[1] > -1e-9 && !judged.worse, "{judged:?}");
    }
}
