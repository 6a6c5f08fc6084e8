//! The engine on real interactions and the bundled model: what a score may depend on, and what not.

use std::path::Path;
use std::sync::Arc;

use rapport::alert::{Alert, AlertState, Policies};
use rapport::customer::CustomerState;
use rapport::engine::{Engine, EngineConfig, Outcome, States};
use rapport::interaction::file::Records;
use rapport::interaction::{DecodeOptions, Interaction, RejectClass, Timestamp, decode};
use rapport::model::Model;

const NOW: Timestamp = Timestamp(1_790_000_000_000_000);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn champion() -> Arc<Model> {
    Model::load(root().join("onnx/champion")).expect("the bundled model loads")
}

fn engine(model: &Arc<Model>) -> Engine {
    Engine::new(model.clone(), Arc::new(Policies::standard()), EngineConfig::default()).expect("the bundled model runs")
}

/// The first `n` of the bundled interactions.
fn interactions(n: usize) -> Vec<Interaction> {
    let mut records = Records::open(&root().join("deploy/demo/interactions.jsonl.gz")).expect("the bundled interactions");
    let (mut bytes, mut all) = (Vec::new(), Vec::new());
    while all.len() < n && records.next(&mut bytes).expect("readable").is_some() {
        all.push(decode(&bytes, DecodeOptions::default()).expect("valid").interaction);
    }
    all
}

/// Scores and alerts as published, and the states left behind.
#[derive(Debug, PartialEq)]
struct Run {
    scores: Vec<String>,
    alerts: Vec<String>,
    states: Vec<(Box<str>, Vec<u8>)>,
}

/// Applies batches cut by `size`; between two batches every state goes through `between`.
fn run(model: &Arc<Model>, all: &[Interaction], mut size: impl FnMut() -> usize, between: impl Fn(CustomerState) -> CustomerState) -> Run {
    let mut engine = engine(model);
    let (mut states, mut scores, mut alerts) = (States::new(), Vec::new(), Vec::new());
    let mut rest = all;
    while !rest.is_empty() {
        let (batch, tail) = rest.split_at(size().clamp(1, rest.len()));
        rest = tail;
        let effects = engine.apply(batch, &mut states, NOW).expect("runs");
        assert_eq!(effects.outcomes.len(), batch.len());
        for (interaction, outcome) in batch.iter().zip(&effects.outcomes) {
            match outcome {
                Outcome::Scored(score) => {
                    assert_eq!(score.interaction_id.as_deref(), Some(&*interaction.id));
                    scores.push(serde_json::to_string(score).expect("serialises"));
                }
                other => panic!("{other:?}"),
            }
        }
        alerts.extend(effects.alerts.iter().map(|(_, a)| serde_json::to_string(a).expect("serialises")));
        states = states.into_iter().map(|(id, s)| (id, between(s))).collect();
    }
    let mut stored: Vec<(Box<str>, Vec<u8>)> = states
        .into_iter()
        .map(|(id, state)| {
            let mut bytes = Vec::new();
            state.encode(&mut bytes);
            (id, bytes)
        })
        .collect();
    stored.sort();
    Run { scores, alerts, states: stored }
}

fn random_sizes(seed: u64) -> impl FnMut() -> usize {
    use rand::{Rng, SeedableRng};
    let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
    move || random.random_range(1..=128)
}

#[test]
fn a_score_does_not_depend_on_the_batch() {
    let (model, all) = (champion(), interactions(1500));
    let alone = run(&model, &all, || 1, |s| s);
    assert!(!alone.alerts.is_empty(), "the bundled interactions raise alerts");
    for seed in 0..3 {
        assert!(run(&model, &all, random_sizes(seed), |s| s) == alone, "batches cut by seed {seed} give other bits");
    }
    assert!(run(&model, &all, || usize::MAX, |s| s) == alone, "one batch gives other bits");
}

/// As above, of a bundle that has segments and anomaly.
#[test]
fn segment_and_anomaly_do_not_depend_on_the_batch() {
    let (model, all) = (crate::bundle::model(), interactions(1500));
    let alone = run(&model, &all, || 1, |s| s);
    let different = |key: &str| {
        let values = alone.scores.iter().map(|s| serde_json::from_str::<serde_json::Value>(s).expect("JSON")[key].to_string());
        values.collect::<std::collections::HashSet<_>>().len()
    };
    assert!(different("segment") == 3 && different("anomaly") > 100, "{} {}", different("segment"), different("anomaly"));
    for seed in 0..3 {
        assert!(run(&model, &all, random_sizes(seed), |s| s) == alone, "batches cut by seed {seed} give other bits");
    }
}

#[test]
fn a_state_stored_and_read_back_goes_on_as_if_nothing_had_happened() {
    let (model, all) = (champion(), interactions(800));
    let through_bytes = |state: CustomerState| {
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        CustomerState::decode(&bytes).expect("reads back")
    };
    assert!(run(&model, &all, || 40, through_bytes) == run(&model, &all, || 40, |s| s));
}

/// The window alone gives the hidden vector and the baseline back: what a new model version does at its first use of a customer.
#[test]
fn a_rebuilt_customer_scores_as_if_never_rebuilt() {
    let (model, mut all) = (champion(), interactions(1200));
    let mut count = std::collections::HashMap::new();
    all.retain(|i| {
        let n = count.entry(i.customer_id.clone()).or_insert(0);
        *n += 1;
        *n <= 32
    });
    let forget = |mut state: CustomerState| {
        state.model = None;
        state
    };
    let (rebuilt, whole) = (run(&model, &all, || 50, forget), run(&model, &all, || 50, |s| s));
    assert!(rebuilt.scores == whole.scores, "scores differ after a rebuild");
    assert!(rebuilt.alerts == whole.alerts, "alerts differ after a rebuild");
}

