//! The article's dense network as the baseline of the others: behaviour so far, kind and channel of the last interaction → probability.
//!
//! Knows counters and rows of numbers; nothing of labels or of how it was fitted.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{OneHot, Pipeline, RowGraph, RowRunner};
use crate::customer::Counters;
use crate::features::{BEHAVIOUR, behaviour};
use crate::interaction::Timestamp;

/// Target: no interaction by the customer within the bundle's horizon.
pub const CHURN: &str = "churn";
/// Target: a rating below 3.
pub const DISSATISFIED: &str = "dissatisfied";

/// From counters to the input of `tabular.onnx`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TabularInput {
    pub kinds: OneHot,
    pub channels: OneHot,
    /// By target, from [`TabularInput::row`] to its part of the graph's input; the parts stand side by side in order of the names.
    pub targets: BTreeMap<String, Pipeline>,
}

impl TabularInput {
    /// Number of columns of [`Self::row`].
    pub fn width(&self) -> usize {
        BEHAVIOUR.len() + self.kinds.names().len() + self.channels.names().len()
    }

    /// The columns before any fitted transform, as of `at`: behaviour `before`, one-hot `kind` and `channel` of the last interaction (as hashes).
    ///
    /// For a label of an interaction, `before` is without it (a rating is read only in later steps); for one of the future, with the last one.
    pub fn row(&self, before: &Counters, kind: u32, channel: u32, at: Timestamp) -> Vec<f64> {
        let mut row: Vec<f64> = behaviour(before, at).into_iter().map(f64::from).collect();
        self.kinds.append(kind, &mut row);
        self.channels.append(channel, &mut row);
        row
    }
}

/// The part of a bundle that the baseline lives in.
pub struct TabularModel {
    pub input: TabularInput,
    /// First column of each target, and the width of all.
    starts: BTreeMap<String, usize>,
    width: usize,
    graph: Arc<RowGraph>,
}

impl TabularModel {
    /// # Errors
    /// How preprocessing and graph do not fit each other.
    pub fn build(input: &TabularInput, graph: &[u8]) -> Result<Self, String> {
        let (mut starts, mut width) = (BTreeMap::new(), 0);
        for (target, pipeline) in &input.targets {
            starts.insert(target.clone(), width);
            width += pipeline.check(input.width()).map_err(|e| format!("preprocessing.json, tabular, {target}: {e}"))?;
        }
        let outputs: Vec<(&str, usize)> = input.targets.keys().map(|t| (t.as_str(), 1)).collect();
        let graph = Arc::new(RowGraph::build(graph, width, &outputs)?);
        Ok(Self { input: input.clone(), starts, width, graph })
    }

    pub(super) fn graph(&self) -> &Arc<RowGraph> {
        &self.graph
    }
}

/// Runs the baseline; one per thread.
pub struct TabularRunner {
    model: Arc<TabularModel>,
    runner: RowRunner,
}

impl TabularRunner {
    /// # Errors
    /// tract's message; does not happen for a model that was built.
    pub fn new(model: &Arc<TabularModel>) -> Result<Self, String> {
        Ok(Self { model: model.clone(), runner: RowRunner::new(model.graph.clone())? })
    }

    /// Probabilities of `target` ([`CHURN`] or [`DISSATISFIED`]), one per row of [`TabularInput::row`]; `None` where the bundle has no such target.
    ///
    /// # Errors
    /// tract's message, where the graph does not fit its preprocessing.
    pub fn predict(&mut self, target: &str, rows: Vec<Vec<f64>>) -> Result<Option<Vec<f32>>, String> {
        let part = &self.model;
        let (Some(pipeline), Some(&start)) = (part.input.targets.get(target), part.starts.get(target)) else { return Ok(None) };
        let inputs: Vec<Vec<f32>> = rows
            .into_iter()
            .map(|row| {
                let mut input = vec![0.0; part.width];
                input[start..].iter_mut().zip(pipeline.apply(row)).for_each(|(i, x)| *i = x as f32);
                input
            })
            .collect();
        let mut probabilities = Vec::with_capacity(inputs.len());
        let run = self.runner.run(&inputs, |_, output, values| {
            if output == target {
                probabilities.push(values[0]);
            }
        });
        run.map_err(|e| format!("tabular.onnx: {e}"))?;
        Ok(Some(probabilities))
    }
}
