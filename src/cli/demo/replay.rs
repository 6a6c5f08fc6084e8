//! Feeds the bundled interactions to a running service and watches what comes out of it, as any client could.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use super::Bundled;
use super::report::{self, AlertLine};
use crate::cli::service::Service;
use crate::log::{Gateway, LogError, Stream};

/// Interactions appended and not yet scored, at most, where speed is all: enough to fill a commit of every worker, so that the latency measured
/// is the service's and not the length of a queue.
const IN_FLIGHT: usize = 256;
const APPEND: usize = 64;
/// Pause where there is nothing to do; also the resolution of the latency.
const LOOK: Duration = Duration::from_millis(1);
const PAGE: usize = 1000;

/// How fast interactions are fed.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    PerSecond(f64),
    AsFastAsPossible,
}

/// What came out so far.
#[derive(Debug, Default)]
pub struct Seen {
    pub scores: usize,
    pub alerts: Vec<AlertLine>,
    pub dead_letters: i64,
    /// From just before an interaction's append until its committed score could be read, in seconds.
    pub latencies: Vec<f64>,
    /// From the first append to the last score.
    pub elapsed: Duration,
}

/// A replay under way: this thread feeds, another one follows the outputs.
pub struct Replay<'a> {
    service: &'a Service,
    interactions: &'a [Bundled],
    /// Number of interactions appended.
    sent: usize,
    shared: Arc<Shared>,
    follower: Option<JoinHandle<Result<Seen, LogError>>>,
    progress: ProgressBar,
}

#[derive(Default)]
struct Shared {
    /// When each interaction that has no score yet was appended.
    sent: Mutex<HashMap<Box<str>, Instant>>,
    /// Interactions that are done with: scores and dead letters.
    done: AtomicUsize,
    finishing: AtomicBool,
}

impl<'a> Replay<'a> {
    /// Begins to follow the outputs; `aloud` prints a line per alert, else a progress bar shows on a terminal.
    pub fn start(service: &'a Service, interactions: &'a [Bundled], aloud: bool) -> Self {
        let shared = Arc::new(Shared::default());
        let texts = interactions.iter().filter_map(|i| Some((i.id.clone(), i.text.clone()?))).collect();
        let follow = Follow { gateway: service.gateway().clone(), shared: shared.clone(), texts, aloud };
        let progress = if aloud { ProgressBar::hidden() } else { ProgressBar::new(interactions.len() as u64) };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}, {per_sec}") {
            progress.set_style(style);
        }
        Self { service, interactions, sent: 0, shared, follower: Some(std::thread::spawn(move || follow.run())), progress }
    }

    /// Appends every interaction, until `stop`.
    ///
    /// # Errors
    /// A worker that ended, a log that refuses.
    pub fn feed(&mut self, pace: Pace, stop: &AtomicBool) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.sent < self.interactions.len() && !stop.load(Ordering::Relaxed) {
            self.check()?;
            let may = match pace {
                Pace::PerSecond(rate) => (started.elapsed().as_secs_f64() * rate) as usize + 1,
                Pace::AsFastAsPossible => self.shared.done.load(Ordering::Relaxed) + IN_FLIGHT,
            };
            let until = may.min(self.sent + APPEND).min(self.interactions.len());
            // Waiting until there is room for a whole append keeps appends large.
            let room = matches!(pace, Pace::PerSecond(_)) || until >= self.sent + APPEND || until == self.interactions.len();
            if until <= self.sent || !room {
                std::thread::sleep(LOOK);
                continue;
            }
            let now = Instant::now();
            let batch = &self.interactions[self.sent..until];
            self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner).extend(batch.iter().map(|i| (i.id.clone(), now)));
            self.service.gateway().append(batch.iter().map(|i| (i.customer_id.clone(), i.line.clone())).collect())?;
            self.sent = until;
        }
        Ok(())
    }

    /// Waits until all that was appended is scored and can be read.
    ///
    /// # Errors
    /// A worker that ended, or not within `timeout`.
    pub fn drain(&mut self, timeout: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + timeout;
        while self.shared.done.load(Ordering::Relaxed) < self.sent {
            self.check()?;
            anyhow::ensure!(Instant::now() < until, "the last interactions were not scored within {} s", timeout.as_secs());
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Reads the outputs to their end and gives what came.
    pub fn finish(mut self) -> anyhow::Result<Seen> {
        self.shared.finishing.store(true, Ordering::Relaxed);
        self.progress.finish_and_clear();
        let follower = self.follower.take().ok_or_else(|| anyhow!("the replay is already finished"))?;
        let mut seen = follower.join().map_err(|_| anyhow!("reading the outputs panicked, which is a defect"))??;
        seen.dead_letters = self.service.gateway().end(Stream::DeadLetters)?;
        Ok(seen)
    }

    fn check(&self) -> anyhow::Result<()> {
        self.progress.set_position(self.shared.done.load(Ordering::Relaxed) as u64);
        anyhow::ensure!(!self.service.failed(), "a worker ended");
        Ok(())
    }
}

/// The thread that reads scores and alerts as they become visible.
struct Follow {
    gateway: Arc<dyn Gateway>,
    shared: Arc<Shared>,
    texts: HashMap<Box<str>, Box<str>>,
    aloud: bool,
}

#[derive(Deserialize)]
struct ScoreLine {
    interaction_id: Option<Box<str>>,
}

impl Follow {
    fn run(self) -> Result<Seen, LogError> {
        let mut seen = Seen::default();
        let (mut next_score, mut next_alert) = (0, 0);
        let mut first = None;
        loop {
            // Asked before reading: what is committed by then is read below.
            let finishing = self.shared.finishing.load(Ordering::Relaxed);
            let scores = self.gateway.read(Stream::Scores, next_score, PAGE)?;
            let now = Instant::now();
            for score in &scores {
                next_score = score.offset + 1;
                seen.scores += 1;
                let id = serde_json::from_slice::<ScoreLine>(&score.value).ok().and_then(|s| s.interaction_id);
                let sent = id.and_then(|id| self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner).remove(&id));
                if let Some(sent) = sent {
                    seen.latencies.push(now.duration_since(sent).as_secs_f64());
                    seen.elapsed = now.duration_since(*first.get_or_insert(sent));
                }
            }
            let rejected = usize::try_from(self.gateway.end(Stream::DeadLetters)?).unwrap_or(0);
            self.shared.done.store(seen.scores + rejected, Ordering::Relaxed);
            let alerts = self.gateway.read(Stream::Alerts, next_alert, PAGE)?;
            for alert in &alerts {
                next_alert = alert.offset + 1;
                let Some(alert) = AlertLine::parse(&alert.value) else { continue };
                if self.aloud {
                    let text = self.texts.get(&alert.interaction_id).map(AsRef::as_ref);
                    // Nobody may be reading any more; the service goes on all the same.
                    let _ = writeln!(std::io::stdout(), "{}", report::compact(&alert, text));
                }
                seen.alerts.push(alert);
            }
            if scores.is_empty() && alerts.is_empty() {
                if finishing {
                    return Ok(seen);
                }
                std::thread::sleep(LOOK);
            }
        }
    }
}
