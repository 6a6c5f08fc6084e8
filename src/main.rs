//! The `rapport` binary: parse arguments, set up logging, dispatch, map errors to exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    rapport::cli::main()
}
