//! Segments, anomaly and the tabular baseline: everything that a bundle reads from rolling behaviour alone.
//!
//! An autoencoder learns snapshots of the customers to fit on; its code is grouped into segments, its error ranked into an anomaly.

mod kmeans;
mod label;
mod mlp;
mod snapshots;
mod tabular;

use std::collections::BTreeMap;
use std::sync::Arc;

use label::Facts;
use mlp::{Activation, Mlp, Rows, Settings, adam};
use snapshots::{Snapshot, to_fit};

use super::config::Config;
use super::fit::Epoch;
use super::holdout::Holdout;
use super::make::Notes;
use super::onnx::{Builder, Dim, FLOAT};
use super::preprocess;
use super::record::{Recording, stop_share};
use super::report::{AUTOENCODER, Anomaly, Profile, Profiles};
use crate::customer::Item;
use crate::features::{BEHAVIOUR, behaviour};
use crate::interaction::Timestamp;
use crate::model::{
    BehaviourHead, BehaviourModel, BehaviourRunner, GoldenRow, Pipeline, SegmentHead, TabularInput, TabularModel, behaviour_hash,
    reconstruction_error,
};

/// What goes into the bundle; empty where the data has no behaviour to speak of.
#[derive(Default)]
pub struct Parts {
    /// Section of the manifest.
    pub head: Option<BehaviourHead>,
    /// Sections of the report.
    pub profiles: Option<Profiles>,
    pub anomaly: Option<Anomaly>,
    /// Losses of every epoch, by network.
    pub losses: BTreeMap<String, Vec<Epoch>>,
    /// The networks as a bundle serves them.
    pub groups: Option<Arc<BehaviourModel>>,
    pub dense: Option<Arc<TabularModel>>,
    /// Sections of `preprocessing.json`.
    pub behaviour: Option<Pipeline>,
    pub tabular: Option<TabularInput>,
    /// Graphs by file name, and a row of each for `golden.json`.
    pub graphs: BTreeMap<String, Vec<u8>>,
    pub golden: BTreeMap<String, GoldenRow>,
}

/// Widths of the autoencoder's layers after its input.
const HIDDEN: usize = 16;
const CODE: usize = 6;
const SETTINGS: Settings = Settings { epochs: 40, batch: 256, dropout: 0.0, optimizer: adam(2e-3), patience: 4, max_steps: 0 };
/// Deviations from the mean that a feature is clipped at: far enough that what is unusual stays so.
const CLIP: f64 = 10.0;
/// Customers of this many thousandths stop the training early instead of taking part.
const ASIDE: u32 = 100;
/// Fewest customers who came back after a day or more: one conversation each is no behaviour to tell groups by.
const FEWEST: usize = 50;
const QUANTILES: usize = 257;
const SEGMENTS: std::ops::RangeInclusive<usize> = 3..=8;
/// Most snapshots that the groups are found on.
const GROUPED: usize = 10_000;

fn came_back(items: &[Item]) -> bool {
    let times = || items.iter().map(|i| i.occurred_at.0);
    times().max().zip(times().min()).is_some_and(|(last, first)| last - first >= Timestamp::MICROS_PER_DAY)
}

