//! `rapport train` from end to end: record, prepare, fit, judge and calibrate on held-out customers, fit again on all, write the bundle.
//!
//! Nothing here depends on wall clock, host, path or number of threads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::calibrate::{self, Scaling};
use super::config::Config;
use super::dataset::{ClassTask, Dataset};
use super::metrics::{Quality, quality};
use super::network::{Architecture, Network};
use super::record::{Counts, Customer, Recording, customer_share, record};
use super::tfidf::{Document, Exchange, Tfidf};
use super::{fit, onnx, prepare, satisfaction_class, write};
use crate::cli::usage;
use crate::customer::Item;
use crate::customer::words::{self, Splitter};
use crate::interaction::{DecodeOptions, Timestamp, decode};
use crate::model::{ClassHead, FORMAT, Golden, GoldenStep, Layout, Manifest, SatisfactionHead, TokenizerFile, Training};

/// What to train from and where to put it.
#[derive(Debug, Clone)]
pub struct Job {
    pub interactions: Vec<PathBuf>,
    pub labels: Vec<PathBuf>,
    pub out: PathBuf,
    pub seed: u64,
    pub config: Config,
}

/// What a run tells its caller while it works.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    Note(&'a str),
    /// Share of the present fit, and its loss.
    Fit(&'a str, f32, f32),
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    pub version: String,
    pub counts: Counts,
    /// Quality on the held-out customers: task, network, baseline.
    pub qualities: Vec<(String, Quality, Option<Quality>)>,
}

/// Customers of this many thousandths are held out.
const HELD_OUT: u32 = 100;
const CLASSES: usize = 3;

