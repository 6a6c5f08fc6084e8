//! The worker loop: poll, decode, load states, apply, commit.
