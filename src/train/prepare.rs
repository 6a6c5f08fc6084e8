//! From recorded customers to numbers: vocabulary, feature scaling, sequences.
//!
//! Knows no network; what is fitted sees only the part that may be fitted on. The features are those of the core, computed by replaying every customer through its own state.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::dataset::{ClassTask, Dataset, Sequence, Step};
use super::holdout::View;
use super::record::Recording;
use super::vectors::Vectors;
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

/// How often each hash occurs.
fn counts(hashes: impl Iterator<Item = u32>) -> HashMap<u32, u32> {
    let mut counts = HashMap::new();
    for hash in hashes {
        *counts.entry(hash).or_default() += 1;
    }
    counts
}

/// The words of the texts that may be fitted on, most frequent first, ties in byte order. `recording` knows what the hashes stand for. A word that
/// `vectors` know needs no second occurrence, and their most frequent ones fill what room is left.
pub fn tokenizer(fit: &[View<'_>], recording: &Recording, settings: &Settings, vectors: &Vectors) -> TokenizerFile {
    let counts = counts(fit.iter().flat_map(View::own).flat_map(|(item, _)| item.tokens.iter().copied()));
    let mut frequent: Vec<(&str, u32)> = recording
        .words
        .keys()
        .filter_map(|word| Some((&**word, *counts.get(&words::hash(word))?)))
        .filter(|(word, n)| *n >= settings.min_count || vectors.get(word).is_some())
        .collect();
    frequent.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    frequent.truncate(settings.max_words);
    let mut words: Vec<String> = frequent.into_iter().map(|(w, _)| w.to_owned()).collect();
    let known: HashSet<String> = words.iter().cloned().collect();
    let room = settings.max_words - words.len();
    words.extend(vectors.words.iter().filter(|w| !known.contains(*w)).take(room).cloned());
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
fn one_hot(names: &BTreeMap<Box<str>, usize>, counts: &HashMap<u32, u32>, interactions: usize) -> Vec<String> {
    let often = |name: &str| counts.get(&words::hash(name)).is_some_and(|n| *n as usize * 1000 >= interactions);
    let columns: Vec<String> = names.keys().filter(|name| often(name)).map(|name| name.to_string()).collect();
    if columns.len() < 2 { Vec::new() } else { columns }
}

/// Scaling and one-hot columns of the steps that may be fitted on. `recording` knows what the hashes stand for.
pub fn layout(fit: &[View<'_>], recording: &Recording) -> Layout {
    let (mut sum, mut squares, mut n) = ([0.0f64; NUMERIC.len()], [0.0f64; NUMERIC.len()], 0.0f64);
    for view in fit {
        for row in numeric(view.items) {
            for (i, x) in row.into_iter().enumerate() {
                sum[i] += f64::from(x);
                squares[i] += f64::from(x) * f64::from(x);
            }
            n += 1.0;
        }
    }
    let interactions = n as usize;
    let n = n.max(1.0);
    let mean: Vec<f32> = sum.iter().map(|s| (s / n) as f32).collect();
    let deviation = (0..NUMERIC.len())
        .map(|i| {
            let variance = squares[i] / n - (sum[i] / n).powi(2);
            // Rounding leaves a constant column a variance of about 1e-12.
            if variance > 1e-6 { variance.sqrt() as f32 } else { 0.0 }
        })
        .collect();
    let items = || fit.iter().flat_map(View::own).map(|(item, _)| item);
    let kinds = one_hot(&recording.kinds, &counts(items().map(|i| i.kind)), interactions);
    let channels = one_hot(&recording.channels, &counts(items().map(|i| i.channel)), interactions);
    Layout::new(mean, deviation, kinds, channels)
}

/// Class tasks with at least two classes of enough labels. Second: what was left out, in words.
pub fn tasks(fit: &[View<'_>], settings: &Settings, auxiliary: &[String]) -> (Vec<ClassTask>, Vec<String>) {
    let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for (_, labels) in fit.iter().flat_map(View::own) {
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

/// Turns customers into sequences, with the labels of the views' part.
pub fn dataset(views: &[View<'_>], file: &TokenizerFile, layout: &Layout, tasks: &[ClassTask]) -> Dataset {
    let tokenizer = Tokenizer::new(file);
    let numbers: Vec<HashMap<&str, u32>> =
        tasks.iter().map(|t| t.labels.iter().enumerate().map(|(i, l)| (&**l, i as u32)).collect()).collect();
    let mut input = TextInput::default();
    let sequences = views
        .iter()
        .map(|view| {
            let rows = numeric(view.items);
            let steps = view.items.iter().zip(&rows).enumerate().map(|(i, (item, row))| {
                tokenizer.encode_into(&item.tokens, &mut input);
                let mut features = vec![0.0; layout.width()];
                layout.scale(row, item, &mut features);
                let labels = view.labels(i);
                let class = |(task, numbers): (&ClassTask, &HashMap<&str, u32>)| numbers.get(&**labels?.classes.get(&task.name)?).copied();
                Step {
                    tokens: input.tokens.clone(),
                    bag: input.bag.clone(),
                    features,
                    actor: item.actor,
                    satisfaction: labels.and_then(|l| l.satisfaction),
                    classes: tasks.iter().zip(&numbers).map(class).collect(),
                }
            });
            Sequence { customer: view.id.into(), steps: steps.collect() }
        })
        .collect();
    Dataset {
        sequences,
        feature_width: layout.width(),
        vocabulary: file.words.len() + 2,
        bag_rows: file.bag_rows as usize,
        tasks: tasks.to_vec(),
        vectors: Vec::new(),
    }
}
