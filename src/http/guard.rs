//! What stands before every route: who may call, and what is counted of the call.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use super::{console, ingest};

/// What is read of the body of a request that is refused, and for how long.
const DRAIN_BYTES: usize = 1 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The bearer token that callers must send, kept as a digest so that a comparison takes the same time whatever was sent.
#[derive(Clone)]
pub(super) struct Token([u8; 32]);

impl Token {
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    fn matches(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return false };
        let Some((scheme, sent)) = value.as_bytes().split_at_checked("bearer ".len()) else { return false };
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return false;
        }
        let sent: [u8; 32] = Sha256::digest(sent.trim_ascii()).into();
        self.0.iter().zip(sent).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

/// Lets a request through to its route, or answers in its place; counts it either way.
pub(super) async fn guard(State(token): State<Arc<Option<Token>>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = route(request.uri().path());
    let admitted = admit(token.as_ref().as_ref(), &request);
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(problem) if request.method() == Method::POST => {
            // A connection whose body nobody reads is closed, and the answer may be lost with it.
            let _ = tokio::time::timeout(DRAIN_TIME, ingest::read(request.into_body(), DRAIN_BYTES)).await;
            problem.into_response()
        }
        // A browser cannot send a token with its first request: the page that asks for one takes the place of the message.
        Err(problem) if problem.code == StatusCode::UNAUTHORIZED && route == "/" => {
            let mut page = console::page().into_response();
            *page.status_mut() = StatusCode::UNAUTHORIZED;
            page.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            page
        }
        Err(problem) => problem.into_response(),
    };
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    crate::metrics::http_request(route, response.status().as_u16(), started.elapsed());
    response
}

fn admit(token: Option<&Token>, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return Ok(());
    }
    match token {
        Some(token) if !token.matches(headers) => {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "send the token of this service as `Authorization: Bearer TOKEN`"));
        }
        Some(_) => {}
        // Without a token only this machine may call; a web page that rebinds its own name to 127.0.0.1 is not this machine.
        None if !names_loopback(headers.get(header::HOST)) => {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "the Host header must be localhost or a loopback address; to serve other names set http.token",
            ));
        }
        None => {}
    }
    let fetched_elsewhere = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    let from_elsewhere =
        fetched_elsewhere || headers.get(header::ORIGIN).is_some_and(|origin| !is_of_host(origin, headers.get(header::HOST)));
    if request.method() != Method::GET && request.method() != Method::HEAD && from_elsewhere {
        return Err(Problem::new(StatusCode::FORBIDDEN, "a web page of another origin may not write here"));
    }
    Ok(())
}

/// Whether an Origin header names the host that was called. A request without a host came from no browser.
fn is_of_host(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), host.map(HeaderValue::to_str)) else { return false };
    origin.split_once("://").is_some_and(|(_, name)| name.eq_ignore_ascii_case(host))
}

/// Whether a Host header, port or not, is `localhost` or a loopback address. HTTP/1.0 clients send none, and browsers always do.
fn names_loopback(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The pattern of the route that serves a path: a closed set, as metric labels must be.
fn route(path: &str) -> &'static str {
    match path {
        "/" => "/",
        "/metrics" => "/metrics",
        "/healthz" => "/healthz",
        "/readyz" => "/readyz",
        "/v1/interactions" => "/v1/interactions",
        "/v1/scores" => "/v1/scores",
        "/v1/alerts" => "/v1/alerts",
        "/v1/dead-letters" => "/v1/dead-letters",
        "/v1/scores-shadow" => "/v1/scores-shadow",
        _ if path.starts_with("/v1/customers/") => "/v1/customers/{id}",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_token_matches() {
        let token = Token::new("correct horse");
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            token.matches(&headers)
        };
        assert!(with("Bearer correct horse"));
        assert!(with("bearer correct horse"));
        for wrong in ["", "Bearer", "Bearer ", "Bearer correct hors", "Bearer correct horse2", "Basic correct horse", "correct horse"] {
            assert!(!with(wrong), "{wrong:?}");
        }
        assert!(!token.matches(&HeaderMap::new()));
    }

    #[test]
    fn an_origin_is_of_its_host_alone() {
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        let host = header("localhost:8080");
        for (origin, yes) in
            [("http://localhost:8080", true), ("http://evil.example", false), ("http://localhost:8081", false), ("null", false)]
        {
            assert_eq!(is_of_host(&header(origin), Some(&host)), yes, "{origin}");
        }
    }

    #[test]
    fn loopback_names() {
        for (host, yes) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("127.0.0.1:8080", true),
            ("127.9.9.9", true),
            ("[::1]:8080", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(names_loopback(Some(&HeaderValue::from_str(host).unwrap())), yes, "{host:?}");
        }
        assert!(names_loopback(None));
    }
}
