//! The log: where interactions come from and where effects go. Two backends, [`kafka`] and [`embedded`].
//!
//! A worker owns one [`Log`]. Its life: `poll` → decode, load states, apply → `commit`, in one thread. No transaction is open and no
//! record is in flight while `poll` runs, so a rebalance (which happens inside `poll` alone) needs no draining.

pub mod embedded;
mod erasures;
pub mod kafka;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::interaction::Timestamp;

pub type Partition = i32;

/// One input record as the log holds it.
#[derive(Debug, Clone)]
pub struct Record {
    pub partition: Partition,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    /// When the log took it (Kafka's record timestamp, whichever kind the topic has).
    pub logged_at: Option<Timestamp>,
}

impl Record {
    /// Bytes that it holds.
    pub fn size(&self) -> usize {
        self.value.len() + self.key.as_ref().map_or(0, Vec::len)
    }
}

/// A batch ends with the record that reaches this many bytes, so that a few thousand large records do not fill the memory.
pub const MOST_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub enum Polled {
    /// Nothing came within the timeout.
    Idle,
    /// At least one record, per partition in offset order.
    Records(Vec<Record>),
    /// The set of partitions that this worker owns is now this one (restored and ready); forget every cached state.
    Assigned(Vec<Partition>),
    /// A customer's state was erased at somebody's wish; forget every cached state.
    Erased,
}

/// A score, alert or dead letter on its way out. `key` null only for a dead letter whose input had none.
#[derive(Debug, Clone)]
pub struct Output {
    /// Partition of the input record that caused it.
    pub partition: Partition,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: Vec<(&'static str, String)>,
}

/// The new stored state of a customer; `None` erases it.
#[derive(Debug, Clone)]
pub struct StateChange {
    pub partition: Partition,
    pub customer_id: Box<str>,
    pub state: Option<Vec<u8>>,
}

/// Everything that becomes visible at once, or not at all.
#[derive(Debug, Default)]
pub struct Commit {
    pub scores: Vec<Output>,
    /// Scores of a challenger.
    pub shadow: Vec<Output>,
    pub alerts: Vec<Output>,
    pub dead_letters: Vec<Output>,
    pub states: Vec<StateChange>,
    /// Next offset to read by partition.
    pub offsets: BTreeMap<Partition, i64>,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing changed; the same call may be made again after a pause.
    #[error("{0}")]
    Retriable(String),
    /// Nothing of the commit is visible and the log has rewound to the last commit: forget every cached state and poll again.
    #[error("{0}")]
    Abortable(String),
    /// This worker cannot go on. The message says what to do.
    #[error("{0}")]
    Fatal(String),
}

/// Whether a log has what its worker works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It waits to be told its partitions.
    Waiting,
    /// It has been given partitions and reads their states back; `poll` announces them afterwards.
    Restoring,
    Ready,
}

/// What has happened inside a log since it was last asked; for the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LogEvents {
    /// Stored states read back so far, superseded ones of a changelog included; rises while partitions are restored.
    pub restored_states: u64,
    /// Partitions that were restored to their ends, and the seconds that it took.
    pub restores: u64,
    pub restore_seconds: f64,
    /// Interactions that retention deleted before they were read.
    pub lost_records: u64,
}

/// What a worker needs of a log.
pub trait Log {
    /// Waits up to `timeout` for up to `max` records of up to [`MOST_BYTES`].
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Polled, LogError>;

    /// The stored state of a customer as of the last commit.
    fn load(&mut self, partition: Partition, customer_id: &str) -> Result<Option<Vec<u8>>, LogError>;

    /// Makes a commit visible, atomically and durably. Borrowed, so that after a retriable failure the same can be tried again.
    fn commit(&mut self, commit: &Commit) -> Result<(), LogError>;

    /// Records behind the end of each partition that is owned or, as far as known, on its way in; for the lag metric.
    fn lag(&mut self) -> Vec<(Partition, i64)>;

    /// Whether partitions are awaited or restored. A log whose partitions are there from the start keeps the default.
    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }

    /// What has happened since the last call. A log to which none of it happens keeps the default.
    fn events(&mut self) -> LogEvents {
        LogEvents::default()
    }

    /// Leaves the group or closes the store; everything committed stays.
    fn close(&mut self) -> Result<(), LogError>;
}

