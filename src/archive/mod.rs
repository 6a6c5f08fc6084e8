//! The archive: every accepted interaction and its score as Parquet files in a directory or an S3 bucket, for training and analysis.
//!
//! A reader of its own, never part of the workers' transactions. Its position is the archive itself: files are named by the offsets in them
//! and appear whole or not at all, so after any failure it lists what is there and reads on behind it. Knows a log as [`Pairs`] alone.
//!
//! **What is accepted** is not decided here: an interaction is archived because a score says that it is of it. So what was rejected, late or
//! repeated is left out by exactly the decision that the worker took, whatever its settings were then.

pub mod columns;
mod location;
mod part;
mod scores;
mod store;

pub use location::Location;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::ArchiveConfig;
use crate::interaction::Timestamp;
use crate::log::{LogError, Pairs, Partition, Position};
use crate::metrics::{self, ArchiveFault};
use crate::worker::{Backoff, Stop};
use part::Part;
use store::Store;

/// Scores read at once, and how long for: bounds how late a stop is seen.
const BATCH: usize = 1024;
const POLL: Duration = Duration::from_millis(250);
/// Bytes of unpublished files in memory; beyond it the largest is published before its time.
const MEMORY: usize = 256 << 20;
/// After a stop was requested, what is there already is read on for so long.
const LAST_READ: Duration = Duration::from_secs(2);

/// Which topic a file is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    Interactions,
    Scores,
}

impl Topic {
    pub const ALL: [Topic; 2] = [Topic::Interactions, Topic::Scores];

    /// Its folder in the archive.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interactions => "interactions",
            Self::Scores => "scores",
        }
    }
}

/// Why the archive could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("archive.url = {0}")]
    Store(String),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("cannot write Parquet: {0}")]
    Columns(#[from] parquet::errors::ParquetError),
}

impl From<arrow::error::ArrowError> for ArchiveError {
    fn from(e: arrow::error::ArrowError) -> Self {
        Self::Columns(e.into())
    }
}

/// How an archive runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Up to what is there at the start; the first failure ends it.
    Once,
    /// Until a stop. What fails before anything was read ends it: then the settings are wrong.
    Process,
    /// Until a stop, whatever fails.
    Beside,
}

/// Reads what `open` gives from a position on and archives it, until `stop` (with [`Mode::Once`], until the present end). After a failure it
/// goes on from what is archived.
///
/// # Errors
/// See [`Mode`].
pub fn run(
    config: &ArchiveConfig,
    mode: Mode,
    stop: &Stop,
    mut open: impl FnMut(&BTreeMap<Partition, Position>) -> Result<Box<dyn Pairs>, LogError>,
) -> Result<(), ArchiveError> {
    let mut backoff = Backoff::default();
    let mut started = false;
    // The oldest score that was read and not published: it waits on while nothing can be read or published.
    let mut oldest = None;
    loop {
        let mut progress = false;
        let ended = session(config, mode, stop, &mut open, &mut progress, &mut oldest);
        started |= progress;
        let Err(e) = ended else { return Ok(()) };
        tell_lag(oldest);
        let fault = match &e {
            ArchiveError::Store(_) => ArchiveFault::Store,
            ArchiveError::Log(_) => ArchiveFault::Log,
            ArchiveError::Columns(_) => ArchiveFault::Write,
        };
        metrics::archive_faults(fault, 1);
        if mode == Mode::Once || (mode == Mode::Process && !started) {
            return Err(e);
        }
        tracing::warn!("archive: {e}; going on from what is archived");
        if progress {
            backoff.reset();
        }
        backoff.pause(stop);
        if stop.requested() {
            return Ok(());
        }
    }
}

