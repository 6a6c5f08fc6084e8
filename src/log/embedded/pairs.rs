//! Reads scores with their inputs out of the embedded log, beside its workers.
//!
//! Knows records as bytes. The stream of scores is one for all partitions, so it is read from the partition on that is furthest behind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Embedded, codec, lock};
use crate::log::{Gateway, LogError, Pairs, Partition, Position, Scored, Stream};

/// Pause between looks for new scores.
const LOOK: Duration = Duration::from_millis(50);

pub struct EmbeddedPairs {
    log: Embedded,
    /// By partition.
    positions: Vec<Position>,
    /// Offset of the next score, whatever its partition, and the end of the stream when this was opened.
    next: i64,
    end: i64,
}

impl EmbeddedPairs {
    pub(super) fn open(log: Embedded, positions: &BTreeMap<Partition, Position>) -> Result<Self, LogError> {
        let end = log.end(Stream::Scores)?;
        let ends = lock(&log.shared.ends).clone();
        for (partition, position) in positions {
            let input_end = usize::try_from(*partition).ok().and_then(|p| ends.get(p)).copied().unwrap_or(0);
            if position.score > end || position.input > input_end {
                return Err(LogError::Fatal(format!(
                    "it has partition {partition} up to score {} and interaction {}, but the embedded log in {} ends at {end} and {input_end}: \
                     that is another log's archive; set archive.url to a new place",
                    position.score,
                    position.input,
                    log.shared.dir.display()
                )));
            }
        }
        let positions: Vec<Position> = (0..ends.len()).map(|p| positions.get(&(p as Partition)).copied().unwrap_or_default()).collect();
        let next = positions.iter().map(|p| p.score).min().unwrap_or(0);
        Ok(Self { log, positions, next, end })
    }
}

impl Pairs for EmbeddedPairs {
    fn next(&mut self, max: usize, timeout: Duration) -> Result<Vec<Scored>, LogError> {
        let until = Instant::now() + timeout;
        let records = loop {
            let records = self.log.read(Stream::Scores, self.next, max)?;
            let left = until.saturating_duration_since(Instant::now());
            if !records.is_empty() || left.is_zero() {
                break records;
            }
            std::thread::sleep(left.min(LOOK));
        };
        let shared = &*self.log.shared;
        let mut found = Vec::with_capacity(records.len());
        for record in records {
            self.next = record.offset + 1;
            let Some(position) = usize::try_from(record.partition).ok().and_then(|p| self.positions.get(p)) else { continue };
            let mut scored = Scored::new(record);
            if scored.offset < position.score {
                continue;
            }
            if let Some(offset) = scored.input_offset.filter(|offset| *offset >= position.input) {
                let stored = shared.input.get(codec::input_key(scored.partition, offset)).map_err(|e| shared.broken("read", e))?;
                scored.input = stored.and_then(|bytes| codec::decode_input(scored.partition, offset, &bytes)).map(|record| record.value);
            }
            found.push(scored);
        }
        Ok(found)
    }

    fn at_end(&self) -> bool {
        self.next >= self.end
    }
}
