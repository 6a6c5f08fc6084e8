//! Small dense networks in burn, and their form in ONNX: the autoencoder and the article's tabular network.
//!
//! Knows rows of numbers only.

use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor, TensorData};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::train::device::{cpu, device};
use crate::train::fit::Epoch;
use crate::train::lookup::to_vec;
use crate::train::network::Parameter;
use crate::train::onnx::Builder;
use crate::train::optimizer::{self, Optimizer, bounded};

/// What follows a layer's sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    None,
    Relu,
    /// Last layer only: while learning its loss is the binary cross-entropy, otherwise the squared error.
    Sigmoid,
}

/// Layers one after the other; parameters are weight `[inputs][outputs]` and bias of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    pub parameters: Vec<Parameter>,
    pub activations: Vec<Activation>,
}

/// How [`Mlp::fit`] learns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    pub epochs: usize,
    pub batch: usize,
    /// Share of the values set to 0 after every hidden layer.
    pub dropout: f32,
    pub optimizer: optimizer::Settings,
    /// Stop after this many epochs without a better loss on the rows set aside.
    pub patience: usize,
    /// Most steps of the optimiser; 0: as many as the epochs have.
    pub max_steps: usize,
}

/// Adam as Kingma and Ba (2015) give it, without schedule, decay, clipping or average.
pub const fn adam(learning_rate: f32) -> optimizer::Settings {
    optimizer::Settings {
        learning_rate,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-7,
        weight_decay: 0.0,
        clip: f32::INFINITY,
        warm_up: 0,
        floor: 1.0,
        average: 0.0,
    }
}

/// Rows of numbers and what should come out of them.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub inputs: &'a [Vec<f32>],
    pub targets: &'a [Vec<f32>],
}

impl Mlp {
    /// Fresh weights, uniform as Glorot and Bengio (2010) propose; zero biases. `widths` has one entry more than there are layers.
    pub fn new(widths: &[usize], activations: &[Activation], seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut parameters = Vec::new();
        for (layer, pair) in widths.windows(2).enumerate() {
            let limit = (6.0 / (pair[0] + pair[1]) as f32).sqrt();
            let weights = (0..pair[0] * pair[1]).map(|_| rng.random_range(-limit..limit)).collect();
            parameters.push(Parameter {
                name: format!("weight_{layer}"),
                dims: [pair[0], pair[1]],
                values: weights,
                decay: true,
                rate: 1.0,
            });
            parameters.push(Parameter {
                name: format!("bias_{layer}"),
                dims: [1, pair[1]],
                values: vec![0.0; pair[1]],
                decay: false,
                rate: 1.0,
            });
        }
        Self { parameters, activations: activations.to_vec() }
    }

    fn weights(&self, device: &Device, track: bool) -> Vec<Tensor<2>> {
        let tensor = |p: &Parameter| Tensor::from_data(TensorData::new(p.values.clone(), p.dims), device);
        self.parameters.iter().map(tensor).map(|t: Tensor<2>| if track { t.require_grad() } else { t }).collect()
    }

    /// Output of every layer; of the last one before its sigmoid.
    fn forward(&self, x: Tensor<2>, weights: &[Tensor<2>], mut dropout: Option<(f32, &mut SmallRng)>) -> Vec<Tensor<2>> {
        let mut outputs: Vec<Tensor<2>> = Vec::new();
        let mut x = x;
        for (layer, activation) in self.activations.iter().enumerate() {
            x = x.matmul(weights[2 * layer].clone()) + weights[2 * layer + 1].clone();
            if *activation == Activation::Relu {
                x = relu(x);
            }
            if let Some((rate, rng)) = &mut dropout
                && layer + 1 < self.activations.len()
                && *rate > 0.0
            {
                let [rows, columns] = x.dims();
                let keep = 1.0 / (1.0 - *rate);
                let mask: Vec<f32> = (0..rows * columns).map(|_| if rng.random::<f32>() < *rate { 0.0 } else { keep }).collect();
                x = x.clone().mul(Tensor::from_data(TensorData::new(mask, [rows, columns]), &x.device()));
            }
            outputs.push(x.clone());
        }
        outputs
    }

    fn ends_in_sigmoid(&self) -> bool {
        self.activations.last() == Some(&Activation::Sigmoid)
    }

    /// Mean loss over all values of `targets`; binary cross-entropy of logits where the last layer is a sigmoid.
    fn loss(&self, output: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        if self.ends_in_sigmoid() {
            // max(z, 0) − z·y + ln(1 + e^−|z|): no overflow.
            let z = output;
            (relu(z.clone()) - z.clone() * targets + z.abs().neg().exp().log1p()).mean()
        } else {
            let difference = output - targets;
            (difference.clone() * difference).mean()
        }
    }

