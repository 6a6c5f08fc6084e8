//! One integration-test binary; a folder or file per plane.
