//! Linear models of n-grams, fitted by themselves, that have a share in what a network says of a text.
//!
//! Networks and linear models err differently, so a mean of their logits errs less than either (stacking: Wolpert 1992), most where labels are few. Each
//! is a multinomial logistic regression on the sums by which a network reads its tables of votes and opinions, every n-gram weighted by its inverse
//! document frequency: with its share settled it goes into these tables, and nothing but their numbers tells of it. Knows data sets and tables; no text.

use std::collections::{BTreeMap, HashMap};

use super::dataset::{Dataset, Step};
use super::lookup::bag_scale;
use super::network::{Architecture, CLASSES, Network, OPINIONS, SATISFACTION, SATISFACTION_BIAS, SPAN, SPOKEN, TASKS, VOTES};
use super::satisfaction_class;
use super::tfidf::{Row, loss, minimise};

/// Most classes: of more, networks tell far better than linear models.
const MOST_CLASSES: usize = 10;
/// Most documents that it learns from: a network that has more needs no help.
const MOST_DOCUMENTS: usize = 50_000;
/// Inverse penalties that are tried, the strongest penalty first; each fit starts from the one before.
const PENALTIES: [f64; 4] = [0.1, 0.3, 1.0, 3.0];
/// Fewest labels that choose among them, and the largest that is tried where there are fewer.
const FEWEST: usize = 50;
const USUAL: f64 = 0.3;
/// Most steps of the minimiser.
const STEPS: usize = 60;
/// A share in the running mean that is too small to count.
const NOTHING: f32 = 1e-3;

/// A fitted model of one head.
pub struct Linear {
    pub head: Head,
    place: Place,
    /// Of every n-gram its number and inverse document frequency.
    grams: HashMap<u32, (u32, f32)>,
    /// `[grams][classes]`, then the biases.
    weights: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    Satisfaction,
    Class(usize),
}

/// Where a network has its weights of n-grams for a head, and what else makes its logits.
struct Place {
    table: usize,
    /// Columns of the table, the first of the head's, and how many those are: of satisfaction there are those of who is no customer, too.
    width: usize,
    first: usize,
    columns: usize,
    classes: usize,
    /// Parameters of the logits' layer; the last is the bias.
    layers: Vec<usize>,
}

/// Fits a model of satisfaction, where the network reads opinions, and of every class task of few labels on which it reads votes. They learn from
/// `data`; `calibration` chooses their penalty.
pub fn fit(a: &Architecture, data: &Dataset, calibration: &Dataset) -> Vec<Linear> {
    let mut all = Vec::new();
    if a.satisfaction && a.opinions_rate > 0.0 {
        let layers = vec![SATISFACTION, SATISFACTION_BIAS];
        let place = Place { table: OPINIONS, width: SPOKEN, first: 0, columns: SPOKEN, classes: CLASSES, layers };
        let of = |d| documents(d, |steps| said(steps, a.customer), |s| s.satisfaction.map(satisfaction_class));
        all.extend(Linear::fit(Head::Satisfaction, place, of(data), of(calibration)));
    }
    for (i, task) in a.tasks.iter().enumerate() {
        let Some(first) = a.first_vote(i).filter(|_| task.labels <= MOST_CLASSES) else { continue };
        let layers = (0..3).map(|part| TASKS + 3 * i + part).collect();
        let place = Place { table: VOTES, width: a.votes(), first, columns: task.labels, classes: task.labels, layers };
        let of = |d| documents(d, |steps| said(&steps[steps.len() - 1..], None), |s| s.classes[i].map(|label| label as usize));
        all.extend(Linear::fit(Head::Class(i), place, of(data), of(calibration)));
    }
    all
}

/// `network` with these models' shares in its logits.
pub fn with(network: &Network, models: &[Linear], share: impl Fn(Head) -> f32) -> Network {
    let mut network = network.clone();
    models.iter().for_each(|model| model.add(&mut network, share(model.head)));
    network
}

/// N-grams until a labelled step: row of the table, doubled, and one more where no customer said it; with its weight in the sums. And the class.
type Document = (Vec<(u32, f32)>, usize);

fn documents(data: &Dataset, grams: impl Fn(&[Step]) -> Vec<(u32, f32)>, class: impl Fn(&Step) -> Option<usize>) -> Vec<Document> {
    let labelled = data.sequences.iter().flat_map(|s| (0..s.steps.len()).map(move |at| (s, at)));
    let labelled: Vec<_> = labelled.filter_map(|(s, at)| Some((&s.steps[..=at], class(&s.steps[at])?))).collect();
    let every = labelled.len().div_ceil(MOST_DOCUMENTS).max(1);
    labelled.into_iter().step_by(every).map(|(steps, class)| (grams(steps), class)).collect()
}

