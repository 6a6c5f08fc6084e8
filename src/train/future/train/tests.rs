use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::alert::Policies;
use crate::engine::{Engine, EngineConfig, Outcome, States};
use crate::interaction::{DecodeOptions, Interaction, decode};
use crate::model::Model;
use crate::train::evaluate::evaluate;
use crate::train::make::{Job, Progress, make};

/// 150 customers over 300 days who buy every week or so, each mostly in two categories of eight; two thirds stop for good at some time.
fn history() -> Vec<(i64, String)> {
    let mut lines = Vec::new();
    for c in 0..150i64 {
        let stops = if c % 3 == 0 { 300 } else { 40 + (c * 37) % 260 };
        let mut day = c % 7;
        let mut n = 0;
        while day < stops {
            let category = if n % 5 == 4 { (c + n) % 8 } else { (c + n % 2) % 8 };
            let date = chrono::DateTime::from_timestamp(1_700_000_000 + day * 86_400 + c, 0).expect("a time").to_rfc3339();
            let line = format!(
                r#"{{"id":"{c}-{n}","customer_id":"c{c}","occurred_at":"{date}","kind":"purchase","amount":{},"category":"k{category}"}}"#,
                5 + c % 4
            );
            lines.push((day * 86_400 + c, line));
            day += 4 + (c + n * 3) % 6;
            n += 1;
        }
    }
    lines.sort();
    lines
}

fn job(dir: &Path, lines: &[(i64, String)]) -> Job {
    let mut text = String::new();
    lines.iter().for_each(|(_, l)| writeln!(text, "{l}").expect("a string"));
    std::fs::write(dir.join("i.jsonl"), text).expect("temporary file");
    let small = Config { embedding: 4, filters: 2, bag: 4, vector: 4, hidden: 4, bag_rows: 64, horizon_days: 30, ..Config::default() };
    Job {
        interactions: vec![dir.join("i.jsonl")],
        labels: vec![],
        vectors: Default::default(),
        out: dir.join("bundle"),
        parent: None,
        seed: 3,
        until: None,
        config: small,
    }
}

fn at(day: i64) -> Timestamp {
    Timestamp((1_700_000_000 + day * 86_400) * Timestamp::MICROS_PER_SECOND)
}

#[test]
fn learns_what_lies_ahead_and_the_bundle_says_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let lines = history();
    let mut job = job(dir.path(), &lines);
    job.until = Some(at(250));
    make(&job, |_| {}).expect("a bundle");
    let first = std::fs::read(job.out.join("manifest.json")).expect("a manifest");
    // Loading compares tract with burn.
    let model = Model::load(&job.out).expect("a sound bundle");
    let (report, _) =
        evaluate(model.clone(), Arc::new(Policies::standard()), &job.interactions, &[], Some(at(250)), None, |_, _| {}).expect("a report");
    let churn = report.future.churn.expect("churn is judged");
    assert!(churn.n == 150 && churn.quality.auroc > 0.95 && churn.quality.log_loss < 0.3, "{churn:?}");
    assert_eq!(churn.baselines.keys().copied().collect::<Vec<_>>(), ["bgnbd", "paretonbd", "recency", "tabular"]);
    let spend = report.future.spend.expect("spend is judged");
    assert!(spend.quality.bias_amount.expect("something was bought").abs() < 0.3, "{spend:?}");
    assert!(spend.expected.amount.low < spend.expected.amount.expected && spend.actual.purchases > 100.0, "{spend:?}");
    let need = report.future.next_need.expect("next need is judged");
    assert!(need.quality.recall_at_5 > need.baselines["most_frequent"].recall_at_5 + 0.1, "{need:?}");

    // Silence raises churn; a longer horizon lowers it; scores as of a time say so.
    let batch: Vec<Interaction> =
        lines[..400].iter().map(|l| decode(l.1.as_bytes(), DecodeOptions::default()).expect("valid").interaction).collect();
    let mut states = States::new();
    let mut engine = Engine::new(model.clone(), Arc::new(Policies::standard()), EngineConfig::default()).expect("an engine");
    let effects = engine.apply(&batch, &mut states, Timestamp(0)).expect("scores");
    // The batch does not matter, to the last bit.
    let mut others = States::new();
    let parts = batch.chunks(7).flat_map(|part| engine.apply(part, &mut others, Timestamp(0)).expect("scores").outcomes);
    for (whole, part) in effects.outcomes.iter().zip(parts.collect::<Vec<_>>()) {
        assert!(matches!((whole, &part), (Outcome::Scored(a), Outcome::Scored(b)) if a == b), "{whole:?} {part:?}");
    }
    let Some(Outcome::Scored(score)) = effects.outcomes.into_iter().next_back() else { panic!("not scored") };
    let probability = |s: &crate::engine::Score| s.churn.expect("churn").probability;
    let later = |engine: &mut Engine, days: i64| {
        let mut scores = [score.clone()];
        let at = Timestamp(score.occurred_at.0 + days * Timestamp::MICROS_PER_DAY);
        engine.as_of(&mut scores, &states, at).expect("a score");
        assert!(scores[0].interaction_id.is_none() && scores[0].occurred_at == at && scores[0].spend.is_some());
        assert!(matches!(scores[0].classes.iter().find(|c| c.0.as_str() == "next_need"), Some((_, ClassScore::Top(t))) if t.len() == 5));
        probability(&scores[0])
    };
    assert_eq!(later(&mut engine, 0), probability(&score));
    let (soon, silent) = (later(&mut engine, 5), later(&mut engine, 60));
    assert!(silent > 0.8 && silent > soon + 0.3, "{soon} {silent}");
    let mut engine = engine.with_horizon(Some(90));
    assert!(later(&mut engine, 5) < soon);

    // The same bytes again.
    make(&job, |_| {}).expect("a bundle");
    assert!(first == std::fs::read(job.out.join("manifest.json")).expect("a manifest"));
}

