//! How good churn, spend and next need are as of a time, beside their baselines on the same customers.
//!
//! Labels come from the interactions at and after that time, which nothing that is judged has seen. Knows scores and labels; no network.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Serialize;

use super::baselines::{Baselines, FILE};
use super::end_of_data;
use super::timeline::{Outcome, Timeline};
use crate::customer::{CustomerState, words};
use crate::engine::{Ahead, ClassScore, Engine, Forecast, Spend, States, forecast_of};
use crate::features::{Past, Visits, past};
use crate::interaction::Timestamp;
use crate::model::{CHURN, Model, TabularRunner};
use crate::train::bootstrap::{FIGURES, Interval, Weighted, calibration_limit, intervals};
use crate::train::metrics::{Bin, expected_calibration_error, reliability, roc};
use crate::train::record::Recording;
use crate::train::tabular::TABULAR;

/// One customer as of a time: what was said, and what came.
#[derive(Debug, Clone)]
pub struct Row {
    /// Number of the customer.
    pub customer: usize,
    pub ahead: Ahead,
    pub outcome: Outcome,
    /// What the horizon's length before that time had seen.
    pub before: Outcome,
    pub past: Past,
    /// Days since the customer's own last interaction.
    pub recency: f64,
    pub visits: Option<Visits>,
    /// What the bundle's dense network says of churn.
    pub tabular: Option<f64>,
}

/// Quality of the tasks of the future; a task without labels or without a head is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FutureReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<ChurnReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spend: Option<SpendReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_need: Option<NeedReport>,
}

