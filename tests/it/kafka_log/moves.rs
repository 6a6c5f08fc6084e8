//! Several workers: partitions move, processes die, zombies wake.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rapport::log::kafka::{KafkaLog, KafkaSettings};
use rapport::log::{Log, LogError, Polled, Readiness, Stream};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::child::Child;
use super::{append, assert_counted_once, assert_scores_counted_once, close, count, create, fresh, settings, wait_records, work};
use crate::brokers;
use crate::process::eventually;

fn with(settings: &KafkaSettings, instance: &str) -> KafkaSettings {
    KafkaSettings { instance: instance.into(), ..settings.clone() }
}

/// One worker starts, a second joins in the middle, the first leaves, the second finishes. The first brings its own work until the second has
/// come: how long a rebalance takes is the broker's affair.
fn partitions_move(settings: &KafkaSettings) {
    const ROUND: usize = 500;
    append(settings, 0, ROUND);
    let (appended, done) = (AtomicUsize::new(ROUND), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let mut log = KafkaLog::open(settings, 0).expect("a log");
            let mut shrunk = false;
            let here = work(&mut log, 10, |polled, here| {
                std::thread::sleep(Duration::from_millis(10));
                shrunk |= matches!(polled, Polled::Assigned(p) if p.len() == 2);
                let all = appended.load(Ordering::SeqCst);
                if !shrunk && here + ROUND / 2 > all {
                    append(settings, all, ROUND);
                    appended.store(all + ROUND, Ordering::SeqCst);
                }
                shrunk && here > 0
            });
            done.store(here, Ordering::SeqCst);
            close(log);
            here
        });
        let second = scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(2));
            let mut log = KafkaLog::open(&with(settings, "b"), 0).expect("a log");
            work(&mut log, 50, |_, here| done.load(Ordering::SeqCst) + here == appended.load(Ordering::SeqCst))
        });
        let (first, second) = (first.join().expect("the first"), second.join().expect("the second"));
        assert!(first > 0 && second > 0, "{first} + {second}");
    });
    assert_counted_once(settings, appended.into_inner());
}

#[test]
fn partitions_move_with_their_states() {
    partitions_move(&fresh("moves"));
}

#[test]
fn partitions_move_under_the_new_protocol() {
    let mut settings = fresh("moves-848");
    settings.properties.remove("session.timeout.ms");
    settings.properties.remove("heartbeat.interval.ms");
    settings.properties.insert("group.protocol".into(), "consumer".into());
    partitions_move(&settings);
}

#[test]
fn two_processes_killed_in_the_middle_of_transactions_count_once() {
    const N: usize = 12_000;
    let settings = fresh("killed");
    append(&settings, 0, N);
    let topic = settings.interactions();
    let finished = || brokers::shared().committed(&settings.group, &topic, 4).is_some_and(|c| c.iter().sum::<i64>() as usize == N);
    let mut kills = 0;
    let mut workers = [Child::start(&settings, "a"), Child::start(&settings, "b")];
    for round in 0..10 {
        let victim = round % 2;
        let slot = format!("{}-{}-0", settings.group, ["a", "b"][victim]);
        let open = eventually("a transaction of the victim", Duration::from_secs(60), || {
            if finished() {
                return Some(false);
            }
            brokers::shared().open_transactions().contains(&slot).then_some(true)
        });
        if !open {
            break;
        }
        workers[victim].kill();
        kills += 1;
        workers[victim] = Child::start(&settings, ["a", "b"][victim]);
    }
    brokers::shared().wait_consumed(&settings.group, &topic, Duration::from_secs(180), || workers.iter_mut().for_each(Child::lives));
    drop(workers);
    assert!(kills >= 6, "only {kills} kills before all was done; the test proves too little");
    let scores = brokers::shared().consume_committed(&settings.stream(Stream::Scores));
    assert_scores_counted_once(scores.into_iter().map(|s| (s.key.expect("a key"), s.value.expect("a value"))), N);
    let mut log = KafkaLog::open(&with(&settings, "c"), 0).expect("a log");
    work(&mut log, 10, |polled, _| matches!(polled, Polled::Assigned(p) if p.len() == 4));
    for c in 0..10 {
        let state = log.states().find(&format!("c-{c}"));
        assert_eq!(state.as_deref(), Some((N / 10).to_string().as_bytes()), "c-{c}");
    }
}

