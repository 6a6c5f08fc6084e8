//! Churn as of a time, beside its baselines.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Levels, Row, SEED, TODAY, finite, level, numbers};
use crate::train::bootstrap::{FIGURES, Interval, Weighted, calibration_limit, intervals};
use crate::train::future::baselines::Baselines;
use crate::train::judge::Judged;
use crate::train::metrics::{self, Bin, Confusion, confusion, expected_calibration_error, reliability, roc};
use crate::train::slices::{By, Names, SO_FAR, Slice, slices};
use crate::train::tabular::TABULAR;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChurnReport {
    pub n: usize,
    pub customers: usize,
    pub horizon_days: u32,
    /// Share of the customers who did not come back, and its mean prediction.
    pub share: f64,
    pub predicted: f64,
    #[serde(flatten)]
    pub quality: ChurnQuality,
    pub baselines: BTreeMap<&'static str, ChurnQuality>,
    pub curves: Curves,
    /// Gone is said from a probability of one half on.
    pub confusion: Confusion,
    pub slices: Vec<Slice>,
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
    pub baselines: BTreeMap<&'static str, BaselineCurves>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BaselineCurves {
    pub reliability: Vec<Bin>,
    pub roc: Vec<[f64; 2]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChurnQuality {
    pub auroc: f64,
    pub log_loss: f64,
    pub ece: f64,
    /// Where gone is said from a probability of one half on.
    pub accuracy: f64,
    pub macro_f1: f64,
}

/// Names of the two classes.
const CLASSES: [&str; 2] = ["gone", "came back"];
/// Figures that have intervals.
const SURE: [&str; 4] = ["auroc", "log_loss", "accuracy", "macro_f1"];
/// Most points of a curve.
const POINTS: usize = 200;

pub type Events = Vec<(f64, bool)>;

/// What the baselines say of these rows, as they were fitted, and whether that happened.
pub fn said(rows: &[&Row], baselines: &Baselines, days: u32) -> Vec<(&'static str, Events)> {
    let mut all: Vec<(&'static str, Events)> = Vec::new();
    let mut add = |name, of: &dyn Fn(&Row) -> Option<f64>| {
        all.push((name, rows.iter().filter_map(|r| Some((of(r)?, !r.outcome.returned))).collect()));
    };
    if let Some(recency) = &baselines.recency {
        add("recency", &|r| Some(1.0 - recency.returns(r.recency, f64::from(days))));
    }
    if rows.iter().any(|r| r.tabular.is_some()) {
        add(TABULAR, &|r| r.tabular);
    }
    for (name, model) in baselines.models() {
        add(name, &|r| Some(model.none(&r.visits.unwrap_or(TODAY), f64::from(days) / 7.0)));
    }
    all
}

/// The report of churn; `None` where nothing is said of it.
pub fn churn(rows: &[Row], (baselines, levels): (&Baselines, &Levels), days: u32, names: &Names) -> Option<ChurnReport> {
    let spoken: Vec<&Row> = rows.iter().filter(|r| r.ahead.churn.is_some()).collect();
    let own: Events = spoken.iter().filter_map(|r| Some((f64::from(r.ahead.churn?.probability), !r.outcome.returned))).collect();
    if own.is_empty() {
        return None;
    }
    let n = own.len() as f64;
    let mut all = said(&spoken, baselines, days);
    for (name, events) in &mut all {
        let level = level(levels, name);
        events.iter_mut().for_each(|(p, _)| *p = level.gone(*p));
    }
    let judged: Vec<Judged> = spoken.iter().zip(two_classes(&own)).map(|(r, row)| Judged { row, rating: None, who: r.who }).collect();
    // A baseline that does not speak of every row cannot be paired.
    let paired: Vec<(&'static str, Vec<metrics::Row>)> =
        all.iter().filter(|(_, events)| events.len() == own.len()).map(|(name, events)| (*name, two_classes(events))).collect();
    let quality = churn_quality(&own);
    let (curves, slices) = curves(&judged, &own, &all, &paired, names);
    Some(ChurnReport {
        n: own.len(),
        customers: numbers(judged.iter().map(|j| j.who.customer)).1,
        horizon_days: days,
        share: own.iter().filter(|e| e.1).count() as f64 / n,
        predicted: own.iter().map(|e| e.0).sum::<f64>() / n,
        quality,
        baselines: all.iter().map(|(name, events)| (*name, churn_quality(events))).collect(),
        curves,
        confusion: confusion(&judged.iter().map(|j| &j.row).collect::<Vec<_>>(), &CLASSES.map(String::from)),
        slices,
    })
}

/// Rows of two classes, the first of which is churn.
fn two_classes(events: &[(f64, bool)]) -> Vec<metrics::Row> {
    events.iter().map(|(p, gone)| metrics::Row::new(&[*p as f32, 1.0 - *p as f32], usize::from(!gone), Some(0))).collect()
}

/// Everything that one bootstrap over the customers gives.
fn curves(
    judged: &[Judged],
    own: &Events,
    baselines: &[(&'static str, Events)],
    paired: &[(&'static str, Vec<metrics::Row>)],
    names: &Names,
) -> (Curves, Vec<Slice>) {
    let (customers, count) = numbers(judged.iter().map(|j| j.who.customer));
    let weighted = |rows: &[&metrics::Row]| Weighted::new(rows, &customers, count, Some(0));
    let mine = weighted(&judged.iter().map(|j| &j.row).collect::<Vec<_>>());
    let others: Vec<Weighted> = paired.iter().map(|(_, rows)| weighted(&rows.iter().collect::<Vec<_>>())).collect();
    let mut cut = slices(judged, paired, names, &SO_FAR, Some(0), By::LogLoss);
    let found = intervals(count, SEED, |weights| {
        let mine = mine.figures(weights);
        let differences = others.iter().flat_map(|o| o.figures(weights).into_iter().zip(mine).map(|(theirs, mine)| mine - theirs));
        let slices = cut.iter().map(|s| s.under(weights, &customers));
        mine.into_iter().chain(differences.collect::<Vec<_>>()).chain(slices).collect()
    });
    let named = |intervals: &[Interval]| -> BTreeMap<&'static str, Interval> {
        FIGURES.into_iter().zip(intervals.iter().copied()).filter(|(name, i)| SURE.contains(name) && finite(i)).collect()
    };
    let (first, rest) = found.split_at(FIGURES.len());
    let (differences, of_slices) = rest.split_at(FIGURES.len() * paired.len());
    let accuracy = mine.figures(&vec![1; count])[0];
    cut.iter_mut().zip(of_slices).for_each(|(slice, interval)| slice.finish(*interval, accuracy));
    let curve = |(name, events): &(&'static str, Events)| {
        (*name, BaselineCurves { reliability: reliability(events, 10), roc: roc(events, POINTS) })
    };
    let curves = Curves {
        // Several looks at one customer see much the same outcome.
        ece_limit: calibration_limit(&own.iter().zip(&customers).map(|(e, c)| (e.0, Some(*c))).collect::<Vec<_>>(), SEED),
        intervals: named(first),
        differences: paired.iter().zip(differences.chunks(FIGURES.len())).map(|((name, _), i)| (*name, named(i))).collect(),
        reliability: reliability(own, 10),
        roc: roc(own, POINTS),
        baselines: baselines.iter().map(curve).collect(),
    };
    (curves, cut.into_iter().map(|s| s.slice).collect())
}

fn churn_quality(events: &[(f64, bool)]) -> ChurnQuality {
    let n = events.len().max(1) as f64;
    let loss = |(p, event): &(f64, bool)| -if *event { *p } else { 1.0 - p }.max(1e-15).ln();
    ChurnQuality {
        // One half where there are not both.
        auroc: metrics::auroc(events).unwrap_or(0.5),
        log_loss: events.iter().map(loss).sum::<f64>() / n,
        ece: expected_calibration_error(events, 10),
        accuracy: events.iter().filter(|(p, event)| (*p >= 0.5) == *event).count() as f64 / n,
        macro_f1: metrics::judge(&two_classes(events)).macro_f1,
    }
}
