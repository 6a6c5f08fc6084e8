//! Real Apache Kafka for the tests: clusters of one or three nodes (KRaft), started from the jars that `make deps` fetched.
//!
//! Reading back goes through Kafka's own Java client, so that nothing of what is under test judges itself.

#[cfg(test)]
mod tests;
mod transactions;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::process::{Process, cache, eventually, free_port, root};

/// Ends a field and a record of a dump; neither occurs in the records of the tests.
pub const FIELD_END: &str = "\u{1f}";
pub const RECORD_END: &str = "\u{1e}\n";
const NULL: &str = "\u{2}null";

/// A running cluster; dropping it kills every node.
pub struct Cluster {
    nodes: Vec<Node>,
    dir: PathBuf,
}

struct Node {
    port: u16,
    controller_port: u16,
    process: Mutex<Option<Process>>,
}

impl Node {
    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record as the Java client printed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
}

/// Which records the Java client shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    Committed,
    /// Those of aborted and open transactions too.
    Uncommitted,
}

/// The one-node cluster that all tests of this process share; keep apart by [`unique`] prefixes.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| {
        // The kernel ties a child to the thread that started it, so that thread has to stay.
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = send.send(Cluster::start(1));
            loop {
                std::thread::park();
            }
        });
        receive.recv().expect("the shared cluster started")
    })
}

