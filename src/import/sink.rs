//! Where every importer writes to: interactions and labels as JSON Lines, and the count of what was left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use crate::interaction::{DecodeOptions, Label, SATISFACTION, Timestamp, decode};

/// Rows left out that are reported one by one; the rest is only counted.
const REPORTED: usize = 5;

/// An interaction as importers write it; fields and meanings as in the contract, absent ones are not written.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Row<'a> {
    pub id: &'a str,
    pub customer_id: &'a str,
    pub occurred_at: Timestamp,
    pub kind: &'a str,
    pub actor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<&'a str>,
    #[serde(serialize_with = "as_object", skip_serializing_if = "<[_]>::is_empty")]
    pub attributes: &'a [(&'a str, &'a str)],
}

impl<'a> Row<'a> {
    /// A row with its required fields, done by the customer.
    pub fn new(id: &'a str, customer_id: &'a str, occurred_at: Timestamp, kind: &'a str) -> Self {
        Self {
            id,
            customer_id,
            occurred_at,
            kind,
            actor: "customer",
            conversation_id: None,
            channel: None,
            language: None,
            item: None,
            category: None,
            text: None,
            amount: None,
            quantity: None,
            currency: None,
            attributes: &[],
        }
    }
}

fn as_object<S: serde::Serializer>(pairs: &&[(&str, &str)], s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(pairs.iter().copied())
}

#[derive(Serialize)]
struct LabelLine<'a, V> {
    interaction_id: &'a str,
    task: &'a str,
    value: V,
}

/// A line of an input file, for messages; lines count from 1.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub file: &'a Path,
    pub line: u64,
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub interactions: u64,
    pub labels: u64,
    /// Rows that were left out, for whatever reason.
    pub skipped: u64,
    /// Rows left out on purpose, by reason; part of `skipped`.
    pub reasons: BTreeMap<&'static str, u64>,
}

/// Where lines go, and its name for messages.
struct Output {
    writer: Box<dyn Write>,
    name: String,
}

impl Output {
    fn write(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.writer.write_all(line).with_context(|| format!("cannot write {}", self.name))
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.writer.flush().with_context(|| format!("cannot write {}", self.name))
    }
}

/// The writer that all importers share.
pub struct Sink {
    interactions: Output,
    labels: Option<Output>,
    /// Interactions waiting to be sorted, where order of time was asked for.
    held: Option<Vec<(Timestamp, Box<[u8]>)>>,
    line: Vec<u8>,
    reported: usize,
    summary: Summary,
}

impl Sink {
    /// Writes to these files, gzip where a name ends in `.gz`; no `interactions` means standard output, no `labels` means that labels are
    /// counted as 0 and not written.
    ///
    /// # Errors
    /// A file that cannot be created.
    pub fn create(interactions: Option<&Path>, labels: Option<&Path>) -> anyhow::Result<Self> {
        let file = |path: &Path| Ok::<_, anyhow::Error>(Output { writer: create(path)?, name: path.display().to_string() });
        let interactions = match interactions {
            Some(path) => file(path)?,
            None => Output { writer: Box::new(BufWriter::new(std::io::stdout())), name: "standard output".into() },
        };
        Ok(Self::to(interactions, labels.map(file).transpose()?))
    }

    /// Writes to these writers.
    pub fn new(interactions: Box<dyn Write>, labels: Option<Box<dyn Write>>) -> Self {
        let named = |writer, name: &str| Output { writer, name: name.into() };
        Self::to(named(interactions, "interactions"), labels.map(|labels| named(labels, "labels")))
    }

    fn to(interactions: Output, labels: Option<Output>) -> Self {
        Self { interactions, labels, held: None, line: Vec::new(), reported: 0, summary: Summary::default() }
    }

    /// Writes nowhere and reports nothing: for a first reading of files that are read twice.
    pub fn silent() -> Self {
        Self { reported: REPORTED + 1, ..Self::new(Box::new(std::io::sink()), None) }
    }

    /// Keeps all interactions in memory and writes them in order of time at the end; those of one moment stay in order of arrival.
    pub fn in_order_of_time(mut self) -> Self {
        self.held = Some(Vec::new());
        self
    }

    /// Writes one interaction, where it conforms; else counts `place` as left out and says `false`.
    ///
    /// # Errors
    /// Output that cannot be written.
    pub fn interaction(&mut self, row: &Row<'_>, place: Place<'_>) -> anyhow::Result<bool> {
        self.object(row, row.occurred_at, place)
    }

