//! `rapport` reads live customer interactions and says which customer is becoming unhappy and why.
//!
//! Uses point one way: `cli` → `worker`, `http` → `engine` → `model`, `alert` → `features` → `customer` → `interaction`.
//! `engine` and what it uses know no log, clock, disk or thread.

pub mod alert;
pub mod archive;
pub mod cli;
pub mod config;
pub mod customer;
pub mod engine;
pub mod features;
pub mod http;
pub mod import;
pub mod interaction;
pub mod log;
pub mod metrics;
pub mod model;
mod s3;
pub mod simulate;
pub mod train;
pub mod worker;
