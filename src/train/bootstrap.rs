//! How sure a figure is: the bootstrap over customers (Efron and Tibshirani, 1993), and what chance alone does to a calibration error.
//!
//! Knows rows and numbers. A customer is drawn as a whole, since the interactions of one are not independent. Every resample has a seed of its own, so
//! the number of threads changes nothing.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::metrics::{Row, expected_calibration_error};

/// Resamples of a bootstrap.
pub const RESAMPLES: usize = 1000;
/// Rows × classes from which on the areas of a class task get no interval: each resample reads all of them.
const MOST_AREA: usize = 1_000_000;

/// From the 2.5th to the 97.5th percentile.
pub type Interval = [f64; 2];

/// Calls `statistic` with the number of times that each customer is drawn, [`RESAMPLES`] times, and returns an interval of each number that it returns.
/// A NaN, where a resample cannot have the figure, is left out.
pub fn intervals<F>(customers: usize, seed: u64, statistic: F) -> Vec<Interval>
where
    F: Fn(&[u32]) -> Vec<f64> + Sync,
{
    if customers == 0 {
        return Vec::new();
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let mut results: Vec<Vec<f64>> = vec![Vec::new(); RESAMPLES];
    std::thread::scope(|scope| {
        let share = RESAMPLES.div_ceil(threads);
        for (chunk, into) in results.chunks_mut(share).enumerate() {
            let statistic = &statistic;
            scope.spawn(move || {
                let mut weights = vec![0u32; customers];
                for (i, into) in into.iter_mut().enumerate() {
                    let mut rng = SmallRng::seed_from_u64(seed ^ ((chunk * share + i) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    weights.fill(0);
                    for _ in 0..customers {
                        weights[rng.random_range(0..customers)] += 1;
                    }
                    *into = statistic(&weights);
                }
            });
        }
    });
    let figures = results.first().map_or(0, Vec::len);
    (0..figures)
        .map(|figure| {
            let mut values: Vec<f64> = results.iter().map(|r| r[figure]).filter(|v| !v.is_nan()).collect();
            values.sort_by(f64::total_cmp);
            let at = |share: f64| values.get(((values.len() as f64 - 1.0) * share).round().max(0.0) as usize).copied().unwrap_or(f64::NAN);
            [at(0.025), at(0.975)]
        })
        .collect()
}

/// The rows of one task, set up so that its figures can be computed again and again under weights of customers.
pub struct Weighted {
    /// Customer, true and said class of each row.
    rows: Vec<(u32, u32, u32)>,
    /// Sum of losses and their number, by customer.
    losses: Vec<(f64, f64)>,
    /// Hits and rows, by customer.
    hits: Vec<(f64, f64)>,
    /// Per class that an area is asked of: (customer, score, event), highest score first.
    areas: Vec<Vec<(u32, f32, bool)>>,
    /// (customer, probability, event), lowest first.
    events: Vec<(u32, f32, bool)>,
    classes: usize,
}

/// Figures of [`Weighted::figures`], in order.
pub const FIGURES: [&str; 5] = ["accuracy", "macro_f1", "log_loss", "ece", "auroc"];

impl Weighted {
    /// `customers[i]` (numbered without gaps from 0 to below `count`) is the customer of `rows[i]`. `event`: the class whose area is asked for, else the
    /// mean over all classes.
    pub fn new(rows: &[&Row], customers: &[u32], count: usize, event: Option<usize>) -> Self {
        let (mut losses, mut hits) = (vec![(0.0, 0.0); count], vec![(0.0, 0.0); count]);
        let width = rows.first().map_or(0, |r| r.p.len());
        for (row, &c) in rows.iter().zip(customers) {
            let (l, h) = (&mut losses[c as usize], &mut hits[c as usize]);
            if let Some(loss) = row.loss() {
                *l = (l.0 + loss, l.1 + 1.0);
            }
            *h = (h.0 + f64::from(u8::from(row.label == row.predicted)), h.1 + 1.0);
        }
        let asked: Vec<usize> = match event {
            Some(event) => vec![event],
            None if rows.len() * width <= MOST_AREA => (0..width).collect(),
            None => vec![],
        };
        let area = |class: usize| {
            let mut sorted: Vec<_> = rows.iter().zip(customers).map(|(r, &c)| (c, r.p[class], r.label == class)).collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
            sorted
        };
        let mut events: Vec<_> = rows.iter().zip(customers).map(|(r, &c)| (c, r.event.0, r.event.1)).collect();
        events.sort_by(|a, b| a.1.total_cmp(&b.1));
        Self {
            rows: rows.iter().zip(customers).map(|(r, &c)| (c, r.label as u32, r.predicted as u32)).collect(),
            losses,
            hits,
            areas: asked.into_iter().map(area).collect(),
            events,
            classes: rows.iter().map(|r| r.label.max(r.predicted) + 1).max().unwrap_or(0),
        }
    }

    /// The [`FIGURES`] under these weights; NaN where there is none.
    pub fn figures(&self, weights: &[u32]) -> [f64; 5] {
        let ratio = |sums: &[(f64, f64)]| {
            let (a, b) = sums.iter().zip(weights).fold((0.0, 0.0), |t, (s, w)| (t.0 + s.0 * f64::from(*w), t.1 + s.1 * f64::from(*w)));
            a / b
        };
        [ratio(&self.hits), self.macro_f1(weights), ratio(&self.losses), self.ece(weights), self.auroc(weights)]
    }

    fn macro_f1(&self, weights: &[u32]) -> f64 {
        let mut counts = vec![[0u64; 3]; self.classes];
        for &(c, label, predicted) in &self.rows {
            let w = u64::from(weights[c as usize]);
            counts[label as usize][0] += w;
            counts[predicted as usize][1] += w;
            if label == predicted {
                counts[label as usize][2] += w;
            }
        }
        let present = || counts.iter().filter(|c| c[0] > 0);
        present().map(|c| 2.0 * c[2] as f64 / (c[0] + c[1]) as f64).sum::<f64>() / present().count() as f64
    }

    fn ece(&self, weights: &[u32]) -> f64 {
        let weight = |c: u32| u64::from(weights[c as usize]);
        let total: u64 = self.events.iter().map(|e| weight(e.0)).sum();
        let mut sums = [(0.0f64, 0.0f64); 10];
        let mut before = 0;
        for &(c, p, event) in &self.events {
            let w = weight(c);
            if w > 0 {
                let sum = &mut sums[(before * 10 / total).min(9) as usize];
                sum.0 += f64::from(p) * w as f64;
                sum.1 += f64::from(u8::from(event)) * w as f64;
                before += w;
            }
        }
        sums.iter().map(|(p, e)| (p - e).abs()).sum::<f64>() / total as f64
    }

    fn auroc(&self, weights: &[u32]) -> f64 {
        let (mut sum, mut n) = (0.0, 0.0);
        for sorted in &self.areas {
            // Events ahead of each non-event, ties counting half.
            let (mut area, mut positives, mut negatives, mut at) = (0.0, 0.0, 0.0, 0);
            while at < sorted.len() {
                let (score, mut hits, mut misses) = (sorted[at].1, 0.0, 0.0);
                // What is no number equals nothing, itself included.
                while at < sorted.len() && (sorted[at].1 == score || sorted[at].1.is_nan()) {
                    let w = f64::from(weights[sorted[at].0 as usize]);
                    *(if sorted[at].2 { &mut hits } else { &mut misses }) += w;
                    at += 1;
                }
                area += misses * (positives + 0.5 * hits);
                positives += hits;
                negatives += misses;
            }
            if positives > 0.0 && negatives > 0.0 {
                sum += area / (positives * negatives);
                n += 1.0;
            }
        }
        sum / n
    }
}

/// Sums over the rows of each customer, for figures that follow from sums alone.
pub struct Sums<const N: usize>(Vec<[f64; N]>);

impl<const N: usize> Sums<N> {
    /// `customers[i]` (numbered without gaps from 0 to below `count`) is the customer of `rows[i]`.
    pub fn new(customers: &[u32], count: usize, rows: &[[f64; N]]) -> Self {
        let mut sums = vec![[0.0; N]; count];
        for (customer, row) in customers.iter().zip(rows) {
            sums[*customer as usize].iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        Self(sums)
    }

    /// The sums over all rows where the customers count with these weights.
    pub fn under(&self, weights: &[u32]) -> [f64; N] {
        let mut all = [0.0; N];
        for (sums, weight) in self.0.iter().zip(weights).filter(|(_, weight)| **weight > 0) {
            all.iter_mut().zip(sums).for_each(|(all, x)| *all += f64::from(*weight) * x);
        }
        all
    }
}

/// The 95th percentile of the calibration error that a perfectly calibrated model shows where it says these probabilities: what happens is drawn from
/// them, [`RESAMPLES`] times. `(probability, group)`: outcomes of one group are drawn together, since looks at one customer within the same span
/// see nearly the same outcome; `None` stands alone.
pub fn calibration_limit(said: &[(f64, Option<u32>)], seed: u64) -> f64 {
    let mut said = said.to_vec();
    said.sort_by(|a, b| a.0.total_cmp(&b.0));
    let groups = said.iter().filter_map(|s| s.1).max().map_or(0, |g| g as usize + 1);
    let mut errors: Vec<f64> = (0..RESAMPLES as u64)
        .map(|i| {
            let mut rng = SmallRng::seed_from_u64(seed ^ i.wrapping_mul(0x2545_f491_4f6c_dd1d));
            let shared: Vec<f64> = (0..groups).map(|_| rng.random()).collect();
            let mut happens = |p: f64, group: Option<u32>| group.map_or_else(|| rng.random(), |g| shared[g as usize]) < p;
            let drawn: Vec<(f64, bool)> = said.iter().map(|(p, group)| (*p, happens(*p, *group))).collect();
            expected_calibration_error(&drawn, 10)
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    errors[RESAMPLES * 95 / 100 - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::metrics::{auroc, auroc_of_classes, judge};

    fn rows(n: usize) -> Vec<Row> {
        let mut rng = SmallRng::seed_from_u64(5);
        let row = |_| {
            let mut p = [rng.random::<f32>(), rng.random(), rng.random()];
            let sum: f32 = p.iter().sum();
            p.iter_mut().for_each(|x| *x /= sum);
            let u: f32 = rng.random();
            Row::new(&p, if u < p[0] { 0 } else { 1 + usize::from(u > p[0] + p[1]) }, Some(0))
        };
        (0..n).map(row).collect()
    }

    #[test]
    fn weights_count_as_repeated_rows() {
        let rows = rows(600);
        let all: Vec<&Row> = rows.iter().collect();
        let customers: Vec<u32> = (0..600).map(|i| i / 3).collect();
        for event in [Some(0), None] {
            let weighted = Weighted::new(&all, &customers, 200, event);
            let check = |weights: &[u32]| {
                let repeated: Vec<Row> =
                    rows.iter().zip(&customers).flat_map(|(r, c)| vec![r.clone(); weights[*c as usize] as usize]).collect();
                let q = judge(&repeated);
                let events: Vec<_> = repeated.iter().map(|r| (f64::from(r.p[0]), r.label == 0)).collect();
                let area = if event.is_some() { auroc(&events) } else { auroc_of_classes(&repeated) };
                let expected = [q.accuracy, q.macro_f1, q.log_loss, q.ece, area.expect("both")];
                for ((name, a), b) in FIGURES.iter().zip(weighted.figures(weights)).zip(expected) {
                    // Rows of one probability may fall on either side of a bin's edge.
                    assert!((a - b).abs() < if *name == "ece" { 2e-2 } else { 1e-9 }, "{name}: {a} against {b}");
                }
            };
            check(&[1; 200]);
            check(&(0..200).map(|i| i % 3).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn sums_count_a_customer_as_often_as_it_is_drawn() {
        let sums = Sums::new(&[0, 1, 0, 2], 3, &[[1.0, 5.0], [1.0, 7.0], [1.0, 11.0], [1.0, 0.5]]);
        assert_eq!([sums.under(&[1, 1, 1]), sums.under(&[2, 0, 1]), sums.under(&[0, 0, 0])], [[4.0, 23.5], [5.0, 32.5], [0.0, 0.0]]);
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_theory() {
        // 400 customers of one row each, half of them hits: standard error .5 / √400 = .025.
        let rows: Vec<Row> = (0..400).map(|i| Row::new(&[0.6, 0.4], i % 2, None)).collect();
        let all: Vec<&Row> = rows.iter().collect();
        let weighted = Weighted::new(&all, &(0..400).collect::<Vec<u32>>(), 400, None);
        let found = intervals(400, 1, |w| weighted.figures(w).to_vec())[0];
        assert!((found[0] - 0.451).abs() < 0.01 && (found[1] - 0.549).abs() < 0.01, "{found:?}");
        assert_eq!(intervals(400, 1, |w| weighted.figures(w).to_vec())[0], found);
        // Rows of one customer that agree are worth no more than one row: 40 customers, .5 / √40 = .079.
        let weighted = Weighted::new(&all, &(0..400).map(|i| (i / 20) * 2 + i % 2).collect::<Vec<u32>>(), 40, None);
        let found = intervals(40, 1, |w| weighted.figures(w).to_vec())[0];
        assert!(found[1] - found[0] > 0.25, "{found:?}");
    }

    #[test]
    fn a_calibrated_model_stays_below_the_limit_nineteen_times_of_twenty() {
        let rows = rows(500);
        let said: Vec<f64> = rows.iter().map(|r| f64::from(r.p[0])).collect();
        let alone = |said: &[f64]| said.iter().map(|p| (*p, None)).collect::<Vec<_>>();
        let limit = calibration_limit(&alone(&said), 9);
        let mut rng = SmallRng::seed_from_u64(77);
        let below = (0..400).filter(|_| {
            let drawn: Vec<_> = said.iter().map(|p| (*p, rng.random::<f64>() < *p)).collect();
            expected_calibration_error(&drawn, 10) <= limit
        });
        let share = below.count() as f64 / 400.0;
        assert!((share - 0.95).abs() < 0.04, "{share}");
        // More rows, less chance.
        assert!(calibration_limit(&alone(&said.repeat(10)), 9) < 0.5 * limit);
        // Ten looks at the same customers are no more rows than one.
        let looks: Vec<_> = (0..5000u32).map(|i| (said[i as usize % 500], Some(i % 500))).collect();
        assert!((calibration_limit(&looks, 9) - limit).abs() < 0.2 * limit);
    }
}
