//! The committed states of the customers whose partitions a worker owns, in memory.
//!
//! A cache of the state topic: filled by restore, changed only after a commit. Knows no broker. A store on disk can take its place.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::log::erasures::Erasures;
use crate::log::{Partition, StateChange};

type Customers = HashMap<Box<str>, Box<[u8]>>;

/// Shared between the worker, which alone writes, and the HTTP side, which reads. Every worker has its own: one map for all would let a
/// worker that lost a partition late wipe what its new owner has restored.
#[derive(Debug, Clone, Default)]
pub struct LocalStates {
    states: Arc<RwLock<HashMap<Partition, Customers>>>,
    /// What the worker is to erase.
    pub(super) erasures: Arc<Erasures>,
}

impl LocalStates {
    pub fn get(&self, partition: Partition, customer_id: &str) -> Option<Vec<u8>> {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        states.get(&partition)?.get(customer_id).map(|s| s.to_vec())
    }

    /// Looks in every owned partition.
    pub fn find(&self, customer_id: &str) -> Option<Vec<u8>> {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        states.values().find_map(|customers| customers.get(customer_id)).map(|s| s.to_vec())
    }

    /// The owned partitions that hold a state of this customer: one, but for producers that disagree about partitions.
    pub(super) fn places(&self, customer_id: &str) -> Vec<Partition> {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        states.iter().filter(|(_, customers)| customers.contains_key(customer_id)).map(|(partition, _)| *partition).collect()
    }

    /// Number of stored states in all owned partitions.
    pub fn len(&self) -> usize {
        self.states.read().unwrap_or_else(PoisonError::into_inner).values().map(HashMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn put(&self, partition: Partition, customers: Customers) {
        self.states.write().unwrap_or_else(PoisonError::into_inner).insert(partition, customers);
    }

    pub(super) fn forget(&self, partition: Partition) {
        self.states.write().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    pub(super) fn apply(&self, changes: &[StateChange]) {
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let customers = states.entry(change.partition).or_default();
            match &change.state {
                Some(state) => customers.insert(change.customer_id.clone(), state.as_slice().into()),
                None => customers.remove(&change.customer_id),
            };
        }
    }
}
