//! Churn, spend and next need of customers as of any time, from their states alone: silence changes them.

use serde::Serialize;

use super::look::Looks;
use super::score::{Churn, ClassScore, Score, Spend};
use super::{Engine, EngineError, States, behave, heads};
use crate::customer::CustomerState;
use crate::features::BEHAVIOUR;
use crate::interaction::Timestamp;
use crate::model::future::NEXT_NEED;
use crate::model::{ChurnHead, Horizon, SpendHead, return_logit};

/// What lies ahead of one customer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ahead {
    pub churn: Option<Churn>,
    pub spend: Option<Spend>,
    pub next_need: Option<ClassScore>,
}

impl Ahead {
    pub(super) fn put(self, score: &mut Score) {
        score.churn = self.churn;
        score.spend = self.spend;
        if let Some(need) = self.next_need {
            score.classes.insert(NEXT_NEED.into(), need);
        }
    }
}

impl Engine {
    /// Scores of the future are over this many days, instead of the bundle's.
    #[must_use]
    pub fn with_horizon(mut self, days: Option<u32>) -> Self {
        self.horizon_days = days;
        self
    }

    /// The horizon of churn and spend, in days; `None` where the model has neither.
    pub fn horizon_days(&self) -> Option<u32> {
        self.model().manifest.future.as_ref().map(|head| self.horizon_days.unwrap_or(head.horizon_days))
    }

    /// Makes scores of customers those as of `at`: without interaction, with what lies ahead from then on. Their states must be those at `at`.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn as_of(&mut self, scores: &mut [Score], states: &States, at: Timestamp) -> Result<(), EngineError> {
        let mean = self.model().manifest.satisfaction.as_ref().map(|h| h.mean);
        let empty = CustomerState::default();
        let rows: Vec<(&CustomerState, Timestamp)> = scores.iter().map(|s| (states.get(&s.customer_id).unwrap_or(&empty), at)).collect();
        let looks = Looks::at(self.model(), &rows);
        let ahead = self.ahead_of(&looks)?;
        let readings = self.read(&looks).map_err(EngineError)?;
        scores.iter_mut().zip(readings).for_each(|(score, reading)| behave::put(score, reading));
        for ((score, (state, _)), ahead) in scores.iter_mut().zip(rows).zip(ahead) {
            score.interaction_id = None;
            score.occurred_at = at;
            if let (Some(s), Some(m), Some(mean)) = (&mut score.satisfaction, &state.model, mean) {
                s.baseline = m.baseline.level(mean);
            }
            ahead.put(score);
        }
        Ok(())
    }

    /// What lies ahead of each customer from a time on, after the interactions that its state knows.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn ahead(&mut self, rows: &[(&CustomerState, Timestamp)]) -> Result<Vec<Ahead>, EngineError> {
        let looks = Looks::at(self.model(), rows);
        self.ahead_of(&looks)
    }

    /// What lies ahead of each look, in order.
    pub(super) fn ahead_of(&mut self, looks: &Looks) -> Result<Vec<Ahead>, EngineError> {
        let model = self.model().clone();
        let (Some(head), Some(graph), Some(days)) = (&model.manifest.future, &model.future, self.horizon_days()) else {
            return Ok(vec![Ahead::default(); looks.behaviour.len()]);
        };
        let mut features = Vec::with_capacity(looks.behaviour.len() * BEHAVIOUR.len());
        looks.behaviour.iter().for_each(|row| head.scale(row, &mut features));
        let pasts = &looks.past;
        let needs = head.next_need.is_some().then_some(looks.latest.as_slice());
        let states = (head.state > 0).then_some(looks.states.as_slice());
        let inputs: Vec<&[f32]> = [features.as_slice()].into_iter().chain(needs).chain(states).collect();
        let horizon = Horizon(days as f32);
        let mut ahead = vec![Ahead::default(); looks.behaviour.len()];
        let run = self.runner.future(&inputs, |row, name, values| match name {
            "survival" => {
                let churn = |h: &ChurnHead| h.probability(return_logit(&head.visits, values, &pasts[row], horizon));
                ahead[row].churn = head.churn.as_ref().map(churn).map(|probability| Churn { probability, horizon_days: days });
            }
            "spend" => {
                let expected = head.spend.as_ref().map(|h| h.expect(&head.visits, values, &pasts[row], horizon));
                ahead[row].spend = expected.map(|e| Spend { purchases: e.purchases, amount: e.amount, horizon_days: days });
            }
            _ => {
                if let (Some(head), Some(task)) = (&head.next_need, &graph.task) {
                    ahead[row].next_need = Some(ClassScore::Top(heads::top(head, task, values)));
                }
            }
        });
        run.map_err(EngineError)?;
        Ok(ahead)
    }
}

/// A sum over customers with its 80 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Total {
    pub expected: f64,
    pub low: f64,
    pub high: f64,
}

/// 90 % quantile of the standard normal distribution.
const QUANTILE: f64 = 1.2816;

impl Total {
    /// The interval is that of a lognormal with the given standard deviation of the logarithm.
    fn new(expected: f64, error: f32) -> Self {
        let factor = (QUANTILE * f64::from(error)).exp();
        Self { expected, low: expected / factor, high: expected * factor }
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} ({:.0}–{:.0})", self.expected, self.low, self.high)
    }
}

/// Sales within the horizon: the sums of what is expected of every customer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Forecast {
    pub purchases: Total,
    pub amount: Total,
}

/// The forecast that the scores add up to; `None` where the engine's model has no spend.
pub fn forecast(engine: &Engine, scores: &[Score]) -> Option<Forecast> {
    let head = engine.model().manifest.future.as_ref()?.spend?;
    Some(forecast_of(&head, scores.iter().filter_map(|s| s.spend)))
}

/// The forecast that expectations add up to.
pub fn forecast_of(head: &SpendHead, all: impl Iterator<Item = Spend>) -> Forecast {
    let add = |(n, a): (f64, f64), s: Spend| (n + f64::from(s.purchases), a + f64::from(s.amount));
    let (purchases, amount) = all.fold((0.0, 0.0), add);
    Forecast { purchases: Total::new(purchases, head.purchases_error), amount: Total::new(amount, head.amount_error) }
}