/// A prefix for topics, groups and instances that no other test uses.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Cluster {
    /// Starts `nodes` (1 or 3) brokers, each its own controller too, and waits until clients see all of them.
    pub fn start(nodes: usize) -> Cluster {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-{}-{number}", std::process::id()));
        remove_old(Path::new(env!("CARGO_TARGET_TMPDIR")));
        let nodes = (0..nodes).map(|_| Node { port: free_port(), controller_port: free_port(), process: Mutex::default() }).collect();
        let cluster = Cluster { nodes, dir };
        for node in 0..cluster.nodes.len() {
            cluster.format(node);
        }
        for node in 0..cluster.nodes.len() {
            cluster.restart(node);
        }
        cluster.wait_ready();
        cluster
    }

    /// `host:port,…` of all nodes.
    pub fn brokers(&self) -> String {
        self.nodes.iter().map(|n| format!("127.0.0.1:{}", n.port)).collect::<Vec<_>>().join(",")
    }

    /// kill −9 on one node (from 0).
    pub fn kill(&self, node: usize) {
        *self.nodes[node].process() = None;
    }

    /// Starts a killed node on its old data; does not wait for it.
    pub fn restart(&self, node: usize) {
        let mut command = java("kafka.Kafka");
        command.arg(self.node_dir(node).join("server.properties"));
        *self.nodes[node].process() = Some(Process::spawn("broker", command, &self.node_dir(node)));
    }

    /// Waits until every node is registered and every partition has a leader and all its copies, those of Kafka's own topics too.
    pub fn wait_ready(&self) {
        let client: BaseConsumer = self.client().create().expect("a client");
        for node in &self.nodes {
            let mut process = node.process();
            let process = process.as_mut().expect("a started node");
            eventually("the broker listens", Duration::from_secs(90), || {
                assert!(process.ended().is_none(), "a broker ended: {}{}", process.stdout(), process.stderr());
                std::net::TcpStream::connect(("127.0.0.1", node.port)).ok()
            });
        }
        let nodes = self.nodes.len();
        eventually("all brokers are in the metadata and all copies are in sync", Duration::from_secs(120), || {
            let metadata = client.fetch_metadata(None, Duration::from_secs(5)).ok()?;
            let mut partitions = metadata.topics().iter().flat_map(|t| t.partitions());
            (metadata.brokers().len() == nodes && partitions.all(|p| p.leader() >= 0 && p.isr().len() == nodes)).then_some(())
        });
    }

    /// Settings of a client of this cluster.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers());
        config
    }

    /// Creates topics, copied to every node.
    pub fn create_topics(&self, topics: &[&str], partitions: i32) {
        let replication = self.nodes.len() as i32;
        let topics: Vec<_> = topics.iter().map(|t| NewTopic::new(t, partitions, TopicReplication::Fixed(replication))).collect();
        let admin: AdminClient<_> = self.client().create().expect("an admin client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        for result in runtime.block_on(admin.create_topics(&topics, &options)).expect("topics can be created") {
            result.unwrap_or_else(|(topic, e)| panic!("cannot create {topic}: {e}"));
        }
    }

    /// Names of the topics that there are.
    pub fn topics(&self) -> Vec<String> {
        let client: BaseConsumer = self.client().create().expect("a client");
        let metadata = client.fetch_metadata(None, Duration::from_secs(20)).expect("metadata");
        metadata.topics().iter().map(|t| t.name().to_owned()).collect()
    }

    /// First and next offset of every partition of a topic.
    pub fn watermarks(&self, topic: &str) -> Vec<(i64, i64)> {
        let client: BaseConsumer = self.client().create().expect("a client");
        let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(20)).expect("metadata");
        let partitions = metadata.topics()[0].partitions().len() as i32;
        (0..partitions).map(|p| client.fetch_watermarks(topic, p, Duration::from_secs(20)).expect("watermarks")).collect()
    }

    /// Committed offset of every partition of a topic for a group, −1 where there is none; `None` where no broker says.
    pub fn committed(&self, group: &str, topic: &str, partitions: i32) -> Option<Vec<i64>> {
        let client: BaseConsumer = self.client().set("group.id", group).create().expect("a client");
        let mut asked = TopicPartitionList::new();
        for p in 0..partitions {
            asked.add_partition(topic, p);
        }
        let answer = client.committed_offsets(asked, Duration::from_secs(20)).ok()?;
        let offset = |o: Offset| if let Offset::Offset(o) = o { o } else { -1 };
        answer.elements().iter().map(|e| e.error().is_ok().then(|| offset(e.offset()))).collect()
    }

    /// Waits until `group` has committed everything that `topic` holds now. `check` fails the test where nothing is to be waited for any more.
    pub fn wait_consumed(&self, group: &str, topic: &str, timeout: Duration, mut check: impl FnMut()) {
        let ends: Vec<i64> = self.watermarks(topic).into_iter().map(|(_, end)| end).collect();
        let until = Instant::now() + timeout;
        loop {
            check();
            let committed = self.committed(group, topic, ends.len() as i32);
            if committed.as_ref().is_some_and(|c| c.iter().zip(&ends).all(|(c, end)| c >= end || *end == 0)) {
                return;
            }
            assert!(Instant::now() < until, "within {timeout:?}, {group} committed {committed:?} of {topic}, which ends at {ends:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Ids of the transactions that are open at the brokers this moment.
    pub fn open_transactions(&self) -> Vec<String> {
        let alive = self.nodes.iter().filter(|n| n.process().is_some());
        alive.flat_map(|n| transactions::open(n.port).unwrap_or_default()).collect()
    }

    /// Everything that committed transactions left in a topic, through the Java client.
    pub fn consume_committed(&self, topic: &str) -> Vec<Printed> {
        let file = self.dir.join(format!("{}.dump", unique("read")));
        self.dump(topic, Isolation::Committed, &file);
        parse_dump(&fs::read(&file).expect("the dump"))
    }

    /// Writes a topic's records as the Java console consumer prints them to `file`.
    pub fn dump(&self, topic: &str, isolation: Isolation, file: &Path) {
        let mut command = java("org.apache.kafka.tools.consumer.ConsoleConsumer");
        command.args(["--bootstrap-server", &self.brokers(), "--topic", topic, "--from-beginning", "--timeout-ms", "8000"]);
        command.args(["--isolation-level", if isolation == Isolation::Committed { "read_committed" } else { "read_uncommitted" }]);
        for property in ["print.partition=true", "print.offset=true", "print.headers=true", "print.key=true"] {
            command.args(["--property", property]);
        }
        command.args(["--property", &format!("key.separator={FIELD_END}"), "--property", &format!("null.literal={NULL}")]);
        command.args(["--property", &format!("line.separator={RECORD_END}")]);
        command.args(["--property", "headers.separator=\u{1d}"]);
        let name = unique("console-consumer");
        let mut process = Process::spawn(&name, command, &self.dir);
        let finished = process.wait(Duration::from_secs(180));
        // It ends by its timeout, which it reports as an error; the count tells that it read at all.
        assert!(finished.stderr.contains("Processed a total of"), "the console consumer failed: {}", finished.stderr);
        fs::rename(self.dir.join(format!("{name}.out")), file).expect("the dump can be moved");
    }

    fn node_dir(&self, node: usize) -> PathBuf {
        self.dir.join(format!("node-{node}"))
    }

    fn format(&self, node: usize) {
        let dir = self.node_dir(node);
        fs::create_dir_all(&dir).expect("a folder for a node");
        let properties = dir.join("server.properties");
        fs::write(&properties, self.properties(node)).expect("server.properties");
        let mut command = java("kafka.tools.StorageTool");
        command.args(["format", "-t", "cmFwcG9ydC10ZXN0cy0wMQ", "-c"]).arg(&properties);
        let finished = Process::spawn("format", command, &dir).wait(Duration::from_secs(60));
        assert_eq!(finished.code, Some(0), "cannot format a node: {}{}", finished.stdout, finished.stderr);
    }

    fn properties(&self, node: usize) -> String {
        let copies = self.nodes.len();
        let in_sync = if copies > 1 { 2 } else { 1 };
        let voters: Vec<_> = (0..copies).map(|n| format!("{}@127.0.0.1:{}", n + 1, self.nodes[n].controller_port)).collect();
        let Node { port, controller_port, .. } = self.nodes[node];
        [
            "process.roles=broker,controller".to_owned(),
            format!("node.id={}", node + 1),
            format!("controller.quorum.voters={}", voters.join(",")),
            "controller.listener.names=CONTROLLER".into(),
            format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"),
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}"),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".into(),
            format!("log.dirs={}", self.node_dir(node).join("log").display()),
            "auto.create.topics.enable=false".into(),
            format!("default.replication.factor={copies}"),
            format!("min.insync.replicas={in_sync}"),
            "offsets.topic.num.partitions=4".into(),
            format!("offsets.topic.replication.factor={copies}"),
            "transaction.state.log.num.partitions=4".into(),
            format!("transaction.state.log.replication.factor={copies}"),
            format!("transaction.state.log.min.isr={in_sync}"),
            format!("share.coordinator.state.topic.replication.factor={copies}"),
            format!("share.coordinator.state.topic.min.isr={in_sync}"),
            "group.initial.rebalance.delay.ms=0".into(),
            "group.min.session.timeout.ms=1000".into(),
            // A killed node is noticed in seconds.
            "broker.heartbeat.interval.ms=500".into(),
            "broker.session.timeout.ms=3000".into(),
            "num.network.threads=2\nnum.io.threads=2\nbackground.threads=2\nlog.cleaner.dedupe.buffer.size=4194304\n".into(),
        ]
        .join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.clear();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Folders of clusters whose test process is gone.
fn remove_old(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("kafka-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn java(class: &str) -> Command {
    let libs = cache().join("kafka/libs");
    assert!(libs.is_dir(), "no Apache Kafka in {}: run `make deps`", libs.display());
    let mut command = Command::new("java");
    command.args(["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", root().join("tests/kafka/log4j2.properties").display())).arg("-cp");
    command.arg(format!("{}/*", libs.display())).arg(class).env("LC_ALL", "C.UTF-8");
    command
}

/// Reads what [`Cluster::dump`] wrote.
pub fn parse_dump(bytes: &[u8]) -> Vec<Printed> {
    let mut printed: Vec<_> = split(bytes, RECORD_END.as_bytes()).into_iter().map(parse_record).collect();
    printed.sort_by_key(|r| (r.partition, r.offset));
    printed
}

fn parse_record(record: &[u8]) -> Printed {
    let fields: Vec<_> = record.splitn(5, |b| *b == FIELD_END.as_bytes()[0]).collect();
    let [partition, offset, headers, key, value] = fields[..] else { panic!("a dumped record of {} fields", fields.len()) };
    let number = |field: &[u8], name: &str| -> i64 {
        let text = String::from_utf8_lossy(field);
        text.strip_prefix(name).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    let bytes = |field: &[u8]| (field != NULL.as_bytes()).then(|| field.to_vec());
    let headers = String::from_utf8_lossy(headers).into_owned();
    let headers = headers.split('\u{1d}').filter_map(|h| h.split_once(':')).map(|(k, v)| (k.into(), v.into()));
    Printed {
        partition: number(partition, "Partition:") as i32,
        offset: number(offset, "Offset:"),
        key: bytes(key),
        value: bytes(value),
        headers: headers.collect(),
    }
}

/// The pieces of `bytes` that each end with `end`.
fn split<'a>(mut bytes: &'a [u8], end: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = bytes.windows(end.len()).position(|w| w == end) {
        pieces.push(&bytes[..at]);
        bytes = &bytes[at + end.len()..];
    }
    assert!(bytes.is_empty(), "a dump ends with half a record");
    pieces
}
