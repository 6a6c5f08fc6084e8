//! The tf-idf baseline of every task: fitted where the network is fitted, its penalty tuned where the network is calibrated, judged where it is judged.
//!
//! Knows views and labels; no network.

use crate::train::holdout::View;
use crate::train::metrics::{Row, quality};
use crate::train::record::Labels;
use crate::train::tfidf::{Document, Exchange, Tfidf};

/// Penalties that are tried, weakest last; each fit starts from the one before.
const PENALTIES: [f64; 4] = [0.1, 0.3, 1.0, 3.0];
/// Of a class task: what is said tells more of it than of satisfaction, and a pass through many classes takes long.
const CLASS_PENALTIES: [f64; 3] = [3.0, 10.0, 30.0];

/// The three parts of the data.
pub struct Parts<'a> {
    pub fit: Vec<View<'a>>,
    pub calibrate: Vec<View<'a>>,
    pub judge: Vec<View<'a>>,
}

/// A fitted baseline and its rows on the part that judges, in the order of customers and steps.
pub struct Fitted {
    pub tfidf: Tfidf,
    pub rows: Vec<Row>,
}

/// Fits the baseline of one task of `classes` classes, whose number `class` reads from the labels; `classes` itself stands for a label that is not
/// among them and is only judged. `None` where nothing is labelled.
pub fn fit(parts: &Parts<'_>, classes: usize, event: Option<usize>, class: impl Fn(&Labels) -> Option<usize>) -> Option<Fitted> {
    let known = |labels: &Labels| class(labels).filter(|c| *c < classes);
    let sessions = sessions(&parts.fit, known);
    let [fit, calibrate] = [&parts.fit, &parts.calibrate].map(|views| documents(views, sessions, known));
    let judge = documents(&parts.judge, sessions, &class);
    if fit.0.is_empty() {
        return None;
    }
    let penalties = if event.is_some() { PENALTIES.as_slice() } else { CLASS_PENALTIES.as_slice() };
    // The figure that counts, and where that is equal, as it often is of few labels, the log-loss.
    let mut best: Option<((f64, f64), Tfidf)> = None;
    let mut last: Option<Tfidf> = None;
    for &c in penalties {
        let model = Tfidf::fit(&fit.0, &fit.1, classes, c, last.as_ref());
        let q = quality(&probabilities(&model, &calibrate.0), &calibrate.1, event);
        let good = (if event.is_some() { q.macro_f1 } else { q.accuracy }, -q.log_loss);
        if best.as_ref().is_none_or(|b| good > b.0) {
            best = Some((good, model.clone()));
        }
        last = Some(model);
    }
    let (_, tfidf) = best?;
    let rows = probabilities(&tfidf, &judge.0).iter().zip(&judge.1).map(|(p, label)| Row::new(p, *label, event)).collect();
    Some(Fitted { tfidf, rows })
}

fn probabilities(model: &Tfidf, documents: &[Document]) -> Vec<Vec<f32>> {
    documents.iter().map(|d| model.probabilities(d)).collect()
}

/// Whether a label stands for all that was said: customers with labels have fewer than three for every two, and more than two interactions each.
fn sessions(views: &[View<'_>], class: impl Fn(&Labels) -> Option<usize>) -> bool {
    let [mut customers, mut labels, mut interactions] = [0; 3];
    for view in views {
        let own = view.own().filter(|(_, l)| class(l).is_some()).count();
        if own > 0 {
            customers += 1;
            labels += own;
            interactions += view.items.len();
        }
    }
    2 * labels < 3 * customers && interactions > 2 * customers
}

/// Documents and classes of what is labelled in the views' part.
fn documents(views: &[View<'_>], sessions: bool, class: impl Fn(&Labels) -> Option<usize>) -> (Vec<Document>, Vec<usize>) {
    let (mut documents, mut classes) = (Vec::new(), Vec::new());
    for view in views {
        let mut exchange = Exchange::new(sessions);
        for (i, item) in view.items.iter().enumerate() {
            if let Some(class) = view.labels(i).and_then(&class) {
                documents.push(exchange.document(item));
                classes.push(class);
            }
            exchange.add(item);
        }
    }
    (documents, classes)
}