#[test]
fn a_stopped_worker_that_wakes_up_late_commits_nothing() {
    const N: usize = 300;
    let settings = fresh("zombie");
    append(&settings, 0, N);
    let mut zombie = Child::holding(&settings, "z");
    zombie.wait_for("polled");
    zombie.stop();
    // Its session ends, another takes its partitions and does all the work.
    let mut log = KafkaLog::open(&with(&settings, "y"), 0).expect("a log");
    work(&mut log, 50, |_, done| done == N);
    zombie.release();
    zombie.cont();
    let said = zombie.wait_for("commit: ");
    assert!(said.contains("abortable") || said.contains("fatal"), "{said}");
    zombie.kill();
    assert_counted_once(&settings, N);
}

#[test]
fn a_broker_away_for_longer_than_a_transaction_may_take_costs_nothing_but_time() {
    const N: usize = 2_000;
    let cluster = brokers::Cluster::start(1);
    let mut settings = settings(&brokers::unique("outage"), "a");
    settings.brokers = cluster.brokers();
    settings.properties.insert("transaction.timeout.ms".into(), "3000".into());
    create(&settings);
    append(&settings, 0, N);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut log = KafkaLog::open(&settings, 0).expect("a log");
            let here = work(&mut log, 5, |_, here| {
                // Slow enough not to be done before the second outage.
                std::thread::sleep(Duration::from_millis(5));
                done.store(here, Ordering::SeqCst);
                here == N
            });
            (log, here)
        });
        for outage in 1..=2 {
            eventually("some work", Duration::from_secs(120), || {
                assert!(!worker.is_finished(), "the worker gave up, or was done before the outage");
                (done.load(Ordering::SeqCst) >= outage * 50).then_some(())
            });
            cluster.kill(0);
            std::thread::sleep(Duration::from_secs(5));
            cluster.restart(0);
        }
        let (mut log, here) = worker.join().expect("the worker");
        assert_eq!(here, N);

        // A worker without work that loses its broker says so, and says when it is back.
        cluster.kill(0);
        eventually("the worker misses its broker", Duration::from_secs(60), || match log.poll(1, Duration::from_millis(200)) {
            Err(LogError::Retriable(reason)) => reason.contains("log.brokers").then_some(()),
            Err(e) => panic!("{e}"),
            Ok(_) => None,
        });
        cluster.restart(0);
        eventually("the broker is back", Duration::from_secs(60), || match log.poll(1, Duration::from_millis(200)) {
            Err(LogError::Retriable(_)) => None,
            Err(e) => panic!("{e}"),
            Ok(_) => Some(()),
        });
    });
    assert_counted_once(&settings, N);
}

