//! Fits the transforms that a bundle's `preprocessing.json` stores and the core applies.
//!
//! Knows rows of finite numbers (cleaning aside) and classes, nothing of what they mean. Definitions: scikit-learn's.

mod anova;
mod pca;

pub use anova::select_k_best;
pub use pca::pca;

use crate::model::Transform;

/// Column-wise mean and population deviation of finite values, in two passes, corrected for the rounding of the mean (Chan, Golub and LeVeque 1983).
fn moments(rows: &[Vec<f64>], column: usize) -> (f64, f64) {
    let values = || rows.iter().map(|r| r[column]).filter(|x| x.is_finite());
    let n = values().count().max(1) as f64;
    let mean = values().sum::<f64>() / n;
    let (sum, squares) = values().map(|x| x - mean).fold((0.0, 0.0), |(sum, squares), d| (sum + d, squares + d * d));
    (mean, ((squares - sum * sum / n).max(0.0) / n).sqrt())
}

fn width(rows: &[Vec<f64>]) -> usize {
    rows.first().map_or(0, Vec::len)
}

/// What is no finite number becomes the column's median (0 where nothing is finite); the rest is clipped to `deviations` around the mean.
pub fn clean(rows: &[Vec<f64>], deviations: f64) -> Transform {
    let (mut fill, mut low, mut high) = (Vec::new(), Vec::new(), Vec::new());
    for column in 0..width(rows) {
        let mut values: Vec<f64> = rows.iter().map(|r| r[column]).filter(|x| x.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        fill.push(match values.len() {
            0 => 0.0,
            n if n % 2 == 1 => values[n / 2],
            n => 0.5 * (values[n / 2 - 1] + values[n / 2]),
        });
        let (mean, deviation) = moments(rows, column);
        low.push(mean - deviations * deviation);
        high.push(mean + deviations * deviation);
    }
    Transform::Clean { fill, low, high }
}

/// `MinMaxScaler().fit`: a column whose range is below ten times the precision of `f64`, whatever its size, has the range 1
/// (`_handle_zeros_in_scale`).
pub fn min_max(rows: &[Vec<f64>]) -> Transform {
    let (mut low, mut range) = (Vec::new(), Vec::new());
    for column in 0..width(rows) {
        let values = || rows.iter().map(|r| r[column]);
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        low.push(least);
        range.push(if most - least < 10.0 * f64::EPSILON { 1.0 } else { most - least });
    }
    Transform::MinMax { low, range }
}

/// `StandardScaler().fit`: population deviation; a column that is constant but for the rounding of its sums has the deviation 1.
pub fn standard(rows: &[Vec<f64>]) -> Transform {
    let scale = |(mean, deviation)| (mean, if is_constant(deviation * deviation, mean, rows.len()) { 1.0 } else { deviation });
    let (mean, deviation) = (0..width(rows)).map(|c| scale(moments(rows, c))).unzip();
    Transform::Standard { mean, deviation }
}

/// `_is_constant_feature`: within the error of a variance of `n` values that is computed in two passes.
fn is_constant(variance: f64, mean: f64, n: usize) -> bool {
    let n = n as f64;
    variance <= n * f64::EPSILON * variance + (n * mean * f64::EPSILON).powi(2)
}

/// Applies `transform` to all rows.
pub fn apply(transform: &Transform, rows: &mut [Vec<f64>]) {
    rows.iter_mut().for_each(|row| transform.apply(row));
}

/// Reference values of scikit-learn 1.9.1, made by
/// ```python
/// X = np.array([[1, -2, .5, 7], [2.5, 0, .25, 7], [-1, 4, 3, 7], [0, 1.5, -2, 7], [6, -3.5, 1, 7], [3, 2, 0, 7], [-2.5, .5, 4.5, 7]])
/// N = np.array([[10., 1, -4, 8]]); y = [0, 1, 0, 1, 1, 0, 1]; y3 = [0, 1, 2, 1, 2, 0, 2]
/// T = np.array([[1., 5, 2, 1], [2, 5, 4, 2], [3, 5, 6, 3], [5, 5, 10, 5]])
/// MinMaxScaler().fit(X).transform(...); StandardScaler().fit(X).transform(...); p = PCA(n_components=2).fit(X)
/// f_classif(X, y); f_classif(X, y3); SelectKBest(f_classif, k=2).fit(X, y).get_support(indices=True)
/// V = np.array([[.1, 1e9, 0, 0, 1e8 + .1], [.1, 1e9 + 1e-4, 1e-15, 1e-14, 1e8 + .1], [.1, 1e9 + 2e-4, 2e-15, 2e-14, 1e8 + .1],
///               [.1, 1e9, 0, 1e-14, 1e8 + .1]] + 3 * [[.1, 1e9, 0, 0, 1e8 + .1]])
/// MinMaxScaler().fit(V).transform(V)[1]; 1 / MinMaxScaler().fit(V).scale_; StandardScaler().fit(V).scale_
/// f_classif(T, [0, 0, 1, 1]); SelectKBest(f_classif, k=1).fit(T, [0, 0, 1, 1]).get_support(indices=True)
/// ```
#[cfg(test)]
mod tests {
    use super::anova::f_classif;
    use super::*;

    fn x() -> Vec<Vec<f64>> {
        [
            [1.0, -2.0, 0.5, 7.0],
            [2.5, 0.0, 0.25, 7.0],
            [-1.0, 4.0, 3.0, 7.0],
            [0.0, 1.5, -2.0, 7.0],
            [6.0, -3.5, 1.0, 7.0],
            [3.0, 2.0, 0.0, 7.0],
            [-2.5, 0.5, 4.5, 7.0],
        ]
        .map(|r| r.to_vec())
        .to_vec()
    }

    const NEW: [f64; 4] = [10.0, 1.0, -4.0, 8.0];

    #[track_caller]
    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 1e-12 * e.abs().max(1.0), "{found:?} instead of {expected:?}");
        }
    }

    fn applied(transform: &Transform, row: &[f64]) -> Vec<f64> {
        let mut row = row.to_vec();
        transform.apply(&mut row);
        row
    }

    #[test]
    fn min_max_equals_scikit_learn() {
        let t = min_max(&x());
        assert_close(&applied(&t, &x()[0]), &[0.4117647058823529, 0.2, 0.38461538461538464, 0.0]);
        assert_close(&applied(&t, &NEW), &[1.4705882352941178, 0.6, -0.3076923076923077, 1.0]);
    }

    #[test]
    fn standard_equals_scikit_learn() {
        let t = standard(&x());
        let Transform::Standard { mean, deviation } = &t else { panic!("{t:?}") };
        assert_close(mean, &[1.2857142857142858, 0.35714285714285715, 1.0357142857142858, 7.0]);
        assert_close(deviation, &[2.6166655834306005, 2.3255457994428155, 1.9659084206461264, 1.0]);
        assert_close(&applied(&t, &NEW), &[3.3303016516389454, 0.27643280257527797, -2.5615202787824773, 1.0]);
    }

    #[test]
    fn what_counts_as_constant_equals_scikit_learn() {
        let first = [0.1, 1e9, 0.0, 0.0, 1e8 + 0.1];
        let mut v = vec![first.to_vec(); 7];
        v[1] = vec![0.1, 1e9 + 1e-4, 1e-15, 1e-14, 1e8 + 0.1];
        v[2] = vec![0.1, 1e9 + 2e-4, 2e-15, 2e-14, 1e8 + 0.1];
        v[3][3] = 1e-14;
        // Not by `assert_close`: what is small here is what matters.
        let assert_equal = |found: &[f64], expected: [f64; 5]| {
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() <= 1e-9 * e.abs()), "{found:?} instead of {expected:?}");
        };
        let t = min_max(&v);
        let Transform::MinMax { range, .. } = &t else { panic!("{t:?}") };
        assert_equal(range, [1.0, 0.00020003318786621094, 1.0, 2e-14, 1.0]);
        assert_equal(&applied(&t, &v[1]), [0.0, 0.5, 1e-15, 0.5, 0.0]);
        let t = standard(&v);
        let Transform::Standard { deviation, .. } = &t else { panic!("{t:?}") };
        assert_equal(deviation, [1.0, 7.285522344971292e-05, 7.284313590846835e-16, 7.284313590846834e-15, 1.0]);
    }

    #[test]
    fn pca_equals_scikit_learn() {
        let t = pca(&x(), 2);
        let Transform::Pca { components, variance, ratio, .. } = &t else { panic!("{t:?}") };
        assert_close(&components[0], &[0.7577825768800265, -0.570749166912156, -0.3162450863588986, 0.0]);
        assert_close(&components[1], &[-0.14285526120949937, -0.618019674245634, 0.7730744185329681, 0.0]);
        assert_close(variance, &[12.328571139631, 4.461079698445842]);
        assert_close(ratio, &[0.6555467483646171, 0.23720885878743517]);
        assert_close(&applied(&t, &NEW), &[7.8291436046754415, -5.535161817310277]);
    }

    #[test]
    fn anova_f_equals_scikit_learn() {
        let f = f_classif(&x(), &[0, 1, 0, 1, 1, 0, 1]);
        assert_close(&f[..3], &[0.04511278195488724, 0.7613914303831868, 0.016694721156764805]);
        assert!(f[3].is_nan(), "a constant column has none: {f:?}");
        assert_close(&f_classif(&x(), &[0, 1, 2, 1, 2, 0, 2])[..3], &[0.07072135785007075, 0.03032721468475658, 4.132568729971324]);
    }

    #[test]
    fn select_k_best_equals_scikit_learn() {
        let select = |columns: &[usize]| Transform::Select { width: 4, columns: columns.to_vec() };
        assert_eq!(select_k_best(&x(), &[0, 1, 0, 1, 1, 0, 1], 2), select(&[0, 1]));
        // Of equal scores the last columns are kept; a constant column comes before none but other constant ones.
        let ties = [[1.0, 5.0, 2.0, 1.0], [2.0, 5.0, 4.0, 2.0], [3.0, 5.0, 6.0, 3.0], [5.0, 5.0, 10.0, 5.0]].map(|r| r.to_vec());
        assert_eq!(select_k_best(&ties, &[0, 0, 1, 1], 1), select(&[3]));
        assert_eq!(select_k_best(&ties, &[0, 0, 1, 1], 3), select(&[0, 2, 3]));
        assert_eq!(select_k_best(&ties, &[0, 0, 1, 1], 9), select(&[0, 1, 2, 3]));
    }

    #[test]
    fn cleaning_knows_the_median_and_the_spread() {
        let rows = [[1.0, f64::NAN], [2.0, f64::INFINITY], [9.0, f64::NAN], [f64::NAN, f64::NAN]].map(|r| r.to_vec());
        let t = clean(&rows, 2.0);
        assert_eq!(applied(&t, &[f64::NAN, f64::NAN]), [2.0, 0.0]);
        let deviation = (38.0f64 / 3.0).sqrt();
        assert_close(&applied(&t, &[100.0, 7.0]), &[4.0 + 2.0 * deviation, 0.0]);
    }
}
