//! Segments in plain words: what their customers have done against what all have done.
//!
//! Knows facts and groups; no code, network or clustering.

use std::collections::BTreeMap;

use super::snapshots::Snapshot;

/// What one snapshot shows, in days, counts and money.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Facts {
    pub recency_days: f64,
    pub tenure_days: f64,
    pub visits: f64,
    pub purchases: f64,
    pub amount: f64,
    pub returns: f64,
    /// Interactions in which the customer said something.
    pub talks: f64,
    /// Mean of the customer's own ratings, where there is one.
    pub rating: Option<f64>,
}

impl From<&Snapshot> for Facts {
    fn from(s: &Snapshot) -> Self {
        let c = &s.counters;
        let acted = c.customer_interactions > 0;
        Self {
            recency_days: s.at.days_since(if acted { c.last_by_customer } else { c.last }),
            tenure_days: s.at.days_since(if acted { c.first_visit } else { c.first }),
            visits: f64::from(c.visits),
            purchases: f64::from(c.purchases),
            amount: f64::from(c.amount),
            returns: f64::from(c.returns),
            talks: f64::from(s.talks),
            rating: (c.ratings > 0).then(|| f64::from(c.rating_sum) / f64::from(c.ratings)),
        }
    }
}

/// Means of the facts by name; `rating` and `amount_per_purchase` over those that have one, absent where none has.
pub fn profile(facts: &[Facts]) -> BTreeMap<String, f32> {
    let numbers: [(&str, Number); 9] = [
        ("recency_days", |f| Some(f.recency_days)),
        ("tenure_days", |f| Some(f.tenure_days)),
        ("visits", |f| Some(f.visits)),
        ("purchases", |f| Some(f.purchases)),
        ("amount", |f| Some(f.amount)),
        ("amount_per_purchase", |f| (f.purchases > 0.0).then(|| f.amount / f.purchases)),
        ("returns", |f| Some(f.returns)),
        ("conversations", |f| Some(f.talks)),
        ("rating", |f| f.rating),
    ];
    numbers.iter().filter_map(|(name, of)| Some(((*name).to_owned(), moments(facts, *of)?.0 as f32))).collect()
}

/// Mean and deviation over the facts that have the number.
fn moments(facts: &[Facts], of: impl Fn(&Facts) -> Option<f64>) -> Option<(f64, f64)> {
    let values: Vec<f64> = facts.iter().filter_map(of).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (n > 0.0).then(|| (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt()))
}

