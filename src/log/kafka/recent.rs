//! The newest alerts, held in memory for the HTTP side, which wants one sequence where a topic has a sequence per partition.
//!
//! Starts to read when first asked. Its offsets begin at the wall clock of that moment, in microseconds: a reader that comes back to a process
//! that was started anew has an older one, and gets everything that is held.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::settings::KafkaSettings;
use super::tail::Tail;
use crate::interaction::Timestamp;
use crate::log::{Delivered, LogError, Stream};

/// Records held, and looked back for in each partition at the start.
const HELD: usize = 2_000;
const LOOK_BACK: i64 = 500;
/// Pause before reading is tried again.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Recent {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug)]
struct Held {
    records: VecDeque<Delivered>,
    /// Offset after the newest.
    end: i64,
}

impl Recent {
    /// Reads on a thread of its own until dropped.
    pub fn start(settings: &KafkaSettings) -> Result<Self, LogError> {
        let held = Arc::new(Mutex::new(Held { records: VecDeque::new(), end: Timestamp::now().0 }));
        let (weak, settings) = (Arc::downgrade(&held), settings.clone());
        std::thread::Builder::new()
            .name("recent-alerts".into())
            .spawn(move || follow(&settings, &weak))
            .map_err(|e| LogError::Retriable(format!("cannot start a thread to read alerts: {e}")))?;
        Ok(Self { held })
    }

    pub fn read(&self, from: i64, max: usize) -> Vec<Delivered> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let start = held.records.partition_point(|r| r.offset < from);
        held.records.range(start..).take(max).cloned().collect()
    }

    pub fn end(&self) -> i64 {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).end
    }
}

fn follow(settings: &KafkaSettings, held: &Weak<Mutex<Held>>) {
    // Where to go on after a failure: what was held already does not come again, and what came meanwhile is not missed.
    let mut at = BTreeMap::new();
    while held.strong_count() > 0 {
        let ended = Tail::open_at(settings, Stream::Alerts, &at, LOOK_BACK).and_then(|mut tail| {
            let ended = read(&mut tail, held);
            at.clone_from(tail.positions());
            ended
        });
        if let Err(e) = ended {
            tracing::warn!("reading alerts for the console: {e}");
            std::thread::sleep(AGAIN);
        }
    }
}

fn read(tail: &mut Tail, held: &Weak<Mutex<Held>>) -> Result<(), LogError> {
    loop {
        let next = tail.next(Duration::from_millis(500))?;
        let Some(held) = held.upgrade() else { return Ok(()) };
        if let Some(record) = next {
            held.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        }
    }
}

impl Held {
    fn push(&mut self, record: Delivered) {
        self.records.push_back(Delivered { offset: self.end, ..record });
        self.end += 1;
        if self.records.len() > HELD {
            self.records.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_offset_gets_what_is_held_and_none_comes_twice() {
        let mut held = Held { records: VecDeque::new(), end: 1_000 };
        for n in 0..(HELD + 5) {
            held.push(Delivered {
                partition: 0,
                offset: 0,
                key: None,
                value: n.to_string().into_bytes(),
                headers: Vec::new(),
                logged_at: None,
            });
        }
        let recent = Recent { held: Arc::new(Mutex::new(held)) };
        assert_eq!(recent.end(), 1_000 + HELD as i64 + 5);
        let first = recent.read(3, 2);
        assert_eq!(first.iter().map(|r| (r.offset, r.value.as_slice())).collect::<Vec<_>>(), [(1_005, &b"5"[..]), (1_006, b"6")]);
        assert_eq!(recent.read(1_007, 1)[0].value, b"7");
        assert!(recent.read(recent.end(), 10).is_empty());
    }
}
