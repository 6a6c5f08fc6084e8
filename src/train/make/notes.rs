//! What a run says while it works, and what of it the report repeats.

use super::Progress;
use crate::cli::{UNSORTED, is_unsorted};
use crate::train::record::Recording;

/// Passes notes on to the caller and remembers what was left out.
pub struct Notes<'a> {
    progress: &'a mut dyn FnMut(Progress<'_>),
    left_out: Vec<String>,
}

impl<'a> Notes<'a> {
    pub fn new(progress: &'a mut dyn FnMut(Progress<'_>)) -> Self {
        Self { progress, left_out: Vec::new() }
    }

    /// Says something that only matters now.
    pub fn say(&mut self, text: impl AsRef<str>) {
        (self.progress)(Progress::Note(text.as_ref()));
    }

    /// Says what was left out and why; the report says it again.
    pub fn left_out(&mut self, what: String) {
        self.say(format!("left out: {what}"));
        self.left_out.push(what);
    }

    /// Says what begins now.
    pub fn stage(&mut self, what: &str) {
        (self.progress)(Progress::Stage(what));
    }

    /// How far the present fit is (0–1), and its loss.
    pub fn fit(&mut self, what: &str, done: f32, loss: f32) {
        (self.progress)(Progress::Fit(what, done, loss));
    }

    /// What share of the customers is kept, where that is not all.
    pub fn sampled(&mut self, recording: &Recording, most: usize) {
        if let Some(share) = recording.sampled {
            self.left_out(format!(
                "{:.1} % of customers: sampled {:.1} % for max_interactions = {most} (train.toml or --max-interactions; 0 keeps all)",
                100.0 - 100.0 * share,
                100.0 * share
            ));
        }
    }

    /// What became of the lines read.
    pub fn counts(&mut self, recording: &Recording) {
        let counts = &recording.counts;
        self.say(format!(
            "{} interactions, {} labels; {} rejected, {} duplicates",
            counts.interactions, counts.labels, counts.rejected, counts.duplicates
        ));
        if let Some(first) = &recording.first_rejected {
            self.say(format!("first rejected, {first}"));
        }
        if counts.rejected > counts.interactions {
            self.left_out(format!("most of the records: {} of {} were rejected", counts.rejected, counts.rejected + counts.interactions));
        }
        if is_unsorted(counts.late, counts.interactions + counts.rejected) {
            self.say(format!("{} interactions were late: {UNSORTED}", counts.late));
        }
        if counts.labels_without_interaction > 0 {
            self.left_out(format!("{} labels, which name no accepted interaction", counts.labels_without_interaction));
        }
        if counts.labels_already_read > 0 {
            self.left_out(format!("{} ratings, which rate an interaction after they were read", counts.labels_already_read));
        }
    }

    /// All that was left out.
    pub fn into_left_out(self) -> Vec<String> {
        self.left_out
    }
}
