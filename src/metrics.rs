//! Every metric, one function per observation.
