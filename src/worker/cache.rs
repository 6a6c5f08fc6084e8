//! What is remembered of recently seen customers, as of the last commit. Knows no log: it is only ever a copy of what the log holds, or can be made
//! again from that.

use std::collections::HashMap;

use crate::log::Partition;

type Key = (Partition, Box<str>);

/// Bounded by two generations: what is put goes to the young one; when that holds half of `capacity`, it becomes the old one and the
/// former old one is dropped. A value that is taken and put back moves to the young one, so what is in use stays.
pub struct Cache<V> {
    capacity: usize,
    young: HashMap<Key, V>,
    old: HashMap<Key, V>,
}

impl<V> Cache<V> {
    /// `capacity` in customers; at least 2.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(2), young: HashMap::new(), old: HashMap::new() }
    }

    /// Removes and returns the value; the caller puts it, or its successor, back after a commit.
    pub fn take(&mut self, partition: Partition, customer_id: &str) -> Option<V> {
        let key = (partition, Box::from(customer_id));
        self.young.remove(&key).or_else(|| self.old.remove(&key))
    }

    pub fn has(&self, partition: Partition, customer_id: &str) -> bool {
        let key = (partition, Box::from(customer_id));
        self.young.contains_key(&key) || self.old.contains_key(&key)
    }

    pub fn put(&mut self, partition: Partition, customer_id: Box<str>, value: V) {
        if self.young.len() >= self.capacity / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        let key = (partition, customer_id);
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::CustomerState;

    #[test]
    fn what_is_in_use_stays_and_the_size_is_bounded() {
        let mut cache = Cache::new(10);
        for i in 0..1_000_i64 {
            // Customer "a" is taken and put back with every other one.
            let mut a: CustomerState = cache.take(0, "a").unwrap_or_default();
            assert_eq!(a.newest.0, i);
            a.newest.0 += 1;
            assert!(cache.take(0, &i.to_string()).is_none());
            cache.put(0, i.to_string().into(), CustomerState::default());
            cache.put(0, "a".into(), a);
            assert!(cache.young.len() + cache.old.len() <= 10);
        }
        assert!(cache.take(1, "a").is_none(), "another partition, another state");
        assert!(cache.take(0, "999").is_some() && cache.take(0, "0").is_none());
        assert!(cache.take(0, "a").is_some() && cache.take(0, "a").is_none());
        cache.put(0, "b".into(), CustomerState::default());
        cache.clear();
        assert!(cache.take(0, "b").is_none());
    }
}
