//! The registry: immutable bundles in a directory, one subdirectory per version, and a journal of what serves.
//!
//! A bundle is copied in beside its place, checked there as serving would check it, and put in its place by one rename. Knows no log, no worker and
//! no judgement of quality.

mod journal;

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{BundleError, Model, hex};
use crate::interaction::Timestamp;
pub use journal::{Action, Entry};

/// Name of the journal in a registry's directory.
pub const JOURNAL: &str = "registry.json";
const LOCK: &str = ".lock";

/// Why the registry refused. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    #[error("{0}")]
    Journal(String),
    #[error("{0}")]
    Bundle(#[from] BundleError),
    #[error("{0}")]
    Refused(String),
}

/// What a bundle serves as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Champion,
    Shadow,
}

impl Role {
    pub const ALL: [Self; 2] = [Self::Champion, Self::Shadow];

    /// Key of its announcements.
    pub fn name(self) -> &'static str {
        match self {
            Self::Champion => "champion",
            Self::Shadow => "shadow",
        }
    }
}

/// What is to serve in a role, as it is told to running services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Absent: nothing (only a shadow can end).
    pub version: Option<String>,
    /// Directory of the bundle.
    pub location: Option<PathBuf>,
    /// SHA-256 of its `manifest.json`.
    pub sha256: Option<String>,
    /// RFC 3339; of two, the later one counts.
    pub at: String,
}

impl Announcement {
    /// When it was made; the beginning of time where that cannot be read.
    pub fn time(&self) -> Timestamp {
        Timestamp::parse(&self.at).unwrap_or_default()
    }

    /// Loads what it announces, from the registry where that has it, else from its location. `None` where nothing is to serve.
    ///
    /// # Errors
    /// A bundle that is damaged, cannot be reached, or is not the announced one.
    pub fn load(&self, registry: Option<&Registry>) -> Result<Option<Arc<Model>>, RegistryError> {
        let (Some(version), Some(sha256)) = (&self.version, &self.sha256) else { return Ok(None) };
        let own = registry.filter(|_| is_plain(version)).map(|r| r.path(version)).filter(|p| p.join("manifest.json").is_file());
        let dir = own.or_else(|| self.location.clone());
        let dir = dir.ok_or_else(|| RegistryError::Refused(format!("the announcement of {version} names no location")))?;
        let found = manifest_hash(&dir)?;
        if found != *sha256 {
            return Err(RegistryError::Refused(format!(
                "{} is not the announced bundle: the SHA-256 of its manifest.json is {found} instead of {sha256}",
                dir.display()
            )));
        }
        Ok(Some(Model::load(dir)?))
    }
}

/// A registry's directory, which need not exist yet.
#[derive(Debug, Clone)]
pub struct Registry {
    dir: PathBuf,
}

/// What the journal comes to.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    pub champion: Option<Entry>,
    /// Last decision about a shadow: [`Action::Shadowed`], or how it ended.
    pub shadow: Option<Entry>,
}

/// Held by whoever changes the registry; others wait.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] File);

impl Registry {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a version lies, or would.
    pub fn path(&self, version: &str) -> PathBuf {
        self.dir.join(version)
    }

    pub fn journal_path(&self) -> PathBuf {
        self.dir.join(JOURNAL)
    }

    /// The journal, oldest first.
    ///
    /// # Errors
    /// A journal that cannot be read, with the line.
    pub fn entries(&self) -> Result<Vec<Entry>, RegistryError> {
        journal::read(&self.journal_path())
    }

