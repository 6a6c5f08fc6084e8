//! Metrics, health, the API and the console.
