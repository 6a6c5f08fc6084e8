//! The file beside `--out` from which a run that was killed goes on: what the run says that it needs, and a fingerprint of all that its result
//! depends on.
//!
//! Knows nothing of what it keeps. When it is written depends on the clock, what a run makes of it does not: the caller offers only states from
//! which it would end as it ends without a break.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::write;

/// Most work that a kill costs, where an epoch is longer.
const MOST: Duration = Duration::from_secs(60);
/// At the ends of epochs, as much work for each second that goes into writing.
const WORTH: u32 = 20;
/// Bytes of the check at the end of the file.
const CHECK: usize = size_of::<u128>();

/// All that determines a result, in parts, so that a run can say which of them differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    data: String,
    settings: String,
    seed: u64,
    build: String,
}

impl Fingerprint {
    /// Of a hash of the data, the settings in words, and the seed.
    pub fn new(data: String, settings: String, seed: u64) -> Self {
        // The same code in another build may round otherwise.
        let program = std::env::current_exe().and_then(fs::read).map_or(0, |bytes| xxh3_128(&bytes));
        let build = format!("{} {program:032x}", env!("CARGO_PKG_VERSION"));
        Self { data, settings, seed, build }
    }

    /// What of `other` is different.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            ("data", self.data != other.data),
            ("settings", self.settings != other.settings),
            ("seed", self.seed != other.seed),
            ("build of this program", self.build != other.build),
        ];
        parts.into_iter().filter(|(_, different)| *different).map(|(name, _)| name).collect()
    }
}

/// The file, and when it was last written.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    fingerprint: Fingerprint,
    written: Instant,
    /// Time that the last writing took; none before, so that the end of the first epoch is always worth it.
    cost: Duration,
    /// Whether a write has failed: then there are no more.
    given_up: bool,
}

impl Checkpoint {
    /// `OUT.checkpoint`, for a run with this fingerprint.
    pub fn beside(out: &Path, fingerprint: Fingerprint) -> Self {
        let path = with_suffix(out, ".checkpoint");
        Self { path, fingerprint, written: Instant::now(), cost: Duration::ZERO, given_up: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What an earlier run of this fingerprint left, if any.
    ///
    /// # Errors
    /// Why the file that is there is of no use to this run, in words.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, String> {
        let bytes = match fs::read(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| format!("it cannot be read: {e}"))?,
        };
        let damaged = || "it is damaged or no checkpoint".to_owned();
        let (mut body, check) = bytes.split_last_chunk::<CHECK>().ok_or_else(damaged)?;
        if xxh3_128(body).to_le_bytes() != *check {
            return Err(damaged());
        }
        let found: Fingerprint = ciborium::from_reader(&mut body).map_err(|_| damaged())?;
        match self.fingerprint.differences(&found).as_slice() {
            [] => ciborium::from_reader(&mut body).map(Some).map_err(|_| damaged()),
            parts => Err(format!("it is of a run with other {}", parts.join(" and other "))),
        }
    }

    /// Writes `value` if it is time: at the end of an epoch where the work since the last time is worth it, otherwise at least every minute.
    ///
    /// # Errors
    /// Why it cannot be written, in words and only once: a run does not end for want of a checkpoint.
    pub fn offer(&mut self, epoch_ended: bool, value: &impl Serialize) -> Result<(), String> {
        let worked = self.written.elapsed();
        let due = worked >= MOST || epoch_ended && worked >= WORTH * self.cost;
        if self.given_up || !due {
            return Ok(());
        }
        let begun = Instant::now();
        let saved = self.save(value);
        (self.written, self.cost) = (Instant::now(), begun.elapsed());
        saved.map_err(|e| {
            self.given_up = true;
            format!("cannot write {}: {e}; the run goes on without it, and would start anew after a break", self.path.display())
        })
    }

    /// Puts the file in place of the last one by a rename: whatever happens, one of them is there and whole.
    fn save(&self, value: &impl Serialize) -> io::Result<()> {
        let new = with_suffix(&self.path, ".new");
        if let Err(e) = self.save_as(&new, value) {
            let _ = fs::remove_file(&new);
            return Err(e);
        }
        fs::rename(&new, &self.path)?;
        write::sync(&write::parent(&self.path))
    }

    fn save_as(&self, path: &Path, value: &impl Serialize) -> io::Result<()> {
        fs::create_dir_all(write::parent(path))?;
        let mut file = Checked { file: BufWriter::new(File::create(path)?), hasher: Xxh3::new() };
        for written in [ciborium::into_writer(&self.fingerprint, &mut file), ciborium::into_writer(value, &mut file)] {
            written.map_err(|e| match e {
                ciborium::ser::Error::Io(e) => e,
                ciborium::ser::Error::Value(what) => io::Error::other(what),
            })?;
        }
        let check = file.hasher.digest128().to_le_bytes();
        file.write_all(&check)?;
        file.file.into_inner()?.sync_all()
    }

    /// Removes the file: the run has come to its end.
    pub fn remove(self) {
        // One that stays behind does no harm: a run like this one ends at once from it, any other says that it is not used.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(with_suffix(&self.path, ".new"));
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Hashes what goes by.
struct Checked {
    file: BufWriter<File>,
    hasher: Xxh3,
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint() -> Fingerprint {
        Fingerprint::new("data".into(), "settings".into(), 1)
    }

    fn checkpoint(dir: &Path, fingerprint: Fingerprint) -> Checkpoint {
        Checkpoint::beside(&dir.join("bundle"), fingerprint)
    }

    #[test]
    fn only_a_whole_file_of_the_same_run_is_used() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut kept = checkpoint(dir.path(), fingerprint());
        assert_eq!(kept.load::<Vec<u32>>(), Ok(None));
        kept.offer(false, &vec![1u32]).expect("nothing to do in the middle of an epoch");
        assert!(!kept.path().exists());
        kept.offer(true, &vec![1u32, 2, 3]).expect("a place to write");
        assert_eq!(kept.load(), Ok(Some(vec![1u32, 2, 3])));
        kept.offer(true, &vec![4u32]).expect("not yet due again");
        assert_eq!(kept.load(), Ok(Some(vec![1u32, 2, 3])));

        let other = Fingerprint { settings: "others".into(), seed: 2, ..fingerprint() };
        let why = checkpoint(dir.path(), other).load::<Vec<u32>>().expect_err("another run");
        assert_eq!(why, "it is of a run with other settings and other seed");
        let other = Fingerprint { data: "more".into(), ..fingerprint() };
        let why = checkpoint(dir.path(), other).load::<Vec<u32>>().expect_err("another run");
        assert_eq!(why, "it is of a run with other data");

        let whole = fs::read(kept.path()).expect("the file");
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for broken in [&flipped, &whole[..whole.len() - 1], &whole[..3], b""] {
            fs::write(kept.path(), broken).expect("a place to write");
            assert_eq!(kept.load::<Vec<u32>>(), Err("it is damaged or no checkpoint".into()));
        }
        kept.remove();
        assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 0);
    }

    #[test]
    fn what_cannot_be_written_is_said_once() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::write(dir.path().join("file"), "").expect("a place to write");
        let mut kept = checkpoint(&dir.path().join("file"), fingerprint());
        let said = kept.offer(true, &1).expect_err("no directory");
        assert!(said.contains("cannot write") && said.contains("file/bundle.checkpoint"), "{said}");
        kept.written = Instant::now() - MOST;
        assert_eq!(kept.offer(true, &1), Ok(()));
    }
}
