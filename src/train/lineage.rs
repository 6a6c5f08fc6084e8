//! Where a bundle comes from: the data that was read, as a hash, and the code that read it.
//!
//! Knows recordings; nothing of files, hosts or clocks.

use sha2::{Digest, Sha256};

use super::record::{Customer, Labels, Recording};
use crate::customer::Item;
use crate::model::hex;

/// Version of this program and a hash of its sources, as the build found them.
pub const CODE: &str = concat!(env!("CARGO_PKG_VERSION"), "+src.", env!("RAPPORT_SOURCES"));

/// SHA-256 over all that a model may see of the accepted interactions and their labels: customers in order of first appearance, each one's
/// interactions in order of arrival. The same data has the same hash whatever the files that hold it.
pub fn data_hash(recording: &Recording) -> String {
    let mut hasher = Sha256::new();
    number(&mut hasher, recording.until.map_or(-1, |t| t.0));
    for Customer { id, items, labels } in &recording.customers {
        text(&mut hasher, id);
        number(&mut hasher, items.len() as i64);
        for (item, labels) in items.iter().zip(labels) {
            add(&mut hasher, item, labels);
        }
    }
    hex(&hasher.finalize())
}

fn add(hasher: &mut Sha256, item: &Item, labels: &Labels) {
    let Item {
        id,
        occurred_at,
        actor,
        kind,
        channel,
        language,
        category,
        item,
        conversation,
        amount,
        quantity,
        rating,
        tokens,
        length,
        distinct: _,
        marks,
    } = item;
    text(hasher, id);
    number(hasher, occurred_at.0);
    hasher.update([*actor as u8, *marks]);
    [kind, channel, language, category, item, conversation, length].into_iter().for_each(|n| hasher.update(n.to_le_bytes()));
    [amount, quantity, rating].into_iter().for_each(|x| real(hasher, *x));
    number(hasher, tokens.len() as i64);
    tokens.iter().for_each(|t| hasher.update(t.to_le_bytes()));
    // No rating is 0.
    real(hasher, labels.satisfaction.unwrap_or(0.0));
    number(hasher, labels.classes.len() as i64);
    for (task, class) in &labels.classes {
        text(hasher, task);
        text(hasher, class);
    }
}

/// With its length, so that none runs into the next.
fn text(hasher: &mut Sha256, text: &str) {
    number(hasher, text.len() as i64);
    hasher.update(text);
}

fn number(hasher: &mut Sha256, number: i64) {
    hasher.update(number.to_le_bytes());
}

/// Absent numbers are the same NaN.
fn real(hasher: &mut Sha256, x: f32) {
    hasher.update(if x.is_nan() { f32::NAN } else { x }.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::{Actor, Timestamp};
    use crate::train::future::timeline::tests::customer;

    fn recording() -> Recording {
        let rows = [("2026-01-01T10:00:00Z", r#""kind":"message","text":"late again""#), ("2026-01-02T10:00:00Z", r#""kind":"visit""#)];
        let mut customers = vec![customer("a", &rows), customer("b", &rows[..1])];
        customers[0].labels[0].classes.insert("intent".into(), "refund".into());
        customers[1].labels[0].satisfaction = Some(2.0);
        Recording { customers, ..Recording::default() }
    }

    #[test]
    fn whatever_is_read_changes_the_hash() {
        let item: [fn(&mut Item); 15] = [
            |i| i.id = "other".into(),
            |i| i.occurred_at.0 += 1,
            |i| i.actor = Actor::Agent,
            |i| i.kind += 1,
            |i| i.channel += 1,
            |i| i.language += 1,
            |i| i.category += 1,
            |i| i.item += 1,
            |i| i.conversation += 1,
            |i| i.amount = 0.0,
            |i| i.quantity = 0.0,
            |i| i.rating = 1.0,
            |i| i.tokens = [5].into(),
            |i| i.length += 1,
            |i| i.marks += 1,
        ];
        let whole: [fn(&mut Recording); 8] = [
            |r| r.customers[0].id = "c".into(),
            |r| r.customers.swap(0, 1),
            |r| r.customers[0].items.swap(0, 1),
            |r| r.customers.truncate(1),
            |r| r.until = Some(Timestamp(5)),
            |r| r.customers[1].labels[0].satisfaction = None,
            |r| r.customers[0].labels[0].classes.clear(),
            |r| {
                r.customers[0].labels.swap(0, 1);
            },
        ];
        let change = |change: &dyn Fn(&mut Recording)| {
            let mut changed = recording();
            change(&mut changed);
            data_hash(&changed)
        };
        let mut all = vec![data_hash(&recording())];
        all.extend(item.iter().map(|by| change(&|r: &mut Recording| by(&mut r.customers[0].items[0]))));
        all.extend(whole.iter().map(|by| change(&|r: &mut Recording| by(r))));
        assert_eq!(all[0], data_hash(&recording()));
        let different: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(different.len(), 1 + item.len() + whole.len());
    }

    #[test]
    fn the_code_is_a_version_and_a_hash_of_its_sources() {
        let (version, hash) = CODE.split_once("+src.").expect("two parts");
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
        assert!(hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
    }
}
