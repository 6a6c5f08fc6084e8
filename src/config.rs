//! `rapport.toml`, then `RAPPORT_…` environment, then flags.
