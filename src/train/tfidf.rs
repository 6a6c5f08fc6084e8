//! The baseline that a network must beat: word 1–2-gram tf-idf and multinomial logistic regression (as in scikit-learn's
//! `TfidfVectorizer` and `LogisticRegression`) on the interaction's text and the exchange before it, each a field of its own.
//!
//! Knows hashes of words and labels; no network, no files. Part of evaluation, so it needs no training library.

use std::collections::{BTreeMap, HashMap};

use xxhash_rust::xxh3::xxh3_64;

use crate::customer::Item;
use crate::interaction::Actor;

/// The last texts of one customer, as the baseline reads them.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    customer: Box<[u32]>,
    agent: Box<[u32]>,
}

/// One text in its context: hashed n-grams with their counts, by field.
pub type Document = Vec<(u32, f32)>;

impl Exchange {
    /// The document of `item`, given what was said before it.
    pub fn document(&self, item: &Item) -> Document {
        let mut counts: BTreeMap<u32, f32> = BTreeMap::new();
        for (field, tokens) in [(0u8, &item.tokens), (1, &self.agent), (2, &self.customer)] {
            let mut add = |first: u32, second: u32| {
                let mut key = [0; 9];
                key[0] = field;
                key[1..5].copy_from_slice(&first.to_le_bytes());
                key[5..].copy_from_slice(&second.to_le_bytes());
                // The field in the low bits, so that each can be normalised by itself.
                *counts.entry((xxh3_64(&key) as u32) << 2 | u32::from(field)).or_default() += 1.0;
            };
            tokens.iter().for_each(|&t| add(0, t));
            tokens.windows(2).for_each(|pair| add(pair[0], pair[1]));
        }
        counts.into_iter().collect()
    }

    /// Remembers what was said.
    pub fn add(&mut self, item: &Item) {
        if !item.tokens.is_empty() {
            match item.actor {
                Actor::Customer => self.customer = item.tokens.clone(),
                Actor::Agent => self.agent = item.tokens.clone(),
                Actor::System => {}
            }
        }
    }
}

/// A fitted baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Tfidf {
    /// Documents that it was fitted on.
    documents: u32,
    bias: Vec<f32>,
    /// Number of documents with each n-gram, and its row of `weights`.
    grams: HashMap<u32, (u32, u32)>,
    /// `[grams][classes]`
    weights: Vec<f32>,
}

type Row = Vec<(u32, f32)>;

impl Tfidf {
    pub fn classes(&self) -> usize {
        self.bias.len()
    }

    fn row(&self, document: &Document) -> Row {
        let mut row = Row::with_capacity(document.len());
        let mut norms = [0.0f32; 4];
        for &(gram, count) in document {
            if let Some(&(seen, index)) = self.grams.get(&gram) {
                // scikit-learn's smooth idf.
                let idf = ((1.0 + self.documents as f32) / (1.0 + seen as f32)).ln() + 1.0;
                let x = count * idf;
                norms[(gram & 3) as usize] += x * x;
                row.push((index << 2 | (gram & 3), x));
            }
        }
        for (index, x) in &mut row {
            *x /= norms[(*index & 3) as usize].sqrt();
            *index >>= 2;
        }
        row
    }

    fn logits(&self, row: &Row) -> Vec<f32> {
        let k = self.classes();
        let mut z = self.bias.clone();
        for &(index, x) in row {
            for (z, w) in z.iter_mut().zip(&self.weights[index as usize * k..][..k]) {
                *z += w * x;
            }
        }
        z
    }

    /// Probabilities of the classes.
    pub fn probabilities(&self, document: &Document) -> Vec<f32> {
        let mut p = self.logits(&self.row(document));
        softmax(&mut p);
        p
    }

