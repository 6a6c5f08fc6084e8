//! Champion against challenger on the same labelled interactions: both score them with the engine of `serve`, from empty state, and the differences
//! are resampled by customer.
//!
//! Knows scores and labels; no registry.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::record::{Customer, Labels, read_batches, record};
use super::satisfaction_class;
use crate::alert::Policies;
use crate::customer::words;
use crate::engine::{ClassScore, Engine, EngineConfig, Outcome, Score, States};
use crate::interaction::{Actor, SATISFACTION, Timestamp};
use crate::model::{Manifest, Model};

/// Resamples of the customers.
const RESAMPLES: usize = 1000;
/// A challenger is worse where at least this share of the resamples says so.
const SURE: f64 = 0.95;

/// One head by one measure. All measures are 1 at best, and differences are in parts of 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    pub head: String,
    /// `accuracy`; `quadratic`: 1 − half the squared distance of the probabilities from what came true; `closeness`: 1 − mean |error| over
    /// the root mean square of what came true.
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

/// What a comparison says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub margin: f64,
    /// Event times of the first and last interaction, and their number.
    pub from: String,
    pub to: String,
    pub interactions: usize,
    pub judged: Vec<Judged>,
    /// Heads of both for which the data has no label.
    pub not_judged: Vec<String>,
}

/// Everything that a bundle says of a customer, by the names that scores have.
pub fn heads(manifest: &Manifest) -> Vec<String> {
    let mut heads: Vec<String> = manifest.satisfaction.iter().map(|_| SATISFACTION.to_owned()).collect();
    heads.extend(manifest.classes.keys().cloned());
    if let Some(future) = &manifest.future {
        let there = [("churn", future.churn.is_some()), ("spend", future.spend.is_some()), ("next_need", future.next_need.is_some())];
        heads.extend(there.into_iter().filter(|(_, there)| *there).map(|(name, _)| name.to_owned()));
    }
    heads
}

/// Scores `interactions` with both models and compares them. What lies before `since` is history: it is scored and not judged.
///
/// # Errors
/// Files that cannot be read, labels that are none, no valid interaction to judge; a model that fails.
pub fn compare(
    [champion, challenger]: [&Arc<Model>; 2],
    config: EngineConfig,
    interactions: &[PathBuf],
    labels: &[PathBuf],
    since: Option<Timestamp>,
    margin: f64,
    mut progress: impl FnMut(usize, usize),
) -> anyhow::Result<Comparison> {
    let recording = record(interactions, labels)?;
    let judged = |at: Timestamp| since.is_none_or(|since| at >= since);
    let times = || recording.customers.iter().flat_map(|c| &c.items).map(|i| i.occurred_at).filter(|at| judged(*at));
    let (Some(from), Some(to)) = (times().min(), times().max()) else {
        let since = since.map_or(String::new(), |t| format!(" from {t} on"));
        return Err(crate::cli::usage(format!("--interactions: there is no valid interaction{since}")));
    };
    let given = times().count();
    let total = recording.counts.interactions;
    let horizons = horizons(&recording.customers);
    let places: HashMap<&str, (usize, usize)> = recording
        .customers
        .iter()
        .enumerate()
        .flat_map(|(c, customer)| customer.items.iter().enumerate().map(move |(i, item)| (&*item.id, (c, i))))
        .collect();

    let silent = Arc::new(Policies { all: Vec::new() });
    let mut engines = [Engine::new(champion.clone(), silent.clone(), config)?, Engine::new(challenger.clone(), silent, config)?];
    let mut states = [States::new(), States::new()];
    let mut rows = Rows::default();
    let mut done = 0;
    read_batches(interactions, None, |batch| {
        let mut scored = Vec::new();
        for (engine, states) in engines.iter_mut().zip(&mut states) {
            scored.push(engine.apply(batch, states, Timestamp(0))?.outcomes);
        }
        let theirs = scored.pop().unwrap_or_default();
        for pair in scored.pop().unwrap_or_default().into_iter().zip(theirs) {
            let (Outcome::Scored(a), Outcome::Scored(b)) = pair else { continue };
            let Some(&(c, i)) = a.interaction_id.as_deref().and_then(|id| places.get(id)) else { continue };
            let customer = &recording.customers[c];
            if !judged(a.occurred_at) {
                continue;
            }
            rows.labelled(c, &customer.labels[i], [&a, &b]);
            rows.future(c, &horizons[c], a.occurred_at, to, [&a, &b]);
        }
        done += batch.len();
        progress(done, total);
        Ok(())
    })?;

    rows.scale_spend();
    let judged: Vec<Judged> = rows.by_measure.iter().map(|((head, measure), rows)| judge(head, measure, rows, margin)).collect();
    let theirs = heads(&challenger.manifest);
    let both = heads(&champion.manifest).into_iter().filter(|h| theirs.contains(h));
    let not_judged = both.filter(|h| judged.iter().all(|j| j.head != *h)).collect();
    Ok(Comparison { margin, from: from.to_string(), to: to.to_string(), interactions: given, judged, not_judged })
}

