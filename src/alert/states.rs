//! What policies remember of one customer, and its stored form. Knows policies by their keys alone.

use crate::interaction::Timestamp;

/// The part of a customer's state that policies own. Empty for a customer who never came near an alert.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AlertStates {
    pub(super) open: Option<Episode>,
    /// Policies that must not raise yet, each once.
    pub(super) cooling: Vec<Cooling>,
}

/// An alert that was raised and is not resolved.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Episode {
    pub id: [u8; 16],
    /// Escalated, or critical from the start.
    pub critical: bool,
    /// Interactions that moved alerts since the raising one.
    pub interactions: u32,
    /// Where the owner is a `rating_low`: when the last low rating was given; `None` after a better one.
    pub low_rating_at: Option<Timestamp>,
    /// Keys of the owner and of the policies that joined it.
    pub owner: u32,
    pub joined: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cooling {
    pub policy: u32,
    /// When its episode ended.
    pub since: Timestamp,
}

const OPEN: u8 = 1;
const CRITICAL: u8 = 2;
const LOW_RATING: u8 = 4;

/// Stored form, little-endian: flags u8; number of cooling policies u8, each key u32 and time i64; where open, id [16], interactions u32,
/// owner u32, number joined u8, each u32, and with `LOW_RATING` its time i64. A customer without anything takes two bytes.
impl AlertStates {
    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.cooling.is_empty()
    }

    /// Appends the stored form (versioned by the customer state that it is part of).
    pub fn encode(&self, out: &mut Vec<u8>) {
        // A configuration has at most 64 policies, so neither list can be longer than a u8 counts.
        let cooling = &self.cooling[..self.cooling.len().min(255)];
        let flags = self
            .open
            .as_ref()
            .map_or(0, |e| OPEN | if e.critical { CRITICAL } else { 0 } | if e.low_rating_at.is_some() { LOW_RATING } else { 0 });
        out.extend([flags, cooling.len() as u8]);
        for c in cooling {
            out.extend(c.policy.to_le_bytes());
            out.extend(c.since.0.to_le_bytes());
        }
        if let Some(e) = &self.open {
            let joined = &e.joined[..e.joined.len().min(255)];
            out.extend(e.id);
            out.extend(e.interactions.to_le_bytes());
            out.extend(e.owner.to_le_bytes());
            out.push(joined.len() as u8);
            joined.iter().for_each(|k| out.extend(k.to_le_bytes()));
            e.low_rating_at.iter().for_each(|t| out.extend(t.0.to_le_bytes()));
        }
    }

    /// Reads what [`Self::encode`] wrote and advances `input` past it; `None` where the bytes are no such thing.
    pub fn decode(input: &mut &[u8]) -> Option<Self> {
        fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
            let (head, rest) = input.split_first_chunk()?;
            *input = rest;
            Some(*head)
        }
        let time = |input: &mut &[u8]| Some(Timestamp(i64::from_le_bytes(take(input)?)));
        let key = |input: &mut &[u8]| Some(u32::from_le_bytes(take(input)?));

        let [flags, cooling] = take(input)?;
        if flags > OPEN | CRITICAL | LOW_RATING || (flags & OPEN == 0 && flags != 0) {
            return None;
        }
        let cooling = (0..cooling).map(|_| Some(Cooling { policy: key(input)?, since: time(input)? })).collect::<Option<_>>()?;
        let open = if flags & OPEN == 0 {
            None
        } else {
            let (id, interactions, owner) = (take(input)?, key(input)?, key(input)?);
            let [joined] = take(input)?;
            let joined = (0..joined).map(|_| key(input)).collect::<Option<_>>()?;
            let low_rating_at = if flags & LOW_RATING == 0 { None } else { Some(time(input)?) };
            Some(Episode { id, critical: flags & CRITICAL != 0, interactions, low_rating_at, owner, joined })
        };
        Some(Self { open, cooling })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(states: &AlertStates) -> String {
        let mut out = Vec::new();
        states.encode(&mut out);
        out.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn full() -> AlertStates {
        AlertStates {
            open: Some(Episode {
                id: [0xab; 16],
                critical: true,
                interactions: 7,
                low_rating_at: Some(Timestamp(1_000_000)),
                owner: 0x0102_0304,
                joined: vec![5],
            }),
            cooling: vec![Cooling { policy: 9, since: Timestamp(-1) }],
        }
    }

    /// A change of these bytes needs a new version of the stored customer state.
    #[test]
    fn stored_form_stays() {
        assert_eq!(hex(&AlertStates::default()), "0000");
        let cooling = "09000000ffffffffffffffff";
        let open = format!("{}{}{}{}{}", "ab".repeat(16), "07000000", "04030201", "0105000000", "40420f0000000000");
        assert_eq!(hex(&full()), format!("0701{cooling}{open}"));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let mut bytes = Vec::new();
        full().encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(AlertStates::decode(&mut &bytes[..cut]), None, "cut at {cut}");
        }
        for flags in [2, 4, 6, 8, 0xff] {
            bytes[0] = flags;
            assert_eq!(AlertStates::decode(&mut &bytes[..]), None, "flags {flags}");
        }
    }

    prop_compose! {
        fn states()(
            id: [u8; 16], critical: bool, interactions: u32, low: Option<i64>, owner: u32,
            joined in prop::collection::vec(any::<u32>(), 0..64),
            open: bool,
            cooling in prop::collection::vec(any::<(u32, i64)>(), 0..64),
        ) -> AlertStates {
            AlertStates {
                open: open.then_some(Episode { id, critical, interactions, low_rating_at: low.map(Timestamp), owner, joined }),
                cooling: cooling.into_iter().map(|(policy, t)| Cooling { policy, since: Timestamp(t) }).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_stored_reads_back(states in states(), rest: Vec<u8>) {
            let mut bytes = Vec::new();
            states.encode(&mut bytes);
            bytes.extend(&rest);
            let mut input = &bytes[..];
            prop_assert_eq!(AlertStates::decode(&mut input), Some(states));
            prop_assert_eq!(input, &rest[..]);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            AlertStates::decode(&mut &bytes[..]);
        }
    }
}
