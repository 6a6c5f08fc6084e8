//! The rows of a task cut by language, kind, segment and sequence length: where a model fails though its mean looks good.
//!
//! Knows rows and who they are of.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bootstrap::Interval;
use super::judge::Judged;
use super::metrics::{Row, auroc, expected_calibration_error, judge};
use super::record::Recording;
use crate::customer::words;
use crate::model::BehaviourModel;

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
    /// Those of the languages and kinds that were read, and of the bundle's segments.
    pub fn of(recording: &Recording, segments: Option<&BehaviourModel>) -> Self {
        let by_hash = |names: &BTreeMap<Box<str>, usize>| names.keys().map(|n| (words::hash(n), n.to_string())).collect();
        let segments = segments.into_iter().flat_map(|part| (0..).zip(part.labels().map(|label| label.to_string())));
        Self { languages: by_hash(&recording.languages), kinds: by_hash(&recording.kinds), segments: segments.collect() }
    }
}

/// What a customer's sequence length is called up to which number of interactions, the judged or last one counted.
pub type Lengths = [(&'static str, u32); 5];
/// Of a judged interaction.
pub const PLACES: Lengths =
    [("1st interaction", 1), ("2nd to 4th", 4), ("5th to 9th", 9), ("10th to 19th", 19), ("20th and later", u32::MAX)];
/// Of a customer as of a time.
pub const SO_FAR: Lengths = [("1 interaction so far", 1), ("2 to 4", 4), ("5 to 9", 9), ("10 to 19", 19), ("20 and more", u32::MAX)];

/// Figures of a part of the rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slice {
    pub by: &'static str,
    pub value: String,
    pub n: usize,
    pub accuracy: f64,
    /// 95 % interval of the figure that says where the model fails.
    pub interval: Interval,
    pub macro_f1: f64,
    pub log_loss: f64,
    /// Expected calibration error of the event, or of the likeliest class, over ten bins of equal mass.
    pub ece: f64,
    /// Of the event, where the task has one and the rows have both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auroc: Option<f64>,
    /// Mean of what was said of the event − share of what happened: above 0, too often said.
    pub bias: f64,
    /// That figure of the baselines on the same rows.
    pub baselines: BTreeMap<&'static str, f64>,
    /// Why the model is not to be trusted here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// The figure that says where a model fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Beside all rows and the baselines.
    Accuracy,
    /// Beside the baselines alone: where an event is rare, it is small for whoever says so.
    LogLoss,
}

impl By {
    fn of(self, row: &Row) -> f64 {
        match self {
            Self::Accuracy => f64::from(u8::from(row.predicted == row.label)),
            Self::LogLoss => row.loss().unwrap_or_default(),
        }
    }

    fn say(self, value: f64) -> String {
        match self {
            Self::Accuracy => format!("{:.1} %", 100.0 * value),
            Self::LogLoss => format!("{value:.3}"),
        }
    }
}

/// A slice while its interval is still unknown.
pub struct Open {
    pub slice: Slice,
    by: By,
    /// Row and the figure of it.
    rows: Vec<(u32, f64)>,
}

/// Slices of fewer rows say nothing.
const FEWEST: usize = 30;
/// Most values of one way of cutting.
const MOST: usize = 20;

impl Open {
    /// Its figure where the customers (by row) count with these weights; NaN where none of them does.
    pub fn under(&self, weights: &[u32], customers: &[u32]) -> f64 {
        let (mut sum, mut all) = (0.0, 0.0);
        for &(row, value) in &self.rows {
            let w = f64::from(weights[customers[row as usize] as usize]);
            all += w;
            sum += w * value;
        }
        sum / all
    }

    /// Sets the interval, and says whether the slice is one to beware of, beside the accuracy of all rows.
    pub fn finish(&mut self, interval: Interval, accuracy: f64) {
        let (s, by) = (&mut self.slice, self.by);
        s.interval = interval;
        let (own, better) = match by {
            By::Accuracy => (format!("accuracy {} on {} rows", by.say(s.accuracy), s.n), s.baselines.iter().find(|b| *b.1 > interval[1])),
            By::LogLoss => (format!("log-loss {} on {} rows", by.say(s.log_loss), s.n), s.baselines.iter().find(|b| *b.1 < interval[0])),
        };
        s.fails = if by == By::Accuracy && interval[1] < accuracy {
            Some(format!("{own}, overall {}", by.say(accuracy)))
        } else {
            better.map(|(name, theirs)| format!("{own}, {name} {}", by.say(*theirs)))
        };
    }
}

/// Rows that have something in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub by: &'static str,
    pub value: String,
    /// Numbers of the rows.
    pub members: Vec<usize>,
}