/// A number of the facts, where they have it.
type Number = fn(&Facts) -> Option<f64>;
/// What may be true of nearly all of a segment, and the word for it.
type Common = (fn(&Facts) -> bool, &'static str);

/// One way in which segments differ, and the words for it.
struct Axis {
    of: Number,
    /// Words for far below, below, above and far above the whole.
    words: [&'static str; 4],
    /// Takes the place of the other words.
    all: Option<Common>,
}

/// In the order in which a label speaks of them.
const AXES: [Axis; 7] = [
    Axis { of: |f| Some(f.tenure_days.ln_1p()), words: ["new", "recent", "established", "long-standing"], all: None },
    Axis { of: |f| Some(f.recency_days.ln_1p()), words: ["just seen", "active", "lapsing", "lapsed"], all: None },
    Axis {
        of: |f| Some(f.visits.ln_1p()),
        words: ["rare", "infrequent", "regular", "frequent"],
        all: Some((|f| f.visits <= 1.0, "one visit")),
    },
    Axis { of: |f| Some(f.talks.ln_1p()), words: ["hardly chats", "chats little", "chats", "chats a lot"], all: None },
    Axis {
        of: |f| Some(f.amount.ln_1p()),
        words: ["very low value", "low value", "high value", "very high value"],
        all: Some((|f| f.purchases == 0.0, "never bought")),
    },
    Axis {
        of: |f| Some((f.returns / f.purchases.max(1.0)).min(1.0)),
        words: ["hardly returns", "few returns", "some returns", "many returns"],
        all: None,
    },
    Axis { of: |f| f.rating, words: ["very low ratings", "low ratings", "high ratings", "very high ratings"], all: None },
];

/// Deviations of the whole between a segment's mean and the whole's: worth a word, and far.
const WORTH: f64 = 0.25;
const FAR: f64 = 1.0;
/// Words of a label, where they tell it from the others.
const WORDS: usize = 2;
/// "Nearly all".
const NEARLY: f64 = 0.9;

struct Word {
    axis: usize,
    word: &'static str,
    strength: f64,
}

/// Unique labels of the groups that `members` (one per fact) names, `count` many.
pub fn labels(facts: &[Facts], members: &[usize], count: usize) -> Vec<String> {
    let groups: Vec<Vec<Facts>> =
        (0..count).map(|g| facts.iter().zip(members).filter(|(_, m)| **m == g).map(|(f, _)| *f).collect()).collect();
    let words: Vec<Vec<Word>> = groups.iter().map(|group| words(facts, group)).collect();
    let mut lengths: Vec<usize> = words.iter().map(|w| w.iter().filter(|w| w.strength >= WORTH).count().clamp(1, WORDS)).collect();
    loop {
        let labels: Vec<String> = words.iter().zip(&lengths).map(|(words, n)| join(words, *n)).collect();
        let repeats = |i: usize| labels.iter().filter(|l| **l == labels[i]).count() > 1;
        let longer: Vec<usize> = (0..count).filter(|&i| repeats(i) && lengths[i] < words[i].len()).collect();
        if longer.is_empty() {
            return number_equal_ones(labels);
        }
        longer.into_iter().for_each(|i| lengths[i] += 1);
    }
}

/// The words for a group, the most telling first.
fn words(all: &[Facts], group: &[Facts]) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    for (axis, a) in AXES.iter().enumerate() {
        let (Some((mean, deviation)), Some((here, _))) = (moments(all, a.of), moments(group, a.of)) else { continue };
        if deviation < 1e-9 {
            continue;
        }
        let z = (here - mean) / deviation;
        let word = match z {
            z if z <= -FAR => a.words[0],
            z if z < 0.0 => a.words[1],
            z if z < FAR => a.words[2],
            _ => a.words[3],
        };
        let nearly_all = a.all.filter(|(is, _)| group.iter().filter(|f| is(f)).count() as f64 >= NEARLY * group.len() as f64);
        words.push(Word { axis, word: nearly_all.map_or(word, |(_, word)| word), strength: z.abs() });
    }
    words.sort_by(|a, b| b.strength.total_cmp(&a.strength).then(a.axis.cmp(&b.axis)));
    words
}

fn join(words: &[Word], n: usize) -> String {
    let mut chosen: Vec<&Word> = words.iter().take(n).collect();
    chosen.sort_by_key(|w| w.axis);
    let chosen: Vec<&str> = chosen.iter().map(|w| w.word).collect();
    if chosen.is_empty() { "typical".to_owned() } else { chosen.join(", ") }
}

/// Groups that no word tells apart are counted.
fn number_equal_ones(mut labels: Vec<String>) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for label in &mut labels {
        let n = seen.entry(label.clone()).or_default();
        *n += 1;
        if *n > 1 {
            *label = format!("{label} ({n})");
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn facts(recency: f64, tenure: f64, visits: f64, purchases: f64, amount: f64, talks: f64) -> Facts {
        Facts { recency_days: recency, tenure_days: tenure, visits, purchases, amount, talks, ..Facts::default() }
    }

    #[test]
    fn labels_say_what_sets_a_segment_apart() {
        let kinds = [
            facts(300.0, 600.0, 30.0, 30.0, 5000.0, 0.0),
            facts(2.0, 3.0, 1.0, 1.0, 20.0, 0.0),
            facts(5.0, 500.0, 50.0, 50.0, 200.0, 1.0),
            facts(20.0, 100.0, 8.0, 0.0, 0.0, 30.0),
        ];
        let all: Vec<Facts> = kinds.iter().flat_map(|k| vec![*k; 25]).collect();
        let members: Vec<usize> = (0..100).map(|i| i / 25).collect();
        let labels = labels(&all, &members, 4);
        assert_eq!(labels, ["lapsed, very high value", "new, one visit", "established, frequent", "chats a lot, never bought"]);
    }

    #[test]
    fn labels_are_unique_even_where_nothing_differs() {
        let all = vec![facts(1.0, 2.0, 3.0, 1.0, 5.0, 0.0); 30];
        let members: Vec<usize> = (0..30).map(|i| i % 3).collect();
        assert_eq!(labels(&all, &members, 3), ["typical", "typical (2)", "typical (3)"]);
        // A small difference is spoken of where the strong ones are shared.
        let mut all = all;
        for (i, f) in all.iter_mut().enumerate() {
            f.recency_days = if i % 3 == 0 { 1.0 } else { 400.0 };
            f.tenure_days = if i % 3 == 0 { 1.0 } else { 900.0 };
            f.amount += (i % 3) as f64 * 0.01;
        }
        let found = labels(&all, &members, 3);
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 3, "{found:?}");
        assert!(found.iter().all(|l| !l.contains('(')), "{found:?}");
    }

    #[test]
    fn a_profile_leaves_out_what_nobody_has() {
        let mut two = [facts(10.0, 20.0, 2.0, 2.0, 50.0, 0.0), facts(0.0, 0.0, 1.0, 0.0, 0.0, 4.0)];
        let p = profile(&two);
        assert_eq!((p["recency_days"], p["amount"], p["amount_per_purchase"], p["conversations"]), (5.0, 25.0, 25.0, 2.0));
        assert!(!p.contains_key("rating"));
        two[1].rating = Some(4.0);
        assert_eq!(profile(&two)["rating"], 4.0);
    }
}
