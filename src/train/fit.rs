//! The training loop: batches of whole sequences, truncated back-propagation with carried state, dropout of words and n-grams.
//!
//! Knows the data set and the network; nothing of files or bundles. Same data, settings and seed give the same weights.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::dataset::{Dataset, Sequence, Step};
use super::lookup::Text;
use super::network::{Architecture, Batch, Carry, Dropout, Losses, Network, Output};
use super::optimizer::{self, Optimizer};

/// Row of the word table that stands for a word it does not know.
const UNKNOWN: u32 = 1;
/// A sequence this long counts as one conversation of a batch; shorter ones count less, so that single texts come in larger batches.
const CONVERSATION: usize = 8;

/// Settings of [`fit`].
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub epochs: usize,
    /// Most steps of the optimiser; 0: no bound.
    pub max_steps: usize,
    /// Conversations per batch.
    pub batch: usize,
    /// Steps of back-propagation through time.
    pub chunk: usize,
    pub dropout: f32,
    pub word_dropout: f32,
    pub bag_dropout: f32,
    /// Weight of the squared error of the mean rating.
    pub mean_loss: f32,
    /// Weight of every class task beside satisfaction.
    pub class_loss: f32,
    pub smoothing: f32,
    /// Epochs without a lower loss on the calibration part after which to stop and keep the best; 0: never.
    pub patience: usize,
    pub optimizer: optimizer::Settings,
}

/// One batch of sequences, by index, longest first.
type Plan = Vec<Vec<usize>>;

fn plan(sequences: &[Sequence], settings: &Settings, rng: &mut SmallRng) -> Plan {
    let mut order: Vec<usize> = (0..sequences.len()).filter(|&i| sequences[i].steps.iter().any(Step::is_labelled)).collect();
    order.shuffle(rng);
    let mut batches: Plan = Vec::new();
    let mut room = 0;
    for i in order {
        if room == 0 {
            batches.push(Vec::new());
            room = settings.batch * CONVERSATION;
        }
        if let Some(last) = batches.last_mut() {
            last.push(i);
        }
        room = room.saturating_sub(sequences[i].steps.len().min(CONVERSATION));
    }
    for batch in &mut batches {
        batch.sort_by_key(|&i| std::cmp::Reverse(sequences[i].steps.len()));
    }
    batches
}

/// Chunks of a batch in which some step has a label: the optimiser's steps.
fn labelled_chunks(sequences: &[Sequence], batch: &[usize], chunk: usize) -> usize {
    let longest = sequences[batch[0]].steps.len();
    (0..longest.div_ceil(chunk))
        .filter(|c| batch.iter().any(|&i| sequences[i].steps.iter().skip(c * chunk).take(chunk).any(Step::is_labelled)))
        .count()
}

/// Steps `[chunk · size, …)` of the sequences of a batch, packed.
fn pack<'a>(sequences: &[&'a Sequence], from: usize, size: usize, tasks: usize, carry: Carry) -> (Batch<'a>, Vec<(usize, usize)>) {
    let mut batch = Batch { counts: vec![], texts: vec![], features: vec![], ratings: vec![], classes: vec![vec![]; tasks], carry };
    let mut origins = Vec::new();
    for t in from..from + size {
        let count = sequences.iter().take_while(|s| s.steps.len() > t).count();
        if count == 0 {
            break;
        }
        batch.counts.push(count);
        for (s, sequence) in sequences[..count].iter().enumerate() {
            let step = &sequence.steps[t];
            let row = batch.texts.len();
            batch.texts.push(Text { tokens: &step.tokens, bag: &step.bag });
            batch.features.extend_from_slice(&step.features);
            batch.ratings.extend(step.satisfaction.map(|mean| (row, mean)));
            for (task, label) in step.classes.iter().enumerate() {
                batch.classes[task].extend(label.map(|label| (row, label)));
            }
            origins.push((s, t));
        }
    }
    (batch, origins)
}

