//! The sections of churn, spend and next need.

use std::collections::BTreeMap;

use super::escape;
use super::page::{percent, verdicts};
use super::plot::{Axes, Line, lines};
use crate::train::future::judge::{ChurnReport, FutureReport, NeedReport, SpendReport};

/// One section per task that is there.
pub fn sections(report: &FutureReport) -> anyhow::Result<String> {
    let mut html = String::new();
    if let Some(churn) = &report.churn {
        html += &self::churn(churn)?;
    }
    if let Some(spend) = &report.spend {
        html += &self::spend(spend);
    }
    if let Some(need) = &report.next_need {
        html += &next_need(need);
    }
    Ok(html)
}

fn churn(c: &ChurnReport) -> anyhow::Result<String> {
    let mut said = Vec::new();
    for (name, differences) in &c.curves.differences {
        let (Some([low, high]), Some(theirs)) = (differences.get("auroc"), c.baselines.get(name)) else { continue };
        let by = 100.0 * (c.quality.auroc - theirs.auroc);
        let numbers = format!("{by:+.1} points of AUROC (95 % interval {:+.1} to {:+.1})", 100.0 * low, 100.0 * high);
        said.push(match (*low > 0.0, *high < 0.0) {
            (true, _) => (true, format!("The network beats {name}: {numbers}.")),
            (_, true) => (false, format!("The network is worse than {name}: {numbers}.")),
            _ => (false, format!("The network does not beat {name} beyond chance: {numbers}.")),
        });
    }
    let (ece, limit) = (c.quality.ece, c.curves.ece_limit);
    said.push(match ece <= limit {
        true => (true, format!("Its probabilities can be believed: calibration error {ece:.3}, at most {limit:.3}.")),
        false => (false, format!("Its probabilities are off: calibration error {ece:.3}, above {limit:.3}.")),
    });
    let mut html = format!(
        "<section>\n<h2>churn</h2>\n{}<p>Of {} looks at customers {} % were followed by {} days without them; {} % were expected.</p>\n",
        verdicts(&said),
        c.n,
        percent(c.share),
        c.horizon_days,
        percent(c.predicted)
    );
    html += "<div class=\"scroll\"><table>\n<thead><tr><th></th><th>AUROC</th><th></th><th>log-loss</th><th>calibration error</th></tr></thead>\n<tbody>\n";
    let interval = c.curves.intervals.get("auroc").map_or(String::new(), |[low, high]| format!("{}–{}", percent(*low), percent(*high)));
    let own = [("network", c.quality, interval)];
    let others = c.baselines.iter().map(|(name, q)| (*name, *q, String::new()));
    for (i, (name, q, interval)) in own.into_iter().chain(others).enumerate() {
        let class = if i == 0 { "" } else { " class=\"baseline\"" };
        html += &format!(
            "<tr{class}><td>{}</td><td>{}</td><td class=\"interval\">{interval}</td><td>{:.3}</td><td>{:.3}</td></tr>\n",
            escape(name),
            percent(q.auroc),
            q.log_loss,
            q.ece
        );
    }
    html += "</tbody></table></div>\n<div class=\"figures\">\n";
    let unit = |title, x, y| Axes { title, x, y, xs: 0.0..1.0, ys: 0.0..1.0, whole: false };
    let bins = c.curves.reliability.iter().map(|b| (b.probability, b.share)).collect();
    let reliability = Line { name: String::new(), points: bins, marked: true };
    html += &lines(&unit("Reliability of churn", "probability that was said", "share that did not come back"), &[reliability], true)?;
    if !c.curves.roc.is_empty() {
        let roc = Line { name: String::new(), points: c.curves.roc.iter().map(|p| (p[0], p[1])).collect(), marked: false };
        let title = format!("ROC of churn, area {}", percent(c.quality.auroc));
        html += &lines(&unit(&title, "share of others called so", "share of them found"), &[roc], true)?;
    }
    html += "</div>\n</section>\n";
    Ok(html)
}

