//! Calibration of every head on the part that is set aside for it, and the rows of the part that judges.
//!
//! Knows the network's logits and whose they are.

use super::prepared::{CLASSES, Prepared};
use crate::train::calibrate::{self, Bias, Scaling};
use crate::train::config::Config;
use crate::train::dataset::Dataset;
use crate::train::fit;
use crate::train::holdout::{Holdout, View};
use crate::train::judge::{Judged, Unknown};
use crate::train::metrics::Row;
use crate::train::network::Network;
use crate::train::satisfaction_class;
use crate::train::slices::Who;
use crate::train::stack::Head;

/// A labelled step: place (sequence, step), logits, class; the number of classes for a label that the model does not know.
type Step = ((usize, usize), Vec<f32>, usize);
type Labelled = Vec<Step>;

/// What the network says of the labelled steps of a data set, in order of customer and step.
#[derive(Clone)]
pub struct Said {
    satisfaction: Labelled,
    /// Given ratings, beside `satisfaction`.
    ratings: Vec<f32>,
    /// By class task.
    classes: Vec<Labelled>,
}

impl Said {
    /// `views` are those that the data set was made of.
    pub fn of(network: &Network, data: &Dataset, views: &[View<'_>]) -> Self {
        let (mut satisfaction, mut classes): (Labelled, Vec<Labelled>) = (Vec::new(), vec![Vec::new(); data.tasks.len()]);
        fit::run(network, &data.sequences, |sequence, at, output, row| {
            let step = &data.sequences[sequence].steps[at];
            if let Some(mean) = step.satisfaction {
                let logits = output.satisfaction[row * CLASSES..][..CLASSES].to_vec();
                satisfaction.push(((sequence, at), logits, satisfaction_class(mean)));
            }
            let given = views[sequence].labels(at);
            for (i, (label, task)) in step.classes.iter().zip(&data.tasks).enumerate() {
                let k = task.labels.len();
                let unknown = given.is_some_and(|l| l.classes.contains_key(&task.name)).then_some(k);
                if let Some(label) = label.map(|l| l as usize).or(unknown) {
                    classes[i].push(((sequence, at), output.classes[i][row * k..][..k].to_vec(), label));
                }
            }
        });
        satisfaction.sort_by_key(|l| l.0);
        classes.iter_mut().for_each(|c| c.sort_by_key(|l| l.0));
        let ratings = satisfaction.iter().filter_map(|((s, at), _, _)| data.sequences[*s].steps[*at].satisfaction).collect();
        Self { satisfaction, ratings, classes }
    }
}

impl Said {
    /// Both, as of one data set whose sequences are those of `self` and then those of `other`.
    pub fn and(self, other: Self) -> Self {
        let labelled = std::iter::once(&self.satisfaction).chain(&self.classes).flatten();
        let sequences = labelled.map(|((sequence, _), ..)| sequence + 1).max().unwrap_or(0);
        let join = |mut these: Labelled, those: Labelled| {
            these.extend(those.into_iter().map(|((sequence, at), logits, class)| ((sequences + sequence, at), logits, class)));
            these
        };
        Self {
            satisfaction: join(self.satisfaction, other.satisfaction),
            ratings: [self.ratings, other.ratings].concat(),
            classes: self.classes.into_iter().zip(other.classes).map(|(these, those)| join(these, those)).collect(),
        }
    }
}

impl Said {
    fn of_head(&self, head: Head) -> &Labelled {
        match head {
            Head::Satisfaction => &self.satisfaction,
            Head::Class(task) => &self.classes[task],
        }
    }

    /// What is said where linear models, who say `linear` of the same steps, have these shares.
    pub fn with(mut self, linear: &Self, share: impl Fn(Head) -> f32) -> Self {
        let mix = |own: &mut Labelled, linear: &Labelled, share: f32| {
            for ((_, own, _), (_, theirs, _)) in own.iter_mut().zip(linear) {
                own.iter_mut().zip(theirs).for_each(|(own, theirs)| *own = mean(*own, *theirs, share));
            }
        };
        mix(&mut self.satisfaction, &linear.satisfaction, share(Head::Satisfaction));
        for (task, (own, linear)) in self.classes.iter_mut().zip(&linear.classes).enumerate() {
            mix(own, linear, share(Head::Class(task)));
        }
        self
    }

