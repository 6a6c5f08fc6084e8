//! Purchases and amounts as of a time, beside their baselines.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Figures, Intervals, Levels, Part, Row, TODAY, compare, level, numbers};
use crate::engine::{Forecast, Spend};
use crate::train::bootstrap::{Interval, Sums};
use crate::train::future::baselines::Baselines;
use crate::train::future::death::BuyTillDeath;
use crate::train::future::timeline::Outcome;
use crate::train::slices::{Names, SO_FAR, parts};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpendReport {
    pub n: usize,
    pub customers: usize,
    pub horizon_days: u32,
    #[serde(flatten)]
    pub quality: SpendQuality,
    /// Sums expected with their 80 % intervals.
    pub expected: Forecast,
    pub actual: Totals,
    /// Sums over as many days before, of those of the customers who had come before them: what a forecast then would have spoken of.
    pub last_period: Totals,
    /// Of those who first came within them.
    pub last_period_newcomers: Totals,
    pub baselines: BTreeMap<&'static str, SpendQuality>,
    #[serde(flatten)]
    pub sure: Intervals,
    pub deciles: Deciles,
    pub slices: Vec<SpendSlice>,
}

impl SpendReport {
    /// Where the rows are of several times: makes the sums those of one time, on average.
    pub fn per_time(&mut self, times: usize) {
        let n = times.max(1) as f64;
        let Forecast { purchases, amount } = &mut self.expected;
        for total in [purchases, amount] {
            (total.expected, total.low, total.high) = (total.expected / n, total.low / n, total.high / n);
        }
        for sums in [&mut self.actual, &mut self.last_period, &mut self.last_period_newcomers] {
            (sums.purchases, sums.amount) = (sums.purchases / n, sums.amount / n);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Totals {
    pub purchases: f64,
    pub amount: f64,
}

/// Mean errors per customer. Biases are predicted / actual − 1 of the sums; absent where nothing was bought.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SpendQuality {
    /// Root mean squared error.
    pub rmse_purchases: f64,
    /// Poisson deviance, 2 (y ln(y / μ) − y + μ) for μ expected and y that came: an error weighs by what was expected, so that the few who buy most do
    /// not decide alone.
    pub deviance_purchases: f64,
    /// Of the number of different days with a purchase, which published evaluations count; absent where a bundle does not know how many purchases a day has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rmse_days: Option<f64>,
    pub rmse_amount: f64,
    pub bias_purchases: Option<f64>,
    pub bias_amount: Option<f64>,
}

/// Means per customer in a tenth of the customers, from those of whom least is expected on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Decile {
    pub n: usize,
    pub expected: f64,
    pub actual: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deciles {
    pub purchases: Vec<Decile>,
    pub amount: Vec<Decile>,
}

/// Figures of a part of the customers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpendSlice {
    pub by: &'static str,
    pub value: String,
    pub n: usize,
    #[serde(flatten)]
    pub quality: SpendQuality,
    /// 95 % interval of `rmse_purchases`.
    pub interval: Interval,
    /// `rmse_purchases` of the baselines.
    pub baselines: BTreeMap<&'static str, f64>,
    /// Why the model is not to be trusted here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// What is expected of a customer: purchases, days with a purchase, amount.
#[derive(Clone, Copy)]
struct Expected {
    purchases: f64,
    days: f64,
    amount: f64,
}

/// Rows; squared errors of purchases, days and amount; sums expected and sums that came of purchases and amount; deviance of purchases.
const WIDTH: usize = 9;
const FIGURES: [&str; 6] = ["rmse_purchases", "rmse_days", "rmse_amount", "bias_purchases", "bias_amount", "deviance_purchases"];

fn errors(row: &Row, said: Expected) -> [f64; WIDTH] {
    let (purchases, days, amount) = (f64::from(row.outcome.purchases), f64::from(row.days.came), row.outcome.amount);
    [
        1.0,
        (said.purchases - purchases).powi(2),
        (said.days - days).powi(2),
        (said.amount - amount).powi(2),
        said.purchases,
        said.amount,
        purchases,
        amount,
        deviance(said.purchases, purchases),
    ]
}

fn deviance(said: f64, came: f64) -> f64 {
    // A bound to how sure anybody may be that nothing comes.
    let said = said.max(1e-6);
    2.0 * (said - came + if came > 0.0 { came * (came / said).ln() } else { 0.0 })
}

/// The [`FIGURES`] of sums of [`errors`]; NaN where there is none.
fn figures(sums: [f64; WIDTH]) -> [f64; 6] {
    let [n, purchases, days, amount, ..] = sums;
    let bias = |said: f64, came: f64| if came > 0.0 { said / came - 1.0 } else { f64::NAN };
    [(purchases / n).sqrt(), (days / n).sqrt(), (amount / n).sqrt(), bias(sums[4], sums[6]), bias(sums[5], sums[7]), sums[8] / n]
}

fn quality(figures: [f64; 6]) -> SpendQuality {
    let known = |x: f64| x.is_finite().then_some(x);
    let [rmse_purchases, days, rmse_amount, purchases, amount, deviance_purchases] = figures;
    SpendQuality {
        rmse_purchases,
        deviance_purchases,
        rmse_days: known(days),
        rmse_amount,
        bias_purchases: known(purchases),
        bias_amount: known(amount),
    }
}

/// Purchases and amount that a model of visits expects of a row, as it was fitted.
pub fn said(row: &Row, model: &dyn BuyTillDeath, baselines: &Baselines, days: u32) -> (f64, f64) {
    let visits = row.visits.unwrap_or(TODAY);
    let expected = model.expected(&visits, f64::from(days) / 7.0);
    baselines.per_visit.of(expected, &visits, f64::from(row.past.purchases), f64::from(row.past.amount))
}

/// The report of spend; `None` where nothing is said of it.
pub fn spend(
    rows: &[Row],
    (baselines, levels): (&Baselines, &Levels),
    days: u32,
    expected: Forecast,
    names: &Names,
) -> Option<SpendReport> {
    let own: Vec<(&Row, Spend)> = rows.iter().filter_map(|r| Some((r, r.ahead.spend?))).collect();
    if own.is_empty() {
        return None;
    }
    // Purchases of a day with one, by what the customer did so far; NaN where nobody knows.
    let per_day = |row: &Row| baselines.per_day(f64::from(row.past.purchases), f64::from(row.days.past)).unwrap_or(f64::NAN);
    let of_spend = |(row, s): &(&Row, Spend)| {
        let purchases = f64::from(s.purchases);
        errors(row, Expected { purchases, days: purchases / per_day(row), amount: f64::from(s.amount) })
    };
    let mine: Vec<[f64; WIDTH]> = own.iter().map(of_spend).collect();
    let theirs: Vec<(&'static str, Vec<[f64; WIDTH]>)> = baselines
        .models()
        .into_iter()
        .map(|(name, model)| {
            let level = level(levels, name);
            let all = own.iter().map(|(r, _)| {
                let (purchases, amount) = said(r, model, baselines, days);
                let (purchases, amount) = (purchases * level.purchases, amount * level.amount);
                errors(r, Expected { purchases, days: purchases / per_day(r), amount })
            });
            (name, all.collect())
        })
        .collect();

    let who: Vec<_> = own.iter().map(|(r, _)| r.who).collect();
    let (customers, count) = numbers(who.iter().map(|w| w.customer));
    let sums = |rows: &[[f64; WIDTH]]| Sums::new(&customers, count, rows);
    let under = |sums: Sums<WIDTH>| -> Figures<6> { Box::new(move |weights| figures(sums.under(weights))) };
    let others: Vec<(&'static str, Figures<6>)> = theirs.iter().map(|(name, rows)| (*name, under(sums(rows)))).collect();
    let cut = parts(&who, names, &SO_FAR);
    let squared: Vec<Part> = cut.iter().map(|p| Part::new(&p.members, &customers, |i| mine[i][1])).collect();
    let (sure, slices) = compare(FIGURES, count, &under(sums(&mine)), &others, &squared);
    let all = |rows: &[[f64; WIDTH]], members: &mut dyn Iterator<Item = usize>| {
        figures(members.fold([0.0; WIDTH], |sum, i| std::array::from_fn(|k| sum[k] + rows[i][k])))
    };
    let slices = cut.into_iter().zip(slices).map(|(part, interval)| {
        let of = |rows: &[[f64; WIDTH]]| all(rows, &mut part.members.iter().copied());
        SpendSlice {
            by: part.by,
            n: part.members.len(),
            quality: quality(of(&mine)),
            // Of squares: the root keeps their order.
            interval: interval.map(f64::sqrt),
            baselines: theirs.iter().map(|(name, rows)| (*name, of(rows)[0])).collect(),
            fails: None,
            value: part.value,
        }
        .judged()
    });
    let slices = slices.collect();
    let totals = |of: fn(&Row) -> Option<Outcome>| {
        let all = || own.iter().filter_map(|(r, _)| of(r));
        // The sum of nothing is −0.
        Totals { purchases: all().map(|o| f64::from(o.purchases)).sum::<f64>() + 0.0, amount: all().map(|o| o.amount).sum::<f64>() + 0.0 }
    };
    Some(SpendReport {
        n: own.len(),
        customers: count,
        horizon_days: days,
        quality: quality(all(&mine, &mut (0..own.len()))),
        expected,
        actual: totals(|r| Some(r.outcome)),
        last_period: totals(|r| (!r.newcomer).then_some(r.before)),
        last_period_newcomers: totals(|r| r.newcomer.then_some(r.before)),
        baselines: theirs.iter().map(|(name, rows)| (*name, quality(all(rows, &mut (0..rows.len()))))).collect(),
        sure,
        deciles: Deciles {
            purchases: deciles(own.iter().map(|(r, s)| (f64::from(s.purchases), f64::from(r.outcome.purchases))).collect()),
            amount: deciles(own.iter().map(|(r, s)| (f64::from(s.amount), r.outcome.amount)).collect()),
        },
        slices,
    })
}

impl SpendSlice {
    /// Says whether a baseline is better here.
    fn judged(mut self) -> Self {
        let own = self.quality.rmse_purchases;
        // A hundredth of a purchase is nobody's worry.
        let better = self.baselines.iter().filter(|(_, theirs)| **theirs < self.interval[0] && own - **theirs >= 0.01);
        let better = better.min_by(|a, b| a.1.total_cmp(b.1));
        self.fails = better.map(|(name, theirs)| format!("root mean squared error {own:.2} on {} rows, {name} {theirs:.2}", self.n));
        self
    }
}

/// Tenths of (expected, actual), in order of what is expected; empty ones are left out.
fn deciles(mut rows: Vec<(f64, f64)>) -> Vec<Decile> {
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = rows.len();
    let tenth = |i: usize| {
        let part = &rows[i * n / 10..(i + 1) * n / 10];
        let mean = |of: fn(&(f64, f64)) -> f64| part.iter().map(of).sum::<f64>() / part.len().max(1) as f64;
        Decile { n: part.len(), expected: mean(|r| r.0), actual: mean(|r| r.1) }
    };
    (0..10).map(tenth).filter(|d| d.n > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenths_go_from_the_least_expected_to_the_most() {
        let rows = (0..100).rev().map(|i| (f64::from(i), 2.0 * f64::from(i))).collect();
        let tenths = deciles(rows);
        assert_eq!((tenths.len(), tenths[0], tenths[9].expected), (10, Decile { n: 10, expected: 4.5, actual: 9.0 }, 94.5));
        assert_eq!(deciles(vec![(1.0, 0.0), (0.5, 3.0)]).iter().map(|d| d.expected).collect::<Vec<_>>(), [0.5, 1.0]);
    }
}
