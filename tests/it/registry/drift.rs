//! `rapport_drift_psi` of a running service: behaviour, segments and anomaly beside what the bundle was fitted on.

use std::fs;

use rapport::features::BEHAVIOUR;
use rapport::model::Reference;
use rapport::model::drift::{Column, Histogram};

use super::{Desk, SOON, lines};
use crate::golden::replace;
use crate::process::eventually;

#[test]
fn a_service_tells_how_far_behaviour_segments_and_anomaly_have_moved() {
    let desk = Desk::new();
    let all = lines(40, 30);
    fs::write(desk.file("interactions.jsonl"), all.concat()).expect("interactions");
    let scores = desk.expected("a");
    let column = |name: &str, histogram| Column { name: name.to_owned(), histogram };
    // A reference by which anomaly and segment are as they were, and every customer had done nothing yet.
    let anomaly = scores.values().map(|s| s["anomaly"].as_f64().expect("a number") as f32).collect();
    let segments = scores.values().map(|s| s["segment"]["label"].as_str().expect("a label"));
    let reference = Reference {
        behaviour: BEHAVIOUR.iter().map(|name| column(&format!("behaviour.{name}"), Histogram::of_numbers(vec![0.0; 50]))).collect(),
        outputs: vec![column("segment", Histogram::of_labels(segments)), column("anomaly", Histogram::of_numbers(anomaly))],
        ..Reference::default()
    };
    replace(&desk.file("a"), Reference::FILE, &serde_json::to_vec(&reference).expect("JSON"));
    let _serve = desk.serve();
    desk.post(&all);
    desk.records("scores", all.len());
    let psi = |labels: &str| eventually(labels, SOON, || desk.metric(&format!("rapport_drift_psi{{{labels}}}")));
    assert!(psi("feature=\"behaviour.log_interactions\",head=\"\"") > 2.0);
    // Nobody purchases anything here either.
    assert!(psi("feature=\"behaviour.log_purchases\",head=\"\"") < 0.01);
    for head in ["segment", "anomaly"] {
        let found = psi(&format!("feature=\"\",head=\"{head}\""));
        assert!(found < 0.05, "{head}: {found}");
    }
}
