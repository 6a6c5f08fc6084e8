//! `reference.json`: how inputs and outputs were distributed where a bundle was fitted, and how far from that later ones are.
//!
//! Knows numbers and names alone: no scores, customers or clocks. Whoever scores feeds a [`Watch`].
//!
//! Population stability index: Σ (a − e) · ln(a / e) over bins, with e the shares of the reference and a those observed (Siddiqi, Credit Risk
//! Scorecards, 2006; Yurdakul, Statistical properties of the population stability index, 2018). Below 0.1 is commonly read as no change, above 0.25 as a
//! large one. Without any change its mean is (bins − 1) · (1/n + 1/m) for n and m values.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Bins of a numeric column, of about equal mass in the reference.
pub const BINS: usize = 10;
/// Fewer values in a bin would be more chance than shape.
const FEWEST_IN_BIN: usize = 10;
/// Shares below this count as this, so that an empty bin does not make the index infinite.
const LEAST_SHARE: f64 = 1e-4;
/// Labels of a reference; rarer ones count as "any other".
const MOST_LABELS: usize = 50;

/// The distribution of one column as counts by bin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Histogram {
    /// Bin `i` holds values at most `edges[i]` and above `edges[i - 1]`; the last bin all above the last edge.
    Numbers { edges: Vec<f32>, counts: Vec<u64> },
    /// One bin per label, the last for any other.
    Labels { labels: Vec<String>, counts: Vec<u64> },
}

impl Histogram {
    /// Bins of equal mass, ten values or more in each, as far as equal values allow. A constant gets bins below, at and above it.
    ///
    /// An edge lies between two values that differ by more than rounding does: another runtime of the same network must not put a value that
    /// comes often on the other side.
    pub fn of_numbers(mut values: Vec<f32>) -> Self {
        values.retain(|v| v.is_finite());
        values.sort_by(f32::total_cmp);
        let bins = (values.len() / FEWEST_IN_BIN).clamp(2, BINS);
        let mut edges: Vec<f32> = Vec::with_capacity(bins);
        if let (Some(&first), Some(&last)) = (values.first(), values.last()) {
            let rounding = (1e-4 * (last - first)).max(1e-5 * first.abs().max(last.abs())).max(1e-6);
            edges.extend((1..bins).filter_map(|i| {
                let quantile = values[(i * values.len()).div_ceil(bins) - 1];
                let next = values.partition_point(|v| *v <= quantile + rounding);
                let (below, above) = (values[next - 1], *values.get(next)?);
                Some(below + (above - below) / 2.0)
            }));
            edges.dedup();
            if edges.is_empty() {
                edges.extend([first - rounding, last + rounding]);
            }
        }
        let mut histogram = Self::Numbers { counts: vec![0; edges.len() + 1], edges };
        for value in values {
            let bin = histogram.bin_of_number(value);
            histogram.add(bin);
        }
        histogram
    }

    /// One bin for each of the most frequent labels, one for any other.
    pub fn of_labels<'a>(observed: impl IntoIterator<Item = &'a str>) -> Self {
        let mut found: std::collections::BTreeMap<&str, u64> = Default::default();
        for label in observed {
            *found.entry(label).or_default() += 1;
        }
        let mut found: Vec<(&str, u64)> = found.into_iter().collect();
        found.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let rest = found.iter().skip(MOST_LABELS).map(|(_, n)| n).sum();
        found.truncate(MOST_LABELS);
        let counts = found.iter().map(|(_, n)| *n).chain([rest]).collect();
        Self::Labels { labels: found.into_iter().map(|(l, _)| l.to_owned()).collect(), counts }
    }

    pub fn counts(&self) -> &[u64] {
        match self {
            Self::Numbers { counts, .. } | Self::Labels { counts, .. } => counts,
        }
    }

    /// The bin of a number; `None` for NaN, or where the bins are labels.
    pub fn bin_of_number(&self, value: f32) -> Option<usize> {
        match self {
            Self::Numbers { edges, .. } if !value.is_nan() => Some(edges.partition_point(|e| *e < value)),
            _ => None,
        }
    }

    /// The bin of a label; `None` where the bins are numbers.
    pub fn bin_of_label(&self, label: &str) -> Option<usize> {
        match self {
            Self::Labels { labels, .. } => Some(labels.iter().position(|l| l == label).unwrap_or(labels.len())),
            Self::Numbers { .. } => None,
        }
    }

    fn add(&mut self, bin: Option<usize>) {
        match self {
            Self::Numbers { counts, .. } | Self::Labels { counts, .. } => {
                if let Some(count) = bin.and_then(|b| counts.get_mut(b)) {
                    *count += 1;
                }
            }
        }
    }

    /// Population stability index of `observed` (counts in the same bins); 0 where either side is empty.
    pub fn psi(&self, observed: &[u64]) -> f64 {
        psi(self.counts(), observed)
    }

    fn is_sound(&self) -> bool {
        match self {
            Self::Numbers { edges, counts } => counts.len() == edges.len() + 1 && edges.is_sorted_by(|a, b| a < b),
            Self::Labels { labels, counts } => counts.len() == labels.len() + 1,
        }
    }
}