    /// Versions in the directory, in order.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn versions(&self) -> Result<Vec<String>, RegistryError> {
        let failed = |e| RegistryError::Io(format!("cannot read the registry {}", self.dir.display()), e);
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut versions = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_plain(&name) && entry.path().join("manifest.json").is_file() {
                versions.push(name);
            }
        }
        versions.sort();
        Ok(versions)
    }

    /// Waits for others that change the registry, creating the directory where there is none.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub fn lock(&self) -> Result<Lock, RegistryError> {
        let failed = |e| RegistryError::Io(format!("cannot lock the registry {}", self.dir.display()), e);
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.dir.join(LOCK)).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(Lock(file))
    }

    /// Copies a bundle in, checked as for serving, and returns it loaded from its place. A version that is there already stays as it is, and
    /// must be the same.
    ///
    /// # Errors
    /// What is wrong with the bundle, or what could not be written; the registry is as it was then.
    pub fn add(&self, bundle: &Path, _: &Lock) -> Result<Arc<Model>, RegistryError> {
        let model = Model::load(bundle)?;
        let version = model.version.as_str();
        if !is_plain(version) {
            return Err(RegistryError::Refused(format!(
                "the version {version:?} of {} cannot name a directory: letters, digits, '.', '_' and '-' are right",
                bundle.display()
            )));
        }
        let place = self.path(version);
        if place.exists() {
            let (here, there) = (manifest_hash(&place)?, manifest_hash(bundle)?);
            if here != there {
                return Err(RegistryError::Refused(format!(
                    "the registry has another bundle of version {version} in {}; versions never change, so train this one anew",
                    place.display()
                )));
            }
            return Ok(Model::load(place)?);
        }
        let incoming = self.dir.join(format!(".incoming-{version}"));
        let copied = copy(&model, bundle, &incoming)
            .map_err(|e| RegistryError::Io(format!("cannot copy {} into the registry", bundle.display()), e));
        // What was copied is what will serve, so that is what is checked.
        let checked = copied.and_then(|()| Ok(Model::load(&incoming)?));
        let placed = checked.and_then(|_| {
            let renamed = fs::rename(&incoming, &place).and_then(|()| File::open(&self.dir)?.sync_all());
            renamed.map_err(|e| RegistryError::Io(format!("cannot put {} in its place", place.display()), e))
        });
        if placed.is_err() {
            // A half copy is of no use; the error that matters is the first.
            let _ = fs::remove_dir_all(&incoming);
        }
        placed?;
        Ok(Model::load(place)?)
    }

    /// Writes a decision about `model`, which lies in the registry, to the journal.
    ///
    /// # Errors
    /// What could not be written.
    pub fn decide(&self, action: Action, model: &Model, reasons: Reasons, _: &Lock) -> Result<Entry, RegistryError> {
        let entries = self.entries()?;
        let latest = entries.iter().filter_map(|e| Timestamp::parse(&e.at).ok()).max().unwrap_or_default();
        // Clocks differ between machines; the order of decisions must not.
        let at = Timestamp::now().max(Timestamp(latest.0 + 1));
        let parent = standing(&entries).champion.map(|c| c.version).filter(|v| v != model.version.as_str());
        let entry = Entry {
            at: at.to_string(),
            action,
            version: model.version.to_string(),
            parent,
            by: who(),
            forced: reasons.forced,
            sha256: manifest_hash(model.dir())?,
            training: serde_json::to_value(&model.manifest.training).unwrap_or_default(),
            judged: reasons.judged,
        };
        journal::append(&self.journal_path(), &entry)?;
        Ok(entry)
    }

    /// What a decision means to running services.
    pub fn announcement(&self, entry: &Entry) -> Announcement {
        if entry.action == Action::Unshadowed {
            return Announcement { version: None, location: None, sha256: None, at: entry.at.clone() };
        }
        let place = self.path(&entry.version);
        Announcement {
            version: Some(entry.version.clone()),
            location: Some(place.canonicalize().unwrap_or(place)),
            sha256: Some(entry.sha256.clone()),
            at: entry.at.clone(),
        }
    }
}

/// Why a decision was made.
#[derive(Debug, Clone, Default)]
pub struct Reasons {
    pub forced: Option<String>,
    pub judged: Option<serde_json::Value>,
}

/// What a journal comes to. A challenger that becomes champion is a shadow no more.
pub fn standing(entries: &[Entry]) -> Standing {
    let mut standing = Standing::default();
    for entry in entries {
        match entry.action {
            Action::Adopted | Action::Promoted | Action::RolledBack => {
                if let Some(shadow) = standing.shadow.as_mut().filter(|s| s.action == Action::Shadowed && s.version == entry.version) {
                    *shadow = Entry { action: Action::Unshadowed, at: entry.at.clone(), ..shadow.clone() };
                }
                standing.champion = Some(entry.clone());
            }
            Action::Shadowed | Action::Unshadowed => standing.shadow = Some(entry.clone()),
        }
    }
    standing
}

/// The version that served before `version` did, the last time that it was promoted.
pub fn before<'a>(entries: &'a [Entry], version: &str) -> Option<&'a str> {
    let promoted = |e: &&Entry| e.version == version && matches!(e.action, Action::Promoted);
    entries.iter().rev().find(promoted)?.parent.as_deref()
}

/// SHA-256 of a bundle's manifest.
///
/// # Errors
/// A manifest that cannot be read.
pub fn manifest_hash(bundle: &Path) -> Result<String, RegistryError> {
    let path = bundle.join("manifest.json");
    let bytes = fs::read(&path).map_err(|e| RegistryError::Io(format!("cannot read {}", path.display()), e))?;
    Ok(hex(&Sha256::digest(bytes)))
}

/// Whether a version can name a directory and nothing else.
fn is_plain(version: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !version.is_empty() && version.len() <= 128 && !version.starts_with('.') && version.bytes().all(allowed)
}

/// Copies the files that the manifest names, the manifest itself and the reports, and syncs them to disk.
fn copy(model: &Model, from: &Path, to: &Path) -> std::io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let mut dirs = vec![to.to_owned()];
    let reports = ["report.html", "report.json"].into_iter().filter(|r| from.join(r).is_file());
    let names =
        model.manifest.files.keys().map(String::as_str).filter(|n| !n.starts_with("report.")).chain(reports).chain(["manifest.json"]);
    for name in names {
        let path = to.join(name);
        if let Some(dir) = path.parent()
            && !dir.exists()
        {
            fs::create_dir_all(dir)?;
            dirs.push(dir.to_owned());
        }
        fs::copy(from.join(name), &path)?;
        File::open(&path)?.sync_all()?;
    }
    for dir in dirs.iter().rev() {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Who runs this process, as far as the environment says.
fn who() -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    let user = set("USER").or_else(|| set("LOGNAME")).unwrap_or_else(|| "unknown".into());
    let host = set("HOSTNAME").or_else(|| fs::read_to_string("/etc/hostname").ok().map(|h| h.trim().to_owned()));
    host.filter(|h| !h.is_empty()).map_or_else(|| user.clone(), |host| format!("{user}@{host}"))
}

#[cfg(test)]
mod tests;
