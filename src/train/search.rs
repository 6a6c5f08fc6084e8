//! A small hyper-parameter search with a budget: random trials (Bergstra and Bengio, 2012), chosen by the loss on the calibration part alone.
//!
//! Knows settings, the training loop, and the checkpoint that it goes on from. The part that judges is not here, so it cannot be searched on.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::config::Config;
use super::dataset::Dataset;
use super::fit::{self, Event, Fitted, State};
use super::make::Notes;
use super::network::Architecture;

/// The table `[search]` of `train.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Search {
    /// Networks to train, the first with the settings as they are; 0: no search.
    pub budget: usize,
    /// Keys whose values are drawn; see [`KEYS`].
    pub keys: Vec<String>,
}

impl Default for Search {
    fn default() -> Self {
        Self { budget: 0, keys: ["learning_rate", "epochs", "dropout"].map(String::from).to_vec() }
    }
}

/// What may be searched. Weights of losses are not among them, since they change what the loss measures.
pub const KEYS: [&str; 6] = ["learning_rate", "epochs", "weight_decay", "dropout", "word_dropout", "bag_dropout"];

/// One trained network: what was drawn, and how it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub settings: BTreeMap<String, f64>,
    /// Per label on the calibration part; absent where nothing is labelled there.
    pub loss: Option<f32>,
}

impl Search {
    /// Says which value is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.budget > 1000 {
            return Err(format!("search.budget = {} must be from 0 to 1000", self.budget));
        }
        match self.keys.iter().find(|k| !KEYS.contains(&k.as_str())) {
            Some(key) => Err(format!("search.keys: {key:?} cannot be searched, of {KEYS:?} each can")),
            None => Ok(()),
        }
    }
}

/// Draws a value for every key, around the one that is set.
fn draw(config: &Config, rng: &mut SmallRng) -> Config {
    let mut drawn = config.clone();
    for key in &config.search.keys {
        let factor = 3f32.powf(rng.random_range(-1.0..1.0));
        let rate = rng.random_range(0.0..0.5);
        match key.as_str() {
            "learning_rate" => drawn.learning_rate = (config.learning_rate * factor).min(1.0),
            "weight_decay" => drawn.weight_decay = (config.weight_decay * factor).min(1.0),
            "epochs" => drawn.epochs = rng.random_range(config.epochs.div_ceil(2)..=2 * config.epochs),
            "dropout" => drawn.dropout = rate,
            "word_dropout" => drawn.word_dropout = rate,
            "bag_dropout" => drawn.bag_dropout = rate,
            _ => {}
        }
    }
    drawn
}

fn settings(config: &Config) -> BTreeMap<String, f64> {
    let value = |key: &String| match key.as_str() {
        "learning_rate" => f64::from(config.learning_rate),
        "weight_decay" => f64::from(config.weight_decay),
        "epochs" => config.epochs as f64,
        "dropout" => f64::from(config.dropout),
        "word_dropout" => f64::from(config.word_dropout),
        _ => f64::from(config.bag_dropout),
    };
    config.search.keys.iter().map(|key| (key.clone(), value(key))).collect()
}

/// What a checkpoint keeps: trials that are done, the best network of them, and the present trial's fit.
type Kept = (Vec<Trial>, Option<Fitted>, State);

/// What `checkpoint` has of this run, which `notes` tells.
fn resume(checkpoint: &Checkpoint, notes: &mut Notes<'_>) -> (Vec<Trial>, Option<Fitted>, Option<State>) {
    let path = checkpoint.path().display();
    match checkpoint.load::<Kept>() {
        Ok(None) => (Vec::new(), None, None),
        Ok(Some((trials, best, state))) => {
            let trial = if trials.is_empty() { String::new() } else { format!("fit {}, ", trials.len() + 1) };
            notes.say(format!("resumed from {path}: {trial}epoch {}, after {} steps of the optimiser", state.epoch + 1, state.steps));
            (trials, best, Some(state))
        }
        Err(why) => {
            notes.say(format!("{path} is not used, the fit starts anew: {why}"));
            (Vec::new(), None, None)
        }
    }
}

/// Trains as often as the budget says (once, where nothing is labelled to choose by) and returns the network with the lowest loss on the calibration part, and every trial. Goes on where
/// `checkpoint` says that an earlier run was broken off, and keeps it up to date.
pub fn search(
    data: &Dataset,
    calibration: &Dataset,
    architecture: &Architecture,
    config: &Config,
    seed: u64,
    checkpoint: &mut Checkpoint,
    notes: &mut Notes<'_>,
) -> (Fitted, Vec<Trial>) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x5ea7c4);
    let mut next = |trial: usize| if trial == 1 { config.clone() } else { draw(config, &mut rng) };
    let (mut trials, mut best, mut state) = resume(checkpoint, notes);
    (1..=trials.len()).for_each(|trial| drop(next(trial)));
    loop {
        let trial = trials.len() + 1;
        let drawn = next(trial);
        let name = if config.search.budget < 2 { "fitting".into() } else { format!("fitting {trial} of {}", config.search.budget) };
        let fitted = fit::fit(data, calibration, architecture.clone(), &drawn.fit(), seed, state.take(), |event| match event {
            Event::Step(done, loss) => notes.fit(&name, done, loss),
            Event::Rest { state, epoch_ended } => {
                if let Err(why) = checkpoint.offer(epoch_ended, &(&trials, &best, state)) {
                    notes.say(why);
                }
            }
        });
        let loss = fitted.calibration();
        trials.push(Trial { settings: settings(&drawn), loss });
        let least = best.as_ref().and_then(Fitted::calibration);
        let kept = match best.take() {
            Some(best) if !loss.is_some_and(|loss| least.is_none_or(|least| loss < least)) => best,
            _ => fitted,
        };
        // Without a loss there is nothing to choose by.
        if trial >= config.search.budget || loss.is_none() {
            return (kept, trials);
        }
        best = Some(kept);
    }
}
