//! What serves now, shared by a control thread that loads bundles and the workers, which look once per batch.
//!
//! Knows no registry and no announcement.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::model::Model;

/// Loaded, checked bundles.
#[derive(Debug, Clone)]
pub struct Serving {
    pub champion: Arc<Model>,
    /// Scores beside the champion; nobody acts on it.
    pub shadow: Option<Arc<Model>>,
}

/// The place where a control thread puts what is to serve. Clones share it.
#[derive(Debug, Clone)]
pub struct Models(Arc<ArcSwap<Serving>>);

impl Models {
    pub fn new(champion: Arc<Model>, shadow: Option<Arc<Model>>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Serving { champion, shadow })))
    }

    /// From each worker's next batch on.
    pub fn put(&self, serving: Serving) {
        self.0.store(Arc::new(serving));
    }

    pub fn now(&self) -> Guard<Arc<Serving>> {
        self.0.load()
    }
}
