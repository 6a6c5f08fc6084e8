//! The training loop: batches of whole sequences, truncated back-propagation with carried state, dropout of words and n-grams.
//!
//! Knows the data set and the network; nothing of files, bundles or clocks. Same data, settings and seed give the same weights, also where a
//! fit was broken off and went on from a [`State`]: every batch draws from a generator of its own.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::dataset::{Dataset, Sequence, Step};
use super::lookup::Text;
use super::network::{Architecture, Batch, Carry, Dropout, Losses, Network, Output, WORDS};
use super::optimizer::{self, Optimizer, bounded};

/// Row of the word table that stands for a word it does not know.
const UNKNOWN: u32 = 1;
/// A sequence this long counts as one conversation of a batch; shorter ones count less, so that single texts come in larger batches.
pub const CONVERSATION: usize = 8;

/// Settings of [`fit`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Standard deviation of the customers' random intercepts of satisfaction, see [`super::intercepts`]; 0: none.
    pub intercept_deviation: f32,
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    pub epoch: usize,
    /// Mean over the steps of the epoch, with dropout. Both losses are those that are minimised: penalised, where customers have intercepts.
    pub fit: f32,
    /// After the epoch, of the averaged weights on the calibration part, without dropout. Absent where nothing is labelled there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<f32>,
}

/// A trained network and how it came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    pub network: Network,
    pub settings: Settings,
    pub epochs: Vec<Epoch>,
    /// The epoch whose weights were kept, from 1 on; the last unless stopped early.
    pub kept: usize,
    /// Steps that the optimiser took.
    pub steps: usize,
}

impl Fitted {
    /// Of the kept epoch on the calibration part, per label.
    pub fn calibration(&self) -> Option<f32> {
        self.epochs.iter().find(|e| e.epoch == self.kept)?.calibration
    }
}

/// All that changes while a fit goes on, between two batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    network: Network,
    optimizer: Optimizer,
    /// The next batch: its epoch, from 0 on, and its number in the epoch's plan.
    pub epoch: usize,
    batch: usize,
    /// Steps of the optimiser so far, and how many of them in earlier epochs.
    pub steps: usize,
    steps_before: usize,
    /// Of the losses of the present epoch's steps.
    sum: f64,
    epochs: Vec<Epoch>,
    best: Option<Best>,
}

/// The averaged weights that are kept unless a later epoch does better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Best {
    /// On the calibration part.
    loss: Option<f32>,
    epoch: usize,
    network: Network,
}

/// What a fit tells its caller.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A step of the optimiser: the share of all steps done (0–1) and its loss.
    Step(f32, f32),
    /// Nothing is half done: a fit that starts from this state ends as this one will.
    Rest { state: &'a State, epoch_ended: bool },
}

/// The random draws of one batch.
fn draws(seed: u64, epoch: usize, batch: usize) -> SmallRng {
    let place = [seed, epoch as u64, batch as u64].map(u64::to_le_bytes);
    SmallRng::seed_from_u64(xxh3_64(place.as_flattened()))
}

