//! One integration-test binary; a folder or file per plane.

// Tests read better with types and indices spelt out.
#![allow(clippy::type_complexity, clippy::needless_range_loop, clippy::ptr_arg)]

mod archive;
mod bad_input;
mod brokers;
mod bundle;
mod configuration;
mod demo;
mod embedded_log;
mod engine;
mod exactly_once;
#[cfg(feature = "train")]
mod future;
mod golden;
mod http;
mod import;
mod kafka_log;
mod onnxruntime;
mod operations;
mod process;
mod prometheus;
mod registry;
#[cfg(feature = "train")]
mod retrain;
mod schemas;
#[cfg(feature = "train")]
mod segments;
mod serve;
#[cfg(feature = "train")]
mod train;
mod worker;
