//! `rapport models`: the registry of versions.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::output::check_files;
use super::{number, progress_bar, usage, whole};
use crate::config::{Config, LogKind, Overrides};
use crate::interaction::Timestamp;
use crate::log::kafka::{KafkaSettings, announce};
use crate::model::Model;
use crate::model::registry::{Action, Entry, Lock, Reasons, Registry, Role, before, standing};
use crate::train::compare::{Comparison, Given, NotJudged, compare, heads};

/// Versions of the model: which serves, which served, promotion and rollback.
///
/// The registry is the directory that [model] registry names (RAPPORT_MODEL_REGISTRY). Running services take up what is promoted within seconds,
/// between two commits; see docs/models.md.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rapport models list --config rapport.toml
  rapport models promote bundles/next --interactions last-month.parquet --labels last-month.labels.jsonl
  rapport models promote bundles/next --shadow
  rapport models rollback")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Configuration file of the service (default: rapport.toml, if there is one)
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Every version in the registry, and which one serves
    #[command(after_help = "Example:\n  rapport models list --config rapport.toml")]
    List,
    /// A version's manifest and its history, as JSON
    #[command(after_help = "Example:\n  rapport models show 2026-11-22-1f3a9c04")]
    Show {
        #[arg(value_name = "VERSION")]
        version: String,
    },
    Promote(PromoteArgs),
    Rollback(RollbackArgs),
}

/// Copies a bundle into the registry and lets it serve, if it is no worse than what serves
///
/// Both score the given interactions, which neither was trained on; refused (exit code 1) is a bundle that lacks a head of the champion or is worse on
/// one by more than the margin, which resamples of the customers say at a level of 95 % over all measures together. Churn, spend and next need are judged as far ahead as the champion looks, at most
/// half of the time that is given. A head that the data cannot judge passes and is named.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rapport models promote bundles/next --interactions last-month.parquet --labels last-month.labels.jsonl
  rapport models promote bundles/next --force \"first model with churn; satisfaction labels come next month\"
  rapport models promote bundles/next --shadow")]
struct PromoteArgs {
    /// The bundle.
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// Interactions to judge by, later or earlier than what either was trained on: JSON Lines (plain or gzip) or .parquet.
    #[arg(long, value_name = "F", num_args = 1..)]
    interactions: Vec<PathBuf>,
    /// Labels, JSON Lines; ratings among the interactions count too.
    #[arg(long, value_name = "F", num_args = 1..)]
    labels: Vec<PathBuf>,
    /// Judge by the interactions from this time on (RFC 3339), or with `training` by those after what either was trained on; what lies before is the
    /// customers' history, which both read and are not judged by.
    #[arg(long, value_name = "T")]
    since: Option<String>,
    /// How much worse a head may be, in parts of 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = number)]
    margin: f64,
    /// Most interactions to judge by, as whole customers; 0: all. Memory grows with it.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = whole::<usize>(..))]
    max_interactions: usize,
    /// Promote whatever the judgement says; the reason goes to the journal.
    #[arg(long, value_name = "REASON")]
    force: Option<String>,
    /// Let it score beside the champion, unseen, instead of serving; it is not judged.
    #[arg(long, conflicts_with_all = ["force", "interactions", "labels", "since"])]
    shadow: bool,
}

/// Lets an earlier version serve again
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  rapport models rollback\n  rapport models rollback 2026-11-22-1f3a9c04\n  rapport models rollback --shadow"
)]
struct RollbackArgs {
    /// Which one (default: the one that served before the present one was promoted)
    #[arg(value_name = "VERSION")]
    version: Option<String>,
    /// End the shadow instead; what serves stays.
    #[arg(long, conflicts_with = "version")]
    shadow: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref(), &Overrides::default())?;
    let Some(dir) = &config.model.registry else {
        return Err(usage("model.registry is not set: name the registry's directory in [model] registry (or RAPPORT_MODEL_REGISTRY)"));
    };
    let registry = Registry::new(dir);
    match args.command {
        Command::List => list(&registry),
        Command::Show { version } => show(&registry, &version),
        Command::Promote(args) if args.shadow => shadow(&config, &registry, &args),
        Command::Promote(args) => promote(&config, &registry, &args),
        Command::Rollback(args) => rollback(&config, &registry, &args),
    }
}

