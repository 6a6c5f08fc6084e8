//! Reads files of interactions and labels under the rules of `serve` and remembers, per customer, what a model may see.
//!
//! Knows no network; what it remembers of an interaction is the [`Item`] of the customer state, so training sees what serving sees.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::customer::words::Splitter;
use crate::customer::{Item, words};
use crate::engine::{EngineConfig, Outcome, States, admit};
use crate::interaction::file::Records;
use crate::interaction::{DecodeOptions, Decoded, Interaction, Label, LabelSet, LabelValue, SATISFACTION, Timestamp, aggregate, decode};

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
    /// How often each kind, channel and language occurs.
    pub kinds: BTreeMap<Box<str>, usize>,
    pub channels: BTreeMap<Box<str>, usize>,
    pub languages: BTreeMap<Box<str>, usize>,
    /// How often each category occurs.
    pub categories: BTreeMap<Box<str>, usize>,
    /// Event times of the earliest and the latest interaction.
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Where the input was cut: interactions at or after it were there, and were not read.
    pub until: Option<Timestamp>,
    pub counts: Counts,
}

/// What became of the lines read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub interactions: usize,
    pub duplicates: usize,
    pub rejected: usize,
    /// Of the rejected, those behind their customer's newest by more than is allowed.
    pub late: usize,
    /// Labels used, on any interaction.
    pub labels: usize,
    /// Labels of interactions that were not accepted.
    pub labels_without_interaction: usize,
    /// Ratings of an interaction that came after the rating itself had been read.
    pub labels_already_read: usize,
}

/// Calls `each` for every line that is a valid interaction, in file order, and returns how many were rejected.
///
/// # Errors
/// A file that cannot be read; whatever `each` returns.
pub fn read_interactions(paths: &[PathBuf], mut each: impl FnMut(Interaction) -> anyhow::Result<()>) -> anyhow::Result<usize> {
    let mut rejected = 0;
    for path in paths {
        lines(path, |_, line| match decode(line, DecodeOptions::default()) {
            Ok(Decoded { interaction, .. }) => each(interaction),
            Err(_) => {
                rejected += 1;
                Ok(())
            }
        })?;
    }
    Ok(rejected)
}

/// Reads files of labels; several of one interaction and task are merged.
///
/// # Errors
/// A file that cannot be read, or a line that is no label: labels are written for training, so a wrong one is a mistake to mend.
pub fn read_labels(paths: &[PathBuf]) -> anyhow::Result<LabelSet> {
    let mut labels = Vec::new();
    for path in paths {
        lines(path, |number, line| {
            labels.push(Label::decode(line).map_err(|r| crate::cli::usage(format!("{}:{number}: {r}", path.display())))?);
            Ok(())
        })?;
    }
    Ok(aggregate(labels))
}

