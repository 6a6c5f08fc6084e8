//! The state of one customer: all that is remembered between two interactions, and its stored form.
//!
//! Only [`ModelState`] belongs to a model; the rest outlives every bundle.

mod codec;
mod counters;
mod item;
pub mod words;

pub use codec::{CorruptState, FORMAT};
pub use counters::{Counters, decay};
pub use item::{Item, distinct};

use std::collections::VecDeque;

use crate::alert::AlertStates;
use crate::interaction::Timestamp;

/// How many of the last customer texts keep their words, for the reasons of alerts.
pub const RECENT_TEXTS: usize = 4;

/// Everything that is remembered of one customer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CustomerState {
    /// Newest event time of any accepted interaction.
    pub newest: Timestamp,
    /// Hashes of the last accepted ids, oldest first.
    pub seen: VecDeque<u64>,
    /// The last N accepted interactions, in order of arrival.
    pub window: VecDeque<Item>,
    /// Counters of the interactions that have left the window.
    pub before: Counters,
    /// Counters of all interactions.
    pub now: Counters,
    /// Words of the last customer texts in the window, oldest first.
    pub texts: VecDeque<RecentText>,
    pub alerts: AlertStates,
    pub model: Option<ModelState>,
}

/// The kept words of one text, separated by single spaces.
#[derive(Debug, Clone, PartialEq)]
pub struct RecentText {
    pub interaction_id: Box<str>,
    pub words: Box<str>,
}

/// What one model version carries from step to step.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelState {
    /// xxh3-64 of the model version.
    pub version: u64,
    /// State vector of `sequence.onnx`.
    pub vector: Box<[f32]>,
    pub baseline: Baseline,
}

/// Decayed mean of a customer's earlier satisfaction values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Baseline {
    pub sum: f32,
    pub weight: f32,
    /// Number of values that went in.
    pub count: u32,
}

impl Baseline {
    /// Weight of the model's training mean, in observations.
    const PSEUDO_OBSERVATIONS: f32 = 4.0;
    /// How much an earlier value still weighs after one more.
    const DECAY: f32 = 0.95;

    /// The customer's usual level; `training_mean` at first.
    pub fn level(&self, training_mean: f32) -> f32 {
        (Self::PSEUDO_OBSERVATIONS * training_mean + self.sum) / (Self::PSEUDO_OBSERVATIONS + self.weight)
    }

    pub fn add(&mut self, value: f32) {
        self.sum = self.sum * Self::DECAY + value;
        self.weight = self.weight * Self::DECAY + 1.0;
        self.count = self.count.saturating_add(1);
    }
}

impl CustomerState {
    /// Remembers an accepted interaction as the newest of a window of at most `window` entries.
    pub fn push(&mut self, item: Item, words: Option<Box<str>>, window: usize) {
        self.now.add(&item);
        if let Some(words) = words {
            if self.texts.len() >= RECENT_TEXTS {
                self.texts.pop_front();
            }
            self.texts.push_back(RecentText { interaction_id: item.id.clone(), words });
        }
        self.window.push_back(item);
        while self.window.len() > window {
            if let Some(old) = self.window.pop_front() {
                self.before.add(&old);
                if self.texts.front().is_some_and(|t| t.interaction_id == old.id) {
                    self.texts.pop_front();
                }
            }
        }
    }

    /// Remembers `id` among the last `limit` ones.
    pub fn saw(&mut self, id: u64, limit: usize) {
        self.seen.push_back(id);
        while self.seen.len() > limit {
            self.seen.pop_front();
        }
    }
}
