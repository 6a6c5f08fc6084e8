//! [`Engine::apply`]: the batch in waves of at most one interaction per customer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::look::Pending;
use super::replay::{rebuild, row};
use super::{Effects, EngineConfig, EngineError, Outcome, Score, States, heads, reasons, watch_score};
use crate::alert::{Alert, AlertState, Observation, Policies, Transition};
use crate::customer::words::Splitter;
use crate::customer::{CustomerState, Item};
use crate::engine::score::ClassScore;
use crate::features::{Overlap, behaviour};
use crate::interaction::{Interaction, Name, Reject, RejectClass, Timestamp};
use crate::model::{BehaviourRunner, Model, Runner, Step, TextInput, Watch};

/// Where a batch stands; the caller may measure time between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Every text has its vector.
    Encoded,
    /// Every sequence has advanced.
    Stepped,
}

/// One thread's engine: a model, policies and reused buffers. Holds nothing of any customer.
pub struct Engine {
    pub(super) runner: Runner,
    /// Where the model has segments.
    pub(super) behaviour: Option<BehaviourRunner>,
    policies: Arc<Policies>,
    config: EngineConfig,
    /// Vector of the empty text.
    empty: Vec<f32>,
    splitter: Splitter,
    overlap: Overlap,
    input: TextInput,
    vectors: Vec<f32>,
    features: Vec<f32>,
    next: Vec<f32>,
    /// Interactions after this time are counted.
    watching: Option<Timestamp>,
    counts: Option<Watch>,
    /// Instead of the bundle's.
    pub(super) horizon_days: Option<u32>,
    /// Whether scores of interactions look at behaviour.
    pub(super) outlook: bool,
    pub(super) pending: Pending,
}

/// An accepted interaction on its way through the batch. Its text vector is row `n` of `vectors`, `n` its place among the accepted ones.
struct Accepted {
    index: usize,
    item: Item,
    words: Option<Box<str>>,
}

/// What the heads said of one row.
#[derive(Default)]
struct Row {
    satisfaction: Option<super::Satisfaction>,
    classes: BTreeMap<Name, ClassScore>,
}

impl Engine {
    /// # Errors
    /// The model's graphs do not run; does not happen with a loaded bundle.
    pub fn new(model: Arc<Model>, policies: Arc<Policies>, config: EngineConfig) -> Result<Self, EngineError> {
        let mut runner = Runner::new(model.clone()).map_err(EngineError)?;
        let mut empty = vec![0.0; model.manifest.vector];
        runner.encode(&TextInput::default(), &mut empty).map_err(EngineError)?;
        Ok(Self {
            behaviour: model.behaviour.as_ref().map(BehaviourRunner::new).transpose().map_err(EngineError)?,
            runner,
            policies,
            config,
            empty,
            splitter: Splitter::default(),
            overlap: Overlap::default(),
            input: TextInput::default(),
            vectors: Vec::new(),
            features: Vec::new(),
            next: Vec::new(),
            watching: None,
            counts: None,
            horizon_days: None,
            outlook: true,
            pending: Pending::default(),
        })
    }

    pub fn model(&self) -> &Arc<Model> {
        self.runner.model()
    }

