//! A log that notes of each record when its effects were committed.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::feed;
use crate::log::{Commit, Log, LogError, LogEvents, Partition, Polled, Readiness};

/// The numbers of the records that all workers committed, and when. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Committed(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    records: Mutex<Vec<(u64, Instant)>>,
    /// Nothing is polled while this is set.
    held: AtomicBool,
}

impl Committed {
    fn records(&self) -> MutexGuard<'_, Vec<(u64, Instant)>> {
        self.0.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many were noted since they were last taken.
    pub fn count(&self) -> usize {
        self.records().len()
    }

    /// What was noted since the last call.
    pub fn take(&self) -> Vec<(u64, Instant)> {
        std::mem::take(&mut *self.records())
    }

    /// Whether what comes has to wait.
    pub fn hold(&self, held: bool) {
        self.0.held.store(held, Ordering::SeqCst);
    }
}

pub struct Timed<L> {
    log: L,
    /// Offset and number of what was polled and is not committed.
    open: HashMap<Partition, VecDeque<(i64, u64)>>,
    committed: Committed,
}

impl<L> Timed<L> {
    pub fn new(log: L, committed: Committed) -> Self {
        Self { log, open: HashMap::new(), committed }
    }
}

impl<L: Log> Log for Timed<L> {
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Polled, LogError> {
        if self.committed.0.held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(Polled::Idle);
        }
        let polled = self.log.poll(max, timeout)?;
        match &polled {
            Polled::Records(records) => {
                for record in records {
                    self.open.entry(record.partition).or_default().push_back((record.offset, feed::number(&record.value)));
                }
            }
            Polled::Assigned(_) => self.open.clear(),
            Polled::Idle | Polled::Erased => {}
        }
        Ok(polled)
    }

    fn load(&mut self, partition: Partition, customer_id: &str) -> Result<Option<Vec<u8>>, LogError> {
        self.log.load(partition, customer_id)
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), LogError> {
        match self.log.commit(commit) {
            Ok(()) => {}
            Err(e) => {
                if matches!(e, LogError::Abortable(_)) {
                    self.open.clear();
                }
                return Err(e);
            }
        }
        let now = Instant::now();
        let mut records = self.committed.records();
        for (partition, next) in &commit.offsets {
            let open = self.open.entry(*partition).or_default();
            while let Some((_, number)) = open.pop_front_if(|(offset, _)| *offset < *next) {
                records.push((number, now));
            }
        }
        Ok(())
    }

    fn lag(&mut self) -> Vec<(Partition, i64)> {
        self.log.lag()
    }

    fn readiness(&self) -> Readiness {
        self.log.readiness()
    }

    fn events(&mut self) -> LogEvents {
        self.log.events()
    }

    fn close(&mut self) -> Result<(), LogError> {
        self.log.close()
    }
}
