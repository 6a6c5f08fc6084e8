//! One interaction as the rolling window keeps it: nothing in it depends on a model bundle.

use super::words::{self, Splitter};
use crate::interaction::{Actor, Interaction, Timestamp};

/// A window entry. Names are hashes ([`words::hash`]), 0 where absent; numbers are NaN where absent.
#[derive(Debug, Clone)]
pub struct Item {
    pub id: Box<str>,
    pub occurred_at: Timestamp,
    pub actor: Actor,
    pub kind: u32,
    pub channel: u32,
    pub language: u32,
    pub category: u32,
    pub item: u32,
    pub conversation: u32,
    pub amount: f32,
    pub quantity: f32,
    pub rating: f32,
    /// Hashes of the kept words.
    pub tokens: Box<[u32]>,
    /// Number of words of the whole text.
    pub length: u32,
    /// Number of different kept words.
    pub distinct: u16,
    /// [`words::QUESTION`] and its neighbours.
    pub marks: u8,
}

/// Absent numbers are equal to each other, so that a round trip compares equal.
impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        let names = |i: &Self| (i.occurred_at, i.actor, i.kind, i.channel, i.language, i.category, i.item, i.conversation);
        let numbers = |i: &Self| (i.amount.to_bits(), i.quantity.to_bits(), i.rating.to_bits(), i.length, i.distinct, i.marks);
        self.id == other.id && self.tokens == other.tokens && names(self) == names(other) && numbers(self) == numbers(other)
    }
}

impl Item {
    /// The window's form of `interaction`, whose text, where it has one, `splitter` has just split.
    pub fn new(interaction: &Interaction, splitter: &Splitter) -> Self {
        let name = |s: &Option<Box<str>>| s.as_deref().map_or(0, words::hash);
        let number = |n: Option<f64>| n.map_or(f32::NAN, |n| n as f32);
        let has_text = interaction.text.is_some();
        let tokens: Box<[u32]> = if has_text { splitter.words().map(words::hash).collect() } else { Box::default() };
        Self {
            id: interaction.id.clone(),
            occurred_at: interaction.occurred_at,
            actor: interaction.actor,
            kind: words::hash(&interaction.kind),
            channel: name(&interaction.channel),
            language: name(&interaction.language),
            category: name(&interaction.category),
            item: name(&interaction.item),
            conversation: name(&interaction.conversation_id),
            amount: number(interaction.amount),
            quantity: number(interaction.quantity),
            rating: number(interaction.rating),
            distinct: distinct(&tokens),
            tokens,
            length: if has_text { splitter.length() as u32 } else { 0 },
            marks: if has_text { splitter.marks() } else { 0 },
        }
    }

    /// Only a customer's text or rating says something of the customer's satisfaction.
    pub fn moves_satisfaction(&self) -> bool {
        self.actor == Actor::Customer && (!self.tokens.is_empty() || !self.rating.is_nan())
    }
}

/// Number of different values.
pub fn distinct(tokens: &[u32]) -> u16 {
    let mut sorted = tokens.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len() as u16
}
