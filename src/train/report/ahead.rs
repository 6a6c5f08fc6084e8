//! The sections of churn, spend and next need.

use std::collections::BTreeMap;

use super::escape;
use super::page::{Mark, between, percent, verdicts};
use super::plot::{Axes, Line, bars, lines};
use super::task::{self, curve, matrix, unit};
use crate::train::bootstrap::Interval;
use crate::train::future::judge::{ChurnQuality, ChurnReport, Decile, FutureReport, NeedQuality, NeedReport, SpendQuality, SpendReport};
use crate::train::judge::few;
use crate::train::metrics::Bin;
use crate::train::slices::By;

/// One section per task that is there.
pub fn sections(report: &FutureReport) -> anyhow::Result<String> {
    let mut html = String::new();
    if let Some(churn) = &report.churn {
        html += &self::churn(churn)?;
    }
    if let Some(spend) = &report.spend {
        html += &self::spend(spend)?;
    }
    if let Some(need) = &report.next_need {
        html += &next_need(need)?;
    }
    Ok(html)
}

/// A table's head and what follows it.
fn table(headings: &str, rows: &str) -> String {
    format!("<div class=\"scroll\"><table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n")
}

fn churn(c: &ChurnReport) -> anyhow::Result<String> {
    let area = Figure { name: "AUROC", more_is_better: true, points: true };
    let differences = c.baselines.iter().map(|(name, theirs)| (*name, c.quality.auroc - theirs.auroc, c.curves.differences.get(name)));
    let mut said = area.beside("auroc", differences);
    let loss = Figure { name: "log-loss", more_is_better: false, points: false };
    let differences =
        c.baselines.iter().map(|(name, theirs)| (*name, c.quality.log_loss - theirs.log_loss, c.curves.differences.get(name)));
    said.extend(loss.beside("log_loss", differences));
    said.push(believed(c.quality.ece, c.curves.ece_limit));
    let said = unless_few(c.customers, said);
    let mut html = format!(
        "<section>\n<h2>churn</h2>\n{}<p>Of {} looks at customers {} % were followed by {} days without them; {} % were expected.</p>\n",
        verdicts(&said),
        c.n,
        percent(c.share),
        c.horizon_days,
        percent(c.predicted)
    );
    let sure = |figure: &str| between(c.curves.intervals.get(figure));
    let own = [("network", c.quality, [sure("auroc"), sure("accuracy")])];
    let others = c.baselines.iter().map(|(name, q)| (*name, *q, Default::default()));
    let row = |(name, q, [auroc, accuracy]): (&str, ChurnQuality, [String; 2])| {
        format!(
            "<tr{}><td>{}</td><td>{}</td><td class=\"interval\">{auroc}</td><td>{}</td><td class=\"interval\">{accuracy}</td><td>{:.3}</td><td>{:.3}</td></tr>\n",
            class(name),
            escape(name),
            percent(q.auroc),
            percent(q.accuracy),
            q.log_loss,
            q.ece
        )
    };
    let rows: String = own.into_iter().chain(others).map(row).collect();
    html += &table("<th></th><th>AUROC</th><th></th><th>accuracy at 0.5</th><th></th><th>log-loss</th><th>calibration error</th>", &rows);
    html += "<div class=\"figures\">\n";
    let bins = |name: &str, bins: &[Bin]| Line {
        name: name.into(),
        points: bins.iter().map(|b| (b.probability, b.share)).collect(),
        marked: true,
    };
    let mut reliability = vec![bins("network", &c.curves.reliability)];
    reliability.extend(c.curves.baselines.iter().map(|(name, b)| bins(name, &b.reliability)));
    html += &lines(&unit("Reliability of churn", "probability that was said", "share that did not come back"), &reliability, true)?;
    if !c.curves.roc.is_empty() {
        let mut curves = vec![curve(format!("network, {}", percent(c.quality.auroc)), &c.curves.roc)];
        let area = |name: &str| c.baselines.get(name).map_or(String::new(), |q| format!(", {}", percent(q.auroc)));
        curves.extend(c.curves.baselines.iter().map(|(name, b)| curve(format!("{name}{}", area(name)), &b.roc)));
        let title = format!("ROC of churn, area {}", percent(c.quality.auroc));
        html += &lines(&unit(&title, "share of others called so", "share of them found"), &curves, true)?;
    }
    html += &matrix(&c.confusion);
    html += "</div>\n";
    let best = c.baselines.iter().min_by(|a, b| a.1.log_loss.total_cmp(&b.1.log_loss)).map(|(name, _)| *name);
    html += &task::slices(&c.slices, "looks", By::LogLoss, best);
    html += "</section>\n";
    Ok(html)
}