fn list(registry: &Registry) -> anyhow::Result<()> {
    let entries = registry.entries()?;
    let now = standing(&entries);
    let is = |entry: &Option<Entry>, version: &str| entry.as_ref().is_some_and(|e| e.version == version && e.action != Action::Unshadowed);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:<28} {:<9} {:<27} {:<24} heads", "version", "serves as", "since", "trained to")?;
    for version in registry.versions()? {
        let (role, entry) = match (is(&now.champion, &version), is(&now.shadow, &version)) {
            (true, _) => ("champion", now.champion.as_ref()),
            (_, true) => ("shadow", now.shadow.as_ref()),
            _ => ("", None),
        };
        let manifest = read_manifest(registry, &version)?;
        let text = |pointer: &str| manifest.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let heads = serde_json::from_value(manifest.clone()).map(|m| heads(&m).join(", ")).unwrap_or_else(|_| "of another version".into());
        writeln!(out, "{version:<28} {role:<9} {:<27} {:<24} {heads}", entry.map_or("", |e| &e.at), text("/training/to"))?;
    }
    Ok(())
}

fn show(registry: &Registry, version: &str) -> anyhow::Result<()> {
    if !registry.versions()?.iter().any(|v| v == version) {
        return Err(unknown(registry, version)?);
    }
    let entries = registry.entries()?;
    let history: Vec<&Entry> = entries.iter().filter(|e| e.version == version).collect();
    let shown = serde_json::json!({
        "version": version,
        "location": registry.path(version),
        "history": history,
        "manifest": read_manifest(registry, version)?,
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
    Ok(())
}

fn read_manifest(registry: &Registry, version: &str) -> anyhow::Result<serde_json::Value> {
    let path = registry.path(version).join("manifest.json");
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is no manifest", path.display()))
}

fn unknown(registry: &Registry, version: &str) -> anyhow::Result<anyhow::Error> {
    let known = registry.versions()?.join(", ");
    Ok(usage(format!("the registry {} has no version {version:?}; it has {known}", registry.dir().display())))
}

fn promote(config: &Config, registry: &Registry, args: &PromoteArgs) -> anyhow::Result<()> {
    if !(0.0..1.0).contains(&args.margin) {
        return Err(usage(format!("--margin {}: it should be from 0 to below 1, such as 0.01", args.margin)));
    }
    if args.force.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        return Err(usage("--force wants a reason, which goes to the journal"));
    }
    if args.interactions.iter().chain(&args.labels).any(|p| p.as_os_str() == "-") {
        return Err(usage("--interactions -: the judgement reads its input more than once, name a file"));
    }
    let inputs = args.interactions.iter().map(|p| ("--interactions", p.as_path()));
    check_files(&inputs.chain(args.labels.iter().map(|p| ("--labels", p.as_path()))).collect::<Vec<_>>(), &[])?;
    let lock = registry.lock()?;
    let challenger = super::load_model(&args.bundle)?;
    let champion = champion(config, registry, &lock)?;
    if let Some(champion) = champion.as_ref().filter(|c| c.version == challenger.version) {
        let entries = registry.entries()?;
        if let Some(entry) = standing(&entries).champion {
            tell(config, registry, Role::Champion, &entry)?;
        }
        eprintln!("{} serves already; it was announced again", champion.version);
        return finish(&champion.version.to_string());
    }
    let mut judged = None;
    let refusal = match &champion {
        None => {
            eprintln!("nothing serves yet, so there is nothing to compare {} with: it was not judged", challenger.version);
            None
        }
        Some(champion) => {
            let (comparison, refusal) = judge(config, champion, &challenger, args)?;
            judged = comparison;
            refusal
        }
    };
    if let Some(comparison) = &judged {
        print(comparison);
    }
    match (&refusal, &args.force) {
        (Some(why), None) => bail!("{} is refused, and what serves stays: {why}", challenger.version),
        (Some(why), Some(reason)) => eprintln!("forced ({reason}) although {why}"),
        (None, _) => {}
    }
    // A reason that nothing called for is no part of history.
    let forced = refusal.as_ref().and(args.force.clone());
    let judged = judged.map(|c| serde_json::json!({ "comparison": c, "refusal": refusal }));
    let judged = judged.or_else(|| refusal.as_ref().map(|why| serde_json::json!({ "refusal": why })));
    let model = registry.add(&args.bundle, &lock)?;
    let entry = registry.decide(Action::Promoted, &model, Reasons { forced, judged }, &lock)?;
    tell(config, registry, Role::Champion, &entry)?;
    finish(&entry.version)
}

/// What serves now. Before the first promotion that is `model.dir`, which is then taken into the registry, so that a rollback can come back to it.
fn champion(config: &Config, registry: &Registry, lock: &Lock) -> anyhow::Result<Option<Arc<Model>>> {
    if let Some(entry) = standing(&registry.entries()?).champion {
        let dir = registry.path(&entry.version);
        return Ok(Some(
            Model::load(dir).context("what serves cannot be loaded; `rapport models rollback VERSION` makes another one serve")?,
        ));
    }
    if !config.model.dir.join("manifest.json").is_file() {
        return Ok(None);
    }
    let model = registry.add(&config.model.dir, lock).context("model.dir")?;
    registry.decide(Action::Adopted, &model, Reasons::default(), lock)?;
    Ok(Some(model))
}

/// The comparison, where one is possible, and why the challenger is refused, if it is.
fn judge(
    config: &Config,
    champion: &Arc<Model>,
    challenger: &Arc<Model>,
    args: &PromoteArgs,
) -> anyhow::Result<(Option<Comparison>, Option<String>)> {
    let theirs = heads(&challenger.manifest);
    let lacking: Vec<String> = heads(&champion.manifest).into_iter().filter(|h| !theirs.contains(h)).collect();
    let mut why = Vec::new();
    if !lacking.is_empty() {
        why.push(format!("it lacks {}, which {} has", lacking.join(", "), champion.version));
    }
    if args.interactions.is_empty() {
        if args.force.is_none() {
            return Err(usage(
                "--interactions is missing: name interactions that neither model was trained on, to judge by (or --force REASON, or --shadow)",
            ));
        }
        why.push("nothing was given to judge by".into());
        return Ok((None, Some(why.join("; "))));
    }
    let bar = progress_bar("scoring with both");
    let models = [champion, challenger];
    let given = Given {
        interactions: &args.interactions,
        labels: &args.labels,
        since: since(args.since.as_deref(), models)?,
        margin: args.margin,
        max_interactions: args.max_interactions,
    };
    let comparison = compare(models, config.engine(), &given, |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    for model in models {
        let training = &model.manifest.training;
        if overlaps(&comparison, &training.from, &training.to) {
            why.push(format!(
                "the given interactions ({} to {}) overlap in time what {} was trained on ({} to {})",
                comparison.from, comparison.to, model.version, training.from, training.to
            ));
        }
    }
    if comparison.judged.is_empty() {
        let heads = if comparison.not_judged.is_empty() { String::new() } else { format!(" ({})", unjudged(&comparison)) };
        why.push(format!("there is nothing to judge: no label belongs to a head of both{heads}"));
    }
    for j in comparison.judged.iter().filter(|j| j.worse) {
        why.push(format!(
            "{} is worse by more than {}: {} {:.4} instead of {:.4} on {} labels (95 % interval of the difference {:+.4} to {:+.4})",
            j.head, comparison.margin, j.measure, j.challenger, j.champion, j.n, j.interval[0], j.interval[1]
        ));
    }
    Ok((Some(comparison), (!why.is_empty()).then(|| why.join("; "))))
}

/// What `--since` says.
fn since(text: Option<&str>, models: [&Arc<Model>; 2]) -> anyhow::Result<Option<Timestamp>> {
    match text {
        None => Ok(None),
        Some("training") => {
            let ends = models.map(|m| Timestamp::parse(&m.manifest.training.to));
            let after = |end: &Result<Timestamp, String>| end.as_ref().map(|t| Timestamp(t.0 + 1)).unwrap_or_default();
            Ok(ends.iter().map(after).max())
        }
        Some(text) => Timestamp::parse(text).map(Some).map_err(|e| usage(format!("--since: {e}, nor is it `training`"))),
    }
}

/// Whether the two spans of time share a moment. A span that cannot be read shares every one.
fn overlaps(given: &Comparison, from: &str, to: &str) -> bool {
    let times = [&given.from, &given.to].into_iter().map(String::as_str).chain([from, to]).map(Timestamp::parse);
    match times.collect::<Result<Vec<_>, _>>().as_deref() {
        Ok([given_from, given_to, from, to]) => given_from <= to && from <= given_to,
        _ => true,
    }
}

fn print(comparison: &Comparison) {
    eprintln!(
        "{:<24} {:<10} {:>8} {:>9} {:>11} {:>22} {:>13}",
        "head", "measure", "n", "champion", "challenger", "95 % of the difference", "beyond margin"
    );
    for j in &comparison.judged {
        let interval = format!("{:+.4} to {:+.4}", j.interval[0], j.interval[1]);
        let (ours, theirs, beyond) = (j.champion, j.challenger, 100.0 * j.share_worse);
        eprintln!("{:<24} {:<10} {:>8} {ours:>9.4} {theirs:>11.4} {interval:>22} {beyond:>11.1} %", j.head, j.measure, j.n);
    }
    if let Some(days) = comparison.horizon_days {
        eprintln!("churn, spend and next_need were judged {days} days ahead");
    }
    if let Some(share) = comparison.sampled {
        eprintln!("judged by {:.1} % of the customers (--max-interactions; 0 takes all)", 100.0 * share);
    }
    if !comparison.not_judged.is_empty() {
        eprintln!("not judged: {}", unjudged(comparison));
    }
}

/// The heads that were not judged, each with the reason.
fn unjudged(comparison: &Comparison) -> String {
    let named = |NotJudged { head, why }: &NotJudged| format!("{head}: {why}");
    comparison.not_judged.iter().map(named).collect::<Vec<_>>().join("; ")
}

fn shadow(config: &Config, registry: &Registry, args: &PromoteArgs) -> anyhow::Result<()> {
    super::load_model(&args.bundle)?;
    let lock = registry.lock()?;
    let model = registry.add(&args.bundle, &lock)?;
    if standing(&registry.entries()?).champion.is_some_and(|c| c.version == model.version.as_str()) {
        return Err(usage(format!("{} serves already; it cannot be its own challenger", model.version)));
    }
    let entry = registry.decide(Action::Shadowed, &model, Reasons::default(), &lock)?;
    tell(config, registry, Role::Shadow, &entry)?;
    finish(&entry.version)
}

fn rollback(config: &Config, registry: &Registry, args: &RollbackArgs) -> anyhow::Result<()> {
    let lock = registry.lock()?;
    let entries = registry.entries()?;
    let now = standing(&entries);
    if args.shadow {
        let Some(shadow) = now.shadow.filter(|s| s.action == Action::Shadowed) else { bail!("nothing scores in shadow") };
        let model = Model::load(registry.path(&shadow.version))?;
        let entry = registry.decide(Action::Unshadowed, &model, Reasons::default(), &lock)?;
        tell(config, registry, Role::Shadow, &entry)?;
        return finish(&entry.version);
    }
    let version = match (&args.version, &now.champion) {
        (Some(version), _) => version.clone(),
        (None, Some(champion)) => match before(&entries, &champion.version) {
            Some(version) => version.to_owned(),
            None => bail!("nothing served before {}; `rapport models list` shows what there is", champion.version),
        },
        (None, None) => bail!("nothing was ever promoted in {}", registry.dir().display()),
    };
    if !registry.versions()?.contains(&version) {
        return Err(unknown(registry, &version)?);
    }
    let model = Model::load(registry.path(&version)).with_context(|| format!("{version} cannot serve, and what serves stays"))?;
    let entry = registry.decide(Action::RolledBack, &model, Reasons::default(), &lock)?;
    tell(config, registry, Role::Champion, &entry)?;
    finish(&entry.version)
}

/// Tells services that do not see the journal.
fn tell(config: &Config, registry: &Registry, role: Role, entry: &Entry) -> anyhow::Result<()> {
    if config.log.kind != LogKind::Kafka {
        return Ok(());
    }
    let value = serde_json::to_vec(&registry.announcement(entry))?;
    announce(&KafkaSettings::from(config), role.name(), &value).with_context(|| {
        let again = match role {
            Role::Champion => format!("`rapport models rollback {}` tells them again", entry.version),
            Role::Shadow => "run the same command again".into(),
        };
        format!("{} is in the journal, and services that do not see the journal were not told; {again}", entry.version)
    })
}

fn finish(version: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{version}")?;
    Ok(())
}
