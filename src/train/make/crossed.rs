//! Cross-fitting: what networks that have not seen them say of the customers that are fitted on, so that a small set is calibrated on all of its labels.
//!
//! Vocabulary, labels and scaling are those of all who are fitted on. Knows data sets, views and the training loop; nothing of what calibration makes of it.

use std::sync::mpsc::{self, Sender};
use std::thread;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::Notes;
use super::heads::Said;
use crate::train::dataset::{Dataset, Sequence, Step};
use crate::train::fit::{self, Event, Fitted};
use crate::train::holdout::View;
use crate::train::network::Network;
use crate::train::stack::{self, Linear};

/// From so many labelled interactions on, a twentieth of them calibrates well enough.
const MANY: usize = 10_000;
/// Networks, each fitted without one part of the customers, on a thread of its own.
const FOLDS: usize = 4;

/// What a network says, and what the linear models say in its place where there are any.
pub fn both(network: &Network, models: &[Linear], data: &Dataset, views: &[View<'_>]) -> (Said, Said) {
    let own = Said::of(network, data, views);
    let linear = if models.is_empty() { own.clone() } else { Said::of(&stack::with(network, models, |_| 1.0), data, views) };
    (own, linear)
}

/// What is said of the customers with labels in `data` by networks fitted as `like` was on the others, and by linear models of these; nothing where labels
/// are many.
pub fn said(
    data: &Dataset,
    views: &[View<'_>],
    calibration: &Dataset,
    like: &Fitted,
    linear: impl Fn(&Network, &Dataset) -> Vec<Linear> + Sync,
    seed: u64,
    notes: &mut Notes<'_>,
) -> Option<(Said, Said)> {
    let labelled = |s: &Sequence| s.steps.iter().filter(|step| Step::is_labelled(step)).count();
    if data.sequences.iter().map(labelled).sum::<usize>() >= MANY {
        return None;
    }
    let mut order: Vec<usize> = (0..views.len()).filter(|&i| labelled(&data.sequences[i]) > 0).collect();
    if order.len() < FOLDS {
        return None;
    }
    order.shuffle(&mut SmallRng::seed_from_u64(seed ^ 0xf01d));
    let some = |keep: &dyn Fn(usize) -> bool| -> (Dataset, Vec<View<'_>>) {
        let of = order.iter().enumerate().filter(|(at, _)| keep(at % FOLDS)).map(|(_, i)| *i);
        let (sequences, views) = of.map(|i| (data.sequences[i].clone(), views[i].clone())).unzip();
        (Dataset { sequences, ..data.without_sequences() }, views)
    };
    // As many steps of the optimiser as the whole took: logits grow with them.
    let epochs = (like.settings.epochs * FOLDS).div_ceil(FOLDS - 1);
    let settings = fit::Settings { epochs, max_steps: like.steps, ..like.settings.clone() };
    notes.say("few labels: four more networks say what they think of customers whom they have not seen, which calibrates");
    let fold = |fold: usize, tell: Sender<(usize, f32, f32)>| {
        let (others, _) = some(&|part| part != fold);
        let fitted = fit::fit(&others, calibration, like.network.architecture.clone(), &settings, seed, None, |event| {
            if let Event::Step(done, loss) = event {
                // Nobody listens any more only where another thread has panicked.
                let _ = tell.send((fold, done, loss));
            }
        });
        let (own, views) = some(&|part| part == fold);
        both(&fitted.network, &linear(&fitted.network, &others), &own, &views)
    };
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let folds: Vec<_> = (0..FOLDS).map(|i| (i, tell.clone())).map(|(i, tell)| scope.spawn(move || fold(i, tell))).collect();
        drop(tell);
        let mut done = [0.0; FOLDS];
        for (fold, share, loss) in told {
            done[fold] = share;
            notes.fit("cross-fitting", done.iter().sum::<f32>() / FOLDS as f32, loss);
        }
        folds
            .into_iter()
            .map(|f| f.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .reduce(|(own, linear), (more, of_linear)| (own.and(more), linear.and(of_linear)))
    })
}
