//! The networks in burn: text encoder after its sparse front, GRU cell, heads, losses.
//!
//! Knows parameters and batches as plain numbers; nothing of files, schedules or optimisers.

use burn::tensor::activation::{log_softmax, sigmoid, tanh};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::device::{cpu, device};
use super::floats;
use super::intercepts::{LEAST_DEVIATION, Rated, intercepts};
use super::lookup::{self, Sizes, Tables, Text, to_vec};

/// Classes of satisfaction.
pub const CLASSES: usize = 3;

/// Sizes of everything. The exported graphs follow it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    pub sizes: Sizes,
    pub vocabulary: usize,
    pub bag_rows: usize,
    /// Width of the text vector that the GRU reads.
    pub vector: usize,
    pub hidden: usize,
    pub features: usize,
    /// Which feature tells that the customer acted, where one does.
    pub customer: Option<usize>,
    pub satisfaction: bool,
    /// Learning rates of the tables [`VOTES`] and [`OPINIONS`] over that of the rest.
    pub votes_rate: f32,
    pub opinions_rate: f32,
    pub tasks: Vec<TaskShape>,
}

/// Sizes of a class task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskShape {
    pub labels: usize,
    /// Whether every n-gram votes for every label directly, beside what the encoder makes of it.
    pub wide: bool,
}

#[cfg(test)]
impl Architecture {
    /// As small as can be, of ratings alone.
    pub fn small() -> Self {
        Self {
            sizes: Sizes { embedding: 4, filters: 2, bag: 3 },
            vocabulary: 12,
            bag_rows: 9,
            vector: 3,
            hidden: 4,
            features: 2,
            satisfaction: true,
            customer: None,
            votes_rate: 1.0,
            opinions_rate: 1.0,
            tasks: vec![],
        }
    }
}

impl Architecture {
    /// Columns of the table of votes: the labels of all wide tasks, one task after the other.
    pub fn votes(&self) -> usize {
        self.tasks.iter().filter(|t| t.wide).map(|t| t.labels).sum()
    }

    /// First column of task `i` in the table of votes, where it has any.
    pub fn first_vote(&self, i: usize) -> Option<usize> {
        self.tasks[i].wide.then(|| self.tasks[..i].iter().filter(|t| t.wide).map(|t| t.labels).sum())
    }

    /// Width of the satisfaction head's input: `[h | vector | features | previous vector | the one before | mean of h]`.
    pub fn head(&self) -> usize {
        2 * self.hidden + 3 * self.vector + self.features
    }

    /// Columns of the running mean: of the hidden vector, then of the n-grams' votes on satisfaction.
    pub fn mean(&self) -> usize {
        self.hidden + CLASSES
    }
}

/// One matrix of weights (a bias has one row).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    pub name: String,
    pub dims: [usize; 2],
    #[serde(with = "floats")]
    pub values: Vec<f32>,
    /// Takes weight decay.
    pub decay: bool,
    /// Its learning rate over that of the others.
    pub rate: f32,
}

pub const WORDS: usize = 0;
pub const BAG: usize = 1;
pub const FILTERS: usize = 2;
pub const FILTER_BIAS: usize = 3;
/// `[bag rows][votes]`: a linear model of the n-grams for the wide class tasks, started at zero.
pub const VOTES: usize = 4;
/// `[bag rows][3 | 3]`: the same for satisfaction, but read over the latest interactions together; the customer's words have the first three columns,
/// everybody else's the others.
pub const OPINIONS: usize = 5;
/// Columns of that table.
pub const SPOKEN: usize = 2 * CLASSES;
/// First parameter that lives in burn.
pub const DENSE: usize = 6;
pub const TEXT: usize = 6;
pub const TEXT_BIAS: usize = 7;
/// `[vector + features][z, r, h]`
pub const GRU_INPUT: usize = 8;
pub const GRU_INPUT_BIAS: usize = 9;
/// `[hidden][z, r, h]`
pub const GRU_HIDDEN: usize = 10;
pub const GRU_HIDDEN_BIAS: usize = 11;
pub const SATISFACTION: usize = 12;
pub const SATISFACTION_BIAS: usize = 13;
pub const MEAN: usize = 14;
pub const MEAN_BIAS: usize = 15;
/// Per class task three parameters: from the pooled text, from the hidden vector, bias.
pub const TASKS: usize = 16;

/// Standard deviation of the values of a fresh table.
pub const DEVIATION: f32 = 0.1;

