//! `rapport bench`: how fast this machine scores, and what a swap of the model does to it.
//!
//! The parts of `serve` on an embedded log of its own, without HTTP: real appends, real commits, durable as always.

mod feed;
mod timed;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde::Serialize;

use super::demo::find_model;
use super::output::{check_files, put};
use super::{load_model, usage, whole};
use crate::alert::Policies;
use crate::engine::{Engine, EngineConfig};
use crate::interaction::Timestamp;
use crate::log::LogError;
use crate::log::embedded::Embedded;
use crate::model::Model;
use crate::worker::{Models, Serving, Stop, Worker, WorkerOptions};
use feed::Feed;
use timed::{Latencies, Timed};

/// Measures throughput, and event-to-commit latency with and without a swap of the model.
///
/// Synthetic customers' interactions go through an embedded log and the engine, as in `serve`: first as fast as they are scored, then at a steady
/// rate, then at that rate with a swap in the middle, after which the hidden vector of every customer that comes is rebuilt.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  rapport bench\n  rapport bench --customers 20000 --seconds 30 --rate 500 --json bench.json")]
pub struct Args {
    /// Model bundle [default: the bundled one].
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Bundle to swap to [default: a copy of the first under another version].
    #[arg(long, value_name = "DIR")]
    swap_to: Option<PathBuf>,
    /// Customers.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = whole::<u32>(1..=10_000_000))]
    customers: u32,
    /// Interactions of the first part.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = whole::<u64>(1..=100_000_000))]
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

/// What `--json` writes. Times in milliseconds, from the log taking an interaction to its score being visible.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
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

#[derive(Debug, Serialize)]
struct Part {
    interactions: usize,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
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
    let target = load_model(&other)?.version.to_string();
    if target == model.version.as_str() {
        return Err(usage(format!("--swap-to {} is the same version, {target}: there would be no swap", other.display())));
    }
    let log = Embedded::open(&scratch.0.join("log"))?;
    let threads = args.threads.map_or_else(processors, |n| n as usize).min(log.partitions() as usize);
    let mut feed = Feed::new(args.customers);

    // As fast as they are scored: everything waits before the workers start.
    let mut left = args.interactions;
    while left > 0 {
        let n = left.min(1000);
        log.append_raw(feed.next(n as usize))?;
        left -= n;
    }
    let latencies = Latencies::default();
    let begun = Instant::now();
    let workers = Workers::start(&log, &model, threads, args.rebuilds_per_commit as usize, &latencies)?;
    workers.wait(&latencies, args.interactions as usize, Duration::from_secs(3600))?;
    let seconds = begun.elapsed().as_secs_f64();
    let throughput =
        Throughput { interactions: args.interactions, seconds, events_per_second: args.interactions as f64 / seconds.max(1e-9) };
    let rate = args.rate.unwrap_or((throughput.events_per_second / 10.0).max(1.0) as u64);
    let steady = workers.part(&log, &mut feed, rate, args.seconds, &latencies, || Ok(()))?;

    let mut load_seconds = 0.0;
    let swap = workers.part(&log, &mut feed, rate, args.seconds, &latencies, || {
        // Loaded by a thread that is no worker, as in `serve`.
        let begun = Instant::now();
        let champion = load_model(&other)?;
        load_seconds = begun.elapsed().as_secs_f64();
        workers.models.put(Serving { champion, shadow: None });
        Ok(())
    })?;
    workers.stop()?;