/// Of one customer, in order of time: when the customer acted, purchased, and which categories came.
#[derive(Default)]
struct Horizon {
    acted: Vec<Timestamp>,
    purchased: Vec<Timestamp>,
    categories: Vec<(Timestamp, u32)>,
}

fn horizons(customers: &[Customer]) -> Vec<Horizon> {
    let purchase = words::hash("purchase");
    let of = |customer: &Customer| {
        let mut horizon = Horizon::default();
        for item in &customer.items {
            if item.actor == Actor::Customer {
                horizon.acted.push(item.occurred_at);
            }
            if item.kind == purchase {
                horizon.purchased.push(item.occurred_at);
            }
            if item.category != 0 {
                horizon.categories.push((item.occurred_at, item.category));
            }
        }
        horizon.acted.sort_unstable();
        horizon.purchased.sort_unstable();
        horizon.categories.sort_by_key(|(at, _)| *at);
        horizon
    };
    customers.iter().map(of).collect()
}

/// How many of the sorted `times` lie in (after, until].
fn within(times: &[Timestamp], after: Timestamp, until: Timestamp) -> usize {
    times.partition_point(|t| *t <= until) - times.partition_point(|t| *t <= after)
}

/// Customer, and how well champion and challenger did.
type Row = (u32, [f32; 2]);

#[derive(Default)]
struct Rows {
    by_measure: BTreeMap<(String, &'static str), Vec<Row>>,
    /// Purchases that came true, beside the rows of `spend`.
    purchases: Vec<f32>,
}

impl Rows {
    fn add(&mut self, head: &str, measure: &'static str, customer: usize, values: [f32; 2]) {
        self.by_measure.entry((head.to_owned(), measure)).or_default().push((customer as u32, values));
    }

    fn labelled(&mut self, customer: usize, labels: &Labels, scores: [&Score; 2]) {
        if let (Some(mean), [Some(a), Some(b)]) = (labels.satisfaction, scores.map(|s| s.satisfaction)) {
            let class = satisfaction_class(mean);
            let p = [a, b].map(|s| [s.dissatisfied, s.neutral, s.satisfied]);
            let right = p.map(|p| f32::from(super::metrics::argmax(&p) == class));
            let distance = p.map(|p| (0..p.len()).map(|i| (p[i] - f32::from(i == class)).powi(2)).sum::<f32>());
            self.add(SATISFACTION, "accuracy", customer, right);
            self.add(SATISFACTION, "quadratic", customer, distance.map(|d| 1.0 - d / 2.0));
        }
        for (task, label) in &labels.classes {
            self.class(customer, task, |named| named == &**label, scores);
        }
    }

    /// A label that a score does not name has no probability; a score that says "unknown" names none.
    fn class(&mut self, customer: usize, task: &str, is_label: impl Fn(&str) -> bool, scores: [&Score; 2]) {
        let mut values = [[0.0; 2]; 2];
        for (n, score) in scores.into_iter().enumerate() {
            let find = |name: &str| score.classes.iter().find(|(task, _)| task.as_str() == name).map(|(_, s)| s);
            let Some(ClassScore::Top(top)) = find(task) else { return };
            let unknown = matches!(find(&format!("{task}_unknown")), Some(ClassScore::Unknown(true)));
            let right = !unknown && top.first().is_some_and(|t| is_label(t.label.as_str()));
            let mut distance: f32 = top.iter().map(|t| (t.probability - f32::from(is_label(t.label.as_str()))).powi(2)).sum();
            if !top.iter().any(|t| is_label(t.label.as_str())) {
                distance += 1.0;
            }
            values[0][n] = f32::from(right);
            values[1][n] = 1.0 - distance / 2.0;
        }
        self.add(task, "accuracy", customer, values[0]);
        self.add(task, "quadratic", customer, values[1]);
    }

