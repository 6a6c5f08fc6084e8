//! Wrong configuration: every command ends with 2 (wrong usage or configuration) or 1 (failed at run time), says what to do, and never panics.
//! What `serve` says about its embedded log, its address and its model is in `serve.rs`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::brokers::{shared, unique};
use crate::bundle;
use crate::process::{Process, RAPPORT, free_port, rapport};

/// Longer than any client waits for a broker.
const PATIENCE: Duration = Duration::from_secs(60);

struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Desk { dir: tempfile::tempdir().expect("a folder") }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.dir.path().join(name);
        fs::write(&file, text).expect("a file");
        file
    }

    /// Runs to the end and demands this exit code and these words.
    fn refused(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let finished = rapport(self.dir.path(), arguments, PATIENCE);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert_eq!(finished.code, Some(code), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?}: {word:?} is not in {said}");
        }
    }

    /// `serve` with this configuration text is refused.
    fn serve_refused(&self, text: &str, code: i32, words: &[&str]) {
        let text = format!("{text}\n[model]\ndir = {:?}\n", bundle::dir());
        let file = self.file("wrong.toml", &text);
        let bind = format!("127.0.0.1:{}", free_port());
        self.refused(&["serve", "--config", path(&file), "--bind", &bind], code, words);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn kafka(prefix: &str, more: &str) -> String {
    format!("[log]\nkind = \"kafka\"\nbrokers = {:?}\nprefix = {prefix:?}\ngroup = {prefix:?}\n{more}", shared().brokers())
}

#[test]
fn a_cluster_that_does_not_fit_is_said_in_one_line() {
    let desk = Desk::new();
    let prefix = unique("not-there");
    desk.serve_refused(&kafka(&prefix, ""), 1, &[&format!("{prefix}.interactions"), "rapport topics create"]);
    let config = desk.file("check.toml", &format!("{}\n[model]\ndir = {:?}\n", kafka(&prefix, ""), bundle::dir()));
    desk.refused(&["check", "--config", path(&config)], 1, &["WRONG", "rapport topics create", "ok    the configuration is valid"]);

    let prefix = unique("unequal");
    let topic = |name: &str| format!("{prefix}.{name}");
    shared().create_topics(&[&topic("interactions")], 4);
    let others = ["scores", "alerts", "dead-letters", "scores-shadow", "models", "state"].map(topic);
    shared().create_topics(&others.each_ref().map(String::as_str), 3);
    desk.serve_refused(&kafka(&prefix, ""), 1, &[&format!("{prefix}.state"), "3", "4"]);
}

#[test]
fn wrong_settings_are_refused_before_anything_starts() {
    let desk = Desk::new();
    let brokers = "[log]\nkind = \"kafka\"\nbrokers = \"localhost:9092\"\n[log.kafka]\n";
    desk.serve_refused(&format!("{brokers}\"enable.auto.commit\" = \"true\"\n"), 2, &["enable.auto.commit", "transaction"]);
    desk.serve_refused(&format!("{brokers}\"sesion.timeout.ms\" = \"6000\"\n"), 2, &["sesion.timeout.ms"]);
    desk.serve_refused("[log]\nkind = \"rabbit\"\n", 2, &["log.kind", "rabbit", "\"embedded\" or \"kafka\""]);
    desk.serve_refused("[log]\nkind = \"kafka\"\nbrokers = \"localhost\"\n", 2, &["log.brokers", "host:port"]);
    desk.serve_refused("[log\nkind = 1", 2, &["wrong.toml", "TOML"]);
    desk.serve_refused("[state]\nallowed_lateness = \"a week\"\n", 2, &["state.allowed_lateness", "a week", "\"7d\""]);
    desk.serve_refused("[[alerts]]\nname = \"x\"\nkind = \"unheard_of\"\n", 2, &["alerts", "unheard_of"]);

    let text = desk.file("text.pem", "this is no certificate");
    let tls = |cert: &str| format!("[http]\ntls_cert = {cert:?}\ntls_key = {cert:?}\n");
    desk.serve_refused(&tls(path(&text)), 2, &["http.tls_", "text.pem"]);
    desk.serve_refused(&tls("/does/not/exist.pem"), 2, &["http.tls_cert", "/does/not/exist.pem", "PEM"]);
}

#[test]
fn a_folder_without_permission_is_named() {
    // Root may write everywhere, so somebody else has to try, with a copy of the binary that they can reach.
    let nobody = 65_534;
    let desk = Desk::new();
    fs::set_permissions(desk.dir.path(), Permissions::from_mode(0o755)).expect("permissions");
    let binary = desk.dir.path().join("rapport");
    fs::copy(RAPPORT, &binary).expect("a copy of the binary");
    let model = desk.dir.path().join("model");
    fs::create_dir(&model).expect("a folder");
    for entry in fs::read_dir(bundle::dir()).expect("the bundle").map(|e| e.expect("an entry")) {
        fs::copy(entry.path(), model.join(entry.file_name())).expect("a copy");
    }
    let closed = desk.dir.path().join("closed");
    fs::create_dir(&closed).expect("a folder");
    fs::set_permissions(&closed, Permissions::from_mode(0o500)).expect("permissions");
    let log = closed.join("log");
    let config = desk
        .file("closed.toml", &format!("[log]\ndir = {log:?}\n[model]\ndir = {model:?}\n[http]\nbind = \"127.0.0.1:{}\"\n", free_port()));
    for file in [&config, &model] {
        fs::set_permissions(file, Permissions::from_mode(0o755)).expect("permissions");
    }
    let mut command = Command::new(&binary);
    command.args(["serve", "--config", path(&config)]).current_dir("/");
    // SAFETY: geteuid has no effect and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(nobody).gid(nobody);
    }
    let finished = Process::spawn("no-permission", command, desk.dir.path()).wait(PATIENCE);
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    for word in [path(&log), "ermission denied"] {
        assert!(finished.stderr.contains(word), "{word:?} is not in {}", finished.stderr);
    }
}

