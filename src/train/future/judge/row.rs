//! One customer as of a time: what was said of it, what came, and what is known of it then.

use std::sync::Arc;

use crate::customer::Counters;
use crate::engine::Ahead;
use crate::features::{Past, Visits, behaviour};
use crate::interaction::Timestamp;
use crate::model::{BehaviourModel, BehaviourRunner, CHURN, TabularModel, TabularRunner};
use crate::train::future::timeline::{Outcome, Timeline};
use crate::train::slices::Who;

/// One customer as of a time.
#[derive(Debug, Clone)]
pub struct Row {
    /// Kind and language are those of the last interaction; the place is its own.
    pub who: Who,
    pub ahead: Ahead,
    pub outcome: Outcome,
    /// What the horizon's length before that time had seen.
    pub before: Outcome,
    /// Whether the customer first came within that length.
    pub newcomer: bool,
    pub past: Past,
    /// Different days with a purchase: until then, and those that came within the horizon.
    pub days: Days,
    /// Days since the customer's own last interaction.
    pub recency: f64,
    pub visits: Option<Visits>,
    /// What the bundle's dense network says of churn.
    pub tabular: Option<f64>,
}

/// Different days with a purchase.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Days {
    pub past: u32,
    pub came: u32,
}

/// What is seen of a customer at a time, and how far its outcome reaches.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Number of the customer.
    pub customer: usize,
    pub at: Timestamp,
    pub until: Timestamp,
    pub past: Past,
    pub recency: f64,
}

impl Row {
    /// What was said of a customer at a time, beside what came.
    pub fn new(timeline: &Timeline<'_>, look: Look, ahead: Ahead) -> Self {
        let Look { customer, at, until, past, recency } = look;
        let upto = timeline.before(at);
        let last = upto.checked_sub(1).map(|i| timeline.items[i]);
        let before = timeline.before(Timestamp(at.0 - (until.0 - at.0)));
        Self {
            who: Who {
                customer: customer as u32,
                language: last.map_or(0, |i| i.language),
                kind: last.map_or(0, |i| i.kind),
                segment: 0,
                place: upto.saturating_sub(1) as u32,
            },
            ahead,
            outcome: timeline.outcome(upto, until),
            before: timeline.outcome(before, at),
            newcomer: before == 0,
            past,
            days: Days { past: timeline.purchase_days(0, at), came: timeline.purchase_days(upto, until) },
            recency,
            visits: timeline.visits(upto, at),
            tabular: None,
        }
    }
}

/// The bundle's other networks that speak of a customer as of any time.
#[derive(Clone, Default)]
pub struct Others {
    pub dense: Option<Arc<TabularModel>>,
    pub groups: Option<Arc<BehaviourModel>>,
}

/// A customer's counters as of a time, and hashes of kind and channel of its last interaction.
#[derive(Debug, Clone)]
pub struct Known {
    pub counters: Counters,
    pub kind: u32,
    pub channel: u32,
    pub at: Timestamp,
}

impl Others {
    /// Sets segment and, where `churn` is asked for over the horizon that it was fitted for, the dense network's churn of rows, of which `known` is known.
    ///
    /// # Errors
    /// tract's message; does not happen for models that were built.
    pub fn speak(&self, rows: &mut [Row], known: &[Known], churn: bool) -> anyhow::Result<()> {
        if let Some(groups) = &self.groups {
            let features: Vec<_> = known.iter().map(|k| behaviour(&k.counters, k.at)).collect();
            let readings = BehaviourRunner::new(groups).and_then(|mut runner| runner.read(&features)).map_err(anyhow::Error::msg)?;
            rows.iter_mut().zip(readings).for_each(|(row, reading)| row.who.segment = reading.segment + 1);
        }
        if let Some(dense) = self.dense.as_ref().filter(|_| churn) {
            let inputs = known.iter().map(|k| dense.input.row(&k.counters, k.kind, k.channel, k.at)).collect();
            let said = TabularRunner::new(dense).and_then(|mut runner| runner.predict(CHURN, inputs)).map_err(anyhow::Error::msg)?;
            rows.iter_mut().zip(said.unwrap_or_default()).for_each(|(row, p)| row.tabular = Some(f64::from(p)));
        }
        Ok(())
    }
}
