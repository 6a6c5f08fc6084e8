//! `rapport score`

/// Scores files of interactions with the engine of `serve`, from empty state.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
