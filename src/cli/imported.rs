//! `--import` of `rapport train`: files of a set become interactions and labels on the way, by the very command line of `rapport import`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;

use super::{import, usage};

/// `--import` of another command: what stands between `rapport import` and the files.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    args: import::Args,
}

/// Files of a set as interactions and labels, for as long as this lives.
pub struct Imported {
    dir: PathBuf,
    pub interactions: PathBuf,
    pub labels: PathBuf,
}

impl Imported {
    /// Imports `files` as `rapport import SOURCE FILE…` does, to a folder beside `out`; `source` is its name with its options, quoted as for a shell.
    ///
    /// # Errors
    /// As `rapport import`.
    pub fn new(source: &str, files: &[PathBuf], out: &Path) -> anyhow::Result<Self> {
        let dir = out.with_file_name(format!(".{}.import", out.file_name().unwrap_or_default().to_string_lossy()));
        let imported = Self { interactions: dir.join("interactions.jsonl"), labels: dir.join("labels.jsonl"), dir };
        let mut words: Vec<OsString> = words(source).map_err(usage)?.into_iter().map(OsString::from).collect();
        words.extend(files.iter().map(|f| f.clone().into_os_string()));
        for (flag, path) in [("--out", &imported.interactions), ("--labels", &imported.labels)] {
            words.extend([flag.into(), path.clone().into_os_string()]);
        }
        let line = Line::try_parse_from(words).map_err(|e| {
            let said = e.to_string();
            let said = said.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
            usage(format!("--import {source:?}: {said}; `rapport import --help` lists the sources and their options"))
        })?;
        std::fs::create_dir_all(&imported.dir).with_context(|| format!("cannot make {}", imported.dir.display()))?;
        import::run(line.args)?;
        Ok(imported)
    }
}

impl Drop for Imported {
    fn drop(&mut self) {
        for file in [&self.interactions, &self.labels] {
            let _ = std::fs::remove_file(file);
        }
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// The words of a line, apart at blanks but for those between quotation marks of either kind.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match quote {
            None if c.is_whitespace() => words.extend(word.take()),
            None if matches!(c, '"' | '\'') => (word, quote) = (Some(word.unwrap_or_default()), Some(c)),
            Some(mark) if c == mark => quote = None,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    match quote {
        None => Ok(words),
        Some(mark) => Err(format!("--import {line:?}: the quotation mark {mark} is not closed")),
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_stand_apart_at_blanks_outside_quotation_marks() {
        let split = |line| words(line).map(|w| w.join("|"));
        assert_eq!(split("cdnow"), Ok("cdnow".into()));
        assert_eq!(split("  csv --map  a=b "), Ok("csv|--map|a=b".into()));
        assert_eq!(
            split(r#"csv --time-format '%d.%m.%Y %H:%M' --set "text=it's"''"#),
            Ok("csv|--time-format|%d.%m.%Y %H:%M|--set|text=it's".into())
        );
        assert_eq!(split("csv --delimiter ''"), Ok("csv|--delimiter|".into()));
        assert!(split("csv --set 'a=b").is_err_and(|e| e.contains("' is not closed")));
    }
}
