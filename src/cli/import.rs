//! `rapport import`

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::output::check_files;
use super::{usage, whole};
use crate::import::csv_map::{self, Mapping, MappingError};
use crate::import::{Sink, Summary, cdnow, chinese_reviews, clinc150, complete_journey, demo, jddc, multidogo, online_retail, ssa, uss};

/// Turns public data sets and CSV into interactions and labels.
///
/// Reads the files as published, gzip or not, and writes JSON Lines for `score`, `train` and `evaluate`. Ids are stable, so outputs of
/// several imports can be joined. Rows that are none are counted and named on standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rapport import uss data/uss/MWOZ.train.txt.gz --out mwoz.jsonl --labels mwoz.labels.jsonl")]
pub struct Args {
    #[command(subcommand)]
    source: Source,
}

#[derive(Debug, Subcommand)]
enum Source {
    /// User Satisfaction Simulation (SIGIR 2021): MWOZ, SGD, ReDial, CCPE.
    #[command(after_help = "Example:\n  rapport import uss MWOZ.train.txt.gz SGD.train.txt.gz --out uss.jsonl --labels uss.labels.jsonl")]
    Uss {
        #[command(flatten)]
        files: Files,
        /// Ratings become labels from this customer turn of a dialogue on; the published protocol is 4, 1 takes all.
        #[arg(long, value_name = "N", default_value_t = 4, value_parser = whole::<u16>(1..))]
        from_turn: u16,
        /// One label per rater instead of their mean.
        #[arg(long)]
        each_rater: bool,
        /// Customer turns' dialogue acts become labels of task `action`.
        #[arg(long)]
        actions: bool,
    },
    /// The Chinese part of User Satisfaction Simulation: JDDC prefix examples.
    #[command(after_help = "Example:\n  rapport import jddc JDDC.prefix-examples.txt.gz --out jddc.jsonl --labels jddc.labels.jsonl")]
    Jddc {
        #[command(flatten)]
        files: Files,
        /// Customer turns' action ids become labels of task `action`.
        #[arg(long)]
        actions: bool,
    },
    /// MultiDoGO (EMNLP 2019): customer turns in six domains with intents.
    #[command(after_help = "Example:\n  rapport import multidogo *_train.tsv.gz --out multidogo.jsonl --labels multidogo.labels.jsonl")]
    Multidogo {
        #[command(flatten)]
        files: Files,
    },
    /// Online Retail II (UCI): invoice lines of a gift shop, both years.
    #[command(
        after_help = "Example:\n  rapport import online-retail year1_2009-12_2010-12.csv.gz year2_2010-12_2011-12_positive_rows.csv.gz --out retail.jsonl"
    )]
    OnlineRetail {
        #[command(flatten)]
        files: Files,
    },
    /// The Complete Journey (dunnhumby): a year of 2,469 households at a grocer, with campaigns.
    #[command(
        after_help = "Example:\n  rapport import complete-journey transactions.csv.gz products.csv.gz campaigns.csv.gz campaign_descriptions.csv.gz --out journey.jsonl"
    )]
    CompleteJourney {
        #[command(flatten)]
        files: Files,
    },
    /// CLINC150 (EMNLP 2019): single texts with 150 intents and texts out of scope.
    #[command(
        after_help = "Example:\n  rapport import clinc150 data_full.json.gz --split train --split oos_train --out clinc.jsonl --labels clinc.labels.jsonl"
    )]
    Clinc150 {
        #[command(flatten)]
        files: Files,
        /// Only this split; may be repeated. All splits where none is named.
        #[arg(long = "split", value_name = "NAME")]
        splits: Vec<String>,
    },
    /// Chinese shopping reviews in nine categories, positive or negative.
    #[command(
        after_help = "Example:\n  rapport import chinese-reviews online_shopping_9_cats.csv.gz --out reviews.jsonl --labels reviews.labels.jsonl"
    )]
    ChineseReviews {
        #[command(flatten)]
        files: Files,
    },
    /// Session satisfaction on Taobao (EMNLP 2019): service sessions as word ids.
    #[command(after_help = "Example:\n  rapport import ssa makeup.zip --out ssa.jsonl --labels ssa.labels.jsonl")]
    Ssa {
        #[command(flatten)]
        files: Files,
    },
    /// The CDNOW sample: CD purchases.
    #[command(after_help = "Example:\n  rapport import cdnow CDNOW_sample.txt --out cdnow.jsonl")]
    Cdnow {
        #[command(flatten)]
        files: Files,
    },
    /// Any CSV with a header line, by a mapping of its columns.
    #[command(
        after_help = "Example:\n  rapport import csv calls.csv --map customer_id=cust --map occurred_at=date --map text=note --set kind=call \\\n    --time-format '%d.%m.%Y %H:%M' --label satisfaction=stars --out calls.jsonl --labels calls.labels.jsonl"
    )]
    Csv {
        #[command(flatten)]
        files: Files,
        /// A field of the interaction and the column that holds it; `attributes.NAME` for anything else. May be repeated.
        #[arg(long = "map", value_name = "FIELD=COLUMN", value_parser = pair)]
        columns: Vec<(String, String)>,
        /// A field and what it is in every row. May be repeated.
        #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = pair)]
        constants: Vec<(String, String)>,
        /// A task and the column that holds its label; `satisfaction` is a number 1 to 5. May be repeated.
        #[arg(long = "label", value_name = "TASK=COLUMN", value_parser = pair)]
        label_columns: Vec<(String, String)>,
        /// Form of occurred_at: a strftime pattern, `unix` or `unix-ms`. Common forms are recognised; no offset means UTC.
        #[arg(long, value_name = "FORMAT")]
        time_format: Option<String>,
        /// What separates the columns; `\t` for tab.
        #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = delimiter)]
        delimiter: u8,
        /// Write in file order with bounded memory instead of sorting by time.
        #[arg(long)]
        in_file_order: bool,
    },
    /// The interactions that ship with `rapport demo`, from MultiDoGO and Online Retail II.
    #[command(
        after_help = "Example:\n  rapport import demo --multidogo data/multidogo --online-retail data/online_retail_ii --out deploy/demo/interactions.jsonl.gz"
    )]
    Demo {
        /// Folder of the MultiDoGO files.
        #[arg(long, value_name = "DIR")]
        multidogo: PathBuf,
        /// Folder of both years of Online Retail II.
        #[arg(long, value_name = "DIR")]
        online_retail: PathBuf,
        /// Decides which conversations and customers are taken.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u64>(..))]
        seed: u64,
        /// Where the interactions go, gzip if the name ends in .gz.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Files {
    /// Files of the set as published, gzip or not.
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// Where interactions go, as JSON Lines, gzip if the name ends in .gz [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where labels go; none are written without this.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let summary = match args.source {
        Source::Uss { files, from_turn, each_rater, actions } => {
            let options = uss::Options { from_turn: from_turn.into(), each_rater, actions };
            files.each(|path, sink| uss::import(path, options, sink))
        }
        Source::Jddc { files, actions } => files.each(|path, sink| jddc::import(path, actions, sink)),
        Source::Multidogo { files } => files.each(multidogo::import),
        Source::OnlineRetail { files } => {
            let mut sink = files.sink()?;
            online_retail::import(&files.inputs, &mut sink)?;
            sink.finish()
        }
        Source::CompleteJourney { files } => {
            let mut sink = files.sink()?;
            complete_journey::import(&files.inputs, &mut sink)?;
            sink.finish()
        }
        Source::Clinc150 { files, splits } => files.each(|path, sink| clinc150::import(path, &splits, sink)),
        Source::ChineseReviews { files } => files.each(chinese_reviews::import),
        Source::Ssa { files } => files.each(ssa::import),
        Source::Cdnow { files } => files.each(cdnow::import),
        Source::Csv { files, columns, constants, label_columns, time_format, delimiter, in_file_order } => {
            let mapping =
                Mapping::new(columns, constants, label_columns, time_format.as_deref(), delimiter).map_err(|e| usage(e.to_string()))?;
            // Before an output is opened, which empties it.
            files.check()?;
            files
                .inputs
                .iter()
                .try_for_each(|path| csv_map::check(path, &mapping))
                .map_err(|e| if e.is::<MappingError>() { usage(e.to_string()) } else { e })?;
            let sink = files.open()?;
            let sink = if in_file_order { sink } else { sink.in_order_of_time() };
            files.each_into(sink, |path: &Path, sink: &mut Sink| csv_map::import(path, &mapping, sink))
        }
        Source::Demo { multidogo, online_retail, seed, out } => {
            let mut sink = Sink::create(Some(&out), None)?.in_order_of_time();
            demo::import(&multidogo, &online_retail, seed, &mut sink)?;
            sink.finish()
        }
    }?;
    report(&summary);
    Ok(())
}

