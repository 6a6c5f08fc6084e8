//! How good churn, spend and next need are as of a time, beside their baselines on the same customers.
//!
//! Labels come from the interactions at and after that time, which nothing that is judged has seen. Knows scores and labels; no network.

mod churn;
mod need;
mod row;
mod spend;

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Serialize;

pub use churn::{ChurnQuality, ChurnReport};
pub use need::{NeedQuality, NeedReport, NeedSlice};
pub use row::{Known, Look, Others, Row};
pub use spend::{Decile, SpendQuality, SpendReport, SpendSlice};

use super::baselines::{Baselines, FILE};
use super::end_of_data;
use super::level::Level;
#[cfg(feature = "train")]
use super::level::{self, logit};
use super::timeline::Timeline;
use crate::customer::CustomerState;
use crate::engine::{Engine, Forecast, States, forecast_of};
use crate::features::{Visits, past};
use crate::interaction::Timestamp;
use crate::model::Model;
use crate::train::bootstrap::{Interval, intervals};
use crate::train::record::Recording;
use crate::train::slices::Names;

/// Quality of the tasks of the future; a task without labels or without a head is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FutureReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<ChurnReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spend: Option<SpendReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_need: Option<NeedReport>,
}

/// What is for reports alone.
const DETAILS: [&str; 6] = ["curves", "confusion", "intervals", "differences", "deciles", "slices"];

impl FutureReport {
    /// By task, as a manifest holds it.
    ///
    /// # Errors
    /// None with these types.
    pub fn metrics(&self) -> serde_json::Result<serde_json::Map<String, serde_json::Value>> {
        let serde_json::Value::Object(tasks) = serde_json::to_value(self)? else { return Ok(serde_json::Map::new()) };
        let figures = |(task, mut quality): (String, serde_json::Value)| {
            if let Some(quality) = quality.as_object_mut() {
                quality.retain(|key, _| !DETAILS.contains(&key.as_str()));
            }
            (task, serde_json::json!({ "held_out": quality }))
        };
        Ok(tasks.into_iter().map(figures).collect())
    }
}

/// How sure figures are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Intervals {
    /// 95 % intervals over customers.
    pub intervals: BTreeMap<&'static str, Interval>,
    /// Intervals of network − baseline, for the same customers.
    pub differences: BTreeMap<&'static str, BTreeMap<&'static str, Interval>>,
}

/// Seed of resamples: the same rows give the same intervals.
const SEED: u64 = 1;
/// Who has never come is nobody to models of visits: like a customer who came today.
const TODAY: Visits = Visits { repeats: 0.0, last: 0.0, age: 0.0 };

/// Figures under weights of the customers.
type Figures<const N: usize> = Box<dyn Fn(&[u32]) -> [f64; N] + Sync>;

/// A part of the rows, of which a mean is asked under weights of the customers.
struct Part(Vec<(u32, f64)>);

impl Part {
    /// `value` is that of a row, `customers` those of all rows.
    fn new(members: &[usize], customers: &[u32], value: impl Fn(usize) -> f64) -> Self {
        Self(members.iter().map(|&i| (customers[i], value(i))).collect())
    }

    /// NaN where nobody counts.
    fn mean(&self, weights: &[u32]) -> f64 {
        let add = |(sum, n): (f64, f64), (customer, value): &(u32, f64)| {
            let weight = f64::from(weights[*customer as usize]);
            (sum + weight * value, n + weight)
        };
        let (sum, n) = self.0.iter().fold((0.0, 0.0), add);
        sum / n
    }
}

