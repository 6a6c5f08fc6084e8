//! How many words two texts share.

use crate::customer::Item;

/// Compares one text with many; buffers are reused.
#[derive(Debug, Default)]
pub struct Overlap {
    sorted: Vec<u32>,
    found: Vec<u32>,
    stamp: u32,
}

impl Overlap {
    /// Sets the text that the following calls compare with.
    pub fn set(&mut self, tokens: &[u32]) {
        self.sorted.clear();
        self.sorted.extend_from_slice(tokens);
        self.sorted.sort_unstable();
        self.sorted.dedup();
        self.found.clear();
        self.found.resize(self.sorted.len(), 0);
        self.stamp = 0;
    }

    /// Jaccard index (shared / all different words) of the set text and `other`, 0–1.
    pub fn jaccard(&mut self, other: &Item) -> f32 {
        self.stamp += 1;
        let mut shared = 0usize;
        for token in &other.tokens {
            if let Ok(at) = self.sorted.binary_search(token)
                && self.found[at] != self.stamp
            {
                self.found[at] = self.stamp;
                shared += 1;
            }
        }
        let all = self.sorted.len() + other.distinct as usize - shared;
        if all == 0 { 0.0 } else { shared as f32 / all as f32 }
    }
}