/// All weights of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub architecture: Architecture,
    pub parameters: Vec<Parameter>,
}

impl Network {
    /// Fresh weights: uniform ± 1/√inputs for layers, small normal for tables (row 0 zero).
    pub fn new(architecture: Architecture, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let a = &architecture;
        let s = a.sizes;
        let mut parameters = Vec::new();
        let mut push = |name: &str, dims: [usize; 2], range: f32, decay: bool| {
            let values = (0..dims[0] * dims[1]).map(|_| rng.random_range(-1.0f32..1.0) * range).collect();
            let rate = match name {
                "votes" => a.votes_rate,
                "opinions" => a.opinions_rate,
                _ => 1.0,
            };
            parameters.push(Parameter { name: name.into(), dims, values, decay, rate });
        };
        // A uniform draw of ± √3 σ has the standard deviation σ.
        push("words", [a.vocabulary, s.embedding], DEVIATION * 3f32.sqrt(), false);
        push("bag", [a.bag_rows, s.bag], DEVIATION * 3f32.sqrt(), false);
        let convolution = 1.0 / (s.embedding as f32 * 4.0).sqrt();
        push("filters", [s.embedding, s.filter_weights() / s.embedding], convolution, true);
        push("filter_bias", [1, 3 * s.filters], convolution, false);
        push("votes", [a.bag_rows, a.votes()], 0.0, false);
        push("opinions", [a.bag_rows, SPOKEN], 0.0, false);
        let mut layer = |name: &str, inputs: usize, outputs: usize, range: f32| {
            push(name, [inputs, outputs], range, true);
            push(&format!("{name}_bias"), [1, outputs], range, false);
        };
        let by_inputs = |n: usize| 1.0 / (n as f32).sqrt();
        layer("text", s.pooled(), a.vector, by_inputs(s.pooled()));
        layer("gru_input", a.vector + a.features, 3 * a.hidden, by_inputs(a.hidden));
        layer("gru_hidden", a.hidden, 3 * a.hidden, by_inputs(a.hidden));
        layer("satisfaction", a.head(), CLASSES, by_inputs(a.head()));
        layer("mean", a.head(), 1, by_inputs(a.head()));
        for (i, &TaskShape { labels, .. }) in a.tasks.iter().enumerate() {
            push(&format!("class_{i}_text"), [s.pooled(), labels], by_inputs(s.pooled()), true);
            push(&format!("class_{i}_hidden"), [a.hidden, labels], by_inputs(a.hidden), true);
            push(&format!("class_{i}_bias"), [1, labels], 0.0, false);
        }
        for table in [WORDS, BAG] {
            let width = parameters[table].dims[1];
            parameters[table].values[..width].fill(0.0);
        }
        Self { architecture, parameters }
    }

    pub fn tables(&self) -> Tables<'_> {
        let p = |i: usize| self.parameters[i].values.as_slice();
        Tables { words: p(WORDS), bag: p(BAG), filters: p(FILTERS), bias: p(FILTER_BIAS) }
    }
}

/// What a sequence carries from one chunk of steps to the next; `[sequences][width]` each, zero at the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Carry {
    pub hidden: Vec<f32>,
    pub previous: Vec<f32>,
    pub before: Vec<f32>,
    /// Running mean of the latest steps, see [`Architecture::mean`].
    pub mean: Vec<f32>,
    /// Steps under that mean, at most [`SPAN`]; the same for all sequences, which start together.
    pub steps: f32,
}

/// Steps that the running mean looks back: beyond it, the mean decays exponentially.
pub const SPAN: f32 = 32.0;

impl Carry {
    pub fn start(sequences: usize, a: &Architecture) -> Self {
        let zeros = |width: usize| vec![0.0; sequences * width];
        Self { hidden: zeros(a.hidden), previous: zeros(a.vector), before: zeros(a.vector), mean: zeros(a.mean()), steps: 0.0 }
    }

    /// Of a single sequence: the state of `sequence.onnx`.
    pub fn state(&self) -> Vec<f32> {
        [self.hidden.as_slice(), &self.previous, &self.before, &self.mean, &[self.steps]].concat()
    }

    /// Keeps the first `sequences`.
    pub fn truncate(&mut self, sequences: usize, a: &Architecture) {
        self.hidden.truncate(sequences * a.hidden);
        self.previous.truncate(sequences * a.vector);
        self.before.truncate(sequences * a.vector);
        self.mean.truncate(sequences * a.mean());
    }
}

