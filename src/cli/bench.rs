//! `rapport bench`: how fast this machine scores, and what a swap of the model does to it.
//!
//! The parts of `serve` without HTTP, on an embedded log or on Kafka topics of its own: real appends, real commits, durable as always.

mod feed;
mod target;
mod timed;
mod workers;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;

use super::demo::find_model;
use super::output::{check_files, put};
use super::serve::stop_on_signal;
use super::topics::cluster;
use super::{load_model, usage, whole};
use crate::interaction::Timestamp;
use crate::model::Model;
use crate::worker::Serving;
use feed::Feed;
use target::Target;
use workers::{Part, Workers};

/// Measures throughput, and event-to-commit latency with and without a swap of the model.
///
/// Synthetic customers' interactions go through a log and the engine, as in `serve`: first as fast as they are scored, then at a steady rate, then
/// at that rate with a swap in the middle, after which the hidden vector of every customer that comes is rebuilt. The log is embedded, or with
/// --brokers or --config that of a Kafka cluster, in topics that are made for it and deleted at the end. Latency counts from the moment at which an
/// interaction was due, so that what waits because the log is slow has waited.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  rapport bench\n  rapport bench --customers 20000 --seconds 30 --rate 500 --json bench.json\n  \
    rapport bench --brokers localhost:9092 --partitions 4 --json -")]
pub struct Args {
    /// Model bundle [default: the bundled one].
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Bundle to swap to [default: a copy of the first under another version].
    #[arg(long, value_name = "DIR")]
    swap_to: Option<PathBuf>,
    /// Brokers as host:port, separated by commas; instead of log.brokers of the configuration, whose [log.kafka] counts all the same.
    #[arg(long, value_name = "LIST")]
    brokers: Option<String>,
    /// Configuration file whose [log] brokers and [log.kafka] are used.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Partitions of Kafka's topics [default: 12].
    #[arg(long, value_name = "N", value_parser = whole::<i32>(1..=10_000))]
    partitions: Option<i32>,
    /// Customers.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = whole::<u32>(1..=10_000_000))]
    customers: u32,
    /// Interactions of the first part; by default so many that the window of a customer is full.
    #[arg(long, value_name = "N", default_value_t = 80_000, value_parser = whole::<u64>(1..=100_000_000))]
    interactions: u64,
    /// Interactions a second in the other parts [default: a tenth of what the first part reached].
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1..=1_000_000))]
    rate: Option<u64>,
    /// Length of each of the other parts, in seconds.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = whole::<u64>(1..=3600))]
    seconds: u64,
    /// Worker threads [default: as many as there are processors].
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1..=1024))]
    threads: Option<u64>,
    /// Most customers of one commit whose hidden vector is rebuilt.
    #[arg(long, value_name = "N", default_value_t = crate::worker::REBUILDS_PER_COMMIT as u64, value_parser = whole::<u64>(1..=100_000))]
    rebuilds_per_commit: u64,
    /// Where to write the figures as JSON; `-` is standard output, in place of the table.
    #[arg(long, value_name = "F")]
    json: Option<PathBuf>,
}

/// What `--json` writes. Times in milliseconds, from when an interaction was due to its score being visible.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    /// `embedded`, or `kafka` with its brokers.
    log: String,
    partitions: usize,
    model: String,
    swapped_to: String,
    customers: u32,
    rebuilds_per_commit: u64,
    throughput: Throughput,
    /// Interactions a second of the two parts that follow.
    rate: u64,
    steady: Part,
    swap: Part,
    load_seconds: f64,
    /// p99.9 with a swap − p99.9 without.
    p999_difference: f64,
}

#[derive(Debug, Serialize)]
struct Machine {
    cpu: String,
    processors: usize,
    worker_threads: usize,
    /// Processor time of this process over the whole run.
    cpu_seconds: f64,
    wall_seconds: f64,
    build: &'static str,
}