    /// Loss of `rows`, gradients added to `gradients` (one buffer per parameter).
    fn learn(&self, rows: &[usize], data: Rows<'_>, dropout: Option<(f32, &mut SmallRng)>, gradients: &mut [Vec<f32>]) -> f32 {
        let device = device().autodiff();
        let weights = self.weights(&device, true);
        let outputs = self.forward(matrix(rows, data.inputs, &device), &weights, dropout);
        let Some(last) = outputs.into_iter().last() else { return 0.0 };
        let loss = self.loss(last, matrix(rows, data.targets, &device));
        let value = to_vec(loss.clone().inner())[0];
        let mut grads = loss.backward();
        for (tensor, into) in weights.iter().zip(gradients) {
            if let Some(g) = tensor.grad_remove(&mut grads) {
                into.iter_mut().zip(to_vec(g)).for_each(|(a, b)| *a += b);
            }
        }
        value
    }

    /// Outputs of layer `layer` for all rows, after its activation.
    pub fn run(&self, inputs: &[Vec<f32>], layer: usize) -> Vec<Vec<f32>> {
        let device = cpu();
        let weights = self.weights(&device, false);
        let all: Vec<usize> = (0..inputs.len()).collect();
        let mut rows = Vec::with_capacity(inputs.len());
        for part in all.chunks(1024) {
            let Some(mut output) = self.forward(matrix(part, inputs, &device), &weights, None).into_iter().nth(layer) else { continue };
            if self.activations[layer] == Activation::Sigmoid {
                output = sigmoid(output);
            }
            let width = output.dims()[1];
            rows.extend(to_vec(output).chunks(width).map(<[f32]>::to_vec));
        }
        rows
    }

    fn mean_loss(&self, data: Rows<'_>) -> f64 {
        let device = device();
        let weights = self.weights(&device, false);
        let all: Vec<usize> = (0..data.inputs.len()).collect();
        let mut sum = 0.0;
        for part in all.chunks(1024) {
            let Some(output) = self.forward(matrix(part, data.inputs, &device), &weights, None).into_iter().last() else { continue };
            sum += f64::from(to_vec(self.loss(output, matrix(part, data.targets, &device)))[0]) * part.len() as f64;
        }
        sum / all.len().max(1) as f64
    }

    /// Learns `data` in random batches. Keeps the weights of the epoch with the least loss on `aside`, or the last ones where that is empty.
    /// Returns the losses of every epoch: with dropout on `data`, and on `aside`.
    pub fn fit(&mut self, data: Rows<'_>, aside: Rows<'_>, settings: &Settings, seed: u64) -> Vec<Epoch> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..data.inputs.len()).collect();
        let steps = bounded(settings.epochs * order.len().div_ceil(settings.batch), settings.max_steps);
        let mut optimizer = Optimizer::new(settings.optimizer, steps, &self.parameters);
        let mut gradients: Vec<Vec<f32>> = self.parameters.iter().map(|p| vec![0.0; p.values.len()]).collect();
        let mut best: Option<(f64, Vec<Parameter>)> = None;
        let (mut worse, mut done, mut epochs) = (0, 0, Vec::new());
        while done < steps {
            order.shuffle(&mut rng);
            let (mut sum, mut rows) = (0.0, 0usize);
            for batch in order.chunks(settings.batch).take(steps - done) {
                sum += self.learn(batch, data, Some((settings.dropout, &mut rng)), &mut gradients) * batch.len() as f32;
                rows += batch.len();
                optimizer.step(&mut self.parameters, &mut gradients);
                done += 1;
            }
            let (epoch, fit) = (epochs.len() + 1, sum / rows.max(1) as f32);
            if aside.inputs.is_empty() {
                epochs.push(Epoch { epoch, fit, calibration: None });
                continue;
            }
            let loss = self.mean_loss(aside);
            epochs.push(Epoch { epoch, fit, calibration: Some(loss as f32) });
            if best.as_ref().is_none_or(|b| loss < b.0) {
                best = Some((loss, self.parameters.clone()));
                worse = 0;
            } else {
                worse += 1;
                if worse >= settings.patience {
                    break;
                }
            }
        }
        if let Some((_, parameters)) = best {
            self.parameters = parameters;
        }
        epochs
    }

    /// Writes the layers into a graph: from the tensor `input` to one tensor per layer, named by `outputs`. `prefix` keeps the names apart.
    pub fn export(&self, graph: &mut Builder, prefix: &str, input: &str, outputs: &[&str]) {
        let mut input = input.to_owned();
        for ((layer, activation), output) in self.activations.iter().enumerate().zip(outputs) {
            let names: Vec<String> = self.parameters[2 * layer..2 * layer + 2].iter().map(|p| format!("{prefix}{}", p.name)).collect();
            for (name, p) in names.iter().zip(&self.parameters[2 * layer..]) {
                // A bias is a vector: it is added to every row.
                let dims: &[usize] = if p.dims[0] == 1 && p.name.starts_with("bias") { &p.dims[1..] } else { &p.dims };
                graph.floats(name, dims, &p.values);
            }
            let op = match activation {
                Activation::None => {
                    graph.layer(&input, &names[0], &names[1], output);
                    input = (*output).to_owned();
                    continue;
                }
                Activation::Relu => "Relu",
                Activation::Sigmoid => "Sigmoid",
            };
            let sum = format!("{output}_sum");
            graph.layer(&input, &names[0], &names[1], &sum);
            graph.node(op, &[&sum], &[output], vec![]);
            input = (*output).to_owned();
        }
    }
}

