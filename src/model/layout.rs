//! `preprocessing.json`: from the numbers of one step to the scaled feature vector of a bundle, and the transforms of its other inputs.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Pipeline, TabularInput};
use crate::customer::{Item, words};
use crate::features::NUMERIC;

/// Scaling and one-hot columns, fitted in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Mean and standard deviation of each numeric feature over the training steps; a deviation of 0 makes the column 0.
    pub mean: Vec<f32>,
    pub deviation: Vec<f32>,
    /// One-hot columns; any other value is all zero.
    pub kinds: Vec<String>,
    pub channels: Vec<String>,
    /// From the behaviour features to the input of `autoencoder.onnx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behaviour: Option<Pipeline>,
    /// To the input of `tabular.onnx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tabular: Option<TabularInput>,
    #[serde(skip)]
    hashes: Vec<u32>,
}

/// Scaled features stay within ± this many deviations, so that a value never seen in training cannot take over.
const CLIP: f32 = 5.0;

impl Layout {
    pub fn new(mean: Vec<f32>, deviation: Vec<f32>, kinds: Vec<String>, channels: Vec<String>) -> Self {
        let mut layout = Self { mean, deviation, kinds, channels, behaviour: None, tabular: None, hashes: Vec::new() };
        layout.prepare();
        layout
    }

    /// Must follow deserialisation.
    pub fn prepare(&mut self) {
        self.hashes = self.kinds.iter().chain(&self.channels).map(|name| words::hash(name)).collect();
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        NUMERIC.len() + self.kinds.len() + self.channels.len()
    }

    /// Names of all columns, in order.
    pub fn columns(&self) -> impl Iterator<Item = String> {
        let columns = NUMERIC.iter().map(|n| n.to_string());
        let kinds = self.kinds.iter().map(|k| format!("kind={k}"));
        let channels = self.channels.iter().map(|c| format!("channel={c}"));
        columns.chain(kinds).chain(channels)
    }

    /// SHA-256 over the names of all columns.
    pub fn hash(&self) -> String {
        let mut sha = Sha256::new();
        for name in self.columns() {
            sha.update(name.as_bytes());
            sha.update([0]);
        }
        super::hex(&sha.finalize())
    }

    /// Whether the file's shape fits the code's features.
    pub fn fits(&self) -> bool {
        self.mean.len() == NUMERIC.len() && self.deviation.len() == NUMERIC.len()
    }

    /// Writes the scaled feature vector of one step to `out` ([`Self::width`] long).
    pub fn scale(&self, numeric: &[f32; NUMERIC.len()], item: &Item, out: &mut [f32]) {
        for (i, o) in out.iter_mut().take(NUMERIC.len()).enumerate() {
            let (mean, deviation) = (self.mean[i], self.deviation[i]);
            *o = if deviation > 0.0 { ((numeric[i] - mean) / deviation).clamp(-CLIP, CLIP) } else { 0.0 };
        }
        for (i, o) in out.iter_mut().skip(NUMERIC.len()).enumerate() {
            let value = if i < self.kinds.len() { item.kind } else { item.channel };
            *o = (self.hashes[i] == value) as u8 as f32;
        }
    }
}
