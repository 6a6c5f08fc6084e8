//! Churn, spend and next need from a recording to what a bundle holds of them.
//!
//! Fit on what lies before the cut of [`Holdout`], calibrate on one half of the customers after it and judge on the other. What is set aside is
//! never fitted on. What the data cannot teach is left out and said so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::baselines::FILE;
use super::carried::Carried;
use super::fit::{Fitted, PARTS, Run, fit};
use super::fit_baselines::fit_all;
use super::judge::{FutureReport, Known, Look, Others, Row, levels, report};
use super::level;
use super::network::{Net, Outputs, Task};
use super::snapshots::{Draw, Snapshot, after_each, draw, grid};
use super::timeline::Timeline;
use super::{end_of_data, export};
use crate::customer::{Counters, words};
use crate::engine::{Ahead, Churn, ClassProbability, ClassScore, Spend, forecast_of};
use crate::features::BEHAVIOUR;
use crate::interaction::Timestamp;
use crate::model::drift::{Column, Histogram};
use crate::model::future::{GOLDEN, GRAPH, NEXT_NEED};
use crate::model::{BgNbd, ChurnHead, ClassHead, FutureHead, Horizon, Reference, SpendHead, Watch, return_logit};

use crate::train::calibrate::{self, Bias, Scaling};
use crate::train::config::Config;
use crate::train::fit::Epoch;
use crate::train::holdout::{Holdout, Part};
use crate::train::make::Notes;
use crate::train::metrics::argmax;
use crate::train::record::{Recording, customer_share, stop_share};
use crate::train::reference;
use crate::train::slices::Names;

/// What a bundle holds of the future.
#[derive(Debug)]
pub struct Made {
    pub head: FutureHead,
    pub files: BTreeMap<String, Vec<u8>>,
    /// Quality on what was set aside.
    pub report: FutureReport,
    /// How churn, spend and the likeliest need are distributed right after the interactions that were fitted on.
    pub outputs: Vec<Column>,
    /// The same of what was set aside.
    pub watch: Watch,
    /// Losses of every epoch, and which one's weights were kept.
    pub epochs: Vec<Epoch>,
    pub kept_epoch: usize,
}

/// About how many snapshots are fitted on.
const SNAPSHOTS: usize = 90_000;
/// Names of the outputs as scores are watched by.
const CHURN: &str = "churn.probability";
const PURCHASES: &str = "spend.purchases";
const AMOUNT: &str = "spend.amount";
/// About how many looks right after an interaction are enough for a histogram.
const LOOKS: usize = 20_000;
/// Times at which what is set aside is looked at.
const TIMES: i64 = 6;
/// A horizon may be this many times as long as the data: the forms reach that far beyond what they were fitted on. A third of the data's length is judged.
const REACH: f64 = 3.0;
/// Most categories of next need.
const CATEGORIES: usize = 500;
/// Fewest snapshots with a label, and of each kind of churn.
const FEWEST: usize = 50;
/// Days since a customer's last interaction after which another is a return.
const SILENT: f32 = 1.0;

/// What scores say of snapshots: numbers by the name of the output, and the likeliest need.
struct Said<'a> {
    numbers: Vec<(&'static str, Vec<f32>)>,
    needs: Option<Vec<&'a str>>,
}

struct Data<'a> {
    timelines: Vec<Timeline<'a>>,
    categories: Vec<String>,
    numbers: HashMap<u32, u32>,
    horizon: f32,
    first: Timestamp,
    end: Timestamp,
    holdout: Holdout,
}

