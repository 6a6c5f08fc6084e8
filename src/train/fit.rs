//! The training loop: batches of whole sequences, truncated back-propagation with carried state, dropout of words and n-grams.
//!
//! Knows the data set and the network; nothing of files or bundles. Same data, settings and seed give the same weights.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

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

/// Trains a network. `progress` is told the share done (0–1) and the loss after every step.
pub fn fit(data: &Dataset, architecture: Architecture, settings: &Settings, seed: u64, mut progress: impl FnMut(f32, f32)) -> Network {
    let mut network = Network::new(architecture, seed);
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x5eed);
    let epochs: Vec<Plan> = (0..settings.epochs).map(|_| plan(&data.sequences, settings, &mut rng)).collect();
    let total: usize = epochs.iter().flatten().map(|b| labelled_chunks(&data.sequences, b, settings.chunk)).sum();
    let losses = losses(data, settings, total as f32 / settings.epochs.max(1) as f32);
    let mut optimizer = Optimizer::new(settings.optimizer, total, &network.parameters);
    let mut gradients: Vec<Vec<f32>> = network.parameters.iter().map(|p| vec![0.0; p.values.len()]).collect();
    let mut done = 0;
    for members in epochs.iter().flatten() {
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
            if labelled {
                optimizer.step(&mut network.parameters, &mut gradients);
                done += 1;
                progress(done as f32 / total as f32, loss);
            }
        }
    }
    optimizer.into_average(&mut network.parameters);
    network
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
