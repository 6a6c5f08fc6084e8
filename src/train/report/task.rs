//! The section of a task with labels: what beats what, the curves, the confusion, and where it fails.

use super::escape;
use super::page::{Mark, between, percent, verdicts};
use super::plot::{Axes, Line, lines};
use crate::train::judge::TaskReport;
use crate::train::metrics::{Bin, Confusion};
use crate::train::slices::{By, Slice};

fn mark(verdict: &str) -> Mark {
    let starts = |what: &[&str]| what.iter().any(|start| verdict.starts_with(start));
    if starts(&["The network beats", "Its probabilities can"]) {
        Mark::Good
    } else if starts(&["The network does not beat", "Only "]) {
        Mark::Level
    } else {
        Mark::Bad
    }
}

/// The section of one task.
pub fn section(name: &str, t: &TaskReport) -> anyhow::Result<String> {
    let said: Vec<(Mark, String)> = t.verdicts.iter().map(|v| (mark(v), v.clone())).collect();
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
    html += &unknown(t);
    html += "<div class=\"figures\">\n";
    let points = |bins: &[Bin]| bins.iter().map(|b| (b.probability, b.share)).collect();
    // What is judged on something else has another probability.
    let others = || t.baselines.iter().filter(|(_, b)| b.of.is_none());
    let mut reliability = vec![Line { name: "network".into(), points: points(&t.reliability), marked: true }];
    reliability.extend(others().map(|(name, b)| Line { name: (*name).into(), points: points(&b.reliability), marked: true }));
    html += &lines(&unit("Reliability", "probability that was said", "share that happened"), &reliability, true)?;
    if !t.roc.is_empty() {
        let area = |a: Option<f64>| a.map_or("–".into(), percent);
        let mut curves = vec![curve(format!("network, {}", area(t.auroc)), &t.roc)];
        curves.extend(t.baselines.iter().map(|(name, b)| curve(format!("{name}, {}", area(b.auroc)), &b.roc)));
        let title = format!("ROC of dissatisfied, area {}", area(t.auroc));
        html += &lines(&unit(&title, "share of others called so", "share of them found"), &curves, true)?;
    }
    if !t.roc_of_classes.is_empty() {
        let curves: Vec<Line> = t.roc_of_classes.iter().map(|c| curve(format!("{}, {}", c.label, percent(c.auroc)), &c.points)).collect();
        let title = if t.confusion.labels.len() > curves.len() { "ROC of the most frequent labels" } else { "ROC of every label" };
        html += &lines(&unit(title, "share of others called so", "share of them found"), &curves, true)?;
    }
    html += &matrix(&t.confusion);
    html += "</div>\n";
    html += &slices(&t.slices, "labels", By::Accuracy, t.baselines.iter().find(|(_, b)| b.of.is_none()).map(|(name, _)| *name));
    html += "</section>\n";
    Ok(html)
}

/// A frame for shares.
pub fn unit<'a>(title: &'a str, x: &'a str, y: &'a str) -> Axes<'a> {
    Axes { title, x, y, xs: 0.0..1.0, ys: 0.0..1.0, whole: false }
}

/// An ROC curve.
pub fn curve(name: String, points: &[[f64; 2]]) -> Line {
    Line { name, points: points.iter().map(|p| (p[0], p[1])).collect(), marked: false }
}

/// What became of labels that the model does not know.
fn unknown(t: &TaskReport) -> String {
    let mut said = Vec::new();
    if let Some(n) = t.unknown_labels.filter(|n| *n > 0) {
        said.push(format!("{n} labels of the part that judges are of classes too rare to learn; each counts as a miss."));
    }
    if let Some(u) = &t.unknown {
        let share = u.known_called_unknown as f64 / u.known.max(1) as f64;
        said.push(format!("Of {} labels that it knows, {} ({} %) are called unknown.", u.known, u.known_called_unknown, percent(share)));
        if let Some(recall) = u.recall {
            said.push(format!("Of {} labels that it does not know, {} % are.", u.unknown, percent(recall)));
        }
    }
    if said.is_empty() { String::new() } else { format!("<p>{}</p>\n", said.join(" ")) }
}

/// A confusion matrix as a figure.
pub fn matrix(c: &Confusion) -> String {
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

/// The table of the parts, beside one baseline's figure of those that say where the model fails. `of` is what is counted.
pub fn slices(slices: &[Slice], of: &str, by: By, baseline: Option<&str>) -> String {
    if slices.is_empty() {
        return String::new();
    }
    let figure = if by == By::Accuracy { "accuracy" } else { "log-loss" };
    let head = baseline.map_or(String::new(), |name| format!("<th>{} {figure}</th>", escape(name)));
    // The interval follows its figure.
    let (first, second) = if by == By::Accuracy { ("<th></th>", "") } else { ("", "<th></th>") };
    let areas = slices.iter().any(|s| s.auroc.is_some());
    let area = if areas { "<th>AUROC</th>" } else { "" };
    let mut html = format!(
        "<h3>By part</h3>\n<div class=\"scroll\"><table>\n<thead><tr><th>part</th><th class=\"left\"></th><th>{of}</th><th>accuracy</th>{first}<th>macro-F1</th><th>log-loss</th>{second}{area}\
         <th>calibration error</th><th>bias</th>{head}<th class=\"left\">beware</th></tr></thead>\n<tbody>\n"
    );
    let interval = |of: By, text: String| if of == by { format!("<td class=\"interval\">{text}</td>") } else { String::new() };
    for s in slices {
        let theirs = baseline.map_or(String::new(), |b| {
            format!(
                "<td>{}</td>",
                s.baselines.get(b).map_or(String::new(), |a| if by == By::Accuracy { percent(*a) } else { format!("{a:.3}") })
            )
        });
        let area = s.auroc.map_or("–".to_owned(), percent);
        let area = if areas { format!("<td>{area}</td>") } else { String::new() };
        html += &format!(
            "<tr><td>{}</td><td class=\"left\">{}</td><td>{}</td><td>{}</td>{}<td>{}</td><td>{:.3}</td>{}{area}<td>{:.3}</td><td>{:+.3}</td>{theirs}<td class=\"fails\">{}</td></tr>\n",
            s.by,
            escape(&s.value),
            s.n,
            percent(s.accuracy),
            interval(By::Accuracy, between(Some(&s.interval))),
            percent(s.macro_f1),
            s.log_loss,
            interval(By::LogLoss, format!("{:.3}–{:.3}", s.interval[0], s.interval[1])),
            s.ece,
            s.bias,
            escape(s.fails.as_deref().unwrap_or_default())
        );
    }
    html += "</tbody></table></div>\n<p class=\"soft\">Bias: mean probability that was said − share that happened.</p>\n";
    html
}
