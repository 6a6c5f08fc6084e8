//! Model bundles: what is in the directory, and running its graphs through tract.
//!
//! Knows rows of numbers; no customers' states, scores or alerts.

mod bundle;
pub mod drift;
pub mod future;
mod layout;
mod manifest;
mod plan;
mod pool;
mod tokenizer;

pub use bundle::{BundleError, ClassTask, Golden, GoldenStep, Model};
pub use drift::{Reference, Watch};
pub use future::{ChurnHead, Expected, Future, FutureGolden, FutureHead, Horizon, SpendHead, return_logit};
pub use layout::Layout;
pub use manifest::{ClassHead, FORMAT, Manifest, SatisfactionHead, Training};
pub use plan::{Runner, Step};
pub use tokenizer::{PAD, TextInput, Tokenizer, TokenizerFile, UNKNOWN};

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
