//! A log in memory whose failures come from a seed: crashes before and after a commit, aborts, torn transactions, retriable errors,
//! rebalances, fenced commits. What has been committed is kept as a broker would keep it, aborted transactions beside the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use rapport::interaction::Timestamp;
use rapport::log::{Commit, Log, LogError, Output, Partition, Polled, Record};

/// Message of the fatal error that stands for the death of the process: the test starts another worker in its place.
pub const CRASH: &str = "simulated crash";

/// How often what goes wrong, from 0 to 1 per call.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub rebalance: f64,
    pub retriable: f64,
    pub abort: f64,
    pub crash: f64,
}

impl Faults {
    pub const NONE: Self = Self { rebalance: 0.0, retriable: 0.0, abort: 0.0, crash: 0.0 };
}

/// One committed or aborted transaction.
struct Transaction {
    committed: bool,
    commit: Commit,
}

pub struct Cluster {
    input: Vec<Vec<Record>>,
    committed: Vec<i64>,
    states: BTreeMap<(Partition, Box<str>), Vec<u8>>,
    transactions: Vec<Transaction>,
    owners: Vec<usize>,
    /// Rises with every rebalance; a worker of an older generation is fenced.
    generation: u64,
    workers: usize,
    faults: Faults,
    random: StdRng,
    pub counts: BTreeMap<&'static str, usize>,
}

impl Cluster {
    pub fn new(seed: u64, partitions: usize, workers: usize, faults: Faults) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            input: vec![Vec::new(); partitions],
            committed: vec![0; partitions],
            states: BTreeMap::new(),
            transactions: Vec::new(),
            owners: (0..partitions).map(|p| p % workers).collect(),
            generation: 0,
            workers,
            faults,
            random: StdRng::seed_from_u64(seed),
            counts: BTreeMap::new(),
        }))
    }

    pub fn append(&mut self, partition: usize, key: Option<&[u8]>, value: &[u8], logged_at: Timestamp) {
        let log = &mut self.input[partition];
        let record = Record {
            partition: partition as Partition,
            offset: log.len() as i64,
            key: key.map(<[u8]>::to_vec),
            value: value.to_vec(),
            logged_at: Some(logged_at),
        };
        log.push(record);
    }

    pub fn store(&mut self, partition: Partition, customer_id: &str, state: &[u8]) {
        self.states.insert((partition, customer_id.into()), state.to_vec());
    }

    pub fn drained(&self) -> bool {
        self.input.iter().zip(&self.committed).all(|(log, committed)| log.len() as i64 == *committed)
    }

    /// Outputs of one stream and partition as a `read_committed` reader sees them.
    pub fn visible(&self, partition: Partition, stream: fn(&Commit) -> &Vec<Output>) -> Vec<Output> {
        let committed = self.transactions.iter().filter(|t| t.committed);
        committed.flat_map(|t| stream(&t.commit)).filter(|o| o.partition == partition).cloned().collect()
    }

    pub fn states(&self) -> &BTreeMap<(Partition, Box<str>), Vec<u8>> {
        &self.states
    }

    fn happens(&mut self, what: &'static str, probability: f64) -> bool {
        let yes = self.random.random_bool(probability);
        if yes {
            *self.counts.entry(what).or_insert(0) += 1;
        }
        yes
    }

    fn rebalance(&mut self) {
        self.generation += 1;
        for owner in &mut self.owners {
            *owner = self.random.random_range(0..self.workers);
        }
    }

    fn apply(&mut self, commit: &Commit) {
        for change in &commit.states {
            let key = (change.partition, change.customer_id.clone());
            match &change.state {
                Some(state) => drop(self.states.insert(key, state.clone())),
                None => drop(self.states.remove(&key)),
            }
        }
        for (partition, offset) in &commit.offsets {
            assert!(self.committed[*partition as usize] < *offset, "a commit goes back");
            self.committed[*partition as usize] = *offset;
        }
        self.record(commit, true);
    }

    fn record(&mut self, commit: &Commit, committed: bool) {
        let copy = Commit {
            scores: commit.scores.clone(),
            alerts: commit.alerts.clone(),
            dead_letters: commit.dead_letters.clone(),
            ..Commit::default()
        };
        self.transactions.push(Transaction { committed, commit: copy });
    }
}