/// Fits everything on the part that `holdout` leaves to fit on.
///
/// # Errors
/// What a loader would say of the networks; does not happen with what was just made.
pub fn fit(recording: &Recording, holdout: &Holdout, config: &Config, seed: u64, notes: &mut Notes<'_>) -> anyhow::Result<Parts> {
    let mut parts = Parts::default();
    let snapshots = snapshots::draw(recording, holdout, config.horizon_days, seed);
    let (tabular, left_out) = tabular::fit(recording, holdout, &snapshots, config, seed);
    left_out.into_iter().for_each(|what| notes.left_out(what));
    if let Some(tabular) = tabular {
        parts.dense = Some(Arc::new(TabularModel::build(&tabular.input, &tabular.graph).map_err(anyhow::Error::msg)?));
        parts.losses.extend(tabular.losses.into_iter().map(|(target, epochs)| (target.to_owned(), epochs)));
        parts.tabular = Some(tabular.input);
        parts.graphs.insert("tabular.onnx".into(), tabular.graph);
        parts.golden.insert("tabular.onnx".into(), tabular.golden);
    }
    let repeated = recording.customers.iter().filter(|c| came_back(to_fit(c, holdout))).count();
    if repeated < FEWEST {
        notes.left_out(format!("segments and anomaly: {repeated} customers came back after a day or more, {FEWEST} are needed"));
        return Ok(parts);
    }
    let input = Input::fit(&snapshots);
    let (network, losses) = autoencoder(recording, &snapshots, &input.rows, config.max_steps, seed);
    let Some((head, profiles)) = head(&snapshots, &input.rows, &network, seed) else {
        notes.left_out("segments and anomaly: the customers' behaviour does not differ enough to group it".into());
        return Ok(parts);
    };
    let labels: Vec<String> = head.segments.iter().map(|s| format!("{} ({:.0} %)", s.label, 100.0 * s.share)).collect();
    notes.say(format!("{} segments: {}", labels.len(), labels.join("; ")));
    let (graph, golden) = export(&network);
    let groups = Arc::new(BehaviourModel::build(&head, &input.pipeline, &graph).map_err(anyhow::Error::msg)?);
    parts.anomaly = anomaly(&groups, &snapshots, &snapshots::judged(recording, holdout, seed))?;
    parts.groups = Some(groups);
    parts.losses.insert(AUTOENCODER.into(), losses);
    parts.graphs.insert("autoencoder.onnx".into(), graph);
    parts.golden.insert("autoencoder.onnx".into(), golden);
    parts.behaviour = Some(input.pipeline);
    parts.head = Some(head);
    parts.profiles = Some(profiles);
    Ok(parts)
}

/// How unusual what was not fitted on is, as scores say it; `None` where there is nothing of that.
fn anomaly(groups: &Arc<BehaviourModel>, fitted: &[Snapshot], judged: &[Snapshot]) -> anyhow::Result<Option<Anomaly>> {
    let mut runner = BehaviourRunner::new(groups).map_err(anyhow::Error::msg)?;
    let mut read = |snapshots: &[Snapshot]| {
        let features: Vec<_> = snapshots.iter().map(|s| behaviour(&s.counters, s.at)).collect();
        let readings = runner.read(&features).map_err(anyhow::Error::msg)?;
        anyhow::Ok(readings.into_iter().map(|r| (r.anomaly, r.error)).collect::<Vec<_>>())
    };
    let fitted = read(fitted)?;
    Ok(Anomaly::of(&fitted, &read(judged)?))
}

/// The autoencoder's input of every snapshot, and how it was made.
struct Input {
    pipeline: Pipeline,
    rows: Vec<Vec<f32>>,
}

impl Input {
    fn fit(snapshots: &[Snapshot]) -> Self {
        let mut rows: Vec<Vec<f64>> = snapshots.iter().map(|s| behaviour(&s.counters, s.at).into_iter().map(f64::from).collect()).collect();
        let mut pipeline = Pipeline::default();
        for fit in [|rows: &[Vec<f64>]| preprocess::clean(rows, CLIP), preprocess::standard] {
            let transform = fit(&rows);
            preprocess::apply(&transform, &mut rows);
            pipeline.steps.push(transform);
        }
        Self { pipeline, rows: rows.iter().map(|r| r.iter().map(|x| *x as f32).collect()).collect() }
    }
}

/// 32 → 16 → 6 → 16 → 32, the code linear; stopped early on customers of its own.
fn autoencoder(recording: &Recording, snapshots: &[Snapshot], rows: &[Vec<f32>], max_steps: usize, seed: u64) -> (Mlp, Vec<Epoch>) {
    let (mut train, mut stop) = (Vec::new(), Vec::new());
    for (snapshot, row) in snapshots.iter().zip(rows) {
        let part = if stop_share(&recording.customers[snapshot.customer].id) < ASIDE { &mut stop } else { &mut train };
        part.push(row.clone());
    }
    let width = BEHAVIOUR.len();
    let activations = [Activation::Relu, Activation::None, Activation::Relu, Activation::None];
    let mut network = Mlp::new(&[width, HIDDEN, CODE, HIDDEN, width], &activations, seed);
    let same = |rows| Rows { inputs: rows, targets: rows };
    let losses = network.fit(same(&train), same(&stop), &Settings { max_steps, ..SETTINGS }, seed ^ 0xae);
    (network, losses)
}

