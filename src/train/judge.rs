//! From judged rows to what is said of a task: figures with intervals, curves, slices, and whether the baseline is beaten.
//!
//! Knows rows and who they are of; no network, no files. Training and `evaluate` judge by the same functions.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bootstrap::{FIGURES, Interval, Weighted, calibration_limit, intervals};
use super::metrics::{
    Agreement, Bin, ClassRoc, Confusion, Quality, Row, agreement, auroc, auroc_of_classes, confusion, judge, reliability, roc,
    roc_of_classes,
};
use super::slices::{By, Names, PLACES, Slice, Who, slices};

/// One judged row and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub row: Row,
    /// Estimated and given rating, 1–5, where the task has them.
    pub rating: Option<(f32, f32)>,
    pub who: Who,
}

/// What is judged.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// Names of the classes.
    pub labels: Vec<String>,
    /// The class whose probability is what matters; else the likeliest class being right.
    pub event: Option<usize>,
    /// What a rating is guessed to be without any model.
    pub mean: f32,
    pub names: &'a Names,
    pub seed: u64,
}

/// A simpler model on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Baseline {
    /// What it is judged on, where that is not the whole task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<&'static str>,
    #[serde(flatten)]
    pub quality: Quality,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auroc: Option<f64>,
    pub reliability: Vec<Bin>,
    /// Of the event, where the task has one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roc: Vec<[f64; 2]>,
    /// Network − baseline, with its interval (paired: the same customers are drawn for both).
    pub difference: BTreeMap<&'static str, Difference>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    pub value: f64,
    pub interval: Interval,
}

impl Baseline {
    /// As tables call it.
    pub fn title(&self, name: &str) -> String {
        self.of.map_or_else(|| name.to_owned(), |of| format!("{name} ({of})"))
    }
}

/// Quality of the model on one task, and of its baselines on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskReport {
    #[serde(flatten)]
    pub quality: Quality,
    /// Customers that the rows are of.
    pub customers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auroc: Option<f64>,
    /// Share of rows whose true class is among the k likeliest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub recall_at: BTreeMap<usize, f64>,
    /// What the calibration error may be; see [`ece_limit`].
    pub ece_limit: f64,
    /// Of the estimated rating against the mean of the given ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rating: Option<Agreement>,
    /// 95 % intervals.
    pub intervals: BTreeMap<&'static str, Interval>,
    pub reliability: Vec<Bin>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roc: Vec<[f64; 2]>,
    /// Of a class task: the most frequent classes, each against all others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roc_of_classes: Vec<ClassRoc>,
    pub confusion: Confusion,
    pub slices: Vec<Slice>,
    /// Labels that the model does not know; each counts as a miss, whatever is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_labels: Option<usize>,
    /// Of a class task with a threshold for unknowns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Unknown>,
    pub baselines: BTreeMap<&'static str, Baseline>,
    /// What the figures come to, in plain words.
    pub verdicts: Vec<String>,
}

/// How well "unknown" tells labels that the model does not know from those that it does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Unknown {
    /// Rows with a label that the model knows, and how many of them are called unknown.
    pub known: usize,
    pub known_called_unknown: usize,
    /// Rows with a label that the model does not know, and the share of them that is called unknown; absent where there are none.
    pub unknown: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
}

impl Unknown {
    /// From rows of (the model knows the label, it is called unknown).
    pub fn of(rows: impl IntoIterator<Item = (bool, bool)>) -> Self {
        // [known][called]
        let mut counts = [[0usize; 2]; 2];
        rows.into_iter().for_each(|(known, called)| counts[usize::from(known)][usize::from(called)] += 1);
        let [[missed, found], [kept, lost]] = counts;
        let unknown = missed + found;
        Self { known: kept + lost, known_called_unknown: lost, unknown, recall: (unknown > 0).then(|| found as f64 / unknown as f64) }
    }
}

/// From so many rows on, chance hardly moves a calibration error of ten bins.
const MANY: usize = 3000;
const ECE_LIMIT: f64 = 0.03;
const RECALLS: [usize; 3] = [1, 3, 5];

/// What the calibration error of these events may be: 0.03 from 3,000 on, else the 95th percentile of a perfectly calibrated model of this size.
pub fn ece_limit(events: &[(f64, bool)], seed: u64) -> f64 {
    if events.len() >= MANY { ECE_LIMIT } else { calibration_limit(&events.iter().map(|e| (e.0, None)).collect::<Vec<_>>(), seed) }
}

