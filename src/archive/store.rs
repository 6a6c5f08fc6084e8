//! The place of the archive: which offsets its files hold, and new files that appear whole or not at all.
//!
//! `<topic>/partition=<n>/<first offset>-<last offset>.parquet`, offsets in 20 digits, so that the order of names is the order of offsets.
//! On disk a file is written beside its name, synced and renamed; on S3 it is one put. Knows files as bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Runtime;
use tokio_stream::StreamExt;

use super::{ArchiveError, Location, Topic};
use crate::log::{Partition, Position};
use crate::s3;

const LOCK: &str = ".rapport-archive.lock";

/// An open archive. A directory is locked for other processes until it is dropped.
pub(super) struct Store {
    location: Location,
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    runtime: Runtime,
    _lock: Option<fs::File>,
}

/// Offsets of the first and last row of a file.
type Range = (i64, i64);

impl Store {
    /// Opens the place, a directory being created where there is none, and removes what a killed process left half written there.
    pub fn open(location: &Location) -> Result<Self, ArchiveError> {
        let failed = |e: &dyn std::fmt::Display| ArchiveError::Store(format!("{location}: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))?;
        let (objects, prefix, lock): (Arc<dyn ObjectStore>, _, _) = match location {
            Location::Directory(dir) => {
                fs::create_dir_all(dir).map_err(|e| failed(&e))?;
                let lock = fs::File::create(dir.join(LOCK)).map_err(|e| failed(&e))?;
                lock.try_lock().map_err(|e| match e {
                    fs::TryLockError::WouldBlock => {
                        failed(&"another process archives to this place; stop that one, or set archive.url to another place")
                    }
                    fs::TryLockError::Error(e) => failed(&e),
                })?;
                remove_halves(dir).map_err(|e| failed(&e))?;
                let files = LocalFileSystem::new_with_prefix(dir).map_err(|e| failed(&e))?.with_fsync(true);
                (Arc::new(files), Path::default(), Some(lock))
            }
            Location::S3 { bucket, prefix } => {
                let s3 = s3::connect(bucket).map_err(|e| failed(&e))?;
                (Arc::new(s3), Path::parse(prefix).map_err(|e| failed(&e))?, None)
            }
        };
        Ok(Self { location: location.clone(), objects, prefix, runtime, _lock: lock })
    }

    fn failed(&self, e: impl std::fmt::Display) -> ArchiveError {
        ArchiveError::Store(format!("{}: {e}", self.location))
    }

    fn folder(&self, topic: Topic) -> Path {
        self.prefix.clone().join(topic.name())
    }

    /// What comes behind the last file of each partition.
    pub fn positions(&self) -> Result<BTreeMap<Partition, Position>, ArchiveError> {
        let mut positions: BTreeMap<Partition, Position> = BTreeMap::new();
        for topic in Topic::ALL {
            for (partition, mut ranges) in self.list(topic)? {
                ranges.sort_unstable();
                if let Some(pair) = ranges.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
                    let [one, other] = [pair[0], pair[1]].map(|range| self.name(topic, partition, range));
                    return Err(self.failed(format!(
                        "{one} and {other} overlap, so two processes have archived to one place; stop one of them and remove the file of fewer rows"
                    )));
                }
                let next = ranges.last().map_or(0, |(_, last)| last + 1);
                let position = positions.entry(partition).or_default();
                match topic {
                    Topic::Interactions => position.input = next,
                    Topic::Scores => position.score = next,
                }
            }
        }
        Ok(positions)
    }

    fn list(&self, topic: Topic) -> Result<BTreeMap<Partition, Vec<Range>>, ArchiveError> {
        let folder = self.folder(topic);
        let mut found: BTreeMap<Partition, Vec<Range>> = BTreeMap::new();
        self.runtime.block_on(async {
            let mut files = self.objects.list(Some(&folder));
            while let Some(file) = files.next().await {
                let file = file.map_err(|e| self.failed(e))?;
                if let Some((partition, range)) = parse(file.location.as_ref()) {
                    found.entry(partition).or_default().push(range);
                }
            }
            Ok(found)
        })
    }

    fn name(&self, topic: Topic, partition: Partition, (first, last): Range) -> Path {
        self.folder(topic).join(format!("partition={partition}")).join(format!("{first:020}-{last:020}.parquet"))
    }

    /// Publishes a file.
    pub fn put(&self, topic: Topic, partition: Partition, range: Range, bytes: Vec<u8>) -> Result<(), ArchiveError> {
        let name = self.name(topic, partition, range);
        let put = self.objects.put(&name, PutPayload::from(bytes));
        self.runtime.block_on(put).map(drop).map_err(|e| self.failed(format!("{name}: {e}")))
    }
}

/// The partition and offsets that a file's name says.
fn parse(location: &str) -> Option<(Partition, Range)> {
    let mut parts = location.rsplit('/');
    let (first, last) = parts.next()?.strip_suffix(".parquet")?.split_once('-')?;
    let partition = parts.next()?.strip_prefix("partition=")?.parse().ok()?;
    let (first, last): Range = (first.parse().ok()?, last.parse().ok()?);
    (partition >= 0 && 0 <= first && first <= last).then_some((partition, (first, last)))
}

/// A file is written under its name with `#` and a number behind it and then renamed: what still is so was left by a killed process.
fn remove_halves(dir: &FilePath) -> std::io::Result<()> {
    for topic in Topic::ALL {
        let Ok(partitions) = fs::read_dir(dir.join(topic.name())) else { continue };
        for partition in partitions {
            let partition = partition?;
            if !partition.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(partition.path())? {
                let file = file?;
                if file.file_name().to_string_lossy().contains(".parquet#") {
                    tracing::info!("archive: removing {}, which was not finished", file.path().display());
                    fs::remove_file(file.path())?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &FilePath) -> Store {
        Store::open(&Location::Directory(dir.into())).expect("a directory")
    }

    #[test]
    fn positions_are_behind_the_last_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(dir.path());
        assert!(store.positions().expect("empty").is_empty());
        for (topic, partition, range) in [
            (Topic::Interactions, 0, (0, 9)),
            (Topic::Interactions, 0, (10, 12)),
            (Topic::Scores, 0, (3, 7)),
            (Topic::Interactions, 11, (5, 5)),
        ] {
            store.put(topic, partition, range, b"rows".to_vec()).expect("published");
        }
        let file = dir.path().join("interactions/partition=0/00000000000000000010-00000000000000000012.parquet");
        assert_eq!(fs::read(&file).expect("the file"), b"rows");
        fs::write(dir.path().join("interactions/notes.parquet"), "not ours").expect("another file");
        let at = |score, input| Position { score, input };
        assert_eq!(store.positions().expect("listed"), BTreeMap::from([(0, at(8, 13)), (11, at(0, 6))]));

        store.put(Topic::Scores, 0, (7, 8), Vec::new()).expect("published");
        let said = store.positions().expect_err("an overlap").to_string();
        assert!(said.contains("overlap") && said.contains("00000000000000000007-"), "{said}");
    }

    #[test]
    fn a_directory_has_one_writer_and_halves_are_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(dir.path());
        store.put(Topic::Scores, 2, (0, 3), b"rows".to_vec()).expect("published");
        let said = Store::open(&Location::Directory(dir.path().into())).err().expect("locked").to_string();
        assert!(said.contains("another process"), "{said}");
        drop(store);
        let half = dir.path().join("scores/partition=2/00000000000000000004-00000000000000000009.parquet#1");
        fs::write(&half, "half").expect("a file");
        let store = open(dir.path());
        assert!(!half.exists());
        assert_eq!(store.positions().expect("listed")[&2].score, 4);
    }
}
