//! The distributions of a network's inputs and outputs where it was trained, and how those of the judged part differ.
//!
//! Knows the network, its calibration and sequences; the bins are those of [`crate::model::drift`].

use std::sync::Arc;

use super::dataset::{Dataset, Sequence};
use super::fit;
use super::holdout::View;
use super::make::{CLASSES, Heads, Prepared, value};
use super::metrics::argmax;
use super::network::Network;
use crate::customer::Counters;
use crate::features::{self, BEHAVIOUR};
use crate::model::drift::{Column, Histogram};
use crate::model::{BehaviourModel, BehaviourRunner, Reference, Watch};

/// About so many steps are enough for ten bins.
const STEPS: usize = 50_000;

/// Every n-th sequence, so that about [`STEPS`] steps remain.
fn sample(data: &Dataset) -> Vec<Sequence> {
    let steps: usize = data.sequences.iter().map(|s| s.steps.len()).sum();
    data.sequences.iter().step_by(steps.div_ceil(STEPS).max(1)).cloned().collect()
}

/// What the network says of one step.
struct Said<'a> {
    sequence: usize,
    step: usize,
    /// Calibrated probabilities of satisfaction, and the expected rating.
    satisfaction: Option<(Vec<f32>, f32)>,
    /// The likeliest label of each class task that is an output.
    labels: Vec<(&'a str, &'a str)>,
}

