//! How far what the workers of this process saw last lies from what their model was fitted on.
//!
//! Workers count by themselves and hand their counts over about once a second; here they are added up and told to the metrics.

use crate::interaction::Name;
use crate::metrics;
use crate::model::Watch;

/// Interactions after which the older half of what is counted is forgotten.
const HALF: u64 = 10_000;
/// Fewer than this say nothing: chance alone gives ten bins of `n` values an index of about 9 / n.
const FEWEST: u64 = 1_000;

/// Counts of one model version, of the last 10,000 to 20,000 interactions.
#[derive(Default)]
pub(super) struct Rolling {
    version: Option<Name>,
    young: Option<Watch>,
    old: Option<Watch>,
}

impl Rolling {
    /// Adds what a worker counted with a model, and tells the metrics what it comes to. Counts of a model that serves no more are forgotten.
    pub fn add(&mut self, version: &Name, serves: &Name, counted: &Watch) {
        if version != serves {
            return;
        }
        if self.version.as_ref() != Some(version) {
            *self = Self { version: Some(version.clone()), young: None, old: None };
            metrics::forget_drift();
        }
        let young = match &mut self.young {
            Some(young) => {
                young.merge(counted);
                young
            }
            none => none.insert(counted.clone()),
        };
        let mut all = young.clone();
        if let Some(old) = &self.old {
            all.merge(old);
        }
        if all.interactions() >= FEWEST {
            for column in all.drift().into_iter().filter(|d| d.n >= FEWEST) {
                metrics::drift(&column.name, column.is_input, column.psi);
            }
        }
        if young.interactions() >= HALF {
            self.old = self.young.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Reference;
    use crate::model::drift::{Column, Histogram};

    #[test]
    fn old_interactions_and_old_models_are_forgotten() {
        let histogram = Histogram::of_numbers((0..100).map(|i| i as f32).collect());
        let reference = Arc::new(Reference { inputs: vec![Column { name: "a feature".into(), histogram }], ..Reference::default() });
        let counted = |value: fn(u32) -> f32| {
            let mut watch = Watch::new(reference.clone());
            (0..5_000).for_each(|i| watch.input(&[value(i)]));
            watch
        };
        let line = || metrics::render().lines().find(|l| l.starts_with("rapport_drift_psi{feature=\"a feature\"")).map(str::to_owned);
        let psi = || line().and_then(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok());
        let (one, two) = (Name::from("1"), Name::from("2"));
        let mut rolling = Rolling::default();
        rolling.add(&one, &one, &counted(|i| (i % 100) as f32));
        assert!(psi().is_some_and(|psi| psi < 0.01), "{:?}", line());
        for _ in 0..6 {
            rolling.add(&one, &one, &counted(|_| 99.0));
        }
        let far = psi();
        assert!(far.is_some_and(|psi| psi > 2.0), "{far:?}");
        // Of a model that serves no more, and too few of the next.
        rolling.add(&one, &two, &counted(|_| 0.0));
        assert_eq!(psi(), far);
        let mut few = Watch::new(reference.clone());
        few.input(&[1.0]);
        rolling.add(&two, &two, &few);
        assert_eq!(line(), None);
    }
}
