//! How well each of two scores of an interaction fits what was labelled, or what came true.
//!
//! Knows scores, labels and timelines; no models.

use std::collections::BTreeMap;

use crate::customer::words;
use crate::engine::{ClassScore, Score};
use crate::interaction::{SATISFACTION, Timestamp};
use crate::train::future::timeline::Timeline;
use crate::train::record::Labels;
use crate::train::{metrics, satisfaction_class};

/// Customer, and how well champion and challenger did.
pub(super) type Row = (u32, [f32; 2]);

#[derive(Default)]
pub(super) struct Rows {
    by_measure: BTreeMap<(String, &'static str), Vec<Row>>,
    /// Sums of the squares of what came true, beside the rows of `spend`.
    squares: BTreeMap<&'static str, f64>,
    /// Customer, whether it left, and what both said of that.
    churn: Vec<(u32, bool, [f32; 2])>,
}

impl Rows {
    fn add(&mut self, head: &str, measure: &'static str, customer: usize, values: [f32; 2]) {
        self.by_measure.entry((head.to_owned(), measure)).or_default().push((customer as u32, values));
    }

    pub fn labelled(&mut self, customer: usize, labels: &Labels, scores: [&Score; 2]) {
        if let (Some(mean), [Some(a), Some(b)]) = (labels.satisfaction, scores.map(|s| s.satisfaction)) {
            let class = satisfaction_class(mean);
            let p = [a, b].map(|s| [s.dissatisfied, s.neutral, s.satisfied]);
            let right = p.map(|p| f32::from(metrics::argmax(&p) == class));
            let distance = p.map(|p| (0..p.len()).map(|i| (p[i] - f32::from(i == class)).powi(2)).sum::<f32>());
            self.add(SATISFACTION, "accuracy", customer, right);
            self.add(SATISFACTION, "quadratic", customer, distance.map(|d| 1.0 - d / 2.0));
        }
        for (task, label) in &labels.classes {
            self.class(customer, task, |named| named == &**label, scores);
        }
    }

    /// A label that a score does not name has no probability; a score that says "unknown" names none.
    fn class(&mut self, customer: usize, task: &str, is_label: impl Fn(&str) -> bool, scores: [&Score; 2]) {
        let mut values = [[0.0; 2]; 2];
        for (n, score) in scores.into_iter().enumerate() {
            let find = |name: &str| score.classes.iter().find(|(task, _)| task.as_str() == name).map(|(_, s)| s);
            let Some(ClassScore::Top(top)) = find(task) else { return };
            let unknown = matches!(find(&format!("{task}_unknown")), Some(ClassScore::Unknown(true)));
            let right = !unknown && top.first().is_some_and(|t| is_label(t.label.as_str()));
            let mut distance: f32 = top.iter().map(|t| (t.probability - f32::from(is_label(t.label.as_str()))).powi(2)).sum();
            if !top.iter().any(|t| is_label(t.label.as_str())) {
                distance += 1.0;
            }
            values[0][n] = f32::from(right);
            values[1][n] = 1.0 - distance / 2.0;
        }
        self.add(task, "accuracy", customer, values[0]);
        self.add(task, "quadratic", customer, values[1]);
    }

    /// What came after an interaction at `at` and before `until`: the labels of training. Both scores look as far.
    pub fn future(&mut self, customer: usize, timeline: &Timeline<'_>, at: Timestamp, until: Timestamp, scores: [&Score; 2]) {
        let came = timeline.outcome(timeline.before(Timestamp(at.0 + 1)), until);
        if let [Some(a), Some(b)] = scores.map(|s| s.churn) {
            let p = [a.probability, b.probability];
            self.churn.push((customer as u32, !came.returned, p));
            self.add("churn", "quadratic", customer, p.map(|p| 1.0 - (p - f32::from(!came.returned)).powi(2)));
        }
        if let [Some(a), Some(b)] = scores.map(|s| s.spend) {
            self.number("purchases", customer, [a.purchases, b.purchases], came.purchases as f32);
            self.number("amount", customer, [a.amount, b.amount], came.amount as f32);
        }
        if came.need != 0 {
            self.class(customer, "next_need", |named| words::hash(named) == came.need, scores);
        }
    }