fn lines(path: &Path, mut each: impl FnMut(u64, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut records = Records::open(path)?;
    let mut record = Vec::new();
    while let Some(line) = records.next(&mut record)? {
        each(line, &record)?;
    }
    Ok(())
}

/// A rating on an interaction, kept until all interactions are known.
struct Rating {
    customer: usize,
    /// Place of the rating's own interaction among its customer's.
    at: usize,
    value: f64,
    /// The interaction that it rates: by id, else by place.
    about: Option<Box<str>>,
    target: Option<usize>,
}

/// Reads interactions and joins them with labels.
///
/// # Errors
/// See [`read_interactions`] and [`read_labels`].
pub fn record(interactions: &[PathBuf], labels: &[PathBuf]) -> anyhow::Result<Recording> {
    record_until(interactions, labels, None)
}

/// As [`record`], as if nothing had happened from `until` on.
///
/// # Errors
/// See [`record`].
pub fn record_until(interactions: &[PathBuf], labels: &[PathBuf], until: Option<Timestamp>) -> anyhow::Result<Recording> {
    let given = read_labels(labels)?;
    let mut recording = Recording::default();
    let mut states = States::new();
    let config = EngineConfig::default();
    let mut splitter = Splitter::default();
    let mut numbers: HashMap<Box<str>, usize> = HashMap::new();
    // Where each labelled interaction stands.
    let mut places: HashMap<Box<str>, (usize, usize)> = HashMap::new();
    let mut ratings: Vec<Rating> = Vec::new();
    let mut counts = Counts::default();
    let mut abouts: HashMap<Box<str>, Option<(usize, usize)>> = HashMap::new();
    counts.rejected = read_interactions(interactions, |interaction| {
        if until.is_some_and(|t| interaction.occurred_at >= t) {
            recording.until = until;
            return Ok(());
        }
        match admit(&interaction, &mut states, &config) {
            Some(Outcome::Duplicate) => {
                counts.duplicates += 1;
                return Ok(());
            }
            Some(_) => {
                counts.late += 1;
                return Ok(());
            }
            None => {}
        }
        if let Some(text) = &interaction.text {
            splitter.split(text);
            for word in splitter.words() {
                match recording.words.get_mut(word) {
                    Some(n) => *n += 1,
                    None => {
                        recording.words.insert(word.into(), 1);
                    }
                }
            }
        }
        *recording.kinds.entry(interaction.kind.clone()).or_default() += 1;
        if let Some(channel) = &interaction.channel {
            *recording.channels.entry(channel.clone()).or_default() += 1;
        }
        if let Some(language) = &interaction.language {
            *recording.languages.entry(language.clone()).or_default() += 1;
        }
        if let Some(category) = &interaction.category {
            *recording.categories.entry(category.clone()).or_default() += 1;
        }
        let at = interaction.occurred_at;
        recording.from = Some(recording.from.map_or(at, |t| t.min(at)));
        recording.to = Some(recording.to.map_or(at, |t| t.max(at)));
        let customer = *numbers.entry(interaction.customer_id.clone()).or_insert_with(|| {
            recording.customers.push(Customer { id: interaction.customer_id.clone(), items: vec![], labels: vec![] });
            recording.customers.len() - 1
        });
        let c = &mut recording.customers[customer];
        let place = (customer, c.items.len());
        if let Some(value) = interaction.rating {
            let survey = &*interaction.kind == "survey";
            // A survey without `about` rates the customer's last interaction before it.
            let target = if survey { place.1.checked_sub(1) } else { Some(place.1) };
            if let Some(about) = &interaction.about {
                abouts.insert(about.clone(), None);
            }
            ratings.push(Rating { customer, at: place.1, value, about: interaction.about.clone(), target });
        }
        if given.contains_key(&interaction.id) {
            places.insert(interaction.id.clone(), place);
        }
        c.items.push(Item::new(&interaction, &splitter));
        c.labels.push(Labels::default());
        counts.interactions += 1;
        Ok(())
    })?;
    counts.rejected += counts.late;
    resolve_abouts(&recording, &mut abouts);
    add_labels(&mut recording, given, &places, &mut counts);
    add_ratings(&mut recording, ratings, &abouts, &mut counts);
    recording.counts = counts;
    Ok(recording)
}

/// Finds the interactions that surveys name; they may come before or after the survey.
fn resolve_abouts(recording: &Recording, abouts: &mut HashMap<Box<str>, Option<(usize, usize)>>) {
    if abouts.is_empty() {
        return;
    }
    for (c, customer) in recording.customers.iter().enumerate() {
        for (i, item) in customer.items.iter().enumerate() {
            if let Some(place) = abouts.get_mut(&item.id) {
                *place = Some((c, i));
            }
        }
    }
}

fn add_labels(recording: &mut Recording, given: LabelSet, places: &HashMap<Box<str>, (usize, usize)>, counts: &mut Counts) {
    for (interaction, tasks) in given {
        let Some(&(customer, at)) = places.get(&interaction) else {
            counts.labels_without_interaction += tasks.len();
            continue;
        };
        let labels = &mut recording.customers[customer].labels[at];
        for (task, value) in tasks {
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
}

/// The customer's own ratings as labels. A label given for the same interaction wins; several ratings of one are averaged.
fn add_ratings(recording: &mut Recording, ratings: Vec<Rating>, abouts: &HashMap<Box<str>, Option<(usize, usize)>>, counts: &mut Counts) {
    let mut sums: BTreeMap<(usize, usize), (f64, usize)> = BTreeMap::new();
    for rating in ratings {
        let target = match &rating.about {
            Some(about) => abouts.get(about).copied().flatten().filter(|(c, _)| *c == rating.customer),
            None => rating.target.map(|at| (rating.customer, at)),
        };
        match target {
            None => counts.labels_without_interaction += 1,
            // At a later step the model has read this very rating.
            Some((_, at)) if at > rating.at => counts.labels_already_read += 1,
            Some(place) => {
                let sum = sums.entry(place).or_default();
                sum.0 += rating.value;
                sum.1 += 1;
            }
        }
    }
    for ((customer, at), (sum, n)) in sums {
        let labels = &mut recording.customers[customer].labels[at];
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(interactions: &str, labels: &str) -> Recording {
        let dir = tempfile::tempdir().expect("temporary directory");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("temporary file");
            path
        };
        record(&[write("i.jsonl", interactions)], &[write("l.jsonl", labels)]).expect("readable")
    }

    fn line(id: &str, customer: &str, minute: u32, rest: &str) -> String {
        format!(r#"{{"id":"{id}","customer_id":"{customer}","occurred_at":"2024-05-01T10:{minute:02}:00Z",{rest}}}"#) + "\n"
    }

    fn means(r: &Recording, customer: usize) -> Vec<Option<f32>> {
        r.customers[customer].labels.iter().map(|l| l.satisfaction).collect()
    }

    #[test]
    fn ratings_label_what_they_rate() {
        let text = r#""kind":"message","text":"hello""#;
        let lines = [
            line("a", "c", 1, text),
            line("b", "c", 2, text),
            // Names the first message; one without a name rates what came last before it, here the second survey's predecessor.
            line("s1", "c", 3, r#""kind":"survey","rating":2,"about":"a""#),
            line("s2", "c", 4, r#""kind":"survey","rating":5"#),
            // A rating on another kind labels that interaction.
            line("r", "c", 5, r#""kind":"review","rating":1,"text":"bad""#),
            // Names a message that comes after it, and one of another customer: both are left out.
            line("s3", "c", 6, r#""kind":"survey","rating":3,"about":"later""#),
            line("later", "c", 7, text),
            line("s4", "d", 8, r#""kind":"survey","rating":3,"about":"a""#),
            // The first of its customer has nothing before it.
            line("s5", "e", 9, r#""kind":"survey","rating":3"#),
        ];
        let r = read(&lines.concat(), "");
        assert_eq!(means(&r, 0), [Some(2.0), None, Some(5.0), None, Some(1.0), None, None]);
        assert_eq!((r.counts.labels, r.counts.labels_already_read, r.counts.labels_without_interaction), (3, 1, 2));
    }

    #[test]
    fn several_ratings_are_averaged_and_a_given_label_wins() {
        let lines = [
            line("a", "c", 1, r#""kind":"message","text":"hello""#),
            line("s1", "c", 2, r#""kind":"survey","rating":2,"about":"a""#),
            line("s2", "c", 3, r#""kind":"survey","rating":3,"about":"a""#),
        ];
        assert_eq!(means(&read(&lines.concat(), ""), 0)[0], Some(2.5));
        let given = r#"{"interaction_id":"a","task":"satisfaction","value":4}"#;
        assert_eq!(means(&read(&lines.concat(), given), 0)[0], Some(4.0));
    }

    #[test]
    fn the_rules_of_serve_apply() {
        let message = r#""kind":"message","text":"hello there""#;
        let late = r#"{"id":"late","customer_id":"c","occurred_at":"2024-04-01T10:00:00Z","kind":"message"}"#;
        let lines =
            [line("a", "c", 1, message), line("a", "c", 2, message), format!("{late}\n"), "nonsense\n".into(), line("b", "c", 0, message)];
        let labels = [("a", "x"), ("late", "x"), ("nowhere", "x")]
            .map(|(id, class)| format!("{{\"interaction_id\":\"{id}\",\"task\":\"intent\",\"value\":\"{class}\"}}\n"));
        let r = read(&lines.concat(), &labels.concat());
        let c = r.counts;
        assert_eq!((c.interactions, c.duplicates, c.rejected, c.late), (2, 1, 2, 1));
        assert_eq!((c.labels, c.labels_without_interaction), (1, 2));
        assert_eq!(r.words["hello"], 2, "the duplicate's words do not count");
        assert_eq!(r.from.map(|t| t.to_string()).as_deref(), Some("2024-05-01T10:00:00Z"));
    }

    #[test]
    fn a_wrong_label_names_file_and_line() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("l.jsonl");
        std::fs::write(&path, "{\"interaction_id\":\"a\",\"task\":\"satisfaction\",\"value\":7}\n").expect("temporary file");
        let error = read_labels(&[path]).expect_err("out of range").to_string();
        assert!(error.contains("l.jsonl:1") && error.contains("from 1 to 5"), "{error}");
    }
}
