//! The files in `schemas/` say what the code does: the same verdict on generated records, and exactly the fields and words of what it writes.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{DateTime, Datelike, NaiveDate};
use jsonschema::Validator;
use proptest::prelude::*;
use proptest::sample::select;
use rapport::alert::{Alert, AlertKind, AlertState, Reason, Severity, WordWeight};
use rapport::engine::{Churn, ClassProbability, ClassScore, Satisfaction, Score, Segment, Spend};
use rapport::interaction::{Actor, DecodeOptions, FIELDS, Label, RESERVED_TASKS, Timestamp, decode};
use serde_json::{Map, Value, json};

fn schema(name: &str) -> (Value, Validator) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{name}.schema.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    assert!(jsonschema::meta::is_valid(&schema), "{name}: no JSON Schema");
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
    (schema, validator)
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default()
}

fn words(array: &Value) -> BTreeSet<String> {
    array.as_array().map(|a| a.iter().filter_map(|w| w.as_str().map(str::to_owned)).filter(|w| !w.is_empty()).collect()).unwrap_or_default()
}

fn names<T: serde::Serialize>(all: &[T]) -> BTreeSet<String> {
    words(&serde_json::to_value(all).expect("serialises"))
}

fn valid_interaction() -> Map<String, Value> {
    let full = json!({
        "id": "i-9", "customer_id": "c-42", "occurred_at": "2026-11-23T09:30:00.250+08:00", "kind": "survey", "actor": "customer",
        "conversation_id": "k-1", "channel": "chat", "language": "zh-Hans-CN", "item": "sku-1", "category": "lamps", "text": "等了两周",
        "amount": 12.5, "quantity": 2, "currency": "EUR", "rating": 2, "about": "i-8", "attributes": {"a": "x", "b": 1.5, "c": true}
    });
    full.as_object().cloned().unwrap_or_default()
}

/// Values that are right for some field, wrong for others, and at the edges of many.
fn any_value() -> impl Strategy<Value = Value> {
    let text = |s: &str| Value::String(s.into());
    prop_oneof![
        select(vec![
            Value::Null,
            json!(true),
            json!(0),
            json!(-0.0),
            json!(-1),
            json!(-1e-300),
            json!(0.99),
            json!(1),
            json!(5),
            json!(5.0000001),
            json!(7),
            json!(1e300),
            json!(u64::MAX),
            json!([]),
            json!(["i-1"]),
            json!({}),
            json!({"a": null}),
            json!({"a": {}}),
            json!({"a": [1]}),
            json!({"": ""}),
            json!({"a": 1, "b": "x", "c": false}),
        ]),
        select(vec![
            "",
            " ",
            "3",
            "c-1",
            "EUR",
            "eur",
            "EURO",
            "en",
            "de-CH-1901",
            "zh_CN",
            "x-y",
            "agent",
            "system",
            "Customer",
            "bot",
            "a\u{0}b",
            "\n",
            "\u{7f}",
            "\u{9f}",
            "\u{a0}",
            "中文",
            "survey",
            "campaign"
        ])
        .prop_map(text),
        select(vec![63usize, 64, 65, 127, 128, 129, 40_000]).prop_map(|n| Value::String("k".repeat(n))),
        "[a-zA-Z0-9-]{1,12}".prop_map(Value::String),
        "[a-z]{2,3}(-[A-Za-z0-9]{1,8}){0,4}".prop_map(Value::String),
        "[A-Z]{2,4}".prop_map(Value::String),
        time_like().prop_map(Value::String),
    ]
}

/// A time with some of its characters replaced.
fn time_like() -> impl Strategy<Value = String> {
    let whole = select(vec![
        "2026-11-23T09:30:00Z",
        "2026-11-23T09:30:00.123456789+23:59",
        "1970-01-01T00:00:00Z",
        "1970-01-01t00:00:00-00:00",
        "2100-12-31T23:59:59.999Z",
        "2101-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "2016-12-31T23:59:60Z",
        "2024-02-29T00:00:00+14:00",
        "2026-11-23",
        "2026-11-23 09:30:00z",
        "2026-11-23T09:30Z",
        "2026-W48-1T09:30:00Z",
        "20261123T093000Z",
        "1795426200",
        "+2026-11-23T09:30:00Z",
    ]);
    let edit = (any::<prop::sample::Index>(), select(b"0123456789TtZz:-+. _".to_vec()));
    (whole, prop::collection::vec(edit, 0..3)).prop_map(|(whole, edits)| {
        let mut bytes = whole.as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        String::from_utf8(bytes).expect("ASCII")
    })
}

