//! How good predicted probabilities are against true classes: accuracy, macro-F1, log-loss, calibration, ROC, recall, confusion.
//!
//! Knows only numbers.

use serde::Serialize;

/// Quality of predicted probabilities on `n` labelled rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quality {
    pub n: usize,
    pub accuracy: f64,
    /// Mean of the classes' F1 over the classes that occur among labels or predictions.
    pub macro_f1: f64,
    /// Mean negative natural logarithm of the true class's probability.
    pub log_loss: f64,
    /// See [`expected_calibration_error`]; of the event named by the caller.
    pub ece: f64,
}

/// Position of the largest value; the first of equals.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] {
            best = i;
        }
    }
    best
}

/// One judged row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The true class; the number of classes where the model does not know it.
    pub label: usize,
    /// The class that is said: the likeliest.
    pub predicted: usize,
    /// Probabilities of the classes.
    pub p: Box<[f32]>,
    /// For the calibration error: a probability, and whether what it is of happened.
    pub event: (f32, bool),
}

impl Row {
    /// The row of these probabilities, whose likeliest class is said. Its event is that of [`quality`].
    pub fn new(p: &[f32], label: usize, event: Option<usize>) -> Self {
        let predicted = argmax(p);
        let event = match event {
            Some(event) => (p[event], label == event),
            None => (p[predicted], label == predicted),
        };
        Self { label, predicted, p: p.into(), event }
    }

    /// Negative natural logarithm of the true class's probability; `None` where the model does not know the class.
    pub fn loss(&self) -> Option<f64> {
        self.p.get(self.label).map(|p| -f64::from(*p).max(1e-15).ln())
    }

    /// Whether the true class is among the `k` likeliest.
    pub fn is_within(&self, k: usize) -> bool {
        self.p.get(self.label).is_some_and(|own| {
            let ahead = |(i, p): (usize, &f32)| *p > *own || (*p == *own && i < self.label);
            self.p.iter().enumerate().filter(|x| ahead(*x)).count() < k
        })
    }
}

/// Judges rows of one task.
pub fn judge<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Quality {
    let rows: Vec<&Row> = rows.into_iter().collect();
    let predicted: Vec<usize> = rows.iter().map(|r| r.predicted).collect();
    let labels: Vec<usize> = rows.iter().map(|r| r.label).collect();
    let losses: Vec<f64> = rows.iter().filter_map(|r| r.loss()).collect();
    let events: Vec<(f64, bool)> = rows.iter().map(|r| (f64::from(r.event.0), r.event.1)).collect();
    Quality {
        n: rows.len(),
        accuracy: rows.iter().filter(|r| r.predicted == r.label).count() as f64 / rows.len().max(1) as f64,
        macro_f1: macro_f1(&predicted, &labels),
        log_loss: losses.iter().sum::<f64>() / losses.len().max(1) as f64,
        ece: expected_calibration_error(&events, 10),
    }
}

/// Judges `probabilities` (one row of the same width per label). The calibration error is that of class `event`, or of the predicted
/// class being right where `None`.
pub fn quality(probabilities: &[Vec<f32>], labels: &[usize], event: Option<usize>) -> Quality {
    let rows: Vec<Row> = probabilities.iter().zip(labels).map(|(p, &label)| Row::new(p, label, event)).collect();
    judge(&rows)
}

/// Mean F1 over the classes that occur among the labels. Saying a class that is never true costs the recall of what is; it is no
/// class of its own.
pub fn macro_f1(predicted: &[usize], labels: &[usize]) -> f64 {
    let classes = predicted.iter().chain(labels).max().map_or(0, |m| m + 1);
    let (mut hit, mut said, mut real) = (vec![0usize; classes], vec![0usize; classes], vec![0usize; classes]);
    for (&p, &l) in predicted.iter().zip(labels) {
        said[p] += 1;
        real[l] += 1;
        hit[p] += usize::from(p == l);
    }
    let present: Vec<usize> = (0..classes).filter(|&c| real[c] > 0).collect();
    let sum: f64 = present.iter().map(|&c| 2.0 * hit[c] as f64 / (said[c] + real[c]) as f64).sum();
    sum / present.len().max(1) as f64
}

/// One bin of a reliability curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    pub n: usize,
    /// Mean of what was said.
    pub probability: f64,
    /// Share of what happened.
    pub share: f64,
}