fn unless_few(customers: usize, said: Vec<(Mark, String)>) -> Vec<(Mark, String)> {
    few(customers).map_or(said, |few| vec![(Mark::Level, few)])
}

fn believed(ece: f64, limit: f64) -> (Mark, String) {
    match ece <= limit {
        true => (Mark::Good, format!("Its probabilities can be believed: calibration error {ece:.3}, at most {limit:.3}.")),
        false => (Mark::Bad, format!("Its probabilities are off: calibration error {ece:.3}, above {limit:.3}.")),
    }
}

/// Of a row of a table.
fn class(name: &str) -> &'static str {
    if name == "network" { "" } else { " class=\"baseline\"" }
}

fn signed(bias: Option<f64>) -> String {
    bias.map_or("–".to_owned(), |b| format!("{:+.1} %", 100.0 * b))
}

fn spend(s: &SpendReport) -> anyhow::Result<String> {
    let purchases = Figure { name: "root mean squared error of purchases", more_is_better: false, points: false };
    let amount = Figure { name: "root mean squared error of the amount", ..purchases };
    let differences = |of: fn(&SpendQuality) -> f64| {
        s.baselines.iter().map(move |(name, theirs)| (*name, of(&s.quality) - of(theirs), s.sure.differences.get(name)))
    };
    let deviance = Figure { name: "deviance of purchases", ..purchases };
    let mut said = purchases.beside("rmse_purchases", differences(|q| q.rmse_purchases));
    said.extend(deviance.beside("deviance_purchases", differences(|q| q.deviance_purchases)));
    said.extend(amount.beside("rmse_amount", differences(|q| q.rmse_amount)));
    let said = unless_few(s.customers, said);
    let mut html = format!(
        "<section>\n<h2>spend</h2>\n{}<p>Sums over the customers of one time, the mean of the times that were looked at ({} looks at customers in all), {} days ahead; the \
         interval holds four times out of five. Half of the customers who are set aside calibrate and the other half judges, at the same times: how a period \
         differs from those before is known here in part, and is not when a forecast is made; seasons are not foreseen. Bias: how far what was expected is from what came.</p>\n",
        verdicts(&said),
        s.n,
        s.horizon_days
    );
    let mut rows = String::new();
    let (last, new) = (&s.last_period, &s.last_period_newcomers);
    for (name, total, actual, off, last, new) in [
        ("purchases", s.expected.purchases, s.actual.purchases, s.quality.bias_purchases, last.purchases, new.purchases),
        ("amount", s.expected.amount, s.actual.amount, s.quality.bias_amount, last.amount, new.amount),
    ] {
        rows += &format!(
            "<tr><td>{name}</td><td>{:.0}</td><td class=\"interval\">{:.0}–{:.0}</td><td>{actual:.0}</td><td>{}</td><td>{last:.0}</td><td>{new:.0}</td></tr>\n",
            total.expected,
            total.low,
            total.high,
            signed(off)
        );
    }
    html += &table(
        "<th></th><th>expected</th><th></th><th>what came</th><th>bias</th><th>as long before, of who was known then</th><th>and of newcomers</th>",
        &rows,
    );
    html += "<h3>Root mean squared error per customer</h3>\n<p>Deviance: the Poisson deviance of purchases, in which an error weighs by what was expected.</p>\n";
    html += &errors(s);
    html += "<div class=\"figures\">\n";
    for (title, deciles) in [("Purchases, by what was expected", &s.deciles.purchases), ("Amount, by what was expected", &s.deciles.amount)]
    {
        html += &tenths(title, deciles)?;
    }
    html += "</div>\n";
    let best = s.baselines.iter().min_by(|a, b| a.1.rmse_purchases.total_cmp(&b.1.rmse_purchases)).map(|(name, _)| *name);
    let theirs = |slice: &BTreeMap<&'static str, f64>| best.and_then(|b| slice.get(b)).map_or(String::new(), |x| format!("{x:.3}"));
    let rows: String = s
        .slices
        .iter()
        .map(|p| {
            let (q, interval) = (&p.quality, format!("{:.3}–{:.3}", p.interval[0], p.interval[1]));
            format!(
                "<tr><td>{}</td><td class=\"left\">{}</td><td>{}</td><td>{:.3}</td><td class=\"interval\">{interval}</td><td>{}</td><td>{}</td><td>{:.2}</td><td>{}</td><td class=\"fails\">{}</td></tr>\n",
                p.by,
                escape(&p.value),
                p.n,
                q.rmse_purchases,
                theirs(&p.baselines),
                signed(q.bias_purchases),
                q.rmse_amount,
                signed(q.bias_amount),
                escape(p.fails.as_deref().unwrap_or_default())
            )
        })
        .collect();
    html += &by_part(
        &format!("<th>purchases</th><th></th><th>{}</th><th>bias</th><th>amount</th><th>bias</th>", escape(best.unwrap_or_default())),
        &rows,
    );
    html += "</section>\n";
    Ok(html)
}

