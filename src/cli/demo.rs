//! `rapport demo`

/// Replays bundled real interactions through the embedded log; no install, no broker.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
