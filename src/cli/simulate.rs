//! `rapport simulate`: files of invented interactions, as many as wanted.

use std::path::{Path, PathBuf};

use parquet::arrow::ArrowWriter;
use serde_json::json;

use super::output::LineWriter;
use super::{progress_bar, whole};
use crate::archive::columns;
use crate::interaction::Interaction;
use crate::simulate::{Said, Settings, simulate};

/// Writes invented interactions in time order, to try sizes and speeds; nothing can be learnt from them about real customers.
///
/// Purchases follow BG/NBD (customers with rates and probabilities of leaving of their own); chats and tickets are put together from a few
/// sentences in English and Chinese. The same numbers and seed give the same file, which is written as it is made.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  rapport simulate --interactions 10000000 --customers 500000 --seed 1 --out big.parquet --labels big.labels.jsonl")]
pub struct Args {
    /// How many interactions.
    #[arg(long, value_name = "N", value_parser = whole::<u64>(..))]
    interactions: u64,
    /// Of how many customers.
    #[arg(long, value_name = "M", value_parser = whole::<u32>(1..))]
    customers: u32,
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = whole::<u64>(..))]
    seed: u64,
    /// Where they go: .parquet, else JSON Lines; `-` is standard output.
    #[arg(long, value_name = "F")]
    out: PathBuf,
    /// Labels of satisfaction and intent, JSON Lines.
    #[arg(long, value_name = "F")]
    labels: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let settings = Settings { interactions: args.interactions, customers: args.customers, seed: args.seed };
    let mut out = Sink::create(&args.out)?;
    let mut labels = args.labels.as_deref().map(LineWriter::create).transpose()?;
    let bar = progress_bar("simulating");
    bar.set_length(args.interactions);
    simulate(settings, |number, interaction, said| {
        if let Some(labels) = &mut labels {
            for said in said {
                labels.write(&match said {
                    Said::Satisfaction(value) => json!({"interaction_id": interaction.id, "task": "satisfaction", "value": value}),
                    Said::Intent(class) => json!({"interaction_id": interaction.id, "task": "intent", "value": class}),
                })?;
            }
        }
        if number.is_multiple_of(8192) {
            bar.set_position(number);
        }
        out.write(interaction)
    })?;
    out.finish()?;
    labels.map(LineWriter::finish).transpose()?;
    bar.finish_and_clear();
    Ok(())
}

/// Interactions on their way into a file.
enum Sink {
    Lines(LineWriter),
    Parquet(Box<ArrowWriter<std::fs::File>>, Vec<Interaction>),
}

const ROWS: usize = 8192;

impl Sink {
    fn create(path: &Path) -> anyhow::Result<Self> {
        if path.extension().is_none_or(|e| e != "parquet") {
            return LineWriter::create(path).map(Self::Lines);
        }
        let file = super::output::create(path)?;
        Ok(Self::Parquet(Box::new(ArrowWriter::try_new(file, columns::schema(), Some(columns::properties()))?), Vec::new()))
    }

    fn write(&mut self, interaction: Interaction) -> anyhow::Result<()> {
        match self {
            Self::Lines(lines) => lines.write(&interaction),
            Self::Parquet(writer, rows) => {
                rows.push(interaction);
                if rows.len() >= ROWS {
                    writer.write(&columns::batch(rows)?)?;
                    rows.clear();
                }
                Ok(())
            }
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Lines(lines) => lines.finish(),
            Self::Parquet(mut writer, rows) => {
                writer.write(&columns::batch(&rows)?)?;
                writer.close()?;
                Ok(())
            }
        }
    }
}