/// What a schema cannot say of a time: that the day exists, and that the years are meant in UTC.
fn needs_a_calendar(time: &str) -> bool {
    let part = |range: std::ops::Range<usize>| time.get(range).and_then(|s| s.parse::<u32>().ok());
    let (Some(year), Some(month), Some(day)) = (part(0..4), part(5..7), part(8..10)) else { return false };
    let no_such_day = (1..=12).contains(&month) && (1..=31).contains(&day) && NaiveDate::from_ymd_opt(year as i32, month, day).is_none();
    let other_year_in_utc = DateTime::parse_from_rfc3339(time).is_ok_and(|t| t.to_utc().year() != t.year());
    no_such_day || other_year_in_utc
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn interactions_get_the_verdict_of_the_schema(
        mutations in prop::collection::vec((select(FIELDS.to_vec()), prop::option::weighted(0.9, any_value())), 0..3),
        unknown in prop::option::of(("[a-z_]{1,8}x", any_value())),
    ) {
        thread_local!(static SCHEMA: Validator = schema("interaction").1);
        let mut record = valid_interaction();
        for (field, value) in mutations {
            match value {
                Some(value) => drop(record.insert(field.into(), value)),
                None => drop(record.remove(field)),
            }
        }
        record.extend(unknown);
        prop_assume!(!record.get("occurred_at").and_then(Value::as_str).is_some_and(needs_a_calendar));
        let record = Value::Object(record);
        let code = decode(record.to_string().as_bytes(), DecodeOptions::default());
        let schema = SCHEMA.with(|s| s.validate(&record).map_err(|e| e.to_string()));
        prop_assert_eq!(code.is_ok(), schema.is_ok(), "{}\ncode: {:?}\nschema: {:?}", record, code.err(), schema.err());
    }

    #[test]
    fn labels_get_the_verdict_of_the_schema(
        mutations in prop::collection::vec((select(vec!["interaction_id", "task", "value", "note"]), prop::option::weighted(0.9, any_value())), 0..3),
        task in prop_oneof![select(RESERVED_TASKS.to_vec()).prop_map(String::from), "(satisfaction|intent|[a-z]{1,4}_unknown|_unknown|unknown)"],
    ) {
        thread_local!(static SCHEMA: Validator = schema("label").1);
        let mut record = Map::from_iter([("interaction_id".into(), json!("i-9")), ("task".into(), json!(task)), ("value".into(), json!("refund"))]);
        for (field, value) in mutations {
            match value {
                Some(value) => drop(record.insert(field.into(), value)),
                None => drop(record.remove(field)),
            }
        }
        let record = Value::Object(record);
        let code = Label::decode(record.to_string().as_bytes());
        let schema = SCHEMA.with(|s| s.validate(&record).map_err(|e| e.to_string()));
        prop_assert_eq!(code.is_ok(), schema.is_ok(), "{}\ncode: {:?}\nschema: {:?}", record, code.err(), schema.err());
    }
}

/// Everything that the schema's own description says it cannot say, and nothing else (the tests above allow for no other).
#[test]
fn what_a_schema_cannot_say_is_still_refused() {
    let (_, validator) = schema("interaction");
    let with = |field: &str, value: Value| {
        let mut record = valid_interaction();
        record.insert(field.into(), value);
        Value::Object(record)
    };
    for record in [
        with("id", json!("中".repeat(43))),
        with("customer_id", json!("é".repeat(65))),
        with("kind", json!("é".repeat(33))),
        with("occurred_at", json!("2026-02-29T00:00:00Z")),
        with("occurred_at", json!("1970-01-01T00:30:00+01:00")),
        with("occurred_at", json!("2100-12-31T23:30:00-01:00")),
        with("text", json!("x".repeat(1 << 20))),
    ] {
        assert!(validator.is_valid(&record) && decode(record.to_string().as_bytes(), DecodeOptions::default()).is_err());
    }
    // These no Value can hold.
    for raw in [r#""amount":1e999"#, r#""text":"\ud83d""#] {
        let record = Value::Object(valid_interaction()).to_string();
        let record = format!("{},{raw}}}", &record[..record.len() - 1]);
        assert!(decode(record.as_bytes(), DecodeOptions::default()).is_err(), "{raw}");
    }
}