#[test]
fn that_a_conversation_goes_on_is_no_return() {
    let dir = tempfile::tempdir().expect("temporary directory");
    // Of an hour each, on one of forty days.
    let mut lines: Vec<(i64, String)> = Vec::new();
    for (c, n) in (0..150i64).flat_map(|c| (0..6).map(move |n| (c, n))) {
        let time = c % 40 * 86_400 + n * 600;
        let date = chrono::DateTime::from_timestamp(1_700_000_000 + time, 0).expect("a time").to_rfc3339();
        lines.push((time, format!(r#"{{"id":"{c}-{n}","customer_id":"c{c}","occurred_at":"{date}","kind":"message","text":"hello"}}"#)));
    }
    lines.sort();
    let mut notes = Vec::new();
    let job = job(dir.path(), &lines);
    let made = make(&job, |p| {
        if let Progress::Note(n) = p {
            notes.push(n.to_owned());
        }
    });
    assert!(made.expect("a bundle").future.is_none());
    assert!(notes.iter().any(|n| n.contains("silent for a day 0 were followed by a return")), "{notes:?}");
}

#[test]
fn what_the_data_cannot_teach_is_left_out_and_said_so() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let visits: Vec<(i64, String)> = history()
        .into_iter()
        .map(|(t, l)| (t, l.split(r#","amount""#).next().expect("a line").replace("purchase", "visit") + "}"))
        .collect();
    let mut job = job(dir.path(), &visits);
    let mut notes = Vec::new();
    make(&job, |p| {
        if let Progress::Note(n) = p {
            notes.push(n.to_owned());
        }
    })
    .expect("a bundle");
    let said = |what: &str| notes.iter().any(|n| n.contains(what));
    assert!(said("left out: spend: 0 looks") && said("left out: next_need: 0 categories") && !said("left out: churn"), "{notes:?}");
    let model = Model::load(&job.out).expect("a sound bundle");
    let head = model.manifest.future.as_ref().expect("a head");
    assert!(head.churn.is_some() && head.spend.is_none() && head.next_need.is_none());
    // Longer than the data: the form of survival reaches beyond it, but not to any length.
    for (days, heads, expected) in [(400, true, "look 400 days ahead: 199 days are there"), (1000, false, "labels look 1000 days ahead")] {
        job.config.horizon_days = days;
        make(&job, |p| {
            if let Progress::Note(n) = p {
                notes.push(n.to_owned());
            }
        })
        .expect("a bundle");
        assert!(notes.iter().any(|n| n.contains(expected)), "{notes:?}");
        assert_eq!(Model::load(&job.out).expect("a sound bundle").manifest.future.is_some(), heads, "{days} days");
    }
}

/// 240 customers who write every five days; who has written an angry text mostly never does again. Labels say how some of them felt.
fn writers() -> (Vec<(i64, String)>, String) {
    let (mut lines, mut labels) = (Vec::new(), String::new());
    for c in 0..240i64 {
        for n in 0..30 {
            let (day, dice) = (c % 100 + n * 5, (c * 7919 + n * 104_729) % 101);
            let angry = dice < 12;
            let text = if angry { "terrible broken rubbish" } else { "lovely thank you" };
            lines.push((day * 86_400 + c, message(&format!("c{c}"), n, day * 86_400 + c, text)));
            if c % 2 == 0 {
                let value = if angry { 1 } else { 5 };
                writeln!(labels, r#"{{"interaction_id":"c{c}-{n}","task":"satisfaction","value":{value}}}"#).expect("a string");
            }
            if angry && dice != 3 {
                break;
            }
        }
    }
    lines.sort();
    (lines, labels)
}

fn message(customer: &str, n: i64, second: i64, text: &str) -> String {
    let date = chrono::DateTime::from_timestamp(1_700_000_000 + second, 0).expect("a time").to_rfc3339();
    format!(r#"{{"id":"{customer}-{n}","customer_id":"{customer}","occurred_at":"{date}","kind":"message","text":"{text}"}}"#)
}

#[test]
fn what_customers_say_tells_who_will_leave() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (lines, labels) = writers();
    std::fs::write(dir.path().join("l.jsonl"), labels).expect("temporary file");
    let mut job = Job { labels: vec![dir.path().join("l.jsonl")], ..job(dir.path(), &lines) };
    job.vectors = crate::train::vectors::Source::Nothing;
    make(&job, |_| {}).expect("a bundle");
    // Loading compares the graph, columns of the state included, with burn.
    let model = Model::load(&job.out).expect("a sound bundle");
    assert_eq!(model.manifest.future.as_ref().expect("a head").state, model.manifest.state);
    let mut engine = Engine::new(model, Arc::new(Policies::standard()), EngineConfig::default()).expect("an engine");
    let mut churn_after = |last: &str| {
        let texts = ["lovely thank you", "lovely thank you", "lovely thank you", last];
        let lines = texts.iter().zip(0..).map(|(text, n)| message("new", n, n * 5 * 86_400, text));
        let batch: Vec<Interaction> = lines.map(|l| decode(l.as_bytes(), DecodeOptions::default()).expect("valid").interaction).collect();
        let effects = engine.apply(&batch, &mut States::new(), Timestamp(0)).expect("scores");
        let Some(Outcome::Scored(score)) = effects.outcomes.into_iter().next_back() else { panic!("not scored") };
        score.churn.expect("churn").probability
    };
    // Nothing but the words differs.
    let (pleased, angry) = (churn_after("lovely thank you"), churn_after("terrible broken rubbish"));
    assert!(angry > 0.6 && pleased < 0.4, "{pleased} {angry}");
}