#[derive(Debug, Serialize)]
struct Throughput {
    interactions: u64,
    seconds: f64,
    events_per_second: f64,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let started = Instant::now();
    check_files(&[], &args.json.iter().map(|p| ("--json", p.as_path())).collect::<Vec<_>>())?;
    let dir = find_model(args.model.clone())?;
    let model = load_model(&dir)?;
    let scratch = Scratch::new()?;
    let other = match &args.swap_to {
        Some(other) => other.clone(),
        None => renamed(&model, &scratch.0.join("other"))?,
    };
    let swapped_to = load_model(&other)?.version.to_string();
    if swapped_to == model.version.as_str() {
        return Err(usage(format!("--swap-to {} is the same version, {swapped_to}: there would be no swap", other.display())));
    }
    let interrupted = stop_on_signal()?;
    let target = match (&args.brokers, &args.config) {
        (None, None) if args.partitions.is_some() => return Err(usage("--partitions is for topics of Kafka: give --brokers or --config")),
        (None, None) => Target::embedded(&scratch.0.join("log"))?,
        (brokers, file) => Target::kafka(cluster(file.as_deref(), brokers.as_deref())?, args.partitions.unwrap_or(12))?,
    };
    let (log, partitions) = (target.gateway()?, target.partitions());
    let threads = args.threads.map_or_else(processors, |n| n as usize).min(partitions);
    let workers = Workers::start(target.workers(threads)?, partitions, &model, args.rebuilds_per_commit as usize, interrupted)?;
    let mut feed = Feed::new(args.customers);

    let seconds = workers.backlog(&*log, &mut feed, args.interactions as usize)?;
    let throughput =
        Throughput { interactions: args.interactions, seconds, events_per_second: args.interactions as f64 / seconds.max(1e-9) };
    let rate = args.rate.unwrap_or((throughput.events_per_second / 10.0).max(1.0) as u64);
    let steady = workers.steadily(&*log, &mut feed, rate, args.seconds, || Ok(()))?;

    let mut load_seconds = 0.0;
    let swap = workers.steadily(&*log, &mut feed, rate, args.seconds, || {
        // Loaded by a thread that is no worker, as in `serve`.
        let begun = Instant::now();
        let champion = load_model(&other)?;
        load_seconds = begun.elapsed().as_secs_f64();
        workers.models.put(Serving { champion, shadow: None });
        Ok(())
    })?;
    drop(workers);
    drop(log);

    let report = Report {
        machine: Machine {
            cpu: cpu(),
            processors: processors(),
            worker_threads: threads,
            cpu_seconds: cpu_seconds(),
            wall_seconds: started.elapsed().as_secs_f64(),
            build: env!("CARGO_PKG_VERSION"),
        },
        log: target.name(),
        partitions,
        model: model.version.to_string(),
        swapped_to,
        customers: args.customers,
        rebuilds_per_commit: args.rebuilds_per_commit,
        throughput,
        rate,
        p999_difference: swap.p999 - steady.p999,
        steady,
        swap,
        load_seconds,
    };
    target.close()?;
    if let Some(path) = &args.json {
        put(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
        if path == Path::new("-") {
            return Ok(());
        }
    }
    print(&report)
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let m = &report.machine;
    writeln!(
        out,
        "{}, {} processors, {} worker threads; log {} of {} partitions; model {}",
        m.cpu, m.processors, m.worker_threads, report.log, report.partitions, report.model
    )?;
    writeln!(
        out,
        "{:.0} events/s ({} interactions of {} customers)",
        report.throughput.events_per_second, report.throughput.interactions, report.customers
    )?;
    writeln!(out, "due to committed at {} interactions/s, ms {:>9} {:>9} {:>9} {:>9}", report.rate, "p50", "p99", "p99.9", "longest")?;
    for (name, part) in [("steady", &report.steady), ("with a swap", &report.swap)] {
        writeln!(out, "{}", part.line(name))?;
    }
    writeln!(
        out,
        "a swap makes p99.9 {:+.1} ms; the bundle loaded in {:.2} s beside the workers",
        report.p999_difference, report.load_seconds
    )?;
    writeln!(out, "{:.1} s of processor time in {:.1} s", m.cpu_seconds, m.wall_seconds)?;
    Ok(())
}

/// A copy of a bundle under another version: the same work for the machine, and another model to the service.
fn renamed(model: &Model, to: &Path) -> anyhow::Result<PathBuf> {
    let failed = || format!("cannot copy {} to {}", model.dir().display(), to.display());
    for name in model.manifest.files.keys() {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(to)).with_context(failed)?;
        std::fs::copy(model.dir().join(name), path).with_context(failed)?;
    }
    let mut manifest = model.manifest.clone();
    manifest.training.code = format!("{} (copy of {})", manifest.training.code, manifest.version);
    manifest.version = manifest.content_version()?;
    std::fs::write(to.join("manifest.json"), serde_json::to_vec(&manifest)?).with_context(failed)?;
    Ok(to.to_owned())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// Of this process, from /proc; 0 where there is none. Linux counts in hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// A directory that goes away at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("rapport-bench-{}-{}", std::process::id(), Timestamp::now().0));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {e}", self.0.display());
        }
    }
}
