//! Metrics, health, the API and the console, over HTTP or HTTPS. The only place where Tokio runs.
//!
//! Reads and writes through [`crate::log::Gateway`] alone; knows no worker, engine or backend.

mod console;
mod customer;
mod guard;
mod ingest;
mod outputs;
mod problem;
mod server;
mod status;
mod tls;

pub use outputs::shown;
pub use server::{BindError, Running, Server};
pub use status::{Status, WorkerStatus};
pub use tls::read as load_tls;
