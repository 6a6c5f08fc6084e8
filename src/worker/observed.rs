//! What a batch will have counted for once it is committed. Kept until then, so that an aborted batch is not counted twice.

use super::shadow::Disagreement;
use crate::alert::Alert;
use crate::engine::Outcome;
use crate::interaction::{Decoded, Interaction, Reject, RejectClass, Timestamp};
use crate::log::{Commit, Record};
use crate::metrics::{self, EventOutcome};

#[derive(Default)]
pub(super) struct Observed {
    /// Unknown fields and whether the text was cut, of the interactions that had either.
    tolerated: Vec<(usize, bool)>,
    /// Kind of each record, where it could be read, and what became of it.
    outcomes: Vec<(Option<Box<str>>, EventOutcome)>,
    rejects: Vec<RejectClass>,
    /// Kind and state of each alert, as published.
    alerts: Vec<(String, String)>,
    /// Customers whose window was run again for a new model.
    pub rebuilt: usize,
    challenged: Vec<Disagreement>,
}

impl Observed {
    pub fn tolerated(&mut self, decoded: &Decoded) {
        if decoded.unknown_fields > 0 || decoded.text_cut {
            self.tolerated.push((decoded.unknown_fields, decoded.text_cut));
        }
    }

    pub fn rejected(&mut self, kind: Option<&str>, reject: &Reject) {
        self.rejects.push(reject.class);
        self.outcomes.push((kind.map(Box::from), EventOutcome::Rejected));
    }

    pub fn outcome(&mut self, interaction: &Interaction, outcome: &Outcome) {
        match outcome {
            Outcome::Scored(_) => self.outcomes.push((Some(interaction.kind.clone()), EventOutcome::Scored)),
            Outcome::Duplicate => self.outcomes.push((Some(interaction.kind.clone()), EventOutcome::Duplicate)),
            Outcome::Rejected(reject) => self.rejected(Some(&interaction.kind), reject),
        }
    }

    pub fn alert(&mut self, alert: &Alert) {
        self.alerts.push((published_name(&alert.kind), published_name(&alert.state)));
    }

    pub fn challenged(&mut self, disagreement: Disagreement) {
        self.challenged.push(disagreement);
    }

    /// Counts it all, after the commit.
    pub fn report(self, records: &[Record], commit: &Commit, committed_at: Timestamp) {
        metrics::batch(records.len());
        for (unknown_fields, text_cut) in self.tolerated {
            metrics::tolerated(unknown_fields, text_cut);
        }
        for (kind, outcome) in &self.outcomes {
            metrics::event(kind.as_deref(), *outcome);
        }
        for class in self.rejects {
            metrics::reject(class);
        }
        for (kind, state) in &self.alerts {
            metrics::alert(kind, state);
        }
        metrics::rebuilt(self.rebuilt);
        for disagreement in &self.challenged {
            metrics::shadow_score(&disagreement.numbers, &disagreement.classes);
        }
        for change in &commit.states {
            metrics::customer_state_bytes(change.state.as_ref().map_or(0, Vec::len));
        }
        for logged_at in records.iter().filter_map(|r| r.logged_at) {
            metrics::event_to_commit(logged_at, committed_at);
        }
    }
}

/// The name that a unit of an enum has in published JSON.
fn published_name(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default()
}
