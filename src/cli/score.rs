//! `rapport score`: files in, scores out, through the engine of `serve`, from empty state.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::forecast::{LastPeriod, Sales};
use super::output::{LineWriter, ScoreWriter, check_files};
use super::{is_unsorted, spinner, usage, whole};
use crate::alert::AlertState;
use crate::engine::{Engine, Outcome, Score, States};
use crate::interaction::file::{Records, expand};
use crate::interaction::{DecodeOptions, Interaction, Reject, RejectClass, Timestamp, decode};

/// Scores files of interactions with the engine of `serve`, from empty state.
///
/// Example: rapport score --model onnx/champion --input chats.jsonl.gz --output scores.jsonl --alerts alerts.jsonl --rejects rejects.jsonl
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model bundle.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Interactions: JSON Lines (plain or gzip) or .parquet; several are read one after the other. A directory, or s3://bucket/prefix, stands for the files under it
    /// (.parquet, .jsonl, .ndjson, also .gz) in the order of their names, which in an archive keeps each customer's order. `-` is standard input.
    #[arg(long, value_name = "F", num_args = 1.., required = true)]
    input: Vec<PathBuf>,
    /// Scores: .parquet, else JSON Lines; `-` is standard output. In the order of the input.
    #[arg(long, value_name = "F")]
    output: PathBuf,
    /// Alerts, JSON Lines; none are raised as of a time.
    #[arg(long, value_name = "F", conflicts_with = "as_of")]
    alerts: Option<PathBuf>,
    /// What was not accepted, and why, JSON Lines.
    #[arg(long, value_name = "F")]
    rejects: Option<PathBuf>,
    /// Exit with 1 if anything was rejected.
    #[arg(long)]
    strict: bool,
    /// Sort by `occurred_at` first (holds everything in memory).
    #[arg(long)]
    sort: bool,
    /// One score per customer as of this time (RFC 3339), no alerts; interactions at and after it are ignored.
    #[arg(long, value_name = "T")]
    as_of: Option<String>,
    /// How far ahead churn and spend look, in days; the bundle's otherwise.
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=3650))]
    horizon_days: Option<u32>,
    /// Take alert policies and `[state]` from this configuration instead of the defaults.
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
}

/// Records of one call of the engine.
const BATCH: usize = 1024;

pub fn run(args: Args) -> anyhow::Result<()> {
    let as_of = args.as_of.as_deref().map(Timestamp::parse).transpose().map_err(|e| usage(format!("--as-of: {e}")))?;
    let inputs: Vec<(&str, &Path)> = args.input.iter().map(|p| ("--input", p.as_path())).collect();
    let side = [("--alerts", &args.alerts), ("--rejects", &args.rejects)];
    let side = side.into_iter().filter_map(|(flag, p)| p.as_deref().map(|p| (flag, p)));
    check_files(&inputs, &[("--output", args.output.as_path())].into_iter().chain(side).collect::<Vec<_>>())?;
    let (policies, config) = super::engine_settings(args.config.as_deref())?;
    let model = super::load_model(&args.model)?;
    let scores = ScoreWriter::create(&args.output, &model)?;
    let engine = Engine::new(model, policies, config)?.with_horizon(args.horizon_days);
    let engine = if as_of.is_some() { engine.without_outlook() } else { engine };
    let mut scorer = Scorer {
        last_period: as_of.zip(engine.horizon_days()).map(|(at, days)| LastPeriod::new(at, days)),
        scores,
        engine,
        states: States::new(),
        alerts: args.alerts.as_deref().map(LineWriter::create).transpose()?,
        rejects: args.rejects.as_deref().map(LineWriter::create).transpose()?,
        first: None,
        as_of,
        latest: BTreeMap::new(),
        batch: Vec::new(),
        origins: Vec::new(),
        counts: Counts::default(),
    };
    // Scores on the terminal show themselves how far it is.
    let shown = args.output == Path::new("-") && std::io::stdout().is_terminal();
    let bar = (!shown).then(|| spinner("scoring"));
    if args.sort {
        let mut all = Vec::new();
        read(&args.input, args.rejects.is_some(), |origin, decoded| match decoded {
            Ok(interaction) => {
                all.push((origin, interaction));
                Ok(())
            }
            Err(reject) => scorer.reject(origin, reject),
        })?;
        all.sort_by_key(|(_, i)| i.occurred_at);
        for (origin, interaction) in all {
            scorer.push(origin, interaction)?;
        }
    } else {
        read(&args.input, args.rejects.is_some(), |origin, decoded| match decoded {
            Ok(interaction) => scorer.push(origin, interaction),
            Err(reject) => scorer.reject(origin, reject),
        })?;
    }
    drop(bar);
    let counts = scorer.finish()?;
    eprintln!("{} scored, {} rejected, {} duplicates, {} alerts", counts.scored, counts.rejected, counts.duplicates, counts.raised);
    if !args.sort && is_unsorted(counts.late as usize, (counts.scored + counts.rejected) as usize) {
        eprintln!("{} interactions were late: the input is not in time order; --sort sorts it first", counts.late);
    }
    if args.strict && counts.rejected > 0 {
        anyhow::bail!("{} records were rejected (--strict)", counts.rejected);
    }
    Ok(())
}

/// Where a record came from.
#[derive(Debug)]
struct Origin {
    file: Arc<str>,
    line: u64,
    /// The record itself, where rejects are wanted.
    raw: Vec<u8>,
}