/// Reliability over `bins` bins of equal mass; empty bins are left out.
pub fn reliability(events: &[(f64, bool)], bins: usize) -> Vec<Bin> {
    let mut sorted = events.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = sorted.len();
    let bin = |bin: usize| {
        let part = &sorted[bin * n / bins..(bin + 1) * n / bins];
        let of = part.len().max(1) as f64;
        let probability = part.iter().map(|(p, _)| p).sum::<f64>() / of;
        let share = part.iter().filter(|(_, e)| *e).count() as f64 / of;
        Bin { n: part.len(), probability, share }
    };
    (0..bins).map(bin).filter(|b| b.n > 0).collect()
}

/// Expected calibration error over `bins` bins of equal mass: mean of |share of events − mean probability|, weighted by bin size.
pub fn expected_calibration_error(events: &[(f64, bool)], bins: usize) -> f64 {
    let error: f64 = reliability(events, bins).iter().map(|b| b.n as f64 * (b.probability - b.share).abs()).sum();
    error / events.len().max(1) as f64
}

/// Area under the ROC curve: the chance that an event has a higher score than a non-event, ties counting half (Mann and Whitney).
/// `None` where there is only one of the two.
pub fn auroc(events: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = events.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut area, mut below) = (0.0, 0.0);
    let (mut positives, mut at) = (0.0, 0);
    while at < sorted.len() {
        // What is no number does not even equal itself.
        let ties = sorted[at..].iter().take_while(|e| e.0 == sorted[at].0).count().max(1);
        let hits = sorted[at..at + ties].iter().filter(|e| e.1).count() as f64;
        let misses = ties as f64 - hits;
        area += hits * (below + 0.5 * misses);
        positives += hits;
        below += misses;
        at += ties;
    }
    (positives > 0.0 && below > 0.0).then(|| area / (positives * below))
}

/// Mean over the classes that occur (and not alone) of the area under the ROC curve of each against all others.
pub fn auroc_of_classes<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Option<f64> {
    let rows: Vec<&Row> = rows.into_iter().collect();
    let classes = rows.first().map_or(0, |r| r.p.len());
    let areas: Vec<f64> = (0..classes)
        .filter_map(|class| auroc(&rows.iter().map(|r| (f64::from(r.p[class]), r.label == class)).collect::<Vec<_>>()))
        .collect();
    (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64)
}

/// Points (share of non-events, share of events) at or above each threshold, from (0, 0) to (1, 1), at most about `most`.
pub fn roc(events: &[(f64, bool)], most: usize) -> Vec<[f64; 2]> {
    let mut sorted = events.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = sorted.iter().filter(|e| e.1).count() as f64;
    let negatives = sorted.len() as f64 - positives;
    let mut curve = vec![[0.0, 0.0]];
    if positives == 0.0 || negatives == 0.0 {
        return vec![];
    }
    let every = sorted.len().div_ceil(most.max(1));
    let (mut hits, mut misses, mut drawn) = (0.0, 0.0, 0);
    for (i, e) in sorted.iter().enumerate() {
        *(if e.1 { &mut hits } else { &mut misses }) += 1.0;
        let last = sorted.get(i + 1).is_none_or(|next| next.0 != e.0);
        if last && (i + 1 >= drawn + every || i + 1 == sorted.len()) {
            curve.push([misses / negatives, hits / positives]);
            drawn = i + 1;
        }
    }
    curve
}

/// The curve of one class against all others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassRoc {
    pub label: String,
    /// Rows of the class.
    pub n: usize,
    pub auroc: f64,
    pub points: Vec<[f64; 2]>,
}

/// Most classes that curves are drawn of.
const MOST_CURVES: usize = 5;

/// Curves of the most frequent classes, each against all others. `names` are those of the classes.
pub fn roc_of_classes(rows: &[&Row], names: &[String]) -> Vec<ClassRoc> {
    let mut seen: Vec<(usize, usize)> = (0..names.len()).map(|class| (class, rows.iter().filter(|r| r.label == class).count())).collect();
    seen.sort_by_key(|(class, n)| (std::cmp::Reverse(*n), *class));
    let curve = |(class, n): (usize, usize)| {
        let events: Vec<(f64, bool)> = rows.iter().map(|r| (f64::from(r.p[class]), r.label == class)).collect();
        Some(ClassRoc { label: names[class].clone(), n, auroc: auroc(&events)?, points: roc(&events, 100) })
    };
    seen.into_iter().take(MOST_CURVES).filter_map(curve).collect()
}