impl Files {
    fn check(&self) -> anyhow::Result<()> {
        if let Some(missing) = self.inputs.iter().find(|path| !path.is_file()) {
            return Err(usage(format!("{} is no file; name the files of the set", missing.display())));
        }
        let inputs: Vec<(&str, &Path)> = self.inputs.iter().map(|p| ("the input", p.as_path())).collect();
        let outputs = [("--out", &self.out), ("--labels", &self.labels)];
        check_files(&inputs, &outputs.into_iter().filter_map(|(flag, p)| p.as_deref().map(|p| (flag, p))).collect::<Vec<_>>())
    }

    fn sink(&self) -> anyhow::Result<Sink> {
        self.check()?;
        self.open()
    }

    /// Empties the outputs, which must have been checked.
    fn open(&self) -> anyhow::Result<Sink> {
        Sink::create(self.out.as_deref(), self.labels.as_deref())
    }

    fn each(&self, import: impl Fn(&Path, &mut Sink) -> anyhow::Result<()>) -> anyhow::Result<Summary> {
        self.each_into(self.sink()?, import)
    }

    fn each_into(&self, mut sink: Sink, import: impl Fn(&Path, &mut Sink) -> anyhow::Result<()>) -> anyhow::Result<Summary> {
        for path in &self.inputs {
            import(path, &mut sink)?;
        }
        sink.finish()
    }
}

fn report(summary: &Summary) {
    for (reason, count) in &summary.reasons {
        eprintln!("{count} rows left out: {reason}");
    }
    eprintln!("{} interactions, {} labels, {} rows skipped", summary.interactions, summary.labels, summary.skipped);
}

/// `NAME=VALUE` at the first `=`.
fn pair(argument: &str) -> Result<(String, String), String> {
    match argument.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.into(), value.into())),
        _ => Err("it should be NAME=VALUE".into()),
    }
}

fn delimiter(argument: &str) -> Result<u8, String> {
    match argument.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [one] => Ok(*one),
        _ => Err("it should be one ASCII character, or \\t".into()),
    }
}
