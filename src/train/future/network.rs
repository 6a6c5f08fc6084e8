//! The network of the future in burn: behaviour → a survival curve, expected purchases, the next category.
//!
//! Knows rows of numbers; nothing of customers, files or ONNX. The forms are those of [`crate::model::future`].

use std::collections::HashMap;
use std::ops::Range;

use burn::tensor::activation::{log_softmax, sigmoid, silu};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::snapshots::Snapshot;
use crate::features::{BEHAVIOUR, NEED_COLUMNS, needs};
use crate::model::FutureHead;
use crate::model::future::{GROWTH, LEAST_GROWTH, MOST_HAZARD, MOST_RATE, MOST_SCALE, MOST_VALUE, power, stretch};
use crate::train::device::{cpu, device};
use crate::train::lookup::to_vec;
use crate::train::network::Parameter;

/// Width of both hidden layers.
pub const HIDDEN: usize = 32;
/// Outputs: two of the survival curve, three of spend.
pub const OUTPUTS: usize = 5;
pub const SURVIVAL: Range<usize> = 0..2;
pub const SPEND: Range<usize> = 2..OUTPUTS;
/// Churn, spend, next need: places of their losses.
const HEADS: usize = 3;
pub const CHURN: usize = 0;
pub const PURCHASES: usize = 1;
const NEED: usize = 2;

/// Each followed by its bias.
pub const FIRST: usize = 0;
pub const SECOND: usize = 2;
pub const LAST: usize = 4;
const FIRST_BIAS: usize = 1;
const SECOND_BIAS: usize = 3;
/// From the latest categories, from the hidden layer, bias.
pub const NEEDS: usize = 6;
const NEEDS_HIDDEN: usize = 7;
/// From what the sequence network carries to the first layer.
pub const CARRIED: usize = 9;

/// Weights; each layer is followed by its bias.
#[derive(Debug, Clone, PartialEq)]
pub struct Net {
    pub parameters: Vec<Parameter>,
    /// Number of categories, 0: no such head.
    pub categories: usize,
    /// How many numbers of the sequence network are read, 0: none.
    pub carried: usize,
}

/// Which heads have a loss, and how the values are scaled.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// Scaling of behaviour; what churn and spend start from.
    pub head: &'a FutureHead,
    pub numbers: &'a HashMap<u32, u32>,
    /// Mean purchases and amount of a snapshot, which divide the losses of spend.
    pub purchases: f32,
    pub amount: f32,
}

/// Outputs row after row.
#[derive(Debug, Default)]
pub struct Outputs {
    pub survival: Vec<f32>,
    pub spend: Vec<f32>,
    pub needs: Vec<f32>,
}

impl Net {
    /// Fresh weights: the last layers and those from the sequence network are zero, the bias of the categories is the logarithm of their `frequencies`.
    pub fn new(frequencies: &[f32], carried: usize, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut parameters = Vec::new();
        let mut push = |name: &str, dims: [usize; 2], range: f32, decay: bool| {
            let values = (0..dims[0] * dims[1]).map(|_| rng.random_range(-1.0f32..1.0) * range).collect();
            parameters.push(Parameter { name: name.into(), dims, values, decay, rate: 1.0 });
        };
        let by_inputs = |n: usize| 1.0 / (n as f32).sqrt();
        let k = frequencies.len();
        push("first", [BEHAVIOUR.len(), HIDDEN], by_inputs(BEHAVIOUR.len()), true);
        push("first_bias", [1, HIDDEN], 0.0, false);
        push("second", [HIDDEN, HIDDEN], by_inputs(HIDDEN), true);
        push("second_bias", [1, HIDDEN], 0.0, false);
        push("last", [HIDDEN, OUTPUTS], 0.0, true);
        push("last_bias", [1, OUTPUTS], 0.0, false);
        push("needs", [NEED_COLUMNS * k, k], 0.0, true);
        push("needs_hidden", [HIDDEN, k], 0.0, true);
        push("needs_bias", [1, k], 0.0, false);
        if let Some(bias) = parameters.last_mut() {
            bias.values = frequencies.iter().map(|f| f.max(1e-6).ln()).collect();
        }
        parameters.push(Parameter {
            name: "carried".into(),
            dims: [carried, HIDDEN],
            values: vec![0.0; carried * HIDDEN],
            decay: true,
            rate: 1.0,
        });
        Self { parameters, categories: k, carried }
    }

