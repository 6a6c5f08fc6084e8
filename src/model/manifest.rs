//! `manifest.json`: what a bundle is, and what the core must know to use it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::future::FutureHead;

/// Version of the bundle format that this build writes and reads.
pub const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    /// End of the training range + 8 hex digits of the content hash.
    pub version: String,
    pub splitter: u32,
    /// Width of a text vector, of the feature vector and of the carried state.
    pub vector: usize,
    pub features: usize,
    pub state: usize,
    /// SHA-256 of names and order of all feature columns.
    pub feature_hash: String,
    pub satisfaction: Option<SatisfactionHead>,
    /// Class tasks by name.
    pub classes: BTreeMap<String, ClassHead>,
    /// Churn, spend and next need (`future.onnx`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub future: Option<FutureHead>,
    /// Segments and anomaly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behaviour: Option<BehaviourHead>,
    pub training: Training,
    /// Metrics as judged in training, by task.
    pub metrics: serde_json::Value,
    /// SHA-256 by file name, of every other file of the bundle except reports.
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// The version that this content has: the day that the training range ends, and 8 hex digits of the SHA-256 over the manifest itself
    /// (its own version left empty), which holds the hashes of all files.
    ///
    /// # Errors
    /// A manifest that cannot be written as JSON.
    pub fn content_version(&self) -> serde_json::Result<String> {
        let json = serde_json::to_vec(&Self { version: String::new(), ..self.clone() })?;
        let day = self.training.to.get(..10).unwrap_or(&self.training.to);
        Ok(format!("{day}-{}", &super::hex(&Sha256::digest(json))[..8]))
    }
}

/// Logits of (below, at, above 3) → probabilities: softmax(logit × scale + bias).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SatisfactionHead {
    pub scale: f32,
    pub bias: [f32; 3],
    /// Mean rating of the training labels in each class, 1–5.
    pub class_values: [f32; 3],
    /// Mean rating of all training labels: where a baseline starts.
    pub mean: f32,
}

/// Logits → softmax(logit × scale).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassHead {
    pub labels: Vec<String>,
    pub scale: f32,
    /// Largest probability below this: none of the labels. Absent: never said.
    pub unknown_below: Option<f32>,
}

/// What the code and the reconstruction of `autoencoder.onnx` mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BehaviourHead {
    /// SHA-256 over the names of the behaviour features.
    pub feature_hash: String,
    /// Quantiles of the reconstruction error among the training snapshots, evenly spaced from the least error to the largest.
    pub error_quantiles: Vec<f32>,
    /// A segment's id is its place.
    pub segments: Vec<SegmentHead>,
    /// As [`SegmentHead::profile`], of all training snapshots.
    pub profile: BTreeMap<String, f32>,
}

/// A group of customers who behave alike: those whose code is nearest to its centre.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentHead {
    pub label: String,
    /// In the space of the code.
    pub center: Vec<f32>,
    /// Share of the training snapshots, 0–1.
    pub share: f32,
    /// Means of what its customers have done, by name, in days, counts and money.
    pub profile: BTreeMap<String, f32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Event times of the first and last training interaction, RFC 3339.
    pub from: String,
    pub to: String,
    pub customers: usize,
    pub interactions: usize,
    /// SHA-256 over what was read of interactions and labels; absent in older bundles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    pub seed: u64,
    /// SHA-256 of the word vectors that the word table started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vectors: Option<String>,
    /// Version of the bundle that this one started from or was to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    pub horizon_days: u32,
    /// Version of the program, and what its sources were.
    pub code: String,
}
