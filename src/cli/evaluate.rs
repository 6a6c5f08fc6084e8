//! `rapport evaluate`: how good a bundle is on labelled interactions, beside its baselines.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::output::{check_files, put};
use super::{STDOUT, UNSORTED, as_bar, engine_settings, is_unsorted, load_model, spinner, usage, whole};
use crate::interaction::Timestamp;
use crate::train::evaluate::{Report, evaluate};
use crate::train::future::judge::FutureReport;
use crate::train::metrics::Quality;

/// Judges a model bundle on labelled interactions.
///
/// Scores come from the engine of `serve`, from empty state; nothing is fitted. Prints a table and, with --json, writes the figures. Judges all that is
/// given: memory grows with the number of interactions.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  rapport evaluate --model onnx/champion --interactions mwoz.jsonl --labels mwoz.labels.jsonl --json mwoz.json\n  \
                  rapport evaluate --model bundles/retail --interactions retail.jsonl --as-of 2011-06-09T00:00:00Z --horizon-days 183"
)]
pub struct Args {
    /// Model bundle.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Interactions: JSON Lines (plain or gzip) or .parquet, read one after the other. A directory, or s3://bucket/prefix, stands for the files under it (.parquet, .jsonl,
    /// .ndjson, also .gz) in the order of their names, which in an archive keeps each customer's order.
    #[arg(long, value_name = "F", num_args = 1.., required = true)]
    interactions: Vec<PathBuf>,
    /// Labels, JSON Lines; ratings among the interactions count too.
    #[arg(long, value_name = "F", num_args = 1..)]
    labels: Vec<PathBuf>,
    /// Only interactions before this time (RFC 3339).
    #[arg(long, value_name = "T")]
    as_of: Option<String>,
    /// With --as-of: how far ahead churn, spend and next need look, in days; the bundle's otherwise. Their labels come from the
    /// interactions at and after that time.
    #[arg(long, value_name = "N", requires = "as_of", value_parser = whole::<u32>(1..=3650))]
    horizon_days: Option<u32>,
    /// Where to write the figures as JSON; `-` is standard output, in place of the table.
    #[arg(long, value_name = "F")]
    json: Option<PathBuf>,
    /// Where to write the figures as a page that stands alone, with plots and parts, as a bundle's report.html; `-` is standard
    /// output, in place of the table.
    #[cfg(feature = "train")]
    #[arg(long, value_name = "F")]
    html: Option<PathBuf>,
}

