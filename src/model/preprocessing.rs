//! Transforms of rows of numbers, fitted in training and stored in `preprocessing.json`; here they are only applied.
//!
//! Each is scikit-learn's of the same purpose, in f64. Knows nothing of what the numbers mean. Fitting is `train::preprocess`.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::customer::words;
use crate::features::BEHAVIOUR;

/// One step of a [`Pipeline`]. Vectors have one entry per column that comes in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Transform {
    /// A value that is no finite number becomes `fill`; any other is moved to within [low, high].
    Clean { fill: Vec<f64>, low: Vec<f64>, high: Vec<f64> },
    /// (x − low) / range, as `MinMaxScaler` to [0, 1]; values beyond those of training leave it.
    MinMax { low: Vec<f64>, range: Vec<f64> },
    /// (x − mean) / deviation, as `StandardScaler`.
    Standard { mean: Vec<f64>, deviation: Vec<f64> },
    /// The columns of these numbers, in rising order, as `SelectKBest`; of `width` that come in.
    Select { width: usize, columns: Vec<usize> },
    /// (x − mean) · componentᵀ, as `PCA`; `variance` and `ratio` are its explained variances and their shares of the whole.
    Pca { mean: Vec<f64>, components: Vec<Vec<f64>>, variance: Vec<f64>, ratio: Vec<f64> },
}

impl Transform {
    /// Numbers of columns in and out, or how the vectors do not fit each other.
    fn widths(&self) -> Result<(usize, usize), String> {
        let equal = |name: &str, lengths: &[usize]| match lengths {
            [first, rest @ ..] if rest.iter().all(|l| l == first) => Ok((*first, *first)),
            _ => Err(format!("the vectors of {name} have {lengths:?} entries")),
        };
        match self {
            Self::Clean { fill, low, high } => equal("clean", &[fill.len(), low.len(), high.len()]),
            Self::MinMax { low, range } => equal("min_max", &[low.len(), range.len()]),
            Self::Standard { mean, deviation } => equal("standard", &[mean.len(), deviation.len()]),
            Self::Select { width, columns } if columns.iter().all(|c| c < width) => Ok((*width, columns.len())),
            Self::Select { width, .. } => Err(format!("select names a column beyond the {width} that come in")),
            Self::Pca { mean, components, .. } if components.iter().all(|c| c.len() == mean.len()) => Ok((mean.len(), components.len())),
            Self::Pca { mean, .. } => Err(format!("a component of pca has not {} entries", mean.len())),
        }
    }

    /// Replaces `row` by what it becomes.
    pub fn apply(&self, row: &mut Vec<f64>) {
        let columns = |row: &mut Vec<f64>, f: &dyn Fn(usize, f64) -> f64| row.iter_mut().enumerate().for_each(|(i, x)| *x = f(i, *x));
        match self {
            Self::Clean { fill, low, high } => {
                columns(row, &|i, x| if x.is_finite() { x.max(low[i]).min(high[i]) } else { fill[i] });
            }
            Self::MinMax { low, range } => columns(row, &|i, x| (x - low[i]) / range[i]),
            Self::Standard { mean, deviation } => columns(row, &|i, x| (x - mean[i]) / deviation[i]),
            Self::Select { columns, .. } => *row = columns.iter().map(|c| row[*c]).collect(),
            Self::Pca { mean, components, .. } => {
                columns(row, &|i, x| x - mean[i]);
                *row = components.iter().map(|c| c.iter().zip(row.iter()).map(|(c, x)| c * x).sum()).collect();
            }
        }
    }
}

/// Transforms one after the other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pipeline {
    pub steps: Vec<Transform>,
}

impl Pipeline {
    /// Number of columns that come out of `width`, or why the steps do not fit.
    pub fn check(&self, mut width: usize) -> Result<usize, String> {
        for step in &self.steps {
            let (input, output) = step.widths()?;
            if input != width {
                return Err(format!("a step takes {input} columns, {width} come in"));
            }
            width = output;
        }
        Ok(width)
    }

    /// Transforms one row, as wide as [`Self::check`] was told.
    pub fn apply(&self, mut row: Vec<f64>) -> Vec<f64> {
        self.steps.iter().for_each(|s| s.apply(&mut row));
        row
    }
}

/// One-hot columns of one name, as `OneHotEncoder(handle_unknown="ignore")`: a value that is none of them is all zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct OneHot {
    /// In byte order.
    names: Vec<String>,
    hashes: Vec<u32>,
}

impl OneHot {
    /// Appends one column per name for a value, given as its hash ([`words::hash`]; 0: absent).
    pub fn append(&self, hash: u32, row: &mut Vec<f64>) {
        row.extend(self.hashes.iter().map(|h| f64::from(u8::from(*h == hash))));
    }

    /// The names, in the order of their columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl From<Vec<String>> for OneHot {
    fn from(mut names: Vec<String>) -> Self {
        names.sort();
        names.dedup();
        Self { hashes: names.iter().map(|n| words::hash(n)).collect(), names }
    }
}

impl From<OneHot> for Vec<String> {
    fn from(one_hot: OneHot) -> Self {
        one_hot.names
    }
}

/// SHA-256 over the names of the behaviour features: a bundle of other features is refused.
pub fn behaviour_hash() -> String {
    let mut sha = Sha256::new();
    for name in BEHAVIOUR {
        sha.update(name.as_bytes());
        sha.update([0]);
    }
    super::hex(&sha.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_fills_and_clips() {
        let clean = Transform::Clean { fill: vec![3.0, 4.0, 5.0, 6.0], low: vec![0.0; 4], high: vec![10.0; 4] };
        let mut row = vec![f64::NAN, f64::NEG_INFINITY, -1.0, 11.0];
        clean.apply(&mut row);
        assert_eq!(row, [3.0, 4.0, 0.0, 10.0]);
    }

    /// `OneHotEncoder(handle_unknown="ignore").fit([["web"], ["shop"], ["web"], ["phone"]]).transform([["shop"], ["web"], ["fax"]])`
    #[test]
    fn one_hot_ignores_what_it_does_not_know() {
        let one_hot = OneHot::from(["web", "shop", "web", "phone"].map(String::from).to_vec());
        assert_eq!(one_hot.names(), ["phone", "shop", "web"]);
        let mut row = Vec::new();
        ["shop", "web", "fax"].iter().for_each(|v| one_hot.append(words::hash(v), &mut row));
        one_hot.append(0, &mut row);
        assert_eq!(row, [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let stored = serde_json::to_string(&one_hot).expect("serialises");
        assert_eq!(serde_json::from_str::<OneHot>(&stored).expect("reads back"), one_hot);
    }

    #[test]
    fn steps_that_do_not_fit_are_refused() {
        let standard = |n| Transform::Standard { mean: vec![0.0; n], deviation: vec![1.0; n] };
        let select = |columns: &[usize]| Transform::Select { width: 3, columns: columns.to_vec() };
        let check = |steps: Vec<Transform>| Pipeline { steps }.check(3);
        assert_eq!(check(vec![standard(3), select(&[0, 2]), standard(2)]), Ok(2));
        assert_eq!(check(vec![select(&[0, 2]), standard(3)]), Err("a step takes 3 columns, 2 come in".into()));
        assert!(check(vec![select(&[0, 3])]).is_err());
        assert!(check(vec![Transform::MinMax { low: vec![0.0; 3], range: vec![1.0; 2] }]).is_err());
        assert!(
            check(vec![Transform::Pca { mean: vec![0.0; 3], components: vec![vec![1.0; 2]], variance: vec![], ratio: vec![] }]).is_err()
        );
    }
}