#[test]
fn commands_on_files_say_which_file() {
    let desk = Desk::new();
    let interactions = desk
        .file("some.jsonl", "{\"id\":\"1\",\"customer_id\":\"c\",\"occurred_at\":\"2026-01-01T00:00:00Z\",\"kind\":\"visit\"}\nnot json\n");
    let (model, some) = (path(bundle::dir()), path(&interactions));
    let out = desk.dir.path().join("scores.jsonl");
    let out = path(&out);
    desk.refused(
        &["score", "--model", model, "--input", "/does/not/exist.jsonl", "--output", out],
        2,
        &["--input", "/does/not/exist.jsonl"],
    );
    desk.refused(&["score", "--model", "/does/not/exist", "--input", some, "--output", out], 2, &["/does/not/exist", "rapport train"]);
    desk.refused(
        &["score", "--model", model, "--input", some, "--output", "/does/not/exist/out.jsonl"],
        2,
        &["--output", "/does/not/exist/out.jsonl"],
    );
    desk.refused(&["score", "--model", model, "--input", some, "--output", out, "--as-of", "yesterday"], 2, &["--as-of", "yesterday"]);
    desk.refused(&["score", "--model", model, "--input", some, "--output", out, "--strict"], 1, &["1 scored, 1 rejected", "--strict"]);
    desk.refused(&["bench", "--json", "no/such/folder.json"], 2, &["--json no/such/folder.json", "nothing can be made in no/such"]);
    desk.refused(&["score", "--model", model, "--input", some, "--output", out, "--stict"], 2, &["--stict", "--strict"]);
    desk.refused(&["topics", "create", "--brokers", "localhost"], 2, &["log.brokers", "host:port"]);
    desk.refused(&["no-such-command"], 2, &["no-such-command", "--help"]);
}

#[test]
fn a_flag_that_is_no_number_says_what_would_be_right() {
    let desk = Desk::new();
    let files = ["--input", "x", "--output", "y", "--model", "z"];
    for (command, flag, value, right) in [
        (["serve"].as_slice(), "--threads", "x", "a whole number from 1 to 1024"),
        (&["serve"], "--threads", "0", "a whole number from 1 to 1024"),
        (&["bench"], "--rate", "-1", "a whole number from 1 to 1000000"),
        (&[["score"].as_slice(), &files].concat(), "--horizon-days", "1.5", "a whole number from 1 to 3650"),
        (&["topics", "create"], "--partitions", "many", "a whole number from 1 to 10000"),
        (&["tail", "scores"], "--from", "x", "a whole number from 0 on"),
        (&["simulate", "--customers", "3", "--out", "x"], "--interactions", "1e6", "a whole number from 0 on"),
        (&["models", "promote", "x"], "--margin", "little", "a number of 0 or above, such as 0.01"),
    ] {
        let value = format!("{flag}={value}");
        desk.refused(&[command, &[&value]].concat(), 2, &[flag, right]);
    }
}

/// What a full disk says: nothing is half done and called done.
#[test]
fn a_full_disk_is_named_and_ends_with_1() {
    let desk = Desk::new();
    let lines: String = (0..3)
        .map(|i| {
            format!(
                "{{\"id\":\"{i}\",\"customer_id\":\"c\",\"occurred_at\":\"2026-01-01T00:00:00Z\",\"kind\":\"message\",\"text\":\"no\"}}\n"
            )
        })
        .collect();
    let (model, some) = (path(bundle::dir()), desk.file("some.jsonl", &(lines + "not json\n")));
    let labels = desk.file("labels.jsonl", "{\"interaction_id\":\"1\",\"task\":\"satisfaction\",\"value\":2}\n");
    let csv = desk.file("some.csv", "who,when,note\nc,2026-01-01T00:00:00Z,hello\n");
    let (some, labels, csv) = (path(&some), path(&labels), path(&csv));
    let score = |flags: &[&'static str]| [["score", "--model", model, "--input", some].as_slice(), flags].concat();
    let import =
        ["import", "csv", csv, "--map", "customer_id=who", "--map", "occurred_at=when", "--map", "text=note", "--set", "kind=call"];
    let evaluate = ["evaluate", "--model", model, "--interactions", some, "--labels", labels];
    let full = &["/dev/full", "No space left on device"];
    desk.refused(&score(&["--output", "/dev/full"]), 1, full);
    desk.refused(&score(&["--output", "-", "--rejects", "/dev/full"]), 1, full);
    desk.refused(&[evaluate.as_slice(), &["--json", "/dev/full"]].concat(), 1, full);
    desk.refused(&[import.as_slice(), &["--out", "/dev/full"]].concat(), 1, full);
    desk.refused(&["simulate", "--interactions", "5", "--customers", "2", "--out", "/dev/full"], 1, full);

    // The same of standard output.
    for arguments in [score(&["--output", "-"]), import.to_vec(), evaluate.to_vec()] {
        let mut command = Command::new(RAPPORT);
        command.args(&arguments).stdout(fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full"));
        let done = command.output().expect("a process");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        assert!(said.contains("cannot write") && said.contains("No space left on device"), "{arguments:?}: {said}");
    }
}
