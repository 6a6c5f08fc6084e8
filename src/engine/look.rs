//! What the graphs that read behaviour take of customers: gathered while the waves of a batch advance their states, run together when they are over, so
//! that the rows of a plan are full also where a batch has many interactions of few customers.

use super::future::Ahead;
use super::{Engine, EngineError, Outcome, States, behave};
use crate::customer::CustomerState;
use crate::features::{BEHAVIOUR, NEED_COLUMNS, Past, behaviour, needs, past};
use crate::interaction::{Interaction, Timestamp};
use crate::model::Model;

/// Customers as of a time each, in order.
#[derive(Default)]
pub(super) struct Looks {
    pub behaviour: Vec<[f32; BEHAVIOUR.len()]>,
    pub past: Vec<Past>,
    /// What `needs` makes of the window, row after row; empty where the model has no next need.
    pub latest: Vec<f32>,
    /// The states of `sequence.onnx`, row after row; empty where what lies ahead does not read them.
    pub states: Vec<f32>,
}

impl Looks {
    /// Looks at a customer as of `at`, after the interactions that its state knows.
    pub fn add(&mut self, model: &Model, state: &CustomerState, at: Timestamp) {
        self.behaviour.push(behaviour(&state.now, at));
        let (Some(head), Some(graph)) = (&model.manifest.future, &model.future) else { return };
        self.past.push(past(&state.now, at));
        if head.next_need.is_some() {
            let from = self.latest.len();
            self.latest.resize(from + NEED_COLUMNS * graph.numbers.len(), 0.0);
            needs(state.window.iter().rev().map(|item| item.category), &graph.numbers, &mut self.latest[from..]);
        }
        let from = self.states.len();
        self.states.resize(from + head.state, 0.0);
        if let Some(carried) = state.model.as_ref().filter(|m| m.vector.len() == head.state && m.version == model.version_hash) {
            self.states[from..].copy_from_slice(&carried.vector);
        }
    }

    /// Looks at each of the rows.
    pub fn at(model: &Model, rows: &[(&CustomerState, Timestamp)]) -> Self {
        let mut looks = Self::default();
        rows.iter().for_each(|(state, at)| looks.add(model, state, *at));
        looks
    }
}

/// The looks of a batch, and which places of it they belong to.
#[derive(Default)]
pub(super) struct Pending {
    looks: Looks,
    places: Vec<usize>,
}

impl Engine {
    /// Scores of interactions without churn, spend, next need, segment and anomaly: for who only wants the states as of a later time.
    #[must_use]
    pub fn without_outlook(mut self) -> Self {
        self.outlook = false;
        self
    }

    /// Remembers the customers of these places of the batch as they are right after their interactions.
    pub(super) fn gather(&mut self, batch: &[Interaction], places: &[usize], states: &States) {
        let model = self.runner.model();
        if !self.outlook || (self.behaviour.is_none() && model.future.is_none()) {
            return;
        }
        for &place in places {
            let interaction = &batch[place];
            if let Some(state) = states.get(&interaction.customer_id) {
                self.pending.looks.add(model, state, interaction.occurred_at);
                self.pending.places.push(place);
            }
        }
    }

    /// Completes the scores of all that was gathered.
    pub(super) fn complete(&mut self, outcomes: &mut [Option<Outcome>]) -> Result<(), EngineError> {
        let Pending { looks, places } = std::mem::take(&mut self.pending);
        if places.is_empty() {
            return Ok(());
        }
        let readings = self.read(&looks).map_err(EngineError)?;
        let ahead = self.ahead_of(&looks)?;
        let mut readings = readings.into_iter();
        let mut ahead: std::vec::IntoIter<Ahead> = ahead.into_iter();
        for place in places {
            if let Some(Outcome::Scored(score)) = &mut outcomes[place] {
                if let Some(reading) = readings.next() {
                    behave::put(score, reading);
                }
                if let Some(ahead) = ahead.next() {
                    ahead.put(score);
                }
            }
        }
        Ok(())
    }
}
