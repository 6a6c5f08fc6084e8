//! `rapport tail`: follows an output of a running service.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::client::{Away, Client, PAGE, Service};
use crate::cli::usage;
use crate::config::{Config, LogKind, Overrides};
use crate::http::shown;
use crate::log::Stream;
use crate::log::kafka::{KafkaSettings, Tail};

/// Pause between looks for new records.
const LOOK: Duration = Duration::from_millis(250);
/// With Kafka, no record for this long is the end.
const END: Duration = Duration::from_secs(3);

/// Follows scores, alerts, dead letters or a challenger's scores, one JSON record a line.
///
/// With log.kind = "kafka" reads the topic, committed records only; otherwise asks the service over HTTP.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rapport tail alerts
  rapport tail scores --from 0 --no-follow > scores.jsonl
  rapport tail dead-letters --config rapport.toml")]
pub struct Args {
    /// What to follow.
    stream: Output,
    /// Configuration file of the service: says where its log or its HTTP address is. Without it, rapport.toml if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    service: Service,
    /// Offset to begin at (with Kafka only 0, the oldest record of each partition). Without it: the last ten records, with Kafka only new ones.
    #[arg(long, value_name = "OFFSET", value_parser = super::whole::<i64>(..))]
    from: Option<i64>,
    /// Stop at the end instead of waiting for more.
    #[arg(long)]
    no_follow: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Scores,
    Alerts,
    DeadLetters,
    /// Scores of a challenger in shadow.
    ScoresShadow,
}

impl From<Output> for Stream {
    fn from(output: Output) -> Self {
        match output {
            Output::Scores => Self::Scores,
            Output::Alerts => Self::Alerts,
            Output::DeadLetters => Self::DeadLetters,
            Output::ScoresShadow => Self::ScoresShadow,
        }
    }
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref(), &Overrides::default())?;
    match (&args.service.url, config.log.kind) {
        (None, LogKind::Kafka) => topic(&args, &config),
        _ => service(&args, &config),
    }
}

/// Follows a topic.
fn topic(args: &Args, config: &Config) -> anyhow::Result<()> {
    if let Some(from) = args.from.filter(|from| *from > 0) {
        return Err(usage(format!("--from {from}: a topic has an offset per partition, so with Kafka only --from 0 is possible")));
    }
    let settings = KafkaSettings::from(config);
    settings.validate().map_err(usage)?;
    let stream = args.stream.into();
    let mut tail = Tail::open(&settings, stream, args.from.is_some())?;
    let mut out = std::io::stdout().lock();
    loop {
        match tail.next(if args.no_follow { END } else { LOOK })? {
            Some(record) => {
                out.write_all(&shown(stream, &record))?;
                out.write_all(b"\n")?;
            }
            None if args.no_follow => return Ok(out.flush()?),
            None => out.flush()?,
        }
    }
}

/// Follows a service over HTTP.
fn service(args: &Args, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&args.service, config)?;
    let mut position = args.from.map_or_else(|| "last=10".to_owned(), |from| format!("from={from}"));
    let mut out = std::io::stdout().lock();
    let mut reached = false;
    loop {
        match client.page(args.stream.into(), &position) {
            Ok(page) => {
                reached = true;
                out.write_all(&page.lines)?;
                out.flush()?;
                position = format!("from={}", page.next);
                // A full page means that more is there already.
                if page.lines.iter().filter(|b| **b == b'\n').count() < PAGE {
                    if args.no_follow {
                        return Ok(());
                    }
                    std::thread::sleep(LOOK);
                }
            }
            // Once it has answered, a service that goes away is waited for: it may be starting again.
            Err(e) if reached && !args.no_follow && e.is::<Away>() => {
                eprintln!("rapport: {e:#}; trying again");
                std::thread::sleep(8 * LOOK);
            }
            Err(e) => return Err(e),
        }
    }
}
