//! What churn, spend and next need are judged against: recency alone, BG/NBD, Pareto/NBD, the most frequent categories.
//!
//! Reading and asking them; fitting is [`super::fit_baselines`]. Knows no network.

use serde::{Deserialize, Serialize};

use super::death::{BuyTillDeath, ParetoNbd};
use crate::features::Visits;
use crate::model::BgNbd;

/// Name in a bundle.
pub const FILE: &str = "baselines/future.json";

/// `baselines/future.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baselines {
    pub recency: Option<Recency>,
    pub bgnbd: Option<BgNbd>,
    pub paretonbd: Option<ParetoNbd>,
    pub per_visit: PerVisit,
    /// Purchases on a day with one, on average; absent where there were none, and in bundles that did not know it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purchases_per_day: Option<f64>,
    /// The categories that come next most often, five at most.
    pub most_frequent: Vec<String>,
}

/// Logit of coming back = intercept + recency · ln(1 + days since the last interaction) + horizon · ln(days ahead).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recency {
    pub intercept: f64,
    pub recency: f64,
    pub horizon: f64,
}

impl Recency {
    /// Probability of coming back.
    pub fn returns(&self, days_since: f64, days_ahead: f64) -> f64 {
        1.0 / (1.0 + (-(self.intercept + self.recency * days_since.max(0.0).ln_1p() + self.horizon * days_ahead.max(0.1).ln())).exp())
    }
}

/// Purchases and amount of a visit on average: models of visits know neither.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerVisit {
    pub purchases: f64,
    pub amount: f64,
}

/// How many visits' (or days') worth the average weighs beside a customer's own.
const PULL: f64 = 1.0;

impl PerVisit {
    /// Expected purchases and amount of `expected` visits of a customer with these purchases in the past.
    pub fn of(&self, expected: f64, visits: &Visits, purchases: f64, amount: f64) -> (f64, f64) {
        let all = visits.repeats + 1.0 + PULL;
        (expected * (purchases + PULL * self.purchases) / all, expected * (amount + PULL * self.amount) / all)
    }
}

impl Baselines {
    /// Purchases that a customer makes on a day with one, who has made `purchases` on `days` different days so far.
    pub fn per_day(&self, purchases: f64, days: f64) -> Option<f64> {
        self.purchases_per_day.map(|mean| (purchases + PULL * mean) / (days + PULL))
    }

    /// The models of visits, by name.
    pub fn models(&self) -> Vec<(&'static str, &dyn BuyTillDeath)> {
        let bgnbd = self.bgnbd.iter().map(|m| ("bgnbd", m as &dyn BuyTillDeath));
        bgnbd.chain(self.paretonbd.iter().map(|m| ("paretonbd", m as &dyn BuyTillDeath))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purchases_of_a_day_are_pulled_to_those_of_all() {
        let baselines = Baselines { purchases_per_day: Some(2.0), ..Baselines::default() };
        assert_eq!([(0.0, 0.0), (9.0, 3.0), (4.0, 3.0)].map(|(n, days)| baselines.per_day(n, days)), [Some(2.0), Some(2.75), Some(1.5)]);
        // Of bundles from before there is none.
        let old = r#"{"recency":null,"bgnbd":null,"paretonbd":null,"per_visit":{"purchases":1.5,"amount":20.0},"most_frequent":[]}"#;
        let old: Baselines = serde_json::from_str(old).expect("still readable");
        assert_eq!((old.per_day(3.0, 1.0), old.per_visit.purchases), (None, 1.5));
    }
}
