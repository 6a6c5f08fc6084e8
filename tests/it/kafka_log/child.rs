//! A counting worker in a process of its own, so that it can be killed and stopped. It is this test binary, started with one ignored test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rapport::log::kafka::{KafkaLog, KafkaSettings};
use rapport::log::{Log, LogError, Polled};

use super::count;
use crate::brokers::unique;
use crate::process::{Process, eventually};

const GROUP: &str = "RAPPORT_TEST_GROUP";
const INSTANCE: &str = "RAPPORT_TEST_INSTANCE";
const BROKERS: &str = "RAPPORT_TEST_BROKERS";
/// A file before whose existence the first commit waits.
const HOLD: &str = "RAPPORT_TEST_HOLD";

pub struct Child {
    process: Process,
    hold: PathBuf,
}

impl Child {
    /// Polls and commits for ever.
    pub fn start(settings: &KafkaSettings, instance: &str) -> Child {
        Child::spawn(settings, instance, false)
    }

    /// Says `polled` after its first records and commits them only after [`Child::release`]; then says `commit: …`.
    pub fn holding(settings: &KafkaSettings, instance: &str) -> Child {
        Child::spawn(settings, instance, true)
    }

    fn spawn(settings: &KafkaSettings, instance: &str, hold: bool) -> Child {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let name = unique(&format!("worker-{}-{instance}", std::process::id()));
        let file = dir.join(format!("{name}.go"));
        let mut command = Command::new(std::env::current_exe().expect("this test binary"));
        command.args(["--exact", "kafka_log::child::counting_worker", "--ignored", "--nocapture"]);
        command.env(GROUP, &settings.group).env(INSTANCE, instance).env(BROKERS, &settings.brokers);
        if hold {
            command.env(HOLD, &file);
        }
        Child { process: Process::spawn(&name, command, dir), hold: file }
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn stop(&self) {
        self.process.signal(libc::SIGSTOP);
    }

    pub fn cont(&self) {
        self.process.signal(libc::SIGCONT);
    }

    pub fn release(&self) {
        std::fs::write(&self.hold, b"go").expect("a file");
    }

    /// Fails the test where it has ended by itself.
    pub fn lives(&mut self) {
        assert!(self.process.ended().is_none(), "the worker ended: {}{}", self.process.stdout(), self.process.stderr());
    }

    /// The first line with this word.
    pub fn wait_for(&mut self, word: &str) -> String {
        eventually(&format!("the worker says {word}"), Duration::from_secs(60), || {
            self.lives();
            self.process.stdout().lines().find(|l| l.contains(word)).map(str::to_owned)
        })
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("standard output");
}

#[test]
#[ignore = "a child process of other tests"]
fn counting_worker() {
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let mut settings = KafkaSettings {
        brokers: variable(BROKERS),
        group: variable(GROUP),
        prefix: variable(GROUP),
        instance: variable(INSTANCE),
        properties: Default::default(),
    };
    for (key, value) in [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500"), ("transaction.timeout.ms", "10000")] {
        settings.properties.insert(key.into(), value.into());
    }
    let hold = std::env::var(HOLD).ok().map(PathBuf::from);
    let mut log = KafkaLog::open(&settings, 0).expect("a log");
    loop {
        match log.poll(5, Duration::from_millis(100)) {
            Ok(Polled::Records(records)) => {
                let commit = count(&mut log, &records);
                if let Some(file) = &hold {
                    say("polled");
                    while !file.exists() {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                let outcome = log.commit(&commit);
                match &outcome {
                    Ok(()) if hold.is_some() => say("commit: done"),
                    Ok(()) => {}
                    Err(LogError::Retriable(e)) => say(&format!("commit: retriable: {e}")),
                    Err(LogError::Abortable(e)) => say(&format!("commit: abortable: {e}")),
                    Err(LogError::Fatal(e)) => say(&format!("commit: fatal: {e}")),
                }
                // Without a hold, slow enough for many kills.
                std::thread::sleep(if hold.is_some() { Duration::from_secs(60) } else { Duration::from_millis(20) });
                if let Err(LogError::Fatal(e)) = outcome {
                    panic!("{e}");
                }
            }
            Ok(_) | Err(LogError::Retriable(_)) => {}
            Err(e) => panic!("{e}"),
        }
    }
}
