//! The embedded durable log on an LSM store: one atomic batch is the transaction.