    let report = Report {
        machine: Machine {
            cpu: cpu(),
            processors: processors(),
            worker_threads: threads,
            cpu_seconds: cpu_seconds(),
            wall_seconds: started.elapsed().as_secs_f64(),
            build: env!("CARGO_PKG_VERSION"),
        },
        model: model.version.to_string(),
        swapped_to: target,
        customers: args.customers,
        rebuilds_per_commit: args.rebuilds_per_commit,
        throughput,
        rate,
        p999_difference: swap.p999 - steady.p999,
        steady,
        swap,
        load_seconds,
    };
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
    writeln!(out, "{}, {} processors, {} worker threads; model {}", m.cpu, m.processors, m.worker_threads, report.model)?;
    writeln!(
        out,
        "{:.0} events/s ({} interactions of {} customers)",
        report.throughput.events_per_second, report.throughput.interactions, report.customers
    )?;
    writeln!(out, "event to commit at {} interactions/s, ms {:>9} {:>9} {:>9} {:>9}", report.rate, "p50", "p99", "p99.9", "longest")?;
    for (name, part) in [("steady", &report.steady), ("with a swap", &report.swap)] {
        writeln!(
            out,
            "  {name:<12} {:>9} interactions {:>16.1} {:>9.1} {:>9.1} {:>9.1}",
            part.interactions, part.p50, part.p99, part.p999, part.max
        )?;
    }
    writeln!(
        out,
        "a swap makes p99.9 {:+.1} ms; the bundle loaded in {:.2} s beside the workers",
        report.p999_difference, report.load_seconds
    )?;
    writeln!(out, "{:.1} s of processor time in {:.1} s", m.cpu_seconds, m.wall_seconds)?;
    Ok(())
}

/// Running workers on one log.
struct Workers {
    models: Models,
    stop: Stop,
    threads: Vec<JoinHandle<Result<(), LogError>>>,
    failed: Arc<AtomicBool>,
}

impl Workers {
    fn start(log: &Embedded, model: &Arc<Model>, count: usize, rebuilds: usize, latencies: &Latencies) -> anyhow::Result<Self> {
        let (models, stop) = (Models::new(model.clone(), None), Stop::default());
        let (policies, failed) = (Arc::new(Policies::standard()), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        for index in 0..count {
            let log = Timed::new(log.worker(index, count)?, latencies.clone());
            let (model, models, policies, stop, failed) = (model.clone(), models.clone(), policies.clone(), stop.clone(), failed.clone());
            let options = WorkerOptions { rebuilds, ..WorkerOptions::new(index, 512, "bench") };
            let work = move || {
                let engine = Engine::new(model, policies, EngineConfig::default()).map_err(|e| LogError::Fatal(e.to_string()))?;
                let ended = Worker::new(log, engine, options).following(models).run(&stop, |_| {});
                failed.store(ended.is_err(), Ordering::SeqCst);
                ended
            };
            threads.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(work).context("cannot start a worker thread")?);
        }
        Ok(Self { models, stop, threads, failed })
    }

    /// Waits until so many latencies were noted, that is, until so many interactions were committed.
    fn wait(&self, latencies: &Latencies, count: usize, timeout: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + timeout;
        while latencies.count() < count {
            if self.failed.load(Ordering::SeqCst) || Instant::now() > until {
                return Err(anyhow!("the workers do not come to the end of the input"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Feeds at a steady rate, calling `middle` at half time on a thread of its own, and returns the latencies.
    fn part(
        &self,
        log: &Embedded,
        feed: &mut Feed,
        rate: u64,
        seconds: u64,
        latencies: &Latencies,
        middle: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<Part> {
        latencies.take();
        let begun = Instant::now();
        let length = Duration::from_secs(seconds);
        let sent = std::thread::scope(|scope| -> anyhow::Result<usize> {
            let middle = scope.spawn(move || {
                std::thread::sleep(length / 2);
                middle()
            });
            let mut sent = 0;
            while begun.elapsed() < length {
                let due = (begun.elapsed().as_secs_f64() * rate as f64) as usize;
                if due > sent {
                    log.append_raw(feed.next(due - sent))?;
                    sent = due;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            middle.join().map_err(|_| anyhow!("the swap panicked, which is a defect"))??;
            Ok(sent)
        })?;
        self.wait(latencies, sent, Duration::from_secs(600))?;
        let mut ms = latencies.take();
        ms.sort_by(f64::total_cmp);
        let quantile = |q: f64| ms.get(((ms.len() as f64 * q) as usize).min(ms.len().saturating_sub(1))).copied().unwrap_or(0.0);
        Ok(Part { interactions: ms.len(), p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999), max: quantile(1.0) })
    }

    fn stop(self) -> anyhow::Result<()> {
        self.stop.request();
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a worker panicked, which is a defect"))??;
        }
        Ok(())
    }
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
