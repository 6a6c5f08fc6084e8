//! Turns public data sets and plain CSV into interactions and labels.
