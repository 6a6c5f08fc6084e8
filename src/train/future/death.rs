//! Models of buying till death: expected visits and the probability of none, from recency and frequency alone.
//!
//! BG/NBD: Fader, Hardie and Lee, "Counting Your Customers the Easy Way" (Marketing Science 24, 2005). Pareto/NBD: Schmittlein, Morrison and
//! Colombo, "Counting Your Customers" (Management Science 33, 1987), in the notation of Fader and Hardie, "A Note on Deriving the Pareto/NBD
//! Model and Related Expressions" (2005). Times are in weeks. Fitting is [`super::fit_baselines`].

use serde::{Deserialize, Serialize};

use super::special::{hypergeometric, ln_gamma};
use crate::features::Visits;
use crate::model::{BgNbd, ln_sum};

/// Visits come at a gamma(r, α) rate; customers live exponentially with a gamma(s, β) rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParetoNbd {
    pub r: f64,
    pub alpha: f64,
    pub s: f64,
    pub beta: f64,
}

/// What both have in common.
pub trait BuyTillDeath {
    /// Natural logarithm of the likelihood of a customer's visits (without what does not depend on the parameters).
    fn ln_likelihood(&self, v: &Visits) -> f64;

    /// Expected visits in the `weeks` after.
    fn expected(&self, v: &Visits, weeks: f64) -> f64;

    /// Probability of no visit in the `weeks` after: the likelihood of the same visits seen for longer, over theirs.
    fn none(&self, v: &Visits, weeks: f64) -> f64 {
        let longer = Visits { age: v.age + weeks, ..*v };
        (self.ln_likelihood(&longer) - self.ln_likelihood(v)).exp().clamp(0.0, 1.0)
    }
}

impl BuyTillDeath for BgNbd {
    fn ln_likelihood(&self, v: &Visits) -> f64 {
        let (r, a, b, x) = (self.r, self.a, self.b, v.repeats);
        let (alive, dead) = self.parts(v);
        let rate = ln_gamma(r + x) - ln_gamma(r) + r * self.alpha.ln();
        let loss = ln_gamma(a + b) + ln_gamma(b + x) - ln_gamma(b) - ln_gamma(a + b + x);
        rate + loss + ln_sum(alive, dead)
    }

    fn expected(&self, v: &Visits, weeks: f64) -> f64 {
        let (r, x) = (self.r, v.repeats);
        // At a = 1 the form has a removable pole.
        let a = if (self.a - 1.0).abs() < 1e-6 { 1.0 + 1e-6 } else { self.a };
        let (alive, dead) = self.parts(v);
        let all = self.alpha + v.age + weeks;
        // ((α + T) / (α + T + t))^(r + x) ₂F₁(r + x, b + x; c; t / (α + T + t)) by Euler's transformation: the plain series grows beyond f64 for somebody
        // who comes every day.
        let c = a + self.b + x - 1.0;
        let decline = ((self.alpha + v.age) / all).powf(a - 1.0) * hypergeometric(a + self.b - 1.0 - r, a - 1.0, c, weeks / all);
        (c / (a - 1.0) * (1.0 - decline) / (1.0 + (dead - alive).exp())).max(0.0)
    }
}

impl ParetoNbd {
    /// ln of 1 / ((α + T)^(r+x) (β + T)^s) and of s / (r + s + x) · A₀.
    fn parts(&self, v: &Visits) -> (f64, f64) {
        let Self { r, alpha, s, beta } = *self;
        let (x, n) = (v.repeats, r + s + v.repeats);
        let alive = -(r + x) * (alpha + v.age).ln() - s * (beta + v.age).ln();
        let (most, difference, second) = if alpha >= beta { (alpha, alpha - beta, s + 1.0) } else { (beta, beta - alpha, r + x) };
        // ₂F₁(n, second; n + 1; z) by Euler's transformation: the plain series is beyond f64 for somebody who comes every other day.
        let part = |t: f64| {
            let z = difference / (most + t);
            (1.0 - second) * (-z).ln_1p() + hypergeometric(1.0, n + 1.0 - second, n + 1.0, z).ln() - n * (most + t).ln()
        };
        let (early, late) = (part(v.last), part(v.age));
        // early ≥ late but for rounding; equal where the last visit is now.
        let a0 = early + (-(late - early).min(0.0).exp()).ln_1p();
        (alive, (s / n).ln() + a0)
    }
}

