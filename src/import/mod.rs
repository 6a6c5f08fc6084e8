//! Turns public data sets and plain CSV into interactions and labels, one file per source.
//!
//! Every source reads its files as published, row by row, and writes to one [`Sink`]; a row that is no row of the set is counted and
//! reported, never fatal, but a file without a single good row is an error. Knows no model, engine, log or command line.
//!
//! Ids come from the file's name and the position in it, so they are the same on every run and files of several sets can be joined.

pub mod cdnow;
pub mod chinese_reviews;
pub mod clinc150;
pub mod complete_journey;
pub mod csv_map;
pub mod demo;
pub mod jddc;
pub mod multidogo;
pub mod online_retail;
mod pylist;
pub(crate) mod read;
mod retail_category;
mod sink;
pub mod ssa;
pub mod uss;

pub use sink::{Place, Row, Sink, Summary, create};

use crate::interaction::Timestamp;

/// Where sets without times begin: 2021-01-01T00:00:00Z, in seconds.
const INVENTED_START: i64 = 1_609_459_200;

/// The invented time of a turn in a set that publishes none: a conversation begins one minute after the one before it, its turns are 30 s apart.
fn invented_time(conversation: usize, turn: usize) -> Timestamp {
    let seconds = INVENTED_START + 60 * conversation as i64 + 30 * turn as i64;
    Timestamp(seconds * Timestamp::MICROS_PER_SECOND)
}
