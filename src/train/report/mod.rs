//! `report.json` and `report.html` of a bundle: how it was made, how good it is beside its baselines, and where it fails.
//!
//! Knows figures that others computed; no network, no data. A section appears where its data is there.

mod ahead;
mod page;
mod plot;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::fit::Epoch;
use super::future::judge::FutureReport;
use super::judge::TaskReport;
use super::search::Trial;
use crate::model::drift::Histogram;
use crate::model::{Manifest, Watch};

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
    /// Groups of customers who behave alike, as in the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behaviour: Option<Value>,
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

/// One output's distribution in the fitted and in the judged part.
#[derive(Debug, Serialize)]
pub struct Shift {
    pub name: String,
    pub psi: f64,
    /// Bins in words.
    pub bins: Vec<String>,
    /// Shares of the bins.
    pub fitted: Vec<f64>,
    pub judged: Vec<f64>,
}

/// The outputs' shifts that a watch of the judged part shows.
pub fn shifts(watch: &Watch) -> Vec<Shift> {
    let shares = |counts: &[u64]| {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        counts.iter().map(|n| *n as f64 / total).collect::<Vec<f64>>()
    };
    let shift = |(column, judged): (&crate::model::drift::Column, &[u64])| {
        let bins = match &column.histogram {
            Histogram::Numbers { edges, .. } => (0..=edges.len()).map(|i| bin(edges, i)).collect(),
            Histogram::Labels { labels, .. } => labels.iter().cloned().chain(["other".to_owned()]).collect(),
        };
        let fitted = shares(column.histogram.counts());
        Shift { name: column.name.clone(), psi: column.histogram.psi(judged), bins, fitted, judged: shares(judged) }
    };
    watch.outputs().map(shift).collect()
}

fn bin(edges: &[f32], i: usize) -> String {
    match (i.checked_sub(1).and_then(|i| edges.get(i)), edges.get(i)) {
        (None, None) => "all".into(),
        (None, Some(to)) => format!("≤ {to:.2}"),
        (Some(from), None) => format!("> {from:.2}"),
        (Some(from), Some(to)) => format!("{from:.2}–{to:.2}"),
    }
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