/// Losses of one epoch, per label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Epoch {
    pub epoch: usize,
    /// Mean over the steps of the epoch, with dropout.
    pub fit: f32,
    /// After the epoch, of the averaged weights on the calibration part, without dropout. Absent where nothing is labelled there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<f32>,
}

/// A trained network and how it came about.
#[derive(Debug)]
pub struct Fitted {
    pub network: Network,
    pub epochs: Vec<Epoch>,
    /// The epoch whose weights were kept, from 1 on; the last unless stopped early.
    pub kept: usize,
}

/// Trains a network. `calibration` is looked at after every epoch: for the curve, and to stop where [`Settings::patience`] asks for it.
/// `progress` is told the share done (0–1) and the loss after every step.
pub fn fit(
    data: &Dataset,
    calibration: &Dataset,
    architecture: Architecture,
    settings: &Settings,
    seed: u64,
    mut progress: impl FnMut(f32, f32),
) -> Fitted {
    let mut network = Network::new(architecture, seed);
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x5eed);
    let plans: Vec<Plan> = (0..settings.epochs).map(|_| plan(&data.sequences, settings, &mut rng)).collect();
    let total: usize = plans.iter().flatten().map(|b| labelled_chunks(&data.sequences, b, settings.chunk)).sum();
    let losses = losses(data, settings, total as f32 / settings.epochs.max(1) as f32);
    let total = if settings.max_steps > 0 { total.min(settings.max_steps) } else { total };
    let mut optimizer = Optimizer::new(settings.optimizer, total, &network.parameters);
    let mut gradients: Vec<Vec<f32>> = network.parameters.iter().map(|p| vec![0.0; p.values.len()]).collect();
    let mut done = 0;
    let mut epochs = Vec::new();
    let mut best: Option<(f32, usize, Network)> = None;
    for (epoch, plan) in plans.iter().enumerate() {
        let (mut sum, before) = (0.0f64, done);
        for members in plan {
            if done == total {
                break;
            }
            let thinned: Vec<Sequence> = members.iter().map(|&i| thin(&data.sequences[i], settings, &mut rng)).collect();
            let sequences: Vec<&Sequence> = thinned.iter().collect();
            let mut carry = Carry::start(sequences.len(), &network.architecture);
            for from in (0..sequences[0].steps.len()).step_by(settings.chunk) {
                carry.truncate(sequences.iter().take_while(|s| s.steps.len() > from).count(), &network.architecture);
                let (batch, _) = pack(&sequences, from, settings.chunk, data.tasks.len(), carry);
                let labelled = !batch.ratings.is_empty() || batch.classes.iter().any(|c| !c.is_empty());
                let dropout = Dropout { rate: settings.dropout, rng: &mut rng };
                let (loss, next) = network.learn(&batch, &losses, Some(dropout), &mut gradients);
                carry = next;
                if labelled && done < total {
                    optimizer.step(&mut network.parameters, &mut gradients);
                    done += 1;
                    sum += f64::from(loss);
                    progress(done as f32 / total as f32, loss);
                }
            }
        }
        let averaged = Network { architecture: network.architecture.clone(), parameters: optimizer.averaged(&network.parameters) };
        let calibration = held_out_loss(&averaged, calibration, &losses, settings.chunk);
        epochs.push(Epoch { epoch: epoch + 1, fit: (sum / (done - before).max(1) as f64) as f32, calibration });
        let better = calibration.is_some_and(|loss| best.as_ref().is_none_or(|b| loss < b.0));
        if settings.patience == 0 || calibration.is_none() || better {
            best = Some((calibration.unwrap_or(f32::INFINITY), epoch + 1, averaged));
        } else if best.as_ref().is_some_and(|b| epoch + 1 >= b.1 + settings.patience) {
            break;
        }
        if done == total {
            break;
        }
    }
    let (network, kept) = best.map_or((network, 0), |(_, epoch, network)| (network, epoch));
    Fitted { network, epochs, kept }
}

