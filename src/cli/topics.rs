//! `rapport topics`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::usage;
use crate::config::{Config, Overrides};
use crate::log::kafka::{KafkaSettings, TopicPlan, create_topics};

/// Creates the Kafka topics.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(CreateArgs),
}

/// Creates the topics that are missing and says which exist.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rapport topics create --brokers localhost:9092 --partitions 12 --replication-factor 3")]
struct CreateArgs {
    /// Configuration file with [log] brokers, prefix and [log.kafka] (default: rapport.toml, if there is one)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Brokers as host:port, separated by commas; instead of log.brokers
    #[arg(long, value_name = "LIST")]
    brokers: Option<String>,
    /// First part of every topic name; instead of log.prefix
    #[arg(long)]
    prefix: Option<String>,
    /// Partitions of interactions, state and every output: how many workers can share the work. Cannot be changed later
    #[arg(long, default_value_t = 12, value_name = "N", value_parser = super::whole::<i32>(1..=10_000))]
    partitions: i32,
    /// Copies of every record (default: the brokers' default)
    #[arg(long, value_name = "N", value_parser = super::whole::<i32>(1..=100))]
    replication_factor: Option<i32>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let Command::Create(args) = args.command;
    let mut settings = cluster(args.config.as_deref(), args.brokers.as_deref())?;
    if let Some(prefix) = args.prefix {
        settings.prefix = prefix;
    }
    settings.validate().map_err(usage)?;
    let plan = TopicPlan { partitions: args.partitions, replication_factor: args.replication_factor.unwrap_or(-1) };
    let findings = create_topics(&settings, plan)?;
    let wrong = findings.iter().filter(|f| !f.good).count();
    for finding in &findings {
        match finding.good {
            true => super::say(&finding.line)?,
            false => eprintln!("{}", finding.line),
        }
    }
    match wrong {
        0 => Ok(()),
        n => Err(anyhow::anyhow!("{n} topics are not as they must be; nothing that exists was changed")),
    }
}

/// The cluster of a configuration file (by default rapport.toml, if there is one), or of `brokers` alone.
///
/// # Errors
/// A usage error where neither names brokers, or the file is wrong.
pub(super) fn cluster(file: Option<&Path>, brokers: Option<&str>) -> anyhow::Result<KafkaSettings> {
    // Without a file there may be no log.brokers, or an embedded log: the flag alone is enough.
    let mut settings = match (file, brokers) {
        (None, Some(brokers)) if !Path::new(crate::config::DEFAULT_FILE).exists() => KafkaSettings {
            brokers: brokers.to_owned(),
            group: "rapport".into(),
            prefix: "rapport".into(),
            instance: "topics".into(),
            properties: BTreeMap::new(),
        },
        (file, _) => KafkaSettings::from(&Config::load(file, &Overrides::default())?),
    };
    if let Some(brokers) = brokers {
        settings.brokers = brokers.to_owned();
    }
    if settings.brokers.is_empty() {
        return Err(usage("no brokers: give --brokers host:port, or a configuration file with log.brokers"));
    }
    settings.validate().map_err(usage)?;
    Ok(settings)
}
