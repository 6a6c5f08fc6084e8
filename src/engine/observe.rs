//! What of a score is watched for drift, under the names of a bundle's reference.

use super::score::{ClassScore, Score};
use crate::model::Watch;

/// Counts the outputs of one score.
pub fn watch_score(watch: &mut Watch, score: &Score) {
    if let Some(s) = score.satisfaction {
        watch.number("satisfaction.dissatisfied", s.dissatisfied);
        watch.number("satisfaction.value", s.value);
    }
    if let Some(churn) = score.churn {
        watch.number("churn.probability", churn.probability);
    }
    if let Some(spend) = score.spend {
        watch.number("spend.purchases", spend.purchases);
        watch.number("spend.amount", spend.amount);
    }
    if let Some(segment) = &score.segment {
        watch.label("segment", segment.label.as_str());
    }
    if let Some(anomaly) = score.anomaly {
        watch.number("anomaly", anomaly);
    }
    for (task, class) in &score.classes {
        if let ClassScore::Top(top) = class
            && let Some(first) = top.first()
        {
            watch.label(task.as_str(), first.label.as_str());
        }
    }
}
