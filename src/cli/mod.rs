//! Arguments, logging and dispatch; one file per command.

use std::io::{IsTerminal as _, Write as _};
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

mod archive;
mod bench;
mod check;
mod client;
mod dead_letters;
mod demo;
mod erase;
mod evaluate;
mod forecast;
mod import;
#[cfg(feature = "train")]
mod imported;
mod models;
mod output;
mod score;
mod serve;
pub mod service;
mod simulate;
mod tail;
mod topics;
mod train;
mod watch;

use clap::{Parser, Subcommand};

use crate::alert::Policies;
use crate::config::{Config, Overrides};
use crate::engine::EngineConfig;
use crate::http::BindError;
use crate::model::{BundleError, Model};

/// Tells a company, while it still matters, which customer is becoming unhappy and why.
#[derive(Debug, Parser)]
#[command(name = "rapport", version, propagate_version = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
    Score(score::Args),
    Import(import::Args),
    Train(train::Args),
    Evaluate(evaluate::Args),
    Models(models::Args),
    Topics(topics::Args),
    Check(check::Args),
    Bench(bench::Args),
    Tail(tail::Args),
    DeadLetters(dead_letters::Args),
    Erase(erase::Args),
    Archive(archive::Args),
    Simulate(simulate::Args),
}

/// Wrong usage or configuration: exit code 2 instead of 1. Wrap with `.context(...)` as usual; the code survives.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Shorthand for an [`UsageError`] as `anyhow::Error`.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("RAPPORT_LOG").unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()))
        .init();
    // A closed pipe (`rapport … | head`) is an ordinary end of output, not a failure.
    let result = match Args::parse().command {
        Command::Demo(a) => demo::run(a),
        Command::Serve(a) => serve::run(a),
        Command::Score(a) => score::run(a),
        Command::Import(a) => import::run(a),
        Command::Train(a) => train::run(a),
        Command::Evaluate(a) => evaluate::run(a),
        Command::Models(a) => models::run(a),
        Command::Topics(a) => topics::run(a),
        Command::Check(a) => check::run(a),
        Command::Bench(a) => bench::run(a),
        Command::Tail(a) => tail::run(a),
        Command::DeadLetters(a) => dead_letters::run(a),
        Command::Erase(a) => erase::run(a),
        Command::Archive(a) => archive::run(a),
        Command::Simulate(a) => simulate::run(a),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("rapport: {e:#}");
            if e.downcast_ref::<UsageError>().is_some() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Loads a bundle; one that is not there is wrong usage, one that is damaged a failure.
fn load_model(dir: &Path) -> anyhow::Result<Arc<Model>> {
    Model::load(dir).map_err(|e| match e {
        BundleError::Missing(_) => usage(e.to_string()),
        e => anyhow::Error::new(e).context(format!("the model bundle {} is refused", dir.display())),
    })
}

/// Policies and engine settings of a configuration file (and the environment). Without one the defaults, whatever lies in the working
/// directory: the same command gives the same scores everywhere.
fn engine_settings(config: Option<&Path>) -> anyhow::Result<(Arc<Policies>, EngineConfig)> {
    let Some(path) = config else { return Ok((Arc::new(Policies::standard()), EngineConfig::default())) };
    let config = Config::load(Some(path), &Overrides::default())?;
    Ok((config.alerts.clone(), config.engine()))
}

/// An address that cannot be served: wrong configuration, or a failure.
fn bind_error(error: BindError) -> anyhow::Error {
    match error {
        BindError::Config(message) => usage(message),
        error => error.into(),
    }
}

/// Whether something can be made in a folder: a folder is, and taken away.
pub fn probe(folder: &Path) -> std::io::Result<()> {
    let made = folder.join(format!(".{}.probe", std::process::id()));
    match std::fs::create_dir(&made) {
        // Of another process of this number, in another container, or of one that was killed here.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        done => done.and_then(|()| std::fs::remove_dir(&made)),
    }
}

/// Whether so many late interactions among those read say that a file is not in time order.
pub fn is_unsorted(late: usize, read: usize) -> bool {
    late * 100 > read
}

/// What to do about it.
pub const UNSORTED: &str = "the input is not in time order; sort it by occurred_at first (only `rapport score` has --sort)";

/// What failed, where standard output takes nothing.
const STDOUT: &str = "cannot write standard output";

/// Reads a flag's whole number within `range`; what is none is answered with what would be right.
fn whole<T: TryFrom<u64>>(
    range: impl RangeBounds<u64> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |argument: &str| {
        let number = argument.parse::<u64>().ok().filter(|n| range.contains(n));
        number.and_then(|n| T::try_from(n).ok()).ok_or_else(|| {
            let from = match range.start_bound() {
                Bound::Included(n) => *n,
                Bound::Excluded(n) => n + 1,
                Bound::Unbounded => 0,
            };
            match range.end_bound() {
                Bound::Included(n) => format!("it should be a whole number from {from} to {n}"),
                Bound::Excluded(n) => format!("it should be a whole number from {from} to {}", n - 1),
                Bound::Unbounded => format!("it should be a whole number from {from} on"),
            }
        })
    }
}

/// Reads a flag's number, 0 or above.
fn number(argument: &str) -> Result<f64, String> {
    let number = argument.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0);
    number.ok_or_else(|| "it should be a number of 0 or above, such as 0.01".into())
}

/// One line to standard output. A reader that has gone (`rapport … | head`) is an ordinary end, see [`main`].
fn say(line: impl std::fmt::Display) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}

/// A progress bar on standard error; hidden where that is no terminal.
fn progress_bar(message: &'static str) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(0).with_message(message);
    as_bar(&bar);
    bar
}

/// The same for work whose end is not known: what it does and for how long.
fn spinner(message: &'static str) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(0).with_message(message);
    as_spinner(&bar);
    bar
}

fn as_bar(bar: &indicatif::ProgressBar) {
    bar.disable_steady_tick();
    if let Ok(style) = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}") {
        bar.set_style(style);
    }
}

fn as_spinner(bar: &indicatif::ProgressBar) {
    if let Ok(style) = indicatif::ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
}
