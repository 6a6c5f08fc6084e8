//! What `rapport score --as-of` says of sales: the sums that are expected, how far off such sums were where training judged them, and what the
//! last period of the same length brought.
//!
//! Knows scores and interactions; computes no score.

use std::fmt;

use crate::engine::{Engine, Forecast, Score, forecast};
use crate::interaction::{Interaction, Timestamp};

/// Purchases and their amount over the days right before a time.
pub struct LastPeriod {
    from: Timestamp,
    at: Timestamp,
    days: u32,
    purchases: u64,
    amount: f64,
}

impl LastPeriod {
    /// Over `days` before `at`, which is not part of them.
    pub fn new(at: Timestamp, days: u32) -> Self {
        let from = Timestamp(at.0.saturating_sub(i64::from(days) * Timestamp::MICROS_PER_DAY));
        Self { from, at, days, purchases: 0, amount: 0.0 }
    }

    /// Counts an accepted interaction.
    pub fn add(&mut self, interaction: &Interaction) {
        if &*interaction.kind == "purchase" && (self.from..self.at).contains(&interaction.occurred_at) {
            self.purchases += 1;
            self.amount += interaction.amount.unwrap_or(0.0);
        }
    }
}

/// The forecast in words.
pub struct Sales<'a> {
    forecast: Forecast,
    bias: Option<Bias>,
    last: &'a LastPeriod,
}

/// How far expected sums were from what came, in parts of 1, and over which horizon.
struct Bias {
    days: u64,
    purchases: Option<f64>,
    amount: Option<f64>,
}

impl<'a> Sales<'a> {
    /// What the scores add up to; `None` where the engine's model has no spend.
    pub fn of(engine: &Engine, scores: &[Score], last: &'a LastPeriod) -> Option<Self> {
        let judged = &engine.model().manifest.metrics["spend"]["held_out"];
        let bias = judged["horizon_days"].as_u64().map(|days| Bias {
            days,
            purchases: judged["bias_purchases"].as_f64(),
            amount: judged["bias_amount"].as_f64(),
        });
        Some(Self { forecast: forecast(engine, scores)?, bias, last })
    }
}

impl fmt::Display for Sales<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { forecast, bias, last } = self;
        writeln!(
            f,
            "{} days from {}: {} purchases, amount {} expected (80 % interval)",
            last.days, last.at, forecast.purchases, forecast.amount
        )?;
        writeln!(f, "{} days before: {} purchases, amount {:.0}", last.days, last.purchases, last.amount)?;
        let percent = |bias: Option<f64>| bias.map_or("not known".to_owned(), |b| format!("{:+.1} %", 100.0 * b));
        match bias {
            Some(b) => write!(
                f,
                "bias of such sums on what training set aside, {} days ahead: purchases {}, amount {}",
                b.days,
                percent(b.purchases),
                percent(b.amount)
            ),
            None => write!(f, "bias of such sums: not known, training had nothing to judge them on"),
        }
    }
}
