//! `rapport dead-letters`: what was refused, and putting it back.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use super::client::{Client, PAGE, Service};
use super::{STDOUT, usage, whole};
use crate::config::{Config, LogKind, Overrides};
use crate::interaction::{RejectClass, Timestamp};
use crate::log::embedded::{DEFAULT_PARTITIONS, Embedded};
use crate::log::kafka::{Appended, KafkaGateway, KafkaSettings, Tail};
use crate::log::{Delivered, Gateway as _, Partition, Stream};

/// A topic that gives nothing for so long while there must be more is given up.
const SILENCE: Duration = Duration::from_secs(60);
/// Records read or put back at once; over HTTP, where each may have a megabyte, fewer.
const BATCH: usize = 500;
const POSTED: usize = 32;

/// Lists what was refused, or puts it back.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Prints dead letters, one JSON object a line, oldest first: where the record lay, why it was refused, its key and itself.
    #[command(after_help = "Example:\n  rapport dead-letters list --config rapport.toml --class late --since 2026-11-01T00:00:00Z")]
    List(Choice),
    /// Puts the records back into the input, keys and bytes as they were, and prints those that were put back.
    ///
    /// One that is refused again becomes a new dead letter; one whose id is among the customer's last is dropped as a repeat. What is put back
    /// stays among the dead letters: choose by --class and --since what to put back. A running embedded service refuses at once what is no
    /// interaction; that is told on standard error.
    #[command(after_help = "Example:\n  rapport dead-letters replay --config rapport.toml --class late --dry-run")]
    Replay {
        #[command(flatten)]
        choice: Choice,
        /// Print what would be put back, and put nothing back.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which dead letters, and of which service.
#[derive(Debug, clap::Args)]
struct Choice {
    /// Configuration file of the service: says where its log or its HTTP address is. Without it, rapport.toml if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    service: Service,
    /// Only this class of error; may be repeated.
    #[arg(long = "class", value_name = "CLASS", value_parser = class)]
    classes: Vec<RejectClass>,
    /// Only from this time (RFC 3339) on: by the topic's time stamps, in the embedded log by when it took the record.
    #[arg(long, value_name = "T", value_parser = time)]
    since: Option<Timestamp>,
    /// Only the first N of them.
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..))]
    limit: Option<usize>,
}

fn class(argument: &str) -> Result<RejectClass, String> {
    let names = || RejectClass::ALL.map(RejectClass::name).join(", ");
    RejectClass::ALL.into_iter().find(|c| c.name() == argument).ok_or_else(|| format!("it should be one of {}", names()))
}

fn time(argument: &str) -> Result<Timestamp, String> {
    Timestamp::parse(argument).map_err(|e| e.to_string())
}

/// A dead letter as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: Option<Partition>,
    offset: Option<i64>,
    class: &'a str,
    message: &'a str,
    logged_at: Option<Timestamp>,
    key: Option<std::borrow::Cow<'a, str>>,
    /// As UTF-8, what is none replaced.
    raw: std::borrow::Cow<'a, str>,
    /// The bytes, where they are no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
}

impl<'a> From<&'a Delivered> for Line<'a> {
    fn from(letter: &'a Delivered) -> Self {
        let is_text = std::str::from_utf8(&letter.value).is_ok();
        Self {
            topic: letter.header("rapport.topic"),
            partition: letter.header("rapport.partition").parse().ok(),
            offset: letter.header("rapport.offset").parse().ok(),
            class: letter.header("rapport.error.class"),
            message: letter.header("rapport.error.message"),
            logged_at: letter.logged_at,
            key: letter.key.as_deref().map(String::from_utf8_lossy),
            raw: String::from_utf8_lossy(&letter.value),
            raw_base64: (!is_text).then(|| data_encoding::BASE64.encode(&letter.value)),
        }
    }
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let (choice, put_back) = match args.command {
        Command::List(choice) => (choice, false),
        Command::Replay { choice, dry_run } => (choice, !dry_run),
    };
    let config = Config::load(choice.config.as_deref(), &Overrides::default())?;
    let place = Place::open(&choice, &config)?;
    let mut left = choice.limit.unwrap_or(usize::MAX);
    let mut out = std::io::stdout().lock();
    let mut count = 0;
    place.read(&mut |mut letters| {
        letters.retain(|letter| choice.takes(letter));
        letters.truncate(left);
        left -= letters.len();
        if put_back {
            place.put_back(&mut letters)?;
        }
        count += letters.len();
        for letter in &letters {
            serde_json::to_writer(&mut out, &Line::from(letter))
                .map_err(std::io::Error::from)
                .and_then(|()| out.write_all(b"\n"))
                .context(STDOUT)?;
        }
        out.flush().context(STDOUT)?;
        Ok(left > 0)
    })?;
    eprintln!("{count} dead letters{}", if put_back { " put back" } else { "" });
    Ok(())
}

impl Choice {
    fn takes(&self, letter: &Delivered) -> bool {
        let class = letter.header("rapport.error.class");
        (self.classes.is_empty() || self.classes.iter().any(|c| c.name() == class))
            && self.since.is_none_or(|since| letter.logged_at.is_some_and(|at| at >= since))
    }
}

/// Where dead letters are, and where records go back to.
enum Place {
    /// The embedded log of a service that is stopped.
    Log(Embedded),
    /// The same of one that runs.
    Service(Client),
    Topic(KafkaSettings),
}