#[test]
fn fields_and_words_are_those_of_the_code() {
    let (interaction, validator) = schema("interaction");
    assert_eq!(keys(&interaction["properties"]), FIELDS.iter().map(|f| f.to_string()).collect());
    assert_eq!(words(&interaction["properties"]["actor"]["enum"]), names(&[Actor::Customer, Actor::Agent, Actor::System]));
    // Required in the schema: exactly what decoding misses.
    for field in FIELDS {
        let mut record = valid_interaction();
        record.remove(field);
        let missed = decode(Value::Object(record).to_string().as_bytes(), DecodeOptions::default()).is_err();
        assert_eq!(missed, words(&interaction["required"]).contains(field), "{field}");
    }
    for example in interaction["examples"].as_array().expect("examples") {
        assert!(validator.is_valid(example) && decode(example.to_string().as_bytes(), DecodeOptions::default()).is_ok());
    }
    let (label, validator) = schema("label");
    let reserved = words(&label["properties"]["task"]["not"]["anyOf"][0]["enum"]);
    assert_eq!(reserved, RESERVED_TASKS.iter().map(|t| t.to_string()).collect());
    for example in label["examples"].as_array().expect("examples") {
        assert!(validator.is_valid(example) && Label::decode(example.to_string().as_bytes()).is_ok());
    }
    let (alert, _) = schema("alert");
    assert_eq!(words(&alert["properties"]["kind"]["enum"]), names(&AlertKind::ALL));
    assert_eq!(words(&alert["properties"]["also"]["items"]["enum"]), names(&AlertKind::ALL));
    assert_eq!(words(&alert["properties"]["severity"]["enum"]), names(&[Severity::Warning, Severity::Critical]));
    assert_eq!(words(&alert["properties"]["state"]["enum"]), names(&[AlertState::Raised, AlertState::Escalated, AlertState::Resolved]));
}

fn full_score() -> Score {
    let top =
        |n: usize| ClassScore::Top((0..n).map(|i| ClassProbability { label: format!("l{i}").as_str().into(), probability: 0.2 }).collect());
    Score {
        customer_id: "c-42".into(),
        interaction_id: Some("i-9".into()),
        occurred_at: Timestamp(1_795_426_200_250_000),
        scored_at: Timestamp(1_795_426_201_000_001),
        model: "2026-11-22-1f3a9c04".into(),
        satisfaction: Some(Satisfaction { value: 2.4, dissatisfied: 0.61, neutral: 0.3, satisfied: 0.09, baseline: 3.6 }),
        classes: [("intent".into(), top(5)), ("intent_unknown".into(), ClassScore::Unknown(true)), ("topic".into(), top(1))].into(),
        churn: Some(Churn { probability: 0.18, horizon_days: 90 }),
        spend: Some(Spend { purchases: 1.2, amount: 31.0, horizon_days: 90 }),
        segment: Some(Segment { id: 3, label: "lapsing, high value".into() }),
        anomaly: Some(0.97),
    }
}

#[test]
fn scores_are_what_the_schema_says() {
    let (schema, validator) = schema("score");
    let score = serde_json::to_value(full_score()).expect("serialises");
    validator.validate(&score).unwrap_or_else(|e| panic!("{e}: {score}"));
    let classes: BTreeSet<String> = ["intent", "intent_unknown", "topic"].map(String::from).into();
    assert_eq!(&keys(&score) - &classes, keys(&schema["properties"]), "every field is described, and no other");
    let least = Score {
        interaction_id: None,
        satisfaction: None,
        classes: Default::default(),
        churn: None,
        spend: None,
        segment: None,
        anomaly: None,
        ..full_score()
    };
    let least = serde_json::to_value(least).expect("serialises");
    validator.validate(&least).unwrap_or_else(|e| panic!("{e}: {least}"));
    assert_eq!(keys(&least), words(&schema["required"]));
    for wrong in [json!({"probability": 2.0}), json!({"label": "a"}), json!({"label": "a", "probability": 0.5, "x": 1})] {
        let mut score = score.clone();
        score["intent"][0] = wrong;
        assert!(!validator.is_valid(&score));
    }
}

#[test]
fn alerts_are_what_the_schema_says() {
    let (schema, validator) = schema("alert");
    let full = Alert {
        id: "00112233445566778899aabbccddeeff".into(),
        customer_id: "c-42".into(),
        interaction_id: "i-9".into(),
        policy: "unhappy".into(),
        kind: AlertKind::SatisfactionLow,
        severity: Severity::Warning,
        state: AlertState::Raised,
        at: Timestamp(1_795_426_200_250_000),
        value: 2.4,
        baseline: 3.6,
        reasons: vec![Reason { interaction_id: "i-9".into(), weight: 0.4, words: vec![WordWeight { word: "退款".into(), weight: 0.2 }] }],
        also: vec![AlertKind::SatisfactionDrop],
        suggestion: Some("refund".into()),
    };
    let least = Alert { reasons: vec![], also: vec![], suggestion: None, state: AlertState::Resolved, ..full.clone() };
    for alert in [full, least] {
        let alert = serde_json::to_value(alert).expect("serialises");
        validator.validate(&alert).unwrap_or_else(|e| panic!("{e}: {alert}"));
        assert_eq!(keys(&alert), keys(&schema["properties"]));
        assert_eq!(keys(&alert), words(&schema["required"]));
        let mut wrong = alert.clone();
        wrong["kind"] = json!("unhappy");
        assert!(!validator.is_valid(&wrong));
    }
}