fn errors(s: &SpendReport) -> String {
    let sure = |figure: &str, decimals: usize| {
        let interval: Option<&Interval> = s.sure.intervals.get(figure);
        interval.map_or(String::new(), |[low, high]| format!("{low:.decimals$}–{high:.decimals$}"))
    };
    let biased = |figure: &str| {
        s.sure.intervals.get(figure).map_or(String::new(), |[low, high]| format!("{:+.1} to {:+.1}", 100.0 * low, 100.0 * high))
    };
    let own = [
        sure("rmse_purchases", 3),
        sure("deviance_purchases", 3),
        biased("bias_purchases"),
        sure("rmse_days", 3),
        sure("rmse_amount", 2),
        biased("bias_amount"),
    ];
    let row = |(name, q, sure): (&str, &SpendQuality, [String; 6])| {
        let days = q.rmse_days.map_or("–".to_owned(), |d| format!("{d:.3}"));
        let cells = [
            format!("{:.3}", q.rmse_purchases),
            format!("{:.3}", q.deviance_purchases),
            signed(q.bias_purchases),
            days,
            format!("{:.2}", q.rmse_amount),
            signed(q.bias_amount),
        ];
        // An interval below its figure: the table is wide enough.
        let below = |interval: String| if interval.is_empty() { interval } else { format!("<br><small>{interval}</small>") };
        let cells: String = cells.iter().zip(sure).map(|(figure, interval)| format!("<td>{figure}{}</td>", below(interval))).collect();
        format!("<tr{}><td>{}</td>{cells}</tr>\n", class(name), escape(name))
    };
    let others = s.baselines.iter().map(|(name, q)| (*name, q, Default::default()));
    let rows: String = [("network", &s.quality, own)].into_iter().chain(others).map(row).collect();
    let headings = ["purchases", "deviance", "bias", "days with a purchase", "amount", "bias"].map(|h| format!("<th>{h}</th>")).concat();
    table(&format!("<th></th>{headings}"), &rows)
}

fn tenths(title: &str, deciles: &[Decile]) -> anyhow::Result<String> {
    let groups: Vec<Vec<f64>> = deciles.iter().map(|d| vec![d.expected, d.actual]).collect();
    let labels: Vec<String> = (1..=deciles.len()).map(|i| i.to_string()).collect();
    let most = groups.iter().flatten().copied().fold(1e-9, f64::max);
    let axes = Axes {
        title,
        x: "tenth of the customers, from the least expected on",
        y: "mean per customer",
        xs: 0.0..1.0,
        ys: 0.0..1.1 * most,
        whole: false,
    };
    bars(&axes, &["expected", "what came"], &labels, &groups)
}

fn next_need(n: &NeedReport) -> anyhow::Result<String> {
    let recall = Figure { name: "recall among the 5 likeliest", more_is_better: true, points: true };
    let differences =
        n.baselines.iter().map(|(name, theirs)| (*name, n.quality.recall_at_5 - theirs.recall_at_5, n.sure.differences.get(name)));
    let mut said = recall.beside("recall_at_5", differences);
    said.push(believed(n.ece, n.ece_limit));
    let said = unless_few(n.customers, said);
    let mut html = format!(
        "<section>\n<h2>next need</h2>\n{}<p>Of {} looks at customers who wanted something afterwards:</p>\n",
        verdicts(&said),
        n.n
    );
    let sure = |figure: &str| between(n.sure.intervals.get(figure));
    let all: Vec<_> = [("network", &n.quality)].into_iter().chain(n.baselines.iter().map(|(name, q)| (*name, q))).collect();
    let row = |(name, q): &(&str, &NeedQuality)| {
        let cells = [("recall_at_1", q.recall_at_1), ("recall_at_3", q.recall_at_3), ("recall_at_5", q.recall_at_5)];
        let cells = cells.map(|(figure, share)| {
            let interval = if *name == "network" { sure(figure) } else { String::new() };
            format!("<td>{}</td><td class=\"interval\">{interval}</td>", percent(share))
        });
        format!("<tr{}><td>{}</td>{}</tr>\n", class(name), escape(name), cells.concat())
    };
    html += &table(
        "<th></th><th>the likeliest</th><th></th><th>among 3</th><th></th><th>among the 5 likeliest</th><th></th>",
        &all.iter().map(row).collect::<String>(),
    );
    let groups: Vec<Vec<f64>> =
        [0, 1, 2].map(|k| all.iter().map(|(_, q)| [q.recall_at_1, q.recall_at_3, q.recall_at_5][k]).collect()).to_vec();
    let most = groups.iter().flatten().copied().fold(1e-9, f64::max);
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let axes = Axes {
        title: "Recall of the next need",
        x: "among so many",
        y: "share",
        xs: 0.0..1.0,
        ys: 0.0..(1.1 * most).min(1.0),
        whole: false,
    };
    html += "<div class=\"figures\">\n";
    html += &bars(&axes, &names, &["1", "3", "5"].map(String::from), &groups)?;
    html += "</div>\n";
    let best = n.baselines.keys().next().copied();
    let rows: String = n
        .slices
        .iter()
        .map(|p| {
            let theirs = best.and_then(|b| p.baselines.get(b)).map_or(String::new(), |x| percent(*x));
            format!(
                "<tr><td>{}</td><td class=\"left\">{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"interval\">{}</td><td>{theirs}</td><td class=\"fails\">{}</td></tr>\n",
                p.by,
                escape(&p.value),
                p.n,
                percent(p.quality.recall_at_1),
                percent(p.quality.recall_at_5),
                between(Some(&p.interval)),
                escape(p.fails.as_deref().unwrap_or_default())
            )
        })
        .collect();
    html += &by_part(&format!("<th>the likeliest</th><th>among 5</th><th></th><th>{}</th>", escape(best.unwrap_or_default())), &rows);
    html += "</section>\n";
    Ok(html)
}