    fn weights(&self, device: &Device, track: bool) -> Vec<Tensor<2>> {
        let tensor = |p: &Parameter| {
            // A head without categories has no columns, nor has what is not carried: a tensor of one stands for it and is not used.
            let (values, dims) = if p.values.is_empty() { (vec![0.0], [1, 1]) } else { (p.values.clone(), p.dims) };
            let t = Tensor::from_data(TensorData::new(values, dims), device);
            if track { t.require_grad() } else { t }
        };
        self.parameters.iter().map(tensor).collect()
    }

    /// The outputs of snapshots.
    pub fn run(&self, snapshots: &[Snapshot], task: &Task<'_>) -> Outputs {
        let (mut behaviour, mut latest, mut carried) = (Vec::new(), Vec::new(), Vec::new());
        for s in snapshots {
            task.head.scale(&s.behaviour, &mut behaviour);
            append_needs(s, task.numbers, self.categories, &mut latest);
            carried.extend_from_slice(&s.carried);
        }
        self.run_rows(&behaviour, &latest, &carried)
    }

    /// The outputs of scaled rows.
    pub fn run_rows(&self, behaviour: &[f32], latest: &[f32], carried: &[f32]) -> Outputs {
        let device = cpu();
        let weights = self.weights(&device, false);
        let mut out = Outputs::default();
        let (width, wide) = (BEHAVIOUR.len(), (NEED_COLUMNS * self.categories).max(1));
        for (n, rows) in behaviour.chunks(4096 * width).enumerate() {
            let count = rows.len() / width;
            let carried = (self.carried > 0).then(|| carried[n * 4096 * self.carried..][..count * self.carried].to_vec());
            let hidden = hidden(matrix(rows.to_vec(), count, &device), carried.map(|c| matrix(c, count, &device)), &weights);
            let last = to_vec(layer(hidden.clone(), &weights, LAST));
            for row in last.chunks(OUTPUTS) {
                out.survival.extend(&row[..2]);
                out.spend.extend(&row[2..]);
            }
            if self.categories > 0 {
                let latest = latest[n * 4096 * wide..][..count * wide].to_vec();
                out.needs.extend(to_vec(need_logits(matrix(latest, count, &device), hidden, &weights)));
            }
        }
        out
    }

