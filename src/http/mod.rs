//! Metrics, health, the API and the console, over HTTP or HTTPS. The only place where Tokio runs.
//!
//! Reads and writes through [`crate::log::Gateway`] alone; knows no worker, engine or backend.

mod status;

pub use status::{Status, WorkerStatus};
