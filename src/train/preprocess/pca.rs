//! Principal components, as scikit-learn's `PCA` finds them: of the centred columns, by falling variance (divided by n − 1), each turned so
//! that its largest loading by size is positive.

use nalgebra::{DMatrix, SymmetricEigen};

use super::width;
use crate::model::Transform;

/// The first `count` components (all where there are fewer columns) of at least one row.
pub fn pca(rows: &[Vec<f64>], count: usize) -> Transform {
    let (n, width) = (rows.len().max(1) as f64, width(rows));
    let mean: Vec<f64> = (0..width).map(|c| rows.iter().map(|r| r[c]).sum::<f64>() / n).collect();
    let mut covariance = DMatrix::<f64>::zeros(width, width);
    let mut centred = vec![0.0; width];
    for row in rows {
        centred.iter_mut().zip(row).zip(&mean).for_each(|((c, x), m)| *c = x - m);
        for i in 0..width {
            // The lower triangle is all that the decomposition reads.
            for j in 0..=i {
                covariance[(i, j)] += centred[i] * centred[j];
            }
        }
    }
    covariance /= (n - 1.0).max(1.0);
    let total: f64 = covariance.diagonal().iter().sum();
    let eigen = SymmetricEigen::new(covariance);
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]).then(a.cmp(&b)));
    order.truncate(count);
    let variance: Vec<f64> = order.iter().map(|&i| eigen.eigenvalues[i].max(0.0)).collect();
    let components = order
        .iter()
        .map(|&i| {
            let loadings: Vec<f64> = eigen.eigenvectors.column(i).iter().copied().collect();
            let largest = loadings.iter().fold(0.0f64, |best, x| if x.abs() > best.abs() { *x } else { best });
            // Adding 0 turns −0 into 0.
            loadings.iter().map(|x| x * if largest < 0.0 { -1.0 } else { 1.0 } + 0.0).collect()
        })
        .collect();
    let ratio = variance.iter().map(|v| if total > 0.0 { v / total } else { 0.0 }).collect();
    Transform::Pca { mean, components, variance, ratio }
}
