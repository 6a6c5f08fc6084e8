//! `rapport serve`: the service until SIGTERM or SIGINT.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::service::Service;
use super::whole;
use crate::config::{Config, Overrides};

/// A stop that takes longer than this is cut off; what was not committed is read again at the next start.
const STOP: Duration = Duration::from_secs(30);

/// A signal this soon after the first is the same one.
const REPEAT: Duration = Duration::from_secs(1);

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
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..=1024))]
    threads: Option<usize>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let overrides = Overrides { model: args.model, bind: args.bind, threads: args.threads };
    let config = Config::load(args.config.as_deref(), &overrides)?;
    // Before anything starts, so that a signal during the start is not lost.
    let signals = watch_signals().context("cannot watch signals")?;
    let service = Service::start(&config, &|| signals.try_recv().is_ok())?;
    loop {
        match signals.recv_timeout(Duration::from_millis(100)) {
            Ok(name) => tracing::info!("{name}: finishing the batch at hand"),
            Err(RecvTimeoutError::Timeout) if !service.failed() => continue,
            Err(_) => tracing::error!("a worker ended; stopping"),
        }
        break;
    }
    std::thread::spawn(|| {
        std::thread::sleep(STOP);
        eprintln!("rapport: the stop took over {} s: ending at once", STOP.as_secs());
        std::process::exit(1);
    });
    service.stop()?;
    tracing::info!("stopped");
    Ok(())
}

/// Set at the first SIGINT or SIGTERM; a second one ends the process at once.
pub(super) fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let signal = watch_signals().context("cannot watch signals")?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    std::thread::spawn(move || {
        if signal.recv().is_ok() {
            stopped.store(true, Ordering::Relaxed);
        }
    });
    Ok(stop)
}

/// Sends the name of the first SIGTERM or SIGINT; the second ends the process.
pub(super) fn watch_signals() -> std::io::Result<Receiver<&'static str>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    drop(inside);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut next = || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                }
            })
        };
        // Nobody receives any more only where the process ends already.
        let _ = sender.send(next());
        let first = Instant::now();
        loop {
            let name = next();
            // Supervisors and shells may signal both a process and its group: that is one wish.
            if first.elapsed() > REPEAT {
                eprintln!("rapport: {name} again: ending at once");
                std::process::exit(1);
            }
        }
    })?;
    Ok(receiver)
}