/// Cuts rows of these customers in every way; a way that leaves them in one piece is left out, and so are parts of few rows.
pub fn parts(rows: &[Who], names: &Names, lengths: &Lengths) -> Vec<Part> {
    let named = |names: &BTreeMap<u32, String>, hash: u32| match hash {
        0 => "not given".to_owned(),
        hash => names.get(&hash).cloned().unwrap_or_else(|| format!("{hash:08x}")),
    };
    let segment = |number: u32| match number.checked_sub(1) {
        None => "none".to_owned(),
        Some(id) => names.segments.get(&id).cloned().unwrap_or_else(|| id.to_string()),
    };
    let length = |who: &Who| lengths.iter().position(|(_, most)| who.place < *most).unwrap_or(lengths.len() - 1);
    type Key<'a> = Box<dyn Fn(&Who) -> (usize, String) + 'a>;
    let cuts: [(&'static str, Key<'_>); 4] = [
        ("language", Box::new(|w| (0, named(&names.languages, w.language)))),
        ("kind", Box::new(|w| (0, named(&names.kinds, w.kind)))),
        ("segment", Box::new(|w| (w.segment as usize, segment(w.segment)))),
        ("length", Box::new(|w| (length(w), lengths[length(w)].0.to_owned()))),
    ];
    let mut all = Vec::new();
    for (by, key) in cuts {
        let mut parts: BTreeMap<(usize, String), Vec<usize>> = BTreeMap::new();
        for (i, who) in rows.iter().enumerate() {
            parts.entry(key(who)).or_default().push(i);
        }
        if parts.len() < 2 {
            continue;
        }
        let mut parts: Vec<_> = parts.into_iter().filter(|(_, members)| members.len() >= FEWEST).collect();
        parts.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
        parts.truncate(MOST);
        parts.sort_by(|a, b| a.0.cmp(&b.0));
        all.extend(parts.into_iter().map(|((_, value), members)| Part { by, value, members }));
    }
    all
}

