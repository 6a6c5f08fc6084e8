//! What the labelled data looks like, and the settings that suit it.
//!
//! One recipe does not fit both conversations, where a sequence model reads the whole, and collections of single texts, where a wide linear classifier
//! with a high learning rate does best. Knows counts; no texts and no networks.

use std::collections::{BTreeMap, BTreeSet};

use super::config::Config;
use super::fit::CONVERSATION;
use super::holdout::View;

/// Conversations by which steps are counted.
const CROWD: usize = 16;
/// Up to so many classes are few.
const FEW_CLASSES: usize = 10;
/// Below so many steps in an epoch there are twice as many, of half the conversations.
const FEW_STEPS: usize = 320;

/// Fewer texts of few classes are learnt in so few steps that they need less dropout and a lower rate.
const FEW_TEXTS: usize = 13_000;

/// The shape of the labelled part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Customers with labels have more than two interactions each, half of them or more; several of a customer's interactions are rated, or none.
    Conversations {
        /// Steps of the optimiser in an epoch, about, were they of [`CROWD`].
        steps: usize,
        /// As for [`Shape::Texts`].
        many: bool,
    },
    /// The same, but a customer has one rating: of a session as a whole.
    Sessions {
        /// Customers with a rating.
        rated: usize,
    },
    /// Most customers with labels have one or two interactions.
    Texts {
        /// Customers with labels.
        customers: usize,
        /// Whether nothing is rated and a task has more than [`FEW_CLASSES`].
        many: bool,
    },
}

impl Shape {
    pub fn of(fit: &[View<'_>]) -> Self {
        let labelled = |view: &&View<'_>| view.own().any(|(_, labels)| !labels.is_empty());
        let mut lengths: Vec<usize> = fit.iter().filter(labelled).map(|view| view.items.len()).collect();
        lengths.sort_unstable();
        let customers = lengths.len();
        let ratings = |view: &View<'_>| view.own().filter(|(_, labels)| labels.satisfaction.is_some()).count();
        let rated: Vec<usize> = fit.iter().map(ratings).filter(|n| *n > 0).collect();
        let many = rated.is_empty() && classes(fit) > FEW_CLASSES;
        match lengths.get(customers / 2) {
            Some(1 | 2) => Self::Texts { customers, many },
            // Fewer than three ratings for every two customers who have any.
            _ if !rated.is_empty() && 2 * rated.iter().sum::<usize>() < 3 * rated.len() => Self::Sessions { rated: rated.len() },
            _ => {
                let steps = lengths.iter().map(|n| n.min(&CONVERSATION)).sum::<usize>().div_ceil(CROWD * CONVERSATION);
                Self::Conversations { steps, many }
            }
        }
    }

    /// The defaults for this shape.
    pub fn settings(self) -> Config {
        let config = Config::default();
        match self {
            // A small set needs more passes, and smaller steps: of many classes 480 of 16 conversations or 960 of 8 at the least. Ratings and few classes
            // are soon learnt by heart: 60 epochs / steps^0.7 did best on sets of 60 to 600 conversations.
            Self::Conversations { steps, many } => Config {
                epochs: match many {
                    true => 480usize.div_ceil(steps.max(1)).clamp(3, 40),
                    false => ((60.0 / (steps.max(1) as f64).powf(0.7)).round() as usize).clamp(3, 30),
                },
                batch: if steps < FEW_STEPS { CROWD / 2 } else { CROWD },
                ..config
            },
            // A rating tells little of each of the words before it: what they say together is learnt faster, thinned more, and steadied by the class tasks.
            Self::Sessions { rated } => Config {
                epochs: (30_000 / rated.max(1)).clamp(3, 10),
                opinions_rate: 10.0,
                bag_dropout: 0.5,
                class_loss: 1.0,
                intercept_deviation: 0.0,
                ..config
            },
            Self::Texts { customers, many } => {
                let soon = !many && customers < FEW_TEXTS;
                Config {
                    // About 1,200 steps of 128 texts; a few classes are told apart, and then learnt by heart, in some 320.
                    epochs: (if many { 150_000 } else { 40_000 } / customers.max(1)).clamp(3, 30),
                    learning_rate: if soon { 3e-3 } else { 4e-3 },
                    votes_rate: 2.5,
                    opinions_rate: 1.0,
                    mean_loss: 0.5,
                    intercept_deviation: 0.0,
                    filters: 96,
                    bag: 96,
                    smoothing: 0.1,
                    dropout: if soon { 0.3 } else { 0.5 },
                    bag_dropout: 0.5,
                    ..config
                }
            }
        }
    }
}

/// Classes of the task that has most, in these customers' labels.
fn classes(fit: &[View<'_>]) -> usize {
    let mut by_task: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (task, class) in fit.iter().flat_map(View::own).flat_map(|(_, labels)| &labels.classes) {
        by_task.entry(task).or_default().insert(class);
    }
    by_task.values().map(BTreeSet::len).max().unwrap_or(0)
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Conversations { .. } => "conversations",
            Self::Sessions { .. } => "sessions with one rating each",
            Self::Texts { .. } => "single texts",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_examples_are_seen_more_often() {
        let epochs = |shape: Shape| shape.settings().epochs;
        assert_eq!([100, 2_500, 6_000, 100_000].map(|rated| epochs(Shape::Sessions { rated })), [10, 10, 5, 3]);
        assert_eq!([10, 100, 1_000].map(|steps| epochs(Shape::Conversations { steps, many: true })), [40, 5, 3]);
        assert_eq!([0, 3, 12, 34, 100].map(|steps| epochs(Shape::Conversations { steps, many: false })), [30, 28, 11, 5, 3]);
        assert_eq!([10, 319, 320].map(|steps| Shape::Conversations { steps, many: false }.settings().batch), [8, 8, 16]);
        assert_eq!([0, 15_000, 1_000_000].map(|customers| epochs(Shape::Texts { customers, many: true })), [30, 10, 3]);
        assert_eq!([0, 6_000, 15_000].map(|customers| epochs(Shape::Texts { customers, many: false })), [30, 6, 3]);
        let dropout = |customers, many| Shape::Texts { customers, many }.settings().dropout;
        assert_eq!([dropout(6_000, false), dropout(60_000, false), dropout(6_000, true)], [0.3, 0.5, 0.5]);
    }
}
