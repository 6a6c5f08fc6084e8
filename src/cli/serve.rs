//! `rapport serve`: the service until SIGTERM or SIGINT.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::service::Service;
use crate::config::{Config, Overrides};

/// A stop that takes longer than this is cut off; what was not committed is read again at the next start.
const STOP: Duration = Duration::from_secs(30);

/// Runs the service: interactions in from the log, scores and alerts out, once each.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  rapport serve --config rapport.toml
  rapport serve --model onnx/champion --bind 127.0.0.1:8080

Without --config, rapport.toml is read if there is one; without that, an embedded log in ./rapport-data/log serves.
RAPPORT_<SECTION>_<KEY> variables win over the file (RAPPORT_LOG_BROKERS, RAPPORT_MODEL_DIR, ...), flags over both.
RAPPORT_LOG sets what is logged to stderr (warn, info, debug).
SIGTERM and SIGINT finish the batch at hand and end; a second one ends at once.")]
pub struct Args {
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Model bundle; wins over [model] dir.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Address and port of HTTP; wins over [http] bind.
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
    /// Worker threads; wins over [worker] threads.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let overrides = Overrides { model: args.model, bind: args.bind, threads: args.threads };
    let config = Config::load(args.config.as_deref(), &overrides)?;
    // Before anything starts, so that a signal during the start is not lost.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot watch signals")?;
    let mut signals = runtime.block_on(Signals::watch()).context("cannot watch signals")?;

    let service = Service::start(&config)?;
    runtime.block_on(async {
        let failed = async {
            while !service.failed() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            name = signals.next() => tracing::info!("{name}: finishing the batch at hand"),
            () = failed => tracing::error!("a worker ended; stopping"),
        }
    });
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                name = signals.next() => eprintln!("rapport: {name} again: ending at once"),
                () = tokio::time::sleep(STOP) => eprintln!("rapport: the stop took over {} s: ending at once", STOP.as_secs()),
            }
        });
        std::process::exit(1);
    });
    service.stop()?;
    tracing::info!("stopped");
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn watch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