/// The table of the parts; empty where there are none.
fn by_part(headings: &str, rows: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head = format!("<th>part</th><th class=\"left\"></th><th>looks</th>{headings}<th class=\"left\">beware</th>");
    format!("<h3>By part</h3>\n{}", table(&head, rows))
}

/// What a network and its baselines are compared by.
#[derive(Clone, Copy)]
struct Figure {
    name: &'static str,
    more_is_better: bool,
    /// Said in points of 1 in 100.
    points: bool,
}

impl Figure {
    /// Says of each baseline whether the network is better, worse or level: from (name, network − baseline, intervals of differences by `key`).
    fn beside<'a>(
        &self,
        key: &str,
        baselines: impl Iterator<Item = (&'a str, f64, Option<&'a BTreeMap<&'static str, Interval>>)>,
    ) -> Vec<(Mark, String)> {
        let number = |x: f64| if self.points { format!("{:+.1}", 100.0 * x) } else { format!("{x:+.3}") };
        let say = |(name, by, intervals): (&str, f64, Option<&BTreeMap<&'static str, Interval>>)| {
            let [low, high] = *intervals?.get(key)?;
            let unit = if self.points { " points" } else { "" };
            let numbers =
                format!("by {}: {}{unit} (95 % interval {} to {})", self.name, number(by), number(low), number(high)).replace('-', "−");
            let (better, worse) = if self.more_is_better { (low > 0.0, high < 0.0) } else { (high < 0.0, low > 0.0) };
            Some(match (better, worse) {
                (true, _) => (Mark::Good, format!("The network beats {name} {numbers}.")),
                (_, true) => (Mark::Bad, format!("The network is worse than {name} {numbers}.")),
                _ => (Mark::Level, format!("The network is level with {name} {numbers}.")),
            })
        };
        baselines.filter_map(say).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_excludes_chance_is_called_better_or_worse() {
        let differences: BTreeMap<&str, BTreeMap<&'static str, Interval>> = BTreeMap::from([
            ("a", BTreeMap::from([("x", [0.01, 0.05])])),
            ("b", BTreeMap::from([("x", [-0.01, 0.05])])),
            ("c", BTreeMap::from([("x", [-0.05, -0.01])])),
            ("d", BTreeMap::new()),
        ]);
        let say = |more_is_better| {
            let figure = Figure { name: "recall", more_is_better, points: true };
            figure.beside("x", differences.iter().map(|(name, d)| (*name, 0.02, Some(d))))
        };
        let more = say(true);
        assert_eq!(more[0], (Mark::Good, "The network beats a by recall: +2.0 points (95 % interval +1.0 to +5.0).".into()));
        assert_eq!(more[1], (Mark::Level, "The network is level with b by recall: +2.0 points (95 % interval −1.0 to +5.0).".into()));
        assert!(more[2].0 == Mark::Bad && more[2].1.starts_with("The network is worse than c") && more.len() == 3, "{more:?}");
        let less = say(false);
        assert!(less[0].1.starts_with("The network is worse than a") && less[2].0 == Mark::Good, "{less:?}");
    }
}
