//! One integration-test binary; a folder or file per plane.

mod bad_input;
mod brokers;
mod bundle;
mod demo;
mod embedded_log;
mod engine;
mod http;
mod import;
mod kafka_log;
mod process;
mod schemas;
mod serve;
mod worker;
