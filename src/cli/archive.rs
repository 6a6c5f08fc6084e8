//! `rapport archive`: the archive as a process of its own, for Kafka.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::Context;

use super::serve::watch_signals;
use super::usage;
use crate::archive::{self, Mode};
use crate::config::{Config, LogKind, Overrides};
use crate::http;
use crate::log::kafka::{KafkaPairs, KafkaSettings};
use crate::log::{LogError, Pairs, Partition, Position};
use crate::metrics::{self, ArchiveFault};
use crate::worker::Stop;

/// Writes accepted interactions and their scores from Kafka to Parquet files, in a directory or S3.
///
/// It goes on behind what is in the archive already, after kill -9 too: every row once, none left out. One process for one archive; `rapport
/// serve` with [archive] url set does the same beside its workers, and for the embedded log only it can.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  rapport archive --config rapport.toml          # until SIGTERM
  rapport archive --config rapport.toml --once   # up to the present end
  rapport archive --config rapport.toml --bind 127.0.0.1:8081   # and tell Prometheus how it stands

With, in rapport.toml (RAPPORT_ARCHIVE_URL etc. win over it):
  [archive]
  url = \"s3://bucket/prefix\"     # or a directory; S3 takes AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT, ... of the environment
  roll_bytes = 134217728         # rows as JSON in one file
  roll_seconds = 600             # that rows wait at most")]
pub struct Args {
    /// Configuration file with [log] and [archive] (default: rapport.toml, if there is one).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Archive up to the present end of the topics, then exit 0; the first failure exits 1.
    #[arg(long)]
    once: bool,
    /// Serve /metrics and /healthz at this address and port, with certificate and token of [http]; not served otherwise.
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref(), &Overrides { bind: args.bind.clone(), ..Overrides::default() })?;
    let Some(archive) = &config.archive else {
        return Err(usage(
            "archive.url (RAPPORT_ARCHIVE_URL) is not set: say where the archive goes, a directory or \"s3://bucket/prefix\"",
        ));
    };
    if config.log.kind != LogKind::Kafka {
        return Err(usage(
            "log.kind = \"embedded\": that log belongs to the process of `rapport serve`, which archives it where archive.url is set; \
             `rapport archive` is for log.kind = \"kafka\"",
        ));
    }
    let settings = KafkaSettings::from(&config);
    settings.validate().map_err(usage)?;
    let signals = watch_signals().context("cannot watch signals")?;
    let stop = Stop::default();
    let _served = args.bind.is_some().then(|| serve_metrics(&config)).transpose()?;
    tracing::info!("archiving {}.* of {} to {}", settings.prefix, settings.brokers, archive.location);
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let mode = if args.once { Mode::Once } else { Mode::Process };
            archive::run(archive, mode, &stop, |positions| kafka(&settings, positions))
        });
        while !work.is_finished() {
            match signals.recv_timeout(Duration::from_millis(100)) {
                Ok(name) => {
                    tracing::info!("{name}: publishing what is there");
                    stop.request();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        work.join().map_err(|_| anyhow::anyhow!("archiving panicked, which is a defect; start again: nothing is lost"))?.context("archive")
    })
}

/// Tells how the archive stands, until dropped.
fn serve_metrics(config: &Config) -> anyhow::Result<http::Running> {
    let server = http::Server::bind(&config.http).map_err(super::bind_error)?;
    let url = server.url();
    let running = server.start_metrics().context("cannot start the HTTP server")?;
    // There are no workers that would not be.
    metrics::ready(true);
    tracing::info!("metrics are at {url}/metrics");
    Ok(running)
}

/// Scores and interactions of the topics from `positions` on.
pub(super) fn kafka(settings: &KafkaSettings, positions: &BTreeMap<Partition, Position>) -> Result<Box<dyn Pairs>, LogError> {
    let pairs = KafkaPairs::open(settings, positions)?;
    metrics::archive_faults(ArchiveFault::Lost, pairs.lost());
    Ok(Box::new(pairs))
}
