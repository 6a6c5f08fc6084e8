//! `future.onnx`: from behaviour as of any time, and the state of `sequence.onnx`, to churn, spend and next need over any horizon.
//!
//! Knows rows of numbers and the forms that turn the graph's outputs into probabilities and counts; no customers, no scores.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tract_onnx::prelude::*;

use super::plan::{self, ROWS};
use super::{BgNbd, ClassHead, ClassTask};
use crate::customer::words;
use crate::features::{BEHAVIOUR, NEED_COLUMNS, Past};

/// Name of the graph's file, and of the rows that it must reproduce.
pub const GRAPH: &str = "future.onnx";
pub const GOLDEN: &str = "golden_future.json";
/// The score's key, and its output of the graph.
pub const NEXT_NEED: &str = "next_need";

/// How the outputs of `future.onnx` are read. Times are in days.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FutureHead {
    /// The horizon of scores, where nobody asks for another.
    pub horizon_days: u32,
    /// SHA-256 over the names of the behaviour features.
    pub behaviour_hash: String,
    /// Scaling of the behaviour features; a deviation of 0 makes the column 0.
    pub mean: Vec<f32>,
    pub deviation: Vec<f32>,
    /// What the network corrects: churn and spend start from it.
    pub visits: BgNbd,
    pub churn: Option<ChurnHead>,
    pub spend: Option<SpendHead>,
    pub next_need: Option<ClassHead>,
    /// Width of the state of `sequence.onnx`, of which the graph reads the hidden vector and its running mean; 0: it does not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub state: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Logit of coming back → logit × scale + bias.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChurnHead {
    pub scale: f32,
    pub bias: f32,
}

/// What expected purchases are scaled by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpendHead {
    /// Purchases per visit, amount per purchase: what a customer without purchases is taken for.
    pub of_visit: f32,
    pub value: f32,
    /// Calibration of the sums.
    pub purchases: f32,
    pub amount: f32,
    /// Standard deviations of the natural logarithm of (actual / expected) sums over all customers, measured on what was set aside.
    pub purchases_error: f32,
    pub amount_error: f32,
}

/// What a spend head expects within a horizon.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Expected {
    pub purchases: f32,
    pub amount: f32,
}

/// How far ahead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Horizon(pub f32);

/// A customer's own purchases a visit and amount a purchase are pulled to those of all by this many visits and purchases.
const PULL_VISITS: f32 = 1.0;
const PULL_PURCHASES: f32 = 4.0;
/// Outputs stay within these bounds.
pub const MOST_HAZARD: f32 = 8.0;
pub const MOST_SCALE: f32 = 4.0;
pub const MOST_RATE: f32 = 6.0;
pub const MOST_VALUE: f32 = 3.0;
/// With an output of 0, expected purchases grow nearly as the horizon.
pub const GROWTH: f32 = 2.0;
pub const LEAST_GROWTH: f32 = 0.01;
/// Least accumulated hazard: of a horizon of no length.
const LEAST_HAZARD: f64 = 1e-9;
const LEAST_ALIVE: f64 = 0.01;
const DAYS: f64 = 7.0;

impl SpendHead {
    /// The customer's purchases in a day, as likely lost as BG/NBD says, and the amount of one, before the network has its say.
    pub fn own(&self, visits: &BgNbd, past: &Past) -> Expected {
        let known = past.visits.repeats as f32 + 1.0;
        let of_visit = (past.purchases + self.of_visit * PULL_VISITS) / (known + PULL_VISITS);
        let rate = alive(visits, past) * (visits.rate(&past.visits) / DAYS) as f32;
        let value = (past.amount + self.value * PULL_PURCHASES) / (past.purchases + PULL_PURCHASES);
        Expected { purchases: of_visit * rate, amount: value }
    }

