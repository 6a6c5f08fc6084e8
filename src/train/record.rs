//! Reads files of interactions and labels under the rules of `serve` and remembers, per customer, what a model may see.
//!
//! Knows no network; what it remembers of an interaction is the [`Item`] of the customer state, so training sees what serving sees. Memory is
//! bounded by a [`Sample`] of whole customers, whatever the length of the files: customers outside it leave nothing behind.

use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::customer::words::Splitter;
use crate::customer::{Item, words};
use crate::engine::{EngineConfig, Outcome, admit_behind};
use crate::interaction::file::{Records, expand};
use crate::interaction::{DecodeOptions, Decoded, Interaction, Label, LabelValue, SATISFACTION, Timestamp, aggregate, decode};

/// Labels of one interaction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels {
    /// Mean rating, 1–5.
    pub satisfaction: Option<f32>,
    /// Class by task.
    pub classes: BTreeMap<Box<str>, Box<str>>,
}

impl Labels {
    pub fn is_empty(&self) -> bool {
        self.satisfaction.is_none() && self.classes.is_empty()
    }
}

/// One customer's accepted interactions in order of arrival.
#[derive(Debug, Clone)]
pub struct Customer {
    pub id: Box<str>,
    pub items: Vec<Item>,
    /// One per item.
    pub labels: Vec<Labels>,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub struct Recording {
    /// In order of first appearance.
    pub customers: Vec<Customer>,
    /// How often each word occurs.
    pub words: HashMap<Box<str>, u32>,
    /// How often each kind, channel, language and category occurs.
    pub kinds: BTreeMap<Box<str>, usize>,
    pub channels: BTreeMap<Box<str>, usize>,
    pub languages: BTreeMap<Box<str>, usize>,
    pub categories: BTreeMap<Box<str>, usize>,
    /// Event times of the earliest and the latest interaction.
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Where the input was cut: interactions at or after it were there, and were not read.
    pub until: Option<Timestamp>,
    /// Share of the customers that were kept, where a [`Sample`] left some out.
    pub sampled: Option<f64>,
    pub counts: Counts,
    /// Where and why a record was first found to be no interaction.
    pub first_rejected: Option<String>,
}

/// How much of the data is kept: whole customers, those with the smallest hashes of their ids and the seed, as many as fit. The choice depends
/// on the data and the seed alone, not on the order of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Most interactions; 0: all.
    pub interactions: usize,
    pub seed: u64,
    /// As if nothing had happened from this time on.
    pub until: Option<Timestamp>,
}

/// What became of the lines read. Of customers who were left out, only what could not be decoded is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub interactions: usize,
    pub duplicates: usize,
    pub rejected: usize,
    /// Of the rejected, those behind their customer's newest by more than is allowed.
    pub late: usize,
    /// Labels used, on any interaction.
    pub labels: usize,
    /// Labels of interactions that were not accepted, or not kept.
    pub labels_without_interaction: usize,
    /// Ratings of an interaction that came after the rating itself had been read.
    pub labels_already_read: usize,
}

/// Calls `each` for every line that is a valid interaction, in file order, and returns how many were not, and where and why the first was not. A
/// directory stands for the files under it.
///
/// # Errors
/// A file that cannot be read; whatever `each` returns.
fn read_interactions(
    paths: &[PathBuf],
    mut each: impl FnMut(Interaction) -> anyhow::Result<()>,
) -> anyhow::Result<(usize, Option<String>)> {
    let (mut rejected, mut first) = (0, None);
    for path in expand(paths)? {
        lines(&path, |number, line| match decode(line, DecodeOptions::default()) {
            Ok(Decoded { interaction, .. }) => each(interaction),
            Err(reject) => {
                rejected += 1;
                first.get_or_insert_with(|| format!("{}:{number}: {}: {}", path.display(), reject.class.name(), reject.message));
                Ok(())
            }
        })?;
    }
    Ok((rejected, first))
}

/// Interactions of one batch: of one call of an engine.
const BATCH: usize = 1024;