impl BuyTillDeath for ParetoNbd {
    fn ln_likelihood(&self, v: &Visits) -> f64 {
        let Self { r, alpha, s, beta } = *self;
        let (alive, dead) = self.parts(v);
        ln_gamma(r + v.repeats) - ln_gamma(r) + r * alpha.ln() + s * beta.ln() + ln_sum(alive, dead)
    }

    fn expected(&self, v: &Visits, weeks: f64) -> f64 {
        let Self { r, alpha, beta, .. } = *self;
        let s = if (self.s - 1.0).abs() < 1e-6 { 1.0 + 1e-6 } else { self.s };
        let (alive, dead) = self.parts(v);
        let life = (beta + v.age) / (s - 1.0) * (1.0 - ((beta + v.age) / (beta + v.age + weeks)).powf(s - 1.0));
        (r + v.repeats) / (alpha + v.age) * life / (1.0 + (dead - alive).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BG: BgNbd = BgNbd { r: 0.243, alpha: 4.414, a: 0.793, b: 2.426 };
    const PARETO: ParetoNbd = ParetoNbd { r: 0.553, alpha: 10.578, s: 0.606, beta: 11.669 };

    #[test]
    fn expectations_equal_the_published_example() {
        // Customer 1 of the BG/NBD spreadsheet note: 2 repeats, last at 30.43 weeks of 38.86; 1.226 expected in 39 weeks.
        let v = Visits { repeats: 2.0, last: 30.43, age: 38.86 };
        assert!((BG.expected(&v, 39.0) - 1.226).abs() < 1e-3, "{}", BG.expected(&v, 39.0));
    }

    #[test]
    fn bg_nbd_expects_what_its_published_form_says() {
        for model in [BG, BgNbd { a: 2.5, ..BG }] {
            for (repeats, last, age) in [(0.0, 0.0, 0.1), (0.0, 0.0, 40.0), (2.0, 30.43, 38.86), (25.0, 38.0, 38.5)] {
                let v = Visits { repeats, last, age };
                let (n, c) = (model.r + repeats, model.a + model.b + repeats - 1.0);
                for t in [0.5, 13.0, 39.0] {
                    let all = model.alpha + age + t;
                    let decline = ((model.alpha + age) / all).powf(n) * hypergeometric(n, model.b + repeats, c, t / all);
                    let plain = c / (model.a - 1.0) * (1.0 - decline) * model.alive(&v);
                    assert!((model.expected(&v, t) / plain - 1.0).abs() < 1e-8, "{v:?} {t}: {} {plain}", model.expected(&v, t));
                }
            }
        }
        // Every day, half a year ahead.
        let often = Visits { repeats: 900.0, last: 130.0, age: 130.0 };
        let ahead = [0.0, 1.0, 26.0, 520.0].map(|t| BG.expected(&often, t));
        assert!(ahead[0] == 0.0 && ahead.windows(2).all(|e| e[1] > e[0]) && ahead[1] > 5.0, "{ahead:?}");
    }

    /// Parameters as fitted to a grocer's customers, of whom some come nearly every day.
    #[test]
    fn who_comes_every_day_is_no_overflow() {
        let model = ParetoNbd { r: 1.422, alpha: 1.362, s: 1.752, beta: 1871.5 };
        for x in [1.0, 20.0, 100.0, 270.0] {
            let v = Visits { repeats: x, last: 38.5, age: 38.9 };
            let (none, expected) = (model.none(&v, 1e-3), model.expected(&v, 1e-3));
            assert!(((1.0 - none) / expected - 1.0).abs() < 0.2, "{x}: {none} {expected}");
        }
    }

    #[test]
    fn the_probability_of_none_agrees_with_expectations_over_a_short_time() {
        for v in [
            Visits { repeats: 0.0, last: 0.0, age: 20.0 },
            Visits { repeats: 3.0, last: 12.0, age: 20.0 },
            Visits { repeats: 9.0, last: 20.0, age: 20.0 },
        ] {
            for model in [&BG as &dyn BuyTillDeath, &PARETO] {
                // In a short time there is at most one visit.
                let (some, expected) = (1.0 - model.none(&v, 1e-3), model.expected(&v, 1e-3));
                assert!((some / expected - 1.0).abs() < 1e-2, "{v:?}: {some} {expected}");
                let far = [1.0, 10.0, 100.0].map(|w| model.none(&v, w));
                assert!(far[0] > far[1] && far[1] > far[2] && far[2] > 0.0, "{far:?}");
            }
        }
    }
}
