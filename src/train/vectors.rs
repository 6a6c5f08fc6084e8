//! Word vectors that somebody else trained, as a start for the word table.
//!
//! Knows three sources: the English ones that are built in; a file in GloVe's format, a line per word, most frequent first, the word and its numbers
//! separated by spaces; and the word table of a bundle. Knows no network.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{BufRead, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use flate2::read::GzDecoder;
use prost::Message as _;
use sha2::{Digest, Sha256};
use tract_onnx::pb;

use super::network::DEVIATION;
use crate::cli::usage;
use crate::import::read::open;
use crate::model::TokenizerFile;

/// The most frequent English words of GloVe, as `onnx/word-vectors.sh` writes them: gzip of a word a line, an empty line, then for each word its
/// numbers as signed bytes.
static BUILT_IN: &[u8] = include_bytes!("../../onnx/word-vectors.gz");

/// Numbers of each built-in word.
const WIDTH: usize = 100;

/// Where word vectors come from.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Source {
    /// Those built in, where the texts are in a language that they know.
    #[default]
    BuiltIn,
    /// None: the word table starts at random.
    Nothing,
    /// A file or a bundle.
    Path(PathBuf),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(argument: &str) -> Result<Self, Infallible> {
        Ok(if argument == "none" { Self::Nothing } else { Self::Path(argument.into()) })
    }
}