/// A chunk of steps of several sequences, packed without padding: all first steps, then all second steps, and so on.
/// Sequences are ordered from longest to shortest, so the ones that still run are always a prefix.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    /// How many sequences have a step at each time; never rises.
    pub counts: Vec<usize>,
    /// One text per step.
    pub texts: Vec<Text<'a>>,
    /// `[steps][features]`
    pub features: Vec<f32>,
    /// Mean ratings: (step, mean).
    pub ratings: Vec<(usize, f32)>,
    /// Per class task: (step, label).
    pub classes: Vec<Vec<(usize, u32)>>,
    pub carry: Carry,
}

/// Weights of the losses and what they divide by.
#[derive(Debug, Clone, PartialEq)]
pub struct Losses {
    /// Of the squared error of the mean, beside 1 for the three classes.
    pub mean: f32,
    /// Standard deviation of the customers' [random intercepts](super::intercepts), in logits; 0: none.
    pub intercept_deviation: f32,
    /// Of each class task.
    pub classes: Vec<f32>,
    /// Label smoothing of the class tasks.
    pub smoothing: f32,
    /// Ratings per batch, on average: dividing by it instead of by a batch's own count gives each label the same weight.
    pub ratings_per_batch: f32,
    pub labels_per_batch: Vec<f32>,
}

/// Dropout while training.
#[derive(Debug)]
pub struct Dropout<'a> {
    pub rate: f32,
    pub rng: &'a mut SmallRng,
}

/// Results of one chunk.
#[derive(Debug)]
pub struct Output {
    /// `[steps][3]`, where the architecture has satisfaction.
    pub satisfaction: Vec<f32>,
    /// Per class task `[steps][labels]`.
    pub classes: Vec<Vec<f32>>,
    /// `[steps][hidden]`
    pub hidden: Vec<f32>,
    /// `[steps][mean]`: see [`Architecture::mean`].
    pub means: Vec<f32>,
    pub carry: Carry,
}

struct Graph {
    satisfaction: Tensor<2>,
    mean: Tensor<2>,
    classes: Vec<Tensor<2>>,
    hidden: Tensor<2>,
    vectors: Tensor<2>,
    means: Tensor<2>,
}

/// What the sparse tables make of the texts.
#[derive(Clone)]
struct Front {
    pooled: Tensor<2>,
    /// Absent where no task is wide.
    votes: Option<Tensor<2>>,
    opinions: Tensor<2>,
}

