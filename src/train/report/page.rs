//! The page: one self-contained HTML file without scripts or anything from outside.

use std::collections::BTreeMap;

use super::{Report, ahead, anomaly, escape, learning, profiles, shifts, task};
use crate::train::bootstrap::Interval;
use crate::train::evaluate;
use crate::train::future::judge::FutureReport;
use crate::train::judge::TaskReport;
use crate::train::metrics::Quality;

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn page(report: &Report) -> anyhow::Result<String> {
    let mut html = beginning(&report.model, &opening(report));
    html += &judgements(&report.tasks, report.future.as_ref(), UNSEEN)?;
    if let Some(segments) = &report.segments {
        html += &profiles::section(segments);
    }
    if let Some(anomaly) = &report.anomaly {
        html += &anomaly::section(anomaly)?;
    }
    html += &learning::section(report)?;
    html += &shifts::section(&report.outputs, &report.inputs)?;
    html += &data(report);
    html += "</body>\n</html>\n";
    Ok(html)
}

/// The page of a judgement without a training.
///
/// # Errors
/// A plot that cannot be drawn.
pub fn judged(report: &evaluate::Report, what: &str) -> anyhow::Result<String> {
    let mut html = beginning(&report.model, what);
    html += &judgements(&report.tasks, Some(&report.future), report.seen.as_deref().unwrap_or(LATER))?;
    html += "</body>\n</html>\n";
    Ok(html)
}

fn beginning(model: &str, opening: &str) -> String {
    let title = format!("Model {}", escape(model));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p class=\"soft\">{}</p>\n",
        escape(opening)
    )
}

/// `standing` says how far figures can be believed.
fn judgements(tasks: &BTreeMap<String, TaskReport>, future: Option<&FutureReport>, standing: &str) -> anyhow::Result<String> {
    let mut html = summary(tasks, future, standing);
    for (name, judged) in tasks {
        html += &task::section(name, judged)?;
    }
    if let Some(future) = future {
        html += &ahead::sections(future)?;
    }
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

pub fn between(interval: Option<&Interval>) -> String {
    interval.map_or(String::new(), |[low, high]| format!("{}–{}", percent(*low), percent(*high)))
}

/// Of a judgement without a training.
const LATER: &str = "Nothing of what these figures are of is known to lie in the time that the model was trained on.";
const UNSEEN: &str = "No network, baseline or calibration was fitted on what these figures are of.";

fn summary(tasks: &BTreeMap<String, TaskReport>, future: Option<&FutureReport>, standing: &str) -> String {
    let mut html = format!("<section>\n<h2>How good it is</h2>\n<p>{}</p>\n", escape(standing));
    if tasks.is_empty() {
        let ahead = future.is_some_and(|f| *f != FutureReport::default());
        html += if ahead {
            "<p>Nobody gave labels to judge by; what the data itself tells is below.</p>\n</section>\n"
        } else {
            "<p>No task has labels in the part that judges, so nobody knows how good this model is.</p>\n</section>\n"
        };
        return html;
    }
    html += "<p>Accuracy, macro-F1 and AUROC are in per cent, with 95 % intervals from 1,000 resamples of the customers.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th>task</th><th>labels</th>\
             <th>accuracy</th><th></th><th>macro-F1</th><th></th><th>AUROC</th><th></th><th>log-loss</th><th>calibration error</th><th>at most</th></tr></thead>\n<tbody>\n";
    let area = |a: Option<f64>| a.map_or("–".into(), percent);
    for (name, t) in tasks {
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

/// What news a sentence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Good,
    /// Neither.
    Level,
    Bad,
}

/// A list of sentences with their marks.
pub fn verdicts(said: &[(Mark, String)]) -> String {
    let class = |mark: &Mark| match mark {
        Mark::Good => "good",
        Mark::Level => "level",
        Mark::Bad => "bad",
    };
    let line = |(mark, text): &(Mark, String)| format!("<li class=\"{}\">{}</li>\n", class(mark), escape(text));
    format!("<ul class=\"verdicts\">\n{}</ul>\n", said.iter().map(line).collect::<String>())
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
