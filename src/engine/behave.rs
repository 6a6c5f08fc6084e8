//! Segment and anomaly: read from the behaviour so far, as of any time.

use super::{Engine, Outcome, Score, Segment, States};
use crate::customer::CustomerState;
use crate::features::behaviour;
use crate::interaction::{Interaction, Timestamp};
use crate::model::Reading;

impl Engine {
    /// One reading per customer and time, after the interactions that its state knows; none where the model has no segments.
    pub(super) fn read(&mut self, rows: &[(&CustomerState, Timestamp)]) -> Result<Vec<Reading>, String> {
        let Some(runner) = &mut self.behaviour else { return Ok(Vec::new()) };
        runner.read(&rows.iter().map(|(state, at)| behaviour(&state.now, *at)).collect::<Vec<_>>())
    }

    /// Completes the scores of these places of the batch, one per customer, after their interactions.
    pub(super) fn behave(
        &mut self,
        batch: &[Interaction],
        places: &[usize],
        states: &States,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(), String> {
        let rows = places.iter().filter_map(|&i| Some((i, (states.get(&batch[i].customer_id)?, batch[i].occurred_at))));
        let (places, rows): (Vec<usize>, Vec<_>) = rows.unzip();
        for (place, reading) in places.into_iter().zip(self.read(&rows)?) {
            if let Some(Outcome::Scored(score)) = &mut outcomes[place] {
                put(score, reading);
            }
        }
        Ok(())
    }
}

pub(super) fn put(score: &mut Score, reading: Reading) {
    score.segment = Some(Segment { id: reading.segment, label: reading.label });
    score.anomaly = Some(reading.anomaly);
}
