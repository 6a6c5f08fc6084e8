//! Score drift in the report: how outputs were distributed where the network was fitted, and how where it was judged.
//!
//! Knows histograms that others counted; no scores.

use std::collections::BTreeMap;

use serde::Serialize;

use super::escape;
use super::page::percent;
use super::plot::{Axes, bars, keys};
use crate::model::Watch;
use crate::model::drift::{Column, Histogram};

/// One output's distribution in the fitted and in the judged part.
#[derive(Debug, Serialize)]
pub struct Shift {
    pub name: String,
    pub psi: f64,
    /// Bins in words.
    pub bins: Vec<String>,
    /// Shares of the bins.
    pub fitted: Vec<f64>,
    pub judged: Vec<f64>,
}

/// The outputs' shifts that a watch of the judged part shows.
pub fn shifts(watch: &Watch) -> Vec<Shift> {
    let shares = |counts: &[u64]| {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        counts.iter().map(|n| *n as f64 / total).collect::<Vec<f64>>()
    };
    let shift = |(column, judged): (&Column, &[u64])| {
        let bins = match &column.histogram {
            Histogram::Numbers { edges, .. } => (0..=edges.len()).map(|i| bin(edges, i)).collect(),
            Histogram::Labels { labels, .. } => labels.iter().cloned().chain(["other".to_owned()]).collect(),
        };
        let fitted = shares(column.histogram.counts());
        Shift { name: column.name.clone(), psi: column.histogram.psi(judged), bins, fitted, judged: shares(judged) }
    };
    watch.outputs().map(shift).collect()
}

fn bin(edges: &[f32], i: usize) -> String {
    match (i.checked_sub(1).and_then(|i| edges.get(i)), edges.get(i)) {
        (None, None) => "all".into(),
        (None, Some(to)) => format!("≤ {}", edge(*to)),
        (Some(from), None) => format!("> {}", edge(*from)),
        (Some(from), Some(to)) => format!("{}–{}", edge(*from), edge(*to)),
    }
}

/// About three digits: an axis has room for no more.
fn edge(x: f32) -> String {
    match x.abs() {
        a if a < 9.995 => format!("{x:.2}"),
        a if a < 99.95 => format!("{x:.1}"),
        a if a < 999.5 => format!("{x:.0}"),
        a if a < 9_950.0 => format!("{:.1}k", x / 1e3),
        a if a < 999_950.0 => format!("{:.0}k", x / 1e3),
        _ => format!("{x:.0e}"),
    }
}

/// The section of the page; empty where nothing was compared.
pub fn section(outputs: &[Shift], inputs: &BTreeMap<String, f64>) -> anyhow::Result<String> {
    if outputs.is_empty() && inputs.is_empty() {
        return Ok(String::new());
    }
    let mut html = String::from(
        "<section>\n<h2>Score drift</h2>\n<p>Scores of all interactions, where the network was fitted and where it was judged. The population stability index \
         (PSI) is the distance between the two; below 0.1 is commonly read as no change, above 0.25 as a large one.</p>\n<div class=\"figures\">\n",
    );
    for shift in outputs {
        html += &histogram(shift)?;
    }
    html += "</div>\n";
    let mut far: Vec<(&String, &f64)> = inputs.iter().filter(|(_, psi)| **psi > 0.1).collect();
    far.sort_by(|a, b| b.1.total_cmp(a.1).then(a.0.cmp(b.0)));
    html += &if far.is_empty() {
        format!("<p>None of the {} inputs has an index above 0.1.</p>\n", inputs.len())
    } else {
        let named: Vec<String> = far.iter().take(12).map(|(name, psi)| format!("{} {psi:.2}", escape(name))).collect();
        format!("<p>Inputs with an index above 0.1: {}.</p>\n", named.join(", "))
    };
    html += "</section>\n";
    Ok(html)
}

/// Most labels of which shares are shown.
const MOST_LABELS: usize = 9;

