//! What the sequence network carries of customers at the times of their snapshots: the hidden vector and its running mean, as serving has them then.
//!
//! Nothing that arrived after a snapshot's last known interaction is read. Knows no head.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::snapshots::Snapshot;
use super::timeline::Timeline;
use crate::interaction::Timestamp;
use crate::train::fit;
use crate::train::holdout::View;
use crate::train::make::Prepared;
use crate::train::network::{Network, Output};
use crate::train::onnx::{self, carried};
use crate::train::record::Recording;

/// The trained network with what turns customers into its sequences.
#[derive(Clone, Copy)]
pub struct Carried<'a> {
    pub network: &'a Network,
    pub prepared: &'a Prepared,
}

/// Interactions that are turned into steps at once.
const AT_ONCE: usize = 1 << 15;

impl Carried<'_> {
    /// Width of the state of `sequence.onnx`, and which of its columns are read.
    pub fn columns(&self) -> (usize, [Range<usize>; 2]) {
        (onnx::widths(self.network).state, carried(&self.network.architecture))
    }

    /// Sets [`Snapshot::carried`]. `timelines` are those of the recording's customers, in order.
    pub fn fill<'s>(&self, recording: &Recording, timelines: &[Timeline<'_>], snapshots: impl Iterator<Item = &'s mut Snapshot>) {
        let mut customers: BTreeMap<usize, Vec<&'s mut Snapshot>> = BTreeMap::new();
        snapshots.for_each(|s| customers.entry(s.customer).or_default().push(s));
        let (mut views, mut wanted, mut room) = (Vec::new(), Vec::new(), AT_ONCE);
        for (number, snapshots) in customers {
            let mut view = View::whole(number, &recording.customers[number]);
            let mut steps: BTreeMap<usize, Vec<&'s mut Snapshot>> = BTreeMap::new();
            let newest = newest(&view);
            for s in snapshots {
                steps.entry(arrived(&newest, &timelines[number], s.known)).or_default().push(s);
            }
            view.items = &view.items[..steps.keys().next_back().copied().unwrap_or(0)];
            room = room.saturating_sub(view.items.len());
            views.push(view);
            wanted.push(steps);
            if room == 0 {
                self.run(&views, &mut wanted);
                (views, wanted, room) = (Vec::new(), Vec::new(), AT_ONCE);
            }
        }
        self.run(&views, &mut wanted);
    }

    /// `wanted` has, for each view, the snapshots that want to know what is carried after so many steps.
    fn run(&self, views: &[View<'_>], wanted: &mut [BTreeMap<usize, Vec<&mut Snapshot>>]) {
        let width = self.network.architecture.hidden;
        let give = |snapshots: &mut Vec<&mut Snapshot>, carried: Arc<[f32]>| {
            snapshots.iter_mut().for_each(|s| s.carried = carried.clone());
        };
        for steps in wanted.iter_mut() {
            if let Some(snapshots) = steps.get_mut(&0) {
                give(snapshots, vec![0.0; 2 * width].into());
            }
        }
        fit::run(self.network, &self.prepared.dataset(views).sequences, |sequence, at, output, row| {
            if let Some(snapshots) = wanted[sequence].get_mut(&(at + 1)) {
                give(snapshots, after(output, row, width));
            }
        });
    }
}

/// Hidden vector and its running mean after a step.
fn after(output: &Output, row: usize, width: usize) -> Arc<[f32]> {
    let mean = output.means.len() / (output.hidden.len() / width);
    output.hidden[row * width..][..width].iter().chain(&output.means[row * mean..][..width]).copied().collect()
}

/// For every interaction in order of arrival the newest time so far.
fn newest(view: &View<'_>) -> Vec<Timestamp> {
    let mut newest = Timestamp(i64::MIN);
    let later = |item: &crate::customer::Item| {
        newest = newest.max(item.occurred_at);
        newest
    };
    view.items.iter().map(later).collect()
}

/// How many interactions had arrived before any that is not among the first `known` of the timeline.
fn arrived(newest: &[Timestamp], timeline: &Timeline<'_>, known: usize) -> usize {
    let Some(last) = known.checked_sub(1).map(|i| timeline.items[i].occurred_at) else { return 0 };
    newest.partition_point(|t| *t <= last).min(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::Actor;
    use crate::train::dataset::{Sequence, Step};
    use crate::train::future::timeline::tests::customer;
    use crate::train::network::Architecture;

    #[test]
    fn training_reads_the_columns_of_the_state_that_serving_reads() {
        let architecture = Architecture { hidden: 5, ..Architecture::small() };
        let step = |n: u32| Step {
            tokens: vec![2 + n % 10],
            bag: vec![1 + n % 8],
            features: vec![(n as f32).sin(), 1.0],
            actor: Actor::Customer,
            satisfaction: None,
            classes: vec![],
        };
        let sequence = Sequence { customer: "c".into(), steps: (0..40).map(step).collect() };
        let mut seen = 0;
        fit::run(&Network::new(architecture.clone(), 3), &[sequence], |_, at, output, row| {
            if at == 39 {
                let state = output.carry.state();
                let columns: Vec<f32> = carried(&architecture).into_iter().flat_map(|c| state[c].to_vec()).collect();
                assert_eq!(*after(output, row, architecture.hidden), *columns);
                seen += 1;
            }
        });
        assert_eq!(seen, 1);
    }

    #[test]
    fn nothing_that_arrived_after_the_last_known_interaction_is_read() {
        // In order of arrival; the third is late by two days.
        let days = [1, 4, 2, 5, 5, 6];
        let rows: Vec<String> = days.iter().map(|d| format!("2024-01-0{d}T10:00:00Z")).collect();
        let customer = customer("c", &rows.iter().map(|t| (t.as_str(), r#""kind":"visit""#)).collect::<Vec<_>>());
        let timeline = Timeline::new(&customer);
        let newest = newest(&View::whole(0, &customer));
        let of: Vec<usize> = (0..=days.len()).map(|known| arrived(&newest, &timeline, known)).collect();
        // Known of the second, by time, is not what arrived third; of two at one time, one may be known.
        assert_eq!(of, [0, 1, 1, 3, 4, 5, 6]);
    }
}
