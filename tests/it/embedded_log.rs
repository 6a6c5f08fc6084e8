//! The embedded log under kill −9: a child process appends and commits until it is killed, again and again on one directory; then the
//! log is read and must hold, for every committed input record, its output exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rapport::log::embedded::Embedded;
use rapport::log::{Commit, Gateway, Log, Output, Partition, Polled, StateChange, Stream};

const DIR: &str = "RAPPORT_TEST_EMBEDDED_DIR";
const ROUND: &str = "RAPPORT_TEST_EMBEDDED_ROUND";
const WORKERS: usize = 2;

/// Per partition and customer the state counts the records seen, and each score carries that count: a record that was processed twice or
/// never, or a state that did not move together with the outputs, breaks the sequence.
fn process(log: &Embedded, index: usize) {
    let mut worker = log.worker(index, WORKERS).unwrap();
    loop {
        let Polled::Records(records) = worker.poll(13, Duration::from_millis(50)).unwrap() else { continue };
        let mut commit = Commit::default();
        let mut counts: BTreeMap<(Partition, String), u64> = BTreeMap::new();
        for r in &records {
            let customer = String::from_utf8(r.key.clone().unwrap()).unwrap();
            let count = counts.entry((r.partition, customer.clone())).or_insert_with(|| {
                worker.load(r.partition, &customer).unwrap().map_or(0, |s| String::from_utf8(s).unwrap().parse().unwrap())
            });
            *count += 1;
            let value = format!("{customer} {count} {} {}", r.offset, std::str::from_utf8(&r.value).unwrap()).into_bytes();
            let output = Output { partition: r.partition, key: r.key.clone(), value, headers: Vec::new() };
            if (*count).is_multiple_of(3) {
                commit.alerts.push(output.clone());
            }
            commit.scores.push(output);
            commit.offsets.insert(r.partition, r.offset + 1);
        }
        commit.states = counts
            .into_iter()
            .map(|((partition, c), n)| StateChange { partition, customer_id: c.into(), state: Some(n.to_string().into_bytes()) })
            .collect();
        worker.commit(&commit).unwrap();
    }
}

/// Runs only as a child of the test below.
#[test]
#[ignore = "a child process of kill_9_loses_and_repeats_nothing"]
fn child() {
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) else { return };
    let log = Embedded::open_with(Path::new(&dir), 5).unwrap();
    std::thread::scope(|scope| {
        for index in 0..WORKERS {
            let log = &log;
            scope.spawn(move || process(log, index));
        }
        for i in 0.. {
            let batch = (0..7).map(|j| (Some(format!("c{}", (i * 7 + j) % 23).into_bytes()), format!("{round}-{i}-{j}").into_bytes()));
            log.append_raw(batch.collect()).unwrap();
            // Acknowledged: from here on these seven must be found.
            println!("acknowledged {i}");
        }
    });
}

#[test]
fn kill_9_loses_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let rounds = 12;
    let mut acknowledged = BTreeSet::new();
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["embedded_log::child", "--exact", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        // Killed at a different moment each time, counted in work done and not in time, so that slow machines test the same.
        let enough = 20 + round * 9;
        let mut done = 0;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            if let Some((_, i)) = line.split_once("acknowledged ") {
                acknowledged.insert(format!("{round}-{i}"));
                done += 1;
                if done == enough {
                    child.kill().unwrap();
                }
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(done >= enough, "the child ended by itself after {done} appends");
    }

    let log = Embedded::open(dir.path()).unwrap();
    let scores = log.read(Stream::Scores, 0, usize::MAX).unwrap();
    assert!(scores.iter().enumerate().all(|(i, s)| s.offset == i as i64));
    assert!(!scores.is_empty());

    // Per customer the counts go 1, 2, 3 …: nothing twice, nothing lost between, and the state went along.
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut next_offset: BTreeMap<Partition, i64> = BTreeMap::new();
    let mut third = BTreeSet::new();
    for s in &scores {
        let text = String::from_utf8(s.value.clone()).unwrap();
        let words: Vec<&str> = text.split(' ').collect();
        let (customer, count, offset) = (words[0], words[1].parse::<u64>().unwrap(), words[2].parse::<i64>().unwrap());
        let before = last.insert(customer.into(), count).unwrap_or(0);
        assert_eq!(count, before + 1, "{text}");
        let expected = next_offset.entry(s.partition).or_insert(0);
        assert_eq!(offset, *expected, "{text}");
        *expected += 1;
        if count % 3 == 0 {
            third.insert(text);
        }
    }
    for (customer, count) in &last {
        assert_eq!(log.state(customer).unwrap(), Some(count.to_string().into_bytes()), "{customer}");
    }
    let alerts: Vec<String> =
        log.read(Stream::Alerts, 0, usize::MAX).unwrap().into_iter().map(|a| String::from_utf8(a.value).unwrap()).collect();
    assert_eq!(alerts.len(), third.len());
    assert_eq!(alerts.into_iter().collect::<BTreeSet<_>>(), third);

    // Everything that was acknowledged is either scored already or still to be read, in whole batches.
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = |value: &str| *found.entry(value.rsplit_once('-').unwrap().0.to_string()).or_insert(0) += 1;
    for s in &scores {
        count(std::str::from_utf8(&s.value).unwrap().rsplit(' ').next().unwrap());
    }
    let mut rest = log.worker(0, 1).unwrap();
    loop {
        match rest.poll(1000, Duration::ZERO).unwrap() {
            Polled::Assigned(_) | Polled::Erased => {}
            Polled::Idle => break,
            Polled::Records(records) => {
                for r in &records {
                    assert!(r.offset >= next_offset.get(&r.partition).copied().unwrap_or(0));
                    count(std::str::from_utf8(&r.value).unwrap());
                }
            }
        }
    }
    assert!(found.values().all(|n| *n == 7), "an append was torn");
    for batch in &acknowledged {
        assert!(found.contains_key(batch), "{batch} was acknowledged and is gone");
    }
    println!("{} scores, {} appends acknowledged, {} found", scores.len(), acknowledged.len(), found.len());
}