/// Intervals of a model's figures, of their differences to those of others, and of the parts' means, from one bootstrap over `count` customers.
fn compare<const N: usize>(
    names: [&'static str; N],
    count: usize,
    own: &Figures<N>,
    others: &[(&'static str, Figures<N>)],
    parts: &[Part],
) -> (Intervals, Vec<Interval>) {
    let found = intervals(count, SEED, |weights| {
        let mine = own(weights);
        let differences = others.iter().flat_map(|(_, other)| other(weights).into_iter().zip(mine).map(|(theirs, mine)| mine - theirs));
        let mut all = mine.to_vec();
        all.extend(differences);
        all.extend(parts.iter().map(|part| part.mean(weights)));
        all
    });
    let named = |found: &[Interval]| names.into_iter().zip(found.iter().copied()).filter(|(_, i)| finite(i)).collect();
    let (first, rest) = found.split_at(N);
    let (differences, parts) = rest.split_at(N * others.len());
    let differences = others.iter().zip(differences.chunks(N)).map(|((name, _), found)| (*name, named(found))).collect();
    (Intervals { intervals: named(first), differences }, parts.to_vec())
}

fn finite(interval: &Interval) -> bool {
    interval.iter().all(|x| x.is_finite())
}

/// Customers numbered without gaps in order of appearance, and how many there are.
fn numbers(customers: impl Iterator<Item = u32>) -> (Vec<u32>, usize) {
    let mut known: BTreeMap<u32, u32> = BTreeMap::new();
    let number = |customer| {
        let next = known.len() as u32;
        *known.entry(customer).or_insert(next)
    };
    let numbers = customers.map(number).collect();
    (numbers, known.len())
}

/// Judges what the engine says of every customer of `states`, which must be those as of `at`. `recording` is of all interactions.
///
/// # Errors
/// A baseline that is damaged; a horizon that passes the end of the data.
pub fn judge(engine: &mut Engine, states: &States, recording: &Recording, names: &Names, at: Timestamp) -> anyhow::Result<FutureReport> {
    let Some(days) = engine.horizon_days() else { return Ok(FutureReport::default()) };
    let until = Timestamp(at.0 + i64::from(days) * Timestamp::MICROS_PER_DAY);
    if let Some(end) = end_of_data(recording).filter(|end| *end < until) {
        let what = format!("{days} days from {at} pass the end of the data ({end}): churn, spend and next need have no labels");
        return Err(crate::cli::usage(what));
    }
    let baselines = read_baselines(engine.model())?;
    let timelines: Vec<Timeline> = recording.customers.iter().map(Timeline::new).filter(|t| t.before(at) > 0).collect();
    let empty = CustomerState::default();
    let states: Vec<(&CustomerState, Timestamp)> = timelines.iter().map(|t| (states.get(t.id).unwrap_or(&empty), at)).collect();
    let ahead = engine.ahead(&states)?;
    let (mut rows, mut known) = (Vec::with_capacity(timelines.len()), Vec::with_capacity(timelines.len()));
    for (customer, ((timeline, (state, _)), ahead)) in timelines.iter().zip(&states).zip(ahead).enumerate() {
        let now = &state.now;
        let look = Look { customer, at, until, past: past(now, at), recency: at.days_since(now.last_by_customer.max(now.first)) };
        rows.push(Row::new(timeline, look, ahead));
        let (kind, channel) = state.window.back().map_or((0, 0), |item| (item.kind, item.channel));
        known.push(Known { counters: now.clone(), kind, channel, at });
    }
    let model = engine.model();
    let others = Others { dense: model.tabular.clone(), groups: model.behaviour.clone() };
    others.speak(&mut rows, &known, days == model.manifest.training.horizon_days)?;
    let head = model.manifest.future.as_ref().and_then(|f| f.spend);
    let forecast = head.map(|head| forecast_of(&head, rows.iter().filter_map(|r| r.ahead.spend)));
    Ok(report(&rows, (&baselines, &Levels::new()), days, forecast, names))
}

fn read_baselines(model: &Model) -> anyhow::Result<Baselines> {
    if !model.manifest.files.contains_key(FILE) {
        return Ok(Baselines::default());
    }
    let path = model.dir().join(FILE);
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not of this version: train the bundle anew", path.display()))
}

/// Of baselines, by name; one that is not there says what it was fitted to say.
pub type Levels = BTreeMap<&'static str, Level>;

fn level(levels: &Levels, name: &str) -> Level {
    levels.get(name).copied().unwrap_or(Level::NONE)
}

/// The levels that rows which calibrate the network give its baselines.
#[cfg(feature = "train")]
pub fn levels(rows: &[Row], baselines: &Baselines, days: u32, believed: f32) -> Levels {
    let mut levels = Levels::new();
    for (name, events) in churn::said(&rows.iter().collect::<Vec<_>>(), baselines, days) {
        let (logits, returned): (Vec<f32>, Vec<usize>) = events.iter().map(|(p, gone)| (logit(1.0 - p), usize::from(!gone))).unzip();
        if let Some(churn) = level::churn(&logits, &returned, believed) {
            levels.insert(name, Level { churn, ..Level::NONE });
        }
    }
    for (name, model) in baselines.models() {
        let sums = rows.iter().fold([0.0; 4], |[p, a, purchases, amount], row| {
            let said = spend::said(row, model, baselines, days);
            [p + said.0, a + said.1, purchases + f64::from(row.outcome.purchases), amount + row.outcome.amount]
        });
        let factor = |i: usize| f64::from(level::factor(sums[i], sums[i + 2], believed));
        let level = levels.entry(name).or_insert(Level::NONE);
        (level.purchases, level.amount) = (factor(0), factor(1));
    }
    levels
}

/// The report of judged rows, beside baselines at these levels.
pub fn report(
    rows: &[Row],
    (baselines, levels): (&Baselines, &Levels),
    days: u32,
    forecast: Option<Forecast>,
    names: &Names,
) -> FutureReport {
    FutureReport {
        churn: churn::churn(rows, (baselines, levels), days, names),
        spend: forecast.and_then(|f| spend::spend(rows, (baselines, levels), days, f, names)),
        next_need: need::next_need(rows, baselines, names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::words;
    use crate::engine::{Ahead, Churn, ClassProbability, ClassScore, Spend, Total};
    use crate::features::Past;
    use crate::model::BgNbd;
    use crate::train::future::baselines::PerVisit;
    use crate::train::future::timeline::Outcome;
    use crate::train::slices::Who;

    fn row(customer: u32, churn: f32, returned: bool, purchases: (f32, u32), need: (&str, &str)) -> Row {
        let top = |label: &str| ClassProbability { label: label.into(), probability: 0.2 };
        Row {
            who: Who { customer, ..Who::default() },
            ahead: Ahead {
                churn: Some(Churn { probability: churn, horizon_days: 30 }),
                spend: Some(Spend { purchases: purchases.0, amount: purchases.0 * 2.0, horizon_days: 30 }),
                next_need: Some(ClassScore::Top(vec![top(need.0), top("second"), top("third")])),
            },
            outcome: Outcome { returned, purchases: purchases.1, amount: f64::from(purchases.1) * 2.0, need: words::hash(need.1) },
            before: Outcome { purchases: 4, amount: 9.0, ..Outcome::default() },
            newcomer: false,
            past: Past { purchases: 6.0, ..Past::default() },
            days: row::Days { past: 2, came: purchases.1 / 2 },
            recency: 3.0,
            visits: None,
            tabular: None,
        }
    }

    fn expected() -> Option<Forecast> {
        Some(Forecast { purchases: Total::default(), amount: Total::default() })
    }

    #[test]
    fn every_figure_equals_a_worked_example() {
        let rows = [
            row(0, 0.75, false, (1.0, 0), ("a", "a")),
            row(0, 0.25, true, (2.0, 4), ("b", "third")),
            row(0, 0.5, true, (0.0, 0), ("a", "unheard of")),
        ];
        let baselines = Baselines { most_frequent: vec!["a".into()], purchases_per_day: Some(3.0), ..Baselines::default() };
        let r = report(&rows, (&baselines, &Levels::new()), 30, expected(), &Names::default());
        let churn = r.churn.expect("judged");
        assert!((churn.share - 1.0 / 3.0).abs() < 1e-9 && (churn.predicted - 0.5).abs() < 1e-9);
        // One half is said to be gone.
        assert!(churn.quality.auroc == 1.0 && (churn.quality.accuracy - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(churn.confusion.counts, [[1, 0], [1, 1]]);
        // One customer: every resample is the whole.
        assert_eq!((churn.curves.intervals["auroc"], churn.curves.roc.len()), ([1.0, 1.0], 4));
        assert!((churn.quality.log_loss + (0.75f64.ln() * 2.0 + 0.5f64.ln()) / 3.0).abs() < 1e-9);
        let spend = r.spend.expect("judged");
        assert!((spend.quality.rmse_purchases - (5.0f64 / 3.0).sqrt()).abs() < 1e-9);
        assert_eq!(spend.sure.intervals["rmse_purchases"], [spend.quality.rmse_purchases; 2]);
        // 2 · 1, then 2 (2 − 4 + 4 ln 2), then next to nothing.
        let deviance = (2.0 + 8.0 * 2f64.ln() - 4.0) / 3.0;
        assert!((spend.quality.deviance_purchases - deviance).abs() < 1e-5, "{spend:?}");
        // Three purchases a day: expected days are 1/3, 2/3 and 0, and 0, 2 and 0 came.
        let days = ((1.0f64 / 9.0 + 16.0 / 9.0) / 3.0).sqrt();
        assert!(spend.quality.rmse_days.is_some_and(|found| (found - days).abs() < 1e-9), "{spend:?}");
        assert_eq!((spend.quality.bias_purchases, spend.actual.purchases, spend.last_period.amount), (Some(-0.25), 4.0, 27.0));
        let need = r.next_need.expect("judged");
        let NeedQuality { recall_at_1, recall_at_3, recall_at_5, accuracy } = need.quality;
        for (found, wanted) in [(recall_at_1, 1.0), (recall_at_3, 2.0), (recall_at_5, 2.0), (accuracy, 1.0)] {
            assert!((found - wanted / 3.0).abs() < 1e-9, "{need:?}");
        }
        assert!((need.baselines["most_frequent"].accuracy - 1.0 / 3.0).abs() < 1e-9);
        // All say 0.2 of the likeliest; rows of one bin each: 0.8 off once, 0.2 off twice.
        assert!((need.ece - 0.4).abs() < 1e-6 && need.ece_limit > 0.0, "{need:?}");
    }

    #[test]
    fn a_difference_is_that_of_the_same_customers_and_slices_cut_them() {
        // The network expects what comes; the baseline knows visits alone. Customers of segment 2 want what nobody expects.
        let rows: Vec<Row> = (0..200)
            .map(|c| {
                let segment = 1 + u32::from(c % 2 == 1);
                let mut row = row(c, 0.2, true, (2.0, 1 + c % 3), if segment == 1 { ("a", "a") } else { ("a", "b") });
                row.who = Who { segment, place: c % 4, ..row.who };
                row.visits = Some(Visits { repeats: f64::from(c % 2) * 20.0, last: 30.0 * f64::from(c % 2), age: 30.0 });
                row
            })
            .collect();
        let baselines = Baselines {
            bgnbd: Some(BgNbd { r: 0.243, alpha: 4.414, a: 0.793, b: 2.426 }),
            per_visit: PerVisit { purchases: 1.0, amount: 2.0 },
            most_frequent: vec!["a".into()],
            ..Baselines::default()
        };
        let names = Names { segments: BTreeMap::from([(0, "new".into()), (1, "lapsed".into())]), ..Names::default() };
        let r = report(&rows, (&baselines, &Levels::new()), 30, expected(), &names);
        let spend = r.spend.expect("judged");
        let [_, high] = spend.sure.differences["bgnbd"]["rmse_purchases"];
        assert!(high < 0.0 && spend.quality.rmse_purchases < spend.baselines["bgnbd"].rmse_purchases, "{spend:?}");
        assert_eq!(spend.quality.rmse_days, None, "nobody knows how many purchases a day has");
        let need = r.next_need.expect("judged");
        assert_eq!(need.sure.differences["most_frequent"]["recall_at_5"], [0.0, 0.0]);
        let cuts = |by: &str, value: &str| (by.to_owned(), value.to_owned());
        let wanted = [cuts("segment", "new"), cuts("segment", "lapsed"), cuts("length", "1 interaction so far"), cuts("length", "2 to 4")];
        assert_eq!(spend.slices.iter().map(|s| cuts(s.by, &s.value)).collect::<Vec<_>>(), wanted);
        assert_eq!(need.slices.iter().map(|s| cuts(s.by, &s.value)).collect::<Vec<_>>(), wanted);
        assert_eq!(r.churn.expect("judged").slices.iter().map(|s| cuts(s.by, &s.value)).collect::<Vec<_>>(), wanted);
        let [new, lapsed] = [&need.slices[0], &need.slices[1]];
        assert_eq!((new.quality.recall_at_1, new.interval, new.fails.as_deref()), (1.0, [1.0, 1.0], None));
        assert_eq!(lapsed.fails.as_deref(), Some("recall among 5 0.0 % on 100 rows, overall 50.0 %"));
        let [low, high] = spend.slices[0].interval;
        assert!(low < spend.slices[0].quality.rmse_purchases && spend.slices[0].quality.rmse_purchases < high && high < 1.1);
    }
}
