//! How the networks learned: their losses by epoch, and the trials of a search.

use super::Report;
use super::plot::{Axes, Line, lines};
use crate::train::fit::Epoch;
use crate::train::search::Trial;

/// Name of the autoencoder's losses.
pub const AUTOENCODER: &str = "autoencoder";

/// The section; empty where nothing was learnt.
pub fn section(report: &Report) -> anyhow::Result<String> {
    let mut plots = String::new();
    let mut said = String::new();
    if report.epochs.iter().any(|e| e.fit != 0.0) {
        said = "Nothing was fitted on the calibration part but what turns logits into probabilities.".into();
        if report.kept_epoch < report.epochs.len() {
            said += &format!(" The weights after epoch {} were kept.", report.kept_epoch);
        }
        plots += &by_epoch("Loss per label after each epoch", curves(&report.epochs, ["fitted part, with dropout", "calibration part"]))?;
    }
    if !report.future_epochs.is_empty() {
        let names = ["fitted part", "customers who stop it"];
        plots += &by_epoch("Loss of churn, spend and next need", curves(&report.future_epochs, names))?;
        if report.future_kept_epoch < report.future_epochs.len() {
            said += &format!(" Of churn, spend and next need the weights after epoch {} were kept.", report.future_kept_epoch);
        }
    }
    for (network, epochs) in &report.behaviour_losses {
        let (title, names) = match network.as_str() {
            AUTOENCODER => ("Squared error of the autoencoder".to_owned(), ["fitted part", "customers who stop it"]),
            _ => (format!("Loss of the dense network ({network}), with dropout"), ["fitted part", "set aside"]),
        };
        plots += &by_epoch(&title, curves(epochs, names))?;
    }
    if plots.is_empty() {
        return Ok(plots);
    }
    let trials = trials(&report.trials);
    Ok(format!("<section>\n<h2>How it learned</h2>\n<p>{said}</p>\n<div class=\"figures\">\n{plots}</div>\n{trials}</section>\n"))
}

/// Losses on the fitted part and, where there are any, on another.
fn curves(epochs: &[Epoch], [fitted, aside]: [&str; 2]) -> Vec<Line> {
    let point = |epoch: usize, loss: f32| (epoch as f64, f64::from(loss));
    let fit = epochs.iter().map(|e| point(e.epoch, e.fit)).collect();
    let held: Vec<_> = epochs.iter().filter_map(|e| Some(point(e.epoch, e.calibration?))).collect();
    let mut curves = vec![Line { name: fitted.into(), points: fit, marked: true }];
    if !held.is_empty() {
        curves.push(Line { name: aside.into(), points: held, marked: true });
    }
    curves
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