fn read(
    files: &[PathBuf],
    keep_raw: bool,
    mut take: impl FnMut(Origin, Result<Interaction, Reject>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut record = Vec::new();
    for path in &expand(files)? {
        let mut records = Records::open(path)?;
        let file: Arc<str> = path.display().to_string().into();
        while let Some(line) = records.next(&mut record)? {
            let decoded = decode(&record, DecodeOptions::default()).map(|d| d.interaction);
            let raw = if keep_raw { record.clone() } else { Vec::new() };
            take(Origin { file: file.clone(), line, raw }, decoded)?;
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Counts {
    scored: u64,
    rejected: u64,
    late: u64,
    duplicates: u64,
    raised: u64,
}

#[derive(Serialize)]
struct RejectLine<'a> {
    file: &'a str,
    line: u64,
    class: &'static str,
    message: &'a str,
    raw: &'a str,
}

struct Scorer {
    engine: Engine,
    states: States,
    scores: ScoreWriter,
    alerts: Option<LineWriter>,
    rejects: Option<LineWriter>,
    /// Without them: where and why a record was first rejected.
    first: Option<String>,
    as_of: Option<Timestamp>,
    /// With `as_of`: the last score of each customer.
    latest: BTreeMap<Box<str>, Score>,
    /// With `as_of` and a model that looks ahead.
    last_period: Option<LastPeriod>,
    batch: Vec<Interaction>,
    /// Where the records of the batch came from, in their order; among them those that were rejected before they got to the engine.
    origins: Vec<(Origin, Option<Reject>)>,
    counts: Counts,
}

impl Scorer {
    fn push(&mut self, origin: Origin, interaction: Interaction) -> anyhow::Result<()> {
        if self.as_of.is_some_and(|t| interaction.occurred_at >= t) {
            return Ok(());
        }
        self.batch.push(interaction);
        self.came(origin, None)
    }

    fn reject(&mut self, origin: Origin, reject: Reject) -> anyhow::Result<()> {
        self.came(origin, Some(reject))
    }

    fn came(&mut self, origin: Origin, reject: Option<Reject>) -> anyhow::Result<()> {
        self.origins.push((origin, reject));
        if self.origins.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn rejected(&mut self, origin: &Origin, reject: &Reject) -> anyhow::Result<()> {
        self.counts.rejected += 1;
        self.counts.late += (reject.class == RejectClass::Late) as u64;
        let Some(out) = &mut self.rejects else {
            let Origin { file, line, .. } = origin;
            self.first.get_or_insert_with(|| {
                format!("first rejected, {file}:{line}: {}: {}; --rejects lists all", reject.class.name(), reject.message)
            });
            return Ok(());
        };
        let raw = String::from_utf8_lossy(&origin.raw);
        out.write(&RejectLine { file: &origin.file, line: origin.line, class: reject.class.name(), message: &reject.message, raw: &raw })
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let effects = self.engine.apply(&self.batch, &mut self.states, Timestamp::now())?;
        let batch = std::mem::take(&mut self.batch);
        let mut outcomes = batch.iter().zip(effects.outcomes);
        for (origin, reject) in std::mem::take(&mut self.origins) {
            if let Some(reject) = reject {
                self.rejected(&origin, &reject)?;
                continue;
            }
            match outcomes.next() {
                Some((interaction, Outcome::Scored(score))) => self.scored(interaction, score)?,
                Some((_, Outcome::Duplicate)) => self.counts.duplicates += 1,
                Some((_, Outcome::Rejected(reject))) => self.rejected(&origin, &reject)?,
                None => anyhow::bail!("the engine said nothing of {}:{}", origin.file, origin.line),
            }
        }
        // As of a time there are scores and nothing else: what had been raised by then is history.
        let alerts = if self.as_of.is_some() { Vec::new() } else { effects.alerts };
        for (_, alert) in alerts {
            self.counts.raised += (alert.state == AlertState::Raised) as u64;
            if let Some(out) = &mut self.alerts {
                out.write(&alert)?;
            }
        }
        Ok(())
    }

    fn scored(&mut self, interaction: &Interaction, score: Score) -> anyhow::Result<()> {
        self.counts.scored += 1;
        if let Some(last) = &mut self.last_period {
            let first = self.states.get(&interaction.customer_id).map_or(interaction.occurred_at, |state| state.now.first);
            last.add(interaction, first);
        }
        if self.as_of.is_none() {
            return self.scores.write(&score);
        }
        self.latest.insert(score.customer_id.clone(), score);
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Counts> {
        self.flush()?;
        if let Some(t) = self.as_of {
            let mut scores: Vec<Score> = std::mem::take(&mut self.latest).into_values().collect();
            self.counts.scored = scores.len() as u64;
            self.engine.as_of(&mut scores, &self.states, t)?;
            if let Some(sales) = self.last_period.as_ref().and_then(|last| Sales::of(&self.engine, &scores, last)) {
                eprintln!("{sales}");
            }
            for score in &scores {
                self.scores.write(score)?;
            }
        }
        self.scores.finish()?;
        if let Some(first) = &self.first {
            eprintln!("{first}");
        }
        for out in [self.alerts, self.rejects].into_iter().flatten() {
            out.finish()?;
        }
        Ok(self.counts)
    }
}
