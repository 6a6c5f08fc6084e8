//! Segments in the report: how large they are, what their customers have done, and how their behaviour differs from that of all.
//!
//! Knows means that others computed; no customers, no clustering.

use std::collections::BTreeMap;

use serde::Serialize;

use super::escape;
use super::page::percent;
use crate::features::BEHAVIOUR;

/// Groups of customers who behave alike, beside all customers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profiles {
    /// Means of what all customers have done, by name, in days, counts and money.
    pub means: BTreeMap<String, f32>,
    /// Names of the behaviour features that are not the same everywhere, in their order.
    pub features: Vec<&'static str>,
    pub segments: Vec<Profile>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    pub id: usize,
    pub label: String,
    /// Share of the customers, 0–1.
    pub share: f32,
    /// As [`Profiles::means`], of its own customers.
    pub means: BTreeMap<String, f32>,
    /// Mean of each of [`Profiles::features`], in standard deviations from the mean of all.
    pub deviations: Vec<f32>,
}

/// The behaviour features in plain words, in the order of [`BEHAVIOUR`].
const WORDS: [&str; BEHAVIOUR.len()] = [
    "days since last seen",
    "days since first seen",
    "visits",
    "days from first to last visit",
    "usual pause between visits",
    "how much pauses vary",
    "last pause",
    "silence, of the time known",
    "visits a year",
    "came twice or more",
    "came three times or more",
    "silence, of the usual pause",
    "purchases",
    "days since last purchase",
    "amount of all purchases",
    "amount of a purchase",
    "amount of the last purchase",
    "amount of the first purchase",
    "quantity bought",
    "returns",
    "visits of the last 30 days",
    "visits of the last 90 days",
    "visits of the last year",
    "amount of the last 30 days",
    "amount of the last 90 days",
    "amount of the last year",
    "interactions by the customer",
    "interactions, by whomever",
    "share of them by the customer",
    "has rated",
    "last rating",
    "mean rating",
];

/// Means that the page shows, with their headings.
const MEANS: [(&str, &str); 9] = [
    ("recency_days", "days since last seen"),
    ("tenure_days", "days since first seen"),
    ("visits", "visits"),
    ("purchases", "purchases"),
    ("amount", "amount"),
    ("amount_per_purchase", "amount of a purchase"),
    ("returns", "returns"),
    ("conversations", "times it spoke"),
    ("rating", "rating"),
];

/// Deviations at which a cell's colour is fullest.
const FULL: f32 = 2.0;

/// The section of the page.
pub fn section(p: &Profiles) -> String {
    let mut html = format!(
        "<section>\n<h2>Segments</h2>\n<p>{} groups of customers who behave alike, found on the fitted part: customers as of random times, so that \
         those who are silent are there too. Every score names the group that a customer belongs to at that time.</p>\n",
        p.segments.len()
    );
    html += &who(p);
    html += "</section>\n";
    html + &heat(p)
}

fn who(p: &Profiles) -> String {
    let columns: Vec<_> = MEANS.into_iter().filter(|(name, _)| p.means.contains_key(*name)).collect();
    let headings: String = columns.iter().map(|(_, heading)| format!("<th class=\"narrow\">{heading}</th>")).collect();
    let cells = |means: &BTreeMap<String, f32>| -> String {
        columns.iter().map(|(name, _)| format!("<td>{}</td>", means.get(*name).map_or("–".into(), |x| number(*x)))).collect()
    };
    let mut html = format!(
        "<h3>Who they are, on average</h3>\n<div class=\"scroll\"><table>\n<thead><tr><th>segment</th><th class=\"left\"></th><th class=\"narrow\">of the \
         customers</th>{headings}</tr></thead>\n<tbody>\n"
    );
    for s in &p.segments {
        let share = percent(f64::from(s.share));
        html += &format!("<tr><td>{}</td><td class=\"left\">{}</td><td>{share} %</td>{}</tr>\n", s.id, escape(&s.label), cells(&s.means));
    }
    html += &format!("<tr class=\"baseline\"><td>all</td><td></td><td></td>{}</tr>\n</tbody></table></div>\n", cells(&p.means));
    html
}