fn histogram(shift: &Shift) -> anyhow::Result<String> {
    let title = format!("{}, PSI {:.3}", shift.name, shift.psi);
    if !shift.bins.first().is_some_and(|b| b.starts_with('≤')) {
        return Ok(shares(&title, shift));
    }
    let groups: Vec<Vec<f64>> = shift.fitted.iter().zip(&shift.judged).map(|(a, b)| vec![*a, *b]).collect();
    let most = groups.iter().flatten().copied().fold(0.0, f64::max);
    // Bins are named by their upper edge.
    let last = shift.bins.len() - 1;
    let label = |(i, bin): (usize, &String)| {
        let edge = bin.rsplit(['–', ' ']).next().unwrap_or_default();
        if i == last { "more".to_owned() } else { edge.to_owned() }
    };
    let labels: Vec<String> = shift.bins.iter().enumerate().map(label).collect();
    let axes = Axes { title: &title, x: "up to", y: "share", xs: 0.0..1.0, ys: 0.0..most * 1.1, whole: false };
    bars(&axes, &PARTS, &labels, &groups)
}

/// What the two series of a histogram are of.
const PARTS: [&str; 2] = ["fitted part", "judged part"];

/// Shares of labels, which are too long for an axis: the most frequent where the network was fitted, and all others together.
fn shares(title: &str, shift: &Shift) -> String {
    let mut rows: Vec<(String, [f64; 2])> =
        shift.bins.iter().zip(&shift.fitted).zip(&shift.judged).map(|((bin, a), b)| (bin.clone(), [*a, *b])).collect();
    if rows.len() > MOST_LABELS + 1 {
        let rest = rows.split_off(MOST_LABELS);
        let sum = |i: usize| rest.iter().map(|(_, shares)| shares[i]).sum();
        rows.push((format!("{} others", rest.len()), [sum(0), sum(1)]));
    }
    rows.retain(|(_, shares)| shares.iter().any(|s| *s > 0.0));
    let most = rows.iter().flat_map(|(_, shares)| *shares).fold(1e-9, f64::max);
    let mut html = format!("<figure><figcaption>{}</figcaption><table class=\"shares\">\n", escape(title));
    for (label, shares) in &rows {
        let bar = |i: usize| format!("<i class=\"s{i}\" style=\"width:{:.1}%\"></i>", 100.0 * shares[i] / most);
        html += &format!(
            "<tr><th title=\"{0}\">{0}</th><td>{1}{2}</td><td>{3} %<br>{4} %</td></tr>\n",
            escape(label),
            bar(0),
            bar(1),
            percent(shares[0]),
            percent(shares[1])
        );
    }
    html + &format!("</table>{}</figure>\n", keys(&PARTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_beyond_the_most_frequent_are_summed() {
        let n = 14;
        let shift = Shift {
            name: "intent".into(),
            psi: 0.1234,
            bins: (0..n).map(|i| format!("label {i}")).chain(["other".into()]).collect(),
            fitted: (0..n).map(|_| 1.0 / 14.0).chain([0.0]).collect(),
            judged: (0..n).map(|i| f64::from(u8::from(i == 0))).chain([0.0]).collect(),
        };
        let html = histogram(&shift).expect("a figure");
        assert_eq!(html.matches("<tr>").count(), MOST_LABELS + 1, "{html}");
        // Of 14 labels nine are named; five and "other" are not.
        for part in ["intent, PSI 0.123", ">label 8<", ">6 others<", "7.1 %<br>100.0 %", "35.7 %<br>0.0 %"] {
            assert!(html.contains(part), "{part} is not in\n{html}");
        }
    }

    #[test]
    fn edges_are_short_whatever_their_size() {
        assert_eq!([0.0, -0.123, 9.996, 99.96, 1234.5, 12_345.0, 1e9].map(edge), ["0.00", "-0.12", "10.0", "100", "1.2k", "12k", "1e9"]);
    }
}
