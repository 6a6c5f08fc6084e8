//! `rapport check`

/// Looks at configuration, broker, topics and model, and says what is wrong.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
