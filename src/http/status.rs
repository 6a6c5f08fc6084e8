//! Whether this process is ready: the workers write it, `/readyz` and the API read it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where one worker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerStatus {
    /// Waiting for partitions.
    Starting,
    /// Reading back the states of its partitions.
    Restoring,
    /// Owns this many partitions (0 where there are more workers than partitions), restored.
    Ready(usize),
    /// Gave up, with the reason.
    Failed(String),
}

/// Readiness of all workers of this process.
#[derive(Debug)]
pub struct Status {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    workers: Vec<WorkerStatus>,
    stopping: bool,
}

impl Status {
    /// All `workers` (numbered from 0) start as [`WorkerStatus::Starting`].
    pub fn new(workers: usize) -> Self {
        crate::metrics::ready(false);
        Self { inner: Mutex::new(Inner { workers: vec![WorkerStatus::Starting; workers], stopping: false }) }
    }

    /// A worker moved on. A number that no worker has is ignored.
    pub fn set(&self, worker: usize, status: WorkerStatus) {
        let mut inner = self.lock();
        if let Some(slot) = inner.workers.get_mut(worker) {
            *slot = status;
        }
        crate::metrics::ready(inner.not_ready().is_none());
    }

    /// The process drains and ends; it is not ready from now on.
    pub fn stopping(&self) {
        self.lock().stopping = true;
        crate::metrics::ready(false);
    }

    /// Why the process is not ready; `None` when it is.
    pub fn not_ready(&self) -> Option<String> {
        self.lock().not_ready()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each write leaves the value whole, so a panic elsewhere while holding the lock spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn not_ready(&self) -> Option<String> {
        if self.stopping {
            return Some("stopping".into());
        }
        self.workers.iter().enumerate().find_map(|(n, worker)| match worker {
            WorkerStatus::Starting => Some(format!("worker {n} waits for its partitions")),
            WorkerStatus::Restoring => Some(format!("worker {n} restores the states of its partitions")),
            WorkerStatus::Failed(reason) => Some(format!("worker {n} failed: {reason}")),
            WorkerStatus::Ready(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_while_every_worker_is() {
        let status = Status::new(2);
        assert_eq!(status.not_ready().unwrap(), "worker 0 waits for its partitions");
        status.set(0, WorkerStatus::Ready(2));
        status.set(1, WorkerStatus::Restoring);
        assert_eq!(status.not_ready().unwrap(), "worker 1 restores the states of its partitions");
        status.set(1, WorkerStatus::Ready(0));
        assert_eq!(status.not_ready(), None);
        status.set(0, WorkerStatus::Failed("disk full".into()));
        assert_eq!(status.not_ready().unwrap(), "worker 0 failed: disk full");
        status.set(0, WorkerStatus::Ready(2));
        status.stopping();
        assert_eq!(status.not_ready().unwrap(), "stopping");
        status.set(9, WorkerStatus::Starting);
    }
}
