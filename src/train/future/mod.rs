//! Churn, spend and next need: labels of the future, the network that learns them, its baselines, and how good it is.
//!
//! Training is behind the feature `train`; judging and the baselines' forms are not.

pub mod baselines;
#[cfg(feature = "train")]
pub mod carried;
pub mod death;
#[cfg(feature = "train")]
mod export;
#[cfg(feature = "train")]
mod fit;
#[cfg(feature = "train")]
mod fit_baselines;
pub mod judge;
pub mod level;
#[cfg(feature = "train")]
mod network;
#[cfg(feature = "train")]
mod snapshots;
mod special;
pub mod timeline;
#[cfg(feature = "train")]
pub mod train;

use super::record::Recording;
use crate::interaction::Timestamp;

/// Up to when it is known that nothing more happened: where the input was cut, else the end of the last interaction's day.
pub fn end_of_data(recording: &Recording) -> Option<Timestamp> {
    let day = Timestamp::MICROS_PER_DAY;
    recording.until.or_else(|| recording.to.map(|t| Timestamp((t.0.div_euclid(day) + 1) * day)))
}
