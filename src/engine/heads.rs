//! Logits → calibrated probabilities.

use std::collections::BTreeMap;

use super::score::{ClassProbability, ClassScore, Satisfaction};
use crate::interaction::Name;
use crate::model::{ClassHead, ClassTask, SatisfactionHead};

/// How many labels of a class task are published.
const TOP: usize = 5;

/// Satisfaction from the logits of (below, at, above 3). `value` = Σ probability × mean rating of the class.
pub fn satisfaction(head: &SatisfactionHead, logits: &[f32], baseline: f32) -> Satisfaction {
    let mut p = [0.0; 3];
    for (p, (logit, bias)) in p.iter_mut().zip(logits.iter().zip(head.bias)) {
        *p = logit * head.scale + bias;
    }
    softmax(&mut p);
    let value = p.iter().zip(head.class_values).map(|(p, v)| p * v).sum::<f32>().clamp(1.0, 5.0);
    Satisfaction { value, dissatisfied: p[0], neutral: p[1], satisfied: p[2], baseline }
}

/// Adds the top labels of a class task to `out`.
pub fn classes(head: &ClassHead, task: &ClassTask, logits: &[f32], out: &mut BTreeMap<Name, ClassScore>) {
    let top = top(head, task, logits);
    if let (Some(limit), Some(best)) = (head.unknown_below, top.first())
        && best.probability < limit
    {
        out.insert(task.unknown.clone(), ClassScore::Unknown(true));
    }
    out.insert(task.name.clone(), ClassScore::Top(top));
}

/// The most probable labels, falling.
pub fn top(head: &ClassHead, task: &ClassTask, logits: &[f32]) -> Vec<ClassProbability> {
    let mut p: Vec<f32> = logits.iter().map(|x| x * head.scale).collect();
    softmax(&mut p);
    let mut order: Vec<usize> = (0..p.len().min(task.labels.len())).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]).then(a.cmp(&b)));
    order.truncate(TOP);
    order.into_iter().map(|i| ClassProbability { label: task.labels[i].clone(), probability: p[i] }).collect()
}

fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in x.iter_mut() {
        *x = (*x - max).exp();
        sum += *x;
    }
    for x in x.iter_mut() {
        *x /= sum;
    }
}