    /// Fits on documents; `c` is the inverse of the L2 penalty, as in scikit-learn. `from` may be a fit of other `c` to start from.
    pub fn fit(documents: &[Document], labels: &[usize], classes: usize, c: f64, from: Option<&Tfidf>) -> Self {
        let mut model = match from {
            Some(model) => model.clone(),
            None => Self::vocabulary(documents, classes),
        };
        let rows: Vec<Row> = documents.iter().map(|d| model.row(d)).collect();
        let mut x: Vec<f64> = model.weights.iter().chain(&model.bias).map(|w| f64::from(*w)).collect();
        let penalised = model.weights.len();
        minimise(&mut x, 60, |x, gradient| loss(x, gradient, &rows, labels, classes, c, penalised));
        model.weights = x[..penalised].iter().map(|w| *w as f32).collect();
        model.bias = x[penalised..].iter().map(|w| *w as f32).collect();
        model
    }

    fn vocabulary(documents: &[Document], classes: usize) -> Self {
        let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
        for (gram, _) in documents.iter().flatten() {
            *seen.entry(*gram).or_default() += 1;
        }
        let mut seen: Vec<(u32, u32)> = seen.into_iter().filter(|(_, n)| *n >= 2).collect();
        // scikit-learn's `max_features`: of a task with many classes, the most frequent.
        seen.sort_by_key(|(gram, n)| (std::cmp::Reverse(*n), *gram));
        seen.truncate(MOST_WEIGHTS / classes.max(1));
        seen.sort_unstable();
        let grams: HashMap<u32, (u32, u32)> = seen.into_iter().enumerate().map(|(i, (gram, n))| (gram, (n, i as u32))).collect();
        Self { documents: documents.len() as u32, bias: vec![0.0; classes], weights: vec![0.0; grams.len() * classes], grams }
    }

    /// Drops what 16 bits a weight cannot hold, and writes the rest; see [`Self::decode`].
    pub fn encode(&self) -> Vec<u8> {
        let k = self.classes();
        let largest = self.weights.iter().fold(1e-9f32, |a, w| a.max(w.abs()));
        let scale = largest / 32767.0;
        let mut out = MAGIC.to_vec();
        out.extend(self.documents.to_le_bytes());
        out.extend((k as u32).to_le_bytes());
        out.extend(scale.to_le_bytes());
        self.bias.iter().for_each(|b| out.extend(b.to_le_bytes()));
        let mut grams: Vec<_> = self.grams.iter().collect();
        grams.sort_unstable();
        for (gram, (seen, index)) in grams {
            out.extend(gram.to_le_bytes());
            out.extend((*seen).min(65535).to_le_bytes()[..2].iter());
            for w in &self.weights[*index as usize * k..][..k] {
                out.extend(((w / scale).round() as i16).to_le_bytes());
            }
        }
        out
    }

    /// Reads what [`Self::encode`] wrote; `None` where it is anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let mut word = || {
            let (head, tail) = rest.split_first_chunk::<4>()?;
            rest = tail;
            Some(*head)
        };
        let documents = u32::from_le_bytes(word()?);
        let classes = u32::from_le_bytes(word()?) as usize;
        let scale = f32::from_le_bytes(word()?);
        if !(2..=4096).contains(&classes) {
            return None;
        }
        let bias = (0..classes).map(|_| word().map(f32::from_le_bytes)).collect::<Option<Vec<f32>>>()?;
        let width = 6 + 2 * classes;
        let entries = rest.chunks_exact(width);
        if !entries.remainder().is_empty() {
            return None;
        }
        let (mut grams, mut weights) = (HashMap::new(), Vec::new());
        for (i, entry) in entries.enumerate() {
            let gram = u32::from_le_bytes(entry[..4].try_into().ok()?);
            grams.insert(gram, (u32::from(u16::from_le_bytes(entry[4..6].try_into().ok()?)), i as u32));
            weights.extend(entry[6..].chunks_exact(2).map(|w| f32::from(i16::from_le_bytes([w[0], w[1]])) * scale));
        }
        Some(Self { documents, bias, grams, weights })
    }
}

