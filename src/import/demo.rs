//! The data that ships with `rapport demo`: whole MultiDoGO conversations and whole purchase sequences of Online Retail II, in order of time.
//!
//! Both sets may be redistributed. What is taken depends on the seed and the ids alone, so the same files give the same bytes. The shop's
//! times are as published. MultiDoGO publishes none, so every conversation is put at a moment in the shop's days that its id decides, with 30 s
//! from turn number to turn number. No customer of one set is made a customer of the other: that would be invented.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::read::stem;
use super::{Place, Sink, multidogo, online_retail};
use crate::interaction::Timestamp;

/// First day of the demo, 2010-09-01, in seconds; the customers taken bought between it and [`DAYS`] later and never before or after.
const FIRST_DAY: i64 = 1_283_299_200;
const DAYS: i64 = 91;
/// Customers chat from 8 to 20 h.
const OPENS: i64 = 8 * 3600;
const OPEN_SECONDS: i64 = 12 * 3600;

/// Conversations taken of each domain and pool, see [`conversations`].
const CONVERSATIONS: usize = 36;
/// Purchase lines taken, at least.
const PURCHASE_LINES: usize = 3000;
/// Customers with more lines than this are left out, so that no one fills the demo.
const LINES_PER_CUSTOMER: usize = 80;

/// Words of a customer whom something troubles; a repeated turn is the other sign of friction.
const TROUBLE: [&str; 16] = [
    "angry",
    "bad",
    "cancel",
    "complaint",
    "delay",
    "disappointed",
    "fraud",
    "never",
    "not working",
    "problem",
    "still not",
    "stolen",
    "upset",
    "waiting",
    "worst",
    "wrong",
];

/// Writes the demo from a folder of MultiDoGO files and a folder of both years of Online Retail II.
///
/// # Errors
/// A folder without such files, a file that cannot be read; output that cannot be written.
pub fn import(multidogo: &Path, online_retail: &Path, seed: u64, sink: &mut Sink) -> anyhow::Result<()> {
    conversations(&files(multidogo, ".tsv")?, seed, sink)?;
    purchases(&online_retail::in_order(&files(online_retail, ".csv")?)?, seed, sink)
}

/// The files of a folder with this ending, gzip or not, in order of name.
fn files(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.strip_suffix(".gz").unwrap_or(&name).ends_with(ending) {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("{} holds no {ending} or {ending}.gz file", folder.display());
    }
    found.sort();
    Ok(found)
}

/// A turn that outlives its row.
struct Turn {
    number: usize,
    text: String,
    line: u64,
}

struct Conversation {
    id: String,
    number: usize,
    turns: Vec<Turn>,
}

/// Conversations with their place in a seeded order and their file.
type Pool<'a> = Vec<(u64, &'a Path, Conversation)>;

/// Takes [`CONVERSATIONS`] of each domain in which the customer meets friction, and as many of the others.
fn conversations(files: &[PathBuf], seed: u64, sink: &mut Sink) -> anyhow::Result<()> {
    let mut pools: BTreeMap<(String, bool), Pool<'_>> = BTreeMap::new();
    for path in files {
        let domain = stem(path).split('-').next().unwrap_or_default().to_owned();
        let mut open: Option<Conversation> = None;
        let mut all = Vec::new();
        multidogo::read(path, sink, |turn, place, _| {
            if open.as_ref().is_none_or(|c| c.number != turn.conversation) {
                let id = turn.conversation_id.to_owned();
                all.extend(open.replace(Conversation { id, number: turn.conversation, turns: Vec::new() }));
            }
            if let Some(conversation) = &mut open {
                conversation.turns.push(Turn { number: turn.turn, text: turn.text.to_owned(), line: place.line });
            }
            Ok(())
        })?;
        all.extend(open);
        for conversation in all {
            let rank = xxh3_64_with_seed(conversation.id.as_bytes(), seed);
            pools.entry((domain.clone(), friction(&conversation) >= 2)).or_default().push((rank, path, conversation));
        }
    }
    for pool in pools.values_mut() {
        pool.sort_by_key(|(rank, ..)| *rank);
        for (rank, path, conversation) in pool.iter().take(CONVERSATIONS) {
            write_conversation(*rank, path, conversation, sink)?;
        }
    }
    Ok(())
}

