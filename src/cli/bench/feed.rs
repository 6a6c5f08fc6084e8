//! Synthetic interactions: conversations in English and Chinese, purchases, visits and reviews, the same at every run.
//!
//! Knows no log; makes keys and JSON.

use std::fmt::Write as _;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::interaction::Timestamp;

const WORDS: [&str; 48] = [
    "i",
    "you",
    "the",
    "order",
    "is",
    "late",
    "again",
    "please",
    "help",
    "me",
    "with",
    "my",
    "refund",
    "thanks",
    "great",
    "service",
    "never",
    "broken",
    "it",
    "was",
    "delivered",
    "yesterday",
    "cannot",
    "log",
    "in",
    "to",
    "account",
    "cancel",
    "this",
    "flight",
    "and",
    "book",
    "another",
    "what",
    "about",
    "price",
    "wrong",
    "size",
    "happy",
    "very",
    "slow",
    "answer",
    "我",
    "要",
    "退货",
    "很",
    "满意",
    "谢谢",
];

/// What every interaction begins with; its number follows.
const BEGIN: &str = "{\"id\":\"i";

/// Number of an interaction that a feed made.
pub fn number(json: &[u8]) -> u64 {
    let digits = json.get(BEGIN.len()..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit());
    digits.fold(0, |n, digit| 10 * n + u64::from(digit - b'0'))
}

pub struct Feed {
    random: SmallRng,
    customers: u32,
    number: u64,
}

impl Feed {
    pub fn new(customers: u32) -> Self {
        Self { random: SmallRng::seed_from_u64(1), customers, number: 0 }
    }

    /// Number of the next interaction.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next `n` interactions, keyed by customer.
    pub fn next(&mut self, n: usize) -> Vec<(Box<str>, Vec<u8>)> {
        (0..n).map(|_| self.one()).collect()
    }

    fn one(&mut self) -> (Box<str>, Vec<u8>) {
        let customer = format!("c{}", self.random.random_range(0..self.customers));
        let at = Timestamp(1_767_225_600_000_000 + self.number as i64 * 250_000);
        let mut json = format!("{BEGIN}{}\",\"customer_id\":\"{customer}\",\"occurred_at\":\"{at}\"", self.number);
        self.number += 1;
        // Writing to a string cannot fail.
        let _ = match self.random.random_range(0..10) {
            0 => write!(json, ",\"kind\":\"purchase\",\"amount\":{},\"currency\":\"EUR\"", self.random.random_range(5..200)),
            1 => write!(json, ",\"kind\":\"visit\""),
            2 => write!(json, ",\"kind\":\"review\",\"rating\":{},\"text\":\"{}\"", self.random.random_range(1..=5), self.text()),
            n => write!(
                json,
                ",\"kind\":\"message\",\"actor\":\"{}\",\"text\":\"{}\"",
                if n < 6 { "agent" } else { "customer" },
                self.text()
            ),
        };
        json.push('}');
        (customer.into(), json.into_bytes())
    }

    /// 4 to 24 words.
    fn text(&mut self) -> String {
        let words: Vec<&str> = (0..self.random.random_range(4..=24)).map(|_| WORDS[self.random.random_range(0..WORDS.len())]).collect();
        words.join(" ")
    }
}
