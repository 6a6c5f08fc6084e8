//! The archive in S3, on a real server of its protocol (s3rver, which `make deps` installs where there is npm), stopped and started meanwhile.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::kafka::{Scored, archiver, worker};
use super::{SOON, files, flat};
use crate::bundle;
use crate::process::{Process, RAPPORT, cache, eventually, free_port};

const BUCKET: &str = "rapport-archive";

fn server(dir: &Path, port: u16) -> Option<Process> {
    let program = cache().join("s3rver/node_modules/.bin/s3rver");
    if !program.exists() {
        return None;
    }
    let mut command = Command::new(program);
    command.args(["--directory".as_ref(), dir.as_os_str()]).args(["--address", "127.0.0.1", "--silent", "--configure-bucket", BUCKET]);
    command.args(["--port", &port.to_string()]);
    let mut process = Process::spawn(&crate::brokers::unique("s3rver"), command, dir.parent().expect("a folder"));
    eventually("s3rver listens", SOON, || {
        assert!(process.ended().is_none(), "s3rver ended: {}", process.stderr());
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    Some(process)
}

/// Copies what the server keeps to files with the names of their keys. Unlike S3, this server lets a file be seen while it is still written.
fn fetch(stored: &Path, into: &Path) {
    let mut folders = vec![stored.join(BUCKET)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|e| e.expect("an entry")) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(key) = path.to_str().and_then(|p| p.strip_suffix("._S3rver_object")) {
                let target = into.join(Path::new(key).strip_prefix(stored.join(BUCKET)).expect("below the bucket"));
                let bytes = std::fs::read(&path).unwrap_or_default();
                if bytes.len() > 8 && bytes.ends_with(b"PAR1") {
                    std::fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
                    std::fs::write(target, bytes).expect("a copy");
                }
            }
        }
    }
}

#[test]
fn s3_gets_each_scored_interaction_once_although_it_was_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stored, port) = (dir.path().join("s3"), free_port());
    std::fs::create_dir(&stored).expect("a folder");
    let Some(mut s3) = server(&stored, port) else {
        eprintln!("SKIPPED: no s3rver in {}: install npm and run `make deps`", cache().display());
        return;
    };
    let mut scored = Scored::new("archive-s3");
    let config = scored.config(dir.path(), &format!("s3://{BUCKET}/some/place"), 3000);
    let environment = [
        ("AWS_ACCESS_KEY_ID", "S3RVER".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "S3RVER".into()),
        ("AWS_REGION", "us-east-1".into()),
        ("AWS_ALLOW_HTTP", "true".into()),
        ("AWS_ENDPOINT", format!("http://127.0.0.1:{port}")),
    ];
    let mut log = worker(&scored.settings);
    scored.more(&mut log, 300);
    let mut process = archiver(dir.path(), &config, &environment);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(RAPPORT);
        command.args(arguments).envs(environment.clone()).current_dir(dir.path());
        Process::spawn("reader", command, dir.path()).wait(SOON)
    };
    let archived = || {
        let copy = tempfile::tempdir().expect("a directory");
        fetch(&stored, copy.path());
        let archive = copy.path().join("some/place");
        (flat(&files(&archive, "scores")), copy)
    };
    eventually("everything is in S3", SOON, || (archived().0 == scored.ids).then_some(()));

    s3.kill();
    scored.more(&mut log, 100);
    std::thread::sleep(Duration::from_millis(1500));
    s3 = server(&stored, port).expect("it was there before");
    process.kill();
    let mut process = archiver(dir.path(), &config, &environment);
    eventually("the rest is in S3", SOON, || {
        assert!(process.ended().is_none(), "the archive ended: {}", process.stderr());
        (archived().0 == scored.ids).then_some(())
    });
    scored.more(&mut log, 50);
    s3.kill();
    std::thread::sleep(Duration::from_millis(1500));
    let _s3 = server(&stored, port).expect("it was there before");
    eventually("and what came while it was away", SOON, || {
        assert!(process.ended().is_none(), "the archive ended: {}", process.stderr());
        (archived().0 == scored.ids).then_some(())
    });
    process.signal(libc::SIGTERM);
    let ended = process.wait(SOON);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let copy = archived().1;
    scored.check(&copy.path().join("some/place"));

    // What reads files reads them here as well, in the same order.
    let model = bundle::dir().to_str().expect("a path");
    let score = |input: &str, output: &str| {
        let done = run(&["score", "--model", model, "--input", input, "--output", output]);
        assert_eq!(done.code, Some(0), "{input}: {}", done.stderr);
        let text = std::fs::read_to_string(dir.path().join(output)).expect("scores");
        text.lines()
            .map(|line| {
                let mut score: serde_json::Value = serde_json::from_str(line).expect("JSON");
                score["scored_at"].take();
                score
            })
            .collect::<Vec<_>>()
    };
    let local = score(copy.path().join("some/place").to_str().expect("a path"), "local.jsonl");
    assert_eq!(local.len(), scored.ids.values().map(Vec::len).sum::<usize>());
    for url in ["some/place", "some/place/interactions/", "some"] {
        assert!(score(&format!("s3://{BUCKET}/{url}"), "remote.jsonl") == local, "{url}");
    }
    for (url, code, word) in [("other", 1, "no file under this prefix"), ("some/none.jsonl", 1, "none.jsonl")] {
        let url = format!("s3://{BUCKET}/{url}");
        let done = run(&["score", "--model", model, "--input", &url, "--output", "none.jsonl"]);
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        assert!(done.stderr.contains(word) && done.stderr.contains(&url), "{}", done.stderr);
    }
}
