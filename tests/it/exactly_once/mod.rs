//! The proof: the same interactions through `rapport score` and through Kafka, where workers and brokers die, give the same scores, alerts
//! and rejects, each exactly once. `tests/check_exactly_once.py` judges, on what Kafka's Java client read.

mod sample;
mod tamper;
mod trial;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::brokers::{Cluster, Isolation, parse_dump, shared};
use trial::Trial;

const KILLS_EACH: usize = 5;

#[test]
fn workers_killed_inside_transactions_score_exactly_once() {
    let seed = 20_261_123;
    let mut rng = SmallRng::seed_from_u64(seed);
    let trial = Trial::prepare(shared(), "exactly-once", sample::lines(6000));
    let mut a = trial.worker("a");
    let mut b = trial.worker("b");
    trial.while_feeding(|| {
        // Slow enough that a transaction is small and one is nearly always about to open.
        trial.pace(60);
        for _ in 0..KILLS_EACH - 1 {
            trial.kill_inside_transaction(&mut a, &mut rng);
            a = trial.worker("a");
            trial.kill_inside_transaction(&mut b, &mut rng);
            b = trial.worker("b");
        }

        // One stops in good order: its customers' states move to the other, and back.
        b.stop();
        trial.wait_for(trial.sent() + 100);
        trial.pace(0);
        trial.wait_consumed(&mut [&mut a]);
        trial.pace(60);
        b = trial.worker("b");

        trial.kill_inside_transaction(&mut a, &mut rng);
        a = trial.worker("a");
        trial.kill_inside_transaction(&mut b, &mut rng);
        b = trial.worker("b");
    });
    trial.wait_consumed(&mut [&mut a, &mut b]);
    a.stop();
    b.stop();
    let read = trial.read_back();
    let verdict = trial.judge(&read).unwrap_or_else(|faults| panic!("{faults}"));

    // The kills did leave something to hide.
    let all = trial.dir().join("scores-uncommitted.dump");
    shared().dump(&trial.topic("scores"), Isolation::Uncommitted, &all);
    let committed = parse_dump(&std::fs::read(&read.scores).expect("the dump")).len();
    let aborted = parse_dump(&std::fs::read(&all).expect("the dump")).len() - committed;
    assert!(aborted > 0, "no score of an aborted transaction: nothing was killed in the middle of one");
    eprintln!("{verdict}; {} kills inside transactions (seed {seed}), {aborted} scores of aborted transactions hidden", trial.kills());

    tamper::the_judge_notices(&trial, &read);
}

#[test]
fn brokers_killed_in_the_middle_lose_and_repeat_nothing() {
    let mut rng = SmallRng::seed_from_u64(7);
    let cluster = Cluster::start(3);
    let trial = Trial::prepare(&cluster, "broker-loss", sample::lines(1200));
    let mut worker = trial.worker("a");
    worker.wait_ready();
    trial.while_feeding(|| {
        for node in [0, 1] {
            trial.pace(60);
            trial.wait_for(trial.sent() + 100 + rng.random_range(0..50));
            cluster.kill(node);
            // Work goes on without it, while records come and on what has come.
            trial.wait_for(trial.sent() + 50);
            trial.pace(10);
            trial.wait_progress(&mut worker);
            trial.pace(0);
            assert!(trial.left() > 0, "the feed ended before the second kill was over: more lines, or a slower pace");
            cluster.restart(node);
            cluster.wait_ready();
        }
    });
    trial.wait_consumed(&mut [&mut worker]);
    worker.stop();
    let read = trial.read_back();
    let verdict = trial.judge(&read).unwrap_or_else(|faults| panic!("{faults}"));
    eprintln!("{verdict}; two of three brokers killed in turn");
}
