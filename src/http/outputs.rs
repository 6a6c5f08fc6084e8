//! Reading outputs back: scores and dead letters as JSON Lines, alerts as server-sent events.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::problem::Problem;
use super::server::App;
use crate::log::{Delivered, Gateway, Stream};

const DEFAULT_LIMIT: usize = 1_000;
/// An answer ends with the record that passes this many bytes; `x-next-offset` says where to go on.
const MAX_ANSWER_BYTES: usize = 8 << 20;
const MAX_LIMIT: usize = 10_000;
/// Pause between looks for new alerts.
const LOOK: Duration = Duration::from_millis(250);
/// A comment is sent after this much silence, so that proxies keep the connection and a lost reader is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const JSON_LINES: &str = "application/x-ndjson";
/// Header with the offset to go on from.
const NEXT_OFFSET: &str = "x-next-offset";

/// An output as one line of JSON, without the line break: a score or alert as published, a dead letter with the key and bytes that were refused
/// and the headers that say why and from where.
pub fn shown(stream: Stream, record: &Delivered) -> Cow<'_, [u8]> {
    if stream != Stream::DeadLetters {
        return Cow::Borrowed(&record.value);
    }
    let headers: serde_json::Map<_, _> = record.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let line = serde_json::json!({
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key.as_deref().map(String::from_utf8_lossy),
        "headers": headers,
        // As UTF-8, what is none replaced.
        "raw": String::from_utf8_lossy(&record.value),
        "logged_at": record.logged_at,
    });
    Cow::Owned(line.to_string().into_bytes())
}

/// Where to read, from the query string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: Option<Start>,
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// From this offset on.
    From(i64),
    /// From so many records before the end.
    Last(i64),
}

impl Range {
    /// Reads `from=OFFSET` or `last=N`, and `limit=N`. Anything else is an error, so that a misspelt name does not pass for none.
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut range = Self { start: None, limit: DEFAULT_LIMIT };
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || {
                value
                    .parse::<i64>()
                    .ok()
                    .filter(|n| *n >= 0)
                    .ok_or_else(|| Problem::bad_request(format!("{name}={value}: must be a whole number from 0 on")))
            };
            match name {
                "from" | "last" if range.start.is_some() => {
                    return Err(Problem::bad_request("give one of `from` and `last`, once"));
                }
                "from" => range.start = Some(Start::From(number()?)),
                "last" => range.start = Some(Start::Last(number()?)),
                "limit" => {
                    range.limit = usize::try_from(number()?)
                        .ok()
                        .filter(|n| (1..=MAX_LIMIT).contains(n))
                        .ok_or_else(|| Problem::bad_request(format!("limit={value}: must be from 1 to {MAX_LIMIT}")))?;
                }
                _ => return Err(Problem::bad_request(format!("unknown parameter {name:?}; there are from, last and limit"))),
            }
        }
        Ok(range)
    }
}

impl Start {
    fn offset(self, gateway: &dyn Gateway, stream: Stream) -> Result<i64, Problem> {
        match self {
            Self::From(offset) => Ok(offset),
            Self::Last(n) => Ok(gateway.end(stream).map_err(Problem::unreadable)?.saturating_sub(n).max(0)),
        }
    }
}

/// `GET /v1/scores?from=OFFSET`: score records, one a line, and where to go on in `x-next-offset`.
pub(super) async fn scores(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    lines(app, Stream::Scores, query).await
}

/// `GET /v1/scores-shadow?from=OFFSET`: the scores of a challenger in shadow, as [`scores`].
pub(super) async fn scores_shadow(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    lines(app, Stream::ScoresShadow, query).await
}

/// `GET /v1/dead-letters?from=OFFSET`: `{"partition","offset","key","headers","raw"}`, one a line.
pub(super) async fn dead_letters(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    lines(app, Stream::DeadLetters, query).await
}

async fn lines(app: Arc<App>, stream: Stream, query: Option<String>) -> Result<Response, Problem> {
    let range = Range::parse(query.as_deref())?;
    blocking(move || {
        let gateway = &*app.gateway;
        let from = range.start.unwrap_or(Start::From(0)).offset(gateway, stream)?;
        let records = gateway.read(stream, from, range.limit).map_err(Problem::unreadable)?;
        let mut next = from;
        let mut body = Vec::new();
        for record in &records {
            body.extend_from_slice(&shown(stream, record));
            body.push(b'\n');
            next = record.offset + 1;
            if body.len() > MAX_ANSWER_BYTES {
                break;
            }
        }
        Ok(([(header::CONTENT_TYPE.as_str(), JSON_LINES.to_owned()), (NEXT_OFFSET, next.to_string())], body).into_response())
    })
    .await
}

