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
    /// |Δ dissatisfied|, where both say it.
    pub dissatisfied: Option<f32>,
    /// By task that both have: whether the likeliest class differs.
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
    let dissatisfied = match (champion.satisfaction, challenger.satisfaction) {
        (Some(a), Some(b)) => Some((a.dissatisfied - b.dissatisfied).abs()),
        _ => None,
    };
    let likeliest = |score: &Score, task: &crate::interaction::Name| match score.classes.get(task) {
        Some(ClassScore::Top(top)) => top.first().map(|c| c.label.clone()),
        _ => None,
    };
    let classes = champion.classes.keys().filter_map(|task| {
        let (a, b) = (likeliest(champion, task)?, likeliest(challenger, task)?);
        Some((task.to_string(), a != b))
    });
    Disagreement { dissatisfied, classes: classes.collect() }
}
