//! A bundle whose files are whole and whose graphs compute other numbers than when it was made, or that does not say what they computed.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use rapport::model::{BundleError, Manifest, Model, hex};

use crate::bundle;

/// Replaces a file of a bundle as a trainer could have written it: hashes and version fit.
pub fn replace(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join("manifest.json");
    let mut manifest: Manifest = serde_json::from_slice(&fs::read(&path).expect("a manifest")).expect("a manifest");
    manifest.files.insert(name.to_owned(), hex(&Sha256::digest(bytes)));
    manifest.version = manifest.content_version().expect("a version");
    fs::write(dir.join(name), bytes).expect("a file");
    fs::write(path, serde_json::to_vec(&manifest).expect("JSON")).expect("a manifest");
}

#[test]
fn numbers_that_the_graphs_do_not_compute_are_refused() {
    for (file, at, what) in [
        ("golden.json", "/outputs/satisfaction/1", "output satisfaction is off by"),
        ("golden.json", "/outputs/state_out/15", "output state_out is off by"),
        ("golden.json", "/steps/0/features/3", "is off by"),
        ("golden.json", "/rows/autoencoder.onnx/outputs/code/0", "autoencoder.onnx: output code is off by"),
        ("golden_future.json", "/outputs/spend/2", "output spend is off by"),
    ] {
        let (dir, mut golden) = made(file);
        let number = golden.pointer_mut(at).expect("a number");
        *number = json!(number.as_f64().expect("a number") + 0.1);
        refused(dir.path(), file, &golden, what);
    }
}

#[test]
fn numbers_that_are_missing_are_refused() {
    for (file, within, key, what) in [
        ("golden.json", "/outputs", "intent", "has no output intent"),
        ("golden.json", "/outputs", "state_out", "has no output state_out"),
        ("golden.json", "/rows", "autoencoder.onnx", "no row for autoencoder.onnx"),
        ("golden.json", "/rows/autoencoder.onnx/outputs", "reconstruction", "has no output reconstruction"),
        ("golden_future.json", "/outputs", "survival", "has no survival"),
    ] {
        let (dir, mut golden) = made(file);
        golden.pointer_mut(within).and_then(Value::as_object_mut).expect("an object").remove(key).expect("it was there");
        refused(dir.path(), file, &golden, what);
    }
    let (dir, mut golden) = made("golden.json");
    (golden["steps"], golden["outputs"]) = (json!([]), json!({}));
    refused(dir.path(), "golden.json", &golden, "golden.json has no step");
}

/// A sound bundle, and one of its files.
fn made(file: &str) -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().expect("a folder");
    bundle::write_ahead(dir.path(), 4, 30);
    Model::load(dir.path()).expect("a sound bundle");
    let golden = serde_json::from_slice(&fs::read(dir.path().join(file)).expect("a file")).expect("JSON");
    (dir, golden)
}

fn refused(dir: &Path, file: &str, golden: &Value, what: &str) {
    replace(dir, file, golden.to_string().as_bytes());
    let refused = Model::load(dir).expect_err("other numbers");
    assert!(matches!(refused, BundleError::Golden(_)) && refused.to_string().contains(what), "{what:?}: {refused}");
}
