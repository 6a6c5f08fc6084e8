//! The embedded log: a durable log in one directory of one process, on an LSM database (fjall). No broker.
//!
//! What is kept: input records by (partition, offset), outputs by one gap-free offset per stream, customers' states, committed offsets.
//! One commit of a worker is one atomic batch of the database's journal.
//!
//! **Durability.** [`Gateway::append`] and [`Log::commit`](super::Log::commit) return after the journal is synced to disk, and outputs can be
//! read only from then on; threads that arrive together share one sync. The journal is one sequence, so what a crash or power
//! loss can take is a tail that nobody was told of and nobody could read.
//!
//! Knows records as bytes, neither interactions nor scores.

mod codec;
mod pairs;
mod worker;

pub use pairs::EmbeddedPairs;
pub use worker::EmbeddedLog;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::erasures::{Erasure, Erasures};
use super::{Commit, Delivered, Gateway, LogError, Output, Partition, Position, Stream};
use crate::interaction::Timestamp;

/// Partitions of a new log. Fixed at creation; an existing log keeps its own number.
pub const DEFAULT_PARTITIONS: Partition = 8;
/// Layout of keys and values; a log of another is refused.
const FORMAT: u32 = 1;
/// Kinds of outputs, see [`Stream`].
const STREAMS: usize = 4;
const FORMAT_KEY: &[u8] = b"format";
const PARTITIONS_KEY: &[u8] = b"partitions";

/// The open log; clones share it. The directory is free again when the last clone and the last [`EmbeddedLog`] are gone.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    db: Database,
    facts: Keyspace,
    input: Keyspace,
    outputs: [Keyspace; STREAMS],
    states: Keyspace,
    /// Offset after the newest input record by partition; also the lock under which input is appended.
    ends: Mutex<Vec<i64>>,
    appended: Condvar,
    /// Offset after the newest output by stream; also the lock under which workers commit, which keeps offsets gap-free.
    output_ends: Mutex<[i64; STREAMS]>,
    /// `output_ends` as far as it is on disk: what readers see.
    readable: [AtomicI64; STREAMS],
    /// Journal writes that have ended, and how many of them are known to be on disk.
    written: AtomicU64,
    synced: Mutex<u64>,
    /// Which partitions an [`EmbeddedLog`] of this process owns.
    owned: Mutex<Vec<bool>>,
    erasures: Erasures,
}