/// Population stability index of counts in the same bins.
pub fn psi(expected: &[u64], observed: &[u64]) -> f64 {
    let (e, a): (u64, u64) = (expected.iter().sum(), observed.iter().sum());
    if e == 0 || a == 0 {
        return 0.0;
    }
    let share = |n: u64, of: u64| (n as f64 / of as f64).max(LEAST_SHARE);
    expected.iter().zip(observed).map(|(x, y)| (share(*x, e), share(*y, a))).map(|(e, a)| (a - e) * (a / e).ln()).sum()
}

/// A named column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    pub histogram: Histogram,
}

/// What `reference.json` holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The columns of the sequence layout, in its order, as the network reads them (scaled).
    pub inputs: Vec<Column>,
    /// What a customer has done up to an interaction and with it, in the order of the behaviour features: what churn, spend, next need, segment and
    /// anomaly are read from. Empty where a bundle has none of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behaviour: Vec<Column>,
    /// Outputs by name: `satisfaction.dissatisfied`, `satisfaction.value`, `churn.probability`, `spend.purchases`, `spend.amount`, `anomaly`, each
    /// class task's likeliest label, and that of `segment`.
    pub outputs: Vec<Column>,
}

impl Reference {
    /// Its name among a bundle's files.
    pub const FILE: &str = "reference.json";

    /// Reads the file's content.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let reference: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        match reference.inputs.iter().chain(&reference.behaviour).chain(&reference.outputs).find(|c| !c.histogram.is_sound()) {
            Some(column) => Err(format!("column {:?}: bins and counts do not fit", column.name)),
            None => Ok(reference),
        }
    }
}

/// Counts what comes by, in the bins of a reference. Cheap enough for every interaction; one per thread, merged where they are read.
#[derive(Debug, Clone)]
pub struct Watch {
    reference: Arc<Reference>,
    inputs: Vec<Vec<u64>>,
    behaviour: Vec<Vec<u64>>,
    outputs: Vec<Vec<u64>>,
    interactions: u64,
}

/// One column's distance from the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    pub name: String,
    pub is_input: bool,
    pub psi: f64,
    /// Values seen.
    pub n: u64,
}

impl Watch {
    pub fn new(reference: Arc<Reference>) -> Self {
        let empty = |columns: &[Column]| columns.iter().map(|c| vec![0; c.histogram.counts().len()]).collect();
        let (inputs, behaviour, outputs) = (empty(&reference.inputs), empty(&reference.behaviour), empty(&reference.outputs));
        Self { inputs, behaviour, outputs, interactions: 0, reference }
    }

    /// Interactions whose inputs were counted.
    pub fn interactions(&self) -> u64 {
        self.interactions
    }

    /// Counts the scaled features of one interaction, in the order of the layout.
    pub fn input(&mut self, features: &[f32]) {
        self.interactions += 1;
        for ((column, counts), value) in self.reference.inputs.iter().zip(&mut self.inputs).zip(features) {
            count(counts, column.histogram.bin_of_number(*value));
        }
    }

    /// Whether [`Self::behaviour`] counts anything.
    pub fn counts_behaviour(&self) -> bool {
        !self.behaviour.is_empty()
    }

    /// Counts the behaviour features of a customer right after an interaction.
    pub fn behaviour(&mut self, features: &[f32]) {
        for ((column, counts), value) in self.reference.behaviour.iter().zip(&mut self.behaviour).zip(features) {
            count(counts, column.histogram.bin_of_number(*value));
        }
    }

