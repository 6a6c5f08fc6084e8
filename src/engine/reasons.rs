//! Why an alert: which interactions and which of their words lowered the value most.
//!
//! The weight of a text is how much higher the value would be had the text been empty, of a word had it not been there; the window is run again
//! for each (occlusion, as in Zeiler and Fergus 2014). Everything else of the interaction stays as it was.

use super::heads;
use super::replay::Replay;
use crate::alert::{Reason, WordWeight};
use crate::customer::CustomerState;
use crate::features::Overlap;
use crate::model::{Runner, TextInput};

/// Interactions that are asked about, the newest ones.
const CANDIDATES: usize = 16;
const MAX_REASONS: usize = 3;
const MAX_WORDS: usize = 5;
/// Different words of a text that are asked about.
const MAX_ASKED_WORDS: usize = 24;
/// Differences of the value below this say nothing.
const NOISE: f32 = 0.02;

/// Reasons for the value at the newest interaction of the window, the weightiest first; never empty.
pub fn reasons(runner: &mut Runner, overlap: &mut Overlap, state: &CustomerState, empty: &[f32]) -> Result<Vec<Reason>, String> {
    let Some(newest) = state.window.back() else { return Ok(Vec::new()) };
    let fallback = Reason { interaction_id: newest.id.clone(), weight: 0.0, words: Vec::new() };
    let model = runner.model().clone();
    let Some(head) = &model.manifest.satisfaction else { return Ok(vec![fallback]) };
    let value = |logits: &[f32; 3]| heads::satisfaction(head, logits, 0.0).value;

    let replay = Replay::new(runner, overlap, state, empty)?;
    let candidates: Vec<usize> = (0..replay.length).rev().filter(|&i| !state.window[i].tokens.is_empty()).take(CANDIDATES).collect();
    // Variant 0 is the window as it is, variant n + 1 lacks the text of candidate n.
    let logits = replay.logits(runner, candidates.len() + 1, |n, i| (n > 0 && candidates[n - 1] == i).then_some(empty))?;
    let real = value(&logits[0]);
    let mut weights: Vec<(usize, f32)> = candidates.iter().zip(&logits[1..]).map(|(&i, l)| (i, value(l) - real)).collect();
    weights.retain(|w| w.1 > NOISE);
    weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0)));
    weights.truncate(MAX_REASONS);

    let mut reasons = Vec::with_capacity(weights.len());
    for (at, weight) in weights {
        let item = &state.window[at];
        let words = match state.texts.iter().rev().find(|t| t.interaction_id == item.id) {
            Some(text) => words(runner, &replay, at, &item.tokens, &text.words, |logits| value(logits) - real)?,
            None => Vec::new(),
        };
        reasons.push(Reason { interaction_id: item.id.clone(), weight, words });
    }
    if reasons.is_empty() {
        reasons.push(fallback);
    }
    Ok(reasons)
}

fn words(
    runner: &mut Runner,
    replay: &Replay,
    at: usize,
    tokens: &[u32],
    text: &str,
    weight: impl Fn(&[f32; 3]) -> f32,
) -> Result<Vec<WordWeight>, String> {
    let model = runner.model().clone();
    let width = model.manifest.vector;
    let mut asked: Vec<(&str, u32)> = Vec::new();
    for (word, &token) in text.split(' ').zip(tokens) {
        if asked.len() < MAX_ASKED_WORDS && word.chars().any(char::is_alphanumeric) && !asked.iter().any(|a| a.1 == token) {
            asked.push((word, token));
        }
    }
    let mut vectors = vec![0.0; asked.len() * width];
    let (mut rest, mut input) = (Vec::new(), TextInput::default());
    for (vector, (_, token)) in vectors.chunks_mut(width).zip(&asked) {
        rest.clear();
        rest.extend(tokens.iter().copied().filter(|t| t != token));
        model.tokenizer.encode_into(&rest, &mut input);
        runner.encode(&input, vector)?;
    }
    let variants = replay.logits(runner, asked.len(), |n, i| (i == at).then(|| &vectors[n * width..(n + 1) * width]))?;
    let mut weights: Vec<WordWeight> =
        asked.iter().zip(&variants).map(|((word, _), l)| WordWeight { word: (*word).into(), weight: weight(l) }).collect();
    weights.retain(|w| w.weight > NOISE);
    weights.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    weights.truncate(MAX_WORDS);
    Ok(weights)
}