fn run(network: &Network, prepared: &Prepared, heads: &Heads, sequences: &[Sequence], mut each: impl FnMut(Said<'_>)) {
    fit::run(network, sequences, |sequence, step, output, row| {
        let satisfaction = prepared.satisfaction.then(|| {
            let p = heads.satisfaction.apply(&output.satisfaction[row * CLASSES..][..CLASSES]);
            let value = value(&p, prepared);
            (p, value)
        });
        let tasks = prepared.tasks.iter().zip(&output.classes).filter(|(task, _)| !task.auxiliary);
        let labels = tasks.map(|(task, logits)| {
            let k = task.labels.len();
            (&*task.name, &*task.labels[argmax(&logits[row * k..][..k])])
        });
        let labels = labels.collect();
        each(Said { sequence, step, satisfaction, labels });
    });
}

/// Fewest steps, of those that were not fitted on, from which outputs are taken.
pub const FEWEST: usize = 20;
/// Fewest of them for each label of a task, for the same.
pub const ROWS_PER_LABEL: usize = 10;

/// Histograms: of inputs over the part that was fitted on; of outputs over `unseen`, customers of the same time that were not, for what was learnt by
/// heart is said more surely than anything to come. Where there are too few of them, over what was fitted on.
pub fn reference(network: &Network, prepared: &Prepared, heads: &Heads, fitted: &Dataset, unseen: Option<&Dataset>) -> Reference {
    let sequences = sample(fitted);
    let unseen = unseen.map(sample).filter(|sequences| sequences.iter().map(|s| s.steps.len()).sum::<usize>() >= FEWEST);
    let told = unseen.as_ref().unwrap_or(&sequences);
    let steps = || sequences.iter().flat_map(|s| &s.steps);
    let inputs = prepared.layout.columns().enumerate();
    let inputs = inputs.map(|(i, name)| Column { name, histogram: Histogram::of_numbers(steps().map(|s| s.features[i]).collect()) });
    let (mut dissatisfied, mut values) = (Vec::new(), Vec::new());
    let mut tasks: std::collections::BTreeMap<String, Vec<String>> = Default::default();
    run(network, prepared, heads, told, |said| {
        if let Some((p, value)) = said.satisfaction {
            dissatisfied.push(p[0]);
            values.push(value);
        }
        for (task, label) in said.labels {
            tasks.entry(task.to_owned()).or_default().push(label.to_owned());
        }
    });
    // Of many labels some are missing in a few steps, which would look like drift for good.
    let few: Vec<&str> = prepared
        .tasks
        .iter()
        .filter(|t| tasks.get(&*t.name).is_some_and(|said| said.len() < ROWS_PER_LABEL * t.labels.len()))
        .map(|t| &*t.name)
        .collect();
    if !few.is_empty() && unseen.is_some() {
        tasks.retain(|task, _| !few.contains(&task.as_str()));
        run(network, prepared, heads, &sequences, |said| {
            for (task, label) in said.labels.into_iter().filter(|(task, _)| few.contains(task)) {
                tasks.entry(task.to_owned()).or_default().push(label.to_owned());
            }
        });
    }
    let mut outputs = Vec::new();
    if prepared.satisfaction {
        outputs.push(Column { name: "satisfaction.dissatisfied".into(), histogram: Histogram::of_numbers(dissatisfied) });
        outputs.push(Column { name: "satisfaction.value".into(), histogram: Histogram::of_numbers(values) });
    }
    for (name, labels) in tasks {
        outputs.push(Column { name, histogram: Histogram::of_labels(labels.iter().map(String::as_str)) });
    }
    Reference { inputs: inputs.collect(), behaviour: Vec::new(), outputs }
}

/// Behaviour right after interactions of the part that was fitted on, and what segments and anomaly say of it; and the same of the judged part,
/// counted in these bins.
///
/// # Errors
/// tract's message; does not happen with a model that was built.
pub fn behaviour(
    model: Option<&Arc<BehaviourModel>>,
    fitted: &[View<'_>],
    judged: &[View<'_>],
) -> anyhow::Result<(Reference, Option<Watch>)> {
    let rows = behaviour_rows(fitted);
    let values = |i: usize| rows.iter().map(|row| row[i]).collect();
    let columns = BEHAVIOUR.iter().enumerate();
    let columns = columns.map(|(i, name)| Column { name: format!("behaviour.{name}"), histogram: Histogram::of_numbers(values(i)) });
    let mut reference = Reference { behaviour: columns.collect(), ..Reference::default() };
    let mut runner = model.map(BehaviourRunner::new).transpose().map_err(anyhow::Error::msg)?;
    if let Some(runner) = &mut runner {
        let said = runner.read(&rows).map_err(anyhow::Error::msg)?;
        let segment = Histogram::of_labels(said.iter().map(|s| s.label.as_str()));
        reference.outputs.push(Column { name: "segment".into(), histogram: segment });
        reference
            .outputs
            .push(Column { name: "anomaly".into(), histogram: Histogram::of_numbers(said.iter().map(|s| s.anomaly).collect()) });
    }
    let mut watch = Watch::new(Arc::new(reference.clone()));
    let rows = behaviour_rows(judged);
    rows.iter().for_each(|row| watch.behaviour(row));
    if let Some(runner) = &mut runner {
        for said in runner.read(&rows).map_err(anyhow::Error::msg)? {
            watch.label("segment", said.label.as_str());
            watch.number("anomaly", said.anomaly);
        }
    }
    Ok((reference, Some(watch)))
}

/// Right after every n-th interaction of the part itself, about [`STEPS`] of them.
fn behaviour_rows(views: &[View<'_>]) -> Vec<[f32; BEHAVIOUR.len()]> {
    let all: usize = views.iter().map(|view| view.own().count()).sum();
    let every = all.div_ceil(STEPS).max(1);
    let (mut rows, mut passed) = (Vec::new(), 0usize);
    for view in views {
        let mut counters = Counters::default();
        for (i, item) in view.items.iter().enumerate() {
            counters.add(item);
            if view.contains(i) {
                if passed.is_multiple_of(every) {
                    rows.push(features::behaviour(&counters, item.occurred_at));
                }
                passed += 1;
            }
        }
    }
    rows
}

/// Counts the steps of the judged part in the bins of the reference. `is_judged` says of (sequence, step) whether it belongs to it.
pub fn watch(
    network: &Network,
    prepared: &Prepared,
    heads: &Heads,
    reference: &Reference,
    judged: &Dataset,
    is_judged: impl Fn(usize, usize) -> bool,
) -> Watch {
    let mut watch = Watch::new(Arc::new(reference.clone()));
    run(network, prepared, heads, &judged.sequences, |said| {
        if !is_judged(said.sequence, said.step) {
            return;
        }
        watch.input(&judged.sequences[said.sequence].steps[said.step].features);
        if let Some((p, value)) = said.satisfaction {
            watch.number("satisfaction.dissatisfied", p[0]);
            watch.number("satisfaction.value", value);
        }
        for (task, label) in said.labels {
            watch.label(task, label);
        }
    });
    watch
}
