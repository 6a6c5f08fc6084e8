//! A running service over HTTP: where it is, and what it answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use ureq::http::{Request, Response};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

use super::usage;
use crate::config::Config;
use crate::log::Stream;

/// Records asked for at once.
pub const PAGE: usize = 1_000;

/// Where a running service is.
#[derive(Debug, Clone, clap::Args)]
pub struct Service {
    /// Address of the service, such as http://127.0.0.1:8080; wins over the configuration, Kafka included.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Its token, where it wants one; else http.token of the configuration (RAPPORT_HTTP_TOKEN).
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// PEM file of the authority that signed the service's certificate, where the public ones did not.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// The service did not answer, or not now.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Away(String);

pub struct Client {
    agent: ureq::Agent,
    url: String,
    authorization: Option<String>,
}

/// Records of an output, one a line, and the offset to go on at.
pub struct Page {
    pub lines: Vec<u8>,
    pub next: i64,
}

/// What a service said.
pub struct Answer {
    pub code: u16,
    pub body: Vec<u8>,
    next: Option<i64>,
}

impl Answer {
    /// Its message where it is an error.
    pub fn message(&self) -> String {
        let message = serde_json::from_slice::<serde_json::Value>(&self.body).ok().and_then(|v| Some(v.get("error")?.as_str()?.to_owned()));
        message.unwrap_or_else(|| "no reason given".into())
    }
}

impl Client {
    /// # Errors
    /// Usage errors that name the flag.
    pub fn new(service: &Service, config: &Config) -> anyhow::Result<Self> {
        let configured = || format!("{}://{}", if config.http.tls.is_some() { "https" } else { "http" }, reachable(config.http.bind));
        let url = service.url.clone().unwrap_or_else(configured);
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(usage(format!("--url {url:?} must begin with http:// or https://")));
        }
        let mut tls = TlsConfig::builder();
        if let Some(file) = &service.ca {
            let pem = std::fs::read(file).map_err(|e| usage(format!("--ca {:?} cannot be read: {e}", file.display().to_string())))?;
            let certs: Vec<Certificate> = ureq::tls::parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(cert)) => Some(cert),
                    _ => None,
                })
                .collect();
            if certs.is_empty() {
                return Err(usage(format!("--ca {:?} holds no certificate; it must be a PEM file", file.display().to_string())));
            }
            tls = tls.root_certs(RootCerts::new_with_certs(&certs));
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .tls_config(tls.build())
            .build()
            .new_agent();
        let token = service.token.clone().or_else(|| config.http.token.clone());
        Ok(Self { agent, url: url.trim_end_matches('/').to_owned(), authorization: token.map(|token| format!("Bearer {token}")) })
    }

    /// Records of an output; `position` is `from=OFFSET` or `last=N`.
    ///
    /// # Errors
    /// [`Away`], or an answer that is none of this service.
    pub fn page(&self, stream: Stream, position: &str) -> anyhow::Result<Page> {
        let path = format!("/v1/{}?{position}&limit={PAGE}", stream.name());
        let answer = self.ask("GET", &path, &[])?;
        let url = &self.url;
        match (answer.code, answer.next) {
            (200, Some(next)) => Ok(Page { lines: answer.body, next }),
            (200, None) => anyhow::bail!("{url} is no rapport service: its answer has no x-next-offset"),
            (503, _) => Err(Away(self.refusal(&path, &answer)).into()),
            _ => Err(anyhow::anyhow!(self.refusal(&path, &answer))).context("cannot follow"),
        }
    }

    /// What it says to one request, whatever that is.
    ///
    /// # Errors
    /// [`Away`].
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let url = format!("{}{path}", self.url);
        let mut request = Request::builder().method(method).uri(&url).header("accept", "application/x-ndjson");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let sent = match method {
            "POST" => self.agent.run(request.body(body).map_err(|e| usage(format!("--url {:?}: {e}", self.url)))?),
            _ => self.agent.run(request.body(()).map_err(|e| usage(format!("--url {:?}: {e}", self.url)))?),
        };
        let mut response: Response<ureq::Body> =
            sent.map_err(|e| Away(format!("cannot reach {url}: {e}; is `rapport serve` running there?")))?;
        let code = response.status().as_u16();
        let next = response.headers().get("x-next-offset").and_then(|v| v.to_str().ok()?.parse().ok());
        let body = response.body_mut().with_config().limit(u64::MAX).read_to_vec().map_err(|e| Away(format!("{url} broke off: {e}")))?;
        Ok(Answer { code, body, next })
    }

    /// An answer other than success, in words.
    pub fn refusal(&self, path: &str, answer: &Answer) -> String {
        format!("{}{path} answered {}: {}", self.url, answer.code, answer.message())
    }
}

/// Where a service that listens at `bind` is reached from this machine.
fn reachable(bind: SocketAddr) -> SocketAddr {
    match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bind.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), bind.port()),
        _ => bind,
    }
}