/// Trains the heads of the future; `None` where there is nothing to learn. `sequence` is the bundle's sequence network, where it has learnt something;
/// `others` are its other networks, which the report asks too.
///
/// # Errors
/// A file of the bundle that cannot be made.
pub fn train(
    recording: &Recording,
    config: &Config,
    holdout: Holdout,
    seed: u64,
    sequence: Option<Carried<'_>>,
    (others, names): (&Others, &Names),
    notes: &mut Notes<'_>,
) -> anyhow::Result<Option<Made>> {
    let Some(data) = Data::new(recording, config.horizon_days, holdout) else { return Ok(None) };
    let span = data.end.days_since(data.first);
    if span * REACH < f64::from(data.horizon) {
        notes.left_out(format!("churn, spend and next_need: the data spans {span:.0} days, labels look {} days ahead", data.horizon));
        return Ok(None);
    }
    let mut left_out = |what: String| notes.left_out(what);
    let (cut, after) = data.cut();
    let fitted = |id: &str| !data.is_held_out(id);
    let horizon = data.judged_horizon().min(data.end.days_since(after[0]) as f32).floor();
    if horizon < 1.0 {
        notes.left_out(format!("churn, spend and next_need: of {span:.1} days too little is left to judge them by"));
        return Ok(None);
    }
    let wanted = Draw { end: cut, horizon: data.horizon, count: SNAPSHOTS, seed };
    let mut snapshots = draw(&data.timelines, &data.numbers, wanted, fitted);
    let Some(mut head) = data.heads(&snapshots, config.min_class, &mut left_out) else { return Ok(None) };
    if horizon < data.horizon {
        let (asked, days) = (data.horizon, cut.days_since(data.first));
        notes.say(format!(
            "churn and spend look {asked} days ahead: {days:.0} days are there to fit them on, and they are judged {horizon:.0} days ahead"
        ));
    }
    let own: Vec<&Timeline> = data.timelines.iter().filter(|t| fitted(t.id)).collect();
    let baselines = fit_all(&own, cut, &snapshots, data.labels(&head));
    head.visits = baselines.bgnbd.unwrap_or(BgNbd::USUAL);
    let mut held = grid(&data.timelines, &data.numbers, &after, horizon, |id| data.after_cut(id));
    let looks = |span, takes: &dyn Fn(&str) -> bool| after_each(&data.timelines, &data.numbers, span, LOOKS, takes);
    let aside = if matches!(holdout, Holdout::Time { .. }) { cut } else { data.first };
    let mut known = looks((data.first, cut), &fitted);
    let mut unknown = looks((aside, data.end), &|id| data.after_cut(id));
    let mut columns = Vec::new();
    if let Some(sequence) = sequence {
        let all = snapshots.iter_mut().chain(&mut held).chain(&mut known).chain(&mut unknown);
        sequence.fill(recording, &data.timelines, all);
        let (state, read) = sequence.columns();
        (head.state, columns) = (state, read.to_vec());
    }
    let progress = |done, loss| notes.fit("fitting churn, spend and next need", done, loss);
    let (mut head, Fitted { net, epochs, kept }) = data.fit(&snapshots, head, Run { seed, max_steps: config.max_steps }, progress);
    let (calibration, judged): (Vec<Snapshot>, Vec<Snapshot>) =
        held.into_iter().partition(|s| customer_share(data.timelines[s.customer].id).is_multiple_of(2));
    data.calibrate(&mut head, &net, &calibration);
    let levels = levels(&data.rows(&head, &net, &calibration, horizon, others)?, &baselines, horizon as u32, data.believed());
    let rows = data.rows(&head, &net, &judged, horizon, others)?;
    let forecast = head.spend.map(|h| forecast_of(&h, rows.iter().filter_map(|r| r.ahead.spend)));
    let mut report = report(&rows, (&baselines, &levels), horizon as u32, forecast, names);
    if let Some(spend) = &mut report.spend {
        spend.per_time(after.len());
    }
    let json = |value: Value| -> anyhow::Result<Vec<u8>> { Ok((serde_json::to_string(&value)? + "\n").into_bytes()) };
    let files = BTreeMap::from([
        (GRAPH.to_owned(), export::graph(&net, &head, &columns)),
        (GOLDEN.to_owned(), json(serde_json::to_value(export::golden(&net, &head, &columns))?)?),
        (FILE.to_owned(), json(serde_json::to_value(baselines)?)?),
    ]);
    // As in `reference`: by customer, outputs are those of customers who were not fitted on.
    let (unseen, unknown): (Vec<Snapshot>, Vec<Snapshot>) = match holdout {
        Holdout::Customers => unknown.into_iter().partition(|s| customer_share(data.timelines[s.customer].id).is_multiple_of(2)),
        Holdout::Time { .. } => (Vec::new(), unknown),
    };
    let (outputs, watch) = data.watch(&head, &net, (&known, &unseen), &unknown);
    Ok(Some(Made { head, files, report, outputs, watch, epochs, kept_epoch: kept }))
}

