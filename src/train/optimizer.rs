//! AdamW with clipping, a learning-rate schedule and a moving average of the weights, over flat buffers.
//!
//! Knows parameters as numbers only. Formulas: Kingma and Ba (2015), decoupled decay of Loshchilov and Hutter (2019).

use serde::{Deserialize, Serialize};

use super::floats;
use super::network::Parameter;

/// Settings of [`Optimizer`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub learning_rate: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    /// Largest norm of all gradients together.
    pub clip: f32,
    /// Steps of linear warm-up.
    pub warm_up: usize,
    /// Share of the learning rate at the end of the cosine.
    pub floor: f32,
    /// Decay of the moving average.
    pub average: f32,
}

/// Steps of a fit that may take `most`; 0: any number.
pub fn bounded(steps: usize, most: usize) -> usize {
    if most > 0 { steps.min(most) } else { steps }
}

/// First and second moments and the averaged weights of every parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Optimizer {
    settings: Settings,
    total: usize,
    step: usize,
    moments: Vec<Moments>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Moments {
    #[serde(with = "floats")]
    first: Vec<f32>,
    #[serde(with = "floats")]
    second: Vec<f32>,
    #[serde(with = "floats")]
    average: Vec<f32>,
}

impl Optimizer {
    /// For `total` steps over `parameters`.
    pub fn new(settings: Settings, total: usize, parameters: &[Parameter]) -> Self {
        let moments = parameters
            .iter()
            .map(|p| Moments { first: vec![0.0; p.values.len()], second: vec![0.0; p.values.len()], average: p.values.clone() })
            .collect();
        Self { settings, total, step: 0, moments }
    }

    fn learning_rate(&self) -> f32 {
        let s = &self.settings;
        let t = self.step as f32;
        if self.step <= s.warm_up {
            return s.learning_rate * t / s.warm_up.max(1) as f32;
        }
        let progress = (t - s.warm_up as f32) / (self.total.saturating_sub(s.warm_up)).max(1) as f32;
        let cosine = 0.5 * (1.0 + (std::f32::consts::PI * progress.min(1.0)).cos());
        s.learning_rate * (s.floor + (1.0 - s.floor) * cosine)
    }

    /// Applies the gradients and clears them.
    pub fn step(&mut self, parameters: &mut [Parameter], gradients: &mut [Vec<f32>]) {
        self.step += 1;
        let s = self.settings;
        let rate = self.learning_rate();
        let norm = gradients
            .iter()
            .map(|g| g.chunks(4096).map(|c| f64::from(c.iter().map(|x| x * x).sum::<f32>())).sum::<f64>())
            .sum::<f64>()
            .sqrt() as f32;
        let scale = if norm > s.clip { s.clip / norm } else { 1.0 };
        let t = self.step as i32;
        let (correct1, correct2) = (1.0 / (1.0 - s.beta1.powi(t)), 1.0 / (1.0 - s.beta2.powi(t)));
        // Early on the average follows the weights closely, so that it does not remember the first random ones.
        let follow = (1.0 - s.average).max(1.0 / (self.step as f32 + 1.0));
        for ((p, g), m) in parameters.iter_mut().zip(gradients.iter_mut()).zip(&mut self.moments) {
            let rate = rate * p.rate;
            let shrink = if p.decay { 1.0 - rate * s.weight_decay } else { 1.0 };
            let n = p.values.len();
            let (values, g) = (&mut p.values[..n], &mut g[..n]);
            let (first, second, average) = (&mut m.first[..n], &mut m.second[..n], &mut m.average[..n]);
            for i in 0..n {
                let gradient = g[i] * scale;
                g[i] = 0.0;
                first[i] = s.beta1 * first[i] + (1.0 - s.beta1) * gradient;
                second[i] = s.beta2 * second[i] + (1.0 - s.beta2) * gradient * gradient;
                let update = first[i] * correct1 / ((second[i] * correct2).sqrt() + s.epsilon);
                values[i] = values[i] * shrink - rate * update;
                average[i] += follow * (values[i] - average[i]);
            }
        }
    }

    /// The moving average of the weights: what is kept after training.
    pub fn averaged(&self, parameters: &[Parameter]) -> Vec<Parameter> {
        let average = |(p, m): (&Parameter, &Moments)| Parameter { values: m.average.clone(), ..p.clone() };
        parameters.iter().zip(&self.moments).map(average).collect()
    }
}