    /// Mean losses of churn, spend and next need; 0 for a head that there is none of.
    pub fn losses(&self, snapshots: &[&Snapshot], task: &Task<'_>) -> [f32; HEADS] {
        let device = cpu();
        let weights = self.weights(&device, false);
        let mut sums = [0.0; HEADS];
        for batch in snapshots.chunks(4096) {
            let share = batch.len() as f32 / snapshots.len() as f32;
            let losses = self.loss(batch, task, &weights, &device);
            sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += share * loss.map_or(0.0, |loss| to_vec(loss)[0]));
        }
        sums
    }

    /// Loss of a batch, and its gradients added to `gradients` (one buffer per parameter).
    pub fn learn(&self, batch: &[&Snapshot], task: &Task<'_>, gradients: &mut [Vec<f32>]) -> f32 {
        let device = device().autodiff();
        let weights = self.weights(&device, true);
        let Some(loss) = self.loss(batch, task, &weights, &device).into_iter().flatten().reduce(|a, b| a + b) else { return 0.0 };
        let value = to_vec(loss.clone().inner())[0];
        let mut grads = loss.backward();
        for ((tensor, into), p) in weights.iter().zip(gradients).zip(&self.parameters) {
            if let Some(g) = tensor.grad_remove(&mut grads).filter(|_| !p.values.is_empty()) {
                into.iter_mut().zip(to_vec(g)).for_each(|(a, b)| *a += b);
            }
        }
        value
    }

    /// Of churn, spend and next need.
    fn loss(&self, batch: &[&Snapshot], task: &Task<'_>, weights: &[Tensor<2>], device: &Device) -> [Option<Tensor<1>>; HEADS] {
        let n = batch.len();
        let mut behaviour = Vec::with_capacity(n * BEHAVIOUR.len());
        batch.iter().for_each(|s| task.head.scale(&s.behaviour, &mut behaviour));
        let carried = (self.carried > 0).then(|| matrix(batch.iter().flat_map(|s| s.carried.iter().copied()).collect(), n, device));
        let hidden = hidden(matrix(behaviour, n, device), carried, weights);
        let last = layer(hidden.clone(), weights, LAST);
        let output = |i: usize| last.clone().narrow(1, i, 1);
        let column = |of: &dyn Fn(&Snapshot) -> f32| matrix(batch.iter().map(|s| of(s)).collect(), n, device);
        let visits = &task.head.visits;
        let mut losses = [None, None, None];
        if task.head.churn.is_some() {
            let power = output(0).clamp(-MOST_HAZARD, MOST_HAZARD).exp() * column(&|s| power(visits, &s.past));
            let scale = output(1).clamp(-MOST_SCALE, MOST_SCALE).exp() * column(&|s| stretch(visits, &s.past));
            let hazard = (power * (column(&|s| s.days) / scale).log1p()).clamp(1e-9, 600.0);
            let returned = column(&|s| f32::from(u8::from(s.outcome.returned)));
            let returns = (hazard.clone().neg().exp().neg() + 1.0).clamp_min(1e-6).log();
            // −ln S = hazard for who stays away, −ln(1 − S) for who returns.
            losses[CHURN] = Some((hazard * (returned.clone().neg() + 1.0) - returns * returned).mean());
        }
        if let Some(spend) = &task.head.spend {
            let growth = sigmoid(output(3) + GROWTH).clamp_min(LEAST_GROWTH);
            let own = column(&|s| (spend.own(visits, &s.past).purchases * stretch(visits, &s.past)).max(1e-9).ln());
            let ahead = column(&|s| (s.days / stretch(visits, &s.past)).ln_1p());
            let time = ((growth.clone() * ahead).exp() - 1.0).clamp_min(1e-6).log() - growth.log();
            let log = own + output(2).clamp(-MOST_RATE, MOST_RATE) + time;
            let purchases = poisson(log.clone(), column(&|s| s.outcome.purchases as f32), task.purchases);
            let value = column(&|s| spend.own(visits, &s.past).amount.max(1e-9).ln()) + output(4).clamp(-MOST_VALUE, MOST_VALUE);
            losses[PURCHASES] = Some(purchases + poisson(log + value, column(&|s| s.outcome.amount as f32), task.amount));
        }
        let labelled: Vec<(i64, i64)> = batch.iter().zip(0..).filter_map(|(s, i)| s.need.map(|need| (i, i64::from(need)))).collect();
        if self.categories > 0 && !labelled.is_empty() {
            let rows: Vec<i64> = labelled.iter().map(|l| l.0).collect();
            let mut latest = Vec::new();
            rows.iter().for_each(|&i| append_needs(batch[i as usize], task.numbers, self.categories, &mut latest));
            let m = rows.len();
            let chosen = hidden.select(0, Tensor::<1, Int>::from_data(TensorData::new(rows, [m]), device));
            let logits = log_softmax(need_logits(matrix(latest, m, device), chosen, weights), 1);
            let labels = Tensor::<2, Int>::from_data(TensorData::new(labelled.iter().map(|l| l.1).collect(), [m, 1]), device);
            losses[NEED] = Some(logits.gather(1, labels).sum().mul_scalar(-1.0 / n as f32));
        }
        losses
    }

    /// One network, as many times as wide, that says the mean of what several of equal width say.
    pub fn mean(nets: &[Self]) -> Self {
        let n = nets.len();
        let mut net = nets[0].clone();
        for (p, parameter) in net.parameters.iter_mut().enumerate() {
            let [rows, columns] = parameter.dims;
            let of = |i: usize, row: usize| &nets[i].parameters[p].values[row * columns..][..columns];
            match p {
                // Layers side by side, each of which reads all.
                FIRST | CARRIED | FIRST_BIAS | SECOND_BIAS => {
                    parameter.values = (0..rows).flat_map(|row| (0..n).flat_map(move |i| of(i, row))).copied().collect();
                    parameter.dims = [rows, columns * n];
                }
                // Each reads its own alone.
                SECOND => {
                    let row =
                        |i: usize, row: usize| (0..n).flat_map(move |j| of(i, row).iter().map(move |w| if i == j { *w } else { 0.0 }));
                    parameter.values = (0..n).flat_map(|i| (0..rows).flat_map(move |r| row(i, r))).collect();
                    parameter.dims = [rows * n, columns * n];
                }
                // Read side by side.
                LAST | NEEDS_HIDDEN => {
                    parameter.values = (0..n).flat_map(|i| (0..rows).flat_map(move |row| of(i, row))).map(|w| w / n as f32).collect();
                    parameter.dims = [rows * n, columns];
                }
                _ => parameter.values.iter_mut().enumerate().for_each(|(at, w)| {
                    *w = nets.iter().map(|net| net.parameters[p].values[at]).sum::<f32>() / n as f32;
                }),
            }
        }
        net
    }

    /// The network but for the next need.
    pub fn without_needs(self) -> Self {
        Self { categories: 0, ..self }
    }

    /// The network whose outputs `columns` are this share of what they were.
    pub fn shrunk(&self, columns: Range<usize>, share: f32) -> Self {
        let mut net = self.clone();
        for row in net.parameters[LAST..].iter_mut().take(2).flat_map(|p| p.values.chunks_mut(OUTPUTS)) {
            row[columns.clone()].iter_mut().for_each(|value| *value *= share);
        }
        net
    }
}

