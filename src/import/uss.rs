//! User Satisfaction Simulation (Sun et al., SIGIR 2021): service dialogues whose customer turns were rated 1–5 by several people.
//!
//! Lines are `role<TAB>text<TAB>action<TAB>ratings`, a blank line ends a dialogue. The last line of a dialogue, `USER OVERALL`, rates the
//! dialogue as a whole; it is no turn and becomes nothing. One dialogue is one customer and one conversation.

use std::path::Path;

use super::read::{Lines, open, some_rows, stem};
use super::{Place, Row, Sink, invented_time};

const SHAPE: &str = "role<TAB>text<TAB>action<TAB>ratings with role USER or SYSTEM";

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Ratings become labels from this customer turn of a dialogue on (first = 1). The published protocol is 4.
    pub from_turn: usize,
    /// One label per rater instead of their mean.
    pub each_rater: bool,
    /// Customer turns' first dialogue act becomes a label of task `action`.
    pub actions: bool,
}

/// Reads one file, for example `MWOZ.train.txt.gz`.
///
/// # Errors
/// A file that cannot be read or holds no dialogue of this form; output that cannot be written.
pub fn import(path: &Path, options: Options, sink: &mut Sink) -> anyhow::Result<()> {
    let stem = stem(path);
    let set = stem.split('-').next().unwrap_or(&stem);
    let mut lines = Lines::new(open(path)?);
    let before = sink.written();
    let (mut dialogue, mut turn, mut customer_turn) = (1, 0, 0);
    while let Some((line, text)) = lines.next()? {
        let place = Place { file: path, line };
        let parsed = match text {
            Ok(text) if text.trim().is_empty() => {
                if turn > 0 {
                    (dialogue, turn, customer_turn) = (dialogue + 1, 0, 0);
                }
                continue;
            }
            Ok(text) => parse(text),
            Err(e) => Err(e.to_string()),
        };
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(why) => {
                sink.bad(place, why);
                continue;
            }
        };
        if parsed.from_customer && parsed.text == "OVERALL" {
            continue;
        }
        turn += 1;
        let customer = format!("{stem}-{dialogue:05}");
        let id = format!("{customer}-{turn:02}");
        let row = Row {
            actor: if parsed.from_customer { "customer" } else { "agent" },
            conversation_id: Some(&customer),
            // Each set has its own service, as a company's channels have, and its own raters.
            channel: Some(set),
            language: Some("en"),
            text: Some(parsed.text).filter(|t| !t.is_empty()),
            ..Row::new(&id, &customer, invented_time(dialogue, turn), "message")
        };
        let written = sink.interaction(&row, place)?;
        if !parsed.from_customer {
            continue;
        }
        customer_turn += 1;
        if !written {
            continue;
        }
        if customer_turn >= options.from_turn && !parsed.ratings.is_empty() {
            if options.each_rater {
                for rating in &parsed.ratings {
                    sink.rating(&id, *rating, place)?;
                }
            } else {
                sink.rating(&id, parsed.ratings.iter().sum::<f64>() / parsed.ratings.len() as f64, place)?;
            }
        }
        if options.actions && !parsed.action.is_empty() {
            sink.class(&id, "action", parsed.action, place)?;
        }
    }
    some_rows(path, sink.written() - before, "User Satisfaction Simulation", SHAPE)
}

struct Turn<'a> {
    from_customer: bool,
    text: &'a str,
    action: &'a str,
    ratings: Vec<f64>,
}

fn parse(line: &str) -> Result<Turn<'_>, String> {
    let mut fields = line.split('\t');
    let (Some(role), Some(text), Some(action), Some(ratings), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(format!("the line is not {SHAPE}"));
    };
    let from_customer = match role.trim() {
        "USER" => true,
        "SYSTEM" => false,
        other => return Err(format!("role {other:?} is neither USER nor SYSTEM")),
    };
    let ratings = ratings
        .split(',')
        .map(str::trim)
        .filter(|r| !r.is_empty())
        .map(|r| r.parse::<f64>().ok().filter(|r| (1.0..=5.0).contains(r)).ok_or_else(|| format!("rating {r:?} is not a number 1 to 5")))
        .collect::<Result<_, _>>()?;
    Ok(Turn { from_customer, text: text.trim(), action: action.split(',').next().unwrap_or_default().trim(), ratings })
}