impl Embedded {
    /// Opens the log in `dir`, creating it where there is none.
    ///
    /// # Errors
    /// Fatal: another process has it open, no permission, not a log of this format. The message says what to do.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        Self::open_with(dir, DEFAULT_PARTITIONS)
    }

    /// [`Self::open`] with the number of partitions that a new log gets.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(dir: &Path, partitions: Partition) -> Result<Self, LogError> {
        Self::open_unless_in_use(dir, partitions)?.ok_or_else(|| {
            LogError::Fatal(format!(
                "the embedded log in {} is open in another process; stop that one, or give this one its own [log] dir (RAPPORT_LOG_DIR)",
                dir.display()
            ))
        })
    }

    /// [`Self::open_with`]; `None` where another process has it open.
    ///
    /// # Errors
    /// As [`Self::open`], but for that.
    pub fn open_unless_in_use(dir: &Path, partitions: Partition) -> Result<Option<Self>, LogError> {
        let hint = "set [log] dir (or RAPPORT_LOG_DIR) to a directory that this user may write";
        let at = |e: &dyn Display| LogError::Fatal(format!("cannot open the embedded log in {}: {e}; {hint}", dir.display()));
        std::fs::create_dir_all(dir).map_err(|e| at(&e))?;
        let db = match Database::builder(dir).worker_threads(1).open() {
            Ok(db) => db,
            Err(fjall::Error::Locked) => return Ok(None),
            Err(fjall::Error::Io(e)) => return Err(at(&e)),
            Err(e) => return Err(at(&format!("{e:?}"))),
        };
        let keyspace = |name: &str| db.keyspace(name, KeyspaceCreateOptions::default).map_err(|e| at(&format!("{e:?}")));
        let facts = keyspace("facts")?;
        let (input, states) = (keyspace("input")?, keyspace("states")?);
        let outputs = [keyspace("scores")?, keyspace("alerts")?, keyspace("dead_letters")?, keyspace("scores_shadow")?];

        let fact = |key: &[u8]| -> Result<Option<u32>, LogError> {
            let bytes = facts.get(key).map_err(|e| at(&format!("{e:?}")))?;
            Ok(bytes.and_then(|b| Some(u32::from_le_bytes(b.as_ref().try_into().ok()?))))
        };
        let partitions = match (fact(FORMAT_KEY)?, fact(PARTITIONS_KEY)?) {
            (Some(FORMAT), Some(n)) if (1..=4096).contains(&n) => n as Partition,
            (None, None) => {
                let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
                batch.insert(&facts, FORMAT_KEY, FORMAT.to_le_bytes());
                batch.insert(&facts, PARTITIONS_KEY, (partitions.clamp(1, 4096) as u32).to_le_bytes());
                batch.commit().map_err(|e| at(&format!("{e:?}")))?;
                partitions.clamp(1, 4096)
            }
            (format, n) => {
                let what = format!("it is of format {format:?} with {n:?} partitions, and this version reads format {FORMAT}");
                return Err(LogError::Fatal(format!("the embedded log in {}: {what}; use the version that wrote it", dir.display())));
            }
        };

        let next = |last: Option<fjall::Guard>, offset: fn(&[u8]) -> Option<i64>| -> Result<i64, LogError> {
            let Some(guard) = last else { return Ok(0) };
            let key = guard.key().map_err(|e| at(&format!("{e:?}")))?;
            offset(&key).map(|o| o + 1).ok_or_else(|| at(&"a key is damaged"))
        };
        let mut ends = Vec::new();
        for p in 0..partitions {
            ends.push(next(input.prefix(p.to_be_bytes()).next_back(), codec::input_offset)?);
        }
        let mut output_ends = [0; STREAMS];
        for (end, keyspace) in output_ends.iter_mut().zip(&outputs) {
            *end = next(keyspace.last_key_value(), codec::output_offset)?;
        }
        let shared = Shared {
            dir: dir.to_owned(),
            db,
            facts,
            input,
            outputs,
            states,
            ends: Mutex::new(ends),
            appended: Condvar::new(),
            output_ends: Mutex::new(output_ends),
            readable: output_ends.map(AtomicI64::new),
            written: AtomicU64::new(0),
            synced: Mutex::new(0),
            owned: Mutex::new(vec![false; partitions as usize]),
            erasures: Erasures::default(),
        };
        Ok(Some(Self { shared: Arc::new(shared) }))
    }

    pub fn partitions(&self) -> Partition {
        lock(&self.shared.ends).len() as Partition
    }

    /// The log of worker `index` of `count` in this process: partitions `index`, `index + count`, ….
    ///
    /// # Errors
    /// Fatal where another worker of this process owns one of them.
    pub fn worker(&self, index: usize, count: usize) -> Result<EmbeddedLog, LogError> {
        EmbeddedLog::open(self.shared.clone(), index, count)
    }

    /// Reads scores with their inputs from `positions` on, a partition that is not among them from its beginning.
    ///
    /// # Errors
    /// Fatal where a position lies behind the end of this log.
    pub fn pairs(&self, positions: &BTreeMap<Partition, Position>) -> Result<EmbeddedPairs, LogError> {
        EmbeddedPairs::open(self.clone(), positions)
    }

    /// Appends records as they are, keyless ones to partition 0, and returns once they are on disk.
    ///
    /// # Errors
    /// Fatal where the disk refuses; none of the records is in the log then.
    pub fn append_raw(&self, records: Vec<(Option<Vec<u8>>, Vec<u8>)>) -> Result<(), LogError> {
        let s = &*self.shared;
        if records.is_empty() {
            return Ok(());
        }
        let now = Timestamp::now();
        let mut ends = lock(&s.ends);
        let mut next = ends.clone();
        let mut batch = s.db.batch();
        for (key, value) in records {
            let partition = key.as_deref().map_or(0, |k| partition_of(k, next.len()));
            let offset = &mut next[partition as usize];
            batch.insert(&s.input, codec::input_key(partition, *offset), codec::encode_input(key.as_deref(), &value, now));
            *offset += 1;
        }
        let ticket = s.write(batch)?;
        *ends = next;
        drop(ends);
        s.appended.notify_all();
        s.sync(ticket)
    }

    /// Waits until every record of the input is committed; false where that took longer than `timeout`.
    ///
    /// # Errors
    /// Fatal where the disk refuses.
    pub fn wait_until_drained(&self, timeout: Duration) -> Result<bool, LogError> {
        let until = std::time::Instant::now() + timeout;
        loop {
            let ends = lock(&self.shared.ends).clone();
            let mut behind = 0;
            for (p, end) in ends.into_iter().enumerate() {
                behind += end - self.shared.committed(p as Partition)?;
            }
            if behind == 0 {
                return Ok(true);
            }
            if std::time::Instant::now() >= until {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Shared {
    /// Writes a batch to the journal, from where it survives the process; returns what [`Self::sync`] wants.
    fn write(&self, batch: fjall::OwnedWriteBatch) -> Result<u64, LogError> {
        batch.durability(Some(PersistMode::Buffer)).commit().map_err(|e| self.broken("write", e))?;
        Ok(self.written.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Returns once the write of that ticket is on disk. Whoever comes while another syncs waits, and mostly finds its own work done.
    fn sync(&self, ticket: u64) -> Result<(), LogError> {
        let mut synced = lock(&self.synced);
        if *synced < ticket {
            let covers = self.written.load(Ordering::SeqCst);
            self.db.persist(PersistMode::SyncData).map_err(|e| self.broken("sync", e))?;
            *synced = covers;
        }
        Ok(())
    }

    /// Removes a state and returns once that is on disk.
    fn erase(&self, partition: Partition, customer_id: &str) -> Result<(), LogError> {
        let mut batch = self.db.batch();
        batch.remove(&self.states, codec::state_key(partition, customer_id));
        self.sync(self.write(batch)?)
    }

    /// Carries out a wish to erase one of the customers of `partitions`; false where there is none.
    fn erase_wished(&self, partitions: &[Partition]) -> Result<bool, LogError> {
        let count = lock(&self.ends).len();
        let partition = |id: &str| partition_of(id.as_bytes(), count);
        let Some(erasure): Option<Erasure> = self.erasures.take(|id| partitions.contains(&partition(id))) else { return Ok(false) };
        self.erase(partition(&erasure.customer_id), &erasure.customer_id)?;
        erasure.done();
        Ok(true)
    }

    /// Next offset to read of a partition, as of the last commit.
    fn committed(&self, partition: Partition) -> Result<i64, LogError> {
        match self.facts.get(codec::committed_key(partition)).map_err(|e| self.broken("read", e))? {
            None => Ok(0),
            Some(bytes) => match bytes.as_ref().try_into() {
                Ok(bytes) => Ok(i64::from_le_bytes(bytes)),
                Err(_) => Err(self.broken("read", "the committed offset is damaged")),
            },
        }
    }

    fn broken(&self, doing: &str, e: impl std::fmt::Debug) -> LogError {
        LogError::Fatal(format!(
            "cannot {doing} the embedded log in {}: {e:?}; check free space and the disk, then start again: nothing acknowledged is lost",
            self.dir.display()
        ))
    }
}

impl Gateway for Embedded {
    fn append(&self, records: Vec<(Box<str>, Vec<u8>)>) -> Result<(), LogError> {
        self.append_raw(records.into_iter().map(|(k, v)| (Some(k.into_boxed_bytes().into_vec()), v)).collect())
    }

    fn read(&self, stream: Stream, from: i64, max: usize) -> Result<Vec<Delivered>, LogError> {
        let s = &*self.shared;
        let from = from.max(0);
        let end = self.end(stream)?.min(from.saturating_add(i64::try_from(max).unwrap_or(i64::MAX)));
        if from >= end {
            return Ok(Vec::new());
        }
        let one = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(|e| s.broken("read", e))?;
            let output = codec::output_offset(&key).and_then(|offset| codec::decode_output(offset, &value));
            let mut output = output.ok_or_else(|| s.broken("read", "an output is damaged"))?;
            if stream == Stream::DeadLetters
                && let Ok(offset) = output.header("rapport.offset").parse()
            {
                let refused = s.input.get(codec::input_key(output.partition, offset)).map_err(|e| s.broken("read", e))?;
                output.logged_at = refused.and_then(|bytes| codec::decode_input(output.partition, offset, &bytes)?.logged_at);
            }
            Ok(output)
        };
        s.outputs[stream as usize].range(from.to_be_bytes()..end.to_be_bytes()).map(one).collect()
    }

    fn end(&self, stream: Stream) -> Result<i64, LogError> {
        Ok(self.shared.readable[stream as usize].load(Ordering::SeqCst))
    }

    fn state(&self, customer_id: &str) -> Result<Option<Vec<u8>>, LogError> {
        let partition = partition_of(customer_id.as_bytes(), self.partitions() as usize);
        let state = self.shared.states.get(codec::state_key(partition, customer_id)).map_err(|e| self.shared.broken("read", e))?;
        Ok(state.map(|s| s.to_vec()))
    }

    fn erase(&self, customer_id: &str) -> Result<bool, LogError> {
        if self.state(customer_id)?.is_none() {
            return Ok(false);
        }
        let partition = partition_of(customer_id.as_bytes(), self.partitions() as usize);
        let has_worker = lock(&self.shared.owned).get(partition as usize).copied().unwrap_or(false);
        if has_worker {
            self.shared.erasures.wish(customer_id)?
        } else {
            self.shared.erase(partition, customer_id)?
        }
        Ok(true)
    }
}

/// Partition of a key. Part of the stored format: a customer's state lies beside its input.
fn partition_of(key: &[u8], partitions: usize) -> Partition {
    (xxhash_rust::xxh3::xxh3_64(key) % partitions as u64) as Partition
}

/// Outputs of a commit by [`Stream`] as a number.
fn by_stream(commit: &Commit) -> [&[Output]; STREAMS] {
    let mut all: [&[Output]; STREAMS] = [&[]; STREAMS];
    all[Stream::Scores as usize] = &commit.scores;
    all[Stream::Alerts as usize] = &commit.alerts;
    all[Stream::DeadLetters as usize] = &commit.dead_letters;
    all[Stream::ScoresShadow as usize] = &commit.shadow;
    all
}

/// The data under these locks is replaced in one step, so a thread that panicked while it held one left it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
