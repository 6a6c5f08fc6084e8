//! Fits what [`super::baselines`] and [`super::death`] hold, by maximum likelihood (Nelder–Mead over logarithms of the parameters).

use std::collections::BTreeMap;

use argmin::core::{CostFunction, Error, Executor};
use argmin::solver::neldermead::NelderMead;

use super::baselines::{Baselines, PerVisit, Recency};
use super::death::{BuyTillDeath, ParetoNbd};
use super::snapshots::Snapshot;
use super::timeline::Timeline;
use crate::features::Visits;
use crate::interaction::Timestamp;
use crate::model::BgNbd;

struct Cost<F>(F);

impl<F: Fn(&[f64]) -> f64> CostFunction for Cost<F> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, p: &Vec<f64>) -> Result<f64, Error> {
        let cost = (self.0)(p);
        Ok(if cost.is_finite() { cost } else { f64::MAX })
    }
}

/// The parameters of least cost found from `start` on; `None` where the search fails.
fn minimise(start: &[f64], cost: impl Fn(&[f64]) -> f64) -> Option<Vec<f64>> {
    let corner = |i: usize| start.iter().enumerate().map(|(j, x)| x + if i == j + 1 { 0.5 } else { 0.0 }).collect();
    let simplex: Vec<Vec<f64>> = (0..=start.len()).map(corner).collect();
    let solver = NelderMead::new(simplex).with_sd_tolerance(1e-9).ok()?;
    let result = Executor::new(Cost(cost), solver).configure(|s| s.max_iters(500)).run().ok()?;
    let state = result.state();
    state.best_param.clone().filter(|_| state.best_cost < f64::MAX)
}

/// Fewest customers that a model of visits is fitted on.
const FEWEST: usize = 50;
/// Most different histories that count in a fit.
const MOST: usize = 4000;

/// Equal histories once, with their number; an even share of them where there are very many.
fn histories(visits: &[Visits]) -> Option<Vec<(Visits, f64)>> {
    if visits.len() < FEWEST {
        return None;
    }
    let mut counts: BTreeMap<[u64; 3], f64> = BTreeMap::new();
    for v in visits {
        *counts.entry([v.repeats.to_bits(), v.last.to_bits(), v.age.to_bits()]).or_default() += 1.0;
    }
    let step = counts.len().div_ceil(MOST);
    let kept = counts.into_iter().step_by(step);
    let visits = |k: [u64; 3]| Visits { repeats: f64::from_bits(k[0]), last: f64::from_bits(k[1]), age: f64::from_bits(k[2]) };
    Some(kept.map(|(key, n)| (visits(key), n)).collect())
}

fn fit<M: BuyTillDeath>(visits: &[Visits], make: impl Fn(&[f64]) -> M) -> Option<M> {
    let histories = histories(visits)?;
    let n: f64 = histories.iter().map(|h| h.1).sum();
    let best = minimise(&[0.0; 4], |p| {
        // Without bounds a flat likelihood would lead beyond what floating point holds.
        if p.iter().any(|x| x.abs() > 12.0) {
            return f64::MAX;
        }
        let model = make(p);
        -histories.iter().map(|(v, n)| n * model.ln_likelihood(v)).sum::<f64>() / n
    })?;
    Some(make(&best))
}

/// See [`BgNbd`].
pub fn bgnbd(visits: &[Visits]) -> Option<BgNbd> {
    fit(visits, |p| BgNbd { r: p[0].exp(), alpha: p[1].exp(), a: p[2].exp(), b: p[3].exp() })
}

/// See [`ParetoNbd`].
pub fn paretonbd(visits: &[Visits]) -> Option<ParetoNbd> {
    fit(visits, |p| ParetoNbd { r: p[0].exp(), alpha: p[1].exp(), s: p[2].exp(), beta: p[3].exp() })
}

fn recency(snapshots: &[Snapshot]) -> Option<Recency> {
    let returned = snapshots.iter().filter(|s| s.outcome.returned).count();
    if returned == 0 || returned == snapshots.len() {
        return None;
    }
    let step = snapshots.len().div_ceil(20_000);
    let rows: Vec<(f64, f64, bool)> =
        snapshots.iter().step_by(step).map(|s| (f64::from(s.recency), f64::from(s.days), s.outcome.returned)).collect();
    let make = |p: &[f64]| Recency { intercept: p[0], recency: p[1], horizon: p[2] };
    let best = minimise(&[0.0; 3], |p| {
        let model = make(p);
        let loss = |(since, ahead, returned): &(f64, f64, bool)| {
            let p = model.returns(*since, *ahead);
            -if *returned { p } else { 1.0 - p }.max(1e-12).ln()
        };
        rows.iter().map(loss).sum::<f64>() / rows.len() as f64
    })?;
    Some(make(&best))
}

