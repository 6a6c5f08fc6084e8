//! One worker: what becomes visible, what does not, and what comes back after a restart.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::{RngCore, SeedableRng};
use rapport::log::kafka::{KafkaGateway, KafkaLog, Tail};
use rapport::log::{Commit, Gateway, Log, LogError, Output, Polled, Readiness, StateChange, Stream};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::{append, assert_counted_once, close, committed, count, fresh, poll, wait_assigned, wait_records, work};
use crate::brokers;
use crate::process::eventually;

const ALL: [i32; 4] = [0, 1, 2, 3];

fn produce(topic: &str, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) {
    let producer: BaseProducer = brokers::shared().client().create().expect("a producer");
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
    if let Some(key) = key {
        record = record.key(key);
    }
    if let Some(value) = value {
        record = record.payload(value);
    }
    producer.send(record).map_err(|(e, _)| e).expect("sent");
    producer.flush(Duration::from_secs(10)).expect("delivered");
}

#[test]
fn any_bytes_come_through_and_a_commit_is_seen_whole() {
    let settings = fresh("whole");
    let topic = settings.interactions();
    let poison: &[u8] = b"\xff\xfe{\0";
    produce(&topic, 2, None, Some(poison));
    produce(&topic, 2, Some(b"\xc3\x28"), None);
    produce(&topic, 2, Some(b"c-1"), Some(b""));

    let mut log = KafkaLog::open(&settings, 0).expect("a log");
    let mut records = Vec::new();
    while records.len() < 3 {
        records.extend(wait_records(&mut log, 10));
    }
    assert_eq!(records.iter().map(|r| (r.partition, r.offset)).collect::<Vec<_>>(), [(2, 0), (2, 1), (2, 2)]);
    assert_eq!((records[0].key.as_deref(), records[0].value.as_slice()), (None, poison));
    assert_eq!((records[1].key.as_deref(), records[1].value.as_slice()), (Some(b"\xc3\x28".as_slice()), b"".as_slice()));
    assert_eq!((records[2].key.as_deref(), records[2].value.as_slice()), (Some(b"c-1".as_slice()), b"".as_slice()));
    assert!(records.iter().all(|r| r.logged_at.is_some()));

    let output =
        |key: Option<&[u8]>, value: &[u8], headers| Output { partition: 2, key: key.map(<[u8]>::to_vec), value: value.to_vec(), headers };
    let provenance = vec![("rapport.topic", topic.clone()), ("rapport.error.message", "día".to_owned())];
    let commit = Commit {
        scores: vec![output(Some(b"c-1"), b"score", vec![])],
        shadow: vec![output(Some(b"c-1"), b"theirs", vec![])],
        alerts: vec![output(Some(b"c-1"), b"alert", vec![])],
        dead_letters: vec![output(None, poison, provenance)],
        states: vec![
            StateChange { partition: 2, customer_id: "c-1".into(), state: Some(b"one".to_vec()) },
            StateChange { partition: 2, customer_id: "c-2".into(), state: None },
        ],
        offsets: [(2, 3)].into(),
    };
    assert_eq!(log.load(2, "c-1").expect("a state"), None);
    log.commit(&commit).expect("committed");
    assert_eq!(log.load(2, "c-1").expect("a state").as_deref(), Some(b"one".as_slice()));

    // Kafka's own Java client sees it.
    let dead = brokers::shared().consume_committed(&settings.stream(Stream::DeadLetters));
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].partition, dead[0].key.as_deref(), dead[0].value.as_deref()), (2, None, Some(poison)));
    assert_eq!(dead[0].headers, [("rapport.topic".to_owned(), topic.clone()), ("rapport.error.message".into(), "día".into())]);
    assert_eq!(brokers::shared().committed(&settings.group, &topic, 4), Some(vec![-1, -1, 3, -1]));
    let read = |stream| committed(&settings, &settings.stream(stream));
    assert_eq!(read(Stream::Scores), [(2, Some(b"c-1".to_vec()), Some(b"score".to_vec()))]);
    assert_eq!(read(Stream::ScoresShadow), [(2, Some(b"c-1".to_vec()), Some(b"theirs".to_vec()))]);
    assert_eq!(read(Stream::Alerts), [(2, Some(b"c-1".to_vec()), Some(b"alert".to_vec()))]);
    let states: BTreeSet<_> = committed(&settings, &settings.state()).into_iter().collect();
    let wanted = [(2, Some(b"c-1".to_vec()), Some(b"one".to_vec())), (2, Some(b"c-2".to_vec()), None)];
    assert_eq!(states, BTreeSet::from(wanted));

    let mut tail = Tail::open(&settings, Stream::DeadLetters, true).expect("a tail");
    let letter = eventually("the tail", Duration::from_secs(10), || tail.next(Duration::from_millis(200)).expect("read"));
    assert_eq!((letter.key, letter.value.as_slice(), letter.headers[1].1.as_str()), (None, poison, "día"));

    // All was read: no lag, although transaction markers and an older consumer's view lie beyond.
    let lag = eventually("lag 0", Duration::from_secs(10), || {
        let _ = log.poll(1, Duration::from_millis(100));
        let lag = log.lag();
        (lag.iter().all(|(_, l)| *l == 0)).then_some(lag)
    });
    assert_eq!(lag.len(), 4);
}