    /// What came true within the horizon, where the data reaches that far.
    fn future(&mut self, customer: usize, horizon: &Horizon, at: Timestamp, end: Timestamp, scores: [&Score; 2]) {
        let until = |days: u32| Some(Timestamp(at.0 + i64::from(days) * Timestamp::MICROS_PER_DAY)).filter(|until| *until <= end);
        let [a, b] = scores;
        if let (Some(x), Some(y)) = (a.churn, b.churn)
            && x.horizon_days == y.horizon_days
            && let Some(until) = until(x.horizon_days)
        {
            let churned = within(&horizon.acted, at, until) == 0;
            let p = [x.probability, y.probability];
            self.add("churn", "accuracy", customer, p.map(|p| f32::from((p >= 0.5) == churned)));
            self.add("churn", "quadratic", customer, p.map(|p| 1.0 - (p - f32::from(churned)).powi(2)));
        }
        if let (Some(x), Some(y)) = (a.spend, b.spend)
            && x.horizon_days == y.horizon_days
            && let Some(until) = until(x.horizon_days)
        {
            let purchases = within(&horizon.purchased, at, until) as f32;
            self.add("spend", "closeness", customer, [x.purchases, y.purchases].map(|said| (said - purchases).abs()));
            self.purchases.push(purchases);
        }
        let next = horizon.categories.partition_point(|(t, _)| *t <= at);
        if let Some((_, category)) = horizon.categories.get(next) {
            self.class(customer, "next_need", |named| words::hash(named) == *category, scores);
        }
    }

    /// From absolute errors to parts of 1.
    fn scale_spend(&mut self) {
        let squares: f64 = self.purchases.iter().map(|p| f64::from(*p).powi(2)).sum();
        let scale = (squares / self.purchases.len().max(1) as f64).sqrt().max(1e-9) as f32;
        for (_, values) in self.by_measure.iter_mut().filter(|((head, _), _)| head == "spend").flat_map(|(_, rows)| rows) {
            *values = values.map(|error| 1.0 - error / scale);
        }
    }
}

/// Paired bootstrap over customers.
fn judge(head: &str, measure: &'static str, rows: &[Row], margin: f64) -> Judged {
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
        worse: share_worse >= SURE,
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
        let equal = judge("x", "accuracy", &rows(1500, |_, r| [hit(r, 0.8), hit(r, 0.8)]), 0.01);
        assert!(!equal.worse && equal.interval[0] < 0.0 && equal.interval[1] > 0.0, "{equal:?}");
        let worse = judge("x", "accuracy", &rows(1500, |_, r| [hit(r, 0.8), hit(r, 0.7)]), 0.01);
        assert!(worse.worse && worse.share_worse > 0.99 && (worse.difference + 0.1).abs() < 0.04, "{worse:?}");
        let better = judge("x", "accuracy", &rows(1500, |_, r| [hit(r, 0.7), hit(r, 0.8)]), 0.01);
        assert!(!better.worse && better.share_worse == 0.0, "{better:?}");
        // Within the margin.
        let slightly = rows(3000, |i, _| [0.5, if i % 200 == 0 { 0.0 } else { 0.5 }]);
        assert!(!judge("x", "quadratic", &slightly, 0.01).worse);
        assert!(judge("x", "quadratic", &slightly, 0.0).worse);
    }

    #[test]
    fn customers_are_resampled_whole() {
        // One customer with most rows decides the mean, and its absence from a resample widens the interval.
        let mut lopsided = rows(60, |_, _| [1.0, 1.0]);
        lopsided.extend((0..200).map(|_| (99, [1.0, 0.0])));
        let judged = judge("x", "accuracy", &lopsided, 0.01);
        assert_eq!((judged.customers, judged.n), (21, 260));
        assert!(judged.interval[1] > -1e-9 && !judged.worse, "{judged:?}");
    }

    #[test]
    fn a_horizon_is_open_at_its_start_and_closed_at_its_end() {
        let times = [1, 5, 5, 9].map(Timestamp);
        assert_eq!(within(&times, Timestamp(1), Timestamp(5)), 2);
        assert_eq!(within(&times, Timestamp(5), Timestamp(8)), 0);
        assert_eq!(within(&times, Timestamp(0), Timestamp(9)), 4);
    }
}
