//! The pure core: a batch of interactions and the states of their customers in, effects out.
//!
//! Knows no log, clock, disk or thread; time comes in as data.

mod score;

pub use score::{ClassProbability, Satisfaction, Score};

use std::collections::HashMap;

use crate::alert::Alert;
use crate::customer::CustomerState;
use crate::interaction::{Interaction, Reject};

/// States by customer id. The caller loads the stored state of every customer of a batch before [`Engine::apply`].
pub type States = HashMap<Box<str>, CustomerState>;

/// What became of one interaction of the batch.
#[derive(Debug)]
pub enum Outcome {
    Scored(Score),
    /// A repeat of one of the customer's last ids: neither scored nor rejected.
    Duplicate,
    /// Only `late` arises here.
    Rejected(Reject),
}

/// Everything that a batch caused.
#[derive(Debug, Default)]
pub struct Effects {
    /// One per interaction of the batch, in its order.
    pub outcomes: Vec<Outcome>,
    /// Alerts with the index of the interaction that caused each, in batch order.
    pub alerts: Vec<(usize, Alert)>,
    /// Customers whose state changed, each once.
    pub changed: Vec<Box<str>>,
}

#[allow(dead_code)]
type Batch = Vec<Interaction>;