/// Trains a network, from `state` on where a fit of the same data, settings and seed was broken off. `calibration` is looked at after every epoch:
/// for the curve, and to stop where [`Settings::patience`] asks for it.
pub fn fit(
    data: &Dataset,
    calibration: &Dataset,
    architecture: Architecture,
    settings: &Settings,
    seed: u64,
    state: Option<State>,
    mut watch: impl FnMut(Event<'_>),
) -> Fitted {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x5eed);
    let plans: Vec<Plan> = (0..settings.epochs).map(|_| plan(&data.sequences, settings, &mut rng)).collect();
    let total: usize = plans.iter().flatten().map(|b| labelled_chunks(&data.sequences, b, settings.chunk)).sum();
    let losses = losses(data, settings, total as f32 / settings.epochs.max(1) as f32);
    let total = bounded(total, settings.max_steps);
    let mut state = state.unwrap_or_else(|| {
        let mut network = Network::new(architecture, seed);
        for (row, vector) in &data.vectors {
            network.parameters[WORDS].values[row * vector.len()..][..vector.len()].copy_from_slice(vector);
        }
        State::new(network, settings, total)
    });
    let mut gradients: Vec<Vec<f32>> = state.network.parameters.iter().map(|p| vec![0.0; p.values.len()]).collect();
    while let Some(plan) = plans.get(state.epoch).filter(|_| !state.is_over(settings, total)) {
        while let Some(members) = plan.get(state.batch).filter(|_| state.steps < total) {
            let mut rng = draws(seed, state.epoch, state.batch);
            let thinned: Vec<Sequence> = members.iter().map(|&i| thin(&data.sequences[i], settings, &mut rng)).collect();
            let sequences: Vec<&Sequence> = thinned.iter().collect();
            let mut carry = Carry::start(sequences.len(), &state.network.architecture);
            for from in (0..sequences[0].steps.len()).step_by(settings.chunk) {
                let network = &mut state.network;
                carry.truncate(sequences.iter().take_while(|s| s.steps.len() > from).count(), &network.architecture);
                let (batch, _) = pack(&sequences, from, settings.chunk, data.tasks.len(), carry);
                let labelled = !batch.ratings.is_empty() || batch.classes.iter().any(|c| !c.is_empty());
                let dropout = Dropout { rate: settings.dropout, rng: &mut rng };
                let (loss, next) = network.learn(&batch, &losses, Some(dropout), &mut gradients);
                carry = next;
                if labelled && state.steps < total {
                    state.optimizer.step(&mut network.parameters, &mut gradients);
                    state.steps += 1;
                    state.sum += f64::from(loss);
                    watch(Event::Step(state.steps as f32 / total as f32, loss));
                }
            }
            state.batch += 1;
            watch(Event::Rest { state: &state, epoch_ended: false });
        }
        state.end_epoch(settings, |averaged| held_out_loss(averaged, calibration, &losses, settings.chunk));
        watch(Event::Rest { state: &state, epoch_ended: true });
    }
    match state.best {
        Some(best) => {
            Fitted { network: best.network, settings: settings.clone(), epochs: state.epochs, kept: best.epoch, steps: state.steps }
        }
        None => Fitted { network: state.network, settings: settings.clone(), epochs: state.epochs, kept: 0, steps: state.steps },
    }
}

impl State {
    fn new(network: Network, settings: &Settings, total: usize) -> Self {
        let optimizer = Optimizer::new(settings.optimizer, total, &network.parameters);
        Self { network, optimizer, epoch: 0, batch: 0, steps: 0, steps_before: 0, sum: 0.0, epochs: Vec::new(), best: None }
    }

    /// Whether an epoch has ended and none is to follow: no step is left, or [`Settings::patience`] has run out.
    fn is_over(&self, settings: &Settings, total: usize) -> bool {
        let patient = settings.patience == 0 || self.best.as_ref().is_none_or(|best| self.epoch < best.epoch + settings.patience);
        self.epoch > 0 && self.batch == 0 && (self.steps == total || !patient)
    }

    /// Looks at the averaged weights, keeps them if they are the best, and turns to the next epoch. `judge` says their loss on the calibration part.
    fn end_epoch(&mut self, settings: &Settings, judge: impl FnOnce(&Network) -> Option<f32>) {
        let parameters = self.optimizer.averaged(&self.network.parameters);
        let averaged = Network { architecture: self.network.architecture.clone(), parameters };
        let loss = judge(&averaged);
        self.epoch += 1;
        let fit = (self.sum / (self.steps - self.steps_before).max(1) as f64) as f32;
        self.epochs.push(Epoch { epoch: self.epoch, fit, calibration: loss });
        let least = self.best.as_ref().map(|best| best.loss.unwrap_or(f32::INFINITY));
        let better = loss.is_some_and(|loss| least.is_none_or(|least| loss < least));
        if settings.patience == 0 || loss.is_none() || better {
            self.best = Some(Best { loss, epoch: self.epoch, network: averaged });
        }
        (self.batch, self.steps_before, self.sum) = (0, self.steps, 0.0);
    }
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
        intercept_deviation: settings.intercept_deviation,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::Actor;
    use crate::train::dataset::ClassTask;
    use crate::train::network::TaskShape;

    fn architecture() -> Architecture {
        Architecture { votes_rate: 10.0, tasks: vec![TaskShape { labels: 2, wide: true }], ..Architecture::small() }
    }

