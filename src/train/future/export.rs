//! Writes a trained network as `future.onnx` (opset 17, symbolic batch `B`), and the rows that a loader checks it by.
//!
//! `behaviour` f32 [B, 32], with categories `needs` f32 [B, 2 K], and where the sequence network has learnt something its `state` f32 [B, S] →
//! `survival` [B, 2], `spend` [B, 3], `next_need` [B, K]; see [`crate::model::future`] for what they mean.

use std::collections::BTreeMap;
use std::ops::Range;

use super::network::{CARRIED, FIRST, LAST, NEEDS, Net, OUTPUTS, SECOND};
use crate::features::{BEHAVIOUR, NEED_COLUMNS};
use crate::model::{FutureGolden, FutureHead};
use crate::train::onnx::{Builder, Dim, FLOAT, int};

/// The graph of the heads that `head` has. `columns` of the state are read, where there is one.
pub fn graph(net: &Net, head: &FutureHead, columns: &[Range<usize>]) -> Vec<u8> {
    let mut g = Builder::new("future");
    let batch = Dim::Named("B");
    for (name, width) in head.inputs() {
        g.input(name, FLOAT, &[batch, Dim::Fixed(width)]);
    }
    for (name, width) in head.outputs() {
        g.output(name, &[batch, Dim::Fixed(width)]);
    }
    let layer = |g: &mut Builder, at: usize, input: &str, out: &str| {
        let [weight, bias] = [format!("{out}_weight"), format!("{out}_bias")];
        let p = &net.parameters[at];
        g.floats(&weight, &p.dims, &p.values);
        g.floats(&bias, &[p.dims[1]], &net.parameters[at + 1].values);
        g.layer(input, &weight, &bias, out);
    };
    let silu = |g: &mut Builder, input: &str, out: &str| {
        let gate = format!("{out}_gate");
        g.node("Sigmoid", &[input], &[&gate], vec![]);
        g.node("Mul", &[input, &gate], &[out], vec![]);
    };
    if head.state == 0 {
        layer(&mut g, FIRST, "behaviour", "first");
    } else {
        layer(&mut g, FIRST, "behaviour", "from_behaviour");
        let parts: Vec<String> = (0..columns.len()).map(|i| format!("state_{i}")).collect();
        for (part, columns) in parts.iter().zip(columns) {
            g.columns("state", columns.start, columns.end, part);
        }
        g.node("Concat", &parts.iter().map(String::as_str).collect::<Vec<_>>(), &["carried"], vec![int("axis", 1)]);
        let p = &net.parameters[CARRIED];
        g.floats("carried_weight", &p.dims, &p.values);
        g.node("MatMul", &["carried", "carried_weight"], &["from_carried"], vec![]);
        g.node("Add", &["from_behaviour", "from_carried"], &["first"], vec![]);
    }
    silu(&mut g, "first", "first_active");
    layer(&mut g, SECOND, "first_active", "second");
    silu(&mut g, "second", "hidden");
    if head.churn.is_some() || head.spend.is_some() {
        layer(&mut g, LAST, "hidden", "last");
    }
    if head.churn.is_some() {
        g.columns("last", 0, 2, "survival");
    }
    if head.spend.is_some() {
        g.columns("last", 2, OUTPUTS, "spend");
    }
    if head.next_need.is_some() {
        let (k, p) = (net.categories, |i: usize| net.parameters[NEEDS + i].values.as_slice());
        g.floats("from_latest_weight", &[NEED_COLUMNS * k, k], p(0));
        g.floats("from_hidden_weight", &net.parameters[NEEDS + 1].dims, p(1));
        g.floats("from_hidden_bias", &[k], p(2));
        g.node("MatMul", &["needs", "from_latest_weight"], &["from_latest"], vec![]);
        g.layer("hidden", "from_hidden_weight", "from_hidden_bias", "from_hidden");
        g.node("Add", &["from_latest", "from_hidden"], &["next_need"], vec![]);
    }
    g.finish()
}

/// Invented rows, so that a bundle carries nobody's behaviour, through the network.
pub fn golden(net: &Net, head: &FutureHead, columns: &[Range<usize>]) -> FutureGolden {
    const ROWS: usize = 3;
    let wave = |n: usize, pace: f32, size: f32| (0..n).map(|i| (i as f32 * pace).sin() * size).collect::<Vec<f32>>();
    let behaviour = wave(ROWS * BEHAVIOUR.len(), 0.7, 1.5);
    let needs: Vec<f32> = wave(ROWS * NEED_COLUMNS * net.categories, 1.1, 1.0).into_iter().map(f32::abs).collect();
    let state = wave(ROWS * head.state, 0.3, 1.0);
    let carried: Vec<f32> = state.chunks(head.state.max(1)).flat_map(|row| columns.iter().flat_map(|c| &row[c.clone()])).copied().collect();
    let out = net.run_rows(&behaviour, &needs, &carried);
    let named = |name: &str| match name {
        "survival" => out.survival.clone(),
        "spend" => out.spend.clone(),
        _ => out.needs.clone(),
    };
    let mut inputs = BTreeMap::from([("behaviour".to_owned(), behaviour)]);
    if head.next_need.is_some() {
        inputs.insert("needs".to_owned(), needs);
    }
    if head.state > 0 {
        inputs.insert("state".to_owned(), state);
    }
    FutureGolden { inputs, outputs: head.outputs().iter().map(|(name, _)| ((*name).to_owned(), named(name))).collect() }
}
