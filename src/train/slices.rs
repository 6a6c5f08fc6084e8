//! The rows of a task cut by language, kind, segment and sequence length: where a model fails though its mean looks good.
//!
//! Knows rows and who they are of.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bootstrap::Interval;
use super::judge::Judged;
use super::metrics::{Row, judge};
use super::record::Recording;
use crate::customer::words;

/// Whose row it is. Names are hashes as in the customer's window, 0 where absent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Who {
    /// Number of the customer.
    pub customer: u32,
    pub language: u32,
    pub kind: u32,
    /// Number of the segment + 1; 0 where there is none.
    pub segment: u32,
    /// Interactions of the customer before this one.
    pub place: u32,
}

/// What the hashes stand for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Names {
    pub languages: BTreeMap<u32, String>,
    pub kinds: BTreeMap<u32, String>,
    /// By number of the segment.
    pub segments: BTreeMap<u32, String>,
}

impl Names {
    /// Those of the languages and kinds that were read.
    pub fn of(recording: &Recording) -> Self {
        let by_hash = |names: &BTreeMap<Box<str>, usize>| names.keys().map(|n| (words::hash(n), n.to_string())).collect();
        Self { languages: by_hash(&recording.languages), kinds: by_hash(&recording.kinds), segments: BTreeMap::new() }
    }
}

/// Figures of a part of the rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slice {
    pub by: &'static str,
    pub value: String,
    pub n: usize,
    pub accuracy: f64,
    /// 95 % interval of the accuracy.
    pub interval: Interval,
    pub macro_f1: f64,
    pub log_loss: f64,
    /// Mean of what was said of the event − share of what happened: above 0, too often said.
    pub bias: f64,
    /// Accuracy of the baselines on the same rows.
    pub baselines: BTreeMap<&'static str, f64>,
    /// Why the model is not to be trusted here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// A slice while its interval is still unknown.
pub struct Open {
    pub slice: Slice,
    /// Row and whether it is a hit.
    hits: Vec<(u32, bool)>,
}

/// Slices of fewer rows say nothing.
const FEWEST: usize = 30;
/// Most values of one way of cutting.
const MOST: usize = 20;
const LENGTHS: [(&str, u32); 5] =
    [("1st interaction", 1), ("2nd to 4th", 4), ("5th to 9th", 9), ("10th to 19th", 19), ("20th and later", u32::MAX)];

impl Open {
    /// Accuracy where the customers (by row) count with these weights; NaN where none of them does.
    pub fn accuracy_under(&self, weights: &[u32], customers: &[u32]) -> f64 {
        let (mut hits, mut all) = (0.0, 0.0);
        for &(row, hit) in &self.hits {
            let w = f64::from(weights[customers[row as usize] as usize]);
            all += w;
            hits += if hit { w } else { 0.0 };
        }
        hits / all
    }

    /// Sets the interval, and says whether the slice is one to beware of, beside the accuracy of all rows.
    pub fn finish(&mut self, interval: Interval, overall: f64) {
        let s = &mut self.slice;
        s.interval = interval;
        let better = s.baselines.iter().find(|(_, accuracy)| **accuracy > interval[1]);
        s.fails = if interval[1] < overall {
            Some(format!("accuracy {:.1} % on {} rows, overall {:.1} %", 100.0 * s.accuracy, s.n, 100.0 * overall))
        } else {
            better.map(|(name, b)| format!("accuracy {:.1} % on {} rows, {name} {:.1} %", 100.0 * s.accuracy, s.n, 100.0 * b))
        };
    }
}

/// Cuts the rows in every way; one that leaves them in one piece is left out.
pub fn slices(rows: &[Judged], baselines: &[(&'static str, Vec<Row>)], names: &Names) -> Vec<Open> {
    let named = |names: &BTreeMap<u32, String>, hash: u32| match hash {
        0 => "not given".to_owned(),
        hash => names.get(&hash).cloned().unwrap_or_else(|| format!("{hash:08x}")),
    };
    let segment = |number: u32| match number.checked_sub(1) {
        None => "none".to_owned(),
        Some(id) => names.segments.get(&id).cloned().unwrap_or_else(|| id.to_string()),
    };
    let length = |who: &Who| LENGTHS.iter().position(|(_, most)| who.place < *most).unwrap_or(LENGTHS.len() - 1);
    type Key<'a> = Box<dyn Fn(&Who) -> (usize, String) + 'a>;
    let cuts: [(&'static str, Key<'_>); 4] = [
        ("language", Box::new(|w| (0, named(&names.languages, w.language)))),
        ("kind", Box::new(|w| (0, named(&names.kinds, w.kind)))),
        ("segment", Box::new(|w| (w.segment as usize, segment(w.segment)))),
        ("length", Box::new(|w| (length(w), LENGTHS[length(w)].0.to_owned()))),
    ];
    let mut all = Vec::new();
    for (by, key) in cuts {
        let mut parts: BTreeMap<(usize, String), Vec<usize>> = BTreeMap::new();
        for (i, judged) in rows.iter().enumerate() {
            parts.entry(key(&judged.who)).or_default().push(i);
        }
        if parts.len() < 2 {
            continue;
        }
        let mut parts: Vec<_> = parts.into_iter().filter(|(_, members)| members.len() >= FEWEST).collect();
        parts.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
        parts.truncate(MOST);
        parts.sort_by(|a, b| a.0.cmp(&b.0));
        all.extend(parts.into_iter().map(|((_, value), members)| open(by, value, &members, rows, baselines)));
    }
    all
}

fn open(by: &'static str, value: String, members: &[usize], rows: &[Judged], baselines: &[(&'static str, Vec<Row>)]) -> Open {
    let q = judge(members.iter().map(|&i| &rows[i].row));
    let bias = members.iter().map(|&i| f64::from(rows[i].row.event.0) - f64::from(u8::from(rows[i].row.event.1))).sum::<f64>();
    let accuracy = |rows: &[Row]| members.iter().filter(|&&i| rows[i].predicted == rows[i].label).count() as f64 / members.len() as f64;
    let slice = Slice {
        by,
        value,
        n: members.len(),
        accuracy: q.accuracy,
        interval: [f64::NAN; 2],
        macro_f1: q.macro_f1,
        log_loss: q.log_loss,
        bias: bias / members.len() as f64,
        baselines: baselines.iter().map(|(name, rows)| (*name, accuracy(rows))).collect(),
        fails: None,
    };
    Open { slice, hits: members.iter().map(|&i| (i as u32, rows[i].row.predicted == rows[i].row.label)).collect() }
}
