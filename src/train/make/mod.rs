//! `rapport train` from end to end: record, divide, prepare, fit, calibrate, judge on what was set aside, write the bundle.
//!
//! Nothing here depends on wall clock, host, path or number of threads. What is set aside is never fitted on, not even at the end.

mod baseline;
mod crossed;
mod golden;
mod heads;
mod notes;
mod prepared;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

pub use heads::{Heads, value};
pub use notes::Notes;
pub use prepared::{CLASSES, Prepared};

use baseline::{Fitted, Parts};
use heads::Said;
use prepared::json_file;

use super::checkpoint::{Checkpoint, Fingerprint};
use super::config::Config;
use super::dataset::Dataset;
use super::future::judge::{FutureReport, Others};
use super::holdout::{Division, Holdout, Part, View};
use super::judge::{self, Judged, Task, TaskReport};
use super::network::Network;
use super::record::{Counts, Recording, Sample, record_sample};
use super::report::{self, Report};
use super::shape::Shape;
use super::slices::Names;
use super::vectors::Source;
use super::{
    SATISFACTION_CLASSES, TFIDF, future, lineage, membership, reference, satisfaction_class, search, segments, stack, tabular, write,
};
use crate::cli::usage;
use crate::interaction::{SATISFACTION, Timestamp};
use crate::model::Reference;

/// What to train from and where to put it.
#[derive(Debug, Clone)]
pub struct Job {
    pub interactions: Vec<PathBuf>,
    pub labels: Vec<PathBuf>,
    /// Word vectors as a start of the word table.
    pub vectors: Source,
    pub out: PathBuf,
    /// Version of the bundle that this one follows; where `vectors` are a bundle's, that is the one.
    pub parent: Option<String>,
    pub seed: u64,
    /// Interactions at or after it are not read.
    pub until: Option<Timestamp>,
    pub config: Config,
}

