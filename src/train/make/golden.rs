//! A short invented history through the network, so that a loader can tell whether the graphs compute what they did here.

use std::collections::BTreeMap;

use super::prepared::{CLASSES, Prepared};
use crate::customer::Item;
use crate::customer::words::Splitter;
use crate::interaction::{DecodeOptions, decode};
use crate::model::{Golden, GoldenStep};
use crate::train::fit;
use crate::train::holdout::View;
use crate::train::network::Network;
use crate::train::record::{Customer, Labels};

/// The steps of the invented history, and the outputs of the last one.
pub fn golden(prepared: &Prepared, network: &Network) -> anyhow::Result<Golden> {
    let mut splitter = Splitter::default();
    let mut items = Vec::new();
    for line in HISTORY.lines() {
        let interaction = decode(line.as_bytes(), DecodeOptions::default())?.interaction;
        if let Some(text) = &interaction.text {
            splitter.split(text);
        }
        items.push(Item::new(&interaction, &splitter));
    }
    let labels = vec![Labels::default(); items.len()];
    let customer = Customer { id: "golden".into(), items, labels };
    let data = prepared.dataset(&[View::whole(0, &customer)]);
    let mut outputs = BTreeMap::new();
    let last = customer.items.len() - 1;
    fit::run(network, &data.sequences, |_, step, output, row| {
        if step != last {
            return;
        }
        outputs.insert("state_out".to_owned(), output.carry.state());
        if prepared.satisfaction {
            outputs.insert("satisfaction".to_owned(), output.satisfaction[row * CLASSES..][..CLASSES].to_vec());
        }
        for (task, logits) in prepared.tasks.iter().zip(&output.classes).filter(|(t, _)| !t.auxiliary) {
            let k = task.labels.len();
            outputs.insert(task.name.to_string(), logits[row * k..][..k].to_vec());
        }
    });
    let steps = data.sequences.into_iter().flat_map(|s| s.steps);
    let steps = steps.map(|s| GoldenStep { tokens: s.tokens, bag: s.bag, features: s.features }).collect();
    Ok(Golden { steps, outputs, rows: BTreeMap::new() })
}

/// Invented for this purpose, so that a bundle carries nobody's words.
const HISTORY: &str = r#"{"id":"g1","customer_id":"golden","occurred_at":"2024-03-01T09:00:00Z","kind":"message","text":"Hello, where is my order 4711?"}
{"id":"g2","customer_id":"golden","occurred_at":"2024-03-01T09:01:00Z","kind":"message","actor":"agent","text":"It was sent on Monday. Anything else I can do for you?"}
{"id":"g3","customer_id":"golden","occurred_at":"2024-03-01T09:02:00Z","kind":"message","text":"That is what you said last week, and it's still not here!"}
{"id":"g4","customer_id":"golden","occurred_at":"2024-03-03T10:00:00Z","kind":"purchase","amount":12.5,"quantity":2}
{"id":"g5","customer_id":"golden","occurred_at":"2024-03-04T10:00:00Z","kind":"message","text":"你好,我的快递还没有到"}
{"id":"g6","customer_id":"golden","occurred_at":"2024-03-04T10:00:30Z","kind":"message","actor":"agent","text":"请稍等"}
{"id":"g7","customer_id":"golden","occurred_at":"2024-03-04T10:05:00Z","kind":"message","text":"Thank you, it has arrived."}"#;
