//! Keys and values of the embedded log as bytes. Numbers in keys are big-endian, so that they sort; in values little-endian.
//!
//! Knows no database.

use crate::interaction::Timestamp;
use crate::log::{Delivered, Output, Partition, Record};

/// Key of an input record: partition, offset.
pub fn input_key(partition: Partition, offset: i64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&partition.to_be_bytes());
    key[4..].copy_from_slice(&offset.to_be_bytes());
    key
}

pub fn input_offset(key: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(key.get(4..12)?.try_into().ok()?))
}

/// Key of an output: its offset.
pub fn output_offset(key: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(key.try_into().ok()?))
}

/// Key of a customer's state: partition, customer.
pub fn state_key(partition: Partition, customer_id: &str) -> Vec<u8> {
    [&partition.to_be_bytes(), customer_id.as_bytes()].concat()
}

/// Key of a partition's committed offset, beside the other facts about the log.
pub fn committed_key(partition: Partition) -> Vec<u8> {
    [b"committed/".as_slice(), &partition.to_be_bytes()].concat()
}

pub fn encode_input(key: Option<&[u8]>, value: &[u8], logged_at: Timestamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + value.len());
    out.extend_from_slice(&logged_at.0.to_le_bytes());
    put_optional(&mut out, key);
    out.extend_from_slice(value);
    out
}

/// `None` where the bytes are no such thing.
pub fn decode_input(partition: Partition, offset: i64, mut bytes: &[u8]) -> Option<Record> {
    let logged_at = Timestamp(i64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?));
    let key = take_optional(&mut bytes)?.map(<[u8]>::to_vec);
    Some(Record { partition, offset, key, value: bytes.to_vec(), logged_at: Some(logged_at) })
}

pub fn encode_output(output: &Output) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + output.value.len());
    out.extend_from_slice(&output.partition.to_le_bytes());
    put_optional(&mut out, output.key.as_deref());
    put_length(&mut out, output.headers.len());
    for (name, value) in &output.headers {
        put_bytes(&mut out, name.as_bytes());
        put_bytes(&mut out, value.as_bytes());
    }
    out.extend_from_slice(&output.value);
    out
}

/// `None` where the bytes are no such thing.
pub fn decode_output(offset: i64, mut bytes: &[u8]) -> Option<Delivered> {
    let b = &mut bytes;
    let partition = Partition::from_le_bytes(take(b, 4)?.try_into().ok()?);
    let key = take_optional(b)?.map(<[u8]>::to_vec);
    let count = take_length(b)?;
    let mut text = || String::from_utf8(take_bytes(b)?.to_vec()).ok();
    let headers = (0..count).map(|_| Some((text()?, text()?))).collect::<Option<_>>()?;
    Some(Delivered { partition, offset, key, value: bytes.to_vec(), headers, logged_at: None })
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    // Nothing that is stored comes near 4 GiB: records end at 1 MiB, and what is longer is rejected before.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put_bytes(out, bytes);
    }
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(n)?;
    *bytes = tail;
    Some(head)
}

fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?) as usize)
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n = take_length(bytes)?;
    take(bytes, n)
}

fn take_optional<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take(bytes, 1)? {
        [0] => Some(None),
        [1] => Some(Some(take_bytes(bytes)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn inputs_round_trip(key in proptest::option::of(any::<Vec<u8>>()), value: Vec<u8>, at: i64, p: Partition, o: i64) {
            let r = decode_input(p, o, &encode_input(key.as_deref(), &value, Timestamp(at))).unwrap();
            prop_assert_eq!((r.partition, r.offset, r.key, r.value, r.logged_at), (p, o, key, value, Some(Timestamp(at))));
        }

        #[test]
        fn outputs_round_trip(key in proptest::option::of(any::<Vec<u8>>()), value: Vec<u8>, h: Vec<String>, p: Partition, o: i64) {
            let headers: Vec<_> = h.iter().map(|v| ("rapport.topic", v.clone())).collect();
            let d = decode_output(o, &encode_output(&Output { partition: p, key: key.clone(), value: value.clone(), headers })).unwrap();
            let headers: Vec<_> = h.into_iter().map(|v| ("rapport.topic".to_string(), v)).collect();
            prop_assert_eq!((d.partition, d.offset, d.key, d.value, d.headers), (p, o, key, value, headers));
        }

        #[test]
        fn keys_sort_as_numbers_do(a in (0..i32::MAX, 0..i64::MAX), b in (0..i32::MAX, 0..i64::MAX)) {
            prop_assert_eq!(input_key(a.0, a.1).cmp(&input_key(b.0, b.1)), a.cmp(&b));
            prop_assert_eq!(input_offset(&input_key(a.0, a.1)), Some(a.1));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = (decode_input(0, 0, &bytes), decode_output(0, &bytes));
        }
    }
}
