//! The next category as of a time, beside the most frequent ones.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Figures, Intervals, Part, Row, SEED, compare, numbers};
use crate::customer::words;
use crate::engine::ClassScore;
use crate::train::bootstrap::{Interval, Sums, calibration_limit};
use crate::train::future::baselines::Baselines;
use crate::train::metrics::expected_calibration_error;
use crate::train::slices::{Names, SO_FAR, parts};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeedReport {
    pub n: usize,
    pub customers: usize,
    #[serde(flatten)]
    pub quality: NeedQuality,
    /// Expected calibration error of the likeliest category, ten bins of equal mass, and what it may be.
    pub ece: f64,
    pub ece_limit: f64,
    pub baselines: BTreeMap<&'static str, NeedQuality>,
    #[serde(flatten)]
    pub sure: Intervals,
    pub slices: Vec<NeedSlice>,
}

/// Shares of the customers whose next category is among the 1, 3 and 5 likeliest; accuracy is the first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NeedQuality {
    pub recall_at_1: f64,
    pub recall_at_3: f64,
    pub recall_at_5: f64,
    pub accuracy: f64,
}

/// Figures of a part of the customers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeedSlice {
    pub by: &'static str,
    pub value: String,
    pub n: usize,
    #[serde(flatten)]
    pub quality: NeedQuality,
    /// 95 % interval of `recall_at_5`.
    pub interval: Interval,
    /// `recall_at_5` of the baselines.
    pub baselines: BTreeMap<&'static str, f64>,
    /// Why the model is not to be trusted here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// Rows, and how many of them have their label among the first 1, 3 and 5.
const WIDTH: usize = 4;
const FIGURES: [&str; 3] = ["recall_at_1", "recall_at_3", "recall_at_5"];

fn hits(top: &[u32], label: u32) -> [f64; WIDTH] {
    let within = |k: usize| f64::from(u8::from(top.iter().take(k).any(|t| *t == label)));
    [1.0, within(1), within(3), within(5)]
}

fn figures([n, first, third, fifth]: [f64; WIDTH]) -> [f64; 3] {
    [first / n, third / n, fifth / n]
}

fn quality([recall_at_1, recall_at_3, recall_at_5]: [f64; 3]) -> NeedQuality {
    NeedQuality { recall_at_1, recall_at_3, recall_at_5, accuracy: recall_at_1 }
}

/// The report of the next need; `None` where nothing is said of it, or nobody wanted anything.
pub fn next_need(rows: &[Row], baselines: &Baselines, names: &Names) -> Option<NeedReport> {
    let judged = |row: &Row| match &row.ahead.next_need {
        Some(ClassScore::Top(top)) if row.outcome.need != 0 => {
            let labels: Vec<u32> = top.iter().map(|t| words::hash(t.label.as_str())).collect();
            Some((row.who, hits(&labels, row.outcome.need), row.outcome.need, f64::from(top.first()?.probability)))
        }
        _ => None,
    };
    let own: Vec<_> = rows.iter().filter_map(judged).collect();
    if own.is_empty() {
        return None;
    }
    let mine: Vec<[f64; WIDTH]> = own.iter().map(|r| r.1).collect();
    let frequent: Vec<u32> = baselines.most_frequent.iter().map(|c| words::hash(c)).collect();
    let theirs: Vec<(&'static str, Vec<[f64; WIDTH]>)> = if frequent.is_empty() {
        Vec::new()
    } else {
        vec![("most_frequent", own.iter().map(|(_, _, label, _)| hits(&frequent, *label)).collect())]
    };

    let who: Vec<_> = own.iter().map(|r| r.0).collect();
    let (customers, count) = numbers(who.iter().map(|w| w.customer));
    let said: Vec<(f64, bool)> = own.iter().map(|(_, hits, _, p)| (*p, hits[1] == 1.0)).collect();
    let under = |rows: &[[f64; WIDTH]]| -> Figures<3> {
        let sums = Sums::new(&customers, count, rows);
        Box::new(move |weights| figures(sums.under(weights)))
    };
    let others: Vec<(&'static str, Figures<3>)> = theirs.iter().map(|(name, rows)| (*name, under(rows))).collect();
    let cut = parts(&who, names, &SO_FAR);
    let fifth: Vec<Part> = cut.iter().map(|p| Part::new(&p.members, &customers, |i| mine[i][3])).collect();
    let (sure, slices) = compare(FIGURES, count, &under(&mine), &others, &fifth);
    let all = |rows: &[[f64; WIDTH]], members: &mut dyn Iterator<Item = usize>| {
        figures(members.fold([0.0; WIDTH], |sum, i| std::array::from_fn(|k| sum[k] + rows[i][k])))
    };
    let whole = quality(all(&mine, &mut (0..mine.len())));
    let slices = cut.into_iter().zip(slices).map(|(part, interval)| {
        let of = |rows: &[[f64; WIDTH]]| all(rows, &mut part.members.iter().copied());
        let slice = NeedSlice {
            by: part.by,
            n: part.members.len(),
            quality: quality(of(&mine)),
            interval,
            baselines: theirs.iter().map(|(name, rows)| (*name, of(rows)[2])).collect(),
            fails: None,
            value: part.value,
        };
        slice.judged(whole.recall_at_5)
    });
    Some(NeedReport {
        n: own.len(),
        customers: count,
        quality: whole,
        ece: expected_calibration_error(&said, 10),
        ece_limit: calibration_limit(&said.iter().zip(&customers).map(|((p, _), c)| (*p, Some(*c))).collect::<Vec<_>>(), SEED),
        slices: slices.collect(),
        baselines: theirs.iter().map(|(name, rows)| (*name, quality(all(rows, &mut (0..rows.len()))))).collect(),
        sure,
    })
}

impl NeedSlice {
    /// Says whether the model is worse here than on all rows, or a baseline is better.
    fn judged(mut self, overall: f64) -> Self {
        let own = format!("recall among 5 {:.1} % on {} rows", 100.0 * self.quality.recall_at_5, self.n);
        let better = self.baselines.iter().find(|(_, theirs)| **theirs > self.interval[1]);
        self.fails = if self.interval[1] < overall {
            Some(format!("{own}, overall {:.1} %", 100.0 * overall))
        } else {
            better.map(|(name, theirs)| format!("{own}, {name} {:.1} %", 100.0 * theirs))
        };
        self
    }
}