/// What a run tells its caller while it works.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    Note(&'a str),
    /// What begins now, as long as no fit tells how far it is.
    Stage(&'a str),
    /// Share of the present fit, and its loss.
    Fit(&'a str, f32, f32),
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    pub version: String,
    pub counts: Counts,
    /// Quality on the part that judges, by task.
    pub tasks: BTreeMap<String, TaskReport>,
    /// The same of churn, spend and next need.
    pub future: Option<FutureReport>,
}

/// Where a bundle comes from.
pub struct Origin {
    /// Event times of the first and the last interaction.
    pub from: Timestamp,
    pub to: Timestamp,
    /// See [`lineage::data_hash`].
    pub data: String,
    pub parent: Option<String>,
}

/// Trains a bundle.
///
/// # Errors
/// Usage errors for files and settings; see [`write::write`].
pub fn make(job: &Job, mut progress: impl FnMut(Progress<'_>)) -> anyhow::Result<Made> {
    job.config.check().map_err(usage)?;
    write::check_place(&job.out)?;
    progress(Progress::Stage("reading"));
    let sample = Sample { interactions: job.config.max_interactions, seed: job.seed, until: job.until };
    let recording = record_sample(&job.interactions, &job.labels, sample)?;
    let (Some(from), Some(to)) = (recording.from, recording.to) else {
        let first = recording.first_rejected.map_or(String::new(), |first| format!("; the first: {first}"));
        let csv = job.interactions.iter().any(|path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")));
        let hint = if csv { "; plain CSV is read by --import csv" } else { "" };
        let rejected = recording.counts.rejected;
        return Err(usage(format!("there is no valid interaction in the input ({rejected} records rejected{first}{hint})")));
    };
    let parent = job.vectors.bundle().or_else(|| job.parent.clone());
    let origin = Origin { from, to, data: lineage::data_hash(&recording), parent };
    let mut notes = Notes::new(&mut progress);
    notes.sampled(&recording, job.config.max_interactions);
    notes.counts(&recording);
    let holdout = Holdout::choose(&recording, job.config.holdout, job.config.horizon_days);
    let division = Division::new(&recording, &holdout);
    let parts = Parts { fit: division.views(Part::Fit), calibrate: division.views(Part::Calibrate), judge: division.views(Part::Judge) };
    if parts.fit.is_empty() {
        let n = recording.customers.len();
        return Err(usage(format!(
            "nothing is left to fit on: all of the {n} customers fall to the part that is set aside for judging; more customers are needed"
        )));
    }
    notes.stage("preparing");
    let shape = Shape::of(&parts.fit);
    if parts.fit.iter().flat_map(View::own).any(|(_, labels)| !labels.is_empty()) {
        notes.say(format!("the labelled part looks like {shape}"));
    }
    let job = &Job { config: job.config.suited(shape), ..job.clone() };
    let vectors = job.vectors.vectors(&recording.words, job.config.embedding, job.config.max_words)?;
    if job.vectors == Source::BuiltIn && !vectors.words.is_empty() {
        notes.say("the words start from the English vectors that are built in");
    }
    let mut prepared = Prepared::new(&parts.fit, &recording, vectors, &job.config, &mut notes);
    notes.stage("finding segments");
    let behaviour = segments::fit(&recording, &holdout, &job.config, job.seed, &mut notes)?;
    notes.stage("preparing");
    prepared.layout.behaviour = behaviour.behaviour;
    prepared.layout.tabular = behaviour.tabular;
    let [fitted, calibration, judged] = [&parts.fit, &parts.calibrate, &parts.judge].map(|views| prepared.dataset(views));
    let architecture = prepared.architecture(&job.config);
    // What is read decides what is fitted on.
    let read = format!("{} {}", origin.data, prepared.vectors.hash);
    let fingerprint = Fingerprint::new(read, format!("{:?} {architecture:?}", job.config), job.seed);
    let mut checkpoint = Checkpoint::beside(&job.out, fingerprint);
    let (best, trials) = search::search(&fitted, &calibration, &architecture, &job.config, job.seed, &mut checkpoint, &mut notes);
    if job.config.search.budget > trials.len() {
        notes.left_out("the search: no rating and no class is labelled in the calibration part, whose loss would choose".into());
    }
    if best.kept < best.epochs.len() {
        let (last, kept) = (best.epochs.len(), best.kept);
        notes.say(format!("stopped after epoch {last}: the loss on the calibration part was lowest after epoch {kept}"));
    }
    notes.stage("calibrating");
    // A linear model of one text has nothing to say of a conversation.
    let linear = |network: &Network, data: &Dataset| match shape {
        Shape::Texts { .. } => stack::fit(&network.architecture, data, &calibration),
        _ => Vec::new(),
    };
    let models = linear(&best.network, &fitted);
    let mut calibrating = crossed::both(&best.network, &models, &calibration, &parts.calibrate);
    if matches!(holdout, Holdout::Customers)
        && let Some((own, linear)) = crossed::said(&fitted, &parts.fit, &calibration, &best, linear, job.seed, &mut notes)
    {
        calibrating = (calibrating.0.and(own), calibrating.1.and(linear));
    }
    let shares: Vec<(stack::Head, f32)> = models.iter().map(|m| (m.head, calibrating.0.share(&calibrating.1, m.head))).collect();
    for (head, share) in &shares {
        let name = match head {
            stack::Head::Satisfaction => SATISFACTION,
            stack::Head::Class(task) => &prepared.tasks[*task].name,
        };
        notes.say(format!("{name}: a linear model of n-grams has a share of {:.0} % in the logits of a text", share * 100.0));
    }
    let share = |head| shares.iter().find(|(of, _)| *of == head).map_or(0.0, |(_, share)| *share);
    let network = &stack::with(&best.network, &models, share);
    let calibrating = calibrating.0.with(&calibrating.1, share);
    let heads = Heads::fit(&calibrating, &fitted, &prepared, &holdout, &job.config);

    if job.config.unknown_quantile > 0.0 {
        for (task, _) in prepared.tasks.iter().zip(&heads.classes).filter(|(task, (_, below))| !task.auxiliary && below.is_none()) {
            let fewest = heads::FEWEST_KNOWN;
            notes.left_out(format!(
                "{}_unknown: fewer than {fewest} labels of {} calibrate it, too few to tell what is none of them",
                task.name, task.name
            ));
        }
    }
    let mut files = prepared.files(network, behaviour.golden)?;
    files.extend(behaviour.graphs);
    let others = Others { dense: behaviour.dense, groups: behaviour.groups };
    let names = Names::of(&recording, others.groups.as_deref());
    let judge = Judge { job, recording: &recording, prepared: &prepared, heads: &heads, parts: &parts, others: &others, names: &names };
    notes.stage("fitting tf-idf and judging");
    let tasks = judge.tasks(&Said::of(network, &judged, &parts.judge), &mut files, &mut notes)?;
    let unseen = matches!(holdout, Holdout::Customers).then_some(&calibration);
    let mut reference = reference::reference(network, &prepared, &heads, &fitted, unseen);
    let mut manifest = prepared.manifest(job, &recording, network, &heads, &tasks, &origin);
    manifest.behaviour = behaviour.head;
    notes.stage("looking ahead");
    let learnt = prepared.satisfaction || !prepared.tasks.is_empty();
    let sequence = learnt.then_some(future::carried::Carried { network, prepared: &prepared });
    let future = future::train::train(&recording, &job.config, holdout, job.seed, sequence, (&others, &names), &mut notes)?;
    notes.stage("comparing and writing");
    if !prepared.satisfaction && prepared.tasks.iter().all(|t| t.auxiliary) && future.is_none() && others.groups.is_none() {
        notes.say("there are no labels to learn from: the bundle has no head");
    }
    let ahead = future.as_ref().map(|made| made.report.clone());
    let (read, seen) = if others.groups.is_some() || future.is_some() {
        reference::behaviour(others.groups.as_ref(), &parts.fit, &parts.judge)?
    } else {
        Default::default()
    };
    let watch = reference::watch(network, &prepared, &heads, &reference, &judged, |sequence, step| parts.judge[sequence].contains(step));
    let mut outputs = report::shifts(&watch);
    let mut inputs = watch.drift();
    if let Some(seen) = &seen {
        outputs.extend(report::shifts(seen));
        inputs.extend(seen.drift());
    }
    reference.behaviour = read.behaviour;
    reference.outputs.extend(read.outputs);
    let (mut future_epochs, mut future_kept) = (Vec::new(), 0);
    if let Some(made) = future {
        (future_epochs, future_kept) = (made.epochs, made.kept_epoch);
        files.extend(made.files);
        reference.outputs.extend(made.outputs);
        outputs.extend(report::shifts(&made.watch));
        manifest.future = Some(made.head);
        if let serde_json::Value::Object(metrics) = &mut manifest.metrics {
            metrics.extend(made.report.metrics()?);
        }
    }
    files.insert(Reference::FILE.into(), json_file(&reference)?);
    let report = Report {
        model: String::new(),
        data: data(job, &recording, &holdout, &parts, &origin),
        tasks: tasks.clone(),
        epochs: best.epochs,
        kept_epoch: best.kept,
        trials: if trials.len() > 1 { trials } else { Vec::new() },
        outputs,
        inputs: inputs.into_iter().filter(|d| d.is_input).map(|d| (d.name, d.psi)).collect(),
        left_out: notes.into_left_out(),
        future_epochs,
        future_kept_epoch: future_kept,
        behaviour_losses: behaviour.losses,
        segments: behaviour.profiles,
        anomaly: behaviour.anomaly,
        future: ahead.clone(),
    };
    let version = write::write(&job.out, manifest, &files, |manifest| report.files(manifest))?;
    checkpoint.remove();
    Ok(Made { version, counts: recording.counts, tasks, future: ahead })
}

/// What the report says of the data.
fn data(job: &Job, recording: &Recording, holdout: &Holdout, parts: &Parts<'_>, origin: &Origin) -> report::Data {
    let size = |part, views: &[View<'_>]| report::PartSize {
        part,
        customers: views.len(),
        interactions: views.iter().map(|v| v.own().count()).sum(),
        labels: views.iter().flat_map(View::own).filter(|(_, l)| !l.is_empty()).count(),
    };
    let counts = &recording.counts;
    report::Data {
        from: origin.from.to_string(),
        to: origin.to.to_string(),
        customers: recording.customers.len(),
        interactions: counts.interactions,
        labels: counts.labels,
        rejected: counts.rejected,
        late: counts.late,
        duplicates: counts.duplicates,
        seed: job.seed,
        horizon_days: job.config.horizon_days,
        hash: origin.data.clone(),
        parent: origin.parent.clone(),
        code: lineage::CODE.into(),
        holdout: holdout.to_string(),
        parts: vec![size("fitted on", &parts.fit), size("calibrated on", &parts.calibrate), size("judged on", &parts.judge)],
    }
}

/// Judges every task beside its baseline, which it fits.
struct Judge<'a> {
    job: &'a Job,
    recording: &'a Recording,
    prepared: &'a Prepared,
    heads: &'a Heads,
    parts: &'a Parts<'a>,
    others: &'a Others,
    names: &'a Names,
}

impl Judge<'_> {
    fn tasks(
        &self,
        said: &Said,
        files: &mut BTreeMap<String, Vec<u8>>,
        notes: &mut Notes<'_>,
    ) -> anyhow::Result<BTreeMap<String, TaskReport>> {
        let mut reports = BTreeMap::new();
        let mut add = |name: &str, labels: Vec<String>, event, mut rows: Vec<Judged>, fitted: Option<Fitted>| -> anyhow::Result<()> {
            if let Some(groups) = &self.others.groups {
                membership::fill(&mut rows, groups, self.recording)?;
            }
            let baselines: Vec<_> = fitted.iter().map(|f| (TFIDF, f.rows.clone())).collect();
            if let Some(f) = &fitted {
                files.insert(super::tfidf::file(name), f.tfidf.encode());
            }
            let task = Task { labels, event, mean: self.prepared.mean, names: self.names, seed: self.job.seed };
            let Some(mut report) = judge::report(&task, &rows, &baselines) else {
                notes.say(format!("{name} has no label in the part that judges: nobody knows how good it is"));
                return Ok(());
            };
            if let (Some(_), Some(dense)) = (event, &self.others.dense) {
                tabular::add(&mut report, &task, &rows, dense, self.recording)?;
            }
            reports.insert(name.to_owned(), report);
            Ok(())
        };
        if self.prepared.satisfaction {
            let rows = self.heads.satisfaction_rows(said, self.prepared, &self.parts.judge);
            let fitted = baseline::fit(self.parts, CLASSES, Some(0), |l| l.satisfaction.map(satisfaction_class));
            add(SATISFACTION, SATISFACTION_CLASSES.map(String::from).to_vec(), Some(0), rows, fitted)?;
        }
        let mut of_unknowns = Vec::new();
        for (i, task) in self.prepared.tasks.iter().enumerate().filter(|(_, t)| !t.auxiliary) {
            let numbers: HashMap<&str, usize> = task.labels.iter().enumerate().map(|(i, l)| (&**l, i)).collect();
            let rows = self.heads.class_rows(said, i, &self.parts.judge);
            let k = task.labels.len();
            let fitted = baseline::fit(self.parts, k, None, |l| Some(numbers.get(&**l.classes.get(&task.name)?).copied().unwrap_or(k)));
            let unknown = rows.iter().filter(|j| j.row.label == k).count();
            of_unknowns.push((&task.name, unknown, heads::unknown(&rows, k, self.heads.classes[i].1)));
            add(&task.name, task.labels.iter().map(|l| l.to_string()).collect(), None, rows, fitted)?;
        }
        for (name, labels, unknown) in of_unknowns {
            if let Some(report) = reports.get_mut(&**name) {
                (report.unknown_labels, report.unknown) = (Some(labels), unknown);
            }
        }
        Ok(reports)
    }
}
