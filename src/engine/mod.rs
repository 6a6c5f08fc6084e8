//! The pure core: a batch of interactions and the states of their customers in, effects out.
//!
//! Knows no log, clock, disk or thread; time comes in as data. The same core serves `serve`, `score`, `evaluate` and training.

mod apply;
mod behave;
mod future;
mod heads;
mod look;
mod observe;
mod reasons;
mod replay;
mod score;

pub use apply::{Engine, Phase, admit, admit_behind};
pub use future::{Ahead, Forecast, Total, forecast, forecast_of};
pub use observe::watch_score;
pub use score::{Churn, ClassProbability, ClassScore, Satisfaction, Score, Segment, Spend};

use std::collections::HashMap;

use crate::alert::Alert;
use crate::customer::CustomerState;
use crate::interaction::{Reject, Timestamp};

/// States by customer id. The caller loads the stored state of every customer of a batch before [`Engine::apply`].
pub type States = HashMap<Box<str>, CustomerState>;

/// What of the configuration changes scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// Interactions kept per customer.
    pub window: usize,
    /// Ids kept per customer.
    pub dedupe: usize,
    /// Microseconds that an interaction may be behind its customer's newest.
    pub allowed_lateness: i64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { window: 32, dedupe: 64, allowed_lateness: 7 * Timestamp::MICROS_PER_DAY }
    }
}

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

/// The model's graphs did not run; the states of the batch are unusable. Does not happen with a bundle that was loaded and checked.
#[derive(Debug, thiserror::Error)]
#[error("the model failed: {0}")]
pub struct EngineError(pub String);
