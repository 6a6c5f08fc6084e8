//! One integration-test binary; a folder or file per plane.

mod engine;
mod brokers;
mod embedded_log;
mod http;
mod process;
mod schemas;
