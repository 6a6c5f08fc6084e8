//! Which segment a customer belonged to at every judged row, as the engine says it: after that interaction, as of its time.
//!
//! Knows judged rows, recorded customers and the bundle's part for behaviour; nothing is fitted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::judge::Judged;
use super::record::Recording;
use crate::customer::Counters;
use crate::features::behaviour;
use crate::model::{BehaviourModel, BehaviourRunner};

/// Sets the segment of every row.
///
/// # Errors
/// tract's message; does not happen for a model that was built.
pub fn fill(rows: &mut [Judged], part: &Arc<BehaviourModel>, recording: &Recording) -> anyhow::Result<()> {
    let mut runner = BehaviourRunner::new(part).map_err(anyhow::Error::msg)?;
    let mut places: BTreeMap<u32, BTreeMap<u32, usize>> = BTreeMap::new();
    for (i, j) in rows.iter().enumerate() {
        places.entry(j.who.customer).or_default().insert(j.who.place, i);
    }
    let (mut numbers, mut features) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for (customer, places) in places {
        let mut so_far = Counters::default();
        for (place, item) in (0..).zip(&recording.customers[customer as usize].items) {
            so_far.add(item);
            if let Some(&row) = places.get(&place) {
                numbers.push(row);
                features.push(behaviour(&so_far, item.occurred_at));
            }
        }
    }
    for (row, reading) in numbers.into_iter().zip(runner.read(&features).map_err(anyhow::Error::msg)?) {
        rows[row].who.segment = reading.segment + 1;
    }
    Ok(())
}
