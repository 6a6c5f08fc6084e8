//! The article's dense network, 128–0.5–64–0.5–1 on ten principal components, for every binary target with labels: the baseline of the others.
//!
//! Sees the part to fit on alone.

use std::collections::{BTreeMap, HashMap};

use super::mlp::{Activation, Mlp, Rows, Settings, adam};
use super::snapshots::{Snapshot, to_fit};
use crate::customer::{Counters, words};
use crate::model::{CHURN, DISSATISFIED, GoldenRow, OneHot, Pipeline, TabularInput};
use crate::train::config::Config;
use crate::train::fit::Epoch;
use crate::train::holdout::Holdout;
use crate::train::onnx::{Builder, Dim, FLOAT};
use crate::train::preprocess;
use crate::train::record::Recording;
use crate::train::satisfaction_class;

/// What goes into the bundle.
pub struct Tabular {
    pub input: TabularInput,
    pub graph: Vec<u8>,
    pub golden: GoldenRow,
    /// Losses of every epoch, by target.
    pub losses: BTreeMap<&'static str, Vec<Epoch>>,
}

/// The article's: Adam, binary cross-entropy, 10 epochs, batches of 32, half of every hidden layer dropped.
const SETTINGS: Settings = Settings { epochs: 10, batch: 32, dropout: 0.5, optimizer: adam(1e-3), patience: 10, max_steps: 0 };
const HIDDEN: [usize; 2] = [128, 64];
const SELECTED: usize = 20;
const COMPONENTS: usize = 10;
/// Deviations from the mean that a value is clipped at.
const CLIP: f64 = 5.0;
/// Most rows of a target: more do not change a baseline of this size.
const MOST: usize = 20_000;
/// Fewest rows of each of the two outcomes.
const FEWEST: usize = 25;

/// Fits the network of every target with enough labels; `None` where there is none. Second: what was left out, in words.
pub fn fit(recording: &Recording, holdout: &Holdout, snapshots: &[Snapshot], config: &Config, seed: u64) -> (Option<Tabular>, Vec<String>) {
    let mut input = one_hot(recording, holdout);
    let rows = [(CHURN, churn_rows(&input, snapshots)), (DISSATISFIED, satisfaction_rows(&input, recording, holdout))];
    let (mut networks, mut losses, mut left_out) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (target, (rows, classes)) in rows {
        let counts = [0, 1].map(|class| classes.iter().filter(|c| **c == class).count());
        if counts.iter().any(|n| *n < FEWEST) {
            let within = if target == CHURN { format!(" within {} days", config.horizon_days) } else { String::new() };
            left_out.push(format!(
                "the tabular baseline of {target}: {} rows with and {} without{within}, {FEWEST} of each are needed",
                counts[1], counts[0]
            ));
            continue;
        }
        let (pipeline, network, epochs) = fit_one(rows, &classes, config.max_steps, seed);
        losses.insert(target, epochs);
        input.targets.insert(target.to_owned(), pipeline);
        networks.insert(target, network);
    }
    if networks.is_empty() {
        return (None, left_out);
    }
    let (graph, golden) = export(&networks);
    (Some(Tabular { input, graph, golden, losses }), left_out)
}

/// The values of at least a thousandth of the interactions to fit on.
fn one_hot(recording: &Recording, holdout: &Holdout) -> TabularInput {
    let (mut kinds, mut channels, mut total) = (HashMap::<u32, usize>::new(), HashMap::<u32, usize>::new(), 0);
    for item in recording.customers.iter().flat_map(|c| to_fit(c, holdout)) {
        *kinds.entry(item.kind).or_default() += 1;
        *channels.entry(item.channel).or_default() += 1;
        total += 1;
    }
    let frequent = |names: &BTreeMap<Box<str>, usize>, counts: &HashMap<u32, usize>| {
        let often = |name: &str| counts.get(&words::hash(name)).is_some_and(|n| n * 1000 >= total);
        OneHot::from(names.keys().filter(|n| often(n)).map(|n| n.to_string()).collect::<Vec<_>>())
    };
    TabularInput { kinds: frequent(&recording.kinds, &kinds), channels: frequent(&recording.channels, &channels), targets: BTreeMap::new() }
}

