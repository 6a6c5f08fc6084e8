//! `rapport demo` as a newcomer runs it: every bundled interaction through the embedded log, the console meanwhile, nothing left behind.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bundle;
use crate::process::{Finished, Process, RAPPORT, eventually, root};

/// The bundled model; a small one of random weights where the project has none yet.
fn model() -> (PathBuf, bool) {
    let champion = root().join("onnx/champion");
    if champion.join("manifest.json").is_file() { (champion, true) } else { (bundle::dir().to_owned(), false) }
}

fn demo(dir: &Path, arguments: &[&str]) -> Process {
    let mut command = Command::new(RAPPORT);
    command.arg("demo").arg("--model").arg(model().0).args(arguments).env("TMPDIR", dir.join("tmp"));
    fs::create_dir_all(dir.join("tmp")).expect("a folder");
    Process::spawn("demo", command, dir)
}

/// The number in a line of the table.
fn row(done: &Finished, name: &str) -> f64 {
    let line = done.stdout.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no line {name:?} in\n{}", done.stdout));
    let value = line[name.len()..].trim().trim_end_matches(" ms").replace(',', "");
    value.parse().unwrap_or_else(|_| panic!("no number in {line:?}"))
}

fn leftovers(dir: &Path) -> usize {
    fs::read_dir(dir.join("tmp")).expect("the folder for temporary files").count()
}

#[test]
fn everything_is_scored_and_summed_up_although_the_port_is_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let done = demo(dir.path(), &["--exit-when-done", "--bind", &address]).wait(Duration::from_secs(300));
    assert_eq!(done.code, Some(0), "{}\n{}", done.stdout, done.stderr);
    assert!(done.stderr.contains(&format!("{address} is taken; a free port is used")), "{}", done.stderr);
    let interactions = row(&done, "interactions");
    assert!(interactions >= 5_000.0);
    assert_eq!((row(&done, "scores"), row(&done, "dead letters")), (interactions, 0.0), "{}", done.stdout);
    assert!(row(&done, "alerts resolved") <= row(&done, "alerts raised"));
    assert!(row(&done, "events/s") > 0.0 && row(&done, "event to commit, p50") <= row(&done, "event to commit, p99"));
    if model().1 {
        assert!(row(&done, "alerts raised") > 0.0, "{}", done.stdout);
        for part in ["\nOne alert in full\n", "\nWhy:\n  \"", "mostly for the word", "\nAs published:\n{\"id\":"] {
            assert!(done.stdout.contains(part), "{part:?} is not in\n{}", done.stdout);
        }
    } else {
        eprintln!("SKIPPED: there is no onnx/champion, so the alert in full is not looked at");
    }
    assert_eq!(leftovers(dir.path()), 0, "the temporary log is still there");
}

#[test]
fn the_console_is_served_until_ctrl_c() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut running = demo(dir.path(), &["--rate", "200", "--bind", "127.0.0.1:0"]);
    let url = eventually("the console's address", Duration::from_secs(60), || {
        let stdout = running.stdout();
        let url = stdout.split_once("The console is at ")?.1.split(' ').next()?.to_owned();
        stdout.contains("Replaying").then_some(url)
    });
    let page = ureq::get(&url).call().expect("the console").body_mut().read_to_string().expect("a page");
    assert!(page.contains("<html"), "{page}");
    eventually("a score", Duration::from_secs(60), || {
        let scores = ureq::get(format!("{url}v1/scores?from=0")).call().ok()?.body_mut().read_to_string().ok()?;
        scores.contains("customer_id").then_some(())
    });
    running.signal(libc::SIGINT);
    let done = running.wait(Duration::from_secs(60));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let scores = row(&done, "scores");
    assert!(scores > 0.0 && scores <= row(&done, "interactions"), "what was scored until then is summed up:\n{}", done.stdout);
    assert_eq!(leftovers(dir.path()), 0, "the temporary log is still there");
}

#[test]
fn wrong_usage_ends_with_what_would_be_right() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(dir.path().join("used")).expect("a folder");
    fs::write(dir.path().join("used/file"), "x").expect("a file");
    let used = dir.path().join("used");
    let used = used.to_str().expect("a path");
    for (arguments, message) in [
        (vec!["--dir", used], "is not empty; name a new directory"),
        (vec!["--bind", "nowhere"], "must be an address and port"),
        (vec!["--rate", "0"], "it should be a number"),
    ] {
        let done = demo(dir.path(), &arguments).wait(Duration::from_secs(60));
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(message), "{arguments:?}: {message:?} is not in\n{}", done.stderr);
    }
}
