//! From recorded customers to numbers: vocabulary, feature scaling, sequences.
//!
//! Knows no network. The features are those of the core, computed by replaying every customer through its own state.

use std::collections::{BTreeMap, HashMap};

use super::dataset::{ClassTask, Dataset, Sequence, Step};
use super::record::{Customer, Recording};
use crate::customer::{CustomerState, Item, words};
use crate::engine::EngineConfig;
use crate::features::{self, NUMERIC, Overlap};
use crate::model::{Layout, TextInput, Tokenizer, TokenizerFile};

/// Settings of the vocabulary and the columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Fewest occurrences of a word in the vocabulary.
    pub min_count: u32,
    /// Most words in the vocabulary.
    pub max_words: usize,
    /// Rows of the n-gram table, padding included.
    pub bag_rows: u32,
    /// Fewest labels of a class; rarer classes are left out of training.
    pub min_class: usize,
}

/// The words of the texts, most frequent first, ties in byte order.
pub fn tokenizer(recording: &Recording, settings: &Settings) -> TokenizerFile {
    let mut frequent: Vec<(&str, u32)> =
        recording.words.iter().filter(|(_, n)| **n >= settings.min_count).map(|(w, n)| (&**w, *n)).collect();
    frequent.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    frequent.truncate(settings.max_words);
    let words = frequent.into_iter().map(|(w, _)| w.to_owned()).collect();
    TokenizerFile { splitter: words::SPLITTER, words, bag_rows: settings.bag_rows }
}

/// The numeric features of every item of a customer, as serving computes them.
pub fn numeric(items: &[Item]) -> Vec<[f32; NUMERIC.len()]> {
    let mut state = CustomerState::default();
    let mut overlap = Overlap::default();
    let window = EngineConfig::default().window;
    items
        .iter()
        .map(|item| {
            let row = features::numeric(&state.window, state.window.len(), &state.now, item, &mut overlap);
            state.push(item.clone(), None, window);
            row
        })
        .collect()
}

/// One-hot columns: the values with at least a thousandth of the interactions, none where there is one value only.
fn one_hot(counts: &BTreeMap<Box<str>, usize>, interactions: usize) -> Vec<String> {
    let columns: Vec<String> = counts.iter().filter(|(_, n)| **n * 1000 >= interactions).map(|(k, _)| k.to_string()).collect();
    if columns.len() < 2 { Vec::new() } else { columns }
}

/// Scaling fitted on the steps of all customers.
pub fn layout(recording: &Recording) -> Layout {
    let (mut sum, mut squares, mut n) = ([0.0f64; NUMERIC.len()], [0.0f64; NUMERIC.len()], 0.0f64);
    for customer in &recording.customers {
        for row in numeric(&customer.items) {
            for (i, x) in row.into_iter().enumerate() {
                sum[i] += f64::from(x);
                squares[i] += f64::from(x) * f64::from(x);
            }
            n += 1.0;
        }
    }
    let n = n.max(1.0);
    let mean: Vec<f32> = sum.iter().map(|s| (s / n) as f32).collect();
    let deviation = (0..NUMERIC.len())
        .map(|i| {
            let variance = squares[i] / n - (sum[i] / n).powi(2);
            // Rounding leaves a constant column a variance of about 1e-12.
            if variance > 1e-6 { variance.sqrt() as f32 } else { 0.0 }
        })
        .collect();
    let interactions = recording.counts.interactions;
    Layout::new(mean, deviation, one_hot(&recording.kinds, interactions), one_hot(&recording.channels, interactions))
}

/// Class tasks with at least two classes of enough labels. Second: what was left out, in words.
pub fn tasks(recording: &Recording, settings: &Settings, auxiliary: &[String]) -> (Vec<ClassTask>, Vec<String>) {
    let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for labels in recording.customers.iter().flat_map(|c| &c.labels) {
        for (task, class) in &labels.classes {
            *counts.entry(task).or_default().entry(class).or_default() += 1;
        }
    }
    let (mut tasks, mut left_out) = (Vec::new(), Vec::new());
    for (task, classes) in counts {
        let total = classes.len();
        let labels: Vec<Box<str>> = classes.into_iter().filter(|(_, n)| *n >= settings.min_class).map(|(c, _)| c.into()).collect();
        if labels.len() < 2 {
            left_out.push(format!(
                "{task}: {} of {total} classes have at least {} labels, two are needed",
                labels.len(),
                settings.min_class
            ));
            continue;
        }
        tasks.push(ClassTask { name: task.into(), labels, auxiliary: auxiliary.iter().any(|a| a == task) });
    }
    (tasks, left_out)
}

/// Turns customers into sequences.
pub fn dataset<'a>(
    customers: impl IntoIterator<Item = &'a Customer>,
    file: &TokenizerFile,
    layout: &Layout,
    tasks: &[ClassTask],
) -> Dataset {
    let tokenizer = Tokenizer::new(file);
    let numbers: Vec<HashMap<&str, u32>> =
        tasks.iter().map(|t| t.labels.iter().enumerate().map(|(i, l)| (&**l, i as u32)).collect()).collect();
    let mut input = TextInput::default();
    let sequences = customers
        .into_iter()
        .map(|customer| {
            let rows = numeric(&customer.items);
            let steps = customer.items.iter().zip(&rows).zip(&customer.labels).map(|((item, row), labels)| {
                tokenizer.encode_into(&item.tokens, &mut input);
                let mut features = vec![0.0; layout.width()];
                layout.scale(row, item, &mut features);
                let class = |(task, numbers): (&ClassTask, &HashMap<&str, u32>)| numbers.get(&**labels.classes.get(&task.name)?).copied();
                Step {
                    tokens: input.tokens.clone(),
                    bag: input.bag.clone(),
                    features,
                    actor: item.actor,
                    satisfaction: labels.satisfaction,
                    classes: tasks.iter().zip(&numbers).map(class).collect(),
                }
            });
            Sequence { customer: customer.id.clone(), steps: steps.collect() }
        })
        .collect();
    Dataset {
        sequences,
        feature_width: layout.width(),
        vocabulary: file.words.len() + 2,
        bag_rows: file.bag_rows as usize,
        tasks: tasks.to_vec(),
    }
}
