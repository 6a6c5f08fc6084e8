//! Reading published files: gzip by content, lines with numbers, names from the file name.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, bail};
use flate2::bufread::MultiGzDecoder;

/// Opens a file for reading; gzip is recognised by its first bytes, a UTF-8 byte order mark is dropped.
///
/// # Errors
/// A file that cannot be opened or read.
pub fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file = BufReader::new(File::open(path).with_context(cannot)?);
    let zipped = file.fill_buf().with_context(cannot)?.starts_with(&[0x1f, 0x8b]);
    let mut reader: Box<dyn BufRead> = if zipped { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) };
    if reader.fill_buf().with_context(cannot)?.starts_with("\u{feff}".as_bytes()) {
        reader.consume(3);
    }
    Ok(reader)
}

/// The file's name without its endings and in lower case: `uss/MWOZ.train.txt.gz` is `mwoz-train`.
pub fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let name = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect()
}

/// Lines of a text file, counted from 1, without their line ends.
pub struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), number: 0 }
    }

    /// The next line's number and text (`Err`: it is not UTF-8), or `None` at the end.
    ///
    /// # Errors
    /// Input that cannot be read.
    pub fn next(&mut self) -> std::io::Result<Option<(u64, Result<&str, &'static str>)>> {
        self.buffer.clear();
        if self.reader.read_until(b'\n', &mut self.buffer)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some((self.number, std::str::from_utf8(line).map_err(|_| "the line is not UTF-8"))))
    }
}

/// A delimited file as it is being read.
pub type Table = csv::Reader<Box<dyn BufRead>>;

/// Opens a delimited file with a header line that must begin with these columns (compared without spaces and case).
///
/// # Errors
/// A file that cannot be read, or another header: the message says what was expected of a file of `set`.
pub fn table(path: &Path, delimiter: u8, set: &str, columns: &[&[&str]]) -> anyhow::Result<Table> {
    let mut table = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(open(path)?);
    let header = table.byte_headers().with_context(|| format!("cannot read {}", path.display()))?;
    let plain = |s: &[u8]| String::from_utf8_lossy(s).replace(' ', "").to_lowercase();
    let fits = columns.iter().enumerate().all(|(i, names)| header.get(i).is_some_and(|have| names.contains(&plain(have).as_str())));
    if !fits {
        let expected: Vec<&str> = columns.iter().map(|names| names[0]).collect();
        let found: Vec<String> = header.iter().take(columns.len()).map(|f| String::from_utf8_lossy(f).chars().take(40).collect()).collect();
        bail!("{} is no file of {set}: its first line should name the columns {expected:?}, it has {found:?}", path.display());
    }
    Ok(table)
}

/// The end of every importer's loop over a file: one without a good row is none of `set`.
///
/// # Errors
/// `rows` is 0.
pub fn some_rows(path: &Path, rows: u64, set: &str, shape: &str) -> anyhow::Result<()> {
    if rows == 0 {
        bail!("{} is no file of {set}: not one row is {shape}", path.display());
    }
    Ok(())
}
