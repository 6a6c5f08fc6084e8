//! One integration-test binary; a folder or file per plane.

mod embedded_log;
