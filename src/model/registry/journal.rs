//! The registry's journal: one JSON line per decision about what serves, only ever appended to.
//!
//! Knows files and lines; what a decision needs is the caller's.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::RegistryError;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It served before there was a registry, and was copied in so that a rollback can find it.
    Adopted,
    /// It serves from now on.
    Promoted,
    /// It serves again.
    RolledBack,
    /// It scores beside the champion, unseen.
    Shadowed,
    /// The shadow ends.
    Unshadowed,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// RFC 3339; later than that of every earlier line.
    pub at: String,
    pub action: Action,
    pub version: String,
    /// The version that served until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// User and host of whoever decided.
    pub by: String,
    /// Why the judgement was overruled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<String>,
    /// SHA-256 of `manifest.json`, which holds those of all other files.
    pub sha256: String,
    /// `training` of the manifest: range, seed, code version and what else says where the bundle comes from.
    pub training: serde_json::Value,
    /// What the judgement said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judged: Option<serde_json::Value>,
}

/// All lines, oldest first; none where there is no journal. A last line without its end is one whose writer died: it was never decided.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, RegistryError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(RegistryError::Io(format!("cannot read {}", path.display()), e)),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(n, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|e| RegistryError::Journal(format!("{}:{}: {e}; mend or remove this line", path.display(), n + 1)))
    };
    whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}

/// Appends a line and syncs it to disk.
pub(super) fn append(path: &Path, entry: &Entry) -> Result<(), RegistryError> {
    let failed = |e| RegistryError::Io(format!("cannot write {}", path.display()), e);
    let mut line = serde_json::to_vec(entry).map_err(|e| failed(e.into()))?;
    line.push(b'\n');
    cut_torn_line(path).map_err(failed)?;
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    file.write_all(&line).and_then(|()| file.sync_all()).map_err(failed)
}

/// Removes a last line without its end.
fn cut_torn_line(path: &Path) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
    }
    Ok(())
}