/// Judges `rows` beside the same rows of other models. `None` where there are no rows.
pub fn report(task: &Task<'_>, rows: &[Judged], baselines: &[(&'static str, Vec<Row>)]) -> Option<TaskReport> {
    if rows.is_empty() {
        return None;
    }
    let network: Vec<&Row> = rows.iter().map(|j| &j.row).collect();
    let (customers, count) = numbers(rows);
    let events: Vec<(f64, bool)> = network.iter().map(|r| (f64::from(r.event.0), r.event.1)).collect();
    let quality = judge(network.iter().copied());
    let area = |rows: &[&Row]| match task.event {
        Some(event) => auroc(&rows.iter().map(|r| (f64::from(r.p[event]), r.label == event)).collect::<Vec<_>>()),
        None => auroc_of_classes(rows.iter().copied()),
    };
    let mut said = slices(rows, baselines, task.names, &PLACES, task.event, By::Accuracy);

    // One bootstrap for everything, so that every difference is paired.
    let weighted = |rows: &[&Row]| Weighted::new(rows, &customers, count, task.event);
    let own = weighted(&network);
    let others: Vec<Weighted> = baselines.iter().map(|(_, rows)| weighted(&rows.iter().collect::<Vec<_>>())).collect();
    let found = intervals(count, task.seed, |weights| {
        let mine = own.figures(weights);
        let differences = others.iter().flat_map(|o| o.figures(weights).into_iter().zip(mine).map(|(theirs, mine)| mine - theirs));
        mine.into_iter().chain(differences.collect::<Vec<_>>()).chain(said.iter().map(|s| s.under(weights, &customers))).collect()
    });
    let (mine, rest) = found.split_at(FIGURES.len());
    let (differences, of_slices) = rest.split_at(FIGURES.len() * baselines.len());
    let mut own_intervals: BTreeMap<&'static str, Interval> = FIGURES.into_iter().zip(mine.iter().copied()).collect();
    // A resample adds chance to the error that is there, so its percentiles lie too high: the limit of a calibrated model stands in their place.
    own_intervals.remove("ece");
    own_intervals.retain(|_, interval| interval.iter().all(|x| x.is_finite()));

    let figures = own.figures(&vec![1; count]);
    let baselines = baselines.iter().zip(&others).zip(differences.chunks(FIGURES.len())).map(|(((name, rows), weighted), intervals)| {
        let rows: Vec<&Row> = rows.iter().collect();
        let theirs = weighted.figures(&vec![1; count]);
        let difference = FIGURES.into_iter().zip(figures.into_iter().zip(theirs)).zip(intervals);
        let difference =
            difference.map(|((name, (mine, theirs)), interval)| (name, Difference { value: mine - theirs, interval: *interval }));
        let difference = difference.filter(|(name, d)| *name != "ece" && d.value.is_finite()).collect();
        let events: Vec<(f64, bool)> = rows.iter().map(|r| (f64::from(r.event.0), r.event.1)).collect();
        let baseline = Baseline {
            of: None,
            quality: judge(rows.iter().copied()),
            auroc: area(&rows),
            reliability: reliability(&events, 10),
            roc: task.event.map_or(vec![], |_| roc(&events, 200)),
            difference,
        };
        (*name, baseline)
    });
    let baselines: BTreeMap<&'static str, Baseline> = baselines.collect();
    for (slice, interval) in said.iter_mut().zip(of_slices) {
        slice.finish(*interval, quality.accuracy);
    }

    let ece_limit = ece_limit(&events, task.seed);
    let share_within = |k: usize| network.iter().filter(|r| r.is_within(k)).count() as f64 / network.len() as f64;
    let width = task.labels.len();
    let ratings: Vec<(f32, f32)> = rows.iter().filter_map(|j| j.rating).collect();
    let mut report = TaskReport {
        customers: count,
        auroc: area(&network),
        recall_at: if task.event.is_some() {
            BTreeMap::new()
        } else {
            RECALLS.into_iter().filter(|k| *k < width).map(|k| (k, share_within(k))).collect()
        },
        ece_limit,
        rating: agreement(&ratings, task.mean),
        intervals: own_intervals,
        reliability: reliability(&events, 10),
        roc: task.event.map_or(vec![], |_| roc(&events, 200)),
        roc_of_classes: if task.event.is_some() { vec![] } else { roc_of_classes(&network, &task.labels) },
        confusion: confusion(&network, &task.labels),
        slices: said.into_iter().map(|s| s.slice).collect(),
        unknown_labels: None,
        unknown: None,
        verdicts: Vec::new(),
        baselines,
        quality,
    };
    report.verdicts = verdicts(&report, task.event.is_some());
    Some(report)
}

/// The customers of the rows, numbered without gaps in order of appearance, and how many there are.
fn numbers(rows: &[Judged]) -> (Vec<u32>, usize) {
    let mut known: BTreeMap<u32, u32> = BTreeMap::new();
    let numbers = rows
        .iter()
        .map(|j| {
            let next = known.len() as u32;
            *known.entry(j.who.customer).or_insert(next)
        })
        .collect();
    (numbers, known.len())
}

/// Fewest customers that say what is better than what: the resamples of fewer are all alike, and their intervals too narrow.
const FEWEST: usize = 20;

/// What is said of figures that so few customers judge; `None` where there are enough.
pub fn few(customers: usize) -> Option<String> {
    (customers < FEWEST).then(|| {
        format!("Only {customers} customers judge this: too few to tell what is better, or whether its probabilities can be believed.")
    })
}