impl<'a> Data<'a> {
    fn new(recording: &'a Recording, horizon_days: u32, holdout: Holdout) -> Option<Self> {
        let mut categories = fitted_categories(recording, holdout);
        categories.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        categories.truncate(CATEGORIES);
        let categories: Vec<String> = categories.into_iter().map(|(c, _)| c.to_owned()).collect();
        Some(Self {
            timelines: recording.customers.iter().map(Timeline::new).collect(),
            numbers: categories.iter().zip(0..).map(|(c, i)| (words::hash(c), i)).collect(),
            categories,
            horizon: horizon_days as f32,
            first: recording.from?,
            end: end_of_data(recording)?,
            holdout,
        })
    }

    /// How far ahead what is set aside is judged, in whole days: as far as scores look, where the data allows it.
    fn judged_horizon(&self) -> f32 {
        self.horizon.min((self.end.days_since(self.first) / REACH) as f32).floor()
    }

    /// Where fitting ends, and the times at which what is set aside is looked at.
    fn cut(&self) -> (Timestamp, Vec<Timestamp>) {
        let last = self.end.0 - (f64::from(self.judged_horizon()) * Timestamp::MICROS_PER_DAY as f64) as i64;
        let (cut, from) = match self.holdout {
            Holdout::Time { from, .. } => (from, from.0),
            Holdout::Customers => (self.end, self.first.0 + (last - self.first.0) / 2),
        };
        // A week apart at least: the same customers a day later are the same again.
        let steps = ((last - from) / (7 * Timestamp::MICROS_PER_DAY)).clamp(0, TIMES - 1);
        let times = (0..=steps).map(|i| Timestamp(from + (last - from) * i / steps.max(1)));
        (cut, times.collect())
    }

    fn is_held_out(&self, id: &str) -> bool {
        self.holdout == Holdout::Customers && self.after_cut(id)
    }

    /// Whether a customer is looked at after the cut.
    fn after_cut(&self, id: &str) -> bool {
        match self.holdout {
            Holdout::Time { .. } => true,
            Holdout::Customers => self.holdout.part(id, self.first) != Part::Fit,
        }
    }

