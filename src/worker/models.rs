//! What serves now, shared by a control thread that loads bundles and the workers, which look once per batch; and what the workers saw with it.
//!
//! Knows no registry and no announcement.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::drift::Rolling;
use crate::interaction::Name;
use crate::model::{Model, Watch};

/// Loaded, checked bundles.
#[derive(Debug, Clone)]
pub struct Serving {
    pub champion: Arc<Model>,
    /// Scores beside the champion; nobody acts on it.
    pub shadow: Option<Arc<Model>>,
}

/// The place where a control thread puts what is to serve. Clones share it.
#[derive(Clone)]
pub struct Models {
    serving: Arc<ArcSwap<Serving>>,
    drift: Arc<Mutex<Rolling>>,
}

impl Models {
    pub fn new(champion: Arc<Model>, shadow: Option<Arc<Model>>) -> Self {
        Self { serving: Arc::new(ArcSwap::from_pointee(Serving { champion, shadow })), drift: Arc::default() }
    }

    /// From each worker's next batch on.
    pub fn put(&self, serving: Serving) {
        self.serving.store(Arc::new(serving));
    }

    /// What a worker counted with the model of this version since it last said so.
    pub(super) fn counted(&self, version: &Name, watch: &Watch) {
        let serves = self.now().champion.version.clone();
        self.drift.lock().unwrap_or_else(PoisonError::into_inner).add(version, &serves, watch);
    }

    pub fn now(&self) -> Guard<Arc<Serving>> {
        self.serving.load()
    }
}
