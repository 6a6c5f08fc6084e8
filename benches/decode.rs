//! Decoding of one record of about 300 bytes, beside what `serde_json` takes to read it into a `Value` without any validation.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rapport::interaction::{DecodeOptions, Timestamp, decode};

const RECORD: &[u8] = br#"{"id":"mdg-0001-000017","customer_id":"c-00042","occurred_at":"2026-11-23T09:30:00.250Z","kind":"message","actor":"customer","conversation_id":"mdg-0001","channel":"chat","language":"en","text":"I have been waiting for my refund for two weeks now and nobody answers, this is really getting annoying."}"#;

fn bench(c: &mut Criterion) {
    let options = DecodeOptions { key: Some(Some(b"c-00042")), logged_at: Some(Timestamp(1_795_426_200_000_000)) };
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Bytes(RECORD.len() as u64));
    group.bench_function("validated", |b| b.iter(|| decode(black_box(RECORD), options)));
    group.bench_function("serde_json::Value", |b| b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(RECORD))));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
