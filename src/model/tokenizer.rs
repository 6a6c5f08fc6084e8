//! `tokenizer.json`: word hashes → rows of a bundle's tables.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::customer::words;

/// Row of padding, all zero, in both tables.
pub const PAD: u32 = 0;
/// Row of every word that is not in the vocabulary.
pub const UNKNOWN: u32 = 1;

/// The stored form. Word `i` has row `i + 2`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerFile {
    pub splitter: u32,
    pub words: Vec<String>,
    /// Rows of the n-gram table, the padding row counted.
    pub bag_rows: u32,
}

/// Maps the hashed tokens of a text to what `text_cnn.onnx` reads.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    rows: HashMap<u32, u32>,
    bag_rows: u32,
}

/// One text as the text model reads it: no padding inside. Both empty for an interaction without text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextInput {
    /// Vocabulary rows, in order.
    pub tokens: Vec<u32>,
    /// Rows of hashed words and pairs of neighbouring words.
    pub bag: Vec<u32>,
}

impl TextInput {
    /// `scale` of `text_cnn.onnx`: 1 / tokens and 1 / √(bag entries), 0 for an empty text.
    pub fn scale(&self) -> [f32; 2] {
        let inverse = |n: usize| if n == 0 { 0.0 } else { 1.0 / n as f32 };
        [inverse(self.tokens.len()), inverse(self.bag.len()).sqrt()]
    }
}

impl Tokenizer {
    pub fn new(file: &TokenizerFile) -> Self {
        let mut rows = HashMap::with_capacity(file.words.len());
        for (i, word) in file.words.iter().enumerate() {
            // Where two words share a hash, the first (more frequent) one keeps it.
            rows.entry(words::hash(word)).or_insert(i as u32 + 2);
        }
        Self { rows, bag_rows: file.bag_rows }
    }

    /// Rows of a text of these token hashes.
    pub fn encode(&self, tokens: &[u32]) -> TextInput {
        let mut input = TextInput { tokens: Vec::with_capacity(tokens.len()), bag: Vec::with_capacity(2 * tokens.len()) };
        self.encode_into(tokens, &mut input);
        input
    }

    /// As [`Self::encode`], into reused buffers.
    pub fn encode_into(&self, tokens: &[u32], input: &mut TextInput) {
        input.tokens.clear();
        input.bag.clear();
        input.tokens.extend(tokens.iter().map(|t| self.rows.get(t).copied().unwrap_or(UNKNOWN)));
        input.bag.extend(tokens.iter().map(|&t| bag_row(0, t, self.bag_rows)));
        input.bag.extend(tokens.windows(2).map(|pair| bag_row(pair[0], pair[1], self.bag_rows)));
    }
}

/// Row of the pair (`first`, `second`), or of `second` alone where `first` is 0. In 1..`rows`; splitmix64's finaliser over both hashes.
fn bag_row(first: u32, second: u32, rows: u32) -> u32 {
    let mut x = ((first as u64) << 32 | second as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    1 + (x % (rows as u64 - 1)) as u32
}
