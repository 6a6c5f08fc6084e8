//! BG/NBD, as the forms of churn and spend start from it: who is still alive, how often they come, and whether they come at all.
//!
//! Fader, Hardie and Lee, "Counting Your Customers the Easy Way" (Marketing Science 24, 2005). Times are in weeks. Knows recency and frequency alone;
//! fitting it is a matter of training.

use serde::{Deserialize, Serialize};

use crate::features::Visits;

/// Visits come at a gamma(r, α) rate; after each a customer is lost with a beta(a, b) probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgNbd {
    pub r: f64,
    pub alpha: f64,
    pub a: f64,
    pub b: f64,
}

impl BgNbd {
    /// For customers too few to fit a model to: visits every two months or so, one in four lost after each.
    pub const USUAL: Self = Self { r: 0.5, alpha: 4.5, a: 0.8, b: 2.4 };

    /// ln of (α + T)^−(r+x) and of its partner for having died at the last visit (−∞ without repeats).
    pub fn parts(&self, v: &Visits) -> (f64, f64) {
        let n = self.r + v.repeats;
        let alive = -n * (self.alpha + v.age).ln();
        if v.repeats == 0.0 {
            return (alive, f64::NEG_INFINITY);
        }
        (alive, self.a.ln() - (self.b + v.repeats - 1.0).ln() - n * (self.alpha + v.last).ln())
    }

    /// Probability of not being lost yet.
    pub fn alive(&self, v: &Visits) -> f64 {
        let (alive, dead) = self.parts(v);
        1.0 / (1.0 + (dead - alive).exp())
    }

    /// Visits in a week of a customer who is not lost.
    pub fn rate(&self, v: &Visits) -> f64 {
        (self.r + v.repeats) / (self.alpha + v.age)
    }
}

/// ln(exp(a) + exp(b))
pub fn ln_sum(a: f64, b: f64) -> f64 {
    let most = a.max(b);
    if most == f64::NEG_INFINITY { most } else { most + ((a - most).exp() + (b - most).exp()).ln() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_alive_equals_the_published_example() {
        let model = BgNbd { r: 0.243, alpha: 4.414, a: 0.793, b: 2.426 };
        // Customer 1 of the note on the BG/NBD model in a spreadsheet: x = 2, t_x = 30.43, T = 38.86.
        let v = Visits { repeats: 2.0, last: 30.43, age: 38.86 };
        assert!((model.alive(&v) - 0.7266).abs() < 1e-3, "{}", model.alive(&v));
        assert!((model.rate(&v) - 2.243 / 43.274).abs() < 1e-9);
        assert_eq!(model.alive(&Visits { repeats: 0.0, last: 0.0, age: 10.0 }), 1.0);
        // Long gone.
        assert!(model.alive(&Visits { repeats: 50.0, last: 10.0, age: 500.0 }) < 1e-9);
    }
}