    /// Expected purchases exp(o₀) · own rate · b / g · ((1 + h / b)^g − 1) with b = age + α of BG/NBD and g = sigmoid(o₁ + 2), and amount = purchases ·
    /// own value · exp(o₂). With g → 0 the growth is that of a gamma-distributed rate that nothing is seen of, with g = 1 it is even.
    pub fn expect(&self, visits: &BgNbd, output: &[f32], past: &Past, Horizon(days): Horizon) -> Expected {
        let [o0, o1, o2] = [0, 1, 2].map(|i| output.get(i).copied().unwrap_or(0.0));
        let own = self.own(visits, past);
        let growth = (1.0 / (1.0 + (-(o1 + GROWTH)).exp())).max(LEAST_GROWTH);
        let stretch = stretch(visits, past);
        let time = stretch / growth * (growth * (days.max(0.0) / stretch).ln_1p()).exp_m1();
        let purchases = own.purchases * o0.clamp(-MOST_RATE, MOST_RATE).exp() * time;
        let amount = purchases * own.amount * o2.clamp(-MOST_VALUE, MOST_VALUE).exp();
        Expected { purchases: purchases * self.purchases, amount: amount * self.amount }
    }
}

/// Age + α, in days: how long a customer has been seen, to BG/NBD.
pub fn stretch(visits: &BgNbd, past: &Past) -> f32 {
    ((past.visits.age + visits.alpha) * DAYS) as f32
}

/// BG/NBD's probability of being alive; at least a hundredth, so that the network can have its doubts.
fn alive(visits: &BgNbd, past: &Past) -> f32 {
    visits.alive(&past.visits).max(LEAST_ALIVE) as f32
}

/// The power of the survival form before the network has its say: √((r + x) · P(alive)). The root meets BG/NBD half way: what it says of customers with
/// many visits is often too sure, and the network learns less from there than from here.
pub fn power(visits: &BgNbd, past: &Past) -> f32 {
    ((visits.r + past.visits.repeats) as f32 * alive(visits, past)).sqrt()
}

/// Logit of coming back within `days`: S(h) = (1 + h / b)^(−a), a = exp(o₀) · √((r + x) · P(alive)), b = exp(o₁) · (age + α).
pub fn return_logit(visits: &BgNbd, output: &[f32], past: &Past, Horizon(days): Horizon) -> f32 {
    let [o0, o1] = [0, 1].map(|i| output.get(i).copied().unwrap_or(0.0));
    let a = o0.clamp(-MOST_HAZARD, MOST_HAZARD).exp() * power(visits, past);
    let b = o1.clamp(-MOST_SCALE, MOST_SCALE).exp() * stretch(visits, past);
    let hazard = (f64::from(a) * f64::from(days.max(0.0) / b).ln_1p()).clamp(LEAST_HAZARD, 600.0);
    // ln((1 − S) / S) with S = exp(−hazard)
    ((-hazard).exp_m1().abs().ln() + hazard) as f32
}

impl ChurnHead {
    /// Probability that the customer does not come back.
    pub fn probability(&self, return_logit: f32) -> f32 {
        1.0 / (1.0 + (return_logit * self.scale + self.bias).exp())
    }
}

impl FutureHead {
    /// Scaled features stay within ± this many deviations.
    const CLIP: f32 = 5.0;

    /// Appends the scaled features to `out`.
    pub fn scale(&self, behaviour: &[f32; BEHAVIOUR.len()], out: &mut Vec<f32>) {
        out.extend(
            behaviour
                .iter()
                .zip(self.mean.iter().zip(&self.deviation))
                .map(|(x, (mean, deviation))| if *deviation > 0.0 { ((x - mean) / deviation).clamp(-Self::CLIP, Self::CLIP) } else { 0.0 }),
        );
    }

    /// Names and widths of the graph's outputs.
    pub fn outputs(&self) -> Vec<(&'static str, usize)> {
        let churn = self.churn.map(|_| ("survival", 2));
        let spend = self.spend.map(|_| ("spend", 3));
        churn.into_iter().chain(spend).chain(self.next_need.as_ref().map(|h| (NEXT_NEED, h.labels.len()))).collect()
    }

    /// Names and widths of the graph's inputs.
    pub fn inputs(&self) -> Vec<(&'static str, usize)> {
        let needs = self.next_need.as_ref().map(|h| ("needs", NEED_COLUMNS * h.labels.len()));
        let state = (self.state > 0).then_some(("state", self.state));
        [("behaviour", BEHAVIOUR.len())].into_iter().chain(needs).chain(state).collect()
    }
}

/// `golden_future.json`: rows made by the trainer, with what its own network made of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FutureGolden {
    /// Inputs and outputs by name, row after row.
    pub inputs: BTreeMap<String, Vec<f32>>,
    pub outputs: BTreeMap<String, Vec<f32>>,
}

