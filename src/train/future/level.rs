//! What a later time's level says of heads and baselines that were fitted before it.
//!
//! Where customers divide, the level is believed as it is; after a cut in time only in part ([`AFTER_A_CUT`]).

use crate::model::ChurnHead;
#[cfg(feature = "train")]
use crate::train::calibrate::{self, Bias};

/// How much of the change of level after a cut in time is believed: that of one period is as much season as it is trend.
#[cfg(feature = "train")]
pub const AFTER_A_CUT: f32 = 0.5;

/// What a baseline's predictions become at a level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    pub churn: ChurnHead,
    /// Factors.
    pub purchases: f64,
    pub amount: f64,
}

impl Level {
    /// As it was fitted.
    pub const NONE: Self = Self { churn: ChurnHead { scale: 1.0, bias: 0.0 }, purchases: 1.0, amount: 1.0 };

    /// Probability that nobody comes back, of the one that was said.
    pub fn gone(&self, said: f64) -> f64 {
        if self.churn == Self::NONE.churn { said } else { f64::from(self.churn.probability(logit(1.0 - said))) }
    }
}

/// Logit of a probability, away from certainty.
pub fn logit(p: f64) -> f32 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln() as f32
}

/// Scale and bias of logits of coming back, 0 or 1 having come; `None` where all did the same.
#[cfg(feature = "train")]
pub fn churn(logits: &[f32], returned: &[usize], believed: f32) -> Option<ChurnHead> {
    if !returned.contains(&0) || !returned.contains(&1) {
        return None;
    }
    let logits: Vec<Vec<f32>> = logits.iter().map(|l| vec![0.0, *l]).collect();
    let scaling = calibrate::fit(&logits, returned, Bias::Labels);
    let (scale, fitted) = (scaling.scale, scaling.bias[1] - scaling.bias[0]);
    let before = same_level(&logits, scale);
    Some(ChurnHead { scale, bias: before + believed * (fitted - before) })
}

/// The factor that brings what was expected to what came, within a fifth and five times.
#[cfg(feature = "train")]
pub fn factor(expected: f64, came: f64, believed: f32) -> f32 {
    if expected > 0.0 && came > 0.0 { ((came / expected).clamp(0.2, 5.0) as f32).powf(believed) } else { 1.0 }
}

/// How far off forecasts usually are, as a logarithm: so far were those of eight cuts of public sets, root mean square (docs/future.md).
#[cfg(feature = "train")]
const USUAL_ERROR: f64 = 0.16;
/// As many looks as that knowledge counts for.
#[cfg(feature = "train")]
const USUAL_LOOKS: f64 = 2.0;
/// The 90th percentile of Student's t over that of the normal distribution, by degrees of freedom from [`USUAL_LOOKS`] + 1 on.
#[cfg(feature = "train")]
const STUDENT: [f64; 6] = [1.278, 1.196, 1.152, 1.123, 1.104, 1.090];

/// The standard deviation with which a normal distribution has the 80 % interval of the logarithm of a forecast, of what earlier ones were off by, as
/// logarithms, within `horizons` from the first to the last: looks that overlap tell less than separate ones. A scaled inverse χ² prior.
#[cfg(feature = "train")]
pub fn error(logs: &[f64], horizons: f64) -> f32 {
    let separate = if logs.is_empty() { 0.0 } else { 1.0 + horizons.floor().clamp(0.0, (logs.len() - 1) as f64) };
    let mean = logs.iter().map(|l| l * l).sum::<f64>() / logs.len().max(1) as f64;
    let squared = (USUAL_LOOKS * USUAL_ERROR.powi(2) + separate * mean) / (USUAL_LOOKS + separate);
    let wider = STUDENT[(separate as usize).clamp(1, STUDENT.len()) - 1];
    (squared.sqrt() * wider) as f32
}

/// The bias with which logits × scale have the mean probability that they had without either.
#[cfg(feature = "train")]
fn same_level(logits: &[Vec<f32>], scale: f32) -> f32 {
    let mean = |scale: f32, bias: f32| logits.iter().map(|l| f64::from(1.0 / (1.0 + (-(l[1] * scale + bias)).exp()))).sum::<f64>();
    let wanted = mean(1.0, 0.0);
    let (mut low, mut high) = (-50.0, 50.0);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if mean(scale, middle) < wanted { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_believed_as_far_as_asked() {
        // All were said to come with .5; three quarters came.
        let (logits, returned) = (vec![0.0; 400], (0..400).map(|i| usize::from(i % 4 != 0)).collect::<Vec<_>>());
        let gone = |believed| churn(&logits, &returned, believed).map(|churn| Level { churn, ..Level::NONE }.gone(0.5));
        assert!(gone(1.0).is_some_and(|p| (p - 0.25).abs() < 0.01), "{:?}", gone(1.0));
        assert!(gone(0.0).is_some_and(|p| (p - 0.5).abs() < 0.01), "{:?}", gone(0.0));
        assert!(gone(0.5).is_some_and(|p| 0.3 < p && p < 0.45), "{:?}", gone(0.5));
        // One look that was right makes nobody sure; six that were off by a half in turn do say so; six in one horizon tell as much as one.
        let halves = [0.5, -0.5, 0.5, -0.5, 0.5, -0.5];
        let found = [error(&[0.0], 0.0), error(&halves, 5.0), error(&halves, 0.9), error(&halves[..1], 3.0)];
        let wanted = [0.1670, 0.4800, 0.4049, 0.4049];
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-3), "{found:?}");
        assert_eq!(churn(&logits, &[1; 400], 1.0), None);
        assert_eq!((Level::NONE.gone(0.3), Level::NONE.gone(0.0)), (0.3, 0.0));
        assert_eq!([factor(10.0, 40.0, 1.0), factor(10.0, 40.0, 0.5), factor(1.0, 99.0, 1.0), factor(0.0, 3.0, 1.0)], [4.0, 2.0, 5.0, 1.0]);
    }
}