/// One worker's side.
pub struct SimulatedLog {
    cluster: Arc<Mutex<Cluster>>,
    index: usize,
    generation: Option<u64>,
    positions: BTreeMap<Partition, i64>,
}

impl SimulatedLog {
    pub fn open(cluster: &Arc<Mutex<Cluster>>, index: usize) -> Self {
        Self { cluster: cluster.clone(), index, generation: None, positions: BTreeMap::new() }
    }
}

impl Log for SimulatedLog {
    fn poll(&mut self, max: usize, _timeout: Duration) -> Result<Polled, LogError> {
        let mut c = self.cluster.lock().unwrap();
        let faults = c.faults;
        if c.happens("rebalance", faults.rebalance) {
            c.rebalance();
        }
        if self.generation != Some(c.generation) {
            self.generation = Some(c.generation);
            let owned = (0..c.owners.len()).filter(|p| c.owners[*p] == self.index);
            self.positions = owned.map(|p| (p as Partition, c.committed[p])).collect();
            return Ok(Polled::Assigned(self.positions.keys().copied().collect()));
        }
        if c.happens("retriable poll", faults.retriable) {
            return Err(LogError::Retriable("simulated: no answer to a poll".into()));
        }
        let mut records = Vec::new();
        for (p, position) in &mut self.positions {
            let log = &c.input[*p as usize];
            let from = *position as usize;
            let to = (from + max - records.len()).min(log.len());
            records.extend_from_slice(&log[from..to]);
            *position = to as i64;
        }
        Ok(if records.is_empty() { Polled::Idle } else { Polled::Records(records) })
    }

    fn load(&mut self, partition: Partition, customer_id: &str) -> Result<Option<Vec<u8>>, LogError> {
        let mut c = self.cluster.lock().unwrap();
        let faults = c.faults;
        assert!(self.positions.contains_key(&partition), "a state of a partition that this worker does not own");
        if c.happens("retriable load", faults.retriable / 10.0) {
            return Err(LogError::Retriable("simulated: no answer to a load".into()));
        }
        Ok(c.states.get(&(partition, customer_id.into())).cloned())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), LogError> {
        let mut c = self.cluster.lock().unwrap();
        let faults = c.faults;
        // Another worker's poll may have begun a rebalance while this one was computing.
        let fenced = self.generation != Some(c.generation);
        if fenced || c.happens("abort", faults.abort) {
            *c.counts.entry("fenced").or_insert(0) += usize::from(fenced);
            c.record(commit, false);
            for (p, position) in &mut self.positions {
                *position = c.committed[*p as usize];
            }
            return Err(LogError::Abortable("simulated: aborted".into()));
        }
        if c.happens("retriable commit", faults.retriable) {
            return Err(LogError::Retriable("simulated: no answer to a commit".into()));
        }
        if c.happens("crash before commit", faults.crash) {
            return Err(LogError::Fatal(CRASH.into()));
        }
        if c.happens("torn commit", faults.crash) {
            // Part of the outputs reached the broker and no end of the transaction did.
            let torn = Commit { scores: commit.scores[..commit.scores.len() / 2].to_vec(), ..Commit::default() };
            c.record(&torn, false);
            return Err(LogError::Fatal(CRASH.into()));
        }
        c.apply(commit);
        if c.happens("crash after commit", faults.crash) {
            return Err(LogError::Fatal(CRASH.into()));
        }
        Ok(())
    }

    fn lag(&mut self) -> Vec<(Partition, i64)> {
        Vec::new()
    }

    fn close(&mut self) -> Result<(), LogError> {
        Ok(())
    }
}