/// A figure with as many decimals as are of use.
fn number(x: f32) -> String {
    if x.abs() < 9.95 { format!("{x:.1}") } else { format!("{x:.0}") }
}

fn heat(p: &Profiles) -> String {
    let headings: String = p.segments.iter().map(|s| format!("<th><b>{}</b><br>{}</th>", s.id, escape(&s.label))).collect();
    let mut html = format!(
        "<section class=\"follows\">\n<h3>How their behaviour differs</h3>\n<p>Mean of each behaviour feature in the group, in standard deviations from the mean of \
         all customers: <span class=\"swatch below\">below</span> <span class=\"swatch above\">above</span>, fullest from {FULL:.0} on.</p>\n\
         <div class=\"scroll\"><table class=\"heat\">\n<thead><tr><th></th>{headings}</tr></thead>\n<tbody>\n"
    );
    for (i, name) in p.features.iter().enumerate() {
        let words = BEHAVIOUR.iter().position(|b| b == name).map_or(*name, |place| WORDS[place]);
        html += &format!("<tr><th title=\"{name}\">{words}</th>");
        for s in &p.segments {
            let z = s.deviations.get(i).copied().unwrap_or(0.0);
            let color = if z < 0.0 { "--s0" } else { "--s1" };
            let full = 70.0 * (z.abs() / FULL).min(1.0);
            html += &format!("<td style=\"background:color-mix(in srgb,var({color}) {full:.0}%,transparent)\">{}</td>", signed(z));
        }
        html += "</tr>\n";
    }
    html += "</tbody></table></div>\n";
    let same: Vec<&str> = BEHAVIOUR.iter().zip(WORDS).filter(|(name, _)| !p.features.contains(name)).map(|(_, words)| words).collect();
    if !same.is_empty() {
        html += &format!("<p class=\"soft\">The same for all: {}.</p>\n", same.join("; "));
    }
    html + "</section>\n"
}

/// One decimal and a sign, but for what rounds to 0.
fn signed(z: f32) -> String {
    if z.abs() < 0.05 { "0".to_owned() } else { format!("{z:+.1}").replace('-', "−") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_shows_shares_labels_and_deviations() {
        let profile = |id, label: &str, share, visits, deviations| Profile {
            id,
            label: label.into(),
            share,
            means: BTreeMap::from([("visits".to_owned(), visits)]),
            deviations,
        };
        let html = section(&Profiles {
            means: BTreeMap::from([("visits".to_owned(), 6.0)]),
            features: vec!["log_visits", "mean_rating"],
            segments: vec![
                profile(0, "rare, <low> value", 0.625, 2.25, vec![-0.96, 0.02]),
                profile(1, "frequent", 0.375, 12.4, vec![1.6, -3.0]),
            ],
        });
        for part in [
            "<td>0</td><td class=\"left\">rare, &lt;low&gt; value</td><td>62.5 %</td><td>2.2</td>",
            "<td>1</td><td class=\"left\">frequent</td><td>37.5 %</td><td>12</td>",
            "<td>all</td><td></td><td></td><td>6.0</td>",
            "var(--s0) 34%,transparent)\">−1.0</td><td style=\"background:color-mix(in srgb,var(--s1) 56%,transparent)\">+1.6</td>",
            "<th title=\"mean_rating\">mean rating</th>",
            ">0</td><td style=\"background:color-mix(in srgb,var(--s0) 70%,transparent)\">−3.0</td>",
            "The same for all: days since last seen; ",
        ] {
            assert!(html.contains(part), "{part} is not in\n{html}");
        }
        // A mean that nobody has gets no column.
        assert!(!html.contains("times it spoke"));
    }
}
