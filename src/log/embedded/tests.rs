//! The embedded log within one process: order, atomicity, reopening, waiting, refusals.

use std::collections::BTreeMap;

use super::*;
use crate::log::{Commit, Log, Polled, Record, StateChange};

fn keyed(key: &str, value: &str) -> (Option<Vec<u8>>, Vec<u8>) {
    (Some(key.into()), value.into())
}

fn output(partition: Partition, value: &str) -> Output {
    Output { partition, key: Some(b"k".to_vec()), value: value.into(), headers: vec![("rapport.offset", "7".into())] }
}

fn records(log: &mut EmbeddedLog, max: usize) -> Vec<Record> {
    loop {
        match log.poll(max, Duration::ZERO).unwrap() {
            Polled::Assigned(_) | Polled::Erased => {}
            Polled::Idle => return Vec::new(),
            Polled::Records(records) => return records,
        }
    }
}

fn offsets(records: &[Record]) -> BTreeMap<Partition, i64> {
    records.iter().map(|r| (r.partition, r.offset + 1)).collect()
}

#[test]
fn what_is_appended_is_polled_in_order_and_again_until_committed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open_with(dir.path(), 3).unwrap();
    let mut input: Vec<_> = (0..50).map(|i| keyed(&format!("c{}", i % 7), &i.to_string())).collect();
    input.push((None, b"keyless".to_vec()));
    log.append_raw(input.clone()).unwrap();

    let mut worker = log.worker(0, 1).unwrap();
    assert!(matches!(worker.poll(9, Duration::ZERO).unwrap(), Polled::Assigned(p) if p == [0, 1, 2]));
    let mut all = Vec::new();
    loop {
        let some = records(&mut worker, 4);
        assert!(some.len() <= 4);
        if some.is_empty() {
            break;
        }
        all.extend(some);
    }
    assert_eq!(all.len(), 51);
    for p in 0..3 {
        let of_p: Vec<_> = all.iter().filter(|r| r.partition == p).collect();
        assert!(of_p.iter().enumerate().all(|(i, r)| r.offset == i as i64 && r.logged_at.is_some()));
    }
    for c in 0..7 {
        let key = format!("c{c}");
        let values: Vec<_> = all.iter().filter(|r| r.key.as_deref() == Some(key.as_bytes())).map(|r| r.value.clone()).collect();
        let expected: Vec<_> = input.iter().filter(|(k, _)| k.as_deref() == Some(key.as_bytes())).map(|(_, v)| v.clone()).collect();
        assert_eq!(values, expected, "{key}");
    }
    let keyless = all.iter().find(|r| r.key.is_none()).unwrap();
    assert_eq!((keyless.partition, keyless.value.as_slice()), (0, b"keyless".as_slice()));

    // Not committed: the next owner reads everything again. Committed: only what is behind.
    drop(worker);
    let mut worker = log.worker(0, 1).unwrap();
    let first = records(&mut worker, 20);
    worker.commit(&Commit { offsets: offsets(&first), ..Commit::default() }).unwrap();
    assert!(!log.wait_until_drained(Duration::ZERO).unwrap());
    drop(worker);
    let mut worker = log.worker(0, 1).unwrap();
    let rest = records(&mut worker, 1000);
    assert_eq!(first.len() + rest.len(), 51);
    assert_eq!(worker.lag().iter().map(|(_, n)| n).sum::<i64>(), 0);
    worker.commit(&Commit { offsets: offsets(&rest), ..Commit::default() }).unwrap();
    assert!(log.wait_until_drained(Duration::ZERO).unwrap());
}

#[test]
fn a_commit_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let customer = "客户-1";
    {
        let log = Embedded::open(dir.path()).unwrap();
        log.append(vec![(customer.into(), b"{}".to_vec())]).unwrap();
        let mut worker = log.worker(0, 1).unwrap();
        let r = records(&mut worker, 10);
        let p = r[0].partition;
        assert_eq!(worker.load(p, customer).unwrap(), None);
        let commit = Commit {
            scores: vec![output(p, "s0"), output(p, "s1")],
            shadow: vec![output(p, "t0")],
            alerts: vec![output(p, "a0")],
            dead_letters: vec![Output { key: None, ..output(p, "d0") }],
            states: vec![StateChange { partition: p, customer_id: customer.into(), state: Some(b"state".to_vec()) }],
            offsets: offsets(&r),
        };
        worker.commit(&commit).unwrap();
        worker.close().unwrap();
    }
    // The number of partitions is that of creation.
    let log = Embedded::open_with(dir.path(), 3).unwrap();
    assert_eq!(log.partitions(), DEFAULT_PARTITIONS);
    assert_eq!(log.state(customer).unwrap().as_deref(), Some(b"state".as_slice()));
    assert_eq!([Stream::Scores, Stream::Alerts, Stream::DeadLetters].map(|s| log.end(s).unwrap()), [2, 1, 1]);
    assert_eq!(log.read(Stream::ScoresShadow, 0, 10).unwrap().iter().map(|d| d.value.as_slice()).collect::<Vec<_>>(), [b"t0"]);
    let scores = log.read(Stream::Scores, 0, 10).unwrap();
    assert_eq!(scores.iter().map(|d| (d.offset, d.value.as_slice())).collect::<Vec<_>>(), [(0, b"s0".as_slice()), (1, b"s1")]);
    assert_eq!(scores[0].headers, [("rapport.offset".to_string(), "7".to_string())]);
    assert_eq!(log.read(Stream::Scores, 1, 10).unwrap().len(), 1);
    assert_eq!(log.read(Stream::Scores, -5, 1).unwrap()[0].offset, 0);
    assert!(log.read(Stream::Scores, 2, 10).unwrap().is_empty() && log.read(Stream::Scores, i64::MAX, usize::MAX).unwrap().is_empty());
    assert_eq!(log.read(Stream::DeadLetters, 0, 1).unwrap()[0].key, None);

    let mut worker = log.worker(0, 1).unwrap();
    assert!(records(&mut worker, 10).is_empty());
    let p = partition_of(customer.as_bytes(), DEFAULT_PARTITIONS as usize);
    let erase = StateChange { partition: p, customer_id: customer.into(), state: None };
    worker.commit(&Commit { scores: vec![output(p, "s2")], states: vec![erase], ..Commit::default() }).unwrap();
    assert_eq!(worker.load(p, customer).unwrap(), None);
    assert_eq!(log.read(Stream::Scores, 2, 10).unwrap()[0].offset, 2);
}