    /// Sequences of 1 to 5 steps; the label of every second step follows from its words.
    fn data(sequences: u32, salt: u32) -> Dataset {
        let step = |n: u32| Step {
            tokens: (0..n % 5).map(|i| 2 + (n * 7 + i * 3) % 10).collect(),
            bag: (0..n % 4).map(|i| 1 + (n + i) % 8).collect(),
            features: vec![(n as f32).sin(), (n as f32).cos()],
            actor: Actor::Customer,
            satisfaction: n.is_multiple_of(2).then_some(if n * 7 % 10 < 5 { 1.5 } else { 4.0 }),
            classes: vec![n.is_multiple_of(3).then_some(n % 2)],
        };
        let sequence =
            |c: u32| Sequence { customer: format!("c{c}").into(), steps: (0..=c % 5).map(|t| step(c * 13 + t + salt)).collect() };
        let task = ClassTask { name: "intent".into(), labels: vec!["a".into(), "b".into()], auxiliary: false };
        Dataset {
            sequences: (0..sequences).map(sequence).collect(),
            feature_width: 2,
            vocabulary: 12,
            bag_rows: 9,
            tasks: vec![task],
            vectors: vec![],
        }
    }

    fn settings() -> Settings {
        let optimizer = optimizer::Settings {
            learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.02,
            clip: 1.0,
            warm_up: 3,
            floor: 0.05,
            average: 0.9,
        };
        Settings {
            epochs: 3,
            max_steps: 0,
            batch: 1,
            // Shorter than the sequences: state is carried within a batch.
            chunk: 2,
            dropout: 0.3,
            word_dropout: 0.2,
            bag_dropout: 0.3,
            mean_loss: 0.5,
            intercept_deviation: 1.0,
            class_loss: 0.7,
            smoothing: 0.05,
            patience: 0,
            optimizer,
        }
    }

    #[test]
    fn from_any_state_on_a_fit_ends_as_without_a_break() {
        let (data, calibration) = (data(30, 0), data(8, 1000));
        let restless = optimizer::Settings { learning_rate: 0.3, ..settings().optimizer };
        for settings in [
            settings(),
            Settings { max_steps: 50, ..settings() },
            // So large a step that the loss jumps up and down: stops early.
            Settings { epochs: 30, patience: 1, optimizer: restless, ..settings() },
        ] {
            let mut states = Vec::new();
            let fit = |state, watch: &mut dyn FnMut(Event<'_>)| fit(&data, &calibration, architecture(), &settings, 7, state, watch);
            let whole = fit(None, &mut |event| {
                if let Event::Rest { state, epoch_ended } = event {
                    states.push((state.clone(), epoch_ended));
                }
            });
            assert!(whole.epochs.len() >= 2 && (settings.patience == 0 || whole.epochs.len() == whole.kept + 1), "{:?}", whole.epochs);
            let (last, _) = states.last().expect("states");
            assert_eq!((last.epochs.len(), settings.max_steps == 0 || last.steps == 50), (whole.epochs.len(), true));
            let middle = states.iter().filter(|(_, epoch_ended)| !epoch_ended).count();
            assert!(middle > 10, "{middle} states within epochs");
            for (state, epoch_ended) in states.iter().step_by(4).chain(&states[states.len() - 2..]) {
                // As a file keeps it.
                let mut bytes = Vec::new();
                ciborium::into_writer(state, &mut bytes).expect("bytes");
                let read: State = ciborium::from_reader(bytes.as_slice()).expect("the state");
                assert_eq!(read, *state);
                let mut steps = state.steps;
                let resumed = fit(Some(read), &mut |event| {
                    steps += usize::from(matches!(event, Event::Step(..)));
                });
                assert!(resumed == whole, "from epoch {}, batch {}, its end: {epoch_ended}", state.epoch, state.batch);
                assert_eq!(steps, last.steps, "no step is done twice");
            }
        }
    }

    #[test]
    fn another_seed_gives_other_weights() {
        let (data, calibration) = (data(30, 0), Dataset { tasks: data(1, 0).tasks, ..Dataset::default() });
        let fit = |seed| fit(&data, &calibration, architecture(), &settings(), seed, None, |_| {});
        assert_eq!(fit(1), fit(1));
        assert_ne!(fit(1).network, fit(2).network);
        assert_eq!(fit(1).calibration(), None);
    }
}