    /// Absolute errors, until [`Self::finish`].
    fn number(&mut self, measure: &'static str, customer: usize, said: [f32; 2], came: f32) {
        self.add("spend", measure, customer, said.map(|said| (said - came).abs()));
        *self.squares.entry(measure).or_default() += f64::from(came).powi(2);
    }

    /// All rows by head and measure, errors in parts of what came true. Where nothing came there is nothing to be measured in.
    pub fn finish(mut self) -> BTreeMap<(String, &'static str), Vec<Row>> {
        for (measure, squares) in &self.squares {
            let key = ("spend".to_owned(), *measure);
            if *squares == 0.0 {
                self.by_measure.remove(&key);
            } else if let Some(rows) = self.by_measure.get_mut(&key) {
                let scale = (squares / rows.len() as f64).sqrt() as f32;
                rows.iter_mut().for_each(|(_, values)| *values = values.map(|error| 1.0 - error / scale));
            }
        }
        let placed = [0, 1].map(|model| areas(self.churn.iter().map(|(_, left, p)| (*left, p[model])).collect()));
        if let [Some(champion), Some(challenger)] = placed {
            let rows = self.churn.iter().zip(champion).zip(challenger).map(|(((customer, ..), a), b)| (*customer, [a, b])).collect();
            self.by_measure.insert(("churn".to_owned(), "auroc"), rows);
        }
        self.by_measure
    }
}

/// For each (event, probability) a value whose mean is the area under the ROC curve, and the spread of whose mean is that of the area. The share of the other
/// kind that a row is rightly above or below, a tie counting half, is its placement (DeLong et al., 1988); how far that is from the area counts the more the rarer
/// the row's kind is. `None` where there is one kind only.
fn areas(rows: Vec<(bool, f32)>) -> Option<Vec<f32>> {
    let mut sorted = [false, true].map(|kind| rows.iter().filter(|(event, _)| *event == kind).map(|(_, p)| *p).collect::<Vec<f32>>());
    sorted.iter_mut().for_each(|p| p.sort_by(f32::total_cmp));
    if sorted.iter().any(Vec::is_empty) {
        return None;
    }
    let place = |(event, p): (bool, f32)| {
        let others = &sorted[usize::from(!event)];
        let (below, upto) = (others.partition_point(|o| *o < p), others.partition_point(|o| *o <= p));
        let lower = (below + upto) as f64 / (2 * others.len()) as f64;
        if event { lower } else { 1.0 - lower }
    };
    let n = rows.len() as f64;
    let weights = [false, true].map(|kind| n / sorted[usize::from(kind)].len() as f64);
    let placed: Vec<(bool, f64)> = rows.into_iter().map(|row| (row.0, place(row))).collect();
    let area = placed.iter().map(|(_, value)| value).sum::<f64>() / n;
    Some(placed.into_iter().map(|(event, value)| (area + weights[usize::from(event)] * (value - area)) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Churn, ClassProbability, Spend};
    use crate::interaction::Name;
    use crate::train::future::timeline::tests::customer;

    fn at(t: &str) -> Timestamp {
        Timestamp::parse(t).expect("a time")
    }

    /// Says that a customer leaves with this probability, buys once for this amount, and needs this.
    fn score(churn: f32, amount: f32, need: &str) -> Score {
        let horizon_days = 2;
        let top = ClassScore::Top(vec![ClassProbability { label: Name::from(need), probability: 1.0 }]);
        Score {
            customer_id: "c".into(),
            interaction_id: None,
            occurred_at: Timestamp(0),
            scored_at: Timestamp(0),
            model: Name::from("m"),
            satisfaction: None,
            classes: BTreeMap::from([(Name::from("next_need"), top)]),
            churn: Some(Churn { probability: churn, horizon_days }),
            spend: Some(Spend { purchases: 1.0, amount, horizon_days }),
            segment: None,
            anomaly: None,
        }
    }

    #[test]
    fn what_came_is_strictly_after_and_before_the_end() {
        let c = customer(
            "c",
            &[
                ("2026-01-01T10:00:00Z", r#""kind":"purchase","amount":9,"category":"a""#),
                ("2026-01-02T10:00:00Z", r#""kind":"purchase","amount":4,"category":"b""#),
                ("2026-01-04T10:00:00Z", r#""kind":"purchase","amount":2,"category":"c""#),
            ],
        );
        let timeline = Timeline::new(&c);
        let mut rows = Rows::default();
        let scores = [&score(0.1, 4.0, "b"), &score(0.9, 0.0, "c")];
        rows.future(0, &timeline, at("2026-01-01T10:00:00Z"), at("2026-01-04T10:00:00Z"), scores);
        let found = rows.finish();
        let values = |head: &str, measure| found[&(head.to_owned(), measure)][0].1;
        assert_eq!(values("churn", "quadratic").map(|v| (v * 100.0).round()), [99.0, 19.0]);
        assert_eq!((values("spend", "purchases"), values("spend", "amount")), ([1.0, 1.0], [1.0, 0.0]));
        // What comes at the end itself is none of it, and what is later is no next need.
        assert_eq!(values("next_need", "accuracy"), [1.0, 0.0]);
    }

    #[test]
    fn where_nothing_came_there_is_no_spend_and_no_need_to_judge() {
        let c = customer("c", &[("2026-01-01T10:00:00Z", r#""kind":"purchase","amount":9,"category":"a""#)]);
        let mut rows = Rows::default();
        let scores = [&score(0.9, 4.0, "b"), &score(0.1, 0.0, "c")];
        rows.future(0, &Timeline::new(&c), at("2026-01-01T10:00:00Z"), at("2026-01-03T10:00:00Z"), scores);
        let found = rows.finish();
        assert!(found.keys().all(|(head, _)| head == "churn"), "{:?}", found.keys());
        // All of one kind: nothing to tell apart.
        assert_eq!(found.keys().map(|(_, measure)| *measure).collect::<Vec<_>>(), ["quadratic"]);
    }

    #[test]
    fn the_mean_of_placements_is_the_area_under_the_curve() {
        // Pairs of an event and another: 0.8 is above 0.7 and 0.2; 0.7 ties with 0.7 and is above 0.2; 0.1 is above none: 3.5 of 6.
        let rows = vec![(true, 0.8), (true, 0.7), (true, 0.1), (false, 0.7), (false, 0.2)];
        let placed = areas(rows).expect("both kinds");
        let mean = |rows: &[f32]| rows.iter().sum::<f32>() / rows.len() as f32;
        assert!([&placed[..3], &placed[3..], &placed[..]].iter().all(|rows| (mean(rows) - 3.5 / 6.0).abs() < 1e-6), "{placed:?}");
        // Only the order counts.
        assert_eq!(areas(vec![(true, 0.51), (false, 0.5)]), areas(vec![(true, 0.9), (false, 0.1)]));
    }

    #[test]
    fn the_mean_of_placements_spreads_as_the_area_does() {
        use rand::rngs::SmallRng;
        use rand::{Rng, SeedableRng};
        // One in ten is an event, and a little more is said of it.
        let mut random = SmallRng::seed_from_u64(5);
        let draw = |random: &mut SmallRng| -> Vec<(bool, f32)> {
            (0..400).map(|i| (i % 10 == 0, random.random::<f32>() + if i % 10 == 0 { 0.3 } else { 0.0 })).collect()
        };
        let deviation = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
        };
        let mean = |rows: &[f32]| rows.iter().map(|v| f64::from(*v)).sum::<f64>() / rows.len() as f64;
        let all: Vec<Vec<f32>> = (0..300).map(|_| areas(draw(&mut random)).expect("both kinds")).collect();
        let actual = deviation(&all.iter().map(|rows| mean(rows)).collect::<Vec<_>>());
        let said = all.iter().map(|rows| deviation(&rows.iter().map(|v| f64::from(*v)).collect::<Vec<_>>()) / 20.0).sum::<f64>() / 300.0;
        assert!((said / actual - 1.0).abs() < 0.15, "{said} {actual}");
    }
}