type Labelled = (Vec<Vec<f64>>, Vec<usize>);

fn churn_rows(input: &TabularInput, snapshots: &[Snapshot]) -> Labelled {
    let known: Vec<(&Snapshot, bool)> = snapshots.iter().filter_map(|s| Some((s, s.churned?))).collect();
    let every = known.len().div_ceil(MOST).max(1);
    known.into_iter().step_by(every).map(|(s, churned)| (input.row(&s.counters, s.kind, s.channel, s.at), usize::from(churned))).unzip()
}

/// As of every rated interaction, before it: a rating is read only in later steps.
fn satisfaction_rows(input: &TabularInput, recording: &Recording, holdout: &Holdout) -> Labelled {
    let labels = || recording.customers.iter().flat_map(|c| c.labels.iter().take(to_fit(c, holdout).len()));
    let every = labels().filter(|l| l.satisfaction.is_some()).count().div_ceil(MOST).max(1);
    let mut labelled = Labelled::default();
    let mut seen = 0;
    for customer in &recording.customers {
        let mut before = Counters::default();
        for (item, labels) in to_fit(customer, holdout).iter().zip(&customer.labels) {
            if let Some(mean) = labels.satisfaction {
                if seen % every == 0 {
                    labelled.0.push(input.row(&before, item.kind, item.channel, item.occurred_at));
                    labelled.1.push(usize::from(satisfaction_class(mean) == 0));
                }
                seen += 1;
            }
            before.add(item);
        }
    }
    labelled
}

fn fit_one(mut rows: Vec<Vec<f64>>, classes: &[usize], max_steps: usize, seed: u64) -> (Pipeline, Mlp, Vec<Epoch>) {
    let mut pipeline = Pipeline::default();
    let mut add = |transform, rows: &mut Vec<Vec<f64>>| {
        preprocess::apply(&transform, rows);
        pipeline.steps.push(transform);
    };
    add(preprocess::clean(&rows, CLIP), &mut rows);
    add(preprocess::min_max(&rows), &mut rows);
    add(preprocess::select_k_best(&rows, classes, SELECTED), &mut rows);
    add(preprocess::standard(&rows), &mut rows);
    add(preprocess::pca(&rows, COMPONENTS), &mut rows);
    let inputs: Vec<Vec<f32>> = rows.iter().map(|r| r.iter().map(|x| *x as f32).collect()).collect();
    let targets: Vec<Vec<f32>> = classes.iter().map(|c| vec![*c as f32]).collect();
    let mut network =
        Mlp::new(&[inputs[0].len(), HIDDEN[0], HIDDEN[1], 1], &[Activation::Relu, Activation::Relu, Activation::Sigmoid], seed);
    let data = Rows { inputs: &inputs, targets: &targets };
    let losses = network.fit(data, Rows { inputs: &[], targets: &[] }, &Settings { max_steps, ..SETTINGS }, seed ^ 0x7ab);
    (pipeline, network, losses)
}

/// `tabular.onnx`: `features` f32 [B, F], the targets' inputs side by side → one probability f32 [B, 1] per target. Second: an invented row.
fn export(networks: &BTreeMap<&'static str, Mlp>) -> (Vec<u8>, GoldenRow) {
    let batch = Dim::Named("B");
    let width = |network: &Mlp| network.parameters[0].dims[0];
    let all: usize = networks.values().map(width).sum();
    let mut graph = Builder::new("tabular");
    graph.input("features", FLOAT, &[batch, Dim::Fixed(all)]);
    let input: Vec<f32> = (0..all).map(|i| (i as f32 * 0.9).sin()).collect();
    let (mut outputs, mut start) = (BTreeMap::new(), 0);
    for (target, network) in networks {
        graph.output(target, &[batch, Dim::Fixed(1)]);
        let name = |part: &str| format!("{target}_{part}");
        let end = start + width(network);
        graph.columns("features", start, end, &name("features"));
        network.export(&mut graph, &name(""), &name("features"), &[&name("first"), &name("second"), target]);
        outputs.insert((*target).to_owned(), network.run(&[input[start..end].to_vec()], 2).concat());
        start = end;
    }
    (graph.finish(), GoldenRow { input, outputs })
}