    /// The same of an object of another making that happened at `at`.
    ///
    /// # Errors
    /// Output that cannot be written.
    pub fn object(&mut self, object: &impl Serialize, at: Timestamp, place: Place<'_>) -> anyhow::Result<bool> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, object).context("cannot write an interaction as JSON")?;
        if let Err(reject) = decode(&self.line, DecodeOptions::default()) {
            self.bad(place, reject);
            return Ok(false);
        }
        self.line.push(b'\n');
        match &mut self.held {
            Some(held) => held.push((at, self.line.as_slice().into())),
            None => self.interactions.write(&self.line)?,
        }
        self.summary.interactions += 1;
        Ok(true)
    }

    /// Writes the mean rating, 1–5, of an interaction; one that is none is counted and the interaction stays without it.
    ///
    /// # Errors
    /// Output that cannot be written.
    pub fn rating(&mut self, interaction_id: &str, value: f64, place: Place<'_>) -> anyhow::Result<()> {
        self.label(&LabelLine { interaction_id, task: SATISFACTION, value }, place)
    }

    /// Writes the class of an interaction under a task other than satisfaction.
    ///
    /// # Errors
    /// Output that cannot be written.
    pub fn class(&mut self, interaction_id: &str, task: &str, value: &str, place: Place<'_>) -> anyhow::Result<()> {
        self.label(&LabelLine { interaction_id, task, value }, place)
    }

    fn label(&mut self, label: &impl Serialize, place: Place<'_>) -> anyhow::Result<()> {
        let Some(out) = &mut self.labels else { return Ok(()) };
        self.line.clear();
        serde_json::to_writer(&mut self.line, label).context("cannot write a label as JSON")?;
        if let Err(reject) = Label::decode(&self.line) {
            self.bad(place, format_args!("label: {reject}; the interaction is kept without it"));
            return Ok(());
        }
        self.line.push(b'\n');
        out.write(&self.line)?;
        self.summary.labels += 1;
        Ok(())
    }

    /// Counts a row that is no row of this set; the first few are reported on standard error.
    pub fn bad(&mut self, place: Place<'_>, why: impl std::fmt::Display) {
        self.summary.skipped += 1;
        self.reported += 1;
        if self.reported <= REPORTED {
            eprintln!("{}:{}: skipped: {why}", place.file.display(), place.line);
        } else if self.reported == REPORTED + 1 {
            eprintln!("further skipped rows are only counted");
        }
    }

    /// Counts a sound row that is left out on purpose.
    pub fn leave_out(&mut self, why: &'static str) {
        self.summary.skipped += 1;
        *self.summary.reasons.entry(why).or_default() += 1;
    }

    /// Interactions written so far.
    pub fn written(&self) -> u64 {
        self.summary.interactions
    }

    /// Flushes both outputs and says what was done.
    ///
    /// # Errors
    /// Output that cannot be written.
    pub fn finish(mut self) -> anyhow::Result<Summary> {
        if let Some(mut held) = self.held.take() {
            held.sort_by_key(|(at, _)| *at);
            for (_, line) in &held {
                self.interactions.write(line)?;
            }
        }
        self.interactions.flush()?;
        if let Some(labels) = &mut self.labels {
            labels.flush()?;
        }
        Ok(self.summary)
    }
}

/// A file to write to, gzip where its name ends in `.gz`; complete after one flush.
///
/// # Errors
/// A file that cannot be created.
pub fn create(path: &Path) -> anyhow::Result<Box<dyn Write>> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let file = BufWriter::new(file);
    if path.extension().is_some_and(|e| e == "gz") {
        // Dropping the encoder writes its end; the header holds no time, so the bytes depend on the content alone.
        return Ok(Box::new(BufWriter::new(Gzip(Some(GzEncoder::new(file, Compression::best()))))));
    }
    Ok(Box::new(file))
}

/// A gzip file that a flush completes: flushing happens once, at the end.
struct Gzip(Option<GzEncoder<BufWriter<File>>>);

impl Write for Gzip {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.0 {
            Some(gzip) => gzip.write(bytes),
            None => Err(std::io::Error::other("the gzip file is already complete")),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self.0.take() {
            Some(gzip) => gzip.finish()?.flush(),
            None => Ok(()),
        }
    }
}