    fn labels<'b>(&'b self, head: &FutureHead) -> &'b [String] {
        if head.next_need.is_some() { &self.categories } else { &[] }
    }

    /// The heads that there is enough to learn for, unscaled and uncalibrated.
    fn heads(&self, snapshots: &[Snapshot], min_class: usize, left_out: &mut impl FnMut(String)) -> Option<FutureHead> {
        // That a conversation goes on is no return.
        let silent = || snapshots.iter().filter(|s| s.recency >= SILENT);
        let returned = silent().filter(|s| s.outcome.returned).count();
        let stayed = silent().count() - returned;
        let churn = returned >= FEWEST && stayed >= FEWEST;
        if !churn {
            left_out(format!(
                "churn: of {} looks at customers who had been silent for a day {returned} were followed by a return; {FEWEST} of each are needed",
                returned + stayed
            ));
        }
        let bought = snapshots.iter().filter(|s| s.outcome.purchases > 0).count();
        if bought < FEWEST {
            left_out(format!("spend: {bought} looks at customers were followed by a purchase, {FEWEST} are needed"));
        }
        let mut counts = vec![0; self.categories.len()];
        snapshots.iter().filter_map(|s| s.need).for_each(|n| counts[n as usize] += 1);
        let enough = counts.iter().filter(|n| **n >= min_class).count() >= 2 && counts.iter().sum::<usize>() >= FEWEST;
        if !enough {
            left_out(format!("next_need: {} categories follow {} looks at customers", self.categories.len(), counts.iter().sum::<usize>()));
        }
        let spend = (bought >= FEWEST).then_some(SpendHead {
            of_visit: 0.0,
            value: 0.0,
            purchases: 1.0,
            amount: 1.0,
            purchases_error: level::error(&[], 0.0),
            amount_error: level::error(&[], 0.0),
        });
        (churn || spend.is_some() || enough).then(|| FutureHead {
            horizon_days: self.horizon as u32,
            behaviour_hash: crate::model::behaviour_hash(),
            mean: Vec::new(),
            deviation: Vec::new(),
            visits: BgNbd::USUAL,
            churn: churn.then_some(ChurnHead { scale: 1.0, bias: 0.0 }),
            spend,
            next_need: enough.then(|| ClassHead { labels: self.categories.clone(), scale: 1.0, unknown_below: None }),
            state: 0,
        })
    }

    /// Scales and fits. Calibrations of the returned head are none.
    fn fit(&self, snapshots: &[Snapshot], mut head: FutureHead, run: Run, progress: impl FnMut(f32, f32)) -> (FutureHead, Fitted) {
        let n = snapshots.len().max(1) as f64;
        (head.mean, head.deviation) = (0..BEHAVIOUR.len())
            .map(|i| {
                let values = || snapshots.iter().map(move |s| f64::from(s.behaviour[i]));
                let mean = values().sum::<f64>() / n;
                let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                (mean as f32, if variance > 1e-6 { variance.sqrt() as f32 } else { 0.0 })
            })
            .unzip();
        let purchases = snapshots.iter().map(|s| f64::from(s.outcome.purchases)).sum::<f64>();
        let amount = snapshots.iter().map(|s| s.outcome.amount).sum::<f64>();
        if let Some(spend) = &mut head.spend {
            let past = |of: fn(&Snapshot) -> f64| snapshots.iter().map(of).sum::<f64>();
            spend.of_visit = (past(|s| f64::from(s.past.purchases)) / past(|s| s.past.visits.repeats + 1.0).max(1.0)) as f32;
            spend.value = (amount / purchases.max(1.0)) as f32;
            (spend.purchases, spend.amount) = (1.0, 1.0);
        }
        if let Some(churn) = &mut head.churn {
            *churn = ChurnHead { scale: 1.0, bias: 0.0 };
        }
        let mut frequencies = vec![1.0; self.labels(&head).len()];
        snapshots.iter().filter_map(|s| s.need).filter_map(|n| n.try_into().ok()).for_each(|n: usize| {
            if let Some(f) = frequencies.get_mut(n) {
                *f += 1.0;
            }
        });
        let total: f32 = frequencies.iter().sum();
        frequencies.iter_mut().for_each(|f| *f /= total);
        let task = Task { head: &head, numbers: &self.numbers, purchases: (purchases / n) as f32, amount: (amount / n).max(1e-6) as f32 };
        let fitted = fit(snapshots, &self.parts(snapshots), &task, &frequencies, run, progress);
        (head, fitted)
    }

    /// In which of [`PARTS`] the customer of each snapshot is; with fewer customers there are as few parts.
    fn parts(&self, snapshots: &[Snapshot]) -> Vec<usize> {
        let customers: BTreeSet<usize> = snapshots.iter().map(|s| s.customer).collect();
        let mut order: Vec<usize> = customers.into_iter().collect();
        order.sort_by_key(|&c| (stop_share(self.timelines[c].id), self.timelines[c].id));
        let parts: HashMap<usize, usize> = order.into_iter().enumerate().map(|(at, customer)| (customer, at % PARTS)).collect();
        snapshots.iter().map(|s| parts[&s.customer]).collect()
    }

    fn run(&self, head: &FutureHead, net: &Net, snapshots: &[Snapshot]) -> Outputs {
        net.run(snapshots, &Task { head, numbers: &self.numbers, purchases: 1.0, amount: 1.0 })
    }

    /// How much of the level of what calibrates is believed.
    fn believed(&self) -> f32 {
        if self.holdout == Holdout::Customers { 1.0 } else { level::AFTER_A_CUT }
    }

    /// Fits what turns outputs into probabilities and sums.
    fn calibrate(&self, head: &mut FutureHead, net: &Net, snapshots: &[Snapshot]) {
        let out = self.run(head, net, snapshots);
        let visits = head.visits;
        let believed = self.believed();
        if let Some(churn) = &mut head.churn {
            let logit = |(s, o): (&Snapshot, &[f32])| return_logit(&head.visits, o, &s.past, Horizon(s.days));
            let logits: Vec<f32> = snapshots.iter().zip(out.survival.chunks(2)).map(logit).collect();
            let returned: Vec<usize> = snapshots.iter().map(|s| usize::from(s.outcome.returned)).collect();
            *churn = level::churn(&logits, &returned, believed).unwrap_or(*churn);
        }
        if let Some(spend) = &mut head.spend {
            let mut sums: BTreeMap<Timestamp, [f64; 4]> = BTreeMap::new();
            for (s, o) in snapshots.iter().zip(out.spend.chunks(3)) {
                let expected = spend.expect(&visits, o, &s.past, Horizon(s.days));
                let sum = sums.entry(s.at).or_default();
                let row = [f64::from(expected.purchases), f64::from(expected.amount), f64::from(s.outcome.purchases), s.outcome.amount];
                sum.iter_mut().zip(row).for_each(|(a, b)| *a += b);
            }
            let all = sums.values().fold([0.0; 4], |a, b| std::array::from_fn(|i| a[i] + b[i]));
            let factor = |i: usize| level::factor(all[i], all[i + 2], believed);
            (spend.purchases, spend.amount) = (factor(0), factor(1));
            // How far off forecasts were that knew nothing of their time.
            let span = sums.keys().next().zip(sums.keys().last()).map_or(0.0, |(first, last)| last.days_since(*first));
            let horizon = snapshots.first().map_or(self.horizon, |s| s.days);
            let error = |i: usize| {
                let logs: Vec<f64> = sums.values().filter(|s| s[i] > 0.0 && s[i + 2] > 0.0).map(|s| (s[i + 2] / s[i]).ln()).collect();
                level::error(&logs, span / f64::from(horizon))
            };
            (spend.purchases_error, spend.amount_error) = (error(0), error(1));
        }
        if let Some(need) = &mut head.next_need {
            let k = need.labels.len();
            let labelled = || snapshots.iter().zip(out.needs.chunks(k)).filter_map(|(s, o)| Some((o.to_vec(), s.need? as usize)));
            let step = labelled().count().div_ceil(5000).max(1);
            let (logits, labels): (Vec<Vec<f32>>, Vec<usize>) = labelled().step_by(step).unzip();
            need.scale = calibrate::fit(&logits, &labels, Bias::None).scale;
        }
    }

    /// What scores say of every snapshot.
    fn said<'b>(&self, head: &'b FutureHead, net: &Net, snapshots: &[Snapshot]) -> Said<'b> {
        let out = self.run(head, net, snapshots);
        let horizon = Horizon(self.horizon);
        let mut numbers = Vec::new();
        if let Some(h) = &head.churn {
            let churn =
                snapshots.iter().zip(out.survival.chunks(2)).map(|(s, o)| h.probability(return_logit(&head.visits, o, &s.past, horizon)));
            numbers.push((CHURN, churn.collect()));
        }
        if let Some(h) = &head.spend {
            let expected: Vec<_> =
                snapshots.iter().zip(out.spend.chunks(3)).map(|(s, o)| h.expect(&head.visits, o, &s.past, horizon)).collect();
            numbers.push((PURCHASES, expected.iter().map(|e| e.purchases).collect()));
            numbers.push((AMOUNT, expected.iter().map(|e| e.amount).collect()));
        }
        let first = |h: &'b ClassHead| out.needs.chunks(h.labels.len()).map(|logits| h.labels[argmax(logits)].as_str()).collect();
        Said { numbers, needs: head.next_need.as_ref().map(first) }
    }

    /// How scores right after interactions are distributed at `unseen`, or at `fitted` where those are too few, and how they are at others.
    fn watch(
        &self,
        head: &FutureHead,
        net: &Net,
        (fitted, unseen): (&[Snapshot], &[Snapshot]),
        others: &[Snapshot],
    ) -> (Vec<Column>, Watch) {
        let told = if unseen.len() >= reference::FEWEST { unseen } else { fitted };
        let said = self.said(head, net, told);
        let column = |(name, values): (&str, Vec<f32>)| Column { name: name.into(), histogram: Histogram::of_numbers(values) };
        // As there: of many categories some are missing in a few looks.
        let many = reference::ROWS_PER_LABEL * self.labels(head).len();
        let needs = if told.len() < many { self.said(head, net, fitted).needs } else { said.needs };
        let need = needs.map(|needs| Column { name: NEXT_NEED.into(), histogram: Histogram::of_labels(needs) });
        let outputs: Vec<Column> = said.numbers.into_iter().map(column).chain(need).collect();
        let mut watch = Watch::new(Arc::new(Reference { outputs: outputs.clone(), ..Reference::default() }));
        let said = self.said(head, net, others);
        said.numbers.iter().for_each(|(name, values)| values.iter().for_each(|value| watch.number(name, *value)));
        said.needs.into_iter().flatten().for_each(|label| watch.label(NEXT_NEED, label));
        (outputs, watch)
    }

    /// What is said of snapshots, beside what came; by the bundle's other networks, too.
    fn rows(&self, head: &FutureHead, net: &Net, snapshots: &[Snapshot], horizon: f32, others: &Others) -> anyhow::Result<Vec<Row>> {
        let out = self.run(head, net, snapshots);
        let horizon_days = horizon as u32;
        let k = self.labels(head).len();
        let row = |(i, s): (usize, &Snapshot)| {
            let churn =
                head.churn.map(|h| h.probability(return_logit(&head.visits, &out.survival[2 * i..][..2], &s.past, Horizon(s.days))));
            let spend = head.spend.map(|h| h.expect(&head.visits, &out.spend[3 * i..][..3], &s.past, Horizon(s.days)));
            let ahead = Ahead {
                churn: churn.map(|probability| Churn { probability, horizon_days }),
                spend: spend.map(|e| Spend { purchases: e.purchases, amount: e.amount, horizon_days }),
                next_need: head.next_need.as_ref().map(|h| top(h, &out.needs[k * i..][..k])),
            };
            let until = Timestamp(s.at.0 + (f64::from(s.days) * Timestamp::MICROS_PER_DAY as f64) as i64);
            let look = Look { customer: s.customer, at: s.at, until, past: s.past, recency: f64::from(s.recency) };
            Row::new(&self.timelines[s.customer], look, ahead)
        };
        let mut rows: Vec<Row> = snapshots.iter().enumerate().map(row).collect();
        // A part at a time: counters are large beside rows.
        for (rows, snapshots) in rows.chunks_mut(4096).zip(snapshots.chunks(4096)) {
            let known: Vec<Known> = snapshots.iter().map(|s| self.known(s)).collect();
            others.speak(rows, &known, horizon == self.horizon)?;
        }
        Ok(rows)
    }

    fn known(&self, s: &Snapshot) -> Known {
        let timeline = &self.timelines[s.customer];
        let items = &timeline.items[..timeline.before(s.at)];
        let mut counters = Counters::default();
        items.iter().for_each(|item| counters.add(item));
        let (kind, channel) = items.last().map_or((0, 0), |item| (item.kind, item.channel));
        Known { counters, kind, channel, at: s.at }
    }
}

/// How often each category is among what is fitted on.
fn fitted_categories(recording: &Recording, holdout: Holdout) -> Vec<(&str, usize)> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for customer in &recording.customers {
        for item in customer.items.iter().filter(|item| holdout.part(&customer.id, item.occurred_at) == Part::Fit) {
            *counts.entry(item.category).or_default() += 1;
        }
    }
    recording.categories.keys().filter_map(|name| Some((&**name, *counts.get(&words::hash(name))?))).collect()
}

fn top(head: &ClassHead, logits: &[f32]) -> ClassScore {
    let p = Scaling { scale: head.scale, bias: vec![0.0; logits.len()] }.apply(logits);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order.truncate(5);
    ClassScore::Top(order.into_iter().map(|i| ClassProbability { label: head.labels[i].as_str().into(), probability: p[i] }).collect())
}

#[cfg(test)]
mod tests;