/// The loaded graph with what its categories are called.
pub struct Future {
    plan: Arc<TypedRunnableModel>,
    outputs: Vec<String>,
    /// Widths of the inputs.
    widths: Vec<usize>,
    /// Columns of the categories by hash.
    pub numbers: HashMap<u32, u32>,
    pub task: Option<ClassTask>,
}

impl Future {
    /// Checks the head and reads its graph. `state` is the width of the state of the bundle's `sequence.onnx`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn build(head: &FutureHead, graph: &[u8], state: usize) -> Result<Self, String> {
        if head.state != 0 && head.state != state {
            return Err(format!("it reads a state of {} numbers, sequence.onnx has {state}", head.state));
        }
        if head.behaviour_hash != super::behaviour_hash() || head.mean.len() != BEHAVIOUR.len() || head.deviation.len() != BEHAVIOUR.len() {
            return Err("its behaviour features are not those of this version: train the bundle anew".into());
        }
        let inputs = head.inputs();
        let names: Vec<&str> = inputs.iter().map(|(name, _)| *name).collect();
        let (proto, outputs) = plan::read(graph, &names)?;
        let expected: Vec<&str> = head.outputs().iter().map(|(name, _)| *name).collect();
        if outputs != expected {
            return Err(format!("its outputs are {outputs:?} instead of {expected:?}"));
        }
        let labels = head.next_need.iter().flat_map(|h| &h.labels);
        Ok(Self {
            plan: plan::plan(&proto, ROWS)?,
            outputs,
            widths: inputs.iter().map(|(_, width)| *width).collect(),
            numbers: labels.zip(0..).map(|(label, i)| (words::hash(label), i)).collect(),
            task: head.next_need.as_ref().map(|h| ClassTask {
                name: NEXT_NEED.into(),
                unknown: "next_need_unknown".into(),
                labels: h.labels.iter().map(|l| l.as_str().into()).collect(),
            }),
        })
    }

    /// A state for one thread.
    ///
    /// # Errors
    /// tract's own message.
    pub fn spawn(&self) -> Result<TypedSimpleState, String> {
        self.plan.spawn().map_err(|e| format!("{e:#}"))
    }

    /// Runs rows, [`ROWS`] at a time, so that a row's result does not depend on its neighbours. `inputs` are flat, in the graph's order;
    /// `take(row, output, values)` is called for every row and output.
    ///
    /// # Errors
    /// tract's message, or that a row has another width.
    pub fn run(&self, state: &mut TypedSimpleState, inputs: &[&[f32]], mut take: impl FnMut(usize, &str, &[f32])) -> Result<(), String> {
        self.run_raw(state, inputs, &mut take).map_err(|e| format!("{GRAPH}: {e:#}"))
    }

    fn run_raw(&self, state: &mut TypedSimpleState, inputs: &[&[f32]], take: &mut dyn FnMut(usize, &str, &[f32])) -> TractResult<()> {
        let rows = inputs.first().zip(self.widths.first()).map_or(0, |(values, width)| values.len() / width);
        let fits = inputs.len() == self.widths.len() && inputs.iter().zip(&self.widths).all(|(v, w)| v.len() == rows * w);
        anyhow::ensure!(fits, "the inputs do not have the graph's widths {:?}", self.widths);
        for first in (0..rows).step_by(ROWS) {
            let count = ROWS.min(rows - first);
            let mut padded = tvec!();
            for (values, width) in inputs.iter().zip(&self.widths) {
                let mut buffer = vec![0.0; ROWS * width];
                buffer[..count * width].copy_from_slice(&values[first * width..(first + count) * width]);
                padded.push(Tensor::from_shape(&[ROWS, *width], &buffer)?.into_tvalue());
            }
            let result = state.run(padded)?;
            for (name, value) in self.outputs.iter().zip(&result) {
                let view = value.to_plain_array_view::<f32>()?;
                let values = view.as_slice().context("an output is not contiguous")?;
                let width = values.len() / ROWS;
                for row in 0..count {
                    take(first + row, name, &values[row * width..(row + 1) * width]);
                }
            }
        }
        Ok(())
    }

    /// Checks that the graph computes what it did when it was made.
    ///
    /// # Errors
    /// Which output is off.
    pub fn check(&self, head: &FutureHead, golden: &FutureGolden, tolerance: f32) -> Result<(), String> {
        let missing = |name: &str| format!("{GOLDEN} has no {name}");
        let inputs: Vec<&[f32]> = head
            .inputs()
            .iter()
            .map(|(name, _)| golden.inputs.get(*name).map(Vec::as_slice).ok_or_else(|| missing(name)))
            .collect::<Result<_, _>>()?;
        let mut found: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        self.run(&mut self.spawn()?, &inputs, |_, name, values| found.entry(name.to_owned()).or_default().extend(values))?;
        for (name, width) in head.outputs() {
            let expected = golden.outputs.get(name).ok_or_else(|| missing(name))?;
            let found = found.get(name).map(Vec::as_slice).unwrap_or_default();
            let rows = inputs[0].len() / BEHAVIOUR.len();
            if rows == 0 || expected.len() != rows * width || found.len() != expected.len() {
                return Err(format!("{GRAPH}: output {name} has {} numbers instead of {}", found.len(), expected.len()));
            }
            let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0f32, |a, b| if b > a || b.is_nan() { b } else { a });
            if worst.is_nan() || worst > tolerance {
                return Err(format!("{GRAPH}: output {name} is off by {worst} (at most {tolerance})"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Visits;

    const PAST: Past = Past { visits: Visits { repeats: 3.0, last: 10.0, age: 14.0 }, purchases: 5.0, amount: 50.0 };

    #[test]
    fn the_forms_start_from_bg_nbd_and_equal_their_formulas() {
        let churn = ChurnHead { scale: 1.0, bias: 0.0 };
        let (alive, weeks) = (BgNbd::USUAL.alive(&PAST.visits), 90.0 / 7.0);
        let survival = |o0: f64, o1: f64| (1.0 + weeks / (18.5 * o1.exp())).powf(-(3.5 * alive).sqrt() * o0.exp());
        for (o0, o1) in [(0.0f32, 0.0f32), (0.3, -0.4)] {
            let said = churn.probability(return_logit(&BgNbd::USUAL, &[o0, o1], &PAST, Horizon(90.0)));
            let expected = survival(o0.into(), o1.into());
            assert!((f64::from(said) - expected).abs() < 1e-6, "{said} {expected}");
        }
        // Over a short time: purchases a visit, visits a day of who is alive.
        let head = SpendHead { of_visit: 2.0, value: 8.0, purchases: 1.0, amount: 1.0, purchases_error: 0.1, amount_error: 0.1 };
        let expected = head.expect(&BgNbd::USUAL, &[0.0; 3], &PAST, Horizon(0.1));
        let visits = BgNbd::USUAL.alive(&PAST.visits) * BgNbd::USUAL.rate(&PAST.visits) / 70.0;
        assert!((f64::from(expected.purchases) / (visits * 7.0 / 5.0) - 1.0).abs() < 1e-3);
        assert!((expected.amount / expected.purchases - 82.0 / 9.0).abs() < 1e-4);
    }

    #[test]
    fn a_longer_horizon_leaves_less_room_for_churn_and_more_for_spend() {
        let head = SpendHead { of_visit: 1.2, value: 8.0, purchases: 1.0, amount: 1.0, purchases_error: 0.1, amount_error: 0.1 };
        let logit = |o: &[f32], h| return_logit(&BgNbd::USUAL, o, &PAST, Horizon(h));
        let churn = |h| ChurnHead { scale: 0.8, bias: 0.2 }.probability(logit(&[0.5, 0.0], h));
        let spend = |h| head.expect(&BgNbd::USUAL, &[0.1, -0.5, 0.2], &PAST, Horizon(h));
        for pair in [0.0, 1.0, 7.0, 90.0, 365.0, 3650.0].windows(2) {
            assert!(churn(pair[1]) < churn(pair[0]));
            assert!(spend(pair[1]).purchases > spend(pair[0]).purchases && spend(pair[1]).amount > spend(pair[0]).amount);
        }
        assert!(churn(0.0) > 0.99 && spend(0.0).purchases < 1e-3);
        // Extreme outputs stay numbers, and so does the past of nobody.
        for o in [-1e30f32, 1e30] {
            for past in [PAST, Past::default()] {
                let logit = return_logit(&BgNbd::USUAL, &[o, o], &past, Horizon(90.0));
                assert!(logit.is_finite() && head.expect(&BgNbd::USUAL, &[o, o, o], &past, Horizon(90.0)).amount.is_finite(), "{o}");
            }
        }
    }
}
