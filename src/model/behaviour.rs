//! From behaviour features to segment and anomaly: preprocessing, `autoencoder.onnx`, nearest centre, percentile of the reconstruction error.
//!
//! Knows rows of numbers; no customers.

use std::sync::Arc;

use super::{BehaviourHead, Pipeline, RowGraph, RowRunner, behaviour_hash};
use crate::features::BEHAVIOUR;
use crate::interaction::Name;

/// The part of a bundle that segments and anomaly come from.
pub struct BehaviourModel {
    input: Pipeline,
    graph: Arc<RowGraph>,
    quantiles: Vec<f32>,
    segments: Vec<(Name, Vec<f32>)>,
}

/// What the behaviour of one customer says.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub segment: u32,
    pub label: Name,
    /// Share of the training snapshots with a smaller reconstruction error, 0–1.
    pub anomaly: f32,
    /// See [`reconstruction_error`].
    pub error: f32,
}

impl BehaviourModel {
    /// # Errors
    /// How preprocessing, graph and manifest do not fit each other or this version's features.
    pub fn build(head: &BehaviourHead, input: &Pipeline, graph: &[u8]) -> Result<Self, String> {
        let width = input.check(BEHAVIOUR.len()).map_err(|e| format!("preprocessing.json, behaviour: {e}"))?;
        if head.feature_hash != behaviour_hash() {
            return Err("its behaviour features are not those of this version: train the bundle anew".into());
        }
        let code = head.segments.first().map_or(0, |s| s.center.len());
        if code == 0 || head.segments.iter().any(|s| s.center.len() != code) {
            return Err("manifest.json: the centres of the segments are not of one width".into());
        }
        if head.error_quantiles.len() < 2 || !head.error_quantiles.is_sorted() {
            return Err("manifest.json: error_quantiles are not at least two rising numbers".into());
        }
        Ok(Self {
            input: input.clone(),
            graph: Arc::new(RowGraph::build(graph, width, &[("code", code), ("reconstruction", width)])?),
            quantiles: head.error_quantiles.clone(),
            segments: head.segments.iter().map(|s| (Name::from(s.label.as_str()), s.center.clone())).collect(),
        })
    }

    /// Labels of the segments, by number.
    pub fn labels(&self) -> impl Iterator<Item = &Name> {
        self.segments.iter().map(|(label, _)| label)
    }

    pub(super) fn graph(&self) -> &Arc<RowGraph> {
        &self.graph
    }

    /// What the graph reads for these features.
    fn row(&self, features: &[f32; BEHAVIOUR.len()]) -> Vec<f32> {
        self.input.apply(features.iter().map(|x| f64::from(*x)).collect()).into_iter().map(|x| x as f32).collect()
    }

    /// Place of the centre nearest to `code`; the first of equally near ones.
    fn nearest(&self, code: &[f32]) -> usize {
        let distance = |center: &[f32]| center.iter().zip(code).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let mut best = (0, f32::INFINITY);
        for (i, (_, center)) in self.segments.iter().enumerate() {
            let d = distance(center);
            if d < best.1 {
                best = (i, d);
            }
        }
        best.0
    }

    fn percentile(&self, error: f32) -> f32 {
        let q = &self.quantiles;
        let above = q.partition_point(|x| *x < error);
        if above == 0 || above == q.len() {
            return (above > 0) as u8 as f32;
        }
        let (low, high) = (q[above - 1], q[above]);
        ((above - 1) as f32 + (error - low) / (high - low)) / (q.len() - 1) as f32
    }
}

/// Mean squared difference of what the autoencoder read and what it gave back.
pub fn reconstruction_error(input: &[f32], reconstruction: &[f32]) -> f32 {
    input.iter().zip(reconstruction).map(|(a, b)| (a - b) * (a - b)).sum::<f32>() / input.len().max(1) as f32
}

/// Reads behaviour with a model's part for it; one per thread.
pub struct BehaviourRunner {
    part: Arc<BehaviourModel>,
    runner: RowRunner,
}

impl BehaviourRunner {
    /// # Errors
    /// tract's message; does not happen for a model that was loaded and checked.
    pub fn new(part: &Arc<BehaviourModel>) -> Result<Self, String> {
        Ok(Self { part: part.clone(), runner: RowRunner::new(part.graph.clone())? })
    }

    /// One reading per row, in order.
    ///
    /// # Errors
    /// tract's message, where the graph does not fit its manifest.
    pub fn read(&mut self, features: &[[f32; BEHAVIOUR.len()]]) -> Result<Vec<Reading>, String> {
        let part = &self.part;
        let rows: Vec<Vec<f32>> = features.iter().map(|f| part.row(f)).collect();
        let mut read: Vec<Reading> = Vec::with_capacity(rows.len());
        let run = self.runner.run(&rows, |i, output, values| match output {
            "code" => {
                let segment = part.nearest(values);
                read.push(Reading { segment: segment as u32, label: part.segments[segment].0.clone(), anomaly: 0.0, error: 0.0 });
            }
            _ => {
                read[i].error = reconstruction_error(&rows[i], values);
                read[i].anomaly = part.percentile(read[i].error);
            }
        });
        run.map_err(|e| format!("autoencoder.onnx: {e}"))?;
        Ok(read)
    }
}
