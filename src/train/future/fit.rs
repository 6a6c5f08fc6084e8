//! Fits the network of the future.
//!
//! The customers are divided; each of several networks learns from all parts but one, and what it says of that one tells how long they should learn
//! and how far they are to be believed. The mean of what they say is what is kept: one network, as many times as wide.

use std::ops::Range;
use std::sync::mpsc::{self, Sender};
use std::thread;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::network::{CHURN, Net, PURCHASES, SPEND, SURVIVAL, Task};
use super::snapshots::Snapshot;
use crate::train::fit::Epoch;
use crate::train::optimizer::{Optimizer, Settings, bounded};

/// Parts of the customers: as many as there are networks.
pub const PARTS: usize = 4;

/// Little and slowly, because what the next period has in common with the past is learnt first.
const EPOCHS: usize = 3;
const LEAST_STEPS: usize = 1000;
const BATCH: usize = 256;
const SETTINGS: Settings = Settings {
    learning_rate: 1e-3,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    weight_decay: 0.02,
    clip: 1.0,
    warm_up: 20,
    floor: 0.02,
    average: 0.99,
};

/// Shares of its corrections that a network may be believed.
const SHARES: [f32; 5] = [1.0, 0.75, 0.5, 0.25, 0.0];

/// What may differ from one [`fit`] to the next.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub seed: u64,
    /// Most steps of the optimiser; 0: as many as the epochs have.
    pub max_steps: usize,
}

/// A trained network and how it came about.
#[derive(Debug)]
pub struct Fitted {
    pub net: Net,
    pub epochs: Vec<Epoch>,
    /// The epoch whose weights were kept, from 1 on.
    pub kept: usize,
}

/// Trains a network on `snapshots`, whose customers are in `parts` that are numbered from 0 on. Few customers teach a network more of themselves
/// than of others: those whom a network does not see say after which epoch it is best, and what share of its corrections of churn and of spend is to be
/// believed. Where there is one part alone nothing is believed.
pub fn fit(
    snapshots: &[Snapshot],
    parts: &[usize],
    task: &Task<'_>,
    frequencies: &[f32],
    run: Run,
    mut progress: impl FnMut(f32, f32),
) -> Fitted {
    let count = parts.iter().max().map_or(1, |last| last + 1);
    let divided = |part: usize| -> [Vec<&Snapshot>; 2] {
        [false, true]
            .map(|aside| snapshots.iter().zip(parts).filter(|(_, p)| (count > 1 && **p == part) == aside).map(|(s, _)| s).collect())
    };
    let divided: Vec<_> = (0..count).map(divided).collect();
    let most = divided.iter().map(|[own, _]| steps(own)).max().unwrap_or(0).max(1);
    let passes = EPOCHS.max(LEAST_STEPS.div_ceil(most));
    let carried = snapshots.first().map_or(0, |s| s.carried.len());
    let mut learners: Vec<Learner> = (0u64..)
        .zip(divided)
        .map(|(part, [own, aside])| {
            let seed = run.seed ^ (part << 32);
            let total = bounded(passes * steps(&own), run.max_steps);
            Learner::new(Net::new(frequencies, carried, seed), own, aside, total, seed ^ 0x5eed)
        })
        .collect();
    let total = learners.iter().map(|l| l.total).sum::<usize>().max(1);
    let (mut done, mut epochs, mut least, mut kept) = (0, Vec::new(), f32::INFINITY, 0);
    while learners.iter().any(Learner::goes_on) {
        let losses: Vec<f32> = thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            let epoch = |(learner, tell): (_, Sender<f32>)| scope.spawn(move || Learner::epoch(learner, task, &tell));
            let running: Vec<_> = learners.iter_mut().map(|learner| (learner, tell.clone())).map(epoch).collect();
            drop(tell);
            for loss in told {
                done += 1;
                progress(done as f32 / total as f32, loss);
            }
            running.into_iter().filter_map(|r| r.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let fit = losses.iter().sum::<f32>() / losses.len().max(1) as f32;
        let loss = Some(unseen(&learners, |l| l.unseen)).filter(|loss| count > 1 && loss.is_finite());
        epochs.push(Epoch { epoch: epochs.len() + 1, fit, calibration: loss });
        if loss.unwrap_or(f32::INFINITY) <= least {
            (least, kept) = (loss.unwrap_or(f32::INFINITY), epochs.len());
            learners.iter_mut().for_each(|learner| learner.kept = learner.averaged.clone());
        }
    }
    // Of each network by itself: their mean errs less and would bear a little more.
    let share = |head: usize, columns: Range<usize>| {
        let loss = |share: f32| unseen(&learners, |l| l.kept.shrunk(columns.clone(), share).without_needs().losses(&l.aside, task)[head]);
        SHARES.into_iter().map(|share| (share, loss(share))).min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0.0, |(share, _)| share)
    };
    let (churn, spend) = if count > 1 { (share(CHURN, SURVIVAL), share(PURCHASES, SPEND)) } else { (0.0, 0.0) };
    let nets: Vec<Net> = learners.into_iter().map(|learner| learner.kept).collect();
    Fitted { net: Net::mean(&nets).shrunk(SURVIVAL, churn).shrunk(SPEND, spend), epochs, kept }
}

