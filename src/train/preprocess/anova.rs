//! One-way analysis of variance per column (`f_classif`) and the choice of the columns that tell classes apart best (`SelectKBest`).

use super::width;
use crate::model::Transform;

/// F of every column: variance between the means of the classes over variance within them. NaN for a constant column.
pub fn f_classif(rows: &[Vec<f64>], classes: &[usize]) -> Vec<f64> {
    let count = classes.iter().max().map_or(0, |m| m + 1);
    let mut sizes = vec![0.0f64; count];
    classes.iter().for_each(|&c| sizes[c] += 1.0);
    let present = sizes.iter().filter(|s| **s > 0.0).count() as f64;
    let n = rows.len() as f64;
    (0..width(rows))
        .map(|column| {
            // Sums around the mean of all: the same F, without the rounding of large values.
            let mean = rows.iter().map(|r| r[column]).sum::<f64>() / n;
            let mut sums = vec![0.0f64; count];
            let mut squares = 0.0;
            for (row, &class) in rows.iter().zip(classes) {
                sums[class] += row[column] - mean;
                squares += (row[column] - mean).powi(2);
            }
            let between: f64 = sums.iter().zip(&sizes).filter(|(_, n)| **n > 0.0).map(|(s, n)| s * s / n).sum();
            (between / (present - 1.0)) / ((squares - between).max(0.0) / (n - present))
        })
        .collect()
}

/// Keeps the `count` columns of the largest F, in rising order. Of equal ones the later, a constant column last of all, as `SelectKBest`.
pub fn select_k_best(rows: &[Vec<f64>], classes: &[usize], count: usize) -> Transform {
    let scores: Vec<f64> = f_classif(rows, classes).into_iter().map(|f| if f.is_nan() { f64::MIN } else { f }).collect();
    let mut columns: Vec<usize> = (0..scores.len()).collect();
    columns.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    columns.drain(..columns.len().saturating_sub(count));
    columns.sort_unstable();
    Transform::Select { width: scores.len(), columns }
}
