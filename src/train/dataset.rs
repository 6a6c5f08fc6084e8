//! What the networks learn from: one sequence of steps per customer, every step already turned into numbers.
//!
//! Knows nothing of files, interactions or networks.

use crate::interaction::Actor;

/// One interaction as the networks see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Vocabulary rows of the words, in order; 0 (padding) never occurs.
    pub tokens: Vec<u32>,
    /// Rows of the hashed word 1- and 2-grams, 1 and up; 0 (padding) never occurs.
    pub bag: Vec<u32>,
    /// Scaled plain features, as wide as the data set's `feature_width`.
    pub features: Vec<f32>,
    pub actor: Actor,
    /// Mean rating, 1–5.
    pub satisfaction: Option<f32>,
    /// One entry per class task of the data set, in its order.
    pub classes: Vec<Option<u32>>,
}

impl Step {
    /// Whether any task has a label here.
    pub fn is_labelled(&self) -> bool {
        self.satisfaction.is_some() || self.classes.iter().any(Option::is_some)
    }
}

/// The steps of one customer in the order in which they arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    pub customer: Box<str>,
    pub steps: Vec<Step>,
}

/// A class task: its name and its labels in the order of their numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassTask {
    pub name: Box<str>,
    pub labels: Vec<Box<str>>,
    /// Trained to shape the text encoder, but no output of the bundle.
    pub auxiliary: bool,
}

/// All sequences and what their numbers mean.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dataset {
    pub sequences: Vec<Sequence>,
    /// Width of [`Step::features`].
    pub feature_width: usize,
    /// Rows of the word table, padding and unknown included.
    pub vocabulary: usize,
    /// Rows of the n-gram table, padding included.
    pub bag_rows: usize,
    pub tasks: Vec<ClassTask>,
    /// Rows of the word table that do not start at random.
    pub vectors: Vec<(usize, Vec<f32>)>,
}

impl Dataset {
    /// The same tables and tasks, without anyone.
    pub fn without_sequences(&self) -> Self {
        let Self { feature_width, vocabulary, bag_rows, ref tasks, ref vectors, .. } = *self;
        Self { sequences: Vec::new(), feature_width, vocabulary, bag_rows, tasks: tasks.clone(), vectors: vectors.clone() }
    }
}
