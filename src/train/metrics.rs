//! How good predicted probabilities are against true classes: accuracy, macro-F1, log-loss, expected calibration error.
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    pub label: usize,
    pub predicted: usize,
    /// Probability of the label; `None` where the model does not know the label.
    pub probability: Option<f32>,
    /// For the calibration error: a probability, and whether what it is of happened.
    pub event: (f32, bool),
}

/// Judges rows of one task.
pub fn judge(rows: &[Row]) -> Quality {
    let predicted: Vec<usize> = rows.iter().map(|r| r.predicted).collect();
    let labels: Vec<usize> = rows.iter().map(|r| r.label).collect();
    let losses: Vec<f64> = rows.iter().filter_map(|r| r.probability).map(|p| -f64::from(p).max(1e-15).ln()).collect();
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
    let rows: Vec<Row> = probabilities.iter().zip(labels).map(|(p, &label)| row(p, label, event)).collect();
    judge(&rows)
}

/// The row of full probabilities; see [`quality`].
pub fn row(p: &[f32], label: usize, event: Option<usize>) -> Row {
    let predicted = argmax(p);
    let event = match event {
        Some(event) => (p[event], label == event),
        None => (p[predicted], label == predicted),
    };
    Row { label, predicted, probability: p.get(label).copied(), event }
}

/// Mean F1 over the classes that occur among labels or predictions.
pub fn macro_f1(predicted: &[usize], labels: &[usize]) -> f64 {
    let classes = predicted.iter().chain(labels).max().map_or(0, |m| m + 1);
    let (mut hit, mut said, mut real) = (vec![0usize; classes], vec![0usize; classes], vec![0usize; classes]);
    for (&p, &l) in predicted.iter().zip(labels) {
        said[p] += 1;
        real[l] += 1;
        hit[p] += usize::from(p == l);
    }
    let present: Vec<usize> = (0..classes).filter(|&c| said[c] + real[c] > 0).collect();
    let sum: f64 = present.iter().map(|&c| 2.0 * hit[c] as f64 / (said[c] + real[c]) as f64).sum();
    sum / present.len().max(1) as f64
}

/// Expected calibration error over `bins` bins of equal mass: mean of |share of events − mean probability|, weighted by bin size.
pub fn expected_calibration_error(events: &[(f64, bool)], bins: usize) -> f64 {
    let mut sorted = events.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = sorted.len();
    let mut error = 0.0;
    for bin in 0..bins {
        let part = &sorted[bin * n / bins..(bin + 1) * n / bins];
        let probability: f64 = part.iter().map(|(p, _)| p).sum();
        let happened = part.iter().filter(|(_, e)| *e).count() as f64;
        error += (probability - happened).abs();
    }
    error / n.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macro_f1_equals_a_worked_example() {
        // Class 0: 1 hit, said 2, real 1 → 2/3. Class 1: 1 hit, said 1, real 2 → 2/3. Class 2: 1 of 1 → 1.
        let f1 = macro_f1(&[0, 0, 1, 2], &[0, 1, 1, 2]);
        assert!((f1 - (2.0 / 3.0 + 2.0 / 3.0 + 1.0) / 3.0).abs() < 1e-12);
        // A class that occurs nowhere does not count; one that is only predicted counts as zero.
        assert!((macro_f1(&[0, 2], &[0, 0]) - (2.0 / 3.0) / 2.0).abs() < 1e-12);
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
}