    /// The share of a linear model with which what is said is least wrong of a head, each with a scale of its own; none where there are too few labels.
    pub fn share(&self, linear: &Self, head: Head) -> f32 {
        let (own, theirs) = (self.of_head(head), linear.of_head(head));
        // A label that the model does not know has no loss.
        let rows = || own.iter().zip(theirs).filter(|(own, _)| own.2 < own.1.len());
        let labels: Vec<usize> = rows().map(|(own, _)| own.2).collect();
        if labels.len() < FEWEST_SHARING {
            return 0.0;
        }
        let loss = |share: f32| {
            let mixed = |own: &Step, theirs: &Step| own.1.iter().zip(&theirs.1).map(|(own, theirs)| mean(*own, *theirs, share)).collect();
            let logits: Vec<Vec<f32>> = rows().map(|(own, theirs)| mixed(own, theirs)).collect();
            let scaling = calibrate::fit(&logits, &labels, Bias::None);
            logits.iter().zip(&labels).map(|(logits, label)| -f64::from(scaling.apply(logits)[*label]).max(1e-15).ln()).sum::<f64>()
        };
        SHARES.into_iter().map(|share| (share, loss(share))).min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0.0, |(share, _)| share)
    }
}

/// Shares that a linear model may have, and fewest labels to choose by.
const SHARES: [f32; 7] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
const FEWEST_SHARING: usize = 100;

fn mean(own: f32, linear: f32, share: f32) -> f32 {
    (1.0 - share) * own + share * linear
}

/// Calibration of every head.
pub struct Heads {
    pub satisfaction: Scaling,
    /// Scaling, and the probability below which none of the labels is meant.
    pub classes: Vec<(Scaling, Option<f32>)>,
}

impl Heads {
    /// Fits on what was said of the calibration part. How frequent the classes of satisfaction are is known from `fitted`, what the network was fitted
    /// on, and kept where a scale alone would change it: what a few other customers of the same time say of it is chance, what a later time says may be
    /// news.
    pub fn fit(said: &Said, fitted: &Dataset, prepared: &Prepared, holdout: &Holdout, config: &Config) -> Self {
        let rows = |labelled: &Labelled, width: usize| -> (Vec<Vec<f32>>, Vec<usize>) {
            known(labelled, width).map(|l| (l.1.clone(), l.2)).unzip()
        };
        let classes = said.classes.iter().zip(&prepared.tasks).map(|(labelled, task)| {
            let (logits, labels) = rows(labelled, task.labels.len());
            let scaling =
                if logits.is_empty() { Scaling::identity(task.labels.len()) } else { calibrate::fit(&logits, &labels, Bias::None) };
            let largest = known(labelled, task.labels.len()).map(|l| scaling.apply(&l.1).into_iter().fold(0.0, f32::max)).collect();
            let below = unknown_below(largest, config.unknown_quantile);
            (scaling, below)
        });
        let (logits, labels) = rows(&said.satisfaction, CLASSES);
        let satisfaction = match holdout {
            _ if logits.is_empty() => Scaling::identity(CLASSES),
            Holdout::Time { .. } => calibrate::fit(&logits, &labels, Bias::Labels),
            Holdout::Customers => {
                let (scaled, shares) = (calibrate::fit(&logits, &labels, Bias::None), shares(fitted));
                let off = is_off(&said.satisfaction, &scaled, shares);
                if off { calibrate::fit(&logits, &labels, Bias::Shares(&shares)) } else { scaled }
            }
        };
        Self { satisfaction, classes: classes.collect() }
    }

