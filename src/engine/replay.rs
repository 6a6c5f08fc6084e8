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

/// The hidden vectors and baselines that the runner's model would have had, had it seen each customer's window from its first interaction on. The
/// customers go side by side, which costs a fraction of one after the other and changes no bit.
pub fn rebuild(runner: &mut Runner, overlap: &mut Overlap, states: &[&CustomerState], empty: &[f32]) -> Result<Vec<ModelState>, String> {
    let model = runner.model().clone();
    let replays = states.iter().map(|state| Replay::new(runner, overlap, state, empty)).collect::<Result<Vec<_>, _>>()?;
    let (v, f) = (model.manifest.vector, model.manifest.features);
    let zero = || ModelState { version: model.version_hash, vector: vec![0.0; model.manifest.state].into(), baseline: Baseline::default() };
    let mut rebuilt: Vec<ModelState> = states.iter().map(|_| zero()).collect();
    for i in 0..replays.iter().map(|r| r.length).max().unwrap_or(0) {
        let going: Vec<usize> = (0..states.len()).filter(|n| i < replays[*n].length).collect();
        let vectors: Vec<Box<[f32]>> = going.iter().map(|n| rebuilt[*n].vector.clone()).collect();
        let steps: Vec<Step> = going
            .iter()
            .zip(&vectors)
            .map(|(n, state)| Step {
                text: &replays[*n].vectors[i * v..(i + 1) * v],
                features: &replays[*n].features[i * f..(i + 1) * f],
                state,
            })
            .collect();
        runner.step(&steps, |row, name, values| {
            let n = going[row];
            match name {
                "state_out" => rebuilt[n].vector.copy_from_slice(values),
                "satisfaction" => {
                    if let Some(head) = &model.manifest.satisfaction
                        && states[n].window[i].moves_satisfaction()
                    {
                        rebuilt[n].baseline.add(super::heads::satisfaction(head, values, 0.0).value);
                    }
                }
                _ => {}
            }
        })?;
    }
    Ok(rebuilt)
}