/// How often the customer names trouble or has to say the same again.
fn friction(conversation: &Conversation) -> usize {
    let texts: Vec<&str> = conversation.turns.iter().map(|turn| turn.text.as_str()).collect();
    let again = |(i, text): (usize, &&str)| text.split(' ').count() >= 4 && texts[..i].contains(text);
    let named: usize = texts.iter().map(|text| TROUBLE.iter().filter(|word| text.contains(*word)).count()).sum();
    named + 2 * texts.iter().enumerate().filter(|turn| again(*turn)).count()
}

fn write_conversation(rank: u64, path: &Path, conversation: &Conversation, sink: &mut Sink) -> anyhow::Result<()> {
    let day = (rank % DAYS as u64) as i64;
    let second = (rank / DAYS as u64 % OPEN_SECONDS as u64) as i64;
    let start = FIRST_DAY + day * 86_400 + OPENS + second;
    for turn in &conversation.turns {
        let at = Timestamp((start + 30 * turn.number as i64) * Timestamp::MICROS_PER_SECOND);
        let published = multidogo::Turn {
            conversation: conversation.number,
            conversation_id: &conversation.id,
            turn: turn.number,
            text: &turn.text,
            intent: "",
        };
        multidogo::write(&stem(path), &published, at, Place { file: path, line: turn.line }, sink)?;
    }
    Ok(())
}

/// What is known of a customer after the first reading.
struct Buyer {
    first: Timestamp,
    last: Timestamp,
    lines: usize,
    invoices: HashSet<String>,
}

/// Takes customers who bought at least twice, all within the days of the demo, until there are enough lines.
fn purchases(files: &[PathBuf], seed: u64, sink: &mut Sink) -> anyhow::Result<()> {
    let mut buyers: HashMap<String, Buyer> = HashMap::new();
    // The first reading only counts: what is left out is reported by the second.
    let mut counting = Sink::silent();
    for path in files {
        online_retail::read(path, &mut counting, |line, _, _| {
            let new = || Buyer { first: line.occurred_at, last: line.occurred_at, lines: 0, invoices: HashSet::new() };
            let buyer = buyers.entry(line.customer_id.to_owned()).or_insert_with(new);
            (buyer.last, buyer.lines) = (line.occurred_at, buyer.lines + 1);
            if buyer.invoices.len() < 2 {
                buyer.invoices.insert(line.invoice.to_owned());
            }
            Ok(())
        })?;
    }
    let begin = Timestamp(FIRST_DAY * Timestamp::MICROS_PER_SECOND);
    let end = Timestamp((FIRST_DAY + DAYS * 86_400) * Timestamp::MICROS_PER_SECOND);
    buyers.retain(|_, b| b.first >= begin && b.last < end && b.invoices.len() >= 2 && b.lines <= LINES_PER_CUSTOMER);
    let mut ranked: Vec<(u64, &String, usize)> =
        buyers.iter().map(|(id, b)| (xxh3_64_with_seed(id.as_bytes(), seed), id, b.lines)).collect();
    ranked.sort();
    let mut lines = 0;
    let mut taken = HashSet::new();
    for (_, id, count) in ranked {
        if lines >= PURCHASE_LINES {
            break;
        }
        lines += count;
        taken.insert(id.as_str());
    }
    for path in files {
        let mut counting = Sink::silent();
        online_retail::read(path, &mut counting, |line, place, _| {
            if taken.contains(line.customer_id) { online_retail::write(line, place, sink) } else { Ok(()) }
        })?;
    }
    Ok(())
}