#[test]
fn a_refused_commit_is_never_visible_and_the_next_worker_goes_on_behind_it() {
    let settings = fresh("refused");
    append(&settings, 0, 40);
    let mut log = KafkaLog::open(&settings, 0).expect("a log");
    let first = work(&mut log, 10, |_, done| done > 0);
    let records = wait_records(&mut log, 10);
    let mut commit = count(&mut log, &records);
    // The topic will not take it, so this transaction can never commit. Random, because a producer that compresses would make it small.
    let mut bytes = vec![0; 4_000_000];
    rand::rngs::SmallRng::seed_from_u64(1).fill_bytes(&mut bytes);
    let huge = Output { partition: 0, key: None, value: bytes, headers: vec![] };
    commit.dead_letters.push(huge);
    match log.commit(&commit) {
        Err(LogError::Fatal(message)) => assert!(message.contains("max.message.bytes"), "{message}"),
        other => panic!("{other:?}"),
    }
    drop(log);
    let mut log = KafkaLog::open(&settings, 0).expect("a log");
    let rest = work(&mut log, 100, |_, done| first + done == 40);
    assert_eq!(first + rest, 40);
    assert_counted_once(&settings, 40);
}

#[test]
fn a_commit_for_partitions_of_another_rewinds() {
    let settings = fresh("foreign");
    append(&settings, 0, 30);
    let mut log = KafkaLog::open(&settings, 0).expect("a log");
    let records = wait_records(&mut log, 5);
    let mut commit = count(&mut log, &records);
    commit.offsets.insert(99, 1);
    assert!(matches!(log.commit(&commit), Err(LogError::Abortable(_))));
    // Everything comes again, from the beginning.
    work(&mut log, 7, |_, done| done == 30);
    assert_counted_once(&settings, 30);
}

#[test]
fn a_process_with_the_same_instance_fences_the_older_one() {
    let settings = fresh("fenced");
    append(&settings, 0, 10);
    let mut old = KafkaLog::open(&settings, 0).expect("a log");
    let records = wait_records(&mut old, 10);
    let mut new = KafkaLog::open(&settings, 0).expect("a log");
    let commit = count(&mut old, &records);
    match old.commit(&commit) {
        Err(LogError::Fatal(message)) => assert!(message.contains("worker.instance"), "{message}"),
        other => panic!("{other:?}"),
    }
    work(&mut new, 100, |_, done| done == 10);
    assert_counted_once(&settings, 10);
}