    /// Rows of satisfaction, with the ratings.
    pub fn satisfaction_rows(&self, said: &Said, prepared: &Prepared, views: &[View<'_>]) -> Vec<Judged> {
        let row = |((place, logits, class), rating): (&Step, &f32)| {
            let p = self.satisfaction.apply(logits);
            let value = value(&p, prepared);
            Judged { row: Row::new(&p, *class, Some(0)), rating: Some((value, *rating)), who: who(views, *place) }
        };
        said.satisfaction.iter().zip(&said.ratings).map(row).collect()
    }

    /// Rows of class task number `task`: the likeliest label is said, whatever the threshold for unknowns.
    pub fn class_rows(&self, said: &Said, task: usize, views: &[View<'_>]) -> Vec<Judged> {
        let row = |(place, logits, class): &Step| {
            let p = self.classes[task].0.apply(logits);
            Judged { row: Row::new(&p, *class, None), rating: None, who: who(views, *place) }
        };
        said.classes[task].iter().map(row).collect()
    }
}

/// How well the threshold for unknowns of a class task does on its rows; `None` where there is no threshold.
pub fn unknown(rows: &[Judged], classes: usize, below: Option<f32>) -> Option<Unknown> {
    let below = below?;
    let largest = |j: &Judged| j.row.p.iter().copied().fold(0.0, f32::max);
    Some(Unknown::of(rows.iter().map(|j| (j.row.label < classes, largest(j) < below))))
}

/// Whether the mean probability of some class is further from its share than which customers calibrate explains: by two standard errors over customers.
fn is_off(labelled: &Labelled, scaling: &Scaling, shares: [f64; CLASSES]) -> bool {
    let rows: Vec<(usize, Vec<f32>)> = labelled.iter().map(|((sequence, _), logits, _)| (*sequence, scaling.apply(logits))).collect();
    let n = rows.len() as f64;
    (0..CLASSES).any(|c| {
        let p = |row: &(usize, Vec<f32>)| f64::from(row.1[c]);
        let mean = rows.iter().map(p).sum::<f64>() / n;
        let of_customers = rows.chunk_by(|a, b| a.0 == b.0).map(|rows| rows.iter().map(|row| p(row) - mean).sum::<f64>());
        (mean - shares[c]).abs() > 2.0 * of_customers.map(|sum| sum * sum).sum::<f64>().sqrt() / n
    })
}

/// Shares of the classes of satisfaction; half a label more of each, so that none is 0.
fn shares(data: &Dataset) -> [f64; CLASSES] {
    let mut counts = [0.5; CLASSES];
    data.sequences.iter().flat_map(|s| &s.steps).filter_map(|s| s.satisfaction).for_each(|mean| counts[satisfaction_class(mean)] += 1.0);
    let all: f64 = counts.iter().sum();
    counts.map(|n| n / all)
}

/// Steps with a label that the model knows.
fn known(labelled: &Labelled, classes: usize) -> impl Iterator<Item = &Step> {
    labelled.iter().filter(move |l| l.2 < classes)
}

/// The expected rating of calibrated probabilities, as the engine computes it.
pub fn value(p: &[f32], prepared: &Prepared) -> f32 {
    p.iter().zip(prepared.class_values).map(|(p, v)| p * v).sum::<f32>().clamp(1.0, 5.0)
}

fn who(views: &[View<'_>], (sequence, step): (usize, usize)) -> Who {
    let view = &views[sequence];
    let item = &view.items[step];
    Who { customer: view.number as u32, language: item.language, kind: item.kind, segment: 0, place: step as u32 }
}

/// Fewest held-out labels of a task that tell where its unknowns begin.
pub const FEWEST_KNOWN: usize = 200;

/// Quantile of the largest probabilities on known classes; `None` where there are too few to tell.
fn unknown_below(mut largest: Vec<f32>, quantile: f64) -> Option<f32> {
    if quantile <= 0.0 || largest.len() < FEWEST_KNOWN {
        return None;
    }
    largest.sort_by(f32::total_cmp);
    largest.get((largest.len() as f64 * quantile) as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_off_where_customers_cannot_explain_it() {
        // Forty customers of five rows each, who differ from each other: half are surely satisfied, half are not.
        let row = |i: usize| ((i / 5, i % 5), if (i / 5).is_multiple_of(2) { vec![0.0, 0.0, 5.0] } else { vec![0.0, 0.0, -5.0] }, 0);
        let labelled: Labelled = (0..200).map(row).collect();
        let off =
            |satisfied: f64| is_off(&labelled, &Scaling::identity(CLASSES), [(1.0 - satisfied) / 2.0, (1.0 - satisfied) / 2.0, satisfied]);
        assert_eq!([0.2, 0.4, 0.5, 0.6, 0.8].map(off), [true, false, false, false, true]);
    }
}