#[test]
fn repeats_are_dropped_and_late_ones_rejected() {
    let model = champion();
    let mut engine = engine(&model);
    let mut states = States::new();
    let mut one = interactions(1).remove(0);
    one.customer_id = "c".into();
    let day = Timestamp::MICROS_PER_DAY;
    let at = |id: &str, days: i64| {
        let mut i = one.clone();
        i.id = id.into();
        i.occurred_at = Timestamp(NOW.0 + days * day);
        i
    };
    let batch = [at("a", 10), at("b", 3), at("a", 10), at("late", 2), at("late", 4), at("late", 4)];
    let effects = engine.apply(&batch, &mut states, NOW).expect("runs");
    let seen: Vec<String> = effects
        .outcomes
        .iter()
        .map(|o| match o {
            Outcome::Scored(s) => s.interaction_id.as_deref().unwrap_or_default().to_owned(),
            Outcome::Duplicate => "duplicate".into(),
            Outcome::Rejected(r) => {
                assert_eq!(r.class, RejectClass::Late);
                r.class.name().into()
            }
        })
        .collect();
    assert_eq!(seen, ["a", "b", "duplicate", "late", "late", "duplicate"]);
    assert_eq!(effects.changed, [Box::from("c")]);
    assert_eq!(states["c"].newest, batch[0].occurred_at);

    // 64 further ids push the first one out of memory.
    let more: Vec<Interaction> = (0..64).map(|n| at(&format!("m{n}"), 10)).collect();
    engine.apply(&more, &mut states, NOW).expect("runs");
    let again = engine.apply(&[at("a", 10)], &mut states, NOW).expect("runs");
    assert!(matches!(again.outcomes[0], Outcome::Scored(_)));
}

/// What a score must be, whatever the model thinks.
#[test]
fn every_score_is_well_formed() {
    let (model, all) = (champion(), interactions(1000));
    let mean = model.manifest.satisfaction.as_ref().expect("the champion has the head").mean;
    let mut seen = std::collections::HashSet::new();
    for line in run(&model, &all, || 64, |s| s).scores {
        let score: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let s = &score["satisfaction"];
        let number = |key: &str| s[key].as_f64().unwrap_or_else(|| panic!("{key} in {line}"));
        let sum = number("dissatisfied") + number("neutral") + number("satisfied");
        assert!((sum - 1.0).abs() < 1e-5, "{line}");
        assert!((1.0..=5.0).contains(&number("value")) && (1.0..=5.0).contains(&number("baseline")), "{line}");
        if seen.insert(score["customer_id"].as_str().map(str::to_owned)) {
            assert!((number("baseline") - mean as f64).abs() < 1e-5, "the first baseline is the training mean: {line}");
        }
        let top = score["intent"].as_array().expect("the champion has intents");
        assert_eq!(top.len(), 5);
        assert!(top.windows(2).all(|w| w[0]["probability"].as_f64() >= w[1]["probability"].as_f64()), "{line}");
    }
}

#[test]
fn reasons_name_interactions_of_the_customer_and_words_that_were_said() {
    let (model, all) = (champion(), interactions(2500));
    let mut engine = engine(&model);
    let mut states = States::new();
    let effects = engine.apply(&all, &mut states, NOW).expect("runs");
    let raised: Vec<&Alert> = effects.alerts.iter().map(|(_, a)| a).filter(|a| a.state == AlertState::Raised).collect();
    assert!(!raised.is_empty());
    let mut with_words = 0;
    for alert in &raised {
        assert!(!alert.reasons.is_empty());
        for reason in &alert.reasons {
            let said = all.iter().find(|i| i.id == reason.interaction_id).expect("an interaction of the input");
            assert_eq!(said.customer_id, alert.customer_id);
            let text = said.text.as_deref().unwrap_or_default().to_lowercase();
            for word in &reason.words {
                with_words += 1;
                assert!(word.weight > 0.0 && text.replace('’', "'").contains(&*word.word), "{:?} in {text:?}", word.word);
            }
        }
    }
    assert!(with_words > 0, "no reason names a word");
}

#[test]
fn an_alert_suggests_what_the_interaction_is_about_and_never_what_is_out_of_domain() {
    let (model, all) = (champion(), interactions(usize::MAX));
    let mut engine = engine(&model);
    let effects = engine.apply(&all, &mut States::new(), NOW).expect("runs");
    let likeliest = |id: &str| {
        let place = all.iter().position(|i| &*i.id == id).expect("an interaction of the input");
        let Outcome::Scored(score) = &effects.outcomes[place] else { panic!("not scored") };
        let score = serde_json::to_value(score).expect("serialises");
        let unknown = score.get("intent_unknown").is_some();
        score["intent"][0]["label"].as_str().map(str::to_owned).filter(|_| !unknown)
    };
    let mut outside = 0;
    for (_, alert) in &effects.alerts {
        let said = likeliest(&alert.interaction_id);
        let is_outside = said.as_deref() == Some("outofdomain");
        outside += usize::from(is_outside);
        assert_eq!(alert.suggestion.as_ref().map(|s| s.as_str()), said.as_deref().filter(|_| !is_outside), "{alert:?}");
    }
    assert!(effects.alerts.len() > 20, "{}", effects.alerts.len());
    // Only where the model says so of some is this a test.
    eprintln!("{outside} of {} alerts are of interactions out of the model's domain", effects.alerts.len());
}