#[test]
fn workers_that_commit_together_leave_no_gap_and_no_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open_with(dir.path(), 8).unwrap();
    let total = 2_000;
    std::thread::scope(|scope| {
        for w in 0..4 {
            let log = &log;
            scope.spawn(move || {
                let mut worker = log.worker(w, 4).unwrap();
                let mut idle_since = None;
                loop {
                    match worker.poll(17, Duration::from_millis(50)).unwrap() {
                        Polled::Records(r) => {
                            let scores = r.iter().map(|r| output(r.partition, std::str::from_utf8(&r.value).unwrap())).collect();
                            worker.commit(&Commit { scores, offsets: offsets(&r), ..Commit::default() }).unwrap();
                            idle_since = None;
                        }
                        Polled::Assigned(_) | Polled::Erased => {}
                        Polled::Idle => {
                            if idle_since.get_or_insert_with(std::time::Instant::now).elapsed() > Duration::from_secs(1) {
                                break;
                            }
                        }
                    }
                }
            });
        }
        for chunk in (0..total).collect::<Vec<_>>().chunks(100) {
            log.append_raw(chunk.iter().map(|i| keyed(&format!("c{i}"), &i.to_string())).collect()).unwrap();
        }
    });
    let scores = log.read(Stream::Scores, 0, usize::MAX).unwrap();
    assert!(scores.iter().enumerate().all(|(i, d)| d.offset == i as i64));
    let mut values: Vec<usize> = scores.iter().map(|d| std::str::from_utf8(&d.value).unwrap().parse().unwrap()).collect();
    values.sort_unstable();
    assert!(values.into_iter().eq(0..total));
}

#[test]
fn a_waiting_worker_wakes_at_an_append() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path()).unwrap();
    let mut worker = log.worker(0, 1).unwrap();
    assert!(records(&mut worker, 1).is_empty());
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            log.append_raw(vec![keyed("c", "x")]).unwrap();
        });
        assert!(matches!(worker.poll(1, Duration::from_secs(60)).unwrap(), Polled::Records(r) if r.len() == 1));
    });
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_partition_has_one_worker() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open_with(dir.path(), 2).unwrap();
    let first = log.worker(0, 2).unwrap();
    let mut none = log.worker(2, 3).unwrap();
    assert!(matches!(none.poll(1, Duration::ZERO).unwrap(), Polled::Assigned(p) if p.is_empty()));
    assert!(matches!(none.poll(1, Duration::ZERO).unwrap(), Polled::Idle));
    assert!(matches!(log.worker(0, 1), Err(LogError::Fatal(m)) if m.contains("partition 0")));
    drop(first);
    log.worker(0, 1).unwrap();
}

#[test]
fn a_state_is_erased_by_the_worker_that_owns_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open_with(dir.path(), 2).unwrap();
    let customer = |partition| (0..).map(|i| format!("c{i}")).find(|id| partition_of(id.as_bytes(), 2) == partition).unwrap();
    let [first, second] = [0, 1].map(customer);
    let mut workers = [log.worker(0, 2).unwrap(), log.worker(1, 2).unwrap()];
    for (partition, id) in [(0, &first), (1, &second)] {
        let change = StateChange { partition, customer_id: id.as_str().into(), state: Some(b"state".to_vec()) };
        workers[partition as usize].commit(&Commit { states: vec![change], ..Commit::default() }).unwrap();
        assert!(matches!(workers[partition as usize].poll(1, Duration::ZERO).unwrap(), Polled::Assigned(_)));
    }
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| log.erase(&second).unwrap());
        let until = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            assert!(matches!(workers[0].poll(1, Duration::ZERO).unwrap(), Polled::Idle), "another's to erase");
            if matches!(workers[1].poll(1, Duration::from_millis(10)).unwrap(), Polled::Erased) {
                break;
            }
            assert!(std::time::Instant::now() < until, "never asked");
        }
        assert!(asked.join().unwrap());
    });
    assert_eq!((log.state(&first).unwrap().is_some(), log.state(&second).unwrap()), (true, None));
    assert!(!log.erase(&second).unwrap(), "there is nothing left");
    // Without a worker nobody has a copy.
    drop(workers);
    assert!(log.erase(&first).unwrap() && log.state(&first).unwrap().is_none());
}

#[test]
fn what_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path()).unwrap();
    let locked = Embedded::open(dir.path()).map(|_| ()).unwrap_err().to_string();
    assert!(locked.contains("open in another process") && locked.contains("[log] dir"), "{locked}");
    drop(log);
    drop(Embedded::open(dir.path()).unwrap());

    let file = dir.path().join("a-file");
    std::fs::write(&file, "x").unwrap();
    let beneath = Embedded::open(&file.join("log")).map(|_| ()).unwrap_err().to_string();
    assert!(beneath.contains("a-file") && beneath.contains("RAPPORT_LOG_DIR"), "{beneath}");
}
