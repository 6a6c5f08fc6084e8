//! The page: one self-contained HTML file without scripts or anything from outside.

use std::fmt::Write as _;

use super::plot::{Axes, Line, lines};
use super::{Report, ahead, escape, profiles, shifts};
use crate::train::bootstrap::Interval;
use crate::train::fit::Epoch;
use crate::train::future::judge::FutureReport;
use crate::train::judge::TaskReport;
use crate::train::metrics::{Confusion, Quality};
use crate::train::search::Trial;
use crate::train::slices::Slice;

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn page(report: &Report) -> anyhow::Result<String> {
    let mut html = String::new();
    let title = format!("Model {}", escape(&report.model));
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p class=\"soft\">{}</p>\n",
        escape(&opening(report))
    )?;
    html += &summary(report);
    for (name, task) in &report.tasks {
        html += &one_task(name, task)?;
    }
    if let Some(future) = &report.future {
        html += &ahead::sections(future)?;
    }
    if let Some(segments) = &report.segments {
        html += &profiles::section(segments);
    }
    html += &learning(report)?;
    html += &shifts::section(&report.outputs, &report.inputs)?;
    html += &data(report);
    html += "</body>\n</html>\n";
    Ok(html)
}

fn opening(report: &Report) -> String {
    let d = &report.data;
    let range = format!("{} to {}", d.from.get(..10).unwrap_or(&d.from), d.to.get(..10).unwrap_or(&d.to));
    let parent = d.parent.as_ref().map_or(String::new(), |parent| format!("; follows {parent}"));
    format!(
        "Trained on {} interactions of {} customers, {range}, of SHA-256 {}; seed {}, rapport {}{parent}.",
        d.interactions, d.customers, d.hash, d.seed, d.code
    )
}

pub fn percent(x: f64) -> String {
    format!("{:.1}", 100.0 * x)
}

fn between(interval: Option<&Interval>) -> String {
    interval.map_or(String::new(), |[low, high]| format!("{}–{}", percent(*low), percent(*high)))
}

fn summary(report: &Report) -> String {
    let mut html = String::from("<section>\n<h2>How good it is</h2>\n");
    if report.tasks.is_empty() {
        let ahead = report.future.as_ref().is_some_and(|f| *f != FutureReport::default());
        html += if ahead {
            "<p>Nobody gave labels to judge by; what the data itself tells is below.</p>\n</section>\n"
        } else {
            "<p>No task has labels in the part that judges, so nobody knows how good this model is.</p>\n</section>\n"
        };
        return html;
    }
    html += "<p>Every figure is from the part that was set aside for judging: no network, baseline or calibration was fitted on it. Accuracy, macro-F1 and AUROC \
             are in per cent, with 95 % intervals from 1,000 resamples of the customers.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th>task</th><th>labels</th>\
             <th>accuracy</th><th></th><th>macro-F1</th><th></th><th>AUROC</th><th></th><th>log-loss</th><th>calibration error</th><th>at most</th></tr></thead>\n<tbody>\n";
    let area = |a: Option<f64>| a.map_or("–".into(), percent);
    for (name, t) in &report.tasks {
        let q: &Quality = &t.quality;
        let i = |figure: &str| between(t.intervals.get(figure));
        html += &format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"interval\">{}</td><td>{}</td><td class=\"interval\">{}</td><td>{}</td><td class=\"interval\">{}</td>\
             <td>{:.3}</td><td>{:.3}</td><td>{:.3}</td></tr>\n",
            escape(name),
            q.n,
            percent(q.accuracy),
            i("accuracy"),
            percent(q.macro_f1),
            i("macro_f1"),
            area(t.auroc),
            i("auroc"),
            q.log_loss,
            q.ece,
            t.ece_limit
        );
        for (baseline, b) in &t.baselines {
            let q = &b.quality;
            html += &format!(
                "<tr class=\"baseline\"><td>{}</td><td></td><td>{}</td><td></td><td>{}</td><td></td><td>{}</td><td></td><td>{:.3}</td><td>{:.3}</td><td></td></tr>\n",
                escape(&b.title(baseline)),
                percent(q.accuracy),
                percent(q.macro_f1),
                area(b.auroc),
                q.log_loss,
                q.ece
            );
        }
    }
    html += "</tbody></table></div>\n</section>\n";
    html
}

/// A list of sentences, each good or bad news.
pub fn verdicts(said: &[(bool, String)]) -> String {
    let line = |(good, text): &(bool, String)| format!("<li class=\"{}\">{}</li>\n", if *good { "good" } else { "bad" }, escape(text));
    format!("<ul class=\"verdicts\">\n{}</ul>\n", said.iter().map(line).collect::<String>())
}

fn is_good(verdict: &str) -> bool {
    verdict.starts_with("The network beats") || verdict.starts_with("Its probabilities can")
}