/// √ of the steps under the running mean × that mean, of the sums / √n of a step's n-grams.
fn said(steps: &[Step], customer: Option<usize>) -> Vec<(u32, f32)> {
    let mut sums: BTreeMap<u32, f32> = BTreeMap::new();
    let mut weight = 1.0 / (steps.len() as f32).min(SPAN).sqrt();
    for (i, step) in steps.iter().enumerate().rev() {
        if weight < NOTHING {
            break;
        }
        let others = customer.is_some_and(|column| step.features[column] < 0.0);
        let each = weight * bag_scale(step.bag.len());
        step.bag.iter().for_each(|row| *sums.entry(2 * row + u32::from(others)).or_default() += each);
        // What came before a full mean gives way to it.
        weight *= if i as f32 >= SPAN { 1.0 - 1.0 / SPAN } else { 1.0 };
    }
    sums.into_iter().collect()
}

impl Linear {
    /// `None` where there is nothing to tell apart.
    fn fit(head: Head, place: Place, fit: Vec<Document>, aside: Vec<Document>) -> Option<Self> {
        let k = place.classes;
        if !fit.iter().any(|d| d.1 != fit[0].1) {
            return None;
        }
        let grams = idf(&fit);
        let [fit, aside] = [fit, aside].map(|documents| rows(&documents, &grams));
        let penalised = grams.len() * k;
        let choose = aside.1.len() >= FEWEST;
        let mut x = vec![0.0; penalised + k];
        let mut best: Option<(f64, Vec<f64>)> = None;
        for c in PENALTIES.into_iter().filter(|c| choose || *c <= USUAL) {
            minimise(&mut x, STEPS, |x, gradient| loss(x, gradient, &fit.0, &fit.1, k, c, penalised));
            let off = if choose { log_loss(&x, &aside, k, penalised) } else { -c };
            if best.as_ref().is_none_or(|(least, _)| off < *least) {
                best = Some((off, x.clone()));
            }
        }
        best.map(|(_, weights)| Self { head, place, grams, weights })
    }

    fn add(&self, network: &mut Network, share: f32) {
        let Place { table, width, first, columns, classes, ref layers } = self.place;
        let parameters = &mut network.parameters;
        for layer in layers {
            parameters[*layer].values.iter_mut().for_each(|w| *w *= 1.0 - share);
        }
        let table = &mut parameters[table].values;
        table.chunks_exact_mut(width).flat_map(|row| &mut row[first..first + columns]).for_each(|w| *w *= 1.0 - share);
        for (gram, (index, idf)) in &self.grams {
            let at = (gram / 2) as usize * width + first + (gram % 2) as usize * classes;
            let own = &self.weights[*index as usize * classes..][..classes];
            table[at..at + classes].iter_mut().zip(own).for_each(|(w, own)| *w += share * idf * *own as f32);
        }
        if let Some(bias) = layers.last() {
            let own = &self.weights[self.grams.len() * classes..];
            parameters[*bias].values.iter_mut().zip(own).for_each(|(b, own)| *b += share * *own as f32);
        }
    }
}

/// Of every n-gram that occurs its number and inverse document frequency (scikit-learn's, smooth).
fn idf(documents: &[Document]) -> HashMap<u32, (u32, f32)> {
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    documents.iter().flat_map(|d| &d.0).for_each(|(gram, _)| *seen.entry(*gram).or_default() += 1);
    let idf = |n: u32| ((1.0 + documents.len() as f32) / (1.0 + n as f32)).ln() + 1.0;
    seen.into_iter().zip(0..).map(|((gram, n), index)| (gram, (index, idf(n)))).collect()
}

fn rows(documents: &[Document], idf: &HashMap<u32, (u32, f32)>) -> (Vec<Row>, Vec<usize>) {
    let row = |d: &Document| d.0.iter().filter_map(|(gram, x)| idf.get(gram).map(|(index, idf)| (*index, x * idf))).collect();
    documents.iter().map(|d| (row(d), d.1)).unzip()
}

