//! The harness tells committed, aborted and open transactions apart; without that a proof of exactly once would prove nothing.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{Isolation, parse_dump, shared, unique};

fn producer(id: &str) -> BaseProducer {
    let producer: BaseProducer = shared().client().set("transactional.id", id).set("linger.ms", "0").create().expect("a producer");
    producer.init_transactions(Duration::from_secs(30)).expect("transactions");
    producer
}

fn send(producer: &BaseProducer, topic: &str, value: &str) {
    producer.send(BaseRecord::to(topic).key("k").payload(value)).expect("queued");
    // Not `flush`: it waits in slices of 100 ms.
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
}

#[test]
fn the_java_client_shows_what_was_committed_and_nothing_else() {
    let topic = unique("harness");
    shared().create_topics(&[&topic], 1);
    let wait = Duration::from_secs(30);
    let one = producer(&format!("{topic}-one"));
    one.begin_transaction().expect("begin");
    send(&one, &topic, "committed");
    one.commit_transaction(wait).expect("commit");
    one.begin_transaction().expect("begin");
    send(&one, &topic, "aborted");
    assert!(shared().open_transactions().contains(&format!("{topic}-one")));
    one.abort_transaction(wait).expect("abort");
    assert!(!shared().open_transactions().contains(&format!("{topic}-one")));
    one.begin_transaction().expect("begin");
    send(&one, &topic, "committed too");
    one.commit_transaction(wait).expect("commit");
    let two = producer(&format!("{topic}-two"));
    two.begin_transaction().expect("begin");
    send(&two, &topic, "open");

    let text = |records: Vec<super::Printed>| -> Vec<String> {
        records.into_iter().map(|r| String::from_utf8(r.value.expect("a value")).expect("text")).collect()
    };
    let committed = shared().consume_committed(&topic);
    assert_eq!(committed[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(text(committed), ["committed", "committed too"]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    shared().dump(&topic, Isolation::Uncommitted, file.path());
    let all = parse_dump(&std::fs::read(file.path()).expect("the dump"));
    assert_eq!(text(all), ["committed", "aborted", "committed too", "open"]);
    two.abort_transaction(wait).expect("abort");
}
