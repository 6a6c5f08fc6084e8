//! The bundle's dense network beside a task of three classes: both are judged on one thing alone, dissatisfied or not.
//!
//! Knows judged rows and recorded customers; nothing is fitted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::judge::{Judged, Task, TaskReport, report};
use super::metrics::Row;
use super::record::Recording;
use crate::customer::Counters;
use crate::model::{DISSATISFIED, TabularModel, TabularRunner};

/// Name of the baseline in reports.
pub const TABULAR: &str = "tabular";
/// What it is judged on.
const BINARY: &str = "dissatisfied or not";

/// Puts the baseline into the report of satisfaction on these rows; nothing where the network has no such target.
///
/// # Errors
/// tract's message; does not happen for a model that was loaded or has just been made.
pub fn add(
    into: &mut TaskReport,
    task: &Task<'_>,
    rows: &[Judged],
    model: &Arc<TabularModel>,
    recording: &Recording,
) -> anyhow::Result<()> {
    let mut runner = TabularRunner::new(model).map_err(anyhow::Error::msg)?;
    let Some(said) = runner.predict(DISSATISFIED, inputs(rows, model, recording)).map_err(anyhow::Error::msg)? else { return Ok(()) };
    let binary = |p: f32, row: &Row| Row::new(&[p, 1.0 - p], usize::from(row.label != 0), Some(0));
    let own: Vec<Judged> = rows.iter().map(|j| Judged { row: binary(j.row.p[0], &j.row), rating: None, who: j.who }).collect();
    let theirs: Vec<Row> = rows.iter().zip(said).map(|(j, p)| binary(p, &j.row)).collect();
    let task = Task { labels: vec!["dissatisfied".into(), "not".into()], event: Some(0), ..task.clone() };
    let Some(mut judged) = report(&task, &own, &[(TABULAR, theirs)]) else { return Ok(()) };
    if let Some(mut baseline) = judged.baselines.remove(TABULAR) {
        baseline.of = Some(BINARY);
        into.baselines.insert(TABULAR, baseline);
    }
    let verdicts = judged.verdicts.iter().filter(|v| v.contains(TABULAR)).map(|v| v.replace(TABULAR, &format!("{TABULAR} ({BINARY})")));
    let mut verdicts: Vec<String> = verdicts.collect();
    if let (Some(first), Some(theirs)) = (verdicts.first_mut(), into.baselines.get(TABULAR)) {
        let [own, theirs] = [judged.quality.macro_f1, theirs.quality.macro_f1].map(|f1| 100.0 * f1);
        *first += &format!(" Macro-F1 of {BINARY}: {own:.1} against {theirs:.1}.");
    }
    into.verdicts.splice(0..0, verdicts);
    Ok(())
}

/// The network's columns for every row, as of its interaction and before it.
fn inputs(rows: &[Judged], model: &TabularModel, recording: &Recording) -> Vec<Vec<f64>> {
    let mut inputs = vec![Vec::new(); rows.len()];
    let mut places: BTreeMap<u32, BTreeMap<u32, usize>> = BTreeMap::new();
    for (i, j) in rows.iter().enumerate() {
        places.entry(j.who.customer).or_default().insert(j.who.place, i);
    }
    for (customer, places) in places {
        let mut before = Counters::default();
        for (place, item) in (0..).zip(&recording.customers[customer as usize].items) {
            if let Some(&row) = places.get(&place) {
                inputs[row] = model.input.row(&before, item.kind, item.channel, item.occurred_at);
            }
            before.add(item);
        }
    }
    inputs
}