/// Sum of the log-losses.
fn log_loss(x: &[f64], (rows, labels): &(Vec<Row>, Vec<usize>), classes: usize, penalised: usize) -> f64 {
    let mut unused = vec![0.0; x.len()];
    loss(x, &mut unused, rows, labels, classes, 1.0, penalised) - 0.5 * x[..penalised].iter().map(|w| w * w).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::Actor;
    use crate::train::dataset::{ClassTask, Sequence};
    use crate::train::fit as loop_;
    use crate::train::network::TaskShape;

    fn architecture() -> Architecture {
        Architecture { hidden: 5, customer: Some(0), tasks: vec![TaskShape { labels: 2, wide: true }], ..Architecture::small() }
    }

    /// Conversations of `length` steps, whose first words of the customer say what the last is rated, and whose last word says its class.
    fn data(length: usize) -> Dataset {
        let sequence = |n: usize| {
            let bad = n.is_multiple_of(2);
            let step = |at: usize| {
                let last = at + 1 == length;
                let actor = if at.is_multiple_of(2) { Actor::Customer } else { Actor::Agent };
                let said = if at == 0 && bad { 3 } else { 4 };
                Step {
                    tokens: vec![2, 3],
                    bag: vec![said, if last && n.is_multiple_of(3) { 5 } else { 6 }, 7],
                    features: vec![if actor == Actor::Customer { 1.0 } else { -1.0 }, 0.5],
                    actor,
                    satisfaction: last.then_some(if bad { 1.0 } else { 5.0 }),
                    classes: vec![last.then_some(u32::from(n.is_multiple_of(3)))],
                }
            };
            Sequence { customer: n.to_string().into(), steps: (0..length).map(step).collect() }
        };
        let task = ClassTask { name: "t".into(), labels: vec!["a".into(), "b".into()], auxiliary: false };
        Dataset {
            sequences: (0..60).map(sequence).collect(),
            feature_width: 2,
            vocabulary: 12,
            bag_rows: 9,
            tasks: vec![task],
            vectors: vec![],
        }
    }

    /// Logits of satisfaction and of the class at the last step of every sequence.
    fn logits(network: &Network, data: &Dataset) -> Vec<(usize, Vec<f32>, Vec<f32>)> {
        let mut all = Vec::new();
        loop_::run(network, &data.sequences, |sequence, at, output, row| {
            if at + 1 == data.sequences[sequence].steps.len() {
                all.push((sequence, output.satisfaction[3 * row..][..3].to_vec(), output.classes[0][2 * row..][..2].to_vec()));
            }
        });
        all.sort_by_key(|l| l.0);
        all
    }

    #[test]
    fn a_whole_share_is_the_linear_model_and_a_part_lies_between() {
        // Within the running mean's span and beyond it.
        for length in [1, 6, 40] {
            let data = data(length);
            let network = Network::new(architecture(), 3);
            let models = fit(&network.architecture, &data, &data);
            assert_eq!(models.iter().map(|m| m.head).collect::<Vec<_>>(), [Head::Satisfaction, Head::Class(0)]);
            let [own, alone, mixed] = [0.0, 1.0, 0.25].map(|share| logits(&with(&network, &models, |_| share), &data));
            assert_eq!(own, logits(&network, &data));
            let satisfaction = documents(&data, |steps| said(steps, Some(0)), |s| s.satisfaction.map(satisfaction_class));
            let model = &models[0];
            for ((n, said, class), (document, label)) in alone.iter().zip(&satisfaction) {
                let weight = |c: usize| {
                    let of = |(gram, x): &(u32, f32)| {
                        let (index, idf) = model.grams[gram];
                        f64::from(*x * idf) * model.weights[index as usize * CLASSES + c]
                    };
                    document.iter().map(of).sum::<f64>() + model.weights[model.grams.len() * CLASSES + c]
                };
                for (c, logit) in said.iter().enumerate() {
                    assert!((f64::from(*logit) - weight(c)).abs() < 1e-3, "{length}: {logit} against {}", weight(c));
                }
                // It has learnt what there is to learn, as far as words of so long ago still count.
                assert!(length > 10 || said[*label] > said[2 - *label], "{length}: {said:?} {label}");
                assert_eq!(class[1] > class[0], n.is_multiple_of(3), "{class:?}");
            }
            for ((own, alone), mixed) in own.iter().zip(&alone).zip(&mixed) {
                let all = own.1.iter().chain(&own.2).zip(alone.1.iter().chain(&alone.2)).zip(mixed.1.iter().chain(&mixed.2));
                all.for_each(|((own, alone), mixed)| assert!((0.75 * own + 0.25 * alone - mixed).abs() < 1e-4));
            }
        }
    }

    #[test]
    fn nothing_is_fitted_where_nothing_differs_or_labels_are_many() {
        let mut data = data(2);
        let heads = |a: &Architecture, data: &Dataset| fit(a, data, data).iter().map(|m| m.head).collect::<Vec<_>>();
        let many = Architecture { tasks: vec![TaskShape { labels: 11, wide: true }], ..architecture() };
        assert_eq!(heads(&many, &data), [Head::Satisfaction]);
        let narrow = Architecture { tasks: vec![TaskShape { labels: 2, wide: false }], opinions_rate: 0.0, ..architecture() };
        assert_eq!(heads(&narrow, &data), []);
        data.sequences.iter_mut().flat_map(|s| &mut s.steps).for_each(|s| s.satisfaction = s.satisfaction.map(|_| 5.0));
        assert_eq!(heads(&architecture(), &data), [Head::Class(0)]);
    }
}