fn matrix(values: Vec<f32>, rows: usize, device: &Device) -> Tensor<2> {
    let columns = values.len() / rows.max(1);
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

fn indices(rows: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let n = rows.len();
    Tensor::from_data(TensorData::new(rows, [n]), device)
}

fn drop_out(x: Tensor<2>, dropout: &mut Option<Dropout<'_>>, device: &Device) -> Tensor<2> {
    let Some(d) = dropout else { return x };
    let [rows, columns] = x.dims();
    let keep = 1.0 / (1.0 - d.rate);
    // One comparison of 16 random bits per value: a quarter of the draws.
    let limit = (d.rate * 65536.0) as u16;
    let mut mask = Vec::with_capacity(rows * columns + 4);
    while mask.len() < rows * columns {
        let bits: u64 = d.rng.random();
        mask.extend((0..4).map(|i| if ((bits >> (16 * i)) as u16) < limit { 0.0 } else { keep }));
    }
    mask.truncate(rows * columns);
    x.mul(matrix(mask, rows, device))
}

/// The dense part on one device; `weights` are the parameters from [`DENSE`] on.
fn dense(
    a: &Architecture,
    batch: &Batch<'_>,
    Front { pooled, votes, opinions }: Front,
    weights: &[Tensor<2>],
    mut dropout: Option<Dropout<'_>>,
    device: &Device,
) -> Graph {
    let w = |i: usize| weights[i - DENSE].clone();
    let steps = batch.texts.len();
    let sequences = batch.counts[0];
    let pooled = drop_out(pooled, &mut dropout, device);
    let vectors = tanh(pooled.clone().matmul(w(TEXT)) + w(TEXT_BIAS));
    let features = matrix(batch.features.clone(), steps, device);
    let input = Tensor::cat(vec![vectors.clone(), features.clone()], 1).matmul(w(GRU_INPUT)) + w(GRU_INPUT_BIAS);
    let h = a.hidden;
    let mut state = matrix(batch.carry.hidden.clone(), sequences, device);
    let (mut hidden, mut means) = (Vec::with_capacity(batch.counts.len()), Vec::with_capacity(batch.counts.len()));
    let mut mean = matrix(batch.carry.mean.clone(), sequences, device);
    // √ of the steps under the mean: a text's votes are sums / √n too.
    let mut weights_of_opinions = Vec::with_capacity(steps);
    let mut under = batch.carry.steps;
    let mut at = 0;
    for &count in &batch.counts {
        if state.dims()[0] > count {
            state = state.narrow(0, 0, count);
            mean = mean.narrow(0, 0, count);
        }
        let x = input.clone().narrow(0, at, count);
        let u = state.clone().matmul(w(GRU_HIDDEN)) + w(GRU_HIDDEN_BIAS);
        let gates = sigmoid(x.clone().narrow(1, 0, 2 * h) + u.clone().narrow(1, 0, 2 * h));
        let (z, r) = (gates.clone().narrow(1, 0, h), gates.narrow(1, h, h));
        let new = tanh(x.narrow(1, 2 * h, h) + r * u.narrow(1, 2 * h, h));
        state = new.clone() + z * (state - new);
        under = (under + 1.0).min(SPAN);
        let seen = Tensor::cat(vec![state.clone(), opinions.clone().narrow(0, at, count)], 1);
        mean = mean.clone() + (seen - mean).div_scalar(under);
        hidden.push(state.clone());
        means.push(mean.clone());
        weights_of_opinions.extend(std::iter::repeat_n(under.sqrt(), count));
        at += count;
    }
    let hidden = Tensor::cat(hidden, 0);
    let means = Tensor::cat(means, 0);
    let (earlier, before) = earlier_rows(batch);
    let history = Tensor::cat(
        vec![
            matrix(batch.carry.before.clone(), sequences, device),
            matrix(batch.carry.previous.clone(), sequences, device),
            vectors.clone(),
        ],
        0,
    );
    let previous = history.clone().select(0, indices(earlier, device));
    let before = history.select(0, indices(before, device));
    let head = Tensor::cat(vec![hidden.clone(), vectors.clone(), features, previous, before, means.clone().narrow(1, 0, h)], 1);
    let head = drop_out(head, &mut dropout, device);
    let opinion = means.clone().narrow(1, h, CLASSES).mul(matrix(weights_of_opinions, steps, device));
    let satisfaction = head.clone().matmul(w(SATISFACTION)) + w(SATISFACTION_BIAS) + opinion;
    let mean = head.matmul(w(MEAN)) + w(MEAN_BIAS);
    let classes = (0..a.tasks.len())
        .map(|i| {
            let p = TASKS + 3 * i;
            let context = drop_out(hidden.clone(), &mut dropout, device);
            let logits = pooled.clone().matmul(w(p)) + context.matmul(w(p + 1)) + w(p + 2);
            match (&votes, a.first_vote(i)) {
                (Some(votes), Some(first)) => logits + votes.clone().narrow(1, first, a.tasks[i].labels),
                _ => logits,
            }
        })
        .collect();
    Graph { satisfaction, mean, classes, hidden, vectors, means }
}

/// For every step the row of its predecessor and of the one before that in `[carry.before | carry.previous | vectors]`.
fn earlier_rows(batch: &Batch<'_>) -> (Vec<i64>, Vec<i64>) {
    let sequences = batch.counts[0];
    let mut offsets = vec![0, sequences];
    let mut at = 2 * sequences;
    for &count in &batch.counts {
        offsets.push(at);
        at += count;
    }
    let rows = |back: usize| {
        let mut rows = Vec::with_capacity(batch.texts.len());
        for (t, &count) in batch.counts.iter().enumerate() {
            rows.extend((0..count).map(|s| (offsets[t + 2 - back] + s) as i64));
        }
        rows
    };
    (rows(1), rows(2))
}

/// State of every sequence of the batch after its last step of this chunk.
fn carry_on(a: &Architecture, batch: &Batch<'_>, hidden: &[f32], vectors: &[f32], means: &[f32]) -> Carry {
    let mut carry = batch.carry.clone();
    let mut at = 0;
    for &count in &batch.counts {
        let (h, v) = (count * a.hidden, count * a.vector);
        carry.hidden[..h].copy_from_slice(&hidden[at * a.hidden..][..h]);
        let (before, previous) = (&mut carry.before[..v], &mut carry.previous[..v]);
        before.copy_from_slice(previous);
        previous.copy_from_slice(&vectors[at * a.vector..][..v]);
        let m = count * a.mean();
        carry.mean[..m].copy_from_slice(&means[at * a.mean()..][..m]);
        carry.steps = (carry.steps + 1.0).min(SPAN);
        at += count;
    }
    carry
}

/// First column of the speaker of a step in the table of opinions. The scaled feature of a customer is not negative, that of others is.
fn first_opinion(a: &Architecture, batch: &Batch<'_>, row: usize) -> usize {
    let by_customer = a.customer.is_none_or(|column| batch.features[row * a.features + column] >= 0.0);
    if by_customer { 0 } else { CLASSES }
}

fn cross_entropy(logits: Tensor<2>, rows: Vec<i64>, labels: Vec<i64>, smoothing: f32, device: &Device) -> Tensor<1> {
    let n = rows.len();
    let logs = log_softmax(logits.select(0, indices(rows, device)), 1);
    let chosen = logs.clone().gather(1, Tensor::<2, Int>::from_data(TensorData::new(labels, [n, 1]), device)).sum();
    if smoothing == 0.0 {
        return chosen.neg();
    }
    let labels = logs.dims()[1] as f32;
    (chosen.mul_scalar(1.0 - smoothing) + logs.sum().mul_scalar(smoothing / labels)).neg()
}

impl Network {
    fn pass(&self, batch: &Batch<'_>, device: &Device) -> lookup::Pass {
        lookup::forward(&batch.texts, self.tables(), self.architecture.sizes, device)
    }

    fn front(&self, pass: &lookup::Pass, batch: &Batch<'_>, device: &Device) -> Front {
        let (columns, steps) = (self.architecture.votes(), batch.texts.len());
        let votes = (columns > 0).then(|| matrix(lookup::sum(&batch.texts, &self.parameters[VOTES].values, columns), steps, device));
        let spoken = lookup::sum(&batch.texts, &self.parameters[OPINIONS].values, SPOKEN);
        let opinions = (0..steps).flat_map(|row| &spoken[row * SPOKEN + first_opinion(&self.architecture, batch, row)..][..CLASSES]);
        let opinions = matrix(opinions.copied().collect(), steps, device);
        Front { pooled: matrix(pass.pooled.clone(), steps, device), votes, opinions }
    }

    fn weights(&self, device: &Device, track: bool) -> Vec<Tensor<2>> {
        self.parameters[DENSE..]
            .iter()
            .map(|p| {
                let t = matrix(p.values.clone(), p.dims[0], device);
                if track { t.require_grad() } else { t }
            })
            .collect()
    }

    /// Runs a chunk without training.
    pub fn run(&self, batch: &Batch<'_>) -> Output {
        let device = cpu();
        let a = &self.architecture;
        let front = self.front(&self.pass(batch, &device), batch, &device);
        let graph = dense(a, batch, front, &self.weights(&device, false), None, &device);
        let (hidden, means) = (to_vec(graph.hidden), to_vec(graph.means));
        Output {
            carry: carry_on(a, batch, &hidden, &to_vec(graph.vectors), &means),
            hidden,
            means,
            satisfaction: to_vec(graph.satisfaction),
            classes: graph.classes.into_iter().map(to_vec).collect(),
        }
    }

    /// Loss of a chunk without dropout or gradients, and the carried state.
    pub fn loss(&self, batch: &Batch<'_>, losses: &Losses) -> (f32, Carry) {
        let device = device();
        let a = &self.architecture;
        let front = self.front(&self.pass(batch, &device), batch, &device);
        let graph = dense(a, batch, front, &self.weights(&device, false), None, &device);
        let carry = carry_on(a, batch, &to_vec(graph.hidden.clone()), &to_vec(graph.vectors.clone()), &to_vec(graph.means.clone()));
        (total_loss(batch, losses, graph, &device).map_or(0.0, |loss| to_vec(loss)[0]), carry)
    }

    /// Loss of a chunk, the carried state, and gradients added to `gradients` (one buffer per parameter, in order).
    /// A chunk without labels has loss 0 and leaves the gradients alone.
    pub fn learn(&self, batch: &Batch<'_>, losses: &Losses, dropout: Option<Dropout<'_>>, gradients: &mut [Vec<f32>]) -> (f32, Carry) {
        let plain = device();
        let device = device().autodiff();
        let a = &self.architecture;
        let pass = self.pass(batch, &plain);
        let Front { pooled, votes, opinions } = self.front(&pass, batch, &device);
        let front = Front { pooled: pooled.require_grad(), votes: votes.map(Tensor::require_grad), opinions: opinions.require_grad() };
        let weights = self.weights(&device, true);
        let graph = dense(a, batch, front.clone(), &weights, dropout, &device);
        let carry = carry_on(
            a,
            batch,
            &to_vec(graph.hidden.clone().inner()),
            &to_vec(graph.vectors.clone().inner()),
            &to_vec(graph.means.clone().inner()),
        );
        let Some(loss) = total_loss(batch, losses, graph, &device) else { return (0.0, carry) };
        let value = to_vec(loss.clone().inner())[0];
        let mut grads = loss.backward();
        for (tensor, into) in weights.iter().zip(&mut gradients[DENSE..]) {
            if let Some(g) = tensor.grad_remove(&mut grads) {
                for (a, b) in into.iter_mut().zip(to_vec(g)) {
                    *a += b;
                }
            }
        }
        let [words, bag, filters, bias, votes, opinions, ..] = gradients else { return (value, carry) };
        if let Some(g) = front.pooled.grad_remove(&mut grads) {
            let mut into = lookup::Gradients { words, filters, bias, bag };
            lookup::backward(&pass, &batch.texts, &to_vec(g), self.tables(), &mut into, a.sizes, &plain);
        }
        if let Some(g) = front.votes.and_then(|votes| votes.grad_remove(&mut grads)) {
            lookup::sum_backward(&batch.texts, &to_vec(g), votes, a.votes());
        }
        if let Some(g) = front.opinions.grad_remove(&mut grads) {
            let mut spoken = vec![0.0; batch.texts.len() * SPOKEN];
            for (row, g) in to_vec(g).chunks_exact(CLASSES).enumerate() {
                spoken[row * SPOKEN + first_opinion(a, batch, row)..][..CLASSES].copy_from_slice(g);
            }
            lookup::sum_backward(&batch.texts, &spoken, opinions, SPOKEN);
        }
        (value, carry)
    }
}

/// Logits of satisfaction plus what is the customer's own, and the penalty for it.
fn with_intercepts(logits: Tensor<2>, batch: &Batch<'_>, deviation: f32, device: &Device) -> (Tensor<2>, f32) {
    if deviation < LEAST_DEVIATION {
        return (logits, 0.0);
    }
    let sequences: Vec<usize> = batch.counts.iter().flat_map(|&count| 0..count).collect();
    let of = |&(row, mean): &(usize, f32)| Rated { sequence: sequences[row], row, class: super::satisfaction_class(mean) };
    let (own, penalty) = intercepts(&to_vec(logits.clone()), &batch.ratings.iter().map(of).collect::<Vec<_>>(), deviation);
    (logits + matrix(own, batch.texts.len(), device), penalty)
}

fn total_loss(batch: &Batch<'_>, losses: &Losses, graph: Graph, device: &Device) -> Option<Tensor<1>> {
    let mut terms: Vec<Tensor<1>> = Vec::new();
    if !batch.ratings.is_empty() {
        let rows: Vec<i64> = batch.ratings.iter().map(|(row, _)| *row as i64).collect();
        let labels = batch.ratings.iter().map(|(_, mean)| super::satisfaction_class(*mean) as i64).collect();
        let scale = 1.0 / losses.ratings_per_batch;
        let (logits, penalty) = with_intercepts(graph.satisfaction, batch, losses.intercept_deviation, device);
        terms.push(cross_entropy(logits, rows.clone(), labels, 0.0, device).add_scalar(penalty).mul_scalar(scale));
        if losses.mean > 0.0 {
            let wanted = matrix(batch.ratings.iter().map(|(_, mean)| mean - 3.0).collect(), rows.len(), device);
            let error = graph.mean.select(0, indices(rows, device)) - wanted;
            terms.push((error.clone() * error).sum().mul_scalar(losses.mean * scale));
        }
    }
    for (i, logits) in graph.classes.into_iter().enumerate() {
        let labelled = &batch.classes[i];
        if !labelled.is_empty() {
            let rows = labelled.iter().map(|(row, _)| *row as i64).collect();
            let labels = labelled.iter().map(|(_, label)| i64::from(*label)).collect();
            let scale = losses.classes[i] / losses.labels_per_batch[i];
            terms.push(cross_entropy(logits, rows, labels, losses.smoothing, device).mul_scalar(scale));
        }
    }
    terms.into_iter().reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests;
