//! The anomaly in the report: whether it is spread where the bundle is judged as it was where the autoencoder was fitted.
//!
//! Knows what scores say of customers as of some times; no network.

use serde::Serialize;

use super::page::{Mark, percent, verdicts};
use super::plot::{Axes, bars};
use crate::model::drift::psi;

/// Anomaly and reconstruction error of the part that judges, beside those of the fitted part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Anomaly {
    /// Looks at customers in the part that judges.
    pub n: usize,
    /// Shares of the looks with an anomaly up to 0.1, up to 0.2, … up to 1: a tenth each where they are like those that were fitted on.
    pub fitted: Vec<f64>,
    pub judged: Vec<f64>,
    /// Population stability index between the two.
    pub psi: f64,
    /// Share of the looks of the part that judges above 0.99.
    pub above_99: f64,
    /// Mean squared error of the autoencoder, in variances of a feature.
    pub error_fitted: f64,
    pub error_judged: f64,
}

/// Tenths.
const BINS: usize = 10;
/// Index up to which two distributions are commonly read as the same, and from which on as far apart.
const SAME: f64 = 0.1;
const FAR: f64 = 0.25;

impl Anomaly {
    /// From (anomaly, error) of looks at customers; `None` where there is none to judge by.
    pub fn of(fitted: &[(f32, f32)], judged: &[(f32, f32)]) -> Option<Self> {
        let counts = |rows: &[(f32, f32)]| {
            let mut counts = vec![0u64; BINS];
            rows.iter().for_each(|(anomaly, _)| counts[((anomaly * BINS as f32).ceil() as usize).clamp(1, BINS) - 1] += 1);
            counts
        };
        let shares = |counts: &[u64], n: usize| counts.iter().map(|c| *c as f64 / n.max(1) as f64).collect();
        let error = |rows: &[(f32, f32)]| rows.iter().map(|r| f64::from(r.1)).sum::<f64>() / rows.len().max(1) as f64;
        let (before, here) = (counts(fitted), counts(judged));
        (!judged.is_empty()).then(|| Self {
            n: judged.len(),
            fitted: shares(&before, fitted.len()),
            judged: shares(&here, judged.len()),
            psi: psi(&before, &here),
            above_99: judged.iter().filter(|r| r.0 > 0.99).count() as f64 / judged.len() as f64,
            error_fitted: error(fitted),
            error_judged: error(judged),
        })
    }
}

/// The section of the page.
pub fn section(a: &Anomaly) -> anyhow::Result<String> {
    let index = format!("population stability index {:.3}", a.psi);
    let said = if a.psi <= SAME {
        (Mark::Good, format!("It is spread evenly, as where it was fitted: {index}, at most {SAME}."))
    } else if a.psi <= FAR {
        (Mark::Level, format!("It has moved a little against the fitted part: {index}, above {SAME}."))
    } else {
        (Mark::Bad, format!("It is not what it was where it was fitted, so read it with care: {index}, above {FAR}."))
    };
    let mut html = format!(
        "<section>\n<h2>Anomaly</h2>\n{}<p>Of {} looks at customers in the part that judges, {} % have an anomaly above 0.9 and {} % above 0.99; where the \
         autoencoder was fitted ten and one in a hundred have. Its mean squared error, in variances of a feature: {:.3} where it was fitted, {:.3} where it is \
         judged.</p>\n<div class=\"figures\">\n",
        verdicts(&[said]),
        a.n,
        percent(a.judged[BINS - 1]),
        percent(a.above_99),
        a.error_fitted,
        a.error_judged
    );
    let labels: Vec<String> = (1..=BINS).map(|i| format!("{:.1}", i as f64 / BINS as f64)).collect();
    let groups: Vec<Vec<f64>> = a.fitted.iter().zip(&a.judged).map(|(x, y)| vec![*x, *y]).collect();
    let most = groups.iter().flatten().copied().fold(0.0, f64::max);
    let axes = Axes { title: "Anomaly", x: "up to", y: "share of looks", xs: 0.0..1.0, ys: 0.0..most * 1.1, whole: false };
    html += &bars(&axes, &["fitted part", "judged part"], &labels, &groups)?;
    html += "</div>\n</section>\n";
    Ok(html)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_anomalies_are_told_from_moved_ones() {
        let even: Vec<(f32, f32)> = (1..=1000).map(|i| (i as f32 / 1000.0, 0.5)).collect();
        let same = Anomaly::of(&even, &even[..500].iter().map(|(a, _)| (a * 2.0, 1.0)).collect::<Vec<_>>()).expect("looks");
        assert!(same.psi < 1e-3 && (same.above_99 - 0.01).abs() < 0.005, "{same:?}");
        assert_eq!((same.n, same.error_fitted, same.error_judged), (500, 0.5, 1.0));
        assert!(section(&same).expect("a section").contains("It is spread evenly"));
        let moved = Anomaly::of(&even, &even.iter().map(|(a, e)| (a.sqrt(), *e)).collect::<Vec<_>>()).expect("looks");
        assert!(moved.psi > FAR && section(&moved).expect("a section").contains("read it with care"), "{moved:?}");
        // Both ends have a bin.
        let ends = Anomaly::of(&even, &[(0.0, 0.0), (1.0, 0.0)]).expect("looks");
        assert_eq!((ends.judged[0], ends.judged[9]), (0.5, 0.5));
        assert_eq!(Anomaly::of(&even, &[]), None);
    }
}