fn spend(s: &SpendReport) -> String {
    let mut html = format!(
        "<section>\n<h2>spend</h2>\n<p>Sums over the customers of one time, the mean of the times that were looked at ({} looks at customers in all), {} days ahead; the \
         interval holds four times out of five. Bias: how far what was expected is from what came.</p>\n\
         <div class=\"scroll\"><table>\n<thead><tr><th></th><th>expected</th><th></th><th>what came</th><th>bias</th><th>as long before</th></tr></thead>\n<tbody>\n",
        s.n, s.horizon_days
    );
    let bias = |b: Option<f64>| b.map_or("–".to_owned(), |b| format!("{:+.1} %", 100.0 * b));
    for (name, total, actual, off, last) in [
        ("purchases", s.expected.purchases, s.actual.purchases, s.quality.bias_purchases, s.last_period.purchases),
        ("amount", s.expected.amount, s.actual.amount, s.quality.bias_amount, s.last_period.amount),
    ] {
        html += &format!(
            "<tr><td>{name}</td><td>{:.0}</td><td class=\"interval\">{:.0}–{:.0}</td><td>{actual:.0}</td><td>{}</td><td>{last:.0}</td></tr>\n",
            total.expected,
            total.low,
            total.high,
            bias(off)
        );
    }
    html += "</tbody></table></div>\n<h3>Root mean squared error per customer</h3>\n<div class=\"scroll\"><table>\n\
             <thead><tr><th></th><th>purchases</th><th>bias</th><th>amount</th><th>bias</th></tr></thead>\n<tbody>\n";
    let own = [("network", &s.quality)];
    for (i, (name, q)) in own.into_iter().chain(s.baselines.iter().map(|(name, q)| (*name, q))).enumerate() {
        let class = if i == 0 { "" } else { " class=\"baseline\"" };
        html += &format!(
            "<tr{class}><td>{}</td><td>{:.3}</td><td>{}</td><td>{:.2}</td><td>{}</td></tr>\n",
            escape(name),
            q.rmse_purchases,
            bias(q.bias_purchases),
            q.rmse_amount,
            bias(q.bias_amount)
        );
    }
    html += "</tbody></table></div>\n";
    html += &beaten(
        "root mean squared error of purchases",
        s.quality.rmse_purchases,
        s.baselines.iter().map(|(n, q)| (*n, q.rmse_purchases)),
        false,
    );
    html += "</section>\n";
    html
}

fn next_need(n: &NeedReport) -> String {
    let mut html = format!("<section>\n<h2>next need</h2>\n<p>Of {} looks at customers who wanted something afterwards:</p>\n", n.n);
    html +=
        "<div class=\"scroll\"><table>\n<thead><tr><th></th><th>among the 5 likeliest</th><th>the likeliest</th></tr></thead>\n<tbody>\n";
    let own = [("network", &n.quality)];
    for (i, (name, q)) in own.into_iter().chain(n.baselines.iter().map(|(name, q)| (*name, q))).enumerate() {
        let class = if i == 0 { "" } else { " class=\"baseline\"" };
        html += &format!("<tr{class}><td>{}</td><td>{}</td><td>{}</td></tr>\n", escape(name), percent(q.recall_at_5), percent(q.accuracy));
    }
    html += "</tbody></table></div>\n";
    html +=
        &beaten("recall among the 5 likeliest", n.quality.recall_at_5, n.baselines.iter().map(|(name, q)| (*name, q.recall_at_5)), true);
    html += "</section>\n";
    html
}

/// Says of which baselines the network is better.
fn beaten<'a>(figure: &str, own: f64, baselines: impl Iterator<Item = (&'a str, f64)>, more_is_better: bool) -> String {
    let (better, not): (BTreeMap<&str, f64>, BTreeMap<&str, f64>) =
        baselines.partition(|(_, theirs)| if more_is_better { own > *theirs } else { own < *theirs });
    let names = |of: &BTreeMap<&str, f64>| of.keys().copied().collect::<Vec<_>>().join(", ");
    let mut said = Vec::new();
    if !better.is_empty() {
        said.push((true, format!("By {figure} the network beats {}.", names(&better))));
    }
    if !not.is_empty() {
        said.push((false, format!("By {figure} the network does not beat {}.", names(&not))));
    }
    verdicts(&said)
}
