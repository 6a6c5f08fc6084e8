//! Writes a bundle directory: never half of one, and the same bytes for the same content.
//!
//! Knows no training; what is in the files is the caller's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest, Sha256};

use crate::cli::{probe, usage};
use crate::model::{Manifest, hex, registry};

/// Refuses a place that a bundle must not replace. Puts back the bundle that a killed run had moved out of the way there.
///
/// # Errors
/// A usage error where `out` names no directory, holds something else than a bundle, or lies in a registry, whose bundles never change.
pub fn check_place(out: &Path) -> anyhow::Result<()> {
    let old = beside(out, "old")?;
    if old.join("manifest.json").exists() && !out.exists() {
        // A run was killed between the two renames of `write`.
        eprintln!("{} is put back: an earlier run was killed before the new bundle took its place", out.display());
        fs::rename(&old, out).with_context(|| format!("cannot rename {} to {}", old.display(), out.display()))?;
    }
    // A link to a registered bundle is that bundle.
    for place in [Some(out.to_path_buf()), out.canonicalize().ok()].into_iter().flatten() {
        let registry = parent(&place);
        if registry.join(registry::JOURNAL).exists() {
            return Err(usage(format!(
                "--out {} lies in the model registry {}, whose bundles never change: name another directory, and `rapport models promote` copies it in",
                out.display(),
                registry.display()
            )));
        }
    }
    // What cannot be written is better known before anything is fitted.
    let ancestor = out.ancestors().skip(1).map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p }).find(|p| p.exists());
    if let Some(place) = ancestor {
        probe(place).map_err(|e| {
            usage(format!("--out {}: nothing can be made in {}: {e}; name another directory", out.display(), place.display()))
        })?;
    }
    let Ok(mut entries) = fs::read_dir(out) else {
        return if out.exists() { Err(usage(format!("--out {} is a file, a directory is needed", out.display()))) } else { Ok(()) };
    };
    if entries.next().is_some() && !out.join("manifest.json").exists() {
        return Err(usage(format!("--out {} is not empty and is no model bundle: name a new directory", out.display())));
    }
    Ok(())
}

/// Completes the manifest by file hashes and version, and puts the bundle at `out`, in place of the one that is there. Returns the version.
/// `reports` are files that say what the bundle is; no hash covers them, since they name its version.
///
/// # Errors
/// What could not be written; then `out` is as it was.
pub fn write(
    out: &Path,
    mut manifest: Manifest,
    files: &BTreeMap<String, Vec<u8>>,
    reports: impl FnOnce(&Manifest) -> anyhow::Result<BTreeMap<String, Vec<u8>>>,
) -> anyhow::Result<String> {
    manifest.files = files.iter().map(|(name, bytes)| (name.clone(), hex(&Sha256::digest(bytes)))).collect();
    manifest.version = manifest.content_version()?;
    let mut json = serde_json::to_vec_pretty(&manifest)?;
    json.push(b'\n');
    let mut all: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let reports = reports(&manifest)?;
    all.extend(reports.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    all.push(("manifest.json", &json));
    let parent = parent(out);
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let (new, old) = (beside(out, "new")?, beside(out, "old")?);
    for left_over in [&new, &old] {
        if left_over.exists() {
            fs::remove_dir_all(left_over).with_context(|| format!("cannot remove {}", left_over.display()))?;
        }
    }
    if let Err(e) = put_all(&new, &all) {
        // Half a bundle is of no use to anybody, and a full disk wants its room back.
        let _ = fs::remove_dir_all(&new);
        return Err(e);
    }
    if out.exists() {
        fs::rename(out, &old).with_context(|| format!("cannot replace {}", out.display()))?;
    }
    if let Err(e) = fs::rename(&new, out) {
        // The bundle that was there goes on serving.
        let _ = fs::rename(&old, out);
        return Err(e).with_context(|| format!("cannot rename {} to {}", new.display(), out.display()));
    }
    sync(&parent).with_context(|| format!("cannot write {}", parent.display()))?;
    if old.exists() {
        fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    Ok(manifest.version)
}

/// Where a bundle lies before it comes to `out`, or after it has made room.
fn beside(out: &Path, suffix: &str) -> anyhow::Result<PathBuf> {
    let name = out.file_name().ok_or_else(|| usage(format!("--out {} names no directory", out.display())))?;
    Ok(parent(out).join(format!(".{}.{suffix}", name.to_string_lossy())))
}

fn put_all(new: &Path, files: &[(&str, &[u8])]) -> anyhow::Result<()> {
    for (file, bytes) in files {
        let path = new.join(file);
        put(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    for dir in [new.join("baselines"), new.to_path_buf()] {
        sync(&dir).with_context(|| format!("cannot write {}", dir.display()))?;
    }
    Ok(())
}

/// The directory that `path` lies in.
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes names in `dir` last.
pub fn sync(dir: &Path) -> std::io::Result<()> {
    if dir.exists() { File::open(dir)?.sync_all() } else { Ok(()) }
}
