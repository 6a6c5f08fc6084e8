//! What the demo says: a line per alert, the table at the end, and one alert in words for a person who answers customers.

use std::collections::BTreeSet;
use std::io::Write;

use serde::Deserialize;

use super::Bundled;
use super::replay::Seen;

/// Characters of a text in a compact line.
const SHORT: usize = 60;
/// What the customer said last, shown with an alert.
const CONTEXT: usize = 5;

/// An alert as it was published, and what the report needs of it.
#[derive(Debug, Deserialize)]
pub struct AlertLine {
    pub customer_id: Box<str>,
    pub interaction_id: Box<str>,
    pub kind: String,
    pub severity: String,
    pub state: String,
    pub at: String,
    pub value: f64,
    pub baseline: f64,
    pub reasons: Vec<Reason>,
    pub suggestion: Option<String>,
    /// The published bytes.
    #[serde(skip)]
    pub raw: String,
}

#[derive(Debug, Deserialize)]
pub struct Reason {
    interaction_id: Box<str>,
    weight: f64,
    words: Vec<Word>,
}

#[derive(Debug, Deserialize)]
struct Word {
    word: String,
    weight: f64,
}

impl AlertLine {
    /// `None` where the bytes are no alert.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let raw = std::str::from_utf8(bytes).ok()?;
        let alert: Self = serde_json::from_str(raw).ok()?;
        Some(Self { raw: raw.to_owned(), ..alert })
    }

    /// How much a reader learns from it: how far below the usual level, how much of that its texts explain, and by how many words: one alone says little.
    fn telling(&self) -> f64 {
        let words: BTreeSet<&str> =
            self.reasons.iter().flat_map(|r| &r.words).filter(|w| w.weight > 0.01).map(|w| w.word.as_str()).collect();
        words.len() as f64 * ((self.baseline - self.value) + self.reasons.iter().map(|r| r.weight).sum::<f64>())
    }
}

/// One line of an alert.
pub fn compact(alert: &AlertLine, text: Option<&str>) -> String {
    let text = text.map(|t| format!("  \"{}\"", shortened(t))).unwrap_or_default();
    format!(
        "{}  {:<9} {:<8} {:<17} {}  {:.1} (usually {:.1}){text}",
        day_and_minute(&alert.at),
        alert.state,
        alert.severity,
        alert.kind,
        alert.customer_id,
        alert.value,
        alert.baseline
    )
}

/// The table, then the most telling alert in full.
pub fn print(interactions: &[Bundled], seen: &Seen, model: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let alerts = |state: &str| count(seen.alerts.iter().filter(|a| a.state == state).count());
    let mut latencies = seen.latencies.clone();
    latencies.sort_by(f64::total_cmp);
    let rate = seen.scores as f64 / seen.elapsed.as_secs_f64().max(1e-9);
    let rows = [
        ("interactions", count(interactions.len())),
        ("scores", count(seen.scores)),
        ("alerts raised", alerts("raised")),
        ("alerts escalated", alerts("escalated")),
        ("alerts resolved", alerts("resolved")),
        ("dead letters", count(usize::try_from(seen.dead_letters).unwrap_or(0))),
        ("events/s", count(rate as usize)),
        ("event to commit, p50", milliseconds(quantile(&latencies, 0.50))),
        ("event to commit, p99", milliseconds(quantile(&latencies, 0.99))),
    ];
    writeln!(out, "\nmodel {model}")?;
    for (name, value) in rows {
        writeln!(out, "{name:<22}{value:>12}")?;
    }
    let telling = seen.alerts.iter().filter(|a| a.state != "resolved").max_by(|a, b| a.telling().total_cmp(&b.telling()));
    match telling {
        Some(alert) => full(&mut out, alert, interactions)?,
        None => writeln!(out, "\nNo alert was raised.")?,
    }
    out.flush()?;
    Ok(())
}

/// An alert in the words of the person who has to act on it, and as it was published.
fn full(out: &mut impl Write, alert: &AlertLine, interactions: &[Bundled]) -> std::io::Result<()> {
    writeln!(out, "\nOne alert in full")?;
    writeln!(out, "{}, {} ({})", alert.customer_id, day_and_minute(&alert.at), alert.severity)?;
    let what = match alert.kind.as_str() {
        "satisfaction_drop" => format!(
            "This customer is becoming unhappy: a rating of {:.1} of 5 is expected now, {:.1} was usual before.",
            alert.value, alert.baseline
        ),
        "rating_low" => format!("This customer rated {:.0} of 5; {:.1} was expected before.", alert.value, alert.baseline),
        _ => format!(
            "This customer seems unhappy: a rating of {:.1} of 5 is expected now ({:.1} was usual before).",
            alert.value, alert.baseline
        ),
    };
    writeln!(out, "{what}")?;
    let of_customer: Vec<&Bundled> = interactions.iter().filter(|i| i.customer_id == alert.customer_id).collect();
    writeln!(out, "\nWhy:")?;
    for reason in &alert.reasons {
        let said = of_customer.iter().find(|i| i.id == reason.interaction_id);
        let quoted = match said.and_then(|i| i.text.as_deref()) {
            Some(text) => format!("\"{text}\""),
            None => format!("interaction {}", reason.interaction_id),
        };
        writeln!(out, "  {quoted}")?;
        if reason.weight > 0.0 {
            writeln!(out, "    without this the expected rating would be {:.2} higher", reason.weight)?;
        }
        let words: Vec<String> = reason.words.iter().filter(|w| w.weight > 0.0).map(|w| format!("\"{}\"", w.word)).collect();
        if !words.is_empty() {
            writeln!(out, "    mostly for the word{} {}", if words.len() > 1 { "s" } else { "" }, words.join(", "))?;
        }
    }
    let here = of_customer.iter().position(|i| i.id == alert.interaction_id).map_or(of_customer.len(), |at| at + 1);
    writeln!(out, "\nWhat the customer did up to then:")?;
    for interaction in &of_customer[here.saturating_sub(CONTEXT)..here] {
        let text = interaction.text.as_deref().unwrap_or("(no text)");
        writeln!(out, "  {}  {text}", day_and_minute(&interaction.at.to_string()))?;
    }
    if let Some(need) = &alert.suggestion {
        writeln!(out, "\nMost likely need: {need}")?;
    }
    writeln!(out, "\nAs published:\n{}", alert.raw)
}

/// The value below which the share `q` of the sorted values lies (nearest rank); 0 of none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1000.0)
}

/// A number with thousands set apart.
fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `2010-09-14T10:22:30Z` as `2010-09-14 10:22`.
fn day_and_minute(rfc3339: &str) -> String {
    rfc3339.get(..16).unwrap_or(rfc3339).replace('T', " ")
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99), quantile(&values, 1.0)), (50.0, 99.0, 100.0));
        assert_eq!((quantile(&[7.0], 0.5), quantile(&[], 0.5)), (7.0, 0.0));
    }

    #[test]
    fn numbers_and_texts_are_readable() {
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(shortened(&"é".repeat(61)).chars().count(), 61);
        assert_eq!(day_and_minute("2010-09-14T10:22:30Z"), "2010-09-14 10:22");
    }
}