fn verdicts(report: &TaskReport, has_event: bool) -> Vec<String> {
    if let Some(few) = few(report.customers) {
        return vec![few];
    }
    let mut said = Vec::new();
    // Rare classes make the mean over classes of a task with many of them a matter of luck.
    let (figure, words) = if has_event { ("macro_f1", "macro-F1") } else { ("accuracy", "accuracy") };
    for (name, baseline) in &report.baselines {
        let Some(Difference { value, interval: [low, high] }) = baseline.difference.get(figure).copied() else { continue };
        let numbers = format!("{:+.1} points of {words} (95 % interval {:+.1} to {:+.1})", 100.0 * value, 100.0 * low, 100.0 * high);
        said.push(if low > 0.0 {
            format!("The network beats {name}: {numbers}.")
        } else if high < 0.0 {
            format!("The network is worse than {name}: {numbers}. Use it with care, or give it more labels.")
        } else {
            format!("The network does not beat {name} beyond chance: {numbers}.")
        });
    }
    let (ece, limit, n) = (report.quality.ece, report.ece_limit, report.quality.n);
    let of = if n >= MANY { String::new() } else { format!(", what a perfectly calibrated model may show on {n} rows") };
    said.push(if ece <= limit {
        format!("Its probabilities can be believed: calibration error {ece:.3}, at most {limit:.3}{of}.")
    } else {
        format!("Its probabilities are off: calibration error {ece:.3}, above {limit:.3}{of}.")
    });
    for slice in report.slices.iter().filter(|s| s.fails.is_some()) {
        said.push(format!("It fails for {} {}: {}.", slice.by, slice.value, slice.fails.as_deref().unwrap_or_default()));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    /// Rows of two kinds: good on the first; on the second, worse than chance.
    fn judged(n: usize, random: u64) -> (Vec<Judged>, Vec<Row>) {
        let mut rng = SmallRng::seed_from_u64(random);
        let mut poor = Vec::new();
        let rows = (0..n).map(|i| {
            let kind = (i % 4 == 0) as u32;
            let p: f32 = rng.random_range(0.05..0.95);
            let label = if kind == 0 { usize::from(rng.random::<f32>() > p) } else { usize::from(rng.random::<f32>() < p) };
            poor.push(Row::new(&[0.5, 0.3, 0.2], label, Some(0)));
            let row = Row::new(&[p, 1.0 - p, 0.0], label, Some(0));
            Judged {
                row,
                rating: Some((3.0, 2.0)),
                who: Who { customer: (i / 2) as u32, language: 0, kind: kind + 1, segment: 0, place: 0 },
            }
        });
        (rows.collect(), poor)
    }

    #[test]
    fn a_report_says_what_beats_what_and_where_it_fails() {
        let names = Names { kinds: BTreeMap::from([(1, "message".into()), (2, "email".into())]), ..Names::default() };
        let task = Task { labels: ["a", "b", "c"].map(String::from).to_vec(), event: Some(0), mean: 2.0, names: &names, seed: 1 };
        let (rows, poor) = judged(800, 3);
        let r = report(&task, &rows, &[("tfidf", poor)]).expect("rows");
        assert_eq!((r.quality.n, r.customers), (800, 400));
        let [low, high] = r.intervals["accuracy"];
        assert!(low < r.quality.accuracy && r.quality.accuracy < high && high - low < 0.1, "{r:?}");
        assert!(r.verdicts[0].starts_with("The network beats tfidf"), "{:?}", r.verdicts);
        let email = r.slices.iter().find(|s| s.value == "email").expect("a slice");
        assert!(email.fails.is_some() && email.n == 200, "{email:?}");
        assert!(r.slices.iter().any(|s| s.value == "message" && s.fails.is_none()));
        assert!(r.verdicts.iter().any(|v| v.starts_with("It fails for kind email")), "{:?}", r.verdicts);
        // A quarter of the rows is anti-calibrated.
        assert!(r.quality.ece > r.ece_limit && r.verdicts[1].starts_with("Its probabilities are off"), "{:?}", r.verdicts);
        assert_eq!(r.rating.map(|a| (a.rmse, a.bias, a.rmse_of_constant)), Some((1.0, 1.0, 0.0)));
        assert_eq!(report(&task, &[], &[]), None);
    }

    #[test]
    fn unknowns_are_counted_by_what_is_true_and_what_is_said() {
        let rows = [(true, false), (true, true), (true, false), (false, true), (false, true), (false, false), (false, true)];
        assert_eq!(Unknown::of(rows), Unknown { known: 3, known_called_unknown: 1, unknown: 4, recall: Some(0.75) });
        assert_eq!(Unknown::of([(true, false)]).recall, None);
    }

    #[test]
    fn equal_models_are_not_told_apart() {
        let names = Names::default();
        let task = Task { labels: ["a", "b", "c"].map(String::from).to_vec(), event: Some(0), mean: 2.0, names: &names, seed: 1 };
        let (rows, _) = judged(400, 4);
        let same: Vec<Row> = rows.iter().map(|j| j.row.clone()).collect();
        let r = report(&task, &rows, &[("tfidf", same)]).expect("rows");
        assert_eq!(r.baselines["tfidf"].difference["macro_f1"], Difference { value: 0.0, interval: [0.0, 0.0] });
        assert!(r.verdicts[0].contains("does not beat tfidf beyond chance"), "{:?}", r.verdicts);
    }
}