    /// Counts a numeric output; a name that the reference lacks is passed over.
    pub fn number(&mut self, name: &str, value: f32) {
        if let Some(i) = self.reference.outputs.iter().position(|c| c.name == name) {
            count(&mut self.outputs[i], self.reference.outputs[i].histogram.bin_of_number(value));
        }
    }

    /// Counts the likeliest label of a class task.
    pub fn label(&mut self, name: &str, label: &str) {
        if let Some(i) = self.reference.outputs.iter().position(|c| c.name == name) {
            count(&mut self.outputs[i], self.reference.outputs[i].histogram.bin_of_label(label));
        }
    }

    /// Adds what another watch of the same reference counted.
    pub fn merge(&mut self, other: &Self) {
        self.interactions += other.interactions;
        let pairs = self.inputs.iter_mut().zip(&other.inputs).chain(self.behaviour.iter_mut().zip(&other.behaviour));
        for (into, from) in pairs.chain(self.outputs.iter_mut().zip(&other.outputs)) {
            into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        }
    }

    /// Forgets everything counted.
    pub fn clear(&mut self) {
        self.interactions = 0;
        self.inputs.iter_mut().chain(&mut self.behaviour).chain(&mut self.outputs).for_each(|c| c.fill(0));
    }

    /// Every column's index, inputs first, in the order of the reference.
    pub fn drift(&self) -> Vec<Drift> {
        let inputs = self.reference.inputs.iter().zip(&self.inputs).chain(self.reference.behaviour.iter().zip(&self.behaviour));
        let columns = inputs.map(|c| (c, true)).chain(self.reference.outputs.iter().zip(&self.outputs).map(|c| (c, false)));
        columns
            .map(|((column, counts), is_input)| Drift {
                name: column.name.clone(),
                is_input,
                psi: column.histogram.psi(counts),
                n: counts.iter().sum(),
            })
            .collect()
    }

    /// The outputs' counts beside their columns, in the order of the reference.
    pub fn outputs(&self) -> impl Iterator<Item = (&Column, &[u64])> {
        self.reference.outputs.iter().zip(&self.outputs).map(|(c, n)| (c, n.as_slice()))
    }
}

