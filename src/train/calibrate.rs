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

/// What the biases are to follow.
#[derive(Debug, Clone, Copy)]
pub enum Bias<'a> {
    /// There is none.
    None,
    /// The labels that the scale is fitted to.
    Labels,
    /// Shares of the classes that are known from elsewhere: the mean probabilities become these.
    Shares(&'a [f64]),
}

/// Fits scale and bias by gradient descent on the log-loss (convex in both; with [`Bias::Shares`] its part in the biases counts labels by these shares,
/// and least is where mean probabilities equal them). Identity where there are too few rows.
pub fn fit(logits: &[Vec<f32>], labels: &[usize], follows: Bias<'_>) -> Scaling {
    let classes = logits.first().map_or(0, Vec::len);
    let mut scaling = Scaling::identity(classes);
    if logits.len() < FEWEST {
        return scaling;
    }
    let n = logits.len() as f64;
    // What all rows have in common is the bias's affair where that does not follow the labels; else their chance frequencies would move the scale.
    let middle: Vec<f32> = match follows {
        Bias::Shares(_) => (0..classes).map(|c| (logits.iter().map(|row| f64::from(row[c])).sum::<f64>() / n) as f32).collect(),
        _ => vec![0.0; classes],
    };
    let centred: Vec<Vec<f32>> = logits.iter().map(|row| row.iter().zip(&middle).map(|(x, m)| x - m).collect()).collect();
    let logits = &centred;
    // Of the class of a label and of all others.
    let counted = |label: usize, c: usize| match follows {
        Bias::Shares(shares) => shares[c],
        _ => f64::from(u8::from(c == label)),
    };
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
            loss += max + sum.ln() - f64::from(row[label]) * scale;
            for (c, x) in z.iter().enumerate() {
                let p = (x - max).exp() / sum;
                d_scale += (p - f64::from(u8::from(c == label))) * f64::from(row[c]);
                d_bias[c] += p - counted(label, c);
                loss -= counted(label, c) * bias[c];
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
        if !matches!(follows, Bias::None) {
            for (b, d) in bias.iter_mut().zip(&d_bias) {
                *b -= rate * (d / n + 2.0 * pull * *b);
            }
        }
    }
    scaling.scale = scale as f32;
    scaling.bias = bias.iter().zip(&middle).map(|(b, m)| *b as f32 - scaling.scale * m).collect();
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
        let found = fit(&logits, &labels, Bias::Labels);
        assert!((found.scale - 0.4).abs() < 0.03, "{found:?}");
        assert!((found.bias[0] - found.bias[2] - 1.0).abs() < 0.08, "{found:?}");
        let without = fit(&logits, &labels, Bias::None);
        assert_eq!(without.bias, [0.0; 3]);
    }

    #[test]
    fn classes_become_as_frequent_as_they_are_known_to_be() {
        let mut rng = SmallRng::seed_from_u64(3);
        let truth = Scaling { scale: 0.2, bias: vec![1.0, -2.0, 1.0] };
        let mut draw = |n: usize| -> (Vec<Vec<f32>>, Vec<usize>) {
            let one = |_| {
                let row: Vec<f32> = (0..3).map(|c| rng.random_range(-10.0..10.0) + 3.0 * c as f32).collect();
                let (p, u) = (truth.apply(&row), rng.random::<f32>());
                (row, usize::from(u >= p[0]) + usize::from(u >= p[0] + p[1]))
            };
            (0..n).map(one).unzip()
        };
        let (_, many) = draw(20_000);
        let shares: Vec<f64> = (0..3).map(|c| many.iter().filter(|label| **label == c).count() as f64 / many.len() as f64).collect();
        // So few that their own labels say little of the rare class.
        let (logits, labels) = draw(300);
        let found = fit(&logits, &labels, Bias::Shares(&shares));
        let mean = |c: usize| logits.iter().map(|row| f64::from(found.apply(row)[c])).sum::<f64>() / logits.len() as f64;
        assert!((0..3).all(|c| (mean(c) / shares[c] - 1.0).abs() < 0.02), "{found:?} {shares:?} {:?}", [mean(0), mean(1), mean(2)]);
        assert!((found.scale - 0.2).abs() < 0.04, "{found:?}");
        let off = |s: &Scaling| (s.bias[1] - s.bias[0] + 3.0).abs();
        assert!(off(&found) < 0.3, "{found:?}");
    }

    #[test]
    fn too_few_rows_leave_the_logits_alone() {
        assert_eq!(fit(&[vec![1.0, 2.0]], &[0], Bias::Labels), Scaling::identity(2));
    }
}
