//! One worker's side of the embedded log: its partitions, read from the last commit on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Shared, by_stream, codec, lock};
use crate::log::{Commit, Log, LogError, MOST_BYTES, Partition, Polled, Record};

/// The [`Log`] of one worker thread. Partitions are free for another worker when it is dropped.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    partitions: Vec<Partition>,
    /// Next offset to read, beside `partitions`.
    positions: Vec<i64>,
    /// Where among `partitions` the next poll starts, so that none starves.
    turn: usize,
    assigned: bool,
}

impl EmbeddedLog {
    pub(super) fn open(shared: Arc<Shared>, index: usize, count: usize) -> Result<Self, LogError> {
        let mut owned = lock(&shared.owned);
        let partitions: Vec<Partition> = (0..owned.len()).skip(index).step_by(count.max(1)).map(|p| p as Partition).collect();
        if let Some(p) = partitions.iter().find(|p| owned[**p as usize]) {
            return Err(LogError::Fatal(format!("partition {p} of the embedded log already has a worker in this process")));
        }
        let positions = partitions.iter().map(|p| shared.committed(*p)).collect::<Result<_, _>>()?;
        partitions.iter().for_each(|p| owned[*p as usize] = true);
        drop(owned);
        Ok(Self { shared, partitions, positions, turn: 0, assigned: false })
    }

    /// Waits until one of the partitions has a record that was not read yet; false after `timeout`.
    fn wait(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut ends = lock(&self.shared.ends);
        loop {
            if self.partitions.iter().zip(&self.positions).any(|(p, position)| *position < ends[*p as usize]) {
                return true;
            }
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else { return false };
            ends = match self.shared.appended.wait_timeout(ends, left) {
                Ok((ends, _)) => ends,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Reads up to `max` records from `from` on, or as long as `bytes` are left, and returns the next offset.
    fn read(&self, partition: Partition, from: i64, max: usize, bytes: &mut usize, into: &mut Vec<Record>) -> Result<i64, LogError> {
        let s = &*self.shared;
        // Up to the end as published: what lies behind it may belong to an append that is still under way.
        let end = lock(&s.ends)[partition as usize].min(from.saturating_add(i64::try_from(max).unwrap_or(i64::MAX)));
        if from >= end {
            return Ok(from);
        }
        for guard in s.input.range(codec::input_key(partition, from)..codec::input_key(partition, end)) {
            let (key, value) = guard.into_inner().map_err(|e| s.broken("read", e))?;
            let record = codec::input_offset(&key).and_then(|offset| codec::decode_input(partition, offset, &value));
            let record = record.ok_or_else(|| s.broken("read", format!("an input record of partition {partition} is damaged")))?;
            let next = record.offset + 1;
            *bytes = bytes.saturating_sub(record.size());
            into.push(record);
            if *bytes == 0 {
                return Ok(next);
            }
        }
        Ok(end)
    }
}

impl Log for EmbeddedLog {
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Polled, LogError> {
        if !self.assigned {
            self.assigned = true;
            return Ok(Polled::Assigned(self.partitions.clone()));
        }
        if self.shared.erase_wished(&self.partitions)? {
            return Ok(Polled::Erased);
        }
        if !self.wait(timeout) {
            return Ok(Polled::Idle);
        }
        let mut records = Vec::new();
        let mut bytes = MOST_BYTES;
        for i in 0..self.partitions.len() {
            let i = (self.turn + i) % self.partitions.len();
            if records.len() < max && bytes > 0 {
                self.positions[i] = self.read(self.partitions[i], self.positions[i], max - records.len(), &mut bytes, &mut records)?;
            }
        }
        self.turn = (self.turn + 1) % self.partitions.len().max(1);
        Ok(Polled::Records(records))
    }

    fn load(&mut self, partition: Partition, customer_id: &str) -> Result<Option<Vec<u8>>, LogError> {
        let state = self.shared.states.get(codec::state_key(partition, customer_id)).map_err(|e| self.shared.broken("read", e))?;
        Ok(state.map(|s| s.to_vec()))
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), LogError> {
        let s = &*self.shared;
        let mut batch = s.db.batch();
        for change in &commit.states {
            let key = codec::state_key(change.partition, &change.customer_id);
            match &change.state {
                Some(state) => batch.insert(&s.states, key, state.as_slice()),
                None => batch.remove(&s.states, key),
            }
        }
        for (partition, offset) in &commit.offsets {
            batch.insert(&s.facts, codec::committed_key(*partition), offset.to_le_bytes());
        }
        // Encoded before the lock is taken: other workers wait at it.
        let outputs = by_stream(commit).map(|outputs| outputs.iter().map(codec::encode_output).collect::<Vec<_>>());

        let mut ends = lock(&s.output_ends);
        let mut next = *ends;
        for ((keyspace, end), values) in s.outputs.iter().zip(&mut next).zip(outputs) {
            for value in values {
                batch.insert(keyspace, end.to_be_bytes(), value);
                *end += 1;
            }
        }
        let ticket = s.write(batch)?;
        *ends = next;
        drop(ends);
        s.sync(ticket)?;
        for (readable, end) in s.readable.iter().zip(next) {
            readable.fetch_max(end, Ordering::SeqCst);
        }
        Ok(())
    }

    fn lag(&mut self) -> Vec<(Partition, i64)> {
        let ends = lock(&self.shared.ends);
        self.partitions.iter().zip(&self.positions).map(|(p, position)| (*p, ends[*p as usize] - position)).collect()
    }

    fn close(&mut self) -> Result<(), LogError> {
        self.shared.sync(self.shared.written.load(Ordering::SeqCst))
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        let mut owned = lock(&self.shared.owned);
        self.partitions.iter().for_each(|p| owned[*p as usize] = false);
    }
}