fn matrix(rows: &[usize], from: &[Vec<f32>], device: &Device) -> Tensor<2> {
    let width = rows.first().map_or(0, |&r| from[r].len());
    let values: Vec<f32> = rows.iter().flat_map(|&r| from[r].iter().copied()).collect();
    Tensor::from_data(TensorData::new(values, [rows.len(), width]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: usize, width: usize, k: f32) -> Vec<Vec<f32>> {
        (0..n).map(|i| (0..width).map(|j| ((i * width + j) as f32 * k).sin()).collect()).collect()
    }

    /// With the same masks in every pass where `rate` is not 0.
    fn check_gradients(activations: &[Activation], widths: &[usize], targets: &[Vec<f32>], rate: f32) {
        let mut mlp = Mlp::new(widths, activations, 4);
        mlp.parameters.iter_mut().filter(|p| p.name.starts_with("bias")).for_each(|p| p.values.fill(0.1));
        let inputs = rows(5, widths[0], 0.7);
        let data = Rows { inputs: &inputs, targets };
        let all = [0, 1, 2, 3, 4];
        let zeros: Vec<Vec<f32>> = mlp.parameters.iter().map(|p| vec![0.0; p.values.len()]).collect();
        let mut gradients = zeros.clone();
        let learn = |mlp: &Mlp, gradients: &mut [Vec<f32>]| mlp.learn(&all, data, Some((rate, &mut SmallRng::seed_from_u64(5))), gradients);
        learn(&mlp, &mut gradients);
        for (p, gradients) in gradients.iter().enumerate() {
            let mut seen = false;
            for (i, &analytic) in gradients.iter().enumerate() {
                let kept = mlp.parameters[p].values[i];
                let mut at = |value: f32| {
                    mlp.parameters[p].values[i] = value;
                    f64::from(learn(&mlp, &mut zeros.clone()))
                };
                let numeric = (at(kept + 2e-3) - at(kept - 2e-3)) / 4e-3;
                at(kept);
                let analytic = f64::from(analytic);
                assert!((numeric - analytic).abs() < 1e-3 + 0.02 * analytic.abs(), "parameter {p}[{i}]: {analytic} against {numeric}");
                seen |= analytic.abs() > 1e-4;
            }
            assert!(seen, "parameter {p} has no gradient at all");
        }
    }

    #[test]
    fn gradients_equal_finite_differences() {
        use Activation::{None, Relu, Sigmoid};
        check_gradients(&[Relu, None, Relu, None], &[4, 3, 2, 3, 4], &rows(5, 4, 0.7), 0.0);
        let classes: Vec<Vec<f32>> = [1.0, 0.0, 1.0, 1.0, 0.0].map(|y| vec![y]).to_vec();
        check_gradients(&[Relu, Relu, Sigmoid], &[4, 5, 3, 1], &classes, 0.0);
        check_gradients(&[Relu, Relu, Sigmoid], &[4, 8, 6, 1], &classes, 0.3);
    }

    #[test]
    fn learns_what_is_no_sum_and_the_same_seed_gives_the_same_weights() {
        let inputs: Vec<Vec<f32>> = (0..400).map(|i| vec![(i % 20) as f32 / 10.0 - 0.95, (i / 20) as f32 / 10.0 - 0.95]).collect();
        let targets: Vec<Vec<f32>> = inputs.iter().map(|r| vec![f32::from(u8::from(r[0] * r[1] > 0.0))]).collect();
        let data = Rows { inputs: &inputs, targets: &targets };
        let settings = Settings { epochs: 60, batch: 32, dropout: 0.0, optimizer: adam(0.02), patience: 60, max_steps: 0 };
        let fitted = || {
            let mut mlp = Mlp::new(&[2, 16, 1], &[Activation::Relu, Activation::Sigmoid], 1);
            let epochs = mlp.fit(data, Rows { inputs: &[], targets: &[] }, &settings, 2);
            (mlp, epochs)
        };
        let (mlp, epochs) = fitted();
        assert!(epochs.len() == 60 && epochs[59].fit < 0.5 * epochs[0].fit && epochs[59].calibration.is_none(), "{epochs:?}");
        let right = mlp.run(&inputs, 1).iter().zip(&targets).filter(|(p, y)| (p[0] > 0.5) == (y[0] > 0.5)).count();
        assert!(right > 380, "{right} of 400");
        assert_eq!(mlp, fitted().0);
        // 13 steps make an epoch: as many steps as one has are one, whatever the epochs.
        let steps = |settings: Settings| {
            let mut mlp = Mlp::new(&[2, 16, 1], &[Activation::Relu, Activation::Sigmoid], 1);
            mlp.fit(data, Rows { inputs: &[], targets: &[] }, &settings, 2);
            mlp
        };
        assert_eq!(steps(Settings { max_steps: 13, ..settings }), steps(Settings { epochs: 1, ..settings }));
        assert_ne!(steps(Settings { max_steps: 5, ..settings }), steps(Settings { epochs: 1, ..settings }));
    }
}
