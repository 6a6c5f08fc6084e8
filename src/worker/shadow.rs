//! A challenger that scores what the champion scores, on hidden states of its own, and changes nothing.
//!
//! It works on copies of the customers' states in which its own hidden vectors stand; where it has none, the engine rebuilds one from the window,
//! as after a swap. What it holds is as of the last commit and may be forgotten at any time.

use std::sync::Arc;

use super::cache::Cache;
use crate::alert::Policies;
use crate::customer::{CustomerState, ModelState};
use crate::engine::{ClassScore, Engine, EngineError, Outcome, Score, States};
use crate::interaction::{Interaction, Timestamp};
use crate::log::Partition;
use crate::metrics::ShadowNumber;
use crate::model::Model;

pub(super) struct Shadow {
    engine: Engine,
    hidden: Cache<ModelState>,
}

/// A customer's hidden state of the challenger.
pub(super) type Hidden = (Partition, Box<str>, ModelState);

/// How far two scores of one interaction lie apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Disagreement {
    /// How far apart the numbers are that both say: |Δ|, of spend in parts of the larger. Churn and spend over different horizons are not compared.
    pub numbers: Vec<(ShadowNumber, f32)>,
    /// By task that both have, and for `segment`: whether the likeliest class differs. Segments are compared by their labels; ids are each model's own.
    pub classes: Vec<(String, bool)>,
}

impl Shadow {
    /// `engine`: the champion's, for the settings that both share. Policies are left out: a challenger raises no alert.
    pub fn new(model: Arc<Model>, engine: &Engine, capacity: usize) -> Result<Self, EngineError> {
        let silent = Arc::new(Policies { all: Vec::new() });
        Ok(Self { engine: engine.with(model, silent)?, hidden: Cache::new(capacity) })
    }

    pub fn model(&self) -> &Arc<Model> {
        self.engine.model()
    }

    /// Whether the challenger has to run this customer's window first.
    pub fn must_rebuild(&self, partition: Partition, customer: &str, state: &CustomerState) -> bool {
        !state.window.is_empty() && !self.hidden.has(partition, customer)
    }

    /// The copies on which a batch runs. The hidden states in them are on loan until [`Self::keep`].
    pub fn copies(&mut self, states: &States, owner: impl Fn(&str) -> Partition) -> States {
        let copies = states.iter().map(|(customer, state)| {
            let model = self.hidden.take(owner(customer), customer);
            (customer.clone(), CustomerState { model, ..state.clone() })
        });
        copies.collect()
    }

    /// The challenger's score of each interaction, `None` where it has none.
    pub fn scores(&mut self, batch: &[Interaction], copies: &mut States, now: Timestamp) -> Result<Vec<Option<Score>>, EngineError> {
        let outcomes = self.engine.apply(batch, copies, now)?.outcomes.into_iter();
        Ok(outcomes.map(|o| if let Outcome::Scored(score) = o { Some(score) } else { None }).collect())
    }

    /// After the commit.
    pub fn keep(&mut self, hidden: Vec<Hidden>) {
        for (partition, customer, state) in hidden {
            self.hidden.put(partition, customer, state);
        }
    }

    pub fn forget(&mut self) {
        self.hidden.clear();
    }
}

/// Compares the two scores of an interaction.
pub(super) fn disagreement(champion: &Score, challenger: &Score) -> Disagreement {
    let scores = [champion, challenger];
    let mut numbers = Vec::new();
    if let [Some(a), Some(b)] = scores.map(|s| s.satisfaction) {
        numbers.push((ShadowNumber::Dissatisfied, (a.dissatisfied - b.dissatisfied).abs()));
    }
    if let [Some(a), Some(b)] = scores.map(|s| s.churn)
        && a.horizon_days == b.horizon_days
    {
        numbers.push((ShadowNumber::Churn, (a.probability - b.probability).abs()));
    }
    if let [Some(a), Some(b)] = scores.map(|s| s.spend)
        && a.horizon_days == b.horizon_days
    {
        numbers.push((ShadowNumber::Purchases, relative(a.purchases, b.purchases)));
        numbers.push((ShadowNumber::Amount, relative(a.amount, b.amount)));
    }
    if let [Some(a), Some(b)] = scores.map(|s| s.anomaly) {
        numbers.push((ShadowNumber::Anomaly, (a - b).abs()));
    }
    let likeliest = |score: &Score, task: &crate::interaction::Name| match score.classes.get(task) {
        Some(ClassScore::Top(top)) => top.first().map(|c| c.label.clone()),
        _ => None,
    };
    let classes = champion.classes.keys().filter_map(|task| {
        let (a, b) = (likeliest(champion, task)?, likeliest(challenger, task)?);
        Some((task.to_string(), a != b))
    });
    let segments = champion.segment.as_ref().zip(challenger.segment.as_ref()).map(|(a, b)| ("segment".to_owned(), a.label != b.label));
    Disagreement { numbers, classes: classes.chain(segments).collect() }
}

/// |a − b| in parts of the larger; 0 where both are 0.
fn relative(a: f32, b: f32) -> f32 {
    let larger = a.abs().max(b.abs());
    if larger > 0.0 { (a - b).abs() / larger } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::{Churn, Segment, Spend};
    use crate::interaction::Name;

    fn score(churn: f32, horizon_days: u32, purchases: f32, segment: (u32, &str), anomaly: f32) -> Score {
        Score {
            customer_id: "c".into(),
            interaction_id: None,
            occurred_at: Timestamp(0),
            scored_at: Timestamp(0),
            model: Name::from("m"),
            satisfaction: None,
            classes: BTreeMap::new(),
            churn: Some(Churn { probability: churn, horizon_days }),
            spend: Some(Spend { purchases, amount: 0.0, horizon_days }),
            segment: Some(Segment { id: segment.0, label: Name::from(segment.1) }),
            anomaly: Some(anomaly),
        }
    }

    #[test]
    fn what_both_say_is_compared() {
        let champion = score(0.25, 90, 4.0, (0, "regular"), 0.5);
        let found = disagreement(&champion, &score(0.75, 90, 1.0, (3, "regular"), 0.25));
        let expected =
            [(ShadowNumber::Churn, 0.5), (ShadowNumber::Purchases, 0.75), (ShadowNumber::Amount, 0.0), (ShadowNumber::Anomaly, 0.25)];
        assert_eq!((found.numbers.as_slice(), found.classes.as_slice()), (&expected[..], &[("segment".to_owned(), false)][..]));
        let found = disagreement(&champion, &score(0.75, 30, 1.0, (0, "lapsing"), 0.5));
        assert_eq!(found.numbers, [(ShadowNumber::Anomaly, 0.0)]);
        assert_eq!(found.classes, [("segment".to_owned(), true)]);
        let nothing = Score { churn: None, spend: None, segment: None, anomaly: None, ..champion.clone() };
        assert_eq!(disagreement(&champion, &nothing), Disagreement::default());
    }
}