/// The mean of a loss over all, each in the network that does not see them.
fn unseen(learners: &[Learner], loss: impl Fn(&Learner) -> f32) -> f32 {
    let all: usize = learners.iter().map(|l| l.aside.len()).sum();
    learners.iter().map(|l| loss(l) * l.aside.len() as f32).sum::<f32>() / all.max(1) as f32
}

/// Steps of a pass.
fn steps(own: &[&Snapshot]) -> usize {
    own.len().div_ceil(BATCH)
}

/// A network that learns, and those whom it does not see.
struct Learner<'a> {
    net: Net,
    /// Its moving average after the last epoch, and after the best one.
    averaged: Net,
    kept: Net,
    optimizer: Optimizer,
    gradients: Vec<Vec<f32>>,
    rng: SmallRng,
    own: Vec<&'a Snapshot>,
    aside: Vec<&'a Snapshot>,
    done: usize,
    total: usize,
    /// Loss of those who are aside, after the last epoch.
    unseen: f32,
}

impl<'a> Learner<'a> {
    fn new(net: Net, own: Vec<&'a Snapshot>, aside: Vec<&'a Snapshot>, total: usize, seed: u64) -> Self {
        Self {
            optimizer: Optimizer::new(SETTINGS, total, &net.parameters),
            gradients: net.parameters.iter().map(|p| vec![0.0; p.values.len()]).collect(),
            rng: SmallRng::seed_from_u64(seed),
            averaged: net.clone(),
            kept: net.clone(),
            net,
            own,
            aside,
            done: 0,
            total,
            unseen: 0.0,
        }
    }

    fn goes_on(&self) -> bool {
        self.done < self.total
    }

    /// Goes once through what it sees and tells the loss of every step; the mean loss. `None` where it is done.
    fn epoch(&mut self, task: &Task<'_>, tell: &Sender<f32>) -> Option<f32> {
        if !self.goes_on() {
            return None;
        }
        self.own.shuffle(&mut self.rng);
        let (mut sum, before) = (0.0, self.done);
        for batch in self.own.chunks(BATCH).take(self.total - self.done) {
            let loss = self.net.learn(batch, task, &mut self.gradients);
            self.optimizer.step(&mut self.net.parameters, &mut self.gradients);
            self.done += 1;
            sum += loss;
            // Nobody listens any more only where another thread has panicked.
            let _ = tell.send(loss);
        }
        self.averaged.parameters = self.optimizer.averaged(&self.net.parameters);
        self.unseen = self.averaged.losses(&self.aside, task).iter().sum();
        Some(sum / (self.done - before) as f32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::train::future::network::tests::{head, snapshots};
    use crate::train::future::timeline::Outcome;

    /// Who behave alike: `returned` or not.
    fn alike(returned: bool) -> Vec<Snapshot> {
        let one = &snapshots()[5];
        let outcome = Outcome { returned, purchases: 4 * u32::from(returned), amount: 30.0 * f64::from(u8::from(returned)), need: 0 };
        (0..40).map(|_| Snapshot { outcome, days: 60.0, ..one.clone() }).collect()
    }

    const FREQUENCIES: [f32; 3] = [0.5, 0.3, 0.2];

    #[test]
    fn corrections_are_believed_as_far_as_they_do_others_good() {
        let head = head();
        let numbers = HashMap::from([(11, 0), (22, 1), (33, 2)]);
        let task = Task { head: &head, numbers: &numbers, purchases: 1.5, amount: 6.0 };
        let (stay, leave) = (alike(true), alike(false));
        let all = |parts: &[&[Snapshot]]| {
            let of = |(part, snapshots): (usize, &&[Snapshot])| vec![part; snapshots.len()];
            let numbers: Vec<usize> = parts.iter().enumerate().flat_map(of).collect();
            fit(&parts.concat(), &numbers, &task, &FREQUENCIES, Run { seed: 1, max_steps: 60 }, |_, _| {})
        };
        let (agreed, contradicted, alone) = (all(&[&leave, &leave[..9], &leave]), all(&[&leave, &stay]), all(&[&leave]));
        let said = |fitted: &Fitted| fitted.net.run(&leave[..1], &task);
        assert!(said(&agreed).survival.iter().chain(&said(&agreed).spend).all(|o| *o != 0.0), "{:?}", said(&agreed));
        assert_eq!((agreed.kept, agreed.epochs.len()), (60, 60));
        // Those whom each does not see do the opposite: the least learnt is the best, and nothing of it is believed.
        assert_eq!(contradicted.kept, 1);
        assert!(contradicted.epochs.windows(2).all(|e| e[0].calibration < e[1].calibration && e[0].fit > e[1].fit));
        for unbelieved in [&contradicted, &alone] {
            let said = said(unbelieved);
            assert!(said.survival.iter().chain(&said.spend).all(|o| *o == 0.0), "{said:?}");
            // Of the next need, all is.
            assert!(said.needs.iter().zip(FREQUENCIES).all(|(logit, f)| (logit - f.ln()).abs() > 2e-5), "{said:?}");
        }
        // What one head is not believed is nothing to the others.
        let shrunk = agreed.net.shrunk(SURVIVAL, 0.0).run(&leave[..1], &task);
        assert_eq!((shrunk.spend, shrunk.needs), (said(&agreed).spend, said(&agreed).needs));
    }
}
