//! The journal and the copying, on the bundle that ships.

use std::io::Write as _;

use super::*;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/champion")
}

#[test]
fn a_bundle_is_copied_whole_and_never_changes() {
    let dir = tempfile::tempdir().expect("a folder");
    let registry = Registry::new(dir.path().join("registry"));
    assert!(registry.entries().expect("no journal is an empty one").is_empty() && registry.versions().expect("none").is_empty());
    let lock = registry.lock().expect("a lock");
    let model = registry.add(&shipped(), &lock).expect("the shipped bundle");
    let version = model.version.to_string();
    assert_eq!(model.dir(), registry.path(&version));
    assert_eq!(registry.versions().expect("one"), std::slice::from_ref(&version));
    // Again: the same one.
    registry.add(&shipped(), &lock).expect("the same bundle");

    // A damaged bundle, and one whose version leads elsewhere.
    let other = dir.path().join("other");
    copy(&model, &shipped(), &other).expect("a copy");
    let mut tokens = OpenOptions::new().append(true).open(other.join("tokenizer.json")).expect("a file");
    tokens.write_all(b" ").expect("a byte");
    let said = registry.add(&other, &lock).expect_err("damaged").to_string();
    assert!(said.contains("tokenizer.json is damaged"), "{said}");
    copy(&model, &shipped(), &other).expect("a copy");
    let mut manifest = model.manifest.clone();
    manifest.training.to = "../../elsewhere".into();
    manifest.version = manifest.content_version().expect("a version");
    fs::write(other.join("manifest.json"), serde_json::to_vec(&manifest).expect("JSON")).expect("a manifest");
    let said = registry.add(&other, &lock).expect_err("leaves the registry").to_string();
    assert!(said.contains("cannot name a directory"), "{said}");
    assert_eq!(registry.versions().expect("one"), [version]);
}

#[test]
fn the_journal_outlives_a_writer_that_died() {
    let dir = tempfile::tempdir().expect("a folder");
    let registry = Registry::new(dir.path());
    let lock = registry.lock().expect("a lock");
    let model = registry.add(&shipped(), &lock).expect("the shipped bundle");
    let first = registry.decide(Action::Promoted, &model, Reasons::default(), &lock).expect("a decision");
    let mut file = OpenOptions::new().append(true).open(registry.journal_path()).expect("a journal");
    file.write_all(b"{\"at\":\"20").expect("half a line");
    assert_eq!(registry.entries().expect("readable"), std::slice::from_ref(&first));
    let reasons = Reasons { forced: Some("to see".into()), judged: None };
    let second = registry.decide(Action::Shadowed, &model, reasons, &lock).expect("a decision");
    assert_eq!(registry.entries().expect("readable"), [first.clone(), second.clone()]);
    assert!(second.at > first.at && second.forced.as_deref() == Some("to see"));

    file.write_all(b"{}\n{\n").expect("lines");
    let said = registry.entries().expect_err("a line that is none").to_string();
    assert!(said.contains("registry.json:3"), "{said}");
}

fn entry(action: Action, version: &str, parent: Option<&str>, at: u32) -> Entry {
    Entry {
        at: format!("2026-01-01T00:00:{at:02}Z"),
        action,
        version: version.into(),
        parent: parent.map(Into::into),
        by: "a test".into(),
        forced: None,
        sha256: String::new(),
        training: serde_json::Value::Null,
        judged: None,
    }
}

#[test]
fn what_a_journal_comes_to() {
    let mut entries = vec![
        entry(Action::Adopted, "a", None, 1),
        entry(Action::Promoted, "b", Some("a"), 2),
        entry(Action::Shadowed, "c", Some("b"), 3),
        entry(Action::Promoted, "d", Some("b"), 4),
    ];
    let now = standing(&entries);
    assert_eq!(now.champion.as_ref().map(|e| e.version.as_str()), Some("d"));
    assert_eq!(now.shadow.map(|e| (e.action, e.version)), Some((Action::Shadowed, "c".into())));
    assert_eq!((before(&entries, "d"), before(&entries, "b"), before(&entries, "a")), (Some("b"), Some("a"), None));

    entries.push(entry(Action::Promoted, "c", Some("d"), 5));
    let now = standing(&entries);
    let shadow = now.shadow.expect("a decision");
    assert_eq!((shadow.action, shadow.at.as_str()), (Action::Unshadowed, "2026-01-01T00:00:05Z"), "a champion is no shadow");
    entries.push(entry(Action::RolledBack, "d", Some("c"), 6));
    assert_eq!(standing(&entries).champion.map(|e| e.version), Some("d".into()));
    assert_eq!(before(&entries, "d"), Some("b"), "a second rollback goes on to what was before");
}