/// Figures of every part of the rows. `event`: the class whose area is asked for.
pub fn slices(
    rows: &[Judged],
    baselines: &[(&'static str, Vec<Row>)],
    names: &Names,
    lengths: &Lengths,
    event: Option<usize>,
    figure: By,
) -> Vec<Open> {
    let who: Vec<Who> = rows.iter().map(|j| j.who).collect();
    parts(&who, names, lengths).into_iter().map(|part| open(part, rows, baselines, event, figure)).collect()
}

fn open(part: Part, rows: &[Judged], baselines: &[(&'static str, Vec<Row>)], event: Option<usize>, figure: By) -> Open {
    let Part { by, value, members } = part;
    let q = judge(members.iter().map(|&i| &rows[i].row));
    let bias = members.iter().map(|&i| f64::from(rows[i].row.event.0) - f64::from(u8::from(rows[i].row.event.1))).sum::<f64>();
    let mean = |rows: &[Row]| members.iter().map(|&i| figure.of(&rows[i])).sum::<f64>() / members.len() as f64;
    let events: Vec<(f64, bool)> = members.iter().map(|&i| (f64::from(rows[i].row.event.0), rows[i].row.event.1)).collect();
    let scores = |event: usize| members.iter().map(|&i| (f64::from(rows[i].row.p[event]), rows[i].row.label == event)).collect::<Vec<_>>();
    let slice = Slice {
        by,
        value,
        n: members.len(),
        accuracy: q.accuracy,
        interval: [f64::NAN; 2],
        macro_f1: q.macro_f1,
        log_loss: q.log_loss,
        ece: expected_calibration_error(&events, 10),
        auroc: event.and_then(|event| auroc(&scores(event))),
        bias: bias / members.len() as f64,
        // A baseline that does not speak of every row has no figure.
        baselines: baselines.iter().filter(|(_, theirs)| theirs.len() == rows.len()).map(|(name, rows)| (*name, mean(rows))).collect(),
        fails: None,
    };
    Open { slice, by: figure, rows: members.iter().map(|&i| (i as u32, figure.of(&rows[i].row))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two languages in two segments: the model is right but in segment 1, the baseline is always right in Chinese alone.
    fn rows() -> (Vec<Judged>, Vec<Row>) {
        let row = |i: usize| {
            let (language, segment, right) = (1 + u32::from(i.is_multiple_of(4)), (i / 4) as u32 % 2, (i / 4).is_multiple_of(2));
            let p = if right { [0.8, 0.2] } else { [0.2, 0.8] };
            let who = Who { customer: i as u32, language, kind: 7, segment: segment + 1, place: i as u32 % 8 };
            let theirs = if language == 2 { [0.9, 0.1] } else { [0.1, 0.9] };
            (Judged { row: Row::new(&p, 0, Some(0)), rating: None, who }, Row::new(&theirs, 0, Some(0)))
        };
        (0..400).map(row).unzip()
    }

    fn names() -> Names {
        Names {
            languages: BTreeMap::from([(1, "en".into()), (2, "zh".into())]),
            segments: BTreeMap::from([(0, "new".into()), (1, "lapsed".into())]),
            ..Names::default()
        }
    }

    #[test]
    fn every_way_of_cutting_has_its_parts_and_their_figures() {
        let (rows, theirs) = rows();
        let cut = slices(&rows, &[("tfidf", theirs)], &names(), &PLACES, Some(0), By::Accuracy);
        let found: Vec<(&str, &str, usize)> = cut.iter().map(|o| (o.slice.by, o.slice.value.as_str(), o.slice.n)).collect();
        let expected = [
            ("language", "en", 300),
            ("language", "zh", 100),
            // All are of one kind, which is no cut.
            ("segment", "new", 200),
            ("segment", "lapsed", 200),
            ("length", "1st interaction", 50),
            ("length", "2nd to 4th", 150),
            ("length", "5th to 9th", 200),
        ];
        assert_eq!(found, expected);
        let (new, lapsed) = (&cut[2].slice, &cut[3].slice);
        assert_eq!((new.accuracy, lapsed.accuracy), (1.0, 0.0));
        // 0.8 was said where all are of the event.
        assert!((new.bias + 0.2).abs() < 1e-6 && (new.log_loss + 0.8f64.ln()).abs() < 1e-6, "{new:?}");
        assert_eq!((cut[0].slice.baselines["tfidf"], cut[1].slice.baselines["tfidf"]), (0.0, 1.0));
        assert!((new.ece - 0.2).abs() < 1e-6 && (lapsed.ece - 0.8).abs() < 1e-6, "{lapsed:?}");
        assert_eq!(new.auroc, None, "all are of the event");
    }

    #[test]
    fn a_slice_fails_where_its_interval_lies_below_all_or_a_baseline_above() {
        let (rows, theirs) = rows();
        let mut cut = slices(&rows, &[("tfidf", theirs.clone())], &names(), &PLACES, None, By::Accuracy);
        let fails = |open: &mut Open, interval| {
            open.finish(interval, 0.5);
            open.slice.fails.clone()
        };
        assert_eq!(fails(&mut cut[3], [0.0, 0.1]).as_deref(), Some("accuracy 0.0 % on 200 rows, overall 50.0 %"));
        assert_eq!(fails(&mut cut[1], [0.4, 0.6]).as_deref(), Some("accuracy 50.0 % on 100 rows, tfidf 100.0 %"));
        assert_eq!(fails(&mut cut[2], [0.9, 1.0]), None);
        // By log-loss only a baseline makes a part fail: where all are of the event, whoever says so more surely has less of it.
        let mut cut = slices(&rows, &[("tfidf", theirs)], &names(), &PLACES, Some(0), By::LogLoss);
        assert!((cut[1].slice.baselines["tfidf"] + 0.9f64.ln()).abs() < 1e-6);
        assert_eq!(fails(&mut cut[1], [0.5, 0.6]).as_deref(), Some("log-loss 0.916 on 100 rows, tfidf 0.105"));
        assert_eq!((fails(&mut cut[0], [0.5, 0.6]), fails(&mut cut[3], [1.5, 1.7])), (None, None));
        let cut = slices(&rows, &[], &names(), &PLACES, None, By::Accuracy);
        // Who counts twice counts twice.
        let customers: Vec<u32> = (0..400).collect();
        let weights: Vec<u32> = (0..400).map(|i| if (i / 4) % 2 == 0 { 3 } else { 1 }).collect();
        assert_eq!(cut[0].under(&weights, &customers), 0.75);
    }

    #[test]
    fn parts_of_few_rows_and_rows_of_nobody_are_named_or_left_out() {
        let who = |i: u32| Who { customer: i, language: if i < 29 { 9 } else { 0 }, kind: 0, segment: 0, place: i / 50 };
        let cut = parts(&(0..200).map(who).collect::<Vec<_>>(), &names(), &SO_FAR);
        let found: Vec<(&str, &str, usize)> = cut.iter().map(|p| (p.by, p.value.as_str(), p.members.len())).collect();
        assert_eq!(found, [("language", "not given", 171), ("length", "1 interaction so far", 50), ("length", "2 to 4", 150)]);
        assert_eq!(cut[1].members, (0..50).collect::<Vec<_>>());
        assert!(parts(&[], &names(), &PLACES).is_empty());
    }
}
