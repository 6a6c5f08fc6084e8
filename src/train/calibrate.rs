//! Calibration on held-out customers: logits → probabilities whose size can be believed.
//!
//! Knows only logits and labels. Temperature and vector scaling: Guo et al. (2017).

/// softmax(logit × scale + bias)
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    pub scale: f32,
    pub bias: Vec<f32>,
}

impl Scaling {
    pub fn identity(classes: usize) -> Self {
        Self { scale: 1.0, bias: vec![0.0; classes] }
    }

    /// Probabilities of one row of logits.
    pub fn apply(&self, logits: &[f32]) -> Vec<f32> {
        softmax(logits.iter().zip(&self.bias).map(|(l, b)| l * self.scale + b))
    }
}

fn softmax(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut p: Vec<f32> = values.collect();
    let max = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    p.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f32 = p.iter().sum();
    p.iter_mut().for_each(|x| *x /= sum);
    p
}

/// Fewest held-out labels that a scaling is fitted on.
const FEWEST: usize = 50;

/// Fits scale, and bias where `with_bias`, by gradient descent on the log-loss (convex in both). Identity where there are too few rows.
pub fn fit(logits: &[Vec<f32>], labels: &[usize], with_bias: bool) -> Scaling {
    let classes = logits.first().map_or(0, Vec::len);
    let mut scaling = Scaling::identity(classes);
    if logits.len() < FEWEST {
        return scaling;
    }
    let n = logits.len() as f64;
    let mut scale = 1.0f64;
    let mut bias = vec![0.0f64; classes];
    // A quarter of a pseudo-count's worth of pull to no bias keeps classes that hardly occur where they are.
    let pull = 1e-4;
    let mut last = f64::INFINITY;
    let mut rate = 0.5;
    let (mut saved_scale, mut saved_bias) = (scale, bias.clone());
    for _ in 0..2000 {
        let (mut loss, mut d_scale, mut d_bias) = (0.0, 0.0, vec![0.0; classes]);
        for (row, &label) in logits.iter().zip(labels) {
            let z: Vec<f64> = row.iter().zip(&bias).map(|(l, b)| f64::from(*l) * scale + b).collect();
            let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = z.iter().map(|x| (x - max).exp()).sum();
            loss += max + sum.ln() - z[label];
            for (c, x) in z.iter().enumerate() {
                let error = (x - max).exp() / sum - if c == label { 1.0 } else { 0.0 };
                d_scale += error * f64::from(row[c]);
                d_bias[c] += error;
            }
        }
        loss = loss / n + pull * bias.iter().map(|b| b * b).sum::<f64>();
        if loss > last {
            // Overshot: go back and take shorter steps.
            (scale, bias) = (saved_scale, saved_bias.clone());
            rate *= 0.5;
            last = f64::INFINITY;
            if rate < 1e-4 {
                break;
            }
            continue;
        }
        if last - loss < 1e-9 {
            break;
        }
        last = loss;
        (saved_scale, saved_bias) = (scale, bias.clone());
        scale = (scale - rate * d_scale / n).max(0.01);
        if with_bias {
            for (b, d) in bias.iter_mut().zip(&d_bias) {
                *b -= rate * (d / n + 2.0 * pull * *b);
            }
        }
    }
    scaling.scale = scale as f32;
    scaling.bias = bias.into_iter().map(|b| b as f32).collect();
    scaling
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    #[test]
    fn finds_the_scaling_that_made_the_labels() {
        let mut rng = SmallRng::seed_from_u64(3);
        let truth = Scaling { scale: 0.4, bias: vec![0.5, 0.0, -0.5] };
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..20_000 {
            let row: Vec<f32> = (0..3).map(|_| rng.random_range(-3.0..3.0)).collect();
            let p = truth.apply(&row);
            let u: f32 = rng.random();
            labels.push(if u < p[0] {
                0
            } else if u < p[0] + p[1] {
                1
            } else {
                2
            });
            logits.push(row);
        }
        let found = fit(&logits, &labels, true);
        assert!((found.scale - 0.4).abs() < 0.03, "{found:?}");
        assert!((found.bias[0] - found.bias[2] - 1.0).abs() < 0.08, "{found:?}");
        let without = fit(&logits, &labels, false);
        assert_eq!(without.bias, [0.0; 3]);
    }

    #[test]
    fn too_few_rows_leave_the_logits_alone() {
        assert_eq!(fit(&[vec![1.0, 2.0]], &[0], true), Scaling::identity(2));
    }
}