/// Calls `each` with the valid interactions before `until` (all where there is none), in file order, so many at a time that an engine works well.
///
/// # Errors
/// As [`read_interactions`].
pub fn read_batches(
    paths: &[PathBuf],
    until: Option<Timestamp>,
    each: impl FnMut(&[Interaction]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    read_chosen(paths, |interaction| until.is_none_or(|t| interaction.occurred_at < t), each)
}

/// [`read_batches`] of the interactions that `chosen` takes.
///
/// # Errors
/// As [`read_interactions`].
pub fn read_chosen(
    paths: &[PathBuf],
    chosen: impl Fn(&Interaction) -> bool,
    mut each: impl FnMut(&[Interaction]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    read_interactions(paths, |interaction| {
        if chosen(&interaction) {
            batch.push(interaction);
        }
        if batch.len() == BATCH {
            each(&batch)?;
            batch.clear();
        }
        Ok(())
    })?;
    if batch.is_empty() { Ok(()) } else { each(&batch) }
}

/// Calls `each` for every label, in file order.
///
/// # Errors
/// A file that cannot be read, or a line that is no label: labels are written for training, so a wrong one is a mistake to mend.
fn read_labels(paths: &[PathBuf], mut each: impl FnMut(Label)) -> anyhow::Result<()> {
    for path in paths {
        lines(path, |number, line| {
            each(Label::decode(line).map_err(|r| crate::cli::usage(format!("{}:{number}: {r}", path.display())))?);
            Ok(())
        })?;
    }
    Ok(())
}

fn lines(path: &Path, mut each: impl FnMut(u64, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut records = Records::open(path)?;
    let mut record = Vec::new();
    while let Some(line) = records.next(&mut record)? {
        each(line, &record)?;
    }
    Ok(())
}

/// A rating on an interaction, kept until all of the customer's interactions are known.
struct Rating {
    /// Place of the rating's own interaction.
    at: usize,
    value: f64,
    /// The interaction that it rates: by id, else by place.
    about: Option<Box<str>>,
    target: Option<usize>,
}

/// A customer while its interactions come in.
struct Reading {
    id: Box<str>,
    items: Vec<Item>,
    ratings: Vec<Rating>,
    newest: Timestamp,
    /// Hashes of the last ids.
    seen: VecDeque<u64>,
}

/// Distinct words that are counted at once. Beyond it the rarest are forgotten, none of which would be among the most frequent.
const MOST_WORDS: usize = 1 << 20;
/// Most channels, languages and categories that keep their name: each, the first that come.
const MOST_NAMES: usize = 1 << 18;

/// Reads interactions and joins them with labels.
///
/// # Errors
/// A file that cannot be read, a line that is no label.
pub fn record(interactions: &[PathBuf], labels: &[PathBuf]) -> anyhow::Result<Recording> {
    record_sample(interactions, labels, Sample::default())
}

/// [`record`] of a part of the customers.
///
/// # Errors
/// As [`record`].
pub fn record_sample(interactions: &[PathBuf], labels: &[PathBuf], sample: Sample) -> anyhow::Result<Recording> {
    let mut reader = Reader::new(sample);
    let (undecodable, first) = read_interactions(interactions, |interaction| {
        reader.add(&interaction);
        Ok(())
    })?;
    reader.recording.counts.rejected += undecodable;
    reader.recording.first_rejected = first;
    reader.finish(labels)
}

struct Reader {
    sample: Sample,
    /// Customers with a hash of this or more are left out.
    below: Option<u64>,
    /// Kept customers, largest hash first.
    by_hash: BinaryHeap<(u64, usize)>,
    /// In order of first appearance; none where one was left out later.
    customers: Vec<Option<Box<Reading>>>,
    numbers: HashMap<Box<str>, usize>,
    recording: Recording,
    splitter: Splitter,
}

impl Reader {
    fn new(sample: Sample) -> Self {
        Self {
            sample,
            below: None,
            by_hash: BinaryHeap::new(),
            customers: Vec::new(),
            numbers: HashMap::new(),
            recording: Recording::default(),
            splitter: Splitter::default(),
        }
    }

    fn add(&mut self, interaction: &Interaction) {
        if self.sample.until.is_some_and(|t| interaction.occurred_at >= t) {
            self.recording.until = self.sample.until;
            return;
        }
        let number = match self.numbers.get(&interaction.customer_id) {
            Some(number) => *number,
            None => {
                let hash = xxh3_64_with_seed(interaction.customer_id.as_bytes(), self.sample.seed);
                if self.below.is_some_and(|below| hash >= below) {
                    return;
                }
                let number = self.customers.len();
                self.by_hash.push((hash, number));
                self.numbers.insert(interaction.customer_id.clone(), number);
                let (id, items, seen) = (interaction.customer_id.clone(), Vec::with_capacity(1), VecDeque::with_capacity(1));
                self.customers.push(Some(Box::new(Reading { id, items, ratings: Vec::new(), newest: Timestamp::default(), seen })));
                number
            }
        };
        let (Some(customer), counts) = (&mut self.customers[number], &mut self.recording.counts) else { return };
        match admit_behind(interaction, &mut customer.newest, &mut customer.seen, &EngineConfig::default()) {
            None => {}
            Some(Outcome::Duplicate) => {
                counts.duplicates += 1;
                return;
            }
            Some(_) => {
                counts.rejected += 1;
                counts.late += 1;
                return;
            }
        }
        counts.interactions += 1;
        if let Some(text) = &interaction.text {
            self.splitter.split(text);
            for word in self.splitter.words() {
                count(&mut self.recording.words, word);
            }
            forget_rare(&mut self.recording.words, MOST_WORDS);
        }
        let kept = &mut self.recording;
        *kept.kinds.entry(interaction.kind.clone()).or_default() += 1;
        for (counts, name) in [
            (&mut kept.channels, &interaction.channel),
            (&mut kept.languages, &interaction.language),
            (&mut kept.categories, &interaction.category),
        ] {
            if let Some(name) = name.as_ref().filter(|name| counts.len() < MOST_NAMES || counts.contains_key(*name)) {
                *counts.entry(name.clone()).or_default() += 1;
            }
        }
        if let Some(value) = interaction.rating {
            let at = customer.items.len();
            // A survey without `about` rates the customer's last interaction before it.
            let target = if &*interaction.kind == "survey" { at.checked_sub(1) } else { Some(at) };
            customer.ratings.push(Rating { at, value, about: interaction.about.clone(), target });
        }
        customer.items.push(Item::new(interaction, &self.splitter));
        while self.sample.interactions > 0 && self.recording.counts.interactions > self.sample.interactions && self.by_hash.len() > 1 {
            self.leave_one_out();
        }
    }

    /// Lowers the bar below the customer with the largest hash.
    fn leave_one_out(&mut self) {
        let Some((hash, number)) = self.by_hash.pop() else { return };
        self.below = Some(hash);
        if let Some(customer) = self.customers[number].take() {
            self.recording.counts.interactions -= customer.items.len();
            self.numbers.remove(&customer.id);
        }
    }

    /// Joins with labels. What was only needed for reading goes first.
    fn finish(self, labels: &[PathBuf]) -> anyhow::Result<Recording> {
        let Self { below, customers, mut recording, by_hash, numbers, .. } = self;
        drop((by_hash, numbers));
        let mut ratings = Vec::new();
        for reading in customers.into_iter().flatten() {
            let Reading { id, mut items, ratings: rated, .. } = *reading;
            items.shrink_to_fit();
            ratings.extend((!rated.is_empty()).then_some((recording.customers.len(), rated)));
            let labels = vec![Labels::default(); items.len()];
            recording.customers.push(Customer { id, items, labels });
        }
        let times = || recording.customers.iter().flat_map(|c| &c.items).map(|i| i.occurred_at);
        (recording.from, recording.to) = (times().min(), times().max());
        if let Some(below) = below {
            recording.sampled = Some(below as f64 / u64::MAX as f64);
            recount(&mut recording);
        }
        add_labels(&mut recording, labels)?;
        for (customer, rated) in ratings {
            add_ratings(&mut recording.customers[customer], rated, &mut recording.counts);
        }
        Ok(recording)
    }
}

fn count(words: &mut HashMap<Box<str>, u32>, word: &str) {
    match words.get_mut(word) {
        Some(n) => *n += 1,
        None => {
            words.insert(word.into(), 1);
        }
    }
}

fn forget_rare(words: &mut HashMap<Box<str>, u32>, most: usize) {
    let mut rare = 1;
    while words.len() > most {
        words.retain(|_, n| *n > rare);
        rare *= 2;
    }
}

/// Counts words and names of the customers who were kept: those who were left out later have left theirs behind.
fn recount(recording: &mut Recording) {
    let [mut words, mut kinds, mut channels, mut languages, mut categories]: [HashMap<u32, usize>; 5] = Default::default();
    for item in recording.customers.iter().flat_map(|c| &c.items) {
        item.tokens.iter().for_each(|t| *words.entry(*t).or_default() += 1);
        *kinds.entry(item.kind).or_default() += 1;
        *channels.entry(item.channel).or_default() += 1;
        *languages.entry(item.language).or_default() += 1;
        *categories.entry(item.category).or_default() += 1;
    }
    let of = |counts: &HashMap<u32, usize>, name: &str| counts.get(&words::hash(name)).copied().unwrap_or(0);
    recording.words.retain(|name, n| {
        *n = of(&words, name) as u32;
        *n > 0
    });
    for (names, counts) in [
        (&mut recording.kinds, &kinds),
        (&mut recording.channels, &channels),
        (&mut recording.languages, &languages),
        (&mut recording.categories, &categories),
    ] {
        names.retain(|name, n| {
            *n = of(counts, name);
            *n > 0
        });
    }
}

/// Reads labels and keeps those of interactions that are there; several of one interaction and task are merged.
fn add_labels(recording: &mut Recording, paths: &[PathBuf]) -> anyhow::Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    // By hash, which is small; the id itself decides.
    let mut places: HashMap<u64, (u32, u32)> = HashMap::with_capacity(recording.counts.interactions);
    for (c, customer) in recording.customers.iter().enumerate() {
        for (i, item) in customer.items.iter().enumerate() {
            places.insert(xxh3_64(item.id.as_bytes()), (c as u32, i as u32));
        }
    }
    let mut found = Vec::new();
    let (customers, counts) = (&mut recording.customers, &mut recording.counts);
    read_labels(paths, |mut label| {
        let place = places.get(&xxh3_64(label.interaction_id.as_bytes()));
        match place.filter(|(c, i)| customers[*c as usize].items[*i as usize].id == label.interaction_id) {
            Some(place) => {
                label.interaction_id = Box::default();
                found.push((*place, label));
            }
            None => counts.labels_without_interaction += 1,
        }
    })?;
    drop(places);
    found.sort_by_key(|(place, _)| *place);
    let mut found = found.into_iter().peekable();
    while let Some((place, first)) = found.next() {
        let same = std::iter::from_fn(|| found.next_if(|(p, _)| *p == place)).map(|(_, label)| label);
        let merged = aggregate(std::iter::once(first).chain(same));
        let labels = &mut customers[place.0 as usize].labels[place.1 as usize];
        for (task, value) in merged.into_values().flatten() {
            match value {
                LabelValue::Rating(mean) if &*task == SATISFACTION => labels.satisfaction = Some(mean as f32),
                LabelValue::Class(class) => {
                    labels.classes.insert(task, class);
                }
                LabelValue::Rating(_) => {}
            }
            counts.labels += 1;
        }
    }
    Ok(())
}

/// A customer's own ratings as labels. A label given for the same interaction wins; several ratings of one are averaged.
fn add_ratings(customer: &mut Customer, ratings: Vec<Rating>, counts: &mut Counts) {
    // Interactions that surveys name; they may come before or after the survey.
    let named: HashMap<&str, usize> = match ratings.iter().any(|r| r.about.is_some()) {
        true => customer.items.iter().enumerate().map(|(i, item)| (&*item.id, i)).collect(),
        false => HashMap::new(),
    };
    let mut sums: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
    for rating in ratings {
        let target = match &rating.about {
            Some(about) => named.get(&**about).copied(),
            None => rating.target,
        };
        match target {
            None => counts.labels_without_interaction += 1,
            // At a later step the model has read this very rating.
            Some(at) if at > rating.at => counts.labels_already_read += 1,
            Some(at) => {
                let sum = sums.entry(at).or_default();
                sum.0 += rating.value;
                sum.1 += 1;
            }
        }
    }
    for (at, (sum, n)) in sums {
        let labels = &mut customer.labels[at];
        if labels.satisfaction.is_none() {
            labels.satisfaction = Some((sum / n as f64) as f32);
            counts.labels += 1;
        }
    }
}

/// Hash that decides which customers are held out: the same in every run, whatever else is in the data.
pub fn customer_share(id: &str) -> u32 {
    words::hash(&format!("held out: {id}")) % 1000
}

/// Of those who are fitted on: the hash, 0 to 999, by which some take no part in a fit and say how good it is. Not the one that holds customers out: of
/// those that remain, it would take none.
pub fn stop_share(id: &str) -> u32 {
    customer_share(&format!("stop early: {id}"))
}

#[cfg(test)]
mod tests;