/// An open transaction on the state topic keeps the first worker restoring while the second joins and takes half of its partitions.
#[test]
fn a_rebalance_while_restoring_leaves_each_with_its_own_states() {
    const N: usize = 400;
    let settings = fresh("restoring");
    append(&settings, 0, N);
    let mut log = KafkaLog::open(&settings, 0).expect("a log");
    let first = work(&mut log, 50, |_, done| done >= N / 2);
    let rest = N - first;
    assert!(rest > 0, "nothing was left to do for those who restore");
    close(log);

    let mut config = brokers::shared().client();
    config.set("transactional.id", brokers::unique("pinning"));
    let pin: BaseProducer = config.create().expect("a producer");
    pin.init_transactions(Duration::from_secs(10)).expect("transactions");
    pin.begin_transaction().expect("begun");
    let state = settings.state();
    for partition in 0..4 {
        let record = BaseRecord::to(&state).partition(partition).key("pin").payload("x");
        pin.send(record).map_err(|(e, _)| e).expect("sent");
    }
    pin.flush(Duration::from_secs(10)).expect("delivered");

    let done = AtomicUsize::new(0);
    let assignments = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = |instance: &'static str| {
            let (settings, done, assignments) = (&settings, &done, &assignments);
            move || {
                let mut log = KafkaLog::open(&with(settings, instance), 0).expect("a log");
                let mut before = 0;
                let mut owned = Vec::new();
                work(&mut log, 10, |polled, here| {
                    done.fetch_add(here - before, Ordering::SeqCst);
                    before = here;
                    if let Polled::Assigned(partitions) = polled {
                        owned = partitions.clone();
                    }
                    assignments.fetch_add(log_assignments(polled), Ordering::SeqCst);
                    // Not before it has been told its own part: there may be nothing to do in it.
                    done.load(Ordering::SeqCst) == rest && !owned.is_empty()
                });
                owned
            }
        };
        let first = scope.spawn(worker("p"));
        wait_members(&settings, &["p"]);
        let second = scope.spawn(worker("q"));
        wait_members(&settings, &["p", "q"]);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(assignments.load(Ordering::SeqCst), 0, "announced past an open transaction");
        pin.commit_transaction(Duration::from_secs(20)).expect("committed");
        let (first, second) = (first.join().expect("the first"), second.join().expect("the second"));
        assert_eq!((first.len(), second.len()), (2, 2), "{first:?} {second:?}");
    });
    assert_counted_once(&settings, N);
}

/// Waits until exactly these instances are the group's members and have been given partitions.
fn wait_members(settings: &KafkaSettings, instances: &[&str]) {
    let client: BaseConsumer = brokers::shared().client().create().expect("a client");
    let wanted: Vec<String> = instances.iter().map(|i| format!("{}-{i}", settings.group)).collect();
    eventually(&format!("the group is {wanted:?}"), Duration::from_secs(90), || {
        let groups = client.fetch_group_list(Some(&settings.group), Duration::from_secs(10)).ok()?;
        let group = groups.groups().first().filter(|g| g.state() == "Stable")?;
        let mut members: Vec<_> = group.members().iter().map(|m| m.client_id().to_owned()).collect();
        members.sort();
        (members == wanted).then_some(())
    });
}

/// Announcements of owned partitions; giving all up is none.
fn log_assignments(polled: &Polled) -> usize {
    usize::from(matches!(polled, Polled::Assigned(p) if !p.is_empty()))
}

#[test]
fn a_member_whose_name_was_taken_and_left_joins_again() {
    const N: usize = 200;
    let settings = fresh("renamed");
    append(&settings, 0, N);
    let mut log = KafkaLog::open(&settings, 0).expect("a log");
    let first = work(&mut log, 20, |_, done| done >= N / 2);
    let unfinished = wait_records(&mut log, 20);
    {
        // As after a join whose answer was lost: the brokers know the name under another member id.
        let mut config = brokers::shared().client();
        config.set("group.id", &settings.group).set("group.instance.id", format!("{}-a-0", settings.group));
        config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "500").set("enable.auto.commit", "false");
        let other: BaseConsumer = config.set("partition.assignment.strategy", "range").create().expect("a consumer");
        other.subscribe(&[&settings.interactions()]).expect("subscribed");
        eventually("the other has the partitions", Duration::from_secs(60), || {
            let _ = other.poll(Duration::from_millis(50));
            (other.assignment().ok()?.count() == 4).then_some(())
        });
    }
    // By now a heartbeat has told the worker, though not its thread, that its name is taken: nothing can be committed and no position moved.
    std::thread::sleep(Duration::from_secs(2));
    let refused = {
        let commit = count(&mut log, &unfinished);
        log.commit(&commit)
    };
    assert!(matches!(refused, Err(LogError::Abortable(_))), "{refused:?}");
    assert_eq!(log.readiness(), Readiness::Waiting, "the commit did not join the group again");
    let mut forgot = false;
    let rest = work(&mut log, 20, |polled, done| {
        forgot |= matches!(polled, Polled::Assigned(p) if p.is_empty());
        first + done == N && forgot
    });
    assert_eq!(first + rest, N);
    assert_counted_once(&settings, N);
}