/// The embedded log of the configuration; `None` where a running process has it.
pub(super) fn stopped_log(config: &Config) -> anyhow::Result<Option<Embedded>> {
    let dir = &config.log.dir;
    if !dir.is_dir() {
        return Err(usage(format!(
            "there is no embedded log in {}: name the service's configuration by --config, or its --url",
            dir.display()
        )));
    }
    Ok(Embedded::open_unless_in_use(dir, DEFAULT_PARTITIONS)?)
}

impl Place {
    fn open(choice: &Choice, config: &Config) -> anyhow::Result<Self> {
        match (&choice.service.url, config.log.kind) {
            (None, LogKind::Kafka) => {
                let settings = KafkaSettings::from(config);
                settings.validate().map_err(usage)?;
                Ok(Self::Topic(settings))
            }
            (None, LogKind::Embedded) => match stopped_log(config)? {
                Some(log) => Ok(Self::Log(log)),
                None => Ok(Self::Service(Client::new(&choice.service, config)?)),
            },
            (Some(_), _) => Ok(Self::Service(Client::new(&choice.service, config)?)),
        }
    }

    /// Calls `each` with what is there now, some at a time, until it returns false. What `each` adds is not read.
    fn read(&self, each: &mut dyn FnMut(Vec<Delivered>) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        match self {
            Self::Log(log) => {
                let (mut next, end) = (0, log.end(Stream::DeadLetters)?);
                while next < end {
                    let letters = log.read(Stream::DeadLetters, next, BATCH)?;
                    next += BATCH as i64;
                    if !each(letters)? {
                        break;
                    }
                }
                Ok(())
            }
            Self::Service(client) => {
                let mut all = Vec::new();
                let mut next = 0;
                loop {
                    let page = client.page(Stream::DeadLetters, &format!("from={next}"))?;
                    next = page.next;
                    let before = all.len();
                    for line in page.lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                        all.push(letter(line).context("the service shows a dead letter that this version cannot read")?);
                    }
                    if all.len() - before < PAGE {
                        break;
                    }
                }
                in_parts(all, POSTED, each)
            }
            Self::Topic(settings) => {
                let mut tail = Tail::open(settings, Stream::DeadLetters, true)?;
                let (mut all, mut heard) = (Vec::new(), Instant::now());
                // All of it first: what is put back may come again, and must not be read again.
                while !tail.at_end() {
                    match tail.next(Duration::from_secs(1))? {
                        Some(letter) => {
                            all.push(letter);
                            heard = Instant::now();
                        }
                        None => anyhow::ensure!(tail.at_end() || heard.elapsed() < SILENCE, "the brokers send nothing more; try again"),
                    }
                }
                all.sort_by_key(|letter| letter.logged_at);
                in_parts(all, BATCH, each)
            }
        }
    }

    /// Appends the records to the input and returns once that is durable; `letters` are then those that were appended.
    fn put_back(&self, letters: &mut Vec<Delivered>) -> anyhow::Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        match self {
            Self::Log(log) => Ok(log.append_raw(letters.iter().map(|l| (l.key.clone(), l.value.clone())).collect())?),
            Self::Topic(settings) => {
                let records = letters.iter().map(|l| Appended {
                    // Where it lay: where the customer's state is, however the producer chose.
                    partition: l.header("rapport.partition").parse().ok(),
                    key: l.key.as_deref(),
                    value: &l.value,
                });
                let appended = KafkaGateway::open(settings)?.append_raw(records);
                appended.context("of the dead letters after the last one printed, some may have been put back")
            }
            Self::Service(client) => {
                let mut body = Vec::new();
                for letter in &*letters {
                    // A line break between two members of JSON is a blank as good as another.
                    body.extend(letter.value.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }));
                    body.push(b'\n');
                }
                let path = "/v1/interactions";
                let answer = client.ask("POST", path, &body)?;
                anyhow::ensure!(answer.code == 202, client.refusal(path, &answer));
                let answer: Value = serde_json::from_slice(&answer.body).context("the service's answer is no JSON")?;
                let mut refused = vec![false; letters.len()];
                for error in answer["errors"].as_array().into_iter().flatten() {
                    let line = error["line"].as_u64().and_then(|n| usize::try_from(n).ok()?.checked_sub(1)).filter(|n| *n < refused.len());
                    let Some(line) = line else { continue };
                    refused[line] = true;
                    let (class, message) = (error["class"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default());
                    eprintln!("not put back: offset {}: {class}: {message}", letters[line].offset);
                }
                let mut refused = refused.into_iter();
                letters.retain(|_| !refused.next().unwrap_or(false));
                Ok(())
            }
        }
    }
}

fn in_parts(all: Vec<Delivered>, size: usize, each: &mut dyn FnMut(Vec<Delivered>) -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let mut all = all.into_iter();
    loop {
        let part: Vec<Delivered> = all.by_ref().take(size).collect();
        if part.is_empty() || !each(part)? {
            return Ok(());
        }
    }
}

/// A dead letter as the service shows it.
fn letter(line: &[u8]) -> Option<Delivered> {
    let shown: Value = serde_json::from_slice(line).ok()?;
    let headers = shown["headers"].as_object()?.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    Some(Delivered {
        partition: shown["partition"].as_i64()?.try_into().ok()?,
        offset: shown["offset"].as_i64()?,
        key: shown["key"].as_str().map(|key| key.as_bytes().to_vec()),
        value: shown["raw"].as_str()?.as_bytes().to_vec(),
        headers: headers.collect::<Option<_>>()?,
        logged_at: shown["logged_at"].as_str().and_then(|at| Timestamp::parse(at).ok()),
    })
}
