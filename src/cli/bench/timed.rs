//! A log that notes, for each record, how long after the log took it its effects were committed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::interaction::Timestamp;
use crate::log::{Commit, Log, LogError, LogEvents, Partition, Polled, Readiness};

/// Milliseconds by record, from all workers. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Arc<Mutex<Vec<f64>>>);

impl Latencies {
    /// How many were noted since they were last taken.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What was noted since the last call.
    pub fn take(&self) -> Vec<f64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub struct Timed<L> {
    log: L,
    /// Offset and time of what was polled and is not committed.
    open: HashMap<Partition, VecDeque<(i64, Timestamp)>>,
    latencies: Latencies,
}

impl<L> Timed<L> {
    pub fn new(log: L, latencies: Latencies) -> Self {
        Self { log, open: HashMap::new(), latencies }
    }
}

impl<L: Log> Log for Timed<L> {
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Polled, LogError> {
        let polled = self.log.poll(max, timeout)?;
        match &polled {
            Polled::Records(records) => {
                for record in records {
                    self.open.entry(record.partition).or_default().push_back((record.offset, record.logged_at.unwrap_or_default()));
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
        let now = Timestamp::now();
        let mut noted = self.latencies.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, next) in &commit.offsets {
            let open = self.open.entry(*partition).or_default();
            while let Some((_, at)) = open.pop_front_if(|(offset, _)| *offset < *next) {
                noted.push(now.seconds_since(at) * 1e3);
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
