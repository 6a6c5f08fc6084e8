//! `rapport train`: interactions and labels in, a model bundle out.

use std::path::PathBuf;

use super::{number, whole};

/// Trains a model bundle.
///
/// Works with whatever the data has: a task without enough labels is left out and said so. With the same data, settings, seed and build the
/// bundle has the same bytes. A run that was killed goes on from DIR.checkpoint when it is started again with the same arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  rapport train --interactions chats.jsonl --labels chats.labels.jsonl --out bundles/next --seed 1\n  \
                  rapport train --import online-retail --interactions year1.csv.gz year2.csv.gz --horizon-days 183 --out bundles/retail\n  \
                  rapport train --import 'csv --map customer_id=cust --map occurred_at=date --label satisfaction=stars --set kind=call' \\\n    \
                  --interactions calls.csv --out bundles/calls")]
pub struct Args {
    /// Interactions: JSON Lines (plain or gzip) or .parquet, read one after the other. A directory, or s3://bucket/prefix, stands for the files under it (.parquet, .jsonl,
    /// .ndjson, also .gz) in the order of their names, which in an archive keeps each customer's order.
    #[arg(long, value_name = "F", num_args = 1.., required = true)]
    interactions: Vec<PathBuf>,
    /// The interactions are files of this set or plain CSV, labels included: a source of `rapport import`, with its options. They are imported on the
    /// way, to a folder beside DIR that is gone at the end.
    #[arg(long, value_name = "SOURCE")]
    import: Option<String>,
    /// Labels, JSON Lines; ratings among the interactions count too.
    #[arg(long, value_name = "F", num_args = 1..)]
    labels: Vec<PathBuf>,
    /// Word vectors to start from: a file in GloVe's text format, plain or gzip, or a bundle, as wide as the setting `embedding`; or `none`. Otherwise
    /// the English ones that are built in, where they know a quarter of the texts' words.
    #[arg(long, value_name = "F")]
    vectors: Option<String>,
    /// Where the bundle goes: a new directory, or a bundle to replace.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Settings of the run, TOML.
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u64>(..))]
    seed: u64,
    /// Train as if nothing had happened from this time (RFC 3339) on.
    #[arg(long, value_name = "T")]
    until: Option<String>,
    /// How far ahead labels of the future look, in days; the configuration's otherwise (default 90).
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=3650))]
    horizon_days: Option<u32>,
    /// Train only if interactions newer than this bundle's training range (and before --until) have drifted from those that it was fitted on.
    /// The new bundle names it as its parent.
    #[arg(long, value_name = "DIR")]
    if_drift: Option<PathBuf>,
    /// Population stability index above which an input or output has drifted.
    #[arg(long, value_name = "X", default_value_t = 0.2, requires = "if_drift", value_parser = number)]
    drift_limit: f64,
    /// Passes over the texts and sequences; the configuration's otherwise (default: by the data's shape).
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..=1000))]
    epochs: Option<usize>,
    /// Most interactions to train from, as whole customers chosen by the seed; 0: all. The configuration's otherwise (default 1000000).
    #[arg(long, value_name = "N", value_parser = whole::<usize>(..))]
    max_interactions: Option<usize>,
    /// Most steps of the optimiser in one fit of a network; the configuration's otherwise (default: as many as the epochs have).
    #[arg(long, value_name = "N", value_parser = whole::<usize>(..))]
    max_steps: Option<usize>,
}

#[cfg(not(feature = "train"))]
pub fn run(_: Args) -> anyhow::Result<()> {
    Err(super::usage("this binary was built without training: build it by `cargo build --release --features train`"))
}

#[cfg(feature = "train")]
pub fn run(args: Args) -> anyhow::Result<()> {
    use super::imported::Imported;
    use super::output::check_files;
    use super::{progress_bar, usage};
    use crate::train::config::Config;
    use crate::train::drifted::{Verdict, drifted};
    use crate::train::make::{Job, Progress, make};
    use crate::train::record::Sample;
    use crate::train::vectors::Source;
    use crate::train::write::check_place;

    let mut config = Config::load(args.config.as_deref())?;
    config.horizon_days = args.horizon_days.unwrap_or(config.horizon_days);
    if let Some(epochs) = args.epochs {
        config.epochs = epochs;
        config.given.insert("epochs".into());
    }
    config.max_interactions = args.max_interactions.unwrap_or(config.max_interactions);
    config.max_steps = args.max_steps.unwrap_or(config.max_steps);
    config.check().map_err(usage)?;
    let until = args.until.as_deref().map(crate::interaction::Timestamp::parse).transpose().map_err(|e| usage(format!("--until: {e}")))?;
    check_place(&args.out)?;
    // What is imported is checked by the import.
    let read = if args.import.is_none() { args.interactions.as_slice() } else { &[] };
    let inputs =
        read.iter().map(|path| ("--interactions", path.as_path())).chain(args.labels.iter().map(|path| ("--labels", path.as_path())));
    check_files(&inputs.collect::<Vec<_>>(), &[])?;
    let (mut interactions, mut labels) = (args.interactions, args.labels);
    let imported = match &args.import {
        None => None,
        Some(source) => Some(Imported::new(source, &interactions, &args.out)?),
    };
    if let Some(imported) = &imported {
        interactions = vec![imported.interactions.clone()];
        labels.push(imported.labels.clone());
    }
    let mut parent = None;
    if let Some(dir) = &args.if_drift {
        let model = super::load_model(dir)?;
        parent = Some(model.version.to_string());
        let sample = Sample { interactions: config.max_interactions, seed: args.seed, until };
        let (verdict, sampled) = drifted(model, &interactions, sample, args.drift_limit)?;
        let of = sampled.map_or(String::new(), |share| format!("; of {:.1} % of the customers (--max-interactions)", 100.0 * share));
        let sentence = verdict.sentence(args.drift_limit) + &of;
        if !matches!(verdict, Verdict::Drifted(_)) {
            eprintln!("not trained: {sentence}");
            return Ok(());
        }
        eprintln!("{sentence}");
    }
    let Ok(vectors) = args.vectors.map_or(Ok(Source::default()), |argument| argument.parse());
    let job = Job { interactions, labels, vectors, out: args.out, parent, seed: args.seed, until, config };
    let mut fits = Fits::new(progress_bar(""));
    let made = make(&job, |progress| match progress {
        Progress::Note(text) => fits.bar.suspend(|| eprintln!("{text}")),
        Progress::Stage(what) => fits.stage(what),
        Progress::Fit(what, done, loss) => fits.step(what, done, loss),
    })?;
    fits.end();
    fits.bar.finish_and_clear();
    for (task, report) in &made.tasks {
        let line = |q: &crate::train::metrics::Quality| {
            format!("accuracy {:.1}, macro-F1 {:.1}, log-loss {:.3}", 100.0 * q.accuracy, 100.0 * q.macro_f1, q.log_loss)
        };
        let baselines: String = report.baselines.iter().map(|(name, b)| format!("; {}: {}", b.title(name), line(&b.quality))).collect();
        eprintln!("{task} on {} labels set aside: {}{baselines}", report.quality.n, line(&report.quality));
        report.verdicts.iter().for_each(|verdict| eprintln!("  {verdict}"));
    }
    made.future.iter().for_each(ahead);
    Ok(super::say(&made.version)?)
}