fn one_task(name: &str, t: &TaskReport) -> anyhow::Result<String> {
    let said: Vec<(bool, String)> = t.verdicts.iter().map(|v| (is_good(v), v.clone())).collect();
    let mut html = format!("<section>\n<h2>{}</h2>\n{}", escape(name), verdicts(&said));
    if let Some(a) = &t.rating {
        html += &format!(
            "<p>Estimated against given ratings: root mean squared error {:.2}, on average {:+.2} from the mark; always saying the mean of the training labels: {:.2}.</p>\n",
            a.rmse, a.bias, a.rmse_of_constant
        );
    }
    if !t.recall_at.is_empty() {
        let recalls: Vec<String> = t.recall_at.iter().map(|(k, share)| format!("{} % among the {k} likeliest", percent(*share))).collect();
        html += &format!("<p>The right label is {}.</p>\n", recalls.join(", ").replace("among the 1 likeliest", "the likeliest"));
    }
    if let Some(n) = t.unknown_labels.filter(|n| *n > 0) {
        html += &format!("<p>{n} labels of the part that judges are of classes too rare to learn and are not judged.</p>\n");
    }
    html += "<div class=\"figures\">\n";
    let unit = |title, x, y| Axes { title, x, y, xs: 0.0..1.0, ys: 0.0..1.0, whole: false };
    let reliability = Line { name: String::new(), points: t.reliability.iter().map(|b| (b.probability, b.share)).collect(), marked: true };
    html += &lines(&unit("Reliability", "probability that was said", "share that happened"), &[reliability], true)?;
    if !t.roc.is_empty() {
        let curve = Line { name: String::new(), points: t.roc.iter().map(|p| (p[0], p[1])).collect(), marked: false };
        let title = format!("ROC of dissatisfied, area {}", t.auroc.map_or("–".into(), percent));
        html += &lines(&unit(&title, "share of others called so", "share of them found"), &[curve], true)?;
    }
    html += &matrix(&t.confusion);
    html += "</div>\n";
    html += &slices(&t.slices, t.baselines.iter().find(|(_, b)| b.of.is_none()).map(|(name, _)| *name));
    html += "</section>\n";
    Ok(html)
}

fn matrix(c: &Confusion) -> String {
    // Many columns are numbered as their rows are, and very many are small.
    let many = c.labels.len() > 4;
    let (figure, table) = match c.labels.len() {
        0..=8 => ("", ""),
        9..=20 => (" class=\"wide\"", ""),
        _ => (" class=\"wide\"", " dense"),
    };
    let mut html = format!(
        "<figure{figure}><figcaption>Confusion: rows are true, columns said</figcaption><div class=\"scroll\"><table class=\"confusion{table}\">\n<thead><tr><th></th>"
    );
    for (i, label) in c.labels.iter().enumerate() {
        html += &format!("<th>{}</th>", if many { (i + 1).to_string() } else { escape(label) });
    }
    html += "</tr></thead>\n<tbody>\n";
    for (i, (label, row)) in c.labels.iter().zip(&c.counts).enumerate() {
        let total = row.iter().sum::<usize>().max(1);
        let number = if many { format!("{} ", i + 1) } else { String::new() };
        html += &format!("<tr><th title=\"{0}\">{number}{0}</th>", escape(label));
        for n in row {
            let share = 70 * n / total;
            let shown = if *n == 0 && many { String::new() } else { n.to_string() };
            html += &format!("<td style=\"background:color-mix(in srgb,var(--s0) {share}%,transparent)\">{shown}</td>");
        }
        html += "</tr>\n";
    }
    html += "</tbody></table></div></figure>\n";
    html
}

fn slices(slices: &[Slice], baseline: Option<&str>) -> String {
    if slices.is_empty() {
        return String::new();
    }
    let head = baseline.map_or(String::new(), |name| format!("<th>{} accuracy</th>", escape(name)));
    let mut html = format!(
        "<h3>By part</h3>\n<div class=\"scroll\"><table>\n<thead><tr><th>part</th><th class=\"left\"></th><th>labels</th><th>accuracy</th><th></th><th>macro-F1</th><th>log-loss</th>\
         <th>bias</th>{head}<th class=\"left\">beware</th></tr></thead>\n<tbody>\n"
    );
    for s in slices {
        let theirs = baseline.map_or(String::new(), |b| format!("<td>{}</td>", s.baselines.get(b).map_or(String::new(), |a| percent(*a))));
        html += &format!(
            "<tr><td>{}</td><td class=\"left\">{}</td><td>{}</td><td>{}</td><td class=\"interval\">{}</td><td>{}</td><td>{:.3}</td><td>{:+.3}</td>{theirs}<td class=\"fails\">{}</td></tr>\n",
            s.by,
            escape(&s.value),
            s.n,
            percent(s.accuracy),
            between(Some(&s.interval)),
            percent(s.macro_f1),
            s.log_loss,
            s.bias,
            escape(s.fails.as_deref().unwrap_or_default())
        );
    }
    html += "</tbody></table></div>\n<p class=\"soft\">Bias: mean probability that was said − share that happened.</p>\n";
    html
}

