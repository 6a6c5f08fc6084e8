//! Session satisfaction on Taobao (Song et al., EMNLP 2019): service sessions whose words are published as numbers.
//!
//! A session is a line with its satisfaction (1, 2, 3) and then `n<TAB>c:|b:<TAB>word ids<TAB>sentiment` per turn (`c` customer, `b`
//! business). The session's satisfaction labels its last turn with 1, 3 or 5; each turn's sentiment becomes a class of task `sentiment`.
//! The text is the word ids as they are: no language.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;

use super::read::{Lines, open, some_rows, stem};
use super::{Place, Row, Sink, invented_time};

const SHAPE: &str = "a session: its satisfaction 1, 2 or 3, then n<TAB>c:|b:<TAB>word ids<TAB>sentiment";

/// Reads a text file, or every text file of a zip archive, for example `makeup.zip`.
///
/// # Errors
/// A file that cannot be read or holds no session; output that cannot be written.
pub fn import(path: &Path, sink: &mut Sink) -> anyhow::Result<()> {
    let cannot = || format!("cannot read {}", path.display());
    let mut magic = [0; 4];
    let is_zip = File::open(path).with_context(cannot)?.read_exact(&mut magic).is_ok() && magic == *b"PK\x03\x04";
    let before = sink.written();
    if is_zip {
        let mut zip = zip::ZipArchive::new(BufReader::new(File::open(path).with_context(cannot)?)).with_context(cannot)?;
        for index in 0..zip.len() {
            let file = zip.by_index(index).with_context(cannot)?;
            let name = file.name().with_context(cannot)?.into_owned();
            if name.ends_with(".txt") && !name.starts_with("__MACOSX") {
                let inside = path.join(&name);
                let prefix = format!("ssa-{}-{}", stem(path), stem(&inside));
                sessions(&inside, &prefix, BufReader::new(file), sink)?;
            }
        }
    } else {
        sessions(path, &format!("ssa-{}", stem(path)), open(path)?, sink)?;
    }
    some_rows(path, sink.written() - before, "session satisfaction (SSA)", SHAPE)
}

fn sessions(path: &Path, prefix: &str, reader: impl BufRead, sink: &mut Sink) -> anyhow::Result<()> {
    let mut lines = Lines::new(reader);
    let (mut session, mut turn) = (0, 0);
    // Satisfaction of the open session, and its last turn so far.
    let mut open_session: Option<f64> = None;
    let mut last = None;
    while let Some((line, text)) = lines.next()? {
        let place = Place { file: path, line };
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                sink.bad(place, why);
                continue;
            }
        };
        if text.trim().is_empty() {
            close(&mut open_session, &mut last, place, sink)?;
            continue;
        }
        let fields: Vec<&str> = text.split('\t').collect();
        let parsed = match fields[..] {
            [satisfaction] => scale(satisfaction).map(|value| {
                (session, turn) = (session + 1, 0);
                (value, None)
            }),
            [_, who, words, sentiment] if open_session.is_some() => speaker(who)
                .and_then(|actor| Ok((actor, words, scale(sentiment)?)))
                .map(|(actor, words, sentiment)| (sentiment, Some((actor, words)))),
            _ => Err(format!("the line is not part of {SHAPE}")),
        };
        let (value, said) = match parsed {
            Ok(parsed) => parsed,
            Err(why) => {
                sink.bad(place, why);
                continue;
            }
        };
        let Some((actor, words)) = said else {
            close(&mut open_session, &mut last, place, sink)?;
            open_session = Some(value);
            continue;
        };
        turn += 1;
        let customer = format!("{prefix}-{session:05}");
        let id = format!("{customer}-{turn:02}");
        let row = Row {
            actor,
            conversation_id: Some(&customer),
            channel: Some("chat"),
            text: Some(words.trim()).filter(|w| !w.is_empty()),
            ..Row::new(&id, &customer, invented_time(session, turn), "message")
        };
        if sink.interaction(&row, place)? {
            let sentiment = if value < 3.0 {
                "negative"
            } else if value > 3.0 {
                "positive"
            } else {
                "neutral"
            };
            sink.class(&id, "sentiment", sentiment, place)?;
            last = Some(id);
        }
    }
    close(&mut open_session, &mut last, Place { file: path, line: 0 }, sink)
}

/// Ends a session: its satisfaction belongs to its last turn, whoever spoke it.
fn close(satisfaction: &mut Option<f64>, last: &mut Option<String>, place: Place<'_>, sink: &mut Sink) -> anyhow::Result<()> {
    if let (Some(value), Some(id)) = (satisfaction.take(), last.take()) {
        sink.rating(&id, value, place)?;
    }
    Ok(())
}

/// The set's 1, 2, 3 on the scale of ratings.
fn scale(level: &str) -> Result<f64, String> {
    match level.trim() {
        "1" => Ok(1.0),
        "2" => Ok(3.0),
        "3" => Ok(5.0),
        other => Err(format!("{other:?} is none of 1, 2, 3")),
    }
}

fn speaker(who: &str) -> Result<&'static str, String> {
    match who.trim() {
        "c:" => Ok("customer"),
        "b:" => Ok("agent"),
        other => Err(format!("speaker {other:?} is neither c: nor b:")),
    }
}