/// Fits all baselines on what these customers did before `end`. `snapshots` (at any time, with any horizon) are for recency and the order of categories.
pub fn fit_all(timelines: &[&Timeline<'_>], end: Timestamp, snapshots: &[Snapshot], categories: &[String]) -> Baselines {
    let visits: Vec<Visits> = timelines.iter().filter_map(|t| t.visits(t.before(end), end)).collect();
    let days: f64 = visits.iter().map(|v| v.repeats + 1.0).sum();
    let bought = timelines.iter().map(|t| t.outcome(0, end));
    let (purchases, amount) = bought.fold((0.0, 0.0), |(n, a), o| (n + f64::from(o.purchases), a + o.amount));
    let days_bought: u32 = timelines.iter().map(|t| t.purchase_days(0, end)).sum();
    let mut order: Vec<(usize, usize)> = (0..categories.len()).map(|i| (i, 0)).collect();
    for number in snapshots.iter().filter_map(|s| s.need) {
        if let Some(count) = order.get_mut(number as usize) {
            count.1 += 1;
        }
    }
    order.sort_by_key(|(i, n)| (std::cmp::Reverse(*n), *i));
    Baselines {
        recency: recency(snapshots),
        bgnbd: bgnbd(&visits),
        paretonbd: paretonbd(&visits),
        per_visit: PerVisit { purchases: purchases / days.max(1.0), amount: amount / days.max(1.0) },
        purchases_per_day: (days_bought > 0).then(|| purchases / f64::from(days_bought)),
        most_frequent: order.iter().take(5).map(|(i, _)| categories[*i].clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::import::{Sink, cdnow};
    use crate::train::record::record;

    /// The published figures of the CDNOW sample: parameters and errors over the 39 weeks that follow.
    #[test]
    fn cdnow_gives_the_published_figures() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/cdnow/CDNOW_sample.txt");
        if !file.exists() {
            eprintln!("SKIPPED: {} is not there", file.display());
            return;
        }
        let dir = tempfile::tempdir().expect("temporary directory");
        let out = dir.path().join("cdnow.jsonl");
        import(&file, &out);
        let recording = record(&[out], &[]).expect("readable");
        let timelines: Vec<Timeline> = recording.customers.iter().map(Timeline::new).collect();
        let at = Timestamp::parse("1997-10-01T00:00:00Z").expect("a time");
        let end = Timestamp::parse("1998-07-01T00:00:00Z").expect("a time");
        let rows: Vec<(Visits, f64)> =
            timelines.iter().filter_map(|t| Some((t.visits(t.before(at), at)?, f64::from(t.visits_after(t.before(at), end))))).collect();
        assert_eq!(rows.len(), 2357);
        let visits: Vec<Visits> = rows.iter().map(|r| r.0).collect();
        let rmse = |model: &dyn BuyTillDeath| {
            (rows.iter().map(|(v, n)| (model.expected(v, 39.0) - n).powi(2)).sum::<f64>() / rows.len() as f64).sqrt()
        };
        let bg = bgnbd(&visits).expect("enough customers");
        for (found, published) in [(bg.r, 0.243), (bg.alpha, 4.414), (bg.a, 0.793), (bg.b, 2.426)] {
            assert!((found / published - 1.0).abs() < 5e-3, "{bg:?}");
        }
        assert!((rmse(&bg) - 1.608).abs() < 1e-3, "{}", rmse(&bg));
        let pareto = paretonbd(&visits).expect("enough customers");
        assert!((pareto.r - 0.553).abs() < 5e-3 && (pareto.s - 0.606).abs() < 5e-3, "{pareto:?}");
        assert!((rmse(&pareto) - 1.603).abs() < 1e-3, "{}", rmse(&pareto));
    }

    fn import(file: &Path, out: &Path) {
        let mut sink = Sink::create(Some(out), None).expect("a file");
        cdnow::import(file, &mut sink).expect("the published file");
        sink.finish().expect("written");
    }
}
