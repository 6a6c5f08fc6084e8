//! Tells the program which sources it was built from: a hash of the files under `src` and of the versions of its dependencies. It needs no git, so it is right in a container and with changes
//! that nobody has committed, and nothing is built again but for changed sources.

use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=Cargo.lock");
    // Networks learn by what other crates compute.
    let mut files = vec![PathBuf::from("Cargo.lock")];
    collect(Path::new("src"), &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let content = fs::read(&file)?;
        // Lengths, so that no two trees run together to the same bytes.
        hash.update(format!("{} {}\n", file.display(), content.len()));
        hash.update(content);
    }
    let id: String = hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
    println!("cargo:rustc-env=RAPPORT_SOURCES={id}");
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
