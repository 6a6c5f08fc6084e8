//! `POST /v1/interactions`: JSON Lines in, a durable append, bad lines back to the caller.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio_stream::StreamExt;

use super::problem::Problem;
use super::server::App;
use crate::interaction::{DecodeOptions, Timestamp, decode};

/// Largest body, in bytes.
const MAX_BODY_BYTES: usize = 64 << 20;
/// A body must be whole within this time, so that slow senders do not hold the few places for bodies.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How long a request waits for a place.
const PLACE_TIME: Duration = Duration::from_secs(5);
/// Bad lines that an answer lists; more are only counted.
const MAX_ERRORS: usize = 10_000;

#[derive(Debug, Serialize)]
struct Answer {
    accepted: usize,
    errors: Vec<LineError>,
    /// Bad lines beyond those listed.
    #[serde(skip_serializing_if = "is_zero")]
    errors_omitted: usize,
}

#[derive(Debug, PartialEq, Serialize)]
struct LineError {
    /// Counted from 1, empty lines included.
    line: usize,
    class: &'static str,
    message: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde wants
fn is_zero(n: &usize) -> bool {
    *n == 0
}

pub(super) async fn interactions(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    if let Some(reason) = app.status.not_ready() {
        return Err(Problem::unavailable(format!("not ready: {reason}")));
    }
    let too_large = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is over {MAX_BODY_BYTES} bytes; send it in parts"));
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|n| n > MAX_BODY_BYTES as u64) {
        return Err(too_large());
    }
    if let Some(coding) = request.headers().get(header::CONTENT_ENCODING).filter(|c| *c != "identity") {
        let what = format!("content-encoding {coding:?} is not understood; send plain JSON Lines");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what));
    }
    let Ok(Ok(place)) = tokio::time::timeout(PLACE_TIME, app.bodies.clone().acquire_owned()).await else {
        return Err(Problem::unavailable("too many requests at once; send again"));
    };
    let body = tokio::time::timeout(BODY_TIME, read(request.into_body(), MAX_BODY_BYTES))
        .await
        .map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {} s", BODY_TIME.as_secs())))?
        .map_err(|e| Problem::bad_request(format!("the body broke off: {e}")))?
        .ok_or_else(too_large)?;

    let gateway = app.gateway.clone();
    let answer = tokio::task::spawn_blocking(move || {
        // Held until the append is done, even where the caller has gone: places bound the memory.
        let _place = place;
        let (records, mut answer) = split(&body);
        drop(body);
        answer.accepted = records.len();
        if !records.is_empty() {
            gateway.append(records)?;
        }
        Ok::<_, Problem>(answer)
    })
    .await
    .map_err(|e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the append failed: {e}")))??;
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// The whole body, `None` where it is over `limit`.
pub(super) async fn read(body: Body, limit: usize) -> Result<Option<Vec<u8>>, axum::Error> {
    let mut chunks = body.into_data_stream();
    let mut all = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if all.len() + chunk.len() > limit {
            return Ok(None);
        }
        all.extend_from_slice(&chunk);
    }
    Ok(Some(all))
}

/// A record's key and its bytes as sent.
type Keyed = (Box<str>, Vec<u8>);

/// Good lines as keyed records, bad ones as errors.
fn split(body: &[u8]) -> (Vec<Keyed>, Answer) {
    let now = Timestamp::now();
    let mut records = Vec::new();
    let mut answer = Answer { accepted: 0, errors: Vec::new(), errors_omitted: 0 };
    for (n, line) in body.split(|b| *b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        // No key: the line itself says whose it is, and becomes the key.
        match decode(line, DecodeOptions { key: None, logged_at: Some(now) }) {
            Ok(decoded) => records.push((decoded.interaction.customer_id, line.to_vec())),
            Err(reject) => {
                crate::metrics::refused_line(reject.class);
                if answer.errors.len() == MAX_ERRORS {
                    answer.errors_omitted += 1;
                } else {
                    answer.errors.push(LineError { line: n + 1, class: reject.class.name(), message: reject.message });
                }
            }
        }
    }
    (records, answer)
}