impl Source {
    /// Version of the bundle that the vectors are of; `None` where they are of none.
    pub fn bundle(&self) -> Option<String> {
        let Self::Path(dir) = self else { return None };
        let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).ok()?).ok()?;
        manifest.get("version")?.as_str().map(String::from)
    }

    /// The vectors for texts with these words and their counts: of the source's `most` most frequent words and of those that the texts have. Each needs
    /// `width` numbers; where the built-in ones have another, or know less than a quarter of the words with a letter, there are none.
    ///
    /// # Errors
    /// A usage error that names the line or the file.
    pub fn vectors(&self, texts: &HashMap<Box<str>, u32>, width: usize, most: usize) -> anyhow::Result<Vectors> {
        let wanted = |word: &str| texts.contains_key(word);
        match self {
            Self::Path(path) => Vectors::read(path, width, most, wanted),
            Self::BuiltIn if width == WIDTH => {
                let vectors = Vectors::built_in(most, wanted)?;
                let [mut known, mut all] = [0u64; 2];
                for (word, n) in texts.iter().filter(|(word, _)| word.contains(char::is_alphabetic)) {
                    all += u64::from(*n);
                    known += if vectors.rows.contains_key(&**word) { u64::from(*n) } else { 0 };
                }
                Ok(if known > 0 && known * 4 >= all { vectors } else { Vectors::default() })
            }
            Self::BuiltIn | Self::Nothing => Ok(Vectors::default()),
        }
    }
}

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
    /// Reads the first `frequent` words of a file (plain or gzip), or of a bundle's word table, and those for which `wanted` asks. Each needs `width`
    /// numbers.
    ///
    /// # Errors
    /// A usage error that names the line or the file.
    fn read(path: &Path, width: usize, frequent: usize, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Self> {
        let mut vectors = Self { width, ..Self::default() };
        if path.is_dir() {
            vectors.take_bundle(path).map_err(|e| usage(format!("--vectors {}: {e:#}", path.display())))?;
        } else {
            let reader = open(path).map_err(|e| usage(format!("--vectors: {e:#}")))?;
            for (i, line) in reader.lines().enumerate() {
                let wrong = |what: String| usage(format!("--vectors {}:{}: {what}", path.display(), i + 1));
                let line = line.map_err(|e| wrong(e.to_string()))?;
                let (word, numbers) = line.split_once(' ').unwrap_or((&line, ""));
                if i < frequent || wanted(word) {
                    vectors.take_line(word, numbers).map_err(wrong)?;
                }
            }
        }
        Ok(vectors.finish())
    }

    /// The first `frequent` of the built-in words and those for which `wanted` asks.
    fn built_in(frequent: usize, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Self> {
        let mut bytes = Vec::new();
        GzDecoder::new(BUILT_IN).read_to_end(&mut bytes).context("the built-in word vectors are damaged")?;
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").context("the built-in word vectors have no end of words")?;
        let words = std::str::from_utf8(&bytes[..end]).context("a built-in word is no text")?.lines();
        let mut vectors = Self { width: WIDTH, ..Self::default() };
        for (i, (word, numbers)) in words.zip(bytes[end + 2..].chunks_exact(WIDTH)).enumerate() {
            if i < frequent || wanted(word) {
                let numbers: Vec<f32> = numbers.iter().map(|n| f32::from(n.cast_signed())).collect();
                vectors.take(word, &numbers).map_err(anyhow::Error::msg)?;
            }
        }
        Ok(vectors.finish())
    }

    /// Hashes the vectors and scales them.
    fn finish(mut self) -> Self {
        let mut sha = Sha256::new();
        self.words.iter().for_each(|w| sha.update(format!("{w}\n")));
        self.values.iter().for_each(|v| sha.update(v.to_le_bytes()));
        self.hash = format!("{:x}", sha.finalize());
        let n = self.values.len().max(1) as f64;
        let deviation = (self.values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n).sqrt() as f32;
        if deviation > 0.0 {
            self.values.iter_mut().for_each(|v| *v *= DEVIATION / deviation);
        }
        self
    }

    fn take_line(&mut self, word: &str, numbers: &str) -> Result<(), String> {
        let numbers = numbers.split_ascii_whitespace().map(|n| n.parse().map_err(|_| format!("{n:?} is not a number")));
        self.take(word, &numbers.collect::<Result<Vec<f32>, _>>()?)
    }

    fn take(&mut self, word: &str, numbers: &[f32]) -> Result<(), String> {
        let (found, width) = (numbers.len(), self.width);
        if found != width || numbers.iter().any(|n| !n.is_finite()) {
            return Err(format!("{word:?} has {found} numbers; {width} finite ones are needed (the setting `embedding`)"));
        }
        if !self.rows.contains_key(word) {
            self.rows.insert(word.to_owned(), self.words.len());
            self.words.push(word.to_owned());
            self.values.extend_from_slice(numbers);
        }
        Ok(())
    }

    /// The word table of a bundle.
    fn take_bundle(&mut self, dir: &Path) -> anyhow::Result<()> {
        let read = |name: &str| std::fs::read(dir.join(name)).with_context(|| format!("no bundle: cannot read {name}"));
        let tokenizer: TokenizerFile = serde_json::from_slice(&read("tokenizer.json")?).context("tokenizer.json")?;
        let graph = pb::ModelProto::decode(&*read("text_cnn.onnx")?).context("text_cnn.onnx")?.graph.unwrap_or_default();
        let table = graph.initializer.iter().find(|t| t.name == "words").context("text_cnn.onnx has no table `words`")?;
        let values: Vec<f32> = table.raw_data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let width = table.dims.get(1).map_or(0, |d| *d as usize).max(1);
        // Padding and unknown come first.
        for (word, row) in tokenizer.words.iter().zip(values.chunks_exact(width).skip(2)) {
            self.take(word, row).map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }

    pub fn get(&self, word: &str) -> Option<&[f32]> {
        self.rows.get(word).map(|row| &self.values[row * self.width..][..self.width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vectors, String> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("vectors.txt");
        std::fs::write(&path, text).expect("temporary file");
        Vectors::read(&path, 2, 1, |word| word == "cat").map_err(|e| e.to_string())
    }

    #[test]
    fn frequent_and_wanted_words_are_read_and_scaled() {
        let vectors = read("the 3 4\ndog 1 1\ncat 0 5\n").expect("vectors");
        assert_eq!(vectors.words, ["the", "cat"]);
        // Root of the mean square of 3, 4, 0, 5 is √12.5.
        let scale = DEVIATION / 12.5f32.sqrt();
        assert_eq!(vectors.get("the"), Some([3.0 * scale, 4.0 * scale].as_slice()));
        assert_eq!(vectors.get("dog"), None);
        assert_ne!(vectors.hash, read("the 3 4\ncat 0 6\n").expect("vectors").hash);
    }

    #[test]
    fn the_built_in_ones_are_for_texts_whose_words_they_know() {
        let texts = |words: &[(&str, u32)]| words.iter().map(|(word, n)| ((*word).into(), *n)).collect::<HashMap<Box<str>, u32>>();
        let choose = |words: &[(&str, u32)], width| Source::BuiltIn.vectors(&texts(words), width, 10).expect("sound vectors");
        let english = choose(&[("refund", 2), ("zzgx", 6), (",", 100)], WIDTH);
        assert_eq!(english.words.len(), 11, "the ten most frequent and `refund`: {:?}", english.words);
        let cosine = |a: &str, b: &str| {
            let all = Vectors::built_in(usize::MAX, |_| false).expect("sound vectors");
            let dot =
                |a: &str, b: &str| all.get(a).into_iter().flatten().zip(all.get(b).into_iter().flatten()).map(|(x, y)| x * y).sum::<f32>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        assert!(cosine("refund", "refunds") > cosine("refund", "guitar") + 0.3);
        for (words, width) in
            [(&[("refund", 2), ("zzgx", 7)][..], WIDTH), (&[("退", 5), ("7", 9)], WIDTH), (&[], WIDTH), (&[("refund", 2)], 50)]
        {
            assert_eq!(choose(words, width), Vectors::default(), "{words:?} {width}");
        }
        assert_eq!(Source::Nothing.vectors(&texts(&[("refund", 2)]), WIDTH, 10).expect("nothing"), Vectors::default());
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, mentions) in
            [("the 3 4\ncat 1\n", ":2: \"cat\" has 1 numbers; 2"), ("the 3 x\n", ":1: \"x\" is not a number"), ("the 3 NaN\n", "2 finite")]
        {
            let error = read(text).expect_err(text);
            assert!(error.contains(mentions), "{error}");
        }
    }

    #[test]
    fn a_bundle_gives_its_word_table() {
        let champion = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/champion");
        let vectors = Vectors::read(&champion, 100, 0, |_| false).expect("the champion's words");
        assert!(vectors.get("order").is_some() && vectors.words.len() > 5_000, "{}", vectors.words.len());
        let error = Vectors::read(&champion, 99, 0, |_| false).expect_err("another width").to_string();
        assert!(error.contains("100 numbers; 99"), "{error}");
    }
}
