//! Objects in S3, or in what speaks its protocol: one client for the archive, which writes them, and for the commands that read files.
//!
//! Credentials and place come from the environment (`AWS_…`). Knows objects as bytes.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, RetryConfig};
use tokio_stream::StreamExt;

/// Repeats of a failed request; longer failures are the caller's to meet.
const RETRIES: Duration = Duration::from_secs(15);
/// Bytes of one request of [`fetch`]: few enough for a slow line to bring them within a request's time.
const PART: u64 = 8 << 20;

/// Bucket and key (or prefix of keys) of `s3://bucket/key`; `None` where the text is no such thing.
pub fn parse(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("s3://").or_else(|| url.strip_prefix("s3a://"))?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (!bucket.is_empty() && bucket.bytes().all(legal)).then(|| (bucket, key.trim_matches('/')))
}

/// A client of one bucket.
///
/// # Errors
/// An environment that names no usable place or credentials.
pub fn connect(bucket: &str) -> object_store::Result<AmazonS3> {
    // Already there where something else of this process speaks TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig { max_retries: 5, retry_timeout: RETRIES, ..RetryConfig::default() };
    AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry).build()
}

/// Keys below the prefix that `url` names, without the prefix and its `/`.
///
/// # Errors
/// In words, what the URL or the server refuses.
pub fn list(url: &str) -> Result<Vec<String>, String> {
    let (bucket, prefix) = parse(url).ok_or_else(wrong)?;
    let (client, prefix) = (connect(bucket).map_err(words)?, Path::parse(prefix).map_err(words)?);
    let skip = if prefix.as_ref().is_empty() { 0 } else { prefix.as_ref().len() + 1 };
    run(async {
        let (mut keys, mut objects) = (Vec::new(), client.list(Some(&prefix)));
        while let Some(object) = objects.next().await {
            keys.extend(object.map_err(words)?.location.as_ref().get(skip..).map(str::to_owned));
        }
        Ok(keys)
    })
}

/// An object as a file of its own without a name, so that it is gone when it is closed, whatever ends the process. Its size is bounded by the disk
/// that holds temporary files (`TMPDIR`) alone.
///
/// # Errors
/// In words, what the URL, the server or the disk refuses.
pub fn fetch(url: &str) -> Result<File, String> {
    let (bucket, key) = parse(url).ok_or_else(wrong)?;
    let (client, key) = (connect(bucket).map_err(words)?, Path::parse(key).map_err(words)?);
    let mut file = nameless().map_err(|e| format!("no temporary file: {e}"))?;
    run(async {
        let size = client.head(&key).await.map_err(words)?.size;
        let mut at = 0;
        while at < size {
            let part = client.get_range(&key, at..size.min(at + PART)).await.map_err(words)?;
            if part.is_empty() {
                return Err(format!("it ended after {at} of {size} bytes"));
            }
            file.write_all(&part).map_err(|e| format!("the temporary file: {e}"))?;
            at += part.len() as u64;
        }
        Ok(())
    })?;
    file.rewind().map_err(|e| format!("the temporary file: {e}"))?;
    Ok(file)
}

/// Readable by this user alone.
fn nameless() -> std::io::Result<File> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("rapport-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn run<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?.block_on(work)
}

fn wrong() -> String {
    "it must be s3://bucket/prefix".into()
}

fn words(e: impl std::fmt::Display) -> String {
    e.to_string()
}
