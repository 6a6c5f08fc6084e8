//! `rapport topics create`, `rapport check`, and what happens without topics or brokers.

use std::path::Path;
use std::time::{Duration, Instant};

use rapport::log::LogError;
use rapport::log::kafka::{KafkaLog, verify_topics};

use super::{fresh, settings};
use crate::brokers;
use crate::process::rapport;

const MINUTE: Duration = Duration::from_secs(60);

fn dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn config(name: &str, settings: &rapport::log::kafka::KafkaSettings) -> std::path::PathBuf {
    let file = dir().join(format!("{name}-{}.toml", std::process::id()));
    let text = format!(
        "[log]\nkind = \"kafka\"\nbrokers = \"{}\"\ngroup = \"{}\"\nprefix = \"{}\"\n[model]\ndir = \"no-model-here\"\n",
        settings.brokers, settings.group, settings.prefix
    );
    std::fs::write(&file, text).expect("a configuration");
    file
}

#[test]
fn topics_are_created_once_and_never_changed() {
    let settings = settings(&brokers::unique("create"), "a");
    let create = |partitions: &str| {
        let arguments = ["topics", "create", "--brokers", &settings.brokers, "--prefix", &settings.prefix, "--partitions", partitions];
        rapport(dir(), arguments, MINUTE)
    };
    let first = create("3");
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert_eq!(first.stdout.lines().filter(|l| l.ends_with("created")).count(), 7, "{}", first.stdout);
    let again = create("3");
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(again.stdout.lines().filter(|l| l.contains("exists with")).count(), 7, "{}", again.stdout);
    let other = create("5");
    assert_eq!(other.code, Some(1));
    assert!(other.stderr.contains("--partitions 3"), "{}", other.stderr);
    verify_topics(&settings).expect("all is well");
    let config = config("created", &settings);
    let check = rapport(dir(), ["check", "--config", config.to_str().expect("a path")], MINUTE);
    // Only the model is missing.
    assert_eq!(check.code, Some(1), "{}{}", check.stdout, check.stderr);
    let wrong: Vec<_> = check.stdout.lines().filter(|l| l.starts_with("WRONG")).collect();
    assert!(wrong.len() == 1 && wrong[0].contains("model.dir"), "{}", check.stdout);
    assert!(check.stdout.contains("is compacted"), "{}", check.stdout);
}

#[test]
fn missing_and_unequal_topics_are_refused_with_what_to_do() {
    let missing = settings(&brokers::unique("missing"), "a");
    let message = verify_topics(&missing).expect_err("no topics").to_string();
    assert!(message.contains("rapport topics create") && message.contains(&missing.state()), "{message}");
    assert!(matches!(KafkaLog::open(&missing, 0), Err(LogError::Fatal(m)) if m.contains("rapport topics create")));

    let unequal = settings(&brokers::unique("unequal"), "a");
    brokers::shared().create_topics(&[&unequal.interactions()], 4);
    let names = ["scores", "alerts", "dead-letters", "scores-shadow", "state", "models"].map(|n| format!("{}.{n}", unequal.prefix));
    brokers::shared().create_topics(&names.each_ref().map(String::as_str), 3);
    let message = verify_topics(&unequal).expect_err("unequal").to_string();
    assert!(message.contains("4 partitions") && message.contains("has 3"), "{message}");
    assert!(message.contains("cleanup.policy"), "a state topic that is not compacted loses states: {message}");
    assert!(matches!(KafkaLog::open(&unequal, 0), Err(LogError::Fatal(m)) if m.contains("must be equal")));
    let config = config("unequal", &unequal);
    let check = rapport(dir(), ["check", "--config", config.to_str().expect("a path")], MINUTE);
    assert_eq!(check.code, Some(1));
    assert!(check.stdout.lines().any(|l| l.starts_with("WRONG") && l.contains("must be equal")), "{}", check.stdout);
}

#[test]
fn without_a_broker_the_message_names_the_key_within_half_a_minute() {
    let mut nowhere = settings(&brokers::unique("nowhere"), "a");
    nowhere.brokers = "127.0.0.1:1".into();
    let start = Instant::now();
    match KafkaLog::open(&nowhere, 0).map(|_| ()) {
        Err(LogError::Fatal(message)) => assert!(message.contains("log.brokers") && message.contains("127.0.0.1:1"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let config = config("nowhere", &nowhere);
    let check = rapport(dir(), ["check", "--config", config.to_str().expect("a path")], MINUTE);
    assert_eq!(check.code, Some(1));
    assert!(check.stdout.contains("log.brokers"), "{}", check.stdout);
}

#[test]
fn a_property_that_breaks_exactly_once_is_wrong_configuration() {
    let settings = fresh("property");
    let file = config("property", &settings);
    let text = std::fs::read_to_string(&file).expect("a configuration") + "[log.kafka]\n\"enable.auto.commit\" = \"true\"\n";
    std::fs::write(&file, text).expect("a configuration");
    let check = rapport(dir(), ["check", "--config", file.to_str().expect("a path")], MINUTE);
    assert_eq!(check.code, Some(2), "{}", check.stderr);
    assert!(check.stderr.contains("enable.auto.commit"), "{}", check.stderr);
}
