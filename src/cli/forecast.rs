//! What `rapport score --as-of` says of sales: the sums that are expected, how far off such sums were where training judged them, and what the
//! last period of the same length brought.
//!
//! Knows scores and interactions; computes no score.

use std::collections::BTreeSet;
use std::fmt;

use crate::engine::{Engine, Forecast, Score, forecast};
use crate::interaction::{Interaction, Timestamp};

/// Purchases and their amount over the days right before a time.
pub struct LastPeriod {
    from: Timestamp,
    at: Timestamp,
    days: u32,
    /// Of customers who had come before these days: what a forecast speaks of.
    known: Sum,
    /// Of those who first came within them.
    newcomers: Sum,
    currencies: BTreeSet<Box<str>>,
}

#[derive(Default)]
struct Sum {
    purchases: u64,
    amount: f64,
}

impl LastPeriod {
    /// Over `days` before `at`, which is not part of them.
    pub fn new(at: Timestamp, days: u32) -> Self {
        let from = Timestamp(at.0.saturating_sub(i64::from(days) * Timestamp::MICROS_PER_DAY));
        Self { from, at, days, known: Sum::default(), newcomers: Sum::default(), currencies: BTreeSet::new() }
    }

    /// Counts an accepted interaction of a customer whose first one was at `first`.
    pub fn add(&mut self, interaction: &Interaction, first: Timestamp) {
        if &*interaction.kind == "purchase" && (self.from..self.at).contains(&interaction.occurred_at) {
            let sum = if first < self.from { &mut self.known } else { &mut self.newcomers };
            sum.purchases += 1;
            sum.amount += interaction.amount.unwrap_or(0.0);
            self.currencies.extend(interaction.currency.clone());
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
            "{} days from {}: {} purchases, amount {} expected (80 % interval) of the customers known by then",
            last.days, last.at, forecast.purchases, forecast.amount
        )?;
        let LastPeriod { days, known, newcomers, .. } = last;
        writeln!(f, "{days} days before: {} purchases, amount {:.0} of the customers known before them", known.purchases, known.amount)?;
        writeln!(f, "and of newcomers, of whom no forecast knows: {} purchases, amount {:.0}", newcomers.purchases, newcomers.amount)?;
        if last.currencies.len() > 1 {
            let all: Vec<&str> = last.currencies.iter().map(|c| &**c).collect();
            writeln!(f, "amounts are in several currencies, added as they are: {}", all.join(", "))?;
        }
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