fn head(snapshots: &[Snapshot], rows: &[Vec<f32>], network: &Mlp, seed: u64) -> Option<(BehaviourHead, Profiles)> {
    let codes = network.run(rows, 1);
    let every = codes.len().div_ceil(GROUPED).max(1);
    let (sample, facts): (Vec<Vec<f32>>, Vec<Facts>) =
        codes.into_iter().zip(snapshots).step_by(every).map(|(code, s)| (code, Facts::from(s))).unzip();
    let groups = kmeans::choose(&sample, SEGMENTS, seed)?;
    let labels = label::labels(&facts, &groups.members, groups.centers.len());
    let segments = labels.into_iter().zip(groups.centers).enumerate().map(|(i, (label, center))| {
        let own: Vec<Facts> = facts.iter().zip(&groups.members).filter(|(_, m)| **m == i).map(|(f, _)| *f).collect();
        SegmentHead { label, center, share: own.len() as f32 / facts.len() as f32, profile: label::profile(&own) }
    });
    let head = BehaviourHead {
        feature_hash: behaviour_hash(),
        error_quantiles: quantiles(rows.iter().zip(network.run(rows, 3)).map(|(row, out)| reconstruction_error(row, &out)).collect()),
        segments: segments.collect(),
        profile: label::profile(&facts),
    };
    let grouped: Vec<(&[f32], usize)> = rows.iter().step_by(every).map(Vec::as_slice).zip(groups.members).collect();
    let profiles = profiles(&head, &grouped);
    Some((head, profiles))
}

/// What the report says of the groups that these preprocessed rows fell to. A feature that is the same everywhere is left out.
fn profiles(head: &BehaviourHead, rows: &[(&[f32], usize)]) -> Profiles {
    let varies = |i: &usize| rows.iter().any(|(row, _)| (row[*i] - rows[0].0[*i]).abs() > 1e-6);
    let columns: Vec<usize> = (0..BEHAVIOUR.len()).filter(varies).collect();
    let mean = |group: usize, column: usize| {
        let values: Vec<f64> = rows.iter().filter(|(_, member)| *member == group).map(|(row, _)| f64::from(row[column])).collect();
        (values.iter().sum::<f64>() / values.len().max(1) as f64) as f32
    };
    let segments = head.segments.iter().enumerate().map(|(id, s)| Profile {
        id,
        label: s.label.clone(),
        share: s.share,
        means: s.profile.clone(),
        deviations: columns.iter().map(|column| mean(id, *column)).collect(),
    });
    Profiles { means: head.profile.clone(), features: columns.iter().map(|i| BEHAVIOUR[*i]).collect(), segments: segments.collect() }
}

/// Evenly spaced quantiles from the least to the largest value, interpolated.
fn quantiles(mut values: Vec<f32>) -> Vec<f32> {
    values.sort_by(f32::total_cmp);
    (0..QUANTILES)
        .map(|i| {
            let place = i as f64 * (values.len() - 1) as f64 / (QUANTILES - 1) as f64;
            let (low, high) = (values[place as usize], values[place.ceil() as usize]);
            low + (high - low) * place.fract() as f32
        })
        .collect()
}

/// `autoencoder.onnx`: `features` f32 [B, 32] → `code` f32 [B, 6], `reconstruction` f32 [B, 32]. Second: an invented row.
fn export(network: &Mlp) -> (Vec<u8>, GoldenRow) {
    let (batch, width) = (Dim::Named("B"), BEHAVIOUR.len());
    let mut graph = Builder::new("autoencoder");
    graph.input("features", FLOAT, &[batch, Dim::Fixed(width)]);
    graph.output("code", &[batch, Dim::Fixed(CODE)]);
    graph.output("reconstruction", &[batch, Dim::Fixed(width)]);
    network.export(&mut graph, "", "features", &["encoder", "code", "decoder", "reconstruction"]);
    let input: Vec<f32> = (0..width).map(|i| (i as f32 * 0.7).sin()).collect();
    let rows = [input.clone()];
    let outputs = [("code", 1), ("reconstruction", 3)].map(|(name, layer)| (name.to_owned(), network.run(&rows, layer).concat()));
    (graph.finish(), GoldenRow { input, outputs: BTreeMap::from(outputs) })
}
