//! Model bundles: what is in the directory, running its graphs through tract, and the registry of versions.
//!
//! Knows rows of numbers; no customers' states, scores or alerts.

mod behaviour;
mod bgnbd;
mod bundle;
pub mod drift;
pub mod future;
mod layout;
mod manifest;
mod plan;
mod pool;
mod preprocessing;
pub mod registry;
mod rows;
mod tabular;
mod tokenizer;

pub use behaviour::{BehaviourModel, BehaviourRunner, Reading, reconstruction_error};
pub use bgnbd::{BgNbd, ln_sum};
pub use bundle::{BundleError, ClassTask, Golden, GoldenRow, GoldenStep, Model};
pub use drift::{Reference, Watch};
pub use future::{ChurnHead, Expected, Future, FutureGolden, FutureHead, Horizon, SpendHead, return_logit};
pub use layout::Layout;
pub use manifest::{BehaviourHead, ClassHead, FORMAT, Manifest, SatisfactionHead, SegmentHead, Training};
pub use plan::{Runner, Step};
pub use preprocessing::{OneHot, Pipeline, Transform, behaviour_hash};
pub use rows::{RowGraph, RowRunner};
pub use tabular::{CHURN, DISSATISFIED, TabularInput, TabularModel, TabularRunner};
pub use tokenizer::{PAD, TextInput, Tokenizer, TokenizerFile, UNKNOWN};

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
