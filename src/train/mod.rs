//! Training, evaluation and the writing of model bundles.
//!
//! What needs burn is behind the feature `train`; recording, the tf-idf baseline and evaluation are not.

#[cfg(feature = "train")]
mod calibrate;
#[cfg(feature = "train")]
mod checkpoint;
#[cfg(feature = "train")]
pub mod config;
#[cfg(feature = "train")]
pub mod dataset;
#[cfg(feature = "train")]
mod device;
#[cfg(feature = "train")]
pub mod drifted;
#[cfg(feature = "train")]
mod fit;
#[cfg(feature = "train")]
mod floats;
#[cfg(feature = "train")]
mod lineage;
#[cfg(feature = "train")]
mod lookup;
#[cfg(feature = "train")]
pub mod make;
#[cfg(feature = "train")]
mod network;
#[cfg(feature = "train")]
mod onnx;
#[cfg(feature = "train")]
mod optimizer;
#[cfg(feature = "train")]
mod prepare;
#[cfg(feature = "train")]
mod preprocess;
#[cfg(feature = "train")]
mod reference;
#[cfg(feature = "train")]
mod report;
#[cfg(feature = "train")]
mod stack;
#[cfg(feature = "train")]
pub use report::judged as page;
#[cfg(feature = "train")]
mod search;
#[cfg(feature = "train")]
mod segments;
#[cfg(feature = "train")]
mod shape;
#[cfg(feature = "train")]
pub mod vectors;
#[cfg(feature = "train")]
pub mod write;

pub mod bootstrap;
pub mod compare;
pub mod evaluate;
pub mod future;
pub mod holdout;
#[cfg(feature = "train")]
pub mod intercepts;
pub mod judge;
#[cfg(feature = "train")]
mod membership;
pub mod metrics;
pub mod record;
pub mod slices;
pub mod tabular;
pub mod tfidf;

/// Names of the classes of satisfaction, as scores have them.
pub const SATISFACTION_CLASSES: [&str; 3] = ["dissatisfied", "neutral", "satisfied"];

/// Name of the tf-idf baseline in reports.
pub const TFIDF: &str = "tfidf";

/// The class of a mean rating: 0 below 3, 1 exactly 3, 2 above 3.
pub fn satisfaction_class(mean: f32) -> usize {
    // Means of raters come as rounded decimals: what prints as 3.00 is a 3.
    if mean < 3.0 - 1e-4 {
        0
    } else if mean <= 3.0 + 1e-4 {
        1
    } else {
        2
    }
}
