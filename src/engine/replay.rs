//! Runs a customer's window again from its beginning: to give a new model its hidden vector, and to ask what an alert's value would have been without a word.

use std::collections::VecDeque;

use crate::customer::{Baseline, Counters, CustomerState, Item, ModelState};
use crate::features::{self, Overlap};
use crate::model::{Runner, Step, TextInput};

/// The inputs of every step of a window, as flat rows.
#[derive(Debug, Default)]
pub struct Replay {
    pub vectors: Vec<f32>,
    pub features: Vec<f32>,
    pub length: usize,
}

impl Replay {
    /// Computes the inputs of every interaction of the window, as they were when it arrived.
    pub fn new(runner: &mut Runner, overlap: &mut Overlap, state: &CustomerState, empty: &[f32]) -> Result<Self, String> {
        let model = runner.model().clone();
        let (v, f) = (model.manifest.vector, model.manifest.features);
        let length = state.window.len();
        let mut replay = Self { vectors: vec![0.0; length * v], features: vec![0.0; length * f], length };
        let mut counters = state.before.clone();
        let mut input = TextInput::default();
        for (i, item) in state.window.iter().enumerate() {
            let vector = &mut replay.vectors[i * v..(i + 1) * v];
            if item.tokens.is_empty() {
                vector.copy_from_slice(empty);
            } else {
                model.tokenizer.encode_into(&item.tokens, &mut input);
                runner.encode(&input, vector)?;
            }
            row(&model.layout, &state.window, i, &counters, item, overlap, &mut replay.features[i * f..(i + 1) * f]);
            counters.add(item);
        }
        Ok(replay)
    }

    /// Runs variants of the window side by side; `vector(variant, step)` may put another text vector in place of the real one.
    /// Returns the satisfaction logits of the last step of each variant.
    pub fn logits<'a>(
        &'a self,
        runner: &mut Runner,
        variants: usize,
        vector: impl Fn(usize, usize) -> Option<&'a [f32]>,
    ) -> Result<Vec<[f32; 3]>, String> {
        let model = runner.model().clone();
        let (v, f, s) = (model.manifest.vector, model.manifest.features, model.manifest.state);
        let mut states = vec![0.0; variants * s];
        let mut next = states.clone();
        let mut logits = vec![[0.0; 3]; variants];
        for i in 0..self.length {
            let steps: Vec<Step> = (0..variants)
                .map(|n| Step {
                    text: vector(n, i).unwrap_or(&self.vectors[i * v..(i + 1) * v]),
                    features: &self.features[i * f..(i + 1) * f],
                    state: &states[n * s..(n + 1) * s],
                })
                .collect();
            runner.step(&steps, |n, name, values| match name {
                "state_out" => next[n * s..(n + 1) * s].copy_from_slice(values),
                "satisfaction" => logits[n].copy_from_slice(&values[..3]),
                _ => {}
            })?;
            std::mem::swap(&mut states, &mut next);
        }
        Ok(logits)
    }
}

/// Writes the scaled features of `item`, the interaction after the first `upto` of `window`.
pub fn row(
    layout: &crate::model::Layout,
    window: &VecDeque<Item>,
    upto: usize,
    counters: &Counters,
    item: &Item,
    overlap: &mut Overlap,
    out: &mut [f32],
) {
    layout.scale(&features::numeric(window, upto, counters, item, overlap), item, out);
}

/// The hidden vector and baseline that the runner's model would have had, had it seen the window from its first interaction on.
pub fn rebuild(runner: &mut Runner, overlap: &mut Overlap, state: &CustomerState, empty: &[f32]) -> Result<ModelState, String> {
    let model = runner.model().clone();
    let replay = Replay::new(runner, overlap, state, empty)?;
    let (v, f) = (model.manifest.vector, model.manifest.features);
    let mut rebuilt =
        ModelState { version: model.version_hash, vector: vec![0.0; model.manifest.state].into(), baseline: Baseline::default() };
    for (i, item) in state.window.iter().enumerate() {
        let step = Step {
            text: &replay.vectors[i * v..(i + 1) * v],
            features: &replay.features[i * f..(i + 1) * f],
            state: &rebuilt.vector.clone(),
        };
        let mut value = None;
        runner.step(&[step], |_, name, values| match name {
            "state_out" => rebuilt.vector.copy_from_slice(values),
            "satisfaction" => value = model.manifest.satisfaction.as_ref().map(|h| super::heads::satisfaction(h, values, 0.0).value),
            _ => {}
        })?;
        if let Some(value) = value
            && item.moves_satisfaction()
        {
            rebuilt.baseline.add(value);
        }
    }
    Ok(rebuilt)
}