/// Agreement of estimated with given ratings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    pub n: usize,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// Mean of estimate − rating.
    pub bias: f64,
    /// The root of the mean squared error of saying one constant.
    pub rmse_of_constant: f64,
}

/// Judges pairs of (estimate, truth) beside always saying `constant`.
pub fn agreement(pairs: &[(f32, f32)], constant: f32) -> Option<Agreement> {
    let n = pairs.len() as f64;
    let mean = |f: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|(e, t)| f(f64::from(*e), f64::from(*t))).sum::<f64>() / n;
    (!pairs.is_empty()).then(|| Agreement {
        n: pairs.len(),
        rmse: mean(&|e, t| (e - t) * (e - t)).sqrt(),
        bias: mean(&|e, t| e - t),
        rmse_of_constant: mean(&|_, t| (f64::from(constant) - t).powi(2)).sqrt(),
    })
}

/// Rows counted by true and said class. Of many classes the most frequent are shown and the others thrown together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Confusion {
    pub labels: Vec<String>,
    /// `[true][said]`
    pub counts: Vec<Vec<usize>>,
}

/// Most classes of a confusion matrix, "other" not counted.
const MOST_CLASSES: usize = 12;

/// `names` are those of the classes.
pub fn confusion(rows: &[&Row], names: &[String]) -> Confusion {
    let mut seen = vec![0usize; names.len()];
    for r in rows {
        if let Some(n) = seen.get_mut(r.label) {
            *n += 1;
        }
    }
    let mut shown: Vec<usize> = (0..names.len()).collect();
    shown.sort_by_key(|&i| (std::cmp::Reverse(seen[i]), i));
    shown.truncate(MOST_CLASSES);
    shown.sort_unstable();
    let place = |class: usize| shown.iter().position(|s| *s == class).unwrap_or(shown.len());
    let mut counts = vec![vec![0; shown.len() + 1]; shown.len() + 1];
    for r in rows {
        counts[place(r.label)][place(r.predicted)] += 1;
    }
    let mut labels: Vec<String> = shown.iter().map(|&i| names[i].clone()).collect();
    let last = labels.len();
    if counts[last].iter().sum::<usize>() + counts.iter().map(|c| c[last]).sum::<usize>() == 0 {
        counts.truncate(last);
        counts.iter_mut().for_each(|c| c.truncate(last));
    } else {
        labels.push("other".into());
    }
    Confusion { labels, counts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macro_f1_equals_a_worked_example() {
        // Class 0: 1 hit, said 2, real 1 → 2/3. Class 1: 1 hit, said 1, real 2 → 2/3. Class 2: 1 of 1 → 1.
        let f1 = macro_f1(&[0, 0, 1, 2], &[0, 1, 1, 2]);
        assert!((f1 - (2.0 / 3.0 + 2.0 / 3.0 + 1.0) / 3.0).abs() < 1e-12);
        // A class that is never true does not count: 1 hit, said 1, real 2.
        assert!((macro_f1(&[0, 2], &[0, 0]) - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn log_loss_and_accuracy_equal_worked_examples() {
        let q = quality(&[vec![0.5, 0.25, 0.25], vec![0.1, 0.1, 0.8]], &[0, 1], Some(0));
        assert!((q.log_loss - (0.5f64.ln() + f64::from(0.1f32).ln()) / -2.0).abs() < 1e-9);
        assert_eq!(q.accuracy, 0.5);
    }

    #[test]
    fn calibration_error_is_zero_for_right_shares_and_grows_with_bias() {
        let right: Vec<(f64, bool)> = (0..1000).map(|i| (0.25, i % 4 == 0)).collect();
        assert!(expected_calibration_error(&right, 10) < 1e-9);
        let wrong: Vec<(f64, bool)> = right.iter().map(|(p, e)| (p + 0.2, *e)).collect();
        assert!((expected_calibration_error(&wrong, 10) - 0.2).abs() < 1e-9);
    }

    #[test]
    fn areas_equal_those_of_scikit_learn() {
        let events = |p: &[f64], y: &[u8]| p.iter().zip(y).map(|(p, y)| (*p, *y == 1)).collect::<Vec<_>>();
        // roc_auc_score([0, 0, 1, 1], [.1, .4, .35, .8]) = .75, the example of its documentation.
        assert_eq!(auroc(&events(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1])), Some(0.75));
        // With ties: pairs (.5, .5) half, (.9, .5), (.5, .2), (.9, .2) whole: 3.5 of 4.
        assert_eq!(auroc(&events(&[0.5, 0.5, 0.2, 0.9], &[1, 0, 0, 1])), Some(0.875));
        assert_eq!(auroc(&events(&[0.5, 0.5], &[1, 1])), None);
        // Three classes: .75, 1 and 1 of each against the rest.
        let p = [[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7], [0.3, 0.45, 0.25], [0.35, 0.25, 0.4]];
        let rows: Vec<Row> = p.iter().zip([0, 1, 2, 0, 2]).map(|(p, l)| Row::new(p, l, None)).collect();
        let expected = (5.0 / 6.0 + 1.0 + 1.0) / 3.0;
        assert!((auroc_of_classes(&rows).expect("classes") - expected).abs() < 1e-12);
    }

    #[test]
    fn the_curve_has_the_area_of_its_ranks() {
        let events: Vec<(f64, bool)> = (0..500).map(|i| (f64::from((i * 37) % 101), (i * 7) % 10 < i / 60)).collect();
        let curve = roc(&events, 10_000);
        let area: f64 = curve.windows(2).map(|w| (w[1][0] - w[0][0]) * (w[1][1] + w[0][1]) / 2.0).sum();
        assert!((area - auroc(&events).expect("both")).abs() < 1e-9);
        assert_eq!((curve[0], curve[curve.len() - 1]), ([0.0, 0.0], [1.0, 1.0]));
        assert!(roc(&events, 10).len() <= 12);
    }

    #[test]
    fn curves_are_of_the_most_frequent_classes_that_occur() {
        let rows: Vec<Row> = (0..60).map(|i| Row::new(&[0.2, 0.5, 0.3], if i % 3 == 0 { 2 } else { 1 }, None)).collect();
        let names: Vec<String> = ["never", "most", "some"].map(String::from).to_vec();
        let curves = roc_of_classes(&rows.iter().collect::<Vec<_>>(), &names);
        let found: Vec<(&str, usize, f64)> = curves.iter().map(|c| (c.label.as_str(), c.n, c.auroc)).collect();
        // The same is said of all rows.
        assert_eq!(found, [("most", 40, 0.5), ("some", 20, 0.5)]);
        assert_eq!(curves[0].points, [[0.0, 0.0], [1.0, 1.0]]);
    }

    #[test]
    fn recall_counts_those_ahead() {
        let row = Row::new(&[0.1, 0.4, 0.3, 0.2], 3, None);
        assert_eq!([1, 2, 3, 4].map(|k| row.is_within(k)), [false, false, true, true]);
        // A class that the model does not know is never among them.
        assert!(!Row { label: 4, ..row }.is_within(4));
    }

    #[test]
    fn agreement_and_confusion_equal_worked_examples() {
        let a = agreement(&[(2.0, 1.0), (4.0, 5.0), (3.0, 2.0)], 3.0).expect("pairs");
        assert!((a.rmse - 1.0).abs() < 1e-12 && (a.bias - 1.0 / 3.0).abs() < 1e-12 && (a.rmse_of_constant - 3f64.sqrt()).abs() < 1e-12);
        assert_eq!(agreement(&[], 3.0), None);
        let rows = [([0.9f32, 0.1], 0), ([0.8, 0.2], 1), ([0.1, 0.9], 1)].map(|(p, l)| Row::new(&p, l, None));
        let rows: Vec<&Row> = rows.iter().collect();
        let c = confusion(&rows, &["a".into(), "b".into()]);
        assert_eq!((c.labels.len(), c.counts), (2, vec![vec![1, 0], vec![1, 1]]));
        let names: Vec<String> = (0..20).map(|i| i.to_string()).collect();
        let p = vec![0.05; 20];
        let rows: Vec<Row> = (0..20).map(|l| Row::new(&p, l, None)).collect();
        let c = confusion(&rows.iter().collect::<Vec<_>>(), &names);
        assert_eq!((c.labels.len(), c.counts[12][0], c.labels[12].as_str()), (13, 8, "other"));
    }
}