fn count(counts: &mut [u64], bin: Option<usize>) {
    if let Some(n) = bin.and_then(|b| counts.get_mut(b)) {
        *n += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_equals_a_worked_example() {
        // Shares 0.25 ×4 against 0.30, 0.20, 0.40, 0.10:
        // .05 ln 1.2 + .05 ln 1.25 + .15 ln 1.6 + .15 ln 2.5 = .0091161 + .0111572 + .0705005 + .1374436
        let found = psi(&[25, 25, 25, 25], &[30, 20, 40, 10]);
        assert!((found - 0.228_217_4).abs() < 1e-6, "{found}");
        // It does not tell which side is which.
        assert!((psi(&[30, 20, 40, 10], &[25, 25, 25, 25]) - found).abs() < 1e-12);
        assert_eq!(psi(&[5, 5], &[100, 100]), 0.0);
        assert_eq!(psi(&[5, 5], &[0, 0]), 0.0);
        // An empty bin counts as a share of 1e-4: (1 − .5) ln 2 + (.0001 − .5) ln .0002.
        assert!((psi(&[5, 5], &[9, 0]) - (0.5 * 2f64.ln() + (1e-4 - 0.5) * 2e-4f64.ln())).abs() < 1e-12);
    }

    #[test]
    fn bins_have_equal_mass_and_every_value_has_one() {
        let h = Histogram::of_numbers((0..1000).rev().map(|i| i as f32).collect());
        assert_eq!(h.counts(), [100; BINS]);
        assert_eq!(
            (h.bin_of_number(-1e9), h.bin_of_number(99.0), h.bin_of_number(99.6), h.bin_of_number(1e9)),
            (Some(0), Some(0), Some(1), Some(9))
        );
        assert_eq!(h.bin_of_number(f32::NAN), None);
        assert_eq!([1, 19, 46, 99].map(|n| Histogram::of_numbers((0..n).map(|i| i as f32).collect()).counts().len()), [3, 2, 4, 9]);
        // Ties: nine tenths of a flag are 0.
        let flag = Histogram::of_numbers((0..100).map(|i| f32::from(u8::from(i % 10 == 0))).collect());
        assert_eq!(flag.counts(), [90, 10]);
        assert!(flag.psi(&[50, 50]) > 0.8);
        assert_eq!(Histogram::of_numbers(vec![]).counts(), [0]);
    }

    #[test]
    fn a_constant_notices_any_other_value() {
        for constant in [0.0, -0.0, 3.5, -7.0] {
            let h = Histogram::of_numbers(vec![constant; 50]);
            assert!(h.is_sound());
            assert_eq!(h.counts(), [0, 50, 0], "{constant}");
            assert!(h.psi(&[0, 90, 10]) > 0.2 && h.psi(&[10, 90, 0]) > 0.2);
        }
    }

    #[test]
    fn rounding_does_not_move_values_across_an_edge() {
        // Four values that come often, as a network gives for four texts that come often.
        let often = |i: usize, by: f32| [0.1f32, 0.2, 0.45, 0.8][i % 4] * (1.0 + by);
        let h = Histogram::of_numbers((0..400).map(|i| often(i, 0.0)).collect());
        let mut counts = vec![0; h.counts().len()];
        (0..400).for_each(|i| counts[h.bin_of_number(often(i, 1e-6 * (i % 3) as f32 - 1e-6)).expect("a bin")] += 1);
        assert_eq!((counts.as_slice(), counts.len()), (h.counts(), 4));
        assert_eq!(Histogram::of_numbers((0..50).map(|i| 3.0 + 1e-6 * (i % 5) as f32).collect()).counts(), [0, 50, 0]);
    }

    #[test]
    fn watching_counts_merges_and_reports() {
        let column = |name: &str, histogram| Column { name: name.into(), histogram };
        let numbers = || Histogram::of_numbers((0..100).map(|i| i as f32 / 100.0).collect());
        let reference = Reference {
            inputs: vec![column("a", numbers()), column("b", numbers())],
            behaviour: vec![column("behaviour.a", numbers())],
            outputs: vec![column("value", numbers()), column("intent", Histogram::of_labels(["x", "x", "y", "x"]))],
        };
        let json = serde_json::to_vec(&reference).expect("numbers and names");
        let reference = Reference::read(&json).expect("its own bytes");
        let mut watch = Watch::new(Arc::new(reference));
        let mut other = watch.clone();
        for i in 0..100 {
            let half = if i % 2 == 0 { &mut watch } else { &mut other };
            // The first column as it was, the second all in its upper half.
            half.input(&[i as f32 / 100.0, 0.5 + i as f32 / 200.0]);
            half.behaviour(&[0.1]);
            half.label("intent", if i % 4 == 0 { "y" } else { "x" });
            half.label("unheard of", "x");
            half.number("value", f32::NAN);
        }
        watch.merge(&other);
        let drift = watch.drift();
        assert_eq!(watch.interactions(), 100);
        let psi = |name: &str| drift.iter().find(|d| d.name == name).map(|d| (d.psi, d.n)).expect("a column");
        assert!(psi("a").0 < 1e-9 && psi("b").0 > 1.0 && psi("behaviour.a").0 > 1.0 && psi("behaviour.a").1 == 100, "{drift:?}");
        assert!(watch.counts_behaviour() && drift.iter().filter(|d| d.is_input).count() == 3);
        assert_eq!((psi("intent"), psi("value")), ((0.0, 100), (0.0, 0)));
        watch.clear();
        assert!(watch.interactions() == 0 && watch.drift().iter().all(|d| d.n == 0));
    }

    #[test]
    fn a_reference_without_behaviour_is_read() {
        let reference = Reference::read(br#"{"inputs":[],"outputs":[]}"#).expect("as before there was any");
        assert_eq!(serde_json::to_string(&reference).expect("JSON"), r#"{"inputs":[],"outputs":[]}"#);
        let mut watch = Watch::new(Arc::new(reference));
        watch.behaviour(&[1.0]);
        assert!(!watch.counts_behaviour() && watch.drift().is_empty());
    }

    #[test]
    fn a_damaged_reference_is_refused() {
        for bad in [
            r#"{"inputs":[{"name":"a","histogram":{"edges":[1.0],"counts":[1]}}],"outputs":[]}"#,
            r#"{"inputs":[{"name":"a","histogram":{"edges":[2.0,1.0],"counts":[1,2,3]}}],"outputs":[]}"#,
            r#"{"inputs":[],"outputs":[{"name":"a","histogram":{"labels":["x"],"counts":[1,2,3]}}]}"#,
        ] {
            assert!(Reference::read(bad.as_bytes()).is_err_and(|e| e.contains("\"a\"")), "{bad}");
        }
    }
}
