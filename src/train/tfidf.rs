//! The baseline that a network must beat: word 1–2-gram tf-idf and multinomial logistic regression (as in scikit-learn's
//! `TfidfVectorizer` and `LogisticRegression`) on the interaction's text and the exchange before it, each a field of its own; where sessions have one
//! label each, also on all that was said in them.
//!
//! Knows hashes of words and labels; no network, no files. Part of evaluation, so it needs no training library.

use std::collections::{BTreeMap, HashMap, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

use crate::customer::Item;
use crate::interaction::Actor;

/// The last texts of one customer, as the baseline reads them.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    customer: Box<[u32]>,
    agent: Box<[u32]>,
    /// The last [`SESSION`] texts and who said them, where the whole session counts.
    session: Option<VecDeque<(Actor, Box<[u32]>)>>,
}

/// Most texts of a session, the interaction's own included.
const SESSION: usize = 32;
/// The field of what was said in the session.
const SAID: u8 = 3;

/// One text in its context: hashed n-grams with their counts, by field.
pub type Document = Vec<(u32, f32)>;

impl Exchange {
    /// At the start of a customer; `sessions`: whether all that was said before goes into a document.
    pub fn new(sessions: bool) -> Self {
        Self { session: sessions.then(VecDeque::new), ..Self::default() }
    }

    /// The document of `item`, given what was said before it.
    pub fn document(&self, item: &Item) -> Document {
        let mut counts: BTreeMap<u32, f32> = BTreeMap::new();
        let mut add = |field: u8, speaker: Option<Actor>, tokens: &[u32]| {
            let mut add = |first: u32, second: u32| {
                let mut key = [0; 10];
                key[0] = field;
                key[1..5].copy_from_slice(&first.to_le_bytes());
                key[5..9].copy_from_slice(&second.to_le_bytes());
                key[9] = speaker.map_or(0, |actor| actor as u8);
                let key = &key[..if speaker.is_some() { 10 } else { 9 }];
                // The field in the low bits, so that each can be normalised by itself.
                *counts.entry((xxh3_64(key) as u32) << 2 | u32::from(field)).or_default() += 1.0;
            };
            tokens.iter().for_each(|&t| add(0, t));
            tokens.windows(2).for_each(|pair| add(pair[0], pair[1]));
        };
        for (field, tokens) in [(0, &item.tokens), (1, &self.agent), (2, &self.customer)] {
            add(field, None, tokens);
        }
        if let Some(session) = &self.session {
            session.iter().for_each(|(actor, tokens)| add(SAID, Some(*actor), tokens));
            add(SAID, Some(item.actor), &item.tokens);
        }
        counts.into_iter().collect()
    }

    /// Remembers what was said.
    pub fn add(&mut self, item: &Item) {
        if item.tokens.is_empty() {
            return;
        }
        match item.actor {
            Actor::Customer => self.customer = item.tokens.clone(),
            Actor::Agent => self.agent = item.tokens.clone(),
            Actor::System => {}
        }
        if let Some(session) = &mut self.session {
            session.push_back((item.actor, item.tokens.clone()));
            if session.len() == SESSION {
                session.pop_front();
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
    /// Whether its documents hold all that was said in a session.
    sessions: bool,
}

pub type Row = Vec<(u32, f32)>;

impl Tfidf {
    pub fn classes(&self) -> usize {
        self.bias.len()
    }

    /// The start of a customer whose documents it reads.
    pub fn exchange(&self) -> Exchange {
        Exchange::new(self.sessions)
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
        let (bias, weights, sessions) = (vec![0.0; classes], vec![0.0; grams.len() * classes], reads_sessions(&grams));
        Self { documents: documents.len() as u32, bias, weights, grams, sessions }
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
        let sessions = reads_sessions(&grams);
        Some(Self { documents, bias, grams, weights, sessions })
    }
}

fn reads_sessions(grams: &HashMap<u32, (u32, u32)>) -> bool {
    grams.keys().any(|gram| gram & 3 == u32::from(SAID))
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
pub fn loss(x: &[f64], gradient: &mut [f64], rows: &[Row], labels: &[usize], k: usize, c: f64, penalised: usize) -> f64 {
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
pub fn minimise(x: &mut Vec<f64>, iterations: usize, mut function: impl FnMut(&[f64], &mut [f64]) -> f64) {
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
    use crate::customer::words::Splitter;
    use crate::interaction::{DecodeOptions, decode};

    fn documents() -> (Vec<Document>, Vec<usize>) {
        // Gram 4 means class 0, gram 8 class 1, gram 12 nothing; gram 16 occurs once and is no feature.
        let documents =
            vec![vec![(4, 1.0), (12, 1.0)], vec![(4, 2.0)], vec![(8, 1.0), (12, 1.0)], vec![(8, 1.0)], vec![(8, 1.0), (4, 1.0), (16, 1.0)]];
        (documents, vec![0, 0, 1, 1, 1])
    }

    #[test]
    fn a_session_is_read_where_there_is_one_label_for_it() {
        let mut splitter = Splitter::default();
        let mut said = |actor: &str, word: u32| {
            // One Chinese character is one word.
            let (time, word) = ("2024-01-01T10:00:00Z", char::from_u32(0x4e00 + word).unwrap_or_default());
            let json =
                format!(r#"{{"id":"i","customer_id":"c","occurred_at":"{time}","kind":"message","actor":"{actor}","text":"{word}"}}"#);
            let interaction = decode(json.as_bytes(), DecodeOptions::default()).expect("an interaction").interaction;
            splitter.split(interaction.text.as_deref().unwrap_or_default());
            Item::new(&interaction, &splitter)
        };
        // The label is what the agent said first; the exchange before the last interaction does not know it.
        let mut document = |sessions: bool, class: u32| {
            let mut exchange = Exchange::new(sessions);
            for (actor, word) in [("agent", class), ("customer", 1 - class), ("agent", 7), ("customer", 8)] {
                exchange.add(&said(actor, word));
            }
            exchange.document(&said("customer", 9))
        };
        for sessions in [false, true] {
            let documents: Vec<Document> = [0, 1, 0, 1].map(|class| document(sessions, class)).into();
            let model = Tfidf::fit(&documents, &[0, 1, 0, 1], 2, 10.0, None);
            let read = Tfidf::decode(&model.encode()).expect("its own bytes");
            assert_eq!((model.sessions, read.sessions), (sessions, sessions));
            let p = model.probabilities(&documents[0])[0];
            assert_eq!(p > 0.8, sessions, "{p}");
        }
        // The oldest texts are forgotten.
        let mut exchange = Exchange::new(true);
        (0..100).for_each(|word| exchange.add(&said("customer", word)));
        let grams = exchange.document(&said("customer", 100));
        assert_eq!(grams.iter().filter(|(gram, _)| gram & 3 == u32::from(SAID)).count(), SESSION);
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