fn learning(report: &Report) -> anyhow::Result<String> {
    let mut plots = String::new();
    let mut said = String::new();
    if report.epochs.iter().any(|e| e.fit != 0.0) {
        said = "Nothing was fitted on the calibration part but the scale of the probabilities.".into();
        if report.kept_epoch < report.epochs.len() {
            said += &format!(" The weights after epoch {} were kept.", report.kept_epoch);
        }
        plots += &epochs(&report.epochs)?;
    }
    if !report.future_losses.is_empty() {
        let points = (1..).zip(&report.future_losses).map(|(epoch, loss)| (f64::from(epoch), f64::from(*loss))).collect();
        let line = Line { name: String::new(), points, marked: true };
        plots += &by_epoch("Loss of churn, spend and next need", vec![line])?;
    }
    if plots.is_empty() {
        return Ok(plots);
    }
    let trials = trials(&report.trials);
    Ok(format!("<section>\n<h2>How it learned</h2>\n<p>{said}</p>\n<div class=\"figures\">\n{plots}</div>\n{trials}</section>\n"))
}

fn epochs(epochs: &[Epoch]) -> anyhow::Result<String> {
    let point = |epoch: usize, loss: f32| (epoch as f64, f64::from(loss));
    let fit =
        Line { name: "fitted part, with dropout".into(), points: epochs.iter().map(|e| point(e.epoch, e.fit)).collect(), marked: true };
    let held: Vec<_> = epochs.iter().filter_map(|e| Some(point(e.epoch, e.calibration?))).collect();
    let mut curves = vec![fit];
    if !held.is_empty() {
        curves.push(Line { name: "calibration part".into(), points: held, marked: true });
    }
    by_epoch("Loss per label after each epoch", curves)
}

/// Losses that are all above 0 are shown from 0 on; of others, only differences mean anything.
fn by_epoch(title: &str, curves: Vec<Line>) -> anyhow::Result<String> {
    let points = || curves.iter().flat_map(|line| &line.points);
    let last = points().map(|p| p.0).fold(2.0, f64::max);
    let (least, most) = points().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), p| (least.min(p.1), most.max(p.1)));
    let room = (0.1 * (most - least)).max(1e-3);
    let ys = if least >= 0.0 { 0.0..1.1 * most } else { least - room..most + room };
    lines(&Axes { title, x: "epoch", y: "loss", xs: 1.0..last, ys, whole: true }, &curves, false)
}

fn trials(trials: &[Trial]) -> String {
    let Some(first) = trials.first() else { return String::new() };
    let keys: String = first.settings.keys().map(|key| format!("<th>{key}</th>")).collect();
    let least = trials.iter().filter_map(|t| t.loss).fold(f32::INFINITY, f32::min);
    let mut html = format!(
        "<h3>Search</h3>\n<div class=\"scroll\"><table>\n<thead><tr><th>trial</th>{keys}<th>calibration loss</th><th></th></tr></thead>\n<tbody>\n"
    );
    for (i, t) in trials.iter().enumerate() {
        let values: String = t.settings.values().map(|v| format!("<td>{v:.4}</td>")).collect();
        let loss = t.loss.map_or("–".into(), |l| format!("{l:.4}"));
        let kept = if t.loss == Some(least) { "kept" } else { "" };
        html += &format!("<tr><td>{}</td>{values}<td>{loss}</td><td>{kept}</td></tr>\n", i + 1);
    }
    html + "</tbody></table></div>\n"
}

fn data(report: &Report) -> String {
    let d = &report.data;
    let mut html = format!(
        "<section>\n<h2>Data</h2>\n<p>{} to {}: {} interactions of {} customers, {} labels; {} records were rejected ({} of them late), {} were duplicates. \
         Labels of the future look {} days ahead.</p>\n<p>{}</p>\n<div class=\"scroll\"><table>\n<thead><tr><th>part</th><th>customers</th><th>interactions</th><th>labelled interactions</th></tr></thead>\n<tbody>\n",
        escape(&d.from),
        escape(&d.to),
        d.interactions,
        d.customers,
        d.labels,
        d.rejected,
        d.late,
        d.duplicates,
        d.horizon_days,
        escape(&d.holdout)
    );
    for p in &d.parts {
        html += &format!("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n", p.part, p.customers, p.interactions, p.labels);
    }
    html += "</tbody></table></div>\n";
    if !report.left_out.is_empty() {
        html += "<h3>Left out</h3>\n<ul>\n";
        for what in &report.left_out {
            html += &format!("<li>{}</li>\n", escape(what));
        }
        html += "</ul>\n";
    }
    html += "</section>\n";
    html
}
