//! Training, evaluation and the writing of model bundles.