/// From a listing of the archive to the first failure. Dropping what was read and not published loses nothing: it is read again.
fn session(
    config: &ArchiveConfig,
    mode: Mode,
    stop: &Stop,
    open: &mut impl FnMut(&BTreeMap<Partition, Position>) -> Result<Box<dyn Pairs>, LogError>,
    progress: &mut bool,
    oldest: &mut Option<Timestamp>,
) -> Result<(), ArchiveError> {
    let store = Store::open(&config.location)?;
    let positions = store.positions()?;
    let mut pairs = open(&positions)?;
    let mut parts: BTreeMap<Partition, Part> = BTreeMap::new();
    let mut stopping: Option<Instant> = None;
    loop {
        let batch = pairs.next(BATCH, POLL)?;
        let idle = batch.is_empty();
        *progress |= !idle;
        for scored in batch {
            let position = || positions.get(&scored.partition).copied().unwrap_or_default();
            let part = parts.entry(scored.partition).or_insert_with(|| Part::new(scored.partition, position()));
            part.add(scored, &store)?;
            if part.largest_file() >= config.roll_bytes {
                part.publish(&store)?;
            }
        }
        while parts.values().map(Part::memory).sum::<usize>() > MEMORY
            && let Some(part) = parts.values_mut().max_by_key(|p| p.memory())
        {
            part.publish(&store)?;
        }
        for part in parts.values_mut().filter(|p| p.age() >= config.roll) {
            part.publish(&store)?;
        }
        *oldest = parts.values().filter_map(Part::oldest).min();
        tell_lag(*oldest);
        if stopping.is_none() && stop.requested() {
            stopping = Some(Instant::now());
        }
        if stopping.is_some_and(|since| idle || since.elapsed() > LAST_READ) || (mode == Mode::Once && pairs.at_end()) {
            for part in parts.values_mut() {
                part.publish(&store)?;
            }
            tell_lag(None);
            return Ok(());
        }
    }
}