/// Says how good churn, spend and next need are on what was set aside.
#[cfg(feature = "train")]
fn ahead(report: &crate::train::future::judge::FutureReport) {
    use super::forecast::percent;
    use crate::train::future::judge::{ChurnQuality, NeedQuality, SpendQuality};

    fn beside<T>(own: &T, baselines: &std::collections::BTreeMap<&'static str, T>, line: impl Fn(&T) -> String) -> String {
        baselines.iter().fold(line(own), |said, (name, theirs)| format!("{said}; {name}: {}", line(theirs)))
    }
    if let Some(c) = &report.churn {
        let line = |q: &ChurnQuality| format!("AUROC {:.3}, log-loss {:.3}, calibration error {:.3}", q.auroc, q.log_loss, q.ece);
        eprintln!("churn on {} looks set aside, {} days ahead: {}", c.n, c.horizon_days, beside(&c.quality, &c.baselines, line));
    }
    if let Some(s) = &report.spend {
        let line = |q: &SpendQuality| {
            let (purchases, amount) = (percent(q.bias_purchases), percent(q.bias_amount));
            format!("purchases off by {:.2} (root mean square), bias of purchases {purchases}, of amounts {amount}", q.rmse_purchases)
        };
        eprintln!("spend on {} looks set aside, {} days ahead: {}", s.n, s.horizon_days, beside(&s.quality, &s.baselines, line));
    }
    if let Some(n) = &report.next_need {
        let line = |q: &NeedQuality| format!("recall@5 {:.3}, recall@1 {:.3}", q.recall_at_5, q.recall_at_1);
        eprintln!("next need on {} looks set aside: calibration error {:.3}, {}", n.n, n.ece, beside(&n.quality, &n.baselines, line));
    }
}

/// Shows how far the present fit is: as a bar on a terminal, as a line now and then in a log.
#[cfg(feature = "train")]
struct Fits {
    bar: indicatif::ProgressBar,
    /// The present fit.
    what: String,
    /// When a line was last written.
    said: std::time::Instant,
    /// When the present fit took its first step, and how many it has taken.
    begun: std::time::Instant,
    steps: usize,
}

#[cfg(feature = "train")]
impl Fits {
    /// Time between two lines.
    const PAUSE: std::time::Duration = std::time::Duration::from_secs(30);

    fn new(bar: indicatif::ProgressBar) -> Self {
        bar.set_length(1000);
        let now = std::time::Instant::now();
        Self { bar, what: String::new(), said: now, begun: now, steps: 0 }
    }

    /// Says how long the present fit took.
    fn end(&mut self) {
        if self.steps > 0 {
            let (what, steps, seconds) = (&self.what, self.steps, self.begun.elapsed().as_secs_f32());
            self.bar.suspend(|| eprintln!("{what}: {steps} steps in {seconds:.1} s"));
        }
        self.steps = 0;
    }

    /// Turns to work whose end is not known.
    fn stage(&mut self, what: &str) {
        self.end();
        self.what.clear();
        self.bar.reset_elapsed();
        self.bar.set_message(what.to_owned());
        super::as_spinner(&self.bar);
    }

    fn step(&mut self, what: &str, done: f32, loss: f32) {
        self.bar.set_message(format!("{what}, loss {loss:.3}"));
        self.bar.set_position((done * 1000.0) as u64);
        if self.what != what {
            self.end();
            what.clone_into(&mut self.what);
            self.begun = std::time::Instant::now();
            super::as_bar(&self.bar);
            // What another fit took, or a run that this one goes on from, says nothing of the time left.
            self.bar.tick();
            self.bar.reset_eta();
        }
        self.steps += 1;
        if self.bar.is_hidden() && self.said.elapsed() >= Self::PAUSE {
            self.said = std::time::Instant::now();
            eprintln!("{what}: {:.0} %, loss {loss:.3}, {} left", done * 100.0, indicatif::HumanDuration(self.bar.eta()));
        }
    }
}
