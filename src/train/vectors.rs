//! Word vectors that somebody else trained, as a start for the word table.
//!
//! Knows one file format, GloVe's: a line per word, most frequent first, the word and its numbers separated by spaces. Knows no network.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::network::DEVIATION;
use crate::cli::usage;
use crate::import::read::open;

/// Vectors of words, most frequent word first, scaled to the spread of a fresh word table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vectors {
    pub words: Vec<String>,
    rows: HashMap<String, usize>,
    values: Vec<f32>,
    width: usize,
    /// SHA-256 of what was read, in hex.
    pub hash: String,
}

impl Vectors {
    /// Reads the first `frequent` words of a file (plain or gzip) and those for which `wanted` asks. Each needs `width` numbers.
    ///
    /// # Errors
    /// A usage error that names the line.
    pub fn read(path: &Path, width: usize, frequent: usize, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Self> {
        let mut vectors = Self { width, ..Self::default() };
        let wrong = |line: usize, what: String| usage(format!("--vectors {}:{line}: {what}", path.display()));
        let reader = open(path).map_err(|e| usage(format!("--vectors: {e:#}")))?;
        for (i, line) in reader.lines().enumerate() {
            let line = line.map_err(|e| wrong(i + 1, e.to_string()))?;
            let mut fields = line.split(' ');
            let word = fields.next().unwrap_or_default();
            if i >= frequent && !wanted(word) || vectors.rows.contains_key(word) {
                continue;
            }
            let before = vectors.values.len();
            for field in fields {
                let value: f32 = field.parse().map_err(|_| wrong(i + 1, format!("{field:?} is not a number")))?;
                vectors.values.push(value);
            }
            let found = vectors.values.len() - before;
            if found != width || vectors.values[before..].iter().any(|v| !v.is_finite()) {
                let what = format!("{word:?} has {found} numbers; {width} finite ones are needed (the setting `embedding`)");
                return Err(wrong(i + 1, what));
            }
            vectors.rows.insert(word.to_owned(), vectors.words.len());
            vectors.words.push(word.to_owned());
        }
        let mut sha = Sha256::new();
        vectors.words.iter().for_each(|w| sha.update(format!("{w}\n")));
        vectors.values.iter().for_each(|v| sha.update(v.to_le_bytes()));
        vectors.hash = format!("{:x}", sha.finalize());
        let n = vectors.values.len().max(1) as f64;
        let deviation = (vectors.values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n).sqrt() as f32;
        if deviation > 0.0 {
            vectors
                .values
                .iter_mut()
                .for_each(|v| *v *= DEVIATION / deviation);
        }
        Ok(vectors)
    }

    pub fn get(&self, word: &str) -> Option<&[f32]> {
        self.rows.get(word).map(|row| &self.values[row * self.width..][..self.width])
    }
}