fn tell_lag(oldest: Option<Timestamp>) {
    let now = Timestamp::now();
    metrics::archive_lag(oldest.map_or(0.0, |t| now.seconds_since(t).max(0.0)));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::interaction::file::{Records, expand};
    use crate::log::Scored;

    /// A log of these scores that fails after some of them.
    struct Failing {
        left: Vec<Scored>,
        until_failure: usize,
    }

    impl Pairs for Failing {
        fn next(&mut self, _: usize, _: Duration) -> Result<Vec<Scored>, LogError> {
            let n = self.left.len().min(7);
            if self.until_failure < n {
                return Err(LogError::Retriable("the log is away".into()));
            }
            self.until_failure -= n;
            Ok(self.left.drain(..n).collect())
        }

        fn at_end(&self) -> bool {
            self.left.is_empty()
        }
    }

    /// Every third offset of the input has no score; of scores every tenth offset is a marker. Model `b` has another task.
    fn log(count: i64, partitions: i32) -> Vec<Scored> {
        let one = |n: i64, partition: i32| {
            let (at, offset) = (n * 3 / 2, n * 10 / 9);
            let who = format!("{partition}-{n}");
            let task = if n * 2 < count { "intent" } else { "mood" };
            let (when, text) = (format!("2024-01-01T00:00:00.{n:06}Z"), "x".repeat(40));
            Scored {
                partition,
                offset,
                score: format!(r#"{{"customer_id":"c{who}","interaction_id":"i{who}","occurred_at":"{when}","scored_at":"{when}","model":"m","{task}":[{{"label":"a","probability":0.5}}]}}"#).into_bytes(),
                input_offset: Some(at),
                input: Some(format!(r#"{{"id":"i{who}","customer_id":"c{who}","occurred_at":"{when}","kind":"message","text":"{text}"}}"#).into_bytes()),
            }
        };
        (0..count).flat_map(|n| (0..partitions).map(move |p| one(n, p))).collect()
    }

    fn read(dir: &Path) -> Vec<String> {
        let mut ids = Vec::new();
        for path in expand(&[dir.to_owned()]).expect("files") {
            let mut records = Records::open(&path).expect("Parquet");
            let mut record = Vec::new();
            while records.next(&mut record).expect("a row").is_some() {
                let line: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
                ids.push(line["id"].as_str().expect("an id").to_owned());
            }
        }
        ids
    }

    #[test]
    fn every_row_is_archived_once_whenever_it_fails() {
        let mut rng = SmallRng::seed_from_u64(1);
        let all = log(300, 3);
        for roll_bytes in [2000, 1 << 20] {
            let dir = tempfile::tempdir().expect("a directory");
            let location = Location::Directory(dir.path().into());
            let config = ArchiveConfig { location, roll_bytes, roll: Duration::from_secs(3600) };
            let mut sessions = 0;
            loop {
                sessions += 1;
                let failing = rng.random_range(0..2 * all.len());
                let ended = run(&config, Mode::Once, &Stop::default(), |positions| {
                    let at = |s: &Scored| positions.get(&s.partition).copied().unwrap_or_default();
                    let mut left: Vec<Scored> = all.iter().filter(|s| s.offset >= at(s).score).cloned().collect();
                    for scored in left.iter_mut().filter(|s| s.input_offset < Some(at(s).input)) {
                        scored.input = None;
                    }
                    Ok(Box::new(Failing { left, until_failure: failing }))
                });
                if ended.is_ok() {
                    break;
                }
                // As if killed between the two files of a partition.
                let mut scores = expand(&[dir.path().join("scores")]).unwrap_or_default();
                if let Some(last) = scores.pop().filter(|_| sessions % 2 == 1) {
                    fs::remove_file(last).expect("removed");
                }
            }
            let expected: Vec<String> = (0..3).flat_map(|p| (0..300).map(move |n| format!("i{p}-{n}"))).collect();
            assert_eq!(read(dir.path()), expected, "{sessions} sessions");
            let files = expand(&[dir.path().join("interactions/partition=0")]).expect("files").len();
            assert!(if roll_bytes == 2000 { files > 5 } else { (1..2 + sessions).contains(&files) }, "{files} files of {roll_bytes} bytes");
        }
    }

    #[test]
    fn what_was_read_and_not_published_waits_on_after_a_failure() {
        let dir = tempfile::tempdir().expect("a directory");
        let location = Location::Directory(dir.path().into());
        let config = ArchiveConfig { location, roll_bytes: 1 << 20, roll: Duration::from_secs(3600) };
        let (mut oldest, mut progress) = (None, false);
        let mut open = |_: &BTreeMap<Partition, Position>| Ok(Box::new(Failing { left: log(20, 1), until_failure: 14 }) as Box<dyn Pairs>);
        let ended = session(&config, Mode::Beside, &Stop::default(), &mut open, &mut progress, &mut oldest);
        assert!(matches!(ended, Err(ArchiveError::Log(_))) && progress);
        assert_eq!(oldest, Timestamp::parse("2024-01-01T00:00:00Z").ok(), "the first score");
    }

    #[test]
    fn rows_wait_no_longer_than_they_may() {
        struct Once(Vec<Scored>);
        impl Pairs for Once {
            fn next(&mut self, _: usize, timeout: Duration) -> Result<Vec<Scored>, LogError> {
                std::thread::sleep(timeout / 20);
                Ok(std::mem::take(&mut self.0))
            }
            fn at_end(&self) -> bool {
                false
            }
        }
        let dir = tempfile::tempdir().expect("a directory");
        let config = ArchiveConfig { location: Location::Directory(dir.path().into()), roll_bytes: 1 << 20, roll: Duration::from_secs(1) };
        let stop = Stop::default();
        std::thread::scope(|scope| {
            let work = scope.spawn(|| run(&config, Mode::Process, &stop, |_| Ok(Box::new(Once(log(5, 1))))));
            let since = Instant::now();
            while !dir.path().join("scores/partition=0").exists() {
                assert!(since.elapsed() < Duration::from_secs(30), "nothing was published");
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(since.elapsed() >= Duration::from_millis(900), "published at once");
            stop.request();
            work.join().expect("no panic").expect("no failure");
        });
        assert_eq!(read(dir.path()).len(), 5);
    }
}
