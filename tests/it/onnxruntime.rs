//! tract and ONNX Runtime agree on the champion's graphs, on 1,000 real inputs. `tests/check_onnx.py` runs ONNX Runtime and compares.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use rapport::customer::words::Splitter;
use rapport::customer::{Counters, Item};
use rapport::features::{self, Overlap};
use rapport::interaction::file::Records;
use rapport::interaction::{DecodeOptions, decode};
use rapport::model::{Model, PAD, Runner, Step};
use serde_json::{Map, Value, json};

use crate::process::{Process, cache, root};

const INPUTS: usize = 1000;
const WINDOW: usize = 32;

#[derive(Default)]
struct Customer {
    window: VecDeque<Item>,
    counters: Counters,
    state: Vec<f32>,
}

#[test]
fn the_champion_computes_the_same_in_onnx_runtime() {
    let champion = root().join("onnx/champion");
    let dir = tempfile::tempdir().expect("a folder");
    let inputs = dir.path().join("inputs.jsonl");
    write_inputs(&Model::load(&champion).expect("the champion"), &inputs);

    let python = cache().join("venv/bin/python");
    assert!(python.exists(), "no {}: run `make deps`", python.display());
    let check = |inputs: &std::path::Path| {
        let mut command = Command::new(&python);
        command.arg(root().join("tests/check_onnx.py")).args(["--bundle".as_ref(), champion.as_os_str()]);
        command.args(["--inputs".as_ref(), inputs.as_os_str()]);
        Process::spawn("check-onnx", command, dir.path()).wait(Duration::from_secs(300))
    };
    let checked = check(&inputs);
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    eprintln!("{}", checked.stdout.trim());

    // It would have seen a difference.
    let text = std::fs::read_to_string(&inputs).expect("the inputs");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut line: Value = serde_json::from_str(&lines[INPUTS / 2]).expect("a line");
    let first = line.pointer_mut("/outputs/state_out/0").expect("a first value");
    *first = json!(first.as_f64().expect("a number") + 1e-4);
    lines[INPUTS / 2] = line.to_string();
    let altered = dir.path().join("altered.jsonl");
    std::fs::write(&altered, lines.join("\n")).expect("the altered inputs");
    let checked = check(&altered);
    assert_eq!(checked.code, Some(1), "an output that is off by 1e-4 was not seen: {}{}", checked.stdout, checked.stderr);
}

/// One line for every step: what the graphs read and what tract made of it.
fn write_inputs(model: &std::sync::Arc<Model>, path: &std::path::Path) {
    let mut runner = Runner::new(model.clone()).expect("a runner");
    let mut records = Records::open(&root().join("deploy/demo/interactions.jsonl.gz")).expect("the shipped interactions");
    let mut out = std::io::BufWriter::new(std::fs::File::create(path).expect("a file"));
    let (mut splitter, mut overlap, mut record) = (Splitter::default(), Overlap::default(), Vec::new());
    let mut customers: HashMap<Box<str>, Customer> = HashMap::new();
    for _ in 0..INPUTS {
        records.next(&mut record).expect("a readable file").expect("enough interactions ship");
        let interaction = decode(&record, DecodeOptions::default()).expect("an interaction that ships is valid").interaction;
        let customer = customers.entry(interaction.customer_id.clone()).or_default();
        customer.state.resize(model.manifest.state, 0.0);
        if let Some(text) = &interaction.text {
            splitter.split(text);
        }
        let item = Item::new(&interaction, &splitter);
        let numeric = features::numeric(&customer.window, customer.window.len(), &customer.counters, &item, &mut overlap);
        let mut scaled = vec![0.0; model.manifest.features];
        model.layout.scale(&numeric, &item, &mut scaled);
        let text = model.tokenizer.encode(&item.tokens);
        let mut vector = vec![0.0; model.manifest.vector];
        runner.encode(&text, &mut vector).expect("the text graph runs");
        let mut outputs = Map::new();
        let step = Step { text: &vector, features: &scaled, state: &customer.state };
        runner.step(&[step], |_, name, values| drop(outputs.insert(name.into(), json!(values)))).expect("the sequence graph runs");

        // The service pads both rows by one.
        let padded = |rows: &[u32]| rows.iter().copied().chain([PAD]).collect::<Vec<_>>();
        let line = json!({
            "tokens": padded(&text.tokens), "bag": padded(&text.bag), "scale": text.scale(), "vector": vector,
            "features": scaled, "state": customer.state, "outputs": outputs,
        });
        writeln!(out, "{line}").expect("a line");
        let next = line["outputs"]["state_out"].as_array().expect("the next state");
        customer.state = next.iter().map(|v| v.as_f64().expect("a number") as f32).collect();
        customer.counters.add(&item);
        customer.window.push_back(item);
        if customer.window.len() > WINDOW {
            customer.window.pop_front();
        }
    }
}
