//! The Chinese part of User Satisfaction Simulation (SIGIR 2021): e-commerce service dialogues as one line per rated customer turn.
//!
//! A line is `exchanges<TAB>actions<TAB>label`: Python lists of `customer|||agent` exchanges so far (at most 16, the last without its
//! answer) and of action ids; label 0/1/2 is the raters' mean below, at and above 3. Consecutive lines of a dialogue each bring one exchange
//! more, so the dialogue is put together from them and every turn written once. An answer after the last line of a dialogue is not in the set.

use std::path::Path;

use super::read::{Lines, open, some_rows, stem};
use super::{Place, Row, Sink, invented_time, pylist};

const SHAPE: &str = "exchanges<TAB>actions<TAB>label with label 0, 1 or 2";

/// Reads one file of prefix examples; with `actions`, action ids become labels of task `action`.
///
/// # Errors
/// A file that cannot be read or holds no example of this form; output that cannot be written.
pub fn import(path: &Path, actions: bool, sink: &mut Sink) -> anyhow::Result<()> {
    let stem = stem(path);
    let mut lines = Lines::new(open(path)?);
    let before = sink.written();
    let mut dialogue = Dialogue::default();
    let mut number = 1;
    while let Some((line, text)) = lines.next()? {
        let example = match text.map_err(str::to_string).and_then(parse) {
            Ok(example) => example,
            Err(why) => {
                sink.bad(Place { file: path, line }, why);
                continue;
            }
        };
        if let Some(example) = dialogue.extend(example) {
            dialogue.write(path, &stem, number, actions, sink)?;
            number += usize::from(!dialogue.turns.is_empty());
            dialogue = Dialogue::new(example, line);
        }
    }
    dialogue.write(path, &stem, number, actions, sink)?;
    some_rows(path, sink.written() - before, "JDDC prefix examples", SHAPE)
}

struct Turn {
    customer: String,
    agent: String,
    action: String,
    /// Mean rating: 2, 3 or 4 for below, at and above 3.
    rating: Option<f64>,
}

type Example = Vec<Turn>;

#[derive(Default)]
struct Dialogue {
    turns: Vec<Turn>,
    /// Exchanges of the last example.
    window: usize,
    first_line: u64,
}

impl Dialogue {
    fn new(example: Example, first_line: u64) -> Self {
        Self { window: example.len(), turns: example, first_line }
    }

    /// Adds the last exchange of an example that goes on where this dialogue stands; gives any other example back.
    fn extend(&mut self, mut example: Example) -> Option<Example> {
        let known = example.len() - 1;
        // The window of exchanges grows by one, or slides at its full length.
        let goes_on = known > 0
            && (example.len() == self.window + 1 || example.len() == self.window)
            && self.turns.len() >= known
            && (example.len() == self.window || self.turns.len() == known)
            && {
                let tail = &self.turns[self.turns.len() - known..];
                let same =
                    |(have, new): (&Turn, &Turn)| have.customer == new.customer && (have.agent == new.agent || have.agent.is_empty());
                tail.iter().zip(&example).all(same)
            };
        if !goes_on {
            return Some(example);
        }
        self.window = example.len();
        let newest = example.pop()?;
        // The example also brings the answer to what was the last turn.
        if let (Some(last), Some(answered)) = (self.turns.last_mut(), example.pop()) {
            last.agent = answered.agent;
        }
        self.turns.push(newest);
        None
    }

    fn write(&self, path: &Path, stem: &str, number: usize, actions: bool, sink: &mut Sink) -> anyhow::Result<()> {
        let customer = format!("{stem}-{number:05}");
        let place = Place { file: path, line: self.first_line };
        let mut said = 0;
        for turn in &self.turns {
            for (actor, text) in [("customer", &turn.customer), ("agent", &turn.agent)] {
                if actor == "agent" && text.is_empty() {
                    continue;
                }
                said += 1;
                let id = format!("{customer}-{said:02}");
                let row = Row {
                    actor,
                    conversation_id: Some(&customer),
                    channel: Some("chat"),
                    language: Some("zh"),
                    text: Some(text.as_str()).filter(|t| !t.is_empty()),
                    attributes: &[("set", "jddc")],
                    ..Row::new(&id, &customer, invented_time(number, said), "message")
                };
                if !sink.interaction(&row, place)? || actor == "agent" {
                    continue;
                }
                if let Some(rating) = turn.rating {
                    sink.rating(&id, rating, place)?;
                }
                if actions {
                    sink.class(&id, "action", &turn.action, place)?;
                }
            }
        }
        Ok(())
    }
}

fn parse(line: &str) -> Result<Example, String> {
    let mut fields = line.split('\t');
    let (Some(exchanges), Some(actions), Some(label), None) = (fields.next(), fields.next(), fields.next(), fields.next()) else {
        return Err(format!("the line is not {SHAPE}"));
    };
    let rating = match label.trim() {
        "0" => 2.0,
        "1" => 3.0,
        "2" => 4.0,
        other => return Err(format!("label {other:?} is none of 0, 1, 2")),
    };
    let exchanges = pylist::parse(exchanges).map_err(|e| format!("exchanges: {e}"))?;
    let actions = pylist::parse(actions).map_err(|e| format!("actions: {e}"))?;
    if exchanges.is_empty() || exchanges.len() != actions.len() {
        return Err(format!("{} exchanges with {} actions; there should be one action for each exchange", exchanges.len(), actions.len()));
    }
    let mut turns = Vec::with_capacity(exchanges.len());
    for (exchange, action) in exchanges.into_iter().zip(actions) {
        let (customer, agent) = exchange.split_once("|||").ok_or_else(|| format!("exchange {exchange:?} is not customer|||agent"))?;
        turns.push(Turn { customer: customer.trim().into(), agent: agent.trim().into(), action, rating: None });
    }
    if let Some(last) = turns.last_mut() {
        last.rating = Some(rating);
    }
    Ok(turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(exchanges: &[&str], label: u8) -> Example {
        let list = format!("{:?}", exchanges).replace('"', "'");
        parse(&format!("{list}\t{:?}\t{label}", vec![7; exchanges.len()])).unwrap()
    }

    #[test]
    fn a_dialogue_grows_then_slides() {
        let mut dialogue = Dialogue::new(example(&["a|||", "b|||"], 0), 1);
        assert!(dialogue.extend(example(&["a|||", "b|||B", "c|||"], 1)).is_none());
        assert!(dialogue.extend(example(&["b|||B", "c|||C", "d|||"], 2)).is_none(), "the full window slides");
        let said: Vec<_> = dialogue.turns.iter().map(|t| (t.customer.as_str(), t.agent.as_str(), t.rating)).collect();
        assert_eq!(said, [("a", "", None), ("b", "B", Some(2.0)), ("c", "C", Some(3.0)), ("d", "", Some(4.0))]);
    }

    #[test]
    fn another_dialogue_is_given_back() {
        let mut dialogue = Dialogue::new(example(&["a|||", "b|||"], 0), 1);
        assert!(dialogue.extend(example(&["x|||", "b|||", "c|||"], 0)).is_some());
        assert!(dialogue.extend(example(&["a|||"], 0)).is_some());
        assert!(dialogue.extend(example(&["a|||", "b|||", "c|||", "d|||"], 0)).is_some(), "an exchange is missing between");
        assert_eq!(dialogue.turns.len(), 2);
    }
}
