//! `rapport tail`: follows an output of a running service.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

use crate::cli::usage;
use crate::config::{Config, LogKind, Overrides};
use crate::http::shown;
use crate::log::Stream;
use crate::log::kafka::{KafkaSettings, Tail};

/// Pause between looks for new records.
const LOOK: Duration = Duration::from_millis(250);
/// With Kafka, no record for this long is the end.
const END: Duration = Duration::from_secs(3);
/// Records asked for at once.
const PAGE: usize = 1_000;

/// Follows scores, alerts, dead letters or a challenger's scores, one JSON record a line.
///
/// With log.kind = "kafka" reads the topic, committed records only; otherwise asks the service over HTTP.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rapport tail alerts
  rapport tail scores --from 0 --no-follow > scores.jsonl
  rapport tail dead-letters --config rapport.toml")]
pub struct Args {
    /// What to follow.
    stream: Output,
    /// Configuration file of the service: says where its log or its HTTP address is. Without it, rapport.toml if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the service, such as http://127.0.0.1:8080; wins over the configuration, Kafka included.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Its token, where it wants one; else http.token of the configuration (RAPPORT_HTTP_TOKEN).
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// PEM file of the authority that signed the service's certificate, where the public ones did not.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Offset to begin at (with Kafka only 0, the oldest record of each partition). Without it: the last ten records, with Kafka only new ones.
    #[arg(long, value_name = "OFFSET", value_parser = super::whole::<i64>(..))]
    from: Option<i64>,
    /// Stop at the end instead of waiting for more.
    #[arg(long)]
    no_follow: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Scores,
    Alerts,
    DeadLetters,
    /// Scores of a challenger in shadow.
    ScoresShadow,
}

impl From<Output> for Stream {
    fn from(output: Output) -> Self {
        match output {
            Output::Scores => Self::Scores,
            Output::Alerts => Self::Alerts,
            Output::DeadLetters => Self::DeadLetters,
            Output::ScoresShadow => Self::ScoresShadow,
        }
    }
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref(), &Overrides::default())?;
    match (&args.url, config.log.kind) {
        (None, LogKind::Kafka) => topic(&args, &config),
        _ => service(&args, &config),
    }
}

/// Follows a topic.
fn topic(args: &Args, config: &Config) -> anyhow::Result<()> {
    if let Some(from) = args.from.filter(|from| *from > 0) {
        return Err(usage(format!("--from {from}: a topic has an offset per partition, so with Kafka only --from 0 is possible")));
    }
    let settings = KafkaSettings::from(config);
    settings.validate().map_err(usage)?;
    let stream = args.stream.into();
    let mut tail = Tail::open(&settings, stream, args.from.is_some())?;
    let mut out = std::io::stdout().lock();
    loop {
        match tail.next(if args.no_follow { END } else { LOOK })? {
            Some(record) => {
                out.write_all(&shown(stream, &record))?;
                out.write_all(b"\n")?;
            }
            None if args.no_follow => return Ok(out.flush()?),
            None => out.flush()?,
        }
    }
}

/// Follows a service over HTTP.
fn service(args: &Args, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(args, config)?;
    let mut position = args.from.map_or_else(|| "last=10".to_owned(), |from| format!("from={from}"));
    let mut out = std::io::stdout().lock();
    let mut reached = false;
    loop {
        match client.page(&position) {
            Ok(page) => {
                reached = true;
                out.write_all(&page.lines)?;
                out.flush()?;
                position = format!("from={}", page.next);
                // A full page means that more is there already.
                if page.lines.iter().filter(|b| **b == b'\n').count() < PAGE {
                    if args.no_follow {
                        return Ok(());
                    }
                    std::thread::sleep(LOOK);
                }
            }
            // Once it has answered, a service that goes away is waited for: it may be starting again.
            Err(e) if reached && !args.no_follow && e.is::<Away>() => {
                eprintln!("rapport: {e:#}; trying again");
                std::thread::sleep(8 * LOOK);
            }
            Err(e) => return Err(e),
        }
    }
}

/// The service did not answer, or not now.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Away(String);

/// Where a service that listens at `bind` is reached from this machine.
fn reachable(bind: SocketAddr) -> SocketAddr {
    match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bind.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), bind.port()),
        _ => bind,
    }
}

struct Client {
    agent: ureq::Agent,
    url: String,
    authorization: Option<String>,
}

struct Page {
    lines: Vec<u8>,
    next: i64,
}

impl Client {
    fn new(args: &Args, config: &Config) -> anyhow::Result<Self> {
        let configured = || format!("{}://{}", if config.http.tls.is_some() { "https" } else { "http" }, reachable(config.http.bind));
        let url = args.url.clone().unwrap_or_else(configured);
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(usage(format!("--url {url:?} must begin with http:// or https://")));
        }
        let mut tls = TlsConfig::builder();
        if let Some(file) = &args.ca {
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
        let token = args.token.clone().or_else(|| config.http.token.clone());
        let url = format!("{}/v1/{}", url.trim_end_matches('/'), Stream::from(args.stream).name());
        Ok(Self { agent, url, authorization: token.map(|token| format!("Bearer {token}")) })
    }

    fn page(&self, position: &str) -> anyhow::Result<Page> {
        let url = format!("{}?{position}&limit={PAGE}", self.url);
        let mut request = self.agent.get(&url).header("accept", "application/x-ndjson");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut response = request.call().map_err(|e| Away(format!("cannot read {url}: {e}; is `rapport serve` running there?")))?;
        let code = response.status().as_u16();
        let next = response.headers().get("x-next-offset").and_then(|v| v.to_str().ok()?.parse().ok());
        let lines = response.body_mut().with_config().limit(u64::MAX).read_to_vec().map_err(|e| Away(format!("{url} broke off: {e}")))?;
        match (code, next) {
            (200, Some(next)) => Ok(Page { lines, next }),
            (200, None) => anyhow::bail!("{url} is no rapport service: its answer has no x-next-offset"),
            _ => {
                let message =
                    serde_json::from_slice::<serde_json::Value>(&lines).ok().and_then(|v| Some(v.get("error")?.as_str()?.to_owned()));
                let message = format!("{url} answered {code}: {}", message.unwrap_or_else(|| "no reason given".into()));
                if code == 503 { Err(Away(message).into()) } else { Err(anyhow::anyhow!(message)).context("cannot follow") }
            }
        }
    }
}
