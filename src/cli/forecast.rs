//! What `rapport score --as-of` says of sales: the sums that are expected, how far off such sums were where training judged them, and what the
//! last period of the same length and the same days of the year before brought.
//!
//! Knows scores and interactions; computes no score.

use std::collections::BTreeSet;
use std::fmt;

use crate::engine::{Engine, Forecast, Score, forecast};
use crate::interaction::{Interaction, Timestamp};

/// Days of a year, after which a season comes again.
const YEAR: i64 = 365;

/// Days without any purchase before a forecast, from which on it says so.
const OLD: f64 = 14.0;

/// Purchases and their amount over days of the past that are as many as a forecast looks ahead.
struct Period {
    from: Timestamp,
    until: Timestamp,
    /// Of customers who had come before these days: what a forecast speaks of.
    known: Sum,
    /// Of those who first came within them.
    newcomers: Sum,
}

#[derive(Default)]
struct Sum {
    purchases: u64,
    amount: f64,
}

/// What a forecast is to be seen beside: the days right before it, and the same days of the year before.
pub struct LastPeriod {
    at: Timestamp,
    days: u32,
    before: Period,
    year_before: Period,
    /// When the first customer who buys came, and the last purchase.
    earliest: Timestamp,
    latest: Option<Timestamp>,
    currencies: BTreeSet<Box<str>>,
}

impl LastPeriod {
    /// Of a forecast of `days` from `at` on.
    pub fn new(at: Timestamp, days: u32) -> Self {
        let back = |days: i64| Timestamp(at.0.saturating_sub(days * Timestamp::MICROS_PER_DAY));
        let period = |from, until| Period { from, until, known: Sum::default(), newcomers: Sum::default() };
        let days_long = i64::from(days);
        Self {
            at,
            days,
            before: period(back(days_long), at),
            // A horizon beyond a year would reach past `at`.
            year_before: period(back(YEAR), back(YEAR - days_long.min(YEAR))),
            earliest: at,
            latest: None,
            currencies: BTreeSet::new(),
        }
    }

    /// Counts an accepted interaction of a customer whose first one was at `first`.
    pub fn add(&mut self, interaction: &Interaction, first: Timestamp) {
        if &*interaction.kind != "purchase" {
            return;
        }
        self.earliest = self.earliest.min(first);
        self.latest = self.latest.max(Some(interaction.occurred_at));
        for period in [&mut self.before, &mut self.year_before] {
            if (period.from..period.until).contains(&interaction.occurred_at) {
                let sum = if first < period.from { &mut period.known } else { &mut period.newcomers };
                sum.purchases += 1;
                sum.amount += interaction.amount.unwrap_or(0.0);
            }
        }
        if let Some(currency) = interaction.currency.as_ref().filter(|c| !self.currencies.contains(*c)) {
            self.currencies.insert(currency.clone());
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
        let LastPeriod { days, before: Period { known, newcomers, .. }, year_before, .. } = last;
        writeln!(f, "{days} days before: {} purchases, amount {:.0} of the customers known before them", known.purchases, known.amount)?;
        writeln!(f, "and of newcomers, of whom no forecast knows: {} purchases, amount {:.0}", newcomers.purchases, newcomers.amount)?;
        let Period { from, known, .. } = year_before;
        // With as many days before them, so that there were customers to be known.
        if last.earliest.0 + i64::from(*days) * Timestamp::MICROS_PER_DAY <= from.0 && i64::from(*days) <= YEAR {
            let (purchases, amount) = (known.purchases, known.amount);
            writeln!(
                f,
                "{days} days a year before, from {from}: {purchases} purchases, amount {amount:.0} of the customers known before them"
            )?;
        }
        if last.currencies.len() > 1 {
            let all: Vec<&str> = last.currencies.iter().map(|c| &**c).collect();
            writeln!(f, "amounts are in several currencies, added as they are: {}", all.join(", "))?;
        }
        if let Some(latest) = last.latest.filter(|latest| last.at.days_since(*latest) > OLD) {
            let days = last.at.days_since(latest);
            writeln!(f, "the last purchase that was read is of {latest}, {days:.0} days before: is anything missing?")?;
        }
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

/// How far sums were off, in words.
pub(super) fn percent(bias: Option<f64>) -> String {
    bias.map_or("not known".to_owned(), |b| format!("{:+.1} %", 100.0 * b))
}