impl Args {
    /// The files to write, by flag.
    fn outputs(&self) -> Vec<(&'static str, &Path)> {
        let json = self.json.as_deref().map(|p| ("--json", p));
        #[cfg(feature = "train")]
        let html = self.html.as_deref().map(|p| ("--html", p));
        #[cfg(not(feature = "train"))]
        let html = None;
        json.into_iter().chain(html).collect()
    }
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let as_of = args.as_of.as_deref().map(Timestamp::parse).transpose().map_err(|e| usage(format!("--as-of: {e}")))?;
    if args.interactions.iter().any(|p| p.as_os_str() == "-") {
        return Err(usage("--interactions -: evaluation reads its input twice, name a file"));
    }
    let inputs: Vec<(&str, &Path)> = (args.interactions.iter().map(|p| ("--interactions", p.as_path())))
        .chain(args.labels.iter().map(|p| ("--labels", p.as_path())))
        .collect();
    check_files(&inputs, &args.outputs())?;
    let (policies, _) = engine_settings(None)?;
    let model = load_model(&args.model)?;
    let bar = spinner("reading");
    let (report, counts) = evaluate(model, policies, &args.interactions, &args.labels, as_of, args.horizon_days, |done, total| {
        if bar.length() != Some(total as u64) {
            bar.set_message("scoring");
            as_bar(&bar);
            bar.set_length(total as u64);
        }
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    if is_unsorted(counts.late, counts.interactions + counts.rejected) {
        eprintln!("{} interactions were late: {UNSORTED}", counts.late);
    }
    if counts.labels_without_interaction > 0 {
        eprintln!("{} labels name no accepted interaction and were left out", counts.labels_without_interaction);
    }
    if let Some(seen) = &report.seen {
        eprintln!("{seen}");
    }
    #[cfg(feature = "train")]
    if let Some(path) = &args.html {
        put(path, &crate::train::page(&report, &what(&args, counts.interactions))?)?;
    }
    if let Some(path) = &args.json {
        put(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    if args.outputs().iter().any(|(_, path)| *path == Path::new("-")) { Ok(()) } else { print(&report).context(STDOUT) }
}

/// What was judged, in words.
#[cfg(feature = "train")]
fn what(args: &Args, interactions: usize) -> String {
    let files: Vec<String> = args.interactions.iter().map(|p| p.display().to_string()).collect();
    let at = args.as_of.as_ref().map_or(String::new(), |t| {
        let days = args.horizon_days.map_or(String::new(), |days| format!(", {days} days ahead"));
        format!(", as of {t}{days}")
    });
    format!("Judged on {interactions} interactions of {}{at}.", files.join(", "))
}

fn print(report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if !report.tasks.is_empty() {
        writeln!(out, "{:<24} {:>7} {:>9} {:>9} {:>9} {:>7}", "task", "n", "accuracy", "macro-F1", "log-loss", "ECE")?;
    }
    let mut line = |name: &str, q: &Quality| {
        let (accuracy, f1) = (100.0 * q.accuracy, 100.0 * q.macro_f1);
        writeln!(out, "{name:<24} {:>7} {accuracy:>9.2} {f1:>9.2} {:>9.4} {:>7.4}", q.n, q.log_loss, q.ece)
    };
    for (task, r) in &report.tasks {
        line(task, &r.quality)?;
        for (name, baseline) in &r.baselines {
            line(&format!("  {}", baseline.title(name)), &baseline.quality)?;
        }
    }
    future(&report.future, &mut out)
}

fn future(report: &FutureReport, out: &mut impl Write) -> std::io::Result<()> {
    if let Some(r) = &report.churn {
        writeln!(out, "\n{:<24} {:>7} {:>9} {:>9} {:>9} {:>9}", "", "n", "AUROC", "log-loss", "ECE", "accuracy")?;
        let all = [("churn", &r.quality)].into_iter().chain(r.baselines.iter().map(|(name, q)| (*name, q)));
        for (i, (name, q)) in all.enumerate() {
            let indent = if i == 0 { "" } else { "  " };
            let accuracy = 100.0 * q.accuracy;
            let name = format!("{indent}{name}");
            writeln!(out, "{name:<24} {:>7} {:>9.4} {:>9.4} {:>9.4} {accuracy:>9.2}", r.n, q.auroc, q.log_loss, q.ece)?;
        }
    }
    if let Some(r) = &report.spend {
        writeln!(
            out,
            "\n{:<24} {:>7} {:>15} {:>9} {:>9} {:>7} {:>12} {:>9}",
            "", "n", "RMSE purchases", "deviance", "bias", "days", "RMSE amount", "bias"
        )?;
        let all = [("spend", &r.quality)].into_iter().chain(r.baselines.iter().map(|(name, q)| (*name, q)));
        let percent = |bias: Option<f64>| bias.map_or("–".into(), |b| format!("{:+.1} %", 100.0 * b));
        for (i, (name, q)) in all.enumerate() {
            let indent = if i == 0 { "" } else { "  " };
            let (purchases, amount) = (percent(q.bias_purchases), percent(q.bias_amount));
            let name = format!("{indent}{name}");
            let days = q.rmse_days.map_or("–".into(), |d| format!("{d:.3}"));
            let (deviance, rmse) = (q.deviance_purchases, q.rmse_amount);
            writeln!(
                out,
                "{name:<24} {:>7} {:>15.3} {deviance:>9.3} {purchases:>9} {days:>7} {rmse:>12.2} {amount:>9}",
                r.n, q.rmse_purchases
            )?;
        }
        let (expected, actual, before, new) = (&r.expected, &r.actual, &r.last_period, &r.last_period_newcomers);
        let mut sums = |what, expected, actual, before, new| {
            writeln!(out, "{what}: {expected} expected, {actual:.0} came, {before:.0} as long before, {new:.0} of newcomers then")
        };
        sums("purchases", expected.purchases, actual.purchases, before.purchases, new.purchases)?;
        sums("amount", expected.amount, actual.amount, before.amount, new.amount)?;
    }
    if let Some(r) = &report.next_need {
        writeln!(out, "\n{:<24} {:>7} {:>9} {:>9} {:>9}", "", "n", "recall@1", "recall@3", "recall@5")?;
        let all = [("next_need", &r.quality)].into_iter().chain(r.baselines.iter().map(|(name, q)| (*name, q)));
        for (i, (name, q)) in all.enumerate() {
            let indent = if i == 0 { "" } else { "  " };
            let name = format!("{indent}{name}");
            writeln!(out, "{name:<24} {:>7} {:>9.4} {:>9.4} {:>9.4}", r.n, q.recall_at_1, q.recall_at_3, q.recall_at_5)?;
        }
    }
    Ok(())
}
