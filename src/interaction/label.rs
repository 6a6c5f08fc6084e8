//! An outcome that someone recorded; read in training and evaluation only.

/// `{"interaction_id": "...", "task": "satisfaction", "value": 2.67}`
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    pub interaction_id: Box<str>,
    pub task: Box<str>,
    pub value: LabelValue,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LabelValue {
    /// A mean rating, 1–5, of task `satisfaction`.
    Rating(f64),
    /// A class of any other task.
    Class(Box<str>),
}