/// The loss per label on data that is not fitted on; `None` where it has no label.
fn held_out_loss(network: &Network, data: &Dataset, losses: &Losses, chunk: usize) -> Option<f32> {
    let steps = || data.sequences.iter().flat_map(|s| &s.steps);
    let ratings = steps().filter(|s| s.satisfaction.is_some()).count();
    let labels: Vec<usize> = (0..data.tasks.len()).map(|i| steps().filter(|s| s.classes[i].is_some()).count()).collect();
    if ratings + labels.iter().sum::<usize>() == 0 {
        return None;
    }
    let of = |n: usize| n.max(1) as f32;
    let losses = Losses { ratings_per_batch: of(ratings), labels_per_batch: labels.into_iter().map(of).collect(), ..losses.clone() };
    let mut order: Vec<&Sequence> = data.sequences.iter().filter(|s| s.steps.iter().any(Step::is_labelled)).collect();
    order.sort_by_key(|s| std::cmp::Reverse(s.steps.len()));
    let mut total = 0.0f64;
    for group in order.chunks(32) {
        let mut carry = Carry::start(group.len(), &network.architecture);
        for from in (0..group[0].steps.len()).step_by(chunk) {
            carry.truncate(group.iter().take_while(|s| s.steps.len() > from).count(), &network.architecture);
            let (batch, _) = pack(group, from, chunk, data.tasks.len(), carry);
            let (loss, next) = network.loss(&batch, &losses);
            total += f64::from(loss);
            carry = next;
        }
    }
    Some(total as f32)
}

fn losses(data: &Dataset, settings: &Settings, steps_per_epoch: f32) -> Losses {
    let steps = || data.sequences.iter().flat_map(|s| &s.steps);
    let per_batch = |n: usize| (n as f32 / steps_per_epoch).max(1.0);
    let ratings = steps().filter(|s| s.satisfaction.is_some()).count();
    let weight = if ratings == 0 { 1.0 } else { settings.class_loss };
    Losses {
        mean: settings.mean_loss,
        classes: vec![weight; data.tasks.len()],
        smoothing: settings.smoothing,
        ratings_per_batch: per_batch(ratings),
        labels_per_batch: (0..data.tasks.len()).map(|i| per_batch(steps().filter(|s| s.classes[i].is_some()).count())).collect(),
    }
}

/// A copy with words made unknown and n-grams left out at random.
fn thin(sequence: &Sequence, settings: &Settings, rng: &mut SmallRng) -> Sequence {
    let mut copy = sequence.clone();
    for step in &mut copy.steps {
        for token in &mut step.tokens {
            if rng.random::<f32>() < settings.word_dropout {
                *token = UNKNOWN;
            }
        }
        step.bag.retain(|_| rng.random::<f32>() >= settings.bag_dropout);
    }
    copy
}

/// Runs the network over sequences; `each(sequence, step, output, row)` is called once per step.
pub fn run(network: &Network, sequences: &[Sequence], mut each: impl FnMut(usize, usize, &Output, usize)) {
    let mut order: Vec<usize> = (0..sequences.len()).filter(|&i| !sequences[i].steps.is_empty()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(sequences[i].steps.len()));
    for members in order.chunks(32) {
        let group: Vec<&Sequence> = members.iter().map(|&i| &sequences[i]).collect();
        let mut carry = Carry::start(group.len(), &network.architecture);
        for from in (0..group[0].steps.len()).step_by(64) {
            carry.truncate(group.iter().take_while(|s| s.steps.len() > from).count(), &network.architecture);
            let (batch, origins) = pack(&group, from, 64, network.architecture.tasks.len(), carry);
            let output = network.run(&batch);
            for (row, (s, t)) in origins.into_iter().enumerate() {
                each(members[s], t, &output, row);
            }
            carry = output.carry;
        }
    }
}