    /// The same engine with another model.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_model(&self, model: Arc<Model>) -> Result<Self, EngineError> {
        let mut engine = self.with(model, self.policies.clone())?;
        if let Some(after) = self.watching {
            engine.watch_after(after);
        }
        Ok(engine)
    }

    /// Counts inputs and outputs from now on, where the bundle has a reference to compare them with.
    pub fn watch(&mut self) {
        self.watch_after(Timestamp(i64::MIN));
    }

    /// [`Self::watch`] of the interactions after this event time.
    pub fn watch_after(&mut self, after: Timestamp) {
        self.watching = Some(after);
        self.counts = self.runner.model().reference.clone().map(Watch::new);
    }

    /// What was counted since the last call; `None` where that is nothing.
    pub fn take_counts(&mut self) -> Option<Watch> {
        let counts = self.counts.as_mut().filter(|c| c.interactions() > 0)?;
        let taken = counts.clone();
        counts.clear();
        Some(taken)
    }

    /// The same settings with another model and other policies.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(&self, model: Arc<Model>, policies: Arc<Policies>) -> Result<Self, EngineError> {
        Self::new(model, policies, self.config)
    }

    /// Whether the customer's next interaction costs a run over the window, because the hidden vector is another model's.
    pub fn must_rebuild(&self, state: &CustomerState) -> bool {
        !state.window.is_empty() && self.is_foreign(state)
    }

    fn is_foreign(&self, state: &CustomerState) -> bool {
        let model = self.runner.model();
        state.model.as_ref().is_none_or(|m| m.version != model.version_hash || m.vector.len() != model.manifest.state)
    }

    /// Applies a batch: scores every accepted interaction once and advances its customer's state. `now` is the wall clock, for `scored_at` alone.
    ///
    /// The result for one interaction depends on its customer's earlier interactions alone, to the last bit: not on the batch.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn apply(&mut self, batch: &[Interaction], states: &mut States, now: Timestamp) -> Result<Effects, EngineError> {
        self.apply_observed(batch, states, now, |_| {})
    }

    /// As [`Self::apply`], telling the caller where it stands.
    pub fn apply_observed(
        &mut self,
        batch: &[Interaction],
        states: &mut States,
        now: Timestamp,
        mut reached: impl FnMut(Phase),
    ) -> Result<Effects, EngineError> {
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(batch.len());
        let mut accepted = Vec::with_capacity(batch.len());
        let mut waves: Vec<Vec<usize>> = Vec::new();
        let mut turns: HashMap<&str, usize> = HashMap::new();
        for (index, interaction) in batch.iter().enumerate() {
            let refused = admit(interaction, states, &self.config);
            if refused.is_none() {
                let wave = turns.entry(&interaction.customer_id).or_insert(0);
                if *wave == waves.len() {
                    waves.push(Vec::new());
                }
                waves[*wave].push(accepted.len());
                *wave += 1;
                accepted.push(self.prepare(index, interaction));
            }
            outcomes.push(refused);
        }
        self.pending = Pending::default();
        self.encode(&accepted).map_err(EngineError)?;
        reached(Phase::Encoded);
        let mut alerts = Vec::new();
        let mut accepted: Vec<Option<Accepted>> = accepted.into_iter().map(Some).collect();
        for wave in &waves {
            self.wave(batch, wave, &mut accepted, states, now, &mut outcomes, &mut alerts).map_err(EngineError)?;
        }
        self.complete(&mut outcomes)?;
        reached(Phase::Stepped);
        if let (Some(counts), Some(after)) = (&mut self.counts, self.watching) {
            for outcome in outcomes.iter().flatten() {
                if let Outcome::Scored(score) = outcome
                    && score.occurred_at > after
                {
                    watch_score(counts, score);
                }
            }
        }
        alerts.sort_by_key(|(index, _)| *index);
        let mut changed: Vec<Box<str>> = turns.into_keys().map(Box::from).collect();
        changed.sort_unstable();
        Ok(Effects { outcomes: outcomes.into_iter().flatten().collect(), alerts, changed })
    }

    fn prepare(&mut self, index: usize, interaction: &Interaction) -> Accepted {
        if let Some(text) = &interaction.text {
            self.splitter.split(text);
        }
        let item = Item::new(interaction, &self.splitter);
        let words = (item.moves_satisfaction() && !item.tokens.is_empty()).then(|| join_words(&self.splitter));
        Accepted { index, item, words }
    }

    fn encode(&mut self, accepted: &[Accepted]) -> Result<(), String> {
        let width = self.empty.len();
        self.vectors.resize(accepted.len() * width, 0.0);
        let model = self.runner.model().clone();
        for (accepted, vector) in accepted.iter().zip(self.vectors.chunks_mut(width)) {
            if accepted.item.tokens.is_empty() {
                vector.copy_from_slice(&self.empty);
            } else {
                model.tokenizer.encode_into(&accepted.item.tokens, &mut self.input);
                self.runner.encode(&self.input, vector)?;
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn wave(
        &mut self,
        batch: &[Interaction],
        wave: &[usize],
        accepted: &mut [Option<Accepted>],
        states: &mut States,
        now: Timestamp,
        outcomes: &mut [Option<Outcome>],
        alerts: &mut Vec<(usize, Alert)>,
    ) -> Result<(), String> {
        let model = self.runner.model().clone();
        let (v, f, s) = (model.manifest.vector, model.manifest.features, model.manifest.state);
        // Interactions of this wave, with the row of their text vector.
        let rows: Vec<(usize, Accepted)> = wave.iter().filter_map(|&n| accepted[n].take().map(|a| (n, a))).collect();
        self.rebuild(rows.iter().map(|(_, a)| &batch[a.index].customer_id), states)?;
        self.features.resize(rows.len() * f, 0.0);
        for ((_, a), out) in rows.iter().zip(self.features.chunks_mut(f)) {
            let Some(state) = states.get(&batch[a.index].customer_id) else { continue };
            row(&model.layout, &state.window, state.window.len(), &state.now, &a.item, &mut self.overlap, out);
            if let (Some(counts), Some(after)) = (&mut self.counts, self.watching)
                && a.item.occurred_at > after
            {
                counts.input(out);
            }
        }
        let zero = vec![0.0; s];
        let steps: Vec<Step> = rows
            .iter()
            .zip(self.features.chunks(f))
            .map(|((n, a), features)| Step {
                text: &self.vectors[n * v..(n + 1) * v],
                features,
                state: states.get(&batch[a.index].customer_id).and_then(|st| st.model.as_ref()).map_or(&zero, |m| &m.vector),
            })
            .collect();
        self.next.resize(rows.len() * s, 0.0);
        let mut heads: Vec<Row> = Vec::new();
        heads.resize_with(rows.len(), Row::default);
        let next = &mut self.next;
        self.runner.step(&steps, |n, name, values| match name {
            "state_out" => next[n * s..(n + 1) * s].copy_from_slice(values),
            "satisfaction" => {
                heads[n].satisfaction = model.manifest.satisfaction.as_ref().map(|h| heads::satisfaction(h, values, 0.0));
            }
            _ => {
                if let Some((task, head)) = model.class_task(name) {
                    heads::classes(head, task, values, &mut heads[n].classes);
                }
            }
        })?;
        drop(steps);
        let scored: Vec<usize> = rows.iter().map(|(_, a)| a.index).collect();
        for (n, ((_, a), row)) in rows.into_iter().zip(heads).enumerate() {
            let interaction = &batch[a.index];
            if let Some(state) = states.get_mut(&interaction.customer_id) {
                if let Some(m) = &mut state.model {
                    m.vector.copy_from_slice(&self.next[n * s..(n + 1) * s]);
                }
                let index = a.index;
                let score = self.advance(interaction, a, row, state, now, &mut |alert| alerts.push((index, alert)))?;
                outcomes[index] = Some(Outcome::Scored(score));
            }
        }
        if let (Some(counts), Some(after)) = (self.counts.as_mut().filter(|c| c.counts_behaviour()), self.watching) {
            for interaction in scored.iter().map(|i| &batch[*i]).filter(|i| i.occurred_at > after) {
                if let Some(state) = states.get(&interaction.customer_id) {
                    counts.behaviour(&behaviour(&state.now, interaction.occurred_at));
                }
            }
        }
        self.gather(batch, &scored, states);
        Ok(())
    }

    /// Gives every customer a hidden vector of this model. Each is in `customers` once.
    fn rebuild<'a>(&mut self, customers: impl Iterator<Item = &'a Box<str>>, states: &mut States) -> Result<(), String> {
        let mut foreign = Vec::new();
        for customer in customers {
            if self.is_foreign(states.entry(customer.clone()).or_default()) {
                foreign.push(customer);
            }
        }
        if foreign.is_empty() {
            return Ok(());
        }
        let theirs: Vec<&CustomerState> = foreign.iter().filter_map(|c| states.get(*c)).collect();
        let rebuilt = rebuild(&mut self.runner, &mut self.overlap, &theirs, &self.empty)?;
        for (customer, model) in foreign.into_iter().zip(rebuilt) {
            if let Some(state) = states.get_mut(customer) {
                state.model = Some(model);
            }
        }
        Ok(())
    }

    /// Moves baseline, window and alerts past one scored interaction.
    fn advance(
        &mut self,
        interaction: &Interaction,
        accepted: Accepted,
        row: Row,
        state: &mut CustomerState,
        now: Timestamp,
        raise: &mut dyn FnMut(Alert),
    ) -> Result<Score, String> {
        let model = self.runner.model().clone();
        let moves = accepted.item.moves_satisfaction();
        let mut satisfaction = row.satisfaction;
        let mut earlier_values = 0;
        if let (Some(s), Some(head), Some(m)) = (&mut satisfaction, &model.manifest.satisfaction, &mut state.model) {
            s.baseline = m.baseline.level(head.mean);
            earlier_values = m.baseline.count;
            if moves {
                m.baseline.add(s.value);
            }
        }
        let rating = Some(accepted.item.rating).filter(|r| moves && !r.is_nan());
        state.push(accepted.item, accepted.words, self.config.window);
        let seen = satisfaction.filter(|_| moves);
        let observation = Observation {
            customer_id: &interaction.customer_id,
            interaction_id: &interaction.id,
            at: interaction.occurred_at,
            satisfaction: seen.map(|s| s.value),
            dissatisfied: seen.map(|s| s.dissatisfied),
            baseline: satisfaction.map_or(0.0, |s| s.baseline),
            earlier_values,
            rating,
        };
        if let Some(transition) = self.policies.observe(&mut state.alerts, observation) {
            let alert = self.alert(interaction, state, &row.classes, transition)?;
            raise(alert);
        }
        Ok(Score {
            customer_id: interaction.customer_id.clone(),
            interaction_id: Some(interaction.id.clone()),
            occurred_at: interaction.occurred_at,
            scored_at: now,
            model: model.version.clone(),
            satisfaction,
            classes: row.classes,
            churn: None,
            spend: None,
            segment: None,
            anomaly: None,
        })
    }

    fn alert(
        &mut self,
        interaction: &Interaction,
        state: &CustomerState,
        classes: &BTreeMap<Name, ClassScore>,
        transition: Transition,
    ) -> Result<Alert, String> {
        let reasons = match transition.state {
            AlertState::Resolved => Vec::new(),
            _ => reasons::reasons(&mut self.runner, &mut self.overlap, state, &self.empty)?,
        };
        let unsure = classes.keys().any(|task| task.as_str() == "intent_unknown");
        let suggestion = classes.iter().find(|(task, _)| task.as_str() == "intent" && !unsure).and_then(|(_, score)| match score {
            ClassScore::Top(top) => top.first().map(|t| t.label.clone()).filter(|label| names_a_need(label.as_str())),
            ClassScore::Unknown(_) => None,
        });
        Ok(Alert {
            id: transition.id,
            customer_id: interaction.customer_id.clone(),
            interaction_id: interaction.id.clone(),
            policy: self.policies.all[transition.policy].name.clone(),
            kind: transition.kind,
            severity: transition.severity,
            state: transition.state,
            at: interaction.occurred_at,
            value: transition.value,
            baseline: transition.baseline,
            reasons,
            also: transition.also,
            suggestion,
        })
    }
}

/// Whether an intent says what is needed. Data sets have a class for what is none of their intents, under one of a few names.
fn names_a_need(intent: &str) -> bool {
    const NONE: [&str; 10] =
        ["outofdomain", "outofscope", "ood", "oos", "unknown", "other", "others", "none", "noneoftheabove", "nointent"];
    let letters: String = intent.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    !NONE.contains(&letters.as_str())
}

/// Longest word that is kept for reasons, in bytes.
const MAX_WORD_BYTES: usize = 24;

fn join_words(splitter: &Splitter) -> Box<str> {
    let mut joined = String::new();
    for (i, word) in splitter.words().enumerate() {
        if i > 0 {
            joined.push(' ');
        }
        let end = word.floor_char_boundary(MAX_WORD_BYTES);
        joined.push_str(&word[..end]);
    }
    joined.into()
}

/// Duplicate and late checks. `None`: accepted, and the customer's state knows its id and time.
pub fn admit(interaction: &Interaction, states: &mut States, config: &EngineConfig) -> Option<Outcome> {
    if !states.contains_key(&interaction.customer_id) {
        states.insert(interaction.customer_id.clone(), CustomerState::default());
    }
    let state = states.get_mut(&interaction.customer_id)?;
    admit_behind(interaction, &mut state.newest, &mut state.seen, config)
}

/// [`admit`] for a customer of whom only the newest event time and the hashes of the last ids are known.
pub fn admit_behind(interaction: &Interaction, newest: &mut Timestamp, seen: &mut VecDeque<u64>, config: &EngineConfig) -> Option<Outcome> {
    let id = xxh3_64(interaction.id.as_bytes());
    if seen.contains(&id) {
        return Some(Outcome::Duplicate);
    }
    let behind = newest.0 - interaction.occurred_at.0;
    if behind > config.allowed_lateness {
        let message = format!(
            "occurred_at {} is {:.1} days behind the customer's newest interaction ({newest}), allowed are {:.1}",
            interaction.occurred_at,
            behind as f64 / Timestamp::MICROS_PER_DAY as f64,
            config.allowed_lateness as f64 / Timestamp::MICROS_PER_DAY as f64,
        );
        return Some(Outcome::Rejected(Reject::new(RejectClass::Late, message)));
    }
    seen.push_back(id);
    while seen.len() > config.dedupe {
        seen.pop_front();
    }
    *newest = (*newest).max(interaction.occurred_at);
    None
}

#[cfg(test)]
mod tests {
    use super::names_a_need;

    #[test]
    fn a_class_for_everything_else_is_no_need() {
        for none in ["outofdomain", "OutOfDomain", "out_of_scope", "oos", "unknown", "None of the above"] {
            assert!(!names_a_need(none), "{none}");
        }
        assert!(["refund", "nonedelivery", "otherbank transfer"].into_iter().all(names_a_need));
    }
}