/// Where a bundle keeps the baseline of a task. Of a name only letters, digits, `-` and `_` go into the file's, the rest as hexadecimal digits.
pub fn file(task: &str) -> String {
    if task == crate::interaction::SATISFACTION {
        return "baselines/tfidf.bin".into();
    }
    let mut name = String::new();
    for byte in task.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    format!("baselines/tfidf.{name}.bin")
}

const MAGIC: &[u8] = b"rapport tfidf 1\n";
/// Most weights of a model; the minimiser holds some twenty vectors of as many.
const MOST_WEIGHTS: usize = 1_500_000;

fn softmax(z: &mut [f32]) {
    let max = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    z.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f32 = z.iter().sum();
    z.iter_mut().for_each(|x| *x /= sum);
}

/// Sum of the log-losses times `c`, plus half the squared weights; adds its gradient.
fn loss(x: &[f64], gradient: &mut [f64], rows: &[Row], labels: &[usize], k: usize, c: f64, penalised: usize) -> f64 {
    let mut total = 0.0;
    for (g, w) in gradient.iter_mut().zip(&x[..penalised]) {
        *g = *w;
        total += 0.5 * w * w;
    }
    gradient[penalised..].fill(0.0);
    let mut z = vec![0.0f64; k];
    for (row, &label) in rows.iter().zip(labels) {
        z.copy_from_slice(&x[penalised..]);
        for &(index, value) in row {
            for (z, w) in z.iter_mut().zip(&x[index as usize * k..][..k]) {
                *z += w * f64::from(value);
            }
        }
        let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = z.iter().map(|v| (v - max).exp()).sum();
        total += c * (max + sum.ln() - z[label]);
        for (class, v) in z.iter_mut().enumerate() {
            *v = c * ((*v - max).exp() / sum - if class == label { 1.0 } else { 0.0 });
        }
        for &(index, value) in row {
            for (g, e) in gradient[index as usize * k..][..k].iter_mut().zip(&z) {
                *g += e * f64::from(value);
            }
        }
        for (g, e) in gradient[penalised..].iter_mut().zip(&z) {
            *g += e;
        }
    }
    total
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// L-BFGS with ten pairs and halving line search (Nocedal and Wright, algorithms 7.4 and 7.5).
fn minimise(x: &mut Vec<f64>, iterations: usize, mut function: impl FnMut(&[f64], &mut [f64]) -> f64) {
    let n = x.len();
    let mut gradient = vec![0.0; n];
    let mut value = function(x, &mut gradient);
    let mut pairs: std::collections::VecDeque<(Vec<f64>, Vec<f64>, f64)> = Default::default();
    for iteration in 0..iterations {
        let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut alphas = Vec::with_capacity(pairs.len());
        for (s, y, rho) in pairs.iter().rev() {
            let alpha = rho * dot(s, &direction);
            direction.iter_mut().zip(y).for_each(|(d, y)| *d -= alpha * y);
            alphas.push(alpha);
        }
        let first = match pairs.back() {
            Some((s, y, _)) => dot(s, y) / dot(y, y),
            None => 1.0 / dot(&gradient, &gradient).sqrt().max(1e-12),
        };
        direction.iter_mut().for_each(|d| *d *= first);
        for ((s, y, rho), alpha) in pairs.iter().zip(alphas.iter().rev()) {
            let beta = rho * dot(y, &direction);
            direction.iter_mut().zip(s).for_each(|(d, s)| *d += (alpha - beta) * s);
        }
        let slope = dot(&gradient, &direction);
        let mut step = 1.0;
        let (mut next, mut next_gradient) = (x.clone(), vec![0.0; n]);
        let next_value = loop {
            for ((to, from), d) in next.iter_mut().zip(x.iter()).zip(&direction) {
                *to = from + step * d;
            }
            let v = function(&next, &mut next_gradient);
            if v <= value + 1e-4 * step * slope || step < 1e-10 {
                break v;
            }
            step *= 0.5;
        };
        let done = (value - next_value).abs() <= 1e-6 * value.abs() && iteration > 0;
        let s: Vec<f64> = next.iter().zip(x.iter()).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let sy = dot(&s, &y);
        if sy > 1e-12 {
            if pairs.len() == 10 {
                pairs.pop_front();
            }
            pairs.push_back((s, y, 1.0 / sy));
        }
        (*x, gradient, value) = (next, next_gradient, next_value);
        if done {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> (Vec<Document>, Vec<usize>) {
        // Gram 4 means class 0, gram 8 class 1, gram 12 nothing; gram 16 occurs once and is no feature.
        let documents =
            vec![vec![(4, 1.0), (12, 1.0)], vec![(4, 2.0)], vec![(8, 1.0), (12, 1.0)], vec![(8, 1.0)], vec![(8, 1.0), (4, 1.0), (16, 1.0)]];
        (documents, vec![0, 0, 1, 1, 1])
    }

    #[test]
    fn minimises_the_rosenbrock_function() {
        let mut x = vec![-1.2, 1.0];
        minimise(&mut x, 200, |x, g| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            g[0] = -2.0 * a - 400.0 * x[0] * b;
            g[1] = 200.0 * b;
            a * a + 100.0 * b * b
        });
        assert!((x[0] - 1.0).abs() < 1e-2 && (x[1] - 1.0).abs() < 1e-2, "{x:?}");
    }

    #[test]
    fn a_fit_has_no_gradient_left_and_separates() {
        let (documents, labels) = documents();
        let model = Tfidf::fit(&documents, &labels, 2, 10.0, None);
        assert!(model.probabilities(&documents[0])[0] > 0.8);
        assert!(model.probabilities(&documents[3])[1] > 0.8);
        assert!(!model.grams.contains_key(&16));
        let rows: Vec<Row> = documents.iter().map(|d| model.row(d)).collect();
        let x: Vec<f64> = model.weights.iter().chain(&model.bias).map(|w| f64::from(*w)).collect();
        let mut gradient = vec![0.0; x.len()];
        loss(&x, &mut gradient, &rows, &labels, 2, 10.0, model.weights.len());
        assert!(dot(&gradient, &gradient).sqrt() < 0.05, "{gradient:?}");
    }

    #[test]
    fn the_gradient_equals_finite_differences() {
        let (documents, labels) = documents();
        let model = Tfidf::fit(&documents, &labels, 2, 1.0, None);
        let rows: Vec<Row> = documents.iter().map(|d| model.row(d)).collect();
        let x: Vec<f64> = (0..model.weights.len() + 2).map(|i| (i as f64 * 0.7).sin()).collect();
        let (mut gradient, mut unused) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        loss(&x, &mut gradient, &rows, &labels, 2, 3.0, model.weights.len());
        for i in 0..x.len() {
            let mut at = |d: f64| {
                let mut y = x.clone();
                y[i] += d;
                loss(&y, &mut unused, &rows, &labels, 2, 3.0, model.weights.len())
            };
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((numeric - gradient[i]).abs() < 1e-5, "{i}: {} against {numeric}", gradient[i]);
        }
    }

    #[test]
    fn stored_and_read_back_it_says_nearly_the_same() {
        let (documents, labels) = documents();
        let model = Tfidf::fit(&documents, &labels, 2, 1.0, None);
        let bytes = model.encode();
        let read = Tfidf::decode(&bytes).expect("its own bytes");
        for d in &documents {
            for (a, b) in model.probabilities(d).iter().zip(read.probabilities(d)) {
                assert!((a - b).abs() < 1e-3);
            }
        }
        assert_eq!(read.encode(), bytes);
        assert_eq!(Tfidf::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Tfidf::decode(b"something else"), None);
    }
}
