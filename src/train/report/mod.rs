//! `report.json` and `report.html` of a bundle: how it was made, how good it is beside its baselines, and where it fails.
//!
//! Knows figures that others computed; no network, no data. A section appears where its data is there.

mod ahead;
mod anomaly;
mod learning;
mod page;
mod plot;
mod profiles;
mod shifts;
mod task;

use std::collections::BTreeMap;

pub use anomaly::Anomaly;
pub use learning::AUTOENCODER;
pub use page::judged;
pub use profiles::{Profile, Profiles};
pub use shifts::{Shift, shifts};

use serde::Serialize;

use super::fit::Epoch;
use super::future::judge::FutureReport;
use super::judge::TaskReport;
use super::search::Trial;
use crate::model::Manifest;

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Everything that a report shows. `report.json` is this.
#[derive(Debug, Serialize)]
pub struct Report {
    pub model: String,
    pub data: Data,
    pub tasks: BTreeMap<String, TaskReport>,
    pub epochs: Vec<Epoch>,
    /// The epoch whose weights were kept.
    pub kept_epoch: usize,
    /// Of a search: every trial, the first with the settings as they were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<Trial>,
    /// Outputs of the network where it was fitted and where it was judged.
    pub outputs: Vec<Shift>,
    /// Inputs likewise: the index alone.
    pub inputs: BTreeMap<String, f64>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
    /// Losses of the network of churn, spend and next need, by epoch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub future_epochs: Vec<Epoch>,
    /// The one whose weights were kept; 0: there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub future_kept_epoch: usize,
    /// Losses of the autoencoder and of the dense network of each target, by epoch.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub behaviour_losses: BTreeMap<String, Vec<Epoch>>,
    /// Groups of customers who behave alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<Profiles>,
    /// How unusual the part that judges is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomaly: Option<Anomaly>,
    /// Judgements of churn, spend and next need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub future: Option<FutureReport>,
}

/// Where the data came from and how it was divided.
#[derive(Debug, Serialize)]
pub struct Data {
    pub from: String,
    pub to: String,
    pub customers: usize,
    pub interactions: usize,
    pub labels: usize,
    pub rejected: usize,
    pub late: usize,
    pub duplicates: usize,
    pub seed: u64,
    pub horizon_days: u32,
    /// SHA-256 over what was read.
    pub hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    pub code: String,
    /// How the parts were chosen, in words.
    pub holdout: String,
    pub parts: Vec<PartSize>,
}

#[derive(Debug, Serialize)]
pub struct PartSize {
    pub part: &'static str,
    pub customers: usize,
    pub interactions: usize,
    pub labels: usize,
}

impl Report {
    /// The two files, for the bundle of this manifest.
    ///
    /// # Errors
    /// A plot that cannot be drawn.
    pub fn files(mut self, manifest: &Manifest) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        self.model = manifest.version.clone();
        let mut json = serde_json::to_vec_pretty(&self)?;
        json.push(b'\n');
        Ok(BTreeMap::from([("report.json".to_owned(), json), ("report.html".to_owned(), page::page(&self)?.into_bytes())]))
    }
}

/// Text as HTML shows it.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
