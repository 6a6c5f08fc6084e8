//! Segment and anomaly: read from the behaviour so far, as of any time.

use super::look::Looks;
use super::{Engine, Score, Segment};
use crate::model::Reading;

impl Engine {
    /// One reading per look, in order; none where the model has no segments.
    pub(super) fn read(&mut self, looks: &Looks) -> Result<Vec<Reading>, String> {
        let Some(runner) = &mut self.behaviour else { return Ok(Vec::new()) };
        runner.read(&looks.behaviour)
    }
}

pub(super) fn put(score: &mut Score, reading: Reading) {
    score.segment = Some(Segment { id: reading.segment, label: reading.label });
    score.anomaly = Some(reading.anomaly);
}
