//! Wishes to erase customers' states: told by whoever serves callers, carried out by the worker's log that holds the state, between two commits.
//!
//! Only the owner of a state may erase it: it has a copy, and would write that back. Knows names of customers, no log.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::LogError;

/// How long a caller waits: a commit that is tried again takes its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is still to be erased.
#[derive(Debug, Default)]
pub(super) struct Erasures(Mutex<Vec<Erasure>>);

/// One customer to erase. Whoever wishes it waits until this is done or dropped.
#[derive(Debug)]
pub(super) struct Erasure {
    pub customer_id: Box<str>,
    done: Sender<()>,
}

impl Erasure {
    /// Tells that the state is gone, durably.
    pub fn done(self) {
        // A caller that has gone has nothing to be told.
        let _ = self.done.send(());
    }
}

impl Erasures {
    /// Returns once the state is gone.
    ///
    /// # Errors
    /// Retriable where no worker came to it in time, when it may still happen, or where the worker lost the state before.
    pub fn wish(&self, customer_id: &str) -> Result<(), LogError> {
        let (done, told) = mpsc::channel();
        self.lock().push(Erasure { customer_id: customer_id.into(), done });
        told.recv_timeout(PATIENCE).map_err(|e| {
            LogError::Retriable(match e {
                RecvTimeoutError::Timeout => format!("no worker has erased the state within {PATIENCE:?}; try again"),
                RecvTimeoutError::Disconnected => "the state moved to another worker before it was erased; try again".into(),
            })
        })
    }

    /// The oldest wish for one of the customers that are `mine`.
    pub fn take(&self, mine: impl Fn(&str) -> bool) -> Option<Erasure> {
        let mut open = self.lock();
        let place = open.iter().position(|e| mine(&e.customer_id))?;
        Some(open.remove(place))
    }

    /// Keeps a wish that could not be carried out for the next try.
    pub fn put_back(&self, erasure: Erasure) {
        self.lock().push(erasure);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Erasure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