fn append_needs(s: &Snapshot, numbers: &HashMap<u32, u32>, categories: usize, out: &mut Vec<f32>) {
    let at = out.len();
    out.resize(at + NEED_COLUMNS * categories, 0.0);
    needs(s.latest.iter().copied(), numbers, &mut out[at..]);
}

fn matrix(values: Vec<f32>, rows: usize, device: &Device) -> Tensor<2> {
    let columns = values.len() / rows.max(1);
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

fn layer(x: Tensor<2>, weights: &[Tensor<2>], at: usize) -> Tensor<2> {
    x.matmul(weights[at].clone()) + weights[at + 1].clone()
}

fn hidden(x: Tensor<2>, carried: Option<Tensor<2>>, weights: &[Tensor<2>]) -> Tensor<2> {
    let first = layer(x, weights, FIRST);
    let first = match carried {
        Some(carried) => first + carried.matmul(weights[CARRIED].clone()),
        None => first,
    };
    silu(layer(silu(first), weights, SECOND))
}

fn need_logits(latest: Tensor<2>, hidden: Tensor<2>, weights: &[Tensor<2>]) -> Tensor<2> {
    latest.matmul(weights[NEEDS].clone()) + hidden.matmul(weights[NEEDS + 1].clone()) + weights[NEEDS + 2].clone()
}

/// Mean of (λ − y ln λ) / scale: least where λ is the expected y, however y is spread.
fn poisson(log: Tensor<2>, y: Tensor<2>, scale: f32) -> Tensor<1> {
    (log.clone().exp() - y * log).mean().mul_scalar(1.0 / scale.max(1e-6))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::features::{Past, Visits};
    use crate::interaction::Timestamp;
    use crate::model::{BgNbd, ChurnHead, ClassHead, Horizon, SpendHead, return_logit};
    use crate::train::future::timeline::Outcome;

    pub fn head() -> FutureHead {
        FutureHead {
            horizon_days: 30,
            behaviour_hash: crate::model::behaviour_hash(),
            mean: vec![0.0; BEHAVIOUR.len()],
            deviation: vec![1.0; BEHAVIOUR.len()],
            visits: BgNbd::USUAL,
            churn: Some(ChurnHead { scale: 1.0, bias: 0.0 }),
            spend: Some(SpendHead { of_visit: 1.5, value: 5.0, purchases: 1.0, amount: 1.0, purchases_error: 0.0, amount_error: 0.0 }),
            next_need: Some(ClassHead { labels: vec!["a".into(), "b".into(), "c".into()], scale: 1.0, unknown_below: None }),
            state: 0,
        }
    }

    pub fn snapshots() -> Vec<Snapshot> {
        let snapshot = |i: u8| Snapshot {
            customer: 0,
            at: Timestamp(0),
            behaviour: std::array::from_fn(|j| (f32::from(i) * 1.7 + j as f32 * 0.9).sin()),
            past: Past {
                visits: Visits { repeats: f64::from(i), last: 2.0 * f64::from(i), age: 3.0 * f64::from(i) },
                purchases: f32::from(i),
                amount: 7.0 * f32::from(i),
            },
            known: 1,
            carried: (0..3).map(|j| (f32::from(i) + j as f32 * 0.8).cos()).collect(),
            recency: 3.0,
            latest: [11, 22, 33, 44].into_iter().skip(usize::from(i) % 4).collect(),
            days: 10.0 + 30.0 * f32::from(i),
            outcome: Outcome { returned: i.is_multiple_of(2), purchases: u32::from(i % 3), amount: f64::from(i % 3) * 4.5, need: 0 },
            need: (i % 4 != 3).then_some(u32::from(i % 3)),
        };
        (0..6).map(snapshot).collect()
    }

    #[test]
    fn gradients_of_every_layer_equal_finite_differences() {
        let head = head();
        let numbers = HashMap::from([(11, 0), (22, 1), (33, 2)]);
        let task = Task { head: &head, numbers: &numbers, purchases: 1.5, amount: 6.0 };
        let snapshots = snapshots();
        let batch: Vec<&Snapshot> = snapshots.iter().collect();
        let mut net = Net::new(&[0.5, 0.3, 0.2], 3, 4);
        // Zero layers have no gradients behind them.
        let mut rng = SmallRng::seed_from_u64(1);
        net.parameters.iter_mut().flat_map(|p| &mut p.values).for_each(|v| *v += rng.random_range(-0.3f32..0.3));
        let buffers = || net.parameters.iter().map(|p| vec![0.0; p.values.len()]).collect::<Vec<Vec<f32>>>();
        let mut gradients = buffers();
        net.learn(&batch, &task, &mut gradients);
        let mut unused = buffers();
        let mut changed = net.clone();
        for (p, gradients) in gradients.iter().enumerate() {
            let mut seen = false;
            // Of a large layer every seventh weight: the others are like it.
            for (i, &analytic) in gradients.iter().enumerate().step_by(if gradients.len() > 200 { 7 } else { 1 }) {
                let step = 2e-3f32;
                let kept = changed.parameters[p].values[i];
                let mut loss = |value: f32| {
                    changed.parameters[p].values[i] = value;
                    f64::from(changed.learn(&batch, &task, &mut unused))
                };
                let numeric = (loss(kept + step) - loss(kept - step)) / f64::from(2.0 * step);
                changed.parameters[p].values[i] = kept;
                let analytic = f64::from(analytic);
                let name = &net.parameters[p].name;
                assert!((numeric - analytic).abs() < 3e-3 + 0.02 * analytic.abs(), "{name}[{i}]: {analytic} against {numeric}");
                seen |= analytic.abs() > 1e-4;
            }
            assert!(seen, "{} has no gradient at all", net.parameters[p].name);
        }
    }

    #[test]
    fn one_network_says_the_mean_of_several() {
        let head = head();
        let numbers = HashMap::from([(11, 0), (22, 1), (33, 2)]);
        let task = Task { head: &head, numbers: &numbers, purchases: 1.5, amount: 6.0 };
        for carried in [0, 3] {
            let fewer = |s: Snapshot| Snapshot { carried: s.carried[..carried].into(), ..s };
            let snapshots: Vec<Snapshot> = snapshots().into_iter().map(fewer).collect();
            let nets: Vec<Net> = (1..4)
                .map(|seed| {
                    let (mut net, mut rng) = (Net::new(&[0.5, 0.3, 0.2], carried, seed), SmallRng::seed_from_u64(seed));
                    net.parameters.iter_mut().flat_map(|p| &mut p.values).for_each(|v| *v += rng.random_range(-0.3f32..0.3));
                    net
                })
                .collect();
            let said = |net: &Net| {
                let Outputs { survival, spend, needs } = net.run(&snapshots, &task);
                [survival, spend, needs].concat()
            };
            let each: Vec<Vec<f32>> = nets.iter().map(said).collect();
            let mean = said(&Net::mean(&nets));
            assert_eq!(mean.len(), snapshots.len() * (OUTPUTS + 3));
            for (i, found) in mean.iter().enumerate() {
                let wanted = each.iter().map(|said| said[i]).sum::<f32>() / 3.0;
                assert!((found - wanted).abs() < 1e-5, "{i}: {found} instead of {wanted}");
            }
            assert_eq!(Net::mean(&nets[..1]), nets[0]);
        }
    }

    #[test]
    fn the_loss_has_the_forms_that_serving_reads() {
        let mut head = head();
        let numbers = HashMap::new();
        let snapshots = snapshots();
        let batch: Vec<&Snapshot> = snapshots.iter().collect();
        let mut net = Net::new(&[0.5, 0.3, 0.2], 0, 4);
        net.parameters[LAST + 1].values = vec![0.4, -0.7, 0.3, -1.0, 0.2];
        let rows = || snapshots.iter().map(|s| (s, [0.4f32, -0.7], [0.3f32, -1.0, 0.2]));
        let loss = |head: &FutureHead| {
            let task = Task { head, numbers: &numbers, purchases: 2.0, amount: 3.0 };
            let mut none = Net { categories: 0, ..net.clone() };
            none.parameters.iter_mut().skip(NEEDS).for_each(|p| p.values.clear());
            let mut gradients: Vec<Vec<f32>> = none.parameters.iter().map(|p| vec![0.0; p.values.len()]).collect();
            f64::from(none.learn(&batch, &task, &mut gradients))
        };
        head.next_need = None;
        let n = snapshots.len() as f64;
        let churn_head = ChurnHead { scale: 1.0, bias: 0.0 };
        let churn: f64 = rows()
            .map(|(s, o, _)| {
                let stays = f64::from(churn_head.probability(return_logit(&head.visits, &o, &s.past, Horizon(s.days))));
                -if s.outcome.returned { 1.0 - stays } else { stays }.ln()
            })
            .sum();
        let poisson = |expected: f32, y: f64| f64::from(expected) - y * f64::from(expected).ln();
        let spend_head = head.spend.expect("a head");
        let spend: f64 = rows()
            .map(|(s, _, o)| {
                let e = spend_head.expect(&head.visits, &o, &s.past, Horizon(s.days));
                poisson(e.purchases, f64::from(s.outcome.purchases)) / 2.0 + poisson(e.amount, s.outcome.amount) / 3.0
            })
            .sum();
        assert!((loss(&head) - (churn + spend) / n).abs() < 1e-3);
        head.spend = None;
        assert!((loss(&head) - churn / n).abs() < 1e-3);
    }
}