/// Trains a bundle.
///
/// # Errors
/// Usage errors for files and settings; see [`write::write`].
pub fn make(job: &Job, mut progress: impl FnMut(Progress<'_>)) -> anyhow::Result<Made> {
    job.config.check().map_err(usage)?;
    write::check_place(&job.out)?;
    let recording = record(&job.interactions, &job.labels)?;
    let (Some(from), Some(to)) = (recording.from, recording.to) else {
        let what = format!("there is no valid interaction in the input ({} records rejected)", recording.counts.rejected);
        return Err(usage(what));
    };
    tell_counts(&recording.counts, &mut progress);
    let prepared = Prepared::new(&recording, &job.config, &mut progress);

    let held_out = |c: &&Customer| customer_share(&c.id) < HELD_OUT;
    let part = prepared.dataset(recording.customers.iter().filter(|c| !held_out(c)));
    let rest = prepared.dataset(recording.customers.iter().filter(held_out));
    let settings = job.config.fit();
    let judged = fit::fit(&part, prepared.architecture(&job.config), &settings, job.seed, |done, loss| {
        progress(Progress::Fit("fitting, a tenth of the customers held out", done, loss));
    });
    let heads = Heads::fit(&judged, &rest, &job.config);
    let baseline = if prepared.satisfaction {
        progress(Progress::Note("fitting the tf-idf baseline"));
        baseline(&recording, job.config.refit)
    } else {
        None
    };
    let network = if job.config.refit && judged_on_something(&rest) {
        let all = prepared.dataset(&recording.customers);
        fit::fit(&all, prepared.architecture(&job.config), &settings, job.seed, |done, loss| {
            progress(Progress::Fit("fitting on all customers", done, loss));
        })
    } else {
        judged
    };

    let mut qualities = Vec::new();
    if let Some(q) = heads.satisfaction_quality {
        qualities.push(("satisfaction".to_owned(), q, baseline.as_ref().and_then(|b| b.1)));
    }
    for (task, (_, quality, _)) in prepared.tasks.iter().zip(&heads.classes) {
        qualities.extend(quality.filter(|_| !task.auxiliary).map(|q| (task.name.to_string(), q, None)));
    }
    let files = prepared.files(&network, baseline.map(|b| b.0))?;
    let manifest = prepared.manifest(job, &recording, &network, &heads, &qualities, (from, to));
    let version = write::write(&job.out, manifest, &files, to)?;
    Ok(Made { version, counts: recording.counts, qualities })
}

fn tell_counts(counts: &Counts, progress: &mut impl FnMut(Progress<'_>)) {
    let mut note = |text: String| progress(Progress::Note(&text));
    note(format!(
        "{} interactions, {} labels; {} rejected, {} duplicates",
        counts.interactions, counts.labels, counts.rejected, counts.duplicates
    ));
    if counts.late * 100 > counts.interactions + counts.rejected {
        note(format!("{} interactions were late: the input is not in time order, sort it by occurred_at", counts.late));
    }
    if counts.labels_without_interaction > 0 {
        note(format!("{} labels name no accepted interaction and were left out", counts.labels_without_interaction));
    }
    if counts.labels_already_read > 0 {
        note(format!("{} ratings rate an interaction after they were read and were left out", counts.labels_already_read));
    }
}

fn judged_on_something(rest: &Dataset) -> bool {
    rest.sequences.iter().flat_map(|s| &s.steps).any(|s| s.is_labelled())
}

/// What is known before any network is.
struct Prepared {
    tokenizer: TokenizerFile,
    layout: Layout,
    tasks: Vec<ClassTask>,
    satisfaction: bool,
    class_values: [f32; CLASSES],
    mean: f32,
}

impl Prepared {
    fn new(recording: &Recording, config: &Config, progress: &mut impl FnMut(Progress<'_>)) -> Self {
        let (tasks, left_out) = prepare::tasks(recording, &config.prepare(), &config.auxiliary);
        for what in left_out {
            progress(Progress::Note(&format!("left out: {what}")));
        }
        let mut sums = [(0.0f64, 0usize); CLASSES];
        for mean in recording.customers.iter().flat_map(|c| &c.labels).filter_map(|l| l.satisfaction) {
            let sum = &mut sums[satisfaction_class(mean)];
            sum.0 += f64::from(mean);
            sum.1 += 1;
        }
        let rated: usize = sums.iter().map(|s| s.1).sum();
        let classes = sums.iter().filter(|s| s.1 >= config.min_class).count();
        if rated > 0 && classes < 2 {
            let counts = sums.map(|s| s.1);
            progress(Progress::Note(&format!(
                "left out: satisfaction: of ratings below, at and above 3 there are {counts:?}, two classes need at least {} each",
                config.min_class
            )));
        }
        if rated == 0 {
            progress(Progress::Note("left out: satisfaction: there is no rating among the labels or interactions"));
        }
        if classes < 2 && tasks.iter().all(|t| t.auxiliary) {
            progress(Progress::Note("there are no labels to learn from: the bundle has no head"));
        }
        let mut class_values = [2.0, 3.0, 4.0];
        for (value, (sum, n)) in class_values.iter_mut().zip(sums) {
            if n > 0 {
                *value = (sum / n as f64) as f32;
            }
        }
        let total: f64 = sums.iter().map(|s| s.0).sum();
        let mean = if rated == 0 { 3.0 } else { (total / rated as f64) as f32 };
        Self {
            tokenizer: prepare::tokenizer(recording, &config.prepare()),
            layout: prepare::layout(recording),
            tasks,
            satisfaction: classes >= 2,
            class_values,
            mean,
        }
    }

    fn dataset<'a>(&self, customers: impl IntoIterator<Item = &'a Customer>) -> Dataset {
        let mut data = prepare::dataset(customers, &self.tokenizer, &self.layout, &self.tasks);
        if !self.satisfaction {
            data.sequences.iter_mut().flat_map(|s| &mut s.steps).for_each(|s| s.satisfaction = None);
        }
        data
    }

    fn architecture(&self, config: &Config) -> Architecture {
        Architecture {
            sizes: config.sizes(),
            vocabulary: self.tokenizer.words.len() + 2,
            bag_rows: self.tokenizer.bag_rows as usize,
            vector: config.vector,
            hidden: config.hidden,
            features: self.layout.width(),
            satisfaction: self.satisfaction,
            tasks: self.tasks.iter().map(|t| t.labels.len()).collect(),
        }
    }

    /// Names of the tasks that become outputs.
    fn exported(&self) -> Vec<Option<&str>> {
        self.tasks.iter().map(|t| (!t.auxiliary).then_some(&*t.name)).collect()
    }

    fn files(&self, network: &Network, baseline: Option<Tfidf>) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let exported = self.exported();
        let mut files = BTreeMap::from([
            ("text_cnn.onnx".to_owned(), onnx::text_graph(network, &exported)),
            ("sequence.onnx".to_owned(), onnx::sequence_graph(network, &exported)),
            ("tokenizer.json".to_owned(), json_file(&self.tokenizer)?),
            ("preprocessing.json".to_owned(), json_file(&self.layout)?),
            ("golden.json".to_owned(), json_file(&self.golden(network)?)?),
        ]);
        if let Some(tfidf) = baseline {
            files.insert("baselines/tfidf.bin".to_owned(), tfidf.encode());
        }
        Ok(files)
    }

    /// A short invented history through the network, so that a loader can tell whether the graphs compute what they did here.
    fn golden(&self, network: &Network) -> anyhow::Result<Golden> {
        let mut splitter = Splitter::default();
        let mut items = Vec::new();
        for line in GOLDEN.lines() {
            let interaction = decode(line.as_bytes(), DecodeOptions::default())?.interaction;
            if let Some(text) = &interaction.text {
                splitter.split(text);
            }
            items.push(Item::new(&interaction, &splitter));
        }
        let labels = vec![super::record::Labels::default(); items.len()];
        let data = self.dataset(&[Customer { id: "golden".into(), items, labels }]);
        let mut outputs = BTreeMap::new();
        let last = data.sequences[0].steps.len() - 1;
        fit::run(network, &data.sequences, |_, step, output, row| {
            if step != last {
                return;
            }
            let c = &output.carry;
            outputs.insert("state_out".to_owned(), [c.hidden.as_slice(), &c.previous, &c.before].concat());
            if self.satisfaction {
                outputs.insert("satisfaction".to_owned(), output.satisfaction[row * CLASSES..][..CLASSES].to_vec());
            }
            for (task, logits) in self.tasks.iter().zip(&output.classes).filter(|(t, _)| !t.auxiliary) {
                let k = task.labels.len();
                outputs.insert(task.name.to_string(), logits[row * k..][..k].to_vec());
            }
        });
        let steps = data.sequences.into_iter().flat_map(|s| s.steps);
        Ok(Golden { steps: steps.map(|s| GoldenStep { tokens: s.tokens, bag: s.bag, features: s.features }).collect(), outputs })
    }

    fn manifest(
        &self,
        job: &Job,
        recording: &Recording,
        network: &Network,
        heads: &Heads,
        qualities: &[(String, Quality, Option<Quality>)],
        (from, to): (Timestamp, Timestamp),
    ) -> Manifest {
        let widths = onnx::widths(network, &self.exported());
        let satisfaction = self.satisfaction.then(|| SatisfactionHead {
            scale: heads.satisfaction.scale,
            bias: std::array::from_fn(|i| heads.satisfaction.bias[i]),
            class_values: self.class_values,
            mean: self.mean,
        });
        let classes = self.tasks.iter().zip(&heads.classes).filter(|(t, _)| !t.auxiliary).map(|(task, (scaling, _, unknown_below))| {
            let labels = task.labels.iter().map(|l| l.to_string()).collect();
            (task.name.to_string(), ClassHead { labels, scale: scaling.scale, unknown_below: *unknown_below })
        });
        let metrics = qualities.iter().map(|(task, network, tfidf)| {
            let mut value = json!({ "held_out": network });
            if let Some(tfidf) = tfidf {
                value["baselines"] = json!({ "tfidf": tfidf });
            }
            (task.clone(), value)
        });
        Manifest {
            format: FORMAT,
            version: String::new(),
            splitter: words::SPLITTER,
            vector: widths.vector,
            features: self.layout.width(),
            state: widths.state,
            feature_hash: self.layout.hash(),
            satisfaction,
            classes: classes.collect(),
            training: Training {
                from: from.to_string(),
                to: to.to_string(),
                customers: recording.customers.len(),
                interactions: recording.counts.interactions,
                seed: job.seed,
                horizon_days: job.config.horizon_days,
                code: env!("CARGO_PKG_VERSION").into(),
            },
            metrics: Value::Object(metrics.collect()),
            files: BTreeMap::new(),
        }
    }
}

/// A JSON file: one value, a newline at its end.
fn json_file(value: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Calibration of every head, and how good each was on the held-out customers.
struct Heads {
    satisfaction: Scaling,
    satisfaction_quality: Option<Quality>,
    /// Scaling, quality, and the probability below which none of the labels is meant.
    classes: Vec<(Scaling, Option<Quality>, Option<f32>)>,
}

impl Heads {
    fn fit(network: &Network, rest: &Dataset, config: &Config) -> Self {
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        let mut tasks: Vec<(Vec<Vec<f32>>, Vec<usize>)> = vec![Default::default(); rest.tasks.len()];
        fit::run(network, &rest.sequences, |sequence, step, output, row| {
            let step = &rest.sequences[sequence].steps[step];
            if let Some(mean) = step.satisfaction {
                logits.push(output.satisfaction[row * CLASSES..][..CLASSES].to_vec());
                labels.push(satisfaction_class(mean));
            }
            for (i, label) in step.classes.iter().enumerate() {
                let k = rest.tasks[i].labels.len();
                if let Some(label) = label {
                    tasks[i].0.push(output.classes[i][row * k..][..k].to_vec());
                    tasks[i].1.push(*label as usize);
                }
            }
        });
        let satisfaction = if logits.is_empty() { Scaling::identity(CLASSES) } else { calibrate::fit(&logits, &labels, true) };
        let judge = |scaling: &Scaling, logits: &[Vec<f32>], labels: &[usize], event| {
            let probabilities: Vec<Vec<f32>> = logits.iter().map(|l| scaling.apply(l)).collect();
            (!labels.is_empty()).then(|| quality(&probabilities, labels, event))
        };
        let satisfaction_quality = judge(&satisfaction, &logits, &labels, Some(0));
        let classes = tasks
            .iter()
            .zip(&rest.tasks)
            .map(|((logits, labels), task)| {
                let scaling = if logits.is_empty() { Scaling::identity(task.labels.len()) } else { calibrate::fit(logits, labels, false) };
                let quality = judge(&scaling, logits, labels, None);
                let largest = logits.iter().map(|l| scaling.apply(l).into_iter().fold(0.0, f32::max)).collect();
                (scaling, quality, unknown_below(largest, config.unknown_quantile))
            })
            .collect();
        Self { satisfaction, satisfaction_quality, classes }
    }
}

/// Quantile of the largest probabilities on known classes; `None` where there are too few to tell.
fn unknown_below(mut largest: Vec<f32>, quantile: f64) -> Option<f32> {
    if quantile <= 0.0 || largest.len() < 200 {
        return None;
    }
    largest.sort_by(f32::total_cmp);
    largest.get((largest.len() as f64 * quantile) as usize).copied()
}

/// Penalties that are tried, weakest last; each fit starts from the one before.
const PENALTIES: [f64; 4] = [0.1, 0.3, 1.0, 3.0];

/// The tf-idf baseline, tuned on the held-out customers, and its quality there.
fn baseline(recording: &Recording, refit: bool) -> Option<(Tfidf, Option<Quality>)> {
    let (mut parts, mut held): ([Vec<Document>; 2], [Vec<usize>; 2]) = Default::default();
    for customer in &recording.customers {
        let part = usize::from(customer_share(&customer.id) < HELD_OUT);
        let mut exchange = Exchange::default();
        for (item, labels) in customer.items.iter().zip(&customer.labels) {
            if let Some(mean) = labels.satisfaction {
                parts[part].push(exchange.document(item));
                held[part].push(satisfaction_class(mean));
            }
            exchange.add(item);
        }
    }
    let [train, rest] = &parts;
    let [labels, rest_labels] = &held;
    if train.is_empty() {
        return None;
    }
    let mut best: Option<(f64, Tfidf, Quality)> = None;
    let mut last: Option<Tfidf> = None;
    for c in PENALTIES {
        let model = Tfidf::fit(train, labels, CLASSES, c, last.as_ref());
        if rest.is_empty() {
            return Some((model, None));
        }
        let probabilities: Vec<Vec<f32>> = rest.iter().map(|d| model.probabilities(d)).collect();
        let q = quality(&probabilities, rest_labels, Some(0));
        if best.as_ref().is_none_or(|b| q.macro_f1 > b.2.macro_f1) {
            best = Some((c, model.clone(), q));
        }
        last = Some(model);
    }
    let (c, model, quality) = best?;
    if !refit {
        return Some((model, Some(quality)));
    }
    let documents = parts.concat();
    Some((Tfidf::fit(&documents, &held.concat(), CLASSES, c, None), Some(quality)))
}

/// Invented for this purpose, so that a bundle carries nobody's words.
const GOLDEN: &str = r#"{"id":"g1","customer_id":"golden","occurred_at":"2024-03-01T09:00:00Z","kind":"message","text":"Hello, where is my order 4711?"}
{"id":"g2","customer_id":"golden","occurred_at":"2024-03-01T09:01:00Z","kind":"message","actor":"agent","text":"It was sent on Monday. Anything else I can do for you?"}
{"id":"g3","customer_id":"golden","occurred_at":"2024-03-01T09:02:00Z","kind":"message","text":"That is what you said last week, and it's still not here!"}
{"id":"g4","customer_id":"golden","occurred_at":"2024-03-03T10:00:00Z","kind":"purchase","amount":12.5,"quantity":2}
{"id":"g5","customer_id":"golden","occurred_at":"2024-03-04T10:00:00Z","kind":"message","text":"你好,我的快递还没有到"}
{"id":"g6","customer_id":"golden","occurred_at":"2024-03-04T10:00:30Z","kind":"message","actor":"agent","text":"请稍等"}
{"id":"g7","customer_id":"golden","occurred_at":"2024-03-04T10:05:00Z","kind":"message","text":"Thank you, it has arrived."}"#;

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::alert::Policies;
    use crate::model::Model;
    use crate::train::evaluate::evaluate;

    fn config() -> Config {
        Config {
            epochs: 12,
            learning_rate: 0.01,
            warm_up: 2,
            embedding: 8,
            filters: 4,
            bag: 8,
            vector: 8,
            hidden: 8,
            bag_rows: 512,
            min_count: 1,
            ..Config::default()
        }
    }

    /// 120 customers with four messages each: "bad" ones are rated 1.5, "good" ones 4.5, with intents to match.
    fn data(dir: &Path, satisfaction: bool, intent: bool, text: bool) -> Job {
        let (mut interactions, mut labels) = (String::new(), String::new());
        for c in 0..120 {
            for turn in 0..4 {
                let good = (c * 7 + turn * 3) % 5 < 2;
                let words = if good { "thanks this is great" } else { "this is broken and late" };
                let text = if text { format!(r#","text":"{words} {}""#, c % 9) } else { String::new() };
                let _ = writeln!(
                    interactions,
                    r#"{{"id":"{c}-{turn}","customer_id":"c{c}","occurred_at":"2024-01-{:02}T10:{turn:02}:00Z","kind":"message"{text}}}"#,
                    1 + c % 28
                );
                if satisfaction {
                    let mean = if good { 4.5 } else { 1.5 };
                    let _ = writeln!(labels, r#"{{"interaction_id":"{c}-{turn}","task":"satisfaction","value":{mean}}}"#);
                }
                if intent {
                    let class = if good { "praise" } else { "complaint" };
                    let _ = writeln!(labels, r#"{{"interaction_id":"{c}-{turn}","task":"intent","value":"{class}"}}"#);
                }
            }
        }
        fs::write(dir.join("i.jsonl"), interactions).expect("temporary file");
        fs::write(dir.join("l.jsonl"), labels).expect("temporary file");
        Job {
            interactions: vec![dir.join("i.jsonl")],
            labels: vec![dir.join("l.jsonl")],
            out: dir.join("bundle"),
            seed: 3,
            config: config(),
        }
    }

    fn train(job: &Job) -> (Made, Vec<String>) {
        let mut notes = Vec::new();
        let made = make(job, |p| {
            if let Progress::Note(text) = p {
                notes.push(text.to_owned());
            }
        });
        (made.expect("a bundle"), notes)
    }

    #[test]
    fn learns_both_tasks_and_the_bundle_serves() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let job = data(dir.path(), true, true, true);
        let (made, _) = train(&job);
        // Loading runs the golden steps through tract: the exported graphs compute what burn computed.
        let model = Model::load(&job.out).expect("a sound bundle");
        assert_eq!(model.manifest.version, made.version);
        assert!(made.version.starts_with("2024-01-28-"), "{}", made.version);
        let (report, _) =
            evaluate(model, Arc::new(Policies::standard()), &job.interactions, &job.labels, None, |_, _| {}).expect("a report");
        let satisfaction = &report.tasks["satisfaction"];
        assert!(satisfaction.quality.accuracy > 0.95, "{satisfaction:?}");
        assert!(satisfaction.baselines["tfidf"].accuracy > 0.95, "{satisfaction:?}");
        assert!(report.tasks["intent"].quality.accuracy > 0.95, "{:?}", report.tasks["intent"]);
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut job = data(dir.path(), true, true, true);
        let (first, _) = train(&job);
        job.out = dir.path().join("elsewhere/again");
        let (second, _) = train(&job);
        assert_eq!(first.version, second.version);
        for file in [
            "manifest.json",
            "text_cnn.onnx",
            "sequence.onnx",
            "tokenizer.json",
            "preprocessing.json",
            "golden.json",
            "baselines/tfidf.bin",
        ] {
            let read = |bundle: &str| fs::read(dir.path().join(bundle).join(file)).expect(file);
            assert!(read("bundle") == read("elsewhere/again"), "{file} differs");
        }
        job.seed += 1;
        assert_ne!(train(&job).0.version, first.version);
    }

    #[test]
    fn what_has_no_labels_is_left_out_and_said_so() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for (satisfaction, intent, text, said) in [
            (false, true, true, "left out: satisfaction"),
            (true, false, true, "interactions, 480 labels"),
            (false, false, true, "has no head"),
            (true, false, false, "interactions, 480 labels"),
        ] {
            let job = data(dir.path(), satisfaction, intent, text);
            let (_, notes) = train(&job);
            assert!(notes.iter().any(|n| n.contains(said)), "{said}: {notes:?}");
            let model = Model::load(&job.out).expect("a sound bundle");
            assert_eq!(model.manifest.satisfaction.is_some(), satisfaction);
            assert_eq!(model.manifest.classes.contains_key("intent"), intent);
        }
    }

    #[test]
    fn one_class_only_is_no_head() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let job = data(dir.path(), true, true, true);
        let labels = fs::read_to_string(&job.labels[0]).expect("labels").replace("4.5", "1.5").replace("praise", "complaint");
        fs::write(&job.labels[0], labels).expect("temporary file");
        let (_, notes) = train(&job);
        assert!(notes.iter().any(|n| n.contains("satisfaction: of ratings below, at and above 3 there are [480, 0, 0]")), "{notes:?}");
        assert!(notes.iter().any(|n| n.contains("intent: 1 of 1 classes")), "{notes:?}");
    }

    #[test]
    fn a_bundle_is_replaced_whole_and_other_directories_are_not() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut job = data(dir.path(), true, false, true);
        job.config.epochs = 1;
        let (first, _) = train(&job);
        job.seed = 9;
        let (second, _) = train(&job);
        assert_ne!(first.version, second.version);
        assert_eq!(Model::load(&job.out).expect("a sound bundle").manifest.version, second.version);
        let left: Vec<_> = fs::read_dir(dir.path()).expect("directory").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        job.out = dir.path().to_path_buf();
        let error = make(&job, |_| {}).expect_err("not a bundle").to_string();
        assert!(error.contains("is no model bundle"), "{error}");
    }

    #[test]
    fn empty_input_says_so() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let job = data(dir.path(), true, false, true);
        fs::write(&job.interactions[0], "{\n").expect("temporary file");
        let error = make(&job, |_| {}).expect_err("nothing to read").to_string();
        assert!(error.contains("no valid interaction") && error.contains("1 records rejected"), "{error}");
    }
}
