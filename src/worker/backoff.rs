//! Pauses between attempts, growing and jittered, and the signal that ends them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Asks workers to finish what they are at and end. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Exponential with full jitter above a floor, so that workers that failed together do not come back together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(10);

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The longest that the next pause may be.
    fn ceiling(&self) -> Duration {
        Self::FIRST.saturating_mul(1 << self.failures.min(16)).min(Self::LONGEST)
    }

    /// Sleeps, or returns early where `stop` is requested.
    pub fn pause(&mut self, stop: &Stop) {
        let pause = self.ceiling().mul_f64(0.5 + 0.5 * random());
        self.failures = self.failures.saturating_add(1);
        let until = Instant::now() + pause;
        while !stop.requested() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }
}

/// From 0 to 1, different in every process and at every call; not for secrets.
fn random() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let ceilings: Vec<_> = (0..40).map(|failures| Backoff { failures }.ceiling()).collect();
        assert_eq!(ceilings[0], Duration::from_millis(50));
        assert_eq!(ceilings[1], Duration::from_millis(100));
        assert!(ceilings.is_sorted());
        assert_eq!(ceilings[39], Backoff::LONGEST);
    }

    #[test]
    fn a_stop_ends_a_pause() {
        let stop = Stop::default();
        stop.request();
        let started = Instant::now();
        Backoff { failures: 30 }.pause(&stop);
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}
