//! One integration-test binary; a folder or file per plane.

mod bad_input;
mod brokers;
mod bundle;
mod configuration;
mod demo;
mod embedded_log;
mod engine;
mod exactly_once;
mod http;
mod import;
mod kafka_log;
mod onnxruntime;
mod process;
mod schemas;
mod serve;
mod worker;