/// Names of the output streams, for reading them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    Scores,
    Alerts,
    DeadLetters,
    /// Scores of a challenger that runs beside the champion.
    ScoresShadow,
}

impl Stream {
    /// Last part of its topic's name, and its name on the command line and over HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scores => "scores",
            Self::Alerts => "alerts",
            Self::DeadLetters => "dead-letters",
            Self::ScoresShadow => "scores-shadow",
        }
    }
}

/// An output record as read back. `offset` rises within its stream (embedded) or partition (Kafka).
#[derive(Debug, Clone)]
pub struct Delivered {
    pub partition: Partition,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: Vec<(String, String)>,
    /// When it was published (Kafka); of the embedded log's dead letters, when the log took the record that was refused.
    pub logged_at: Option<Timestamp>,
}

impl Delivered {
    /// A header; empty where there is none of that name.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

/// Header of a score: the offset of the interaction that it is of, in the input partition of the same number.
pub const OFFSET_HEADER: &str = "rapport.offset";

/// Where reading goes on in one partition: offsets of the next score and of the next input record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    pub score: i64,
    pub input: i64,
}

/// A score as read back, with the input record that it is of.
#[derive(Debug, Clone)]
pub struct Scored {
    pub partition: Partition,
    /// Of the score; rises within a partition.
    pub offset: i64,
    pub score: Vec<u8>,
    /// Of the input record ([`OFFSET_HEADER`]); `None` where the score does not say.
    pub input_offset: Option<i64>,
    /// `None` where the record lies before the [`Position`] at which reading began, or is gone.
    pub input: Option<Vec<u8>>,
}

impl Scored {
    /// A score whose input is still to be found.
    fn new(record: Delivered) -> Self {
        let offset = record.headers.iter().find(|(name, _)| name == OFFSET_HEADER).and_then(|(_, value)| value.parse().ok());
        Self { partition: record.partition, offset: record.offset, score: record.value, input_offset: offset, input: None }
    }
}

/// Reads every score together with what it is of, in order within a partition. Joins no group and commits nothing: where to go on is the
/// caller's to know.
pub trait Pairs {
    /// Waits up to `timeout` for up to `max` scores.
    fn next(&mut self, max: usize, timeout: Duration) -> Result<Vec<Scored>, LogError>;

    /// Whether everything that was there at the opening has been returned.
    fn at_end(&self) -> bool;
}

/// What the HTTP side needs of a log; shared by all its handlers.
pub trait Gateway: Send + Sync {
    /// Durably appends validated interactions (key, original bytes) to the input; returns once they survive kill −9.
    fn append(&self, records: Vec<(Box<str>, Vec<u8>)>) -> Result<(), LogError>;

    /// Up to `max` outputs from `from` on (embedded: a global offset of that stream). `Err` where this backend keeps no readable outputs.
    fn read(&self, stream: Stream, from: i64, max: usize) -> Result<Vec<Delivered>, LogError>;

    /// Offset after the newest output of that stream.
    fn end(&self, stream: Stream) -> Result<i64, LogError>;

    /// Stored state of a customer, if this process owns it.
    fn state(&self, customer_id: &str) -> Result<Option<Vec<u8>>, LogError>;

    /// Erases the stored state of a customer and returns once that is durable; false where this process owns none. A running worker does it.
    fn erase(&self, customer_id: &str) -> Result<bool, LogError>;
}

/// So that one worker runs on whichever log the configuration names.
impl<L: Log + ?Sized> Log for Box<L> {
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Polled, LogError> {
        (**self).poll(max, timeout)
    }

    fn load(&mut self, partition: Partition, customer_id: &str) -> Result<Option<Vec<u8>>, LogError> {
        (**self).load(partition, customer_id)
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), LogError> {
        (**self).commit(commit)
    }

    fn lag(&mut self) -> Vec<(Partition, i64)> {
        (**self).lag()
    }

    fn readiness(&self) -> Readiness {
        (**self).readiness()
    }

    fn events(&mut self) -> LogEvents {
        (**self).events()
    }

    fn close(&mut self) -> Result<(), LogError> {
        (**self).close()
    }
}
