//! The files of one partition that are not published yet: interactions and their scores, side by side.
//!
//! Both are published together, interactions first. So what a killed process leaves is at most interactions without their scores, and these
//! scores are then read again alone. Knows rows and bytes; where they go is the [`Store`]'s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;

use super::scores::ScoreRows;
use super::store::Store;
use super::{ArchiveError, Topic, columns};
use crate::interaction::{DecodeOptions, Interaction, Timestamp, decode};
use crate::log::{Partition, Position, Scored};
use crate::metrics::{self, ArchiveFault};

/// Rows and bytes that are held before they become columns.
const ROWS: usize = 1024;
const BYTES: usize = 4 << 20;

pub(super) struct Part {
    partition: Partition,
    /// Interactions before this are archived.
    archived: i64,
    interactions: File,
    interaction_rows: Vec<Interaction>,
    scores: File,
    score_rows: ScoreRows,
    opened: Option<Instant>,
    oldest: Option<Timestamp>,
}

impl Part {
    pub fn new(partition: Partition, position: Position) -> Self {
        Self {
            partition,
            archived: position.input,
            interactions: File::default(),
            interaction_rows: Vec::new(),
            scores: File::default(),
            score_rows: ScoreRows::default(),
            opened: None,
            oldest: None,
        }
    }

    /// Adds a score and its interaction. Publishes what is there first where the score has columns that its file has not.
    pub fn add(&mut self, scored: Scored, store: &Store) -> Result<(), ArchiveError> {
        let Scored { offset, score, input_offset, input, partition } = scored;
        let interaction = match (input_offset, input) {
            (Some(at), Some(input)) if at >= self.archived => match decode(&input, DecodeOptions::default()) {
                Ok(decoded) => Some((at, input.len(), decoded.interaction)),
                Err(e) => {
                    tracing::error!("archive: interaction {at} of partition {partition} was scored and cannot be read: {e}");
                    metrics::archive_faults(ArchiveFault::Undecodable, 1);
                    None
                }
            },
            (Some(at), _) if at < self.archived => None,
            (at, _) => {
                tracing::error!("archive: the interaction of score {offset} of partition {partition} is gone (its offset: {at:?})");
                metrics::archive_faults(ArchiveFault::Lost, 1);
                None
            }
        };
        match serde_json::from_slice(&score) {
            Ok(row) => {
                if !self.score_rows.fits(&row) {
                    self.publish(store)?;
                }
                self.oldest = self.oldest.or_else(|| ScoreRows::scored_at(&row));
                self.score_rows.push(row);
                self.scores.add(offset, score.len());
            }
            Err(e) => {
                tracing::error!("archive: score {offset} of partition {partition} is no JSON object: {e}");
                metrics::archive_faults(ArchiveFault::Undecodable, 1);
            }
        }
        if let Some((at, bytes, interaction)) = interaction {
            self.interaction_rows.push(interaction);
            self.interactions.add(at, bytes);
        }
        self.opened.get_or_insert_with(Instant::now);
        if self.score_rows.len() >= ROWS || self.interactions.held + self.scores.held >= BYTES {
            self.make_columns()?;
        }
        Ok(())
    }

    fn make_columns(&mut self) -> Result<(), ArchiveError> {
        if !self.interaction_rows.is_empty() {
            self.interactions.write(&columns::batch(&self.interaction_rows)?)?;
            self.interaction_rows.clear();
        }
        if self.score_rows.len() > 0 {
            self.scores.write(&self.score_rows.batch()?)?;
        }
        Ok(())
    }

    /// Size of the larger file, as JSON.
    pub fn largest_file(&self) -> usize {
        self.interactions.bytes.max(self.scores.bytes)
    }

    /// Bytes of memory in use, about.
    pub fn memory(&self) -> usize {
        self.interactions.memory() + self.scores.memory()
    }

    /// How long something has been waiting for its publication.
    pub fn age(&self) -> Duration {
        self.opened.map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// When the oldest unpublished score was made.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.oldest
    }

    pub fn publish(&mut self, store: &Store) -> Result<(), ArchiveError> {
        self.make_columns()?;
        for (topic, file) in [(Topic::Interactions, &mut self.interactions), (Topic::Scores, &mut self.scores)] {
            let File { writer: Some(writer), first, last, rows, .. } = std::mem::take(file) else { continue };
            let bytes = writer.into_inner()?;
            let size = bytes.len();
            store.put(topic, self.partition, (first, last), bytes)?;
            metrics::archived(topic.name(), rows, size);
            tracing::debug!("archive: {} {}: {first} to {last}, {rows} rows, {size} bytes", topic.name(), self.partition);
            if topic == Topic::Interactions {
                self.archived = last + 1;
            }
        }
        self.score_rows.forget_columns();
        self.opened = None;
        self.oldest = None;
        Ok(())
    }
}

/// A Parquet file in memory. Compressed, so it is a small part of what its rows were as JSON.
#[derive(Default)]
struct File {
    /// None until the first rows became columns.
    writer: Option<ArrowWriter<Vec<u8>>>,
    first: i64,
    last: i64,
    rows: usize,
    /// Of the rows as JSON: all, and those that are no columns yet.
    bytes: usize,
    held: usize,
}

impl File {
    fn add(&mut self, offset: i64, bytes: usize) {
        if self.rows == 0 {
            self.first = offset;
        }
        self.last = offset;
        self.rows += 1;
        self.bytes += bytes;
        self.held += bytes;
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArchiveError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let schema: Arc<Schema> = batch.schema();
                none.insert(ArrowWriter::try_new(Vec::new(), schema, Some(columns::properties()))?)
            }
        };
        writer.write(batch)?;
        self.held = 0;
        Ok(())
    }

    fn memory(&self) -> usize {
        // Decoded rows take about twice their JSON.
        2 * self.held + self.writer.as_ref().map_or(0, |w| w.inner().len() + w.memory_size())
    }
}
