//! The workers of a bench: `serve`'s own, on a log that notes what was committed when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use serde::Serialize;

use super::feed::Feed;
use super::timed::{Committed, Timed};
use crate::alert::Policies;
use crate::engine::{Engine, EngineConfig};
use crate::log::{Gateway, Log, LogError};
use crate::model::Model;
use crate::worker::{Models, Stop, Worker, WorkerOptions, WorkerState};

/// How long the workers may take to share out the partitions.
const GATHERING: Duration = Duration::from_secs(120);
/// How long what was fed may take to be committed.
const CATCHING_UP: Duration = Duration::from_secs(3600);

/// Running workers on one log. They end with it.
pub struct Workers {
    pub models: Models,
    pub committed: Committed,
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
    standing: Arc<Mutex<Standing>>,
    interrupted: Arc<AtomicBool>,
}

/// Where they stand.
#[derive(Debug, Default)]
struct Standing {
    /// Partitions of each worker.
    owned: Vec<usize>,
    /// Why the first of them ended.
    ended: Option<String>,
}

/// Latencies in milliseconds, from when an interaction was due to the commit of its effects.
#[derive(Debug, Serialize)]
pub struct Part {
    interactions: usize,
    p50: f64,
    p99: f64,
    pub p999: f64,
    max: f64,
}

impl Part {
    pub fn line(&self, name: &str) -> String {
        format!(
            "  {name:<12} {:>9} interactions {:>16.1} {:>9.1} {:>9.1} {:>9.1}",
            self.interactions, self.p50, self.p99, self.p999, self.max
        )
    }
}

impl Workers {
    /// Starts one on each log and waits until they share all `partitions`. Once `interrupted` is set, whatever waits here fails.
    pub fn start(
        logs: Vec<Box<dyn Log + Send>>,
        partitions: usize,
        model: &Arc<Model>,
        rebuilds: usize,
        interrupted: Arc<AtomicBool>,
    ) -> anyhow::Result<Self> {
        let standing = Arc::new(Mutex::new(Standing { owned: vec![0; logs.len()], ended: None }));
        let (models, policies) = (Models::new(model.clone(), None), Arc::new(Policies::standard()));
        let mut workers =
            Self { models, committed: Committed::default(), stop: Stop::default(), threads: Vec::new(), standing, interrupted };
        for (index, log) in logs.into_iter().enumerate() {
            let log = Timed::new(log, workers.committed.clone());
            let (models, stop, standing) = (workers.models.clone(), workers.stop.clone(), workers.standing.clone());
            let (model, policies) = (model.clone(), policies.clone());
            let options = WorkerOptions { rebuilds, ..WorkerOptions::new(index, 512, "bench") };
            let work = move || {
                let tell = |state| {
                    let mut standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
                    standing.owned[index] = if let WorkerState::Working(owned) = state { owned } else { 0 };
                };
                let ended = Engine::new(model, policies, EngineConfig::default())
                    .map_err(|e| LogError::Fatal(e.to_string()))
                    .and_then(|engine| Worker::new(log, engine, options).following(models).run(&stop, tell));
                if let Err(e) = ended {
                    standing.lock().unwrap_or_else(PoisonError::into_inner).ended.get_or_insert(e.to_string());
                }
            };
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(work).context("cannot start a worker thread")?;
            workers.threads.push(thread);
        }
        let shared_out = |w: &Self| w.standing.lock().unwrap_or_else(PoisonError::into_inner).owned.iter().sum::<usize>() == partitions;
        workers.until(GATHERING, "the workers did not share out the partitions", shared_out)?;
        Ok(workers)
    }

    /// Whether all is as it should be.
    ///
    /// # Errors
    /// Why a worker ended, or that a signal came.
    fn check(&self) -> anyhow::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("stopped by a signal");
        }
        if self.threads.iter().any(JoinHandle::is_finished) {
            let ended = self.standing.lock().unwrap_or_else(PoisonError::into_inner).ended.take();
            return Err(anyhow!("a worker ended: {}", ended.as_deref().unwrap_or("it panicked, which is a defect")));
        }
        Ok(())
    }

    fn until(&self, limit: Duration, late: &str, done: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !done(self) {
            self.check()?;
            if begun.elapsed() > limit {
                bail!("{late} within {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn caught_up(&self, count: usize) -> anyhow::Result<()> {
        self.until(CATCHING_UP, "not all interactions were committed", |w| w.committed.count() >= count)
    }

    /// Seconds that they take for so many interactions that wait for them.
    pub fn backlog(&self, log: &dyn Gateway, feed: &mut Feed, interactions: usize) -> anyhow::Result<f64> {
        self.committed.hold(true);
        let mut left = interactions;
        while left > 0 {
            self.check()?;
            let n = left.min(1000);
            log.append(feed.next(n))?;
            left -= n;
        }
        let begun = Instant::now();
        self.committed.hold(false);
        self.caught_up(interactions)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Feeds at a steady rate, calling `middle` at half time on a thread of its own. An interaction that the log kept waiting has waited since it
    /// was due.
    pub fn steadily(
        &self,
        log: &dyn Gateway,
        feed: &mut Feed,
        rate: u64,
        seconds: u64,
        middle: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<Part> {
        self.committed.take();
        let (first, begun) = (feed.number(), Instant::now());
        let length = Duration::from_secs(seconds);
        let sent = std::thread::scope(|scope| -> anyhow::Result<usize> {
            let middle = scope.spawn(move || {
                std::thread::sleep(length / 2);
                middle()
            });
            let mut sent = 0;
            while begun.elapsed() < length {
                self.check()?;
                let due = (begun.elapsed().as_secs_f64() * rate as f64) as usize;
                if due > sent {
                    log.append(feed.next(due - sent))?;
                    sent = due;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            middle.join().map_err(|_| anyhow!("the swap panicked, which is a defect"))??;
            Ok(sent)
        })?;
        self.caught_up(sent)?;
        let due = |number: u64| begun + Duration::from_secs_f64((number - first + 1) as f64 / rate as f64);
        let late = |(number, at): (u64, Instant)| at.saturating_duration_since(due(number)).as_secs_f64() * 1e3;
        let mut ms: Vec<f64> = self.committed.take().into_iter().map(late).collect();
        ms.sort_by(f64::total_cmp);
        let quantile = |q: f64| ms.get(((ms.len() as f64 * q) as usize).min(ms.len().saturating_sub(1))).copied().unwrap_or(0.0);
        Ok(Part { interactions: ms.len(), p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999), max: quantile(1.0) })
    }
}

impl Drop for Workers {
    /// Only when the last has left the log may it be taken away.
    fn drop(&mut self) {
        self.stop.request();
        for thread in self.threads.drain(..) {
            // Why it ended was told by `check`.
            let _ = thread.join();
        }
    }
}