/// `GET /v1/alerts`: one server-sent event per alert transition, its id the offset. Goes on after `Last-Event-ID`, from `from`, `last` before the end, or
/// with what is new. To `Accept: application/x-ndjson` it answers as [`scores`] does.
pub(super) async fn alerts(State(app): State<Arc<App>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    if headers.get(header::ACCEPT).is_some_and(|accept| accept == JSON_LINES) {
        return lines(app, Stream::Alerts, query).await;
    }
    let range = Range::parse(query.as_deref())?;
    let start = match headers.get("last-event-id") {
        // A browser that reconnects repeats its first address: what it has seen since counts more.
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.parse::<i64>().ok()).filter(|id| *id >= 0);
            Start::From(
                id.ok_or_else(|| Problem::bad_request("Last-Event-ID must be the id of an event of this stream"))?.saturating_add(1),
            )
        }
        None => range.start.unwrap_or(Start::Last(0)),
    };
    let from = {
        let app = app.clone();
        // One record read in vain here tells a backend that keeps no outputs, while a status code can still say so.
        blocking(move || {
            let from = start.offset(&*app.gateway, Stream::Alerts)?;
            app.gateway.read(Stream::Alerts, from, 1).map_err(Problem::unreadable)?;
            Ok(from)
        })
        .await?
    };
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(follow(app, from, sender));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, std::convert::Infallible>))).into_response())
}

/// Sends alerts from `from` on until the reader goes away or the server stops.
async fn follow(app: Arc<App>, mut from: i64, sender: mpsc::Sender<String>) {
    let mut stop = app.stop.clone();
    // At once, so that the reader sees the stream open.
    let mut text = ": open\n\n".to_owned();
    let mut silent = Duration::ZERO;
    loop {
        if !text.is_empty() {
            silent = Duration::ZERO;
            if sender.send(std::mem::take(&mut text)).await.is_err() {
                return;
            }
        }
        let gateway = app.gateway.clone();
        let read = blocking(move || Ok(gateway.read(Stream::Alerts, from, 256)?)).await;
        match read {
            Ok(records) if records.is_empty() => {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => silent += LOOK,
                    _ = stop.changed() => return,
                    () = sender.closed() => return,
                }
                if silent >= KEEP_ALIVE {
                    text.push_str(": alive\n\n");
                }
            }
            Ok(records) => {
                for record in &records {
                    from = record.offset + 1;
                    event(&mut text, record.offset, &String::from_utf8_lossy(&record.value));
                }
            }
            Err(problem) => {
                // The reader connects again with the last id it saw.
                tracing::warn!(error = problem.message, "an alert stream ended");
                return;
            }
        }
        if *stop.borrow() {
            return;
        }
    }
}

/// One event; a line break inside the data would end it early, so each line of the data is a line of its own.
fn event(out: &mut String, id: i64, data: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "id: {id}\nevent: alert");
    for line in data.split(['\r', '\n']) {
        let _ = writeln!(out, "data: {line}");
    }
    out.push('\n');
}

/// Runs what waits for disk or broker where it holds up no other request.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("reading the log failed: {e}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let parse = |q: &str| Range::parse(Some(q)).map_err(|p| p.message);
        assert_eq!(parse(""), Ok(Range { start: None, limit: DEFAULT_LIMIT }));
        assert_eq!(parse("from=12&limit=5"), Ok(Range { start: Some(Start::From(12)), limit: 5 }));
        assert_eq!(parse("last=3"), Ok(Range { start: Some(Start::Last(3)), limit: DEFAULT_LIMIT }));
        for (query, word) in [
            ("from=-1", "from=-1"),
            ("from=", "from="),
            ("from=1e3", "from=1e3"),
            ("from=99999999999999999999", "from=9"),
            ("from=1&from=2", "once"),
            ("from=1&last=2", "one of"),
            ("limit=0", "limit=0"),
            ("limit=10001", "10000"),
            ("form=1", "form"),
        ] {
            let message = parse(query).unwrap_err();
            assert!(message.contains(word), "{query}: {message}");
        }
    }

    #[test]
    fn an_event_with_line_breaks_stays_one_event() {
        let mut out = String::new();
        event(&mut out, 7, "{\n}");
        assert_eq!(out, "id: 7\nevent: alert\ndata: {\ndata: }\n\n");
    }
}