impl FutureReport {
    /// By task, as a manifest holds it.
    ///
    /// # Errors
    /// None with these types.
    pub fn metrics(&self) -> serde_json::Result<serde_json::Map<String, serde_json::Value>> {
        let serde_json::Value::Object(tasks) = serde_json::to_value(self)? else { return Ok(serde_json::Map::new()) };
        let figures = |(task, mut quality): (String, serde_json::Value)| {
            // Curves are for reports.
            quality.as_object_mut().map(|q| q.remove("curves"));
            (task, serde_json::json!({ "held_out": quality }))
        };
        Ok(tasks.into_iter().map(figures).collect())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChurnReport {
    pub n: usize,
    pub horizon_days: u32,
    /// Share of the customers who did not come back, and its mean prediction.
    pub share: f64,
    pub predicted: f64,
    #[serde(flatten)]
    pub quality: ChurnQuality,
    pub baselines: BTreeMap<&'static str, ChurnQuality>,
    pub curves: Curves,
}

/// How sure the figures of churn are, and what they come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curves {
    /// What the calibration error may be: the 95th percentile of a perfectly calibrated model's over looks at as many customers.
    pub ece_limit: f64,
    /// 95 % intervals over customers.
    pub intervals: BTreeMap<&'static str, Interval>,
    /// Intervals of network − baseline, for the same customers.
    pub differences: BTreeMap<&'static str, BTreeMap<&'static str, Interval>>,
    pub reliability: Vec<Bin>,
    pub roc: Vec<[f64; 2]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChurnQuality {
    pub auroc: f64,
    pub log_loss: f64,
    pub ece: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpendReport {
    pub n: usize,
    pub horizon_days: u32,
    #[serde(flatten)]
    pub quality: SpendQuality,
    /// Sums expected with their 80 % intervals.
    pub expected: Forecast,
    pub actual: Sums,
    /// Sums of the same customers over as many days before.
    pub last_period: Sums,
    pub baselines: BTreeMap<&'static str, SpendQuality>,
}

impl SpendReport {
    /// Where the rows are of several times: makes the sums those of one time, on average.
    pub fn per_time(&mut self, times: usize) {
        let n = times.max(1) as f64;
        let Forecast { purchases, amount } = &mut self.expected;
        for total in [purchases, amount] {
            (total.expected, total.low, total.high) = (total.expected / n, total.low / n, total.high / n);
        }
        for sums in [&mut self.actual, &mut self.last_period] {
            (sums.purchases, sums.amount) = (sums.purchases / n, sums.amount / n);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sums {
    pub purchases: f64,
    pub amount: f64,
}

/// Biases are predicted / actual − 1 of the sums; absent where nothing was bought.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SpendQuality {
    pub rmse_purchases: f64,
    pub rmse_amount: f64,
    pub bias_purchases: Option<f64>,
    pub bias_amount: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeedReport {
    pub n: usize,
    #[serde(flatten)]
    pub quality: NeedQuality,
    pub baselines: BTreeMap<&'static str, NeedQuality>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NeedQuality {
    pub recall_at_5: f64,
    pub accuracy: f64,
}

/// Judges what the engine says of every customer of `states`, which must be those as of `at`. `recording` is of all interactions.
///
/// # Errors
/// A baseline that is damaged; a horizon that passes the end of the data.
pub fn judge(engine: &mut Engine, states: &States, recording: &Recording, at: Timestamp) -> anyhow::Result<FutureReport> {
    let Some(days) = engine.horizon_days() else { return Ok(FutureReport::default()) };
    let span = i64::from(days) * Timestamp::MICROS_PER_DAY;
    let until = Timestamp(at.0 + span);
    if let Some(end) = end_of_data(recording).filter(|end| *end < until) {
        let what = format!("{days} days from {at} pass the end of the data ({end}): churn, spend and next need have no labels");
        return Err(crate::cli::usage(what));
    }
    let baselines = read_baselines(engine.model())?;
    let timelines: Vec<Timeline> = recording.customers.iter().map(Timeline::new).filter(|t| t.before(at) > 0).collect();
    let empty = CustomerState::default();
    let known: Vec<(&CustomerState, Timestamp)> = timelines.iter().map(|t| (states.get(t.id).unwrap_or(&empty), at)).collect();
    let ahead = engine.ahead(&known)?;
    let mut rows: Vec<Row> = timelines
        .iter()
        .zip(&known)
        .zip(ahead)
        .enumerate()
        .map(|(customer, ((timeline, (state, _)), ahead))| {
            let upto = timeline.before(at);
            Row {
                customer,
                ahead,
                outcome: timeline.outcome(upto, until),
                before: timeline.outcome(timeline.before(Timestamp(at.0 - span)), at),
                past: past(&state.now, at),
                recency: at.days_since(state.now.last_by_customer.max(state.now.first)),
                visits: timeline.visits(upto, at),
                tabular: None,
            }
        })
        .collect();
    for (row, p) in rows.iter_mut().zip(tabular(engine.model(), &known, days)?) {
        row.tabular = Some(p);
    }
    let head = engine.model().manifest.future.as_ref().and_then(|f| f.spend);
    let forecast = head.map(|head| forecast_of(&head, rows.iter().filter_map(|r| r.ahead.spend)));
    Ok(report(&rows, &baselines, days, forecast))
}

/// The dense network's churn over the horizon that it was fitted for; nothing over another.
fn tabular(model: &Model, known: &[(&CustomerState, Timestamp)], days: u32) -> anyhow::Result<Vec<f64>> {
    let Some(dense) = model.tabular.as_ref().filter(|_| days == model.manifest.training.horizon_days) else { return Ok(Vec::new()) };
    let last = |state: &CustomerState| state.window.back().map_or((0, 0), |item| (item.kind, item.channel));
    let input = |(state, at): &(&CustomerState, Timestamp)| dense.input.row(&state.now, last(state).0, last(state).1, *at);
    let said = TabularRunner::new(dense).and_then(|mut runner| runner.predict(CHURN, known.iter().map(input).collect()));
    Ok(said.map_err(anyhow::Error::msg)?.unwrap_or_default().into_iter().map(f64::from).collect())
}

fn read_baselines(model: &Model) -> anyhow::Result<Baselines> {
    if !model.manifest.files.contains_key(FILE) {
        return Ok(Baselines::default());
    }
    let path = model.dir().join(FILE);
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not of this version: train the bundle anew", path.display()))
}

/// The report of judged rows.
pub fn report(rows: &[Row], baselines: &Baselines, days: u32, forecast: Option<Forecast>) -> FutureReport {
    FutureReport {
        churn: churn(rows, baselines, days),
        spend: forecast.and_then(|f| spend(rows, baselines, days, f)),
        next_need: next_need(rows, baselines),
    }
}

fn churn(rows: &[Row], baselines: &Baselines, days: u32) -> Option<ChurnReport> {
    let own: Vec<(f64, bool)> = rows.iter().filter_map(|r| Some((f64::from(r.ahead.churn?.probability), !r.outcome.returned))).collect();
    if own.is_empty() {
        return None;
    }
    let n = own.len() as f64;
    let mut judged = BTreeMap::new();
    let mut all: Vec<(&'static str, Vec<(f64, bool)>)> = Vec::new();
    let mut add = |name, of: &dyn Fn(&Row) -> Option<f64>| {
        let events: Vec<(f64, bool)> = rows.iter().filter_map(|r| Some((of(r)?, !r.outcome.returned))).collect();
        judged.insert(name, churn_quality(&events));
        all.push((name, events));
    };
    if let Some(recency) = &baselines.recency {
        add("recency", &|r| Some(1.0 - recency.returns(r.recency, f64::from(days))));
    }
    if rows.iter().any(|r| r.tabular.is_some()) {
        add(TABULAR, &|r| r.tabular);
    }
    for (name, model) in baselines.models() {
        // Who has never come is nobody to these models: like a customer who came today.
        let today = Visits { repeats: 0.0, last: 0.0, age: 0.0 };
        add(name, &|r| Some(model.none(&r.visits.unwrap_or(today), f64::from(days) / 7.0)));
    }
    Some(ChurnReport {
        n: own.len(),
        horizon_days: days,
        share: own.iter().filter(|e| e.1).count() as f64 / n,
        predicted: own.iter().map(|e| e.0).sum::<f64>() / n,
        quality: churn_quality(&own),
        baselines: judged,
        curves: curves(rows, &own, &all),
    })
}

/// Seed of resamples: the same rows give the same intervals.
const SEED: u64 = 1;

fn curves(rows: &[Row], own: &[(f64, bool)], baselines: &[(&'static str, Vec<(f64, bool)>)]) -> Curves {
    // Two classes, the first of which is churn.
    let judged = |events: &[(f64, bool)]| -> Vec<crate::train::metrics::Row> {
        events.iter().map(|(p, gone)| crate::train::metrics::Row::new(&[*p as f32, 1.0 - *p as f32], usize::from(!gone), Some(0))).collect()
    };
    let mut numbers: BTreeMap<usize, u32> = BTreeMap::new();
    let churners = rows.iter().filter(|r| r.ahead.churn.is_some());
    let customers: Vec<u32> = churners
        .map(|r| {
            let next = numbers.len() as u32;
            *numbers.entry(r.customer).or_insert(next)
        })
        .collect();
    let weighted = |events: &[(f64, bool)]| {
        let rows = judged(events);
        Weighted::new(&rows.iter().collect::<Vec<_>>(), &customers, numbers.len(), Some(0))
    };
    let mine = weighted(own);
    // A baseline that does not speak of every row cannot be paired.
    let others: Vec<(&'static str, Weighted)> =
        baselines.iter().filter(|(_, events)| events.len() == own.len()).map(|(name, events)| (*name, weighted(events))).collect();
    let found = intervals(numbers.len(), SEED, |weights| {
        let mine = mine.figures(weights);
        let differences = others.iter().flat_map(|(_, o)| o.figures(weights).into_iter().zip(mine).map(|(theirs, mine)| mine - theirs));
        mine.into_iter().chain(differences.collect::<Vec<_>>()).collect()
    });
    let named = |intervals: &[Interval]| -> BTreeMap<&'static str, Interval> {
        let wanted = |(name, interval): &(&str, Interval)| matches!(*name, "auroc" | "log_loss") && interval.iter().all(|x| x.is_finite());
        FIGURES.into_iter().zip(intervals.iter().copied()).filter(wanted).collect()
    };
    let (first, rest) = found.split_at(FIGURES.len());
    Curves {
        // Several looks at one customer see much the same outcome.
        ece_limit: calibration_limit(&own.iter().zip(&customers).map(|(e, c)| (e.0, Some(*c))).collect::<Vec<_>>(), SEED),
        intervals: named(first),
        differences: others.iter().zip(rest.chunks(FIGURES.len())).map(|((name, _), i)| (*name, named(i))).collect(),
        reliability: reliability(own, 10),
        roc: roc(own, 200),
    }
}

fn churn_quality(events: &[(f64, bool)]) -> ChurnQuality {
    let loss = |(p, event): &(f64, bool)| -if *event { *p } else { 1.0 - p }.max(1e-15).ln();
    ChurnQuality {
        auroc: auroc(events),
        log_loss: events.iter().map(loss).sum::<f64>() / events.len().max(1) as f64,
        ece: expected_calibration_error(events, 10),
    }
}

/// Probability that an event had a higher score than what was none; ties count half. One half where there are not both.
pub fn auroc(events: &[(f64, bool)]) -> f64 {
    let mut sorted = events.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut sum, mut positives) = (0.0, 0.0, 0.0);
    for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
        let here = equal.iter().filter(|e| e.1).count() as f64;
        let not = equal.len() as f64 - here;
        sum += here * (below + 0.5 * not);
        below += not;
        positives += here;
    }
    if positives == 0.0 || below == 0.0 { 0.5 } else { sum / (positives * below) }
}

fn spend(rows: &[Row], baselines: &Baselines, days: u32, expected: Forecast) -> Option<SpendReport> {
    let own: Vec<(&Row, f64, f64)> = rows
        .iter()
        .filter_map(|r| r.ahead.spend.map(|Spend { purchases, amount, .. }| (r, f64::from(purchases), f64::from(amount))))
        .collect();
    let judged = baselines.models().into_iter().map(|(name, model)| {
        let all = own.iter().filter_map(|(r, ..)| {
            let visits = r.visits?;
            let expected = model.expected(&visits, f64::from(days) / 7.0);
            let (purchases, amount) = baselines.per_visit.of(expected, &visits, f64::from(r.past.purchases), f64::from(r.past.amount));
            Some((*r, purchases, amount))
        });
        (name, spend_quality(&all.collect::<Vec<_>>()))
    });
    let sums = |of: fn(&Row) -> Outcome| Sums {
        purchases: own.iter().map(|(r, ..)| f64::from(of(r).purchases)).sum(),
        amount: own.iter().map(|(r, ..)| of(r).amount).sum(),
    };
    (!own.is_empty()).then(|| SpendReport {
        n: own.len(),
        horizon_days: days,
        quality: spend_quality(&own),
        expected,
        actual: sums(|r| r.outcome),
        last_period: sums(|r| r.before),
        baselines: judged.collect(),
    })
}

fn spend_quality(rows: &[(&Row, f64, f64)]) -> SpendQuality {
    let n = rows.len().max(1) as f64;
    let (mut errors, mut said, mut real) = ([0.0; 2], [0.0; 2], [0.0; 2]);
    for (row, purchases, amount) in rows {
        for (i, (p, y)) in [(purchases, f64::from(row.outcome.purchases)), (amount, row.outcome.amount)].into_iter().enumerate() {
            errors[i] += (p - y).powi(2);
            said[i] += p;
            real[i] += y;
        }
    }
    let bias = |i: usize| (real[i] > 0.0).then(|| said[i] / real[i] - 1.0);
    SpendQuality {
        rmse_purchases: (errors[0] / n).sqrt(),
        rmse_amount: (errors[1] / n).sqrt(),
        bias_purchases: bias(0),
        bias_amount: bias(1),
    }
}

fn next_need(rows: &[Row], baselines: &Baselines) -> Option<NeedReport> {
    let labelled = || rows.iter().filter(|r| r.outcome.need != 0);
    let tops: Vec<(Vec<u32>, u32)> = labelled()
        .filter_map(|r| match &r.ahead.next_need {
            Some(ClassScore::Top(top)) => Some((top.iter().map(|t| words::hash(t.label.as_str())).collect(), r.outcome.need)),
            _ => None,
        })
        .collect();
    if tops.is_empty() {
        return None;
    }
    let frequent: Vec<u32> = baselines.most_frequent.iter().map(|c| words::hash(c)).collect();
    let mut judged = BTreeMap::new();
    if !frequent.is_empty() {
        judged.insert("most_frequent", need_quality(labelled().map(|r| (frequent.as_slice(), r.outcome.need))));
    }
    Some(NeedReport { n: tops.len(), quality: need_quality(tops.iter().map(|(t, l)| (t.as_slice(), *l))), baselines: judged })
}

fn need_quality<'a>(rows: impl Iterator<Item = (&'a [u32], u32)>) -> NeedQuality {
    let (mut n, mut among, mut first) = (0.0f64, 0.0, 0.0);
    for (top, label) in rows {
        n += 1.0;
        among += f64::from(u8::from(top.iter().take(5).any(|t| *t == label)));
        first += f64::from(u8::from(top.first() == Some(&label)));
    }
    NeedQuality { recall_at_5: among / n.max(1.0), accuracy: first / n.max(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Churn, ClassProbability, Total};

    #[test]
    fn auroc_equals_worked_examples() {
        assert_eq!(auroc(&[(0.1, false), (0.4, true), (0.35, false), (0.8, true)]), 1.0);
        // scikit-learn's example: 0.75.
        assert_eq!(auroc(&[(0.1, false), (0.4, false), (0.35, true), (0.8, true)]), 0.75);
        assert_eq!(auroc(&[(0.5, true), (0.5, false), (0.5, false)]), 0.5);
        assert_eq!(auroc(&[(0.5, true)]), 0.5);
    }

    fn row(churn: f32, returned: bool, purchases: (f32, u32), need: (&str, &str)) -> Row {
        let top = vec![ClassProbability { label: need.0.into(), probability: 0.5 }];
        Row {
            customer: 0,
            ahead: Ahead {
                churn: Some(Churn { probability: churn, horizon_days: 30 }),
                spend: Some(Spend { purchases: purchases.0, amount: purchases.0 * 2.0, horizon_days: 30 }),
                next_need: Some(ClassScore::Top(top)),
            },
            outcome: Outcome { returned, purchases: purchases.1, amount: f64::from(purchases.1) * 2.0, need: words::hash(need.1) },
            before: Outcome { purchases: 4, amount: 9.0, ..Outcome::default() },
            past: Past::default(),
            recency: 3.0,
            visits: None,
            tabular: None,
        }
    }

    #[test]
    fn every_figure_equals_a_worked_example() {
        let rows =
            [row(0.75, false, (1.0, 0), ("a", "a")), row(0.25, true, (2.0, 4), ("b", "a")), row(0.5, true, (0.0, 0), ("a", "unheard of"))];
        let baselines = Baselines { most_frequent: vec!["a".into()], ..Baselines::default() };
        let expected = Forecast { purchases: Total::default(), amount: Total::default() };
        let r = report(&rows, &baselines, 30, Some(expected));
        let churn = r.churn.expect("judged");
        assert!((churn.share - 1.0 / 3.0).abs() < 1e-9 && (churn.predicted - 0.5).abs() < 1e-9);
        assert_eq!(churn.quality.auroc, 1.0);
        // One customer: every resample is the whole.
        assert_eq!((churn.curves.intervals["auroc"], churn.curves.roc.len()), ([1.0, 1.0], 4));
        assert!((churn.quality.log_loss + (0.75f64.ln() * 2.0 + 0.5f64.ln()) / 3.0).abs() < 1e-9);
        let spend = r.spend.expect("judged");
        assert!((spend.quality.rmse_purchases - (5.0f64 / 3.0).sqrt()).abs() < 1e-9);
        assert_eq!((spend.quality.bias_purchases, spend.actual.purchases, spend.last_period.amount), (Some(-0.25), 4.0, 27.0));
        let need = r.next_need.expect("judged");
        assert!((need.quality.recall_at_5 - 1.0 / 3.0).abs() < 1e-9);
        assert!((need.baselines["most_frequent"].accuracy - 2.0 / 3.0).abs() < 1e-9);
    }
}
