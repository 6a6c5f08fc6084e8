use super::*;

fn read(interactions: &str, labels: &str) -> Recording {
    let dir = tempfile::tempdir().expect("temporary directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("temporary file");
        path
    };
    record(&[write("i.jsonl", interactions)], &[write("l.jsonl", labels)]).expect("readable")
}

fn line(id: &str, customer: &str, minute: u32, rest: &str) -> String {
    format!(r#"{{"id":"{id}","customer_id":"{customer}","occurred_at":"2024-05-01T10:{minute:02}:00Z",{rest}}}"#) + "\n"
}

fn means(r: &Recording, customer: usize) -> Vec<Option<f32>> {
    r.customers[customer].labels.iter().map(|l| l.satisfaction).collect()
}

#[test]
fn ratings_label_what_they_rate() {
    let text = r#""kind":"message","text":"hello""#;
    let lines = [
        line("a", "c", 1, text),
        line("b", "c", 2, text),
        // Names the first message; one without a name rates what came last before it, here the second survey's predecessor.
        line("s1", "c", 3, r#""kind":"survey","rating":2,"about":"a""#),
        line("s2", "c", 4, r#""kind":"survey","rating":5"#),
        // A rating on another kind labels that interaction.
        line("r", "c", 5, r#""kind":"review","rating":1,"text":"bad""#),
        // Names a message that comes after it, and one of another customer: both are left out.
        line("s3", "c", 6, r#""kind":"survey","rating":3,"about":"later""#),
        line("later", "c", 7, text),
        line("s4", "d", 8, r#""kind":"survey","rating":3,"about":"a""#),
        // The first of its customer has nothing before it.
        line("s5", "e", 9, r#""kind":"survey","rating":3"#),
    ];
    let r = read(&lines.concat(), "");
    assert_eq!(means(&r, 0), [Some(2.0), None, Some(5.0), None, Some(1.0), None, None]);
    assert_eq!((r.counts.labels, r.counts.labels_already_read, r.counts.labels_without_interaction), (3, 1, 2));
}

#[test]
fn several_ratings_are_averaged_and_a_given_label_wins() {
    let lines = [
        line("a", "c", 1, r#""kind":"message","text":"hello""#),
        line("s1", "c", 2, r#""kind":"survey","rating":2,"about":"a""#),
        line("s2", "c", 3, r#""kind":"survey","rating":3,"about":"a""#),
    ];
    assert_eq!(means(&read(&lines.concat(), ""), 0)[0], Some(2.5));
    let given = r#"{"interaction_id":"a","task":"satisfaction","value":4}"#;
    assert_eq!(means(&read(&lines.concat(), given), 0)[0], Some(4.0));
}

#[test]
fn the_rules_of_serve_apply() {
    let message = r#""kind":"message","text":"hello there""#;
    let late = r#"{"id":"late","customer_id":"c","occurred_at":"2024-04-01T10:00:00Z","kind":"message"}"#;
    let lines =
        [line("a", "c", 1, message), line("a", "c", 2, message), format!("{late}\n"), "nonsense\n".into(), line("b", "c", 0, message)];
    let labels = [("a", "x"), ("late", "x"), ("nowhere", "x")]
        .map(|(id, class)| format!("{{\"interaction_id\":\"{id}\",\"task\":\"intent\",\"value\":\"{class}\"}}\n"));
    let r = read(&lines.concat(), &labels.concat());
    let c = r.counts;
    assert_eq!((c.interactions, c.duplicates, c.rejected, c.late), (2, 1, 2, 1));
    assert_eq!((c.labels, c.labels_without_interaction), (1, 2));
    assert_eq!(r.words["hello"], 2, "the duplicate's words do not count");
    assert_eq!(r.from.map(|t| t.to_string()).as_deref(), Some("2024-05-01T10:00:00Z"));
}

#[test]
fn a_wrong_label_names_file_and_line() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("l.jsonl");
    std::fs::write(&path, "{\"interaction_id\":\"a\",\"task\":\"satisfaction\",\"value\":7}\n").expect("temporary file");
    let error = read_labels(&[path], drop).expect_err("out of range").to_string();
    assert!(error.contains("l.jsonl:1") && error.contains("from 1 to 5"), "{error}");
}

#[test]
fn a_sample_is_of_whole_customers_and_does_not_depend_on_the_order() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("i.jsonl");
    let mut all: Vec<String> = (0..200u32)
        .map(|i| line(&format!("i{i}"), &format!("c{}", i % 40), i / 40, &format!(r#""kind":"message","text":"hello w{}""#, i % 40)))
        .collect();
    let read = |lines: &[String], interactions| {
        std::fs::write(&path, lines.concat()).expect("temporary file");
        let recording = record_sample(std::slice::from_ref(&path), &[], Sample { interactions, seed: 5, until: None }).expect("readable");
        let mut kept: Vec<String> = recording.customers.iter().map(|c| c.id.to_string()).collect();
        kept.sort_unstable();
        (recording, kept)
    };
    let (few, kept) = read(&all, 63);
    assert_eq!((few.counts.interactions, kept.len()), (60, 12), "{kept:?}");
    assert!(few.customers.iter().all(|c| c.items.len() == 5));
    assert_eq!((few.words["hello"], few.words.len(), few.kinds["message"]), (60, 14, 60), "words of others are not counted");
    let share = few.sampled.expect("a sample");
    assert!((0.1..0.6).contains(&share), "{share}");
    all.sort_by_key(|line| line.len());
    all.sort_by_key(|line| line.split('"').nth(11).map(str::to_owned));
    assert_eq!(read(&all, 63).1, kept);
    let (every, _) = read(&all, 200);
    assert_eq!((every.counts.interactions, every.sampled), (200, None));
    assert_eq!(read(&all, 1).1.len(), 1, "one customer stays, however long");
}

#[test]
fn batches_hold_every_interaction_before_a_time_once_and_in_order() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = |i: usize| Timestamp::parse("2024-05-01T10:00:00Z").expect("a time").0 + i as i64 * Timestamp::MICROS_PER_SECOND;
    for n in [0, 1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH] {
        let path = dir.path().join("i.jsonl");
        let lines = (0..n).map(|i| {
            let wrong = if i % 10 == 0 { "no interaction\n" } else { "" };
            format!(r#"{{"id":"{i}","customer_id":"c","occurred_at":"{}","kind":"visit"}}"#, Timestamp(at(i))) + "\n" + wrong
        });
        std::fs::write(&path, lines.collect::<String>()).expect("temporary file");
        for until in [None, Some(0), Some(n / 2), Some(n)] {
            let (mut ids, mut sizes) = (Vec::new(), Vec::new());
            read_batches(std::slice::from_ref(&path), until.map(|i| Timestamp(at(i))), |batch| {
                ids.extend(batch.iter().map(|i| i.id.to_string()));
                sizes.push(batch.len());
                Ok(())
            })
            .expect("readable");
            let wanted = until.unwrap_or(n);
            assert_eq!(ids, (0..wanted).map(|i| i.to_string()).collect::<Vec<_>>());
            assert!(sizes.iter().all(|size| (1..=BATCH).contains(size)) && sizes.len() == wanted.div_ceil(BATCH), "{sizes:?}");
        }
    }
    assert!(read_batches(&[dir.path().join("i.jsonl")], None, |_| anyhow::bail!("enough")).is_err());
}

#[test]
fn rare_words_are_forgotten_when_there_are_too_many() {
    let mut words = HashMap::new();
    for i in 0..2000 {
        count(&mut words, "often");
        count(&mut words, &format!("once{i}"));
        count(&mut words, &format!("some{}", i % 20));
        forget_rare(&mut words, 100);
        assert!(words.len() <= 100);
    }
    assert_eq!(words["often"], 2000);
}