#[test]
fn restore_brings_back_every_committed_state_and_waits_for_open_transactions() {
    let settings = fresh("restore");
    append(&settings, 0, 200);
    let mut log = KafkaLog::open(&settings, 0).expect("a log");
    work(&mut log, 30, |_, done| done == 200);
    let states = log.states();
    let before: Vec<_> = (0..10).map(|c| states.find(&format!("c-{c}"))).collect();
    assert!(before.iter().all(|s| s.as_deref() == Some(b"20".as_slice())), "{before:?}");
    // One is erased, and the state of another is written by a transaction that is still open when the next worker starts.
    let gone = (0..4).find(|&p| states_in(&mut log, p, "c-3")).expect("c-3 lies somewhere");
    let erase = StateChange { partition: gone, customer_id: "c-3".into(), state: None };
    log.commit(&Commit { states: vec![erase], ..Commit::default() }).expect("committed");
    close(log);
    append(&settings, 200, 7);

    let mut config = brokers::shared().client();
    config.set("transactional.id", brokers::unique("open-transaction"));
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(Duration::from_secs(10)).expect("transactions");
    producer.begin_transaction().expect("begun");
    let state = settings.state();
    let record = BaseRecord::to(&state).partition(1).key("late").payload("written");
    producer.send(record).map_err(|(e, _)| e).expect("sent");
    producer.flush(Duration::from_secs(10)).expect("delivered");

    let mut other = settings.clone();
    other.instance = "b".into();
    let mut log = KafkaLog::open(&other, 0).expect("a log");
    assert_eq!(log.readiness(), Readiness::Waiting);
    let idle = |log: &mut KafkaLog| match poll(log, 1, Duration::from_millis(100)) {
        Some(Polled::Assigned(partitions)) => panic!("{partitions:?} were restored past an open transaction"),
        _ => log.readiness() == Readiness::Restoring,
    };
    eventually("partitions to restore", Duration::from_secs(60), || idle(&mut log).then_some(()));
    let pinned = Instant::now();
    while pinned.elapsed() < Duration::from_secs(2) {
        assert!(idle(&mut log), "no longer restoring");
    }
    // What waits meanwhile is told.
    let lag = log.lag();
    assert_eq!((lag.len(), lag.iter().map(|(_, records)| records).sum::<i64>()), (4, 7), "{lag:?}");
    producer.commit_transaction(Duration::from_secs(10)).expect("committed");
    wait_assigned(&mut log, &ALL);
    assert_eq!(log.readiness(), Readiness::Ready);
    assert_eq!(log.load(1, "late").expect("a state").as_deref(), Some(b"written".as_slice()));
    let restored = log.states();
    for c in 0..10 {
        let wanted = if c == 3 { None } else { before[c].clone() };
        assert_eq!(restored.find(&format!("c-{c}")), wanted, "c-{c}");
    }
    let events = log.events();
    // Superseded states are read, too: at least one of each customer, and the late one.
    assert!(events.restored_states > 10, "{events:?}");
    assert_eq!((events.restores, events.lost_records), (4, 0));
    let gateway = KafkaGateway::open(&settings).expect("a gateway");
    gateway.watch(restored);
    assert_eq!(gateway.state("c-4").expect("a state").as_deref(), Some(b"20".as_slice()));
    assert_eq!(gateway.state("nobody").expect("a state"), None);
}

fn states_in(log: &mut KafkaLog, partition: i32, customer: &str) -> bool {
    log.load(partition, customer).expect("a state").is_some()
}

#[test]
fn interactions_below_retention_are_lost_loudly() {
    let settings = fresh("retention");
    for i in 0..20 {
        produce(&settings.interactions(), 0, Some(b"c-0"), Some(format!("i-{i}").as_bytes()));
    }
    let mut log = KafkaLog::open(&settings, 0).expect("a log");
    work(&mut log, 5, |_, done| done == 5);
    close(log);
    let admin: AdminClient<_> = brokers::shared().client().create().expect("an admin client");
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&settings.interactions(), 0, Offset::Offset(12)).expect("an offset");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(admin.delete_records(&before, &AdminOptions::new())).expect("deleted");

    let mut log = KafkaLog::open(&settings, 0).expect("a log");
    assert_eq!(work(&mut log, 100, |_, done| done == 8), 8);
    assert_eq!(log.events().lost_records, 7);
    let scores: Vec<_> = committed(&settings, &settings.stream(Stream::Scores)).into_iter().map(|(_, _, v)| v.expect("a value")).collect();
    let wanted: Vec<_> = (0..5).map(|i| format!("i-{i}={}", i + 1)).chain((12..20).map(|i| format!("i-{i}={}", i - 6))).collect();
    assert_eq!(scores, wanted.into_iter().map(String::into_bytes).collect::<Vec<_>>());
}

#[test]
fn nothing_is_read_while_nothing_comes() {
    let settings = fresh("idle");
    let mut log = KafkaLog::open(&settings, 0).expect("a log");
    wait_assigned(&mut log, &ALL);
    let (polled, took) = eventually("a poll without a rebalance", Duration::from_secs(30), || {
        let start = Instant::now();
        let polled = poll(&mut log, 10, Duration::from_millis(300))?;
        (!matches!(polled, Polled::Assigned(_))).then(|| (polled, start.elapsed()))
    });
    assert!(matches!(polled, Polled::Idle), "{polled:?}");
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(10), "{took:?}");
    log.commit(&Commit::default()).expect("nothing to commit");
}
