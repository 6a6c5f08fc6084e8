//! `rapport.toml`, then `RAPPORT_<SECTION>_<KEY>` variables of the environment, then flags.
//!
//! Everything is checked at load, and nothing is opened or connected to. `RAPPORT_LOG` alone is the filter of the program's own
//! log lines (`RAPPORT_LOG=debug`), not a setting. Relative paths count from the working directory.

mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::alert::{Policies, PolicyConfig};
use crate::archive::Location;
use crate::cli::usage;
use crate::engine::EngineConfig;
use settings::Settings;

/// The whole configuration, valid.
#[derive(Debug, Clone)]
pub struct Config {
    pub log: LogConfig,
    pub model: ModelConfig,
    pub worker: WorkerConfig,
    pub http: HttpConfig,
    pub state: StateConfig,
    /// `[archive]`, where it has a `url`.
    pub archive: Option<ArchiveConfig>,
    /// `[[alerts]]`, or the standard policies where there is none.
    pub alerts: Arc<Policies>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    Embedded,
    Kafka,
}

/// `[log]`
#[derive(Clone)]
pub struct LogConfig {
    pub kind: LogKind,
    /// `host:port`, comma-separated; empty for the embedded log.
    pub brokers: String,
    /// Kafka consumer group.
    pub group: String,
    /// First part of every topic's name.
    pub prefix: String,
    /// Of the embedded log.
    pub dir: PathBuf,
    /// `[log.kafka]`: properties of librdkafka, passed through.
    pub kafka: BTreeMap<String, String>,
}

/// `[model]`
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The bundle that serves, as long as the registry names none.
    pub dir: PathBuf,
    /// The registry of versions; what it says serves, and changes while the service runs.
    pub registry: Option<PathBuf>,
    /// A challenger that scores in shadow, as long as the registry names none.
    pub shadow: Option<PathBuf>,
    /// Most customers of one commit whose hidden vector is rebuilt after a swap.
    pub rebuilds_per_commit: usize,
}

/// `[worker]`
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Worker threads, each with its own share of the partitions.
    pub threads: usize,
    /// Name of this process among those of its group, the same after a restart; by default the host's name.
    pub instance: String,
    /// Most interactions in one commit.
    pub batch: usize,
}

/// `[http]`
#[derive(Clone)]
pub struct HttpConfig {
    pub bind: SocketAddr,
    pub tls: Option<TlsFiles>,
    /// Bearer token that every request must carry.
    pub token: Option<String>,
}

/// PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// `[state]`
#[derive(Debug, Clone)]
pub struct StateConfig {
    /// Reserved: states of a Kafka log are in memory, restored from the changelog.
    pub dir: PathBuf,
    /// Interactions kept per customer.
    pub window: usize,
    /// Ids kept per customer to recognise repeats.
    pub dedupe: usize,
    /// How far behind the customer's newest interaction one may lie.
    pub allowed_lateness: Duration,
}

/// `[archive]`
#[derive(Debug, Clone)]
pub struct ArchiveConfig {
    /// `url`
    pub location: Location,
    /// Size of a file's rows as JSON at which it is published; Parquet makes a small part of it.
    pub roll_bytes: usize,
    /// How long rows wait at most (`roll_seconds`).
    pub roll: Duration,
}

/// What flags say; wins over file and environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--model`
    pub model: Option<PathBuf>,
    /// `--bind`
    pub bind: Option<String>,
    /// `--threads`
    pub threads: Option<usize>,
}

/// The file that is read where no flag names one, if it is there.
pub const DEFAULT_FILE: &str = "rapport.toml";

/// The bundle that comes with the program, from its own directory.
pub const DEFAULT_MODEL: &str = "onnx/champion";

impl Config {
    /// Reads file, environment and flags. Without `file`, [`DEFAULT_FILE`] is read if it exists.
    ///
    /// # Errors
    /// A usage error that names the file (or variable, or flag), the key, the value and what would be right.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> anyhow::Result<Self> {
        let text = match file {
            Some(path) => {
                let hint = "name a readable configuration file with --config, or leave the flag out for defaults";
                let text = std::fs::read_to_string(path).map_err(|e| usage(format!("--config {}: {e}; {hint}", path.display())))?;
                Some((path, text))
            }
            None => {
                let path = Path::new(DEFAULT_FILE);
                match std::fs::read_to_string(path) {
                    Ok(text) => Some((path, text)),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
                    Err(e) => return Err(usage(format!("{DEFAULT_FILE}: {e}; make it readable, or name another with --config"))),
                }
            }
        };
        let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let (config, warnings) = Self::parse(text.as_ref().map(|(p, t)| (*p, t.as_str())), environment, overrides).map_err(usage)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }

    /// What of it changes scores.
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            window: self.state.window,
            dedupe: self.state.dedupe,
            // At most 36,500 days, which fits.
            allowed_lateness: i64::try_from(self.state.allowed_lateness.as_micros()).unwrap_or(i64::MAX),
        }
    }

    /// [`Self::load`] without reading anything; returns warnings beside the configuration.
    ///
    /// # Errors
    /// The message alone.
    pub fn parse(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<(Self, Vec<String>), String> {
        let mut s = Settings::default();
        if let Some((path, text)) = file {
            s.add_file(path, text)?;
        }
        s.add_environment(environment);
        s.add_flag("--model", "model.dir", overrides.model.as_ref().map(|p| p.display().to_string()));
        s.add_flag("--bind", "http.bind", overrides.bind.clone());
        s.add_flag("--threads", "worker.threads", overrides.threads.map(|n| n.to_string()));

        let log = log(&mut s)?;
        let model = ModelConfig {
            dir: s.path("model.dir")?.unwrap_or_else(|| DEFAULT_MODEL.into()),
            registry: s.path("model.registry")?,
            shadow: s.path("model.shadow")?,
            rebuilds_per_commit: s.number("model.rebuilds_per_commit", 1..=100_000)?.unwrap_or(crate::worker::REBUILDS_PER_COMMIT),
        };
        let worker = WorkerConfig {
            threads: s.number("worker.threads", 1..=1024)?.unwrap_or_else(cores),
            instance: s.parsed("worker.instance", "letters, digits, '.', '_' and '-', at most 128", name)?.unwrap_or_else(host_name),
            batch: s.number("worker.batch", 1..=100_000)?.unwrap_or(512),
        };
        let http = http(&mut s)?;
        let state = StateConfig {
            dir: s.path("state.dir")?.unwrap_or_else(|| "rapport-data/state".into()),
            window: s.number("state.window", 1..=1024)?.unwrap_or(32),
            dedupe: s.number("state.dedupe", 1..=4096)?.unwrap_or(64),
            allowed_lateness: s.duration("state.allowed_lateness")?.unwrap_or(Duration::from_secs(7 * 86_400)),
        };
        let archive = archive(&mut s)?;
        let alerts = match (s.origin("alerts"), s.tables::<PolicyConfig>("alerts")?) {
            (origin, Some(configs)) => Policies::new(configs).map_err(|e| format!("{}: {e}", origin.unwrap_or_default()))?,
            (_, None) => Policies::standard(),
        };
        let warnings = s.finish()?;
        Ok((Self { log, model, worker, http, state, archive, alerts: Arc::new(alerts) }, warnings))
    }
}

fn log(s: &mut Settings) -> Result<LogConfig, String> {
    let kinds = "\"embedded\" or \"kafka\"";
    let kind = s.parsed("log.kind", kinds, |kind| match kind {
        "embedded" => Some(LogKind::Embedded),
        "kafka" => Some(LogKind::Kafka),
        _ => None,
    })?;
    let kind = kind.unwrap_or(LogKind::Embedded);
    let right = "one or more host:port, separated by commas, such as \"kafka-1:9092,kafka-2:9092\"";
    let brokers = s.parsed("log.brokers", right, brokers)?;
    if kind == LogKind::Kafka && brokers.is_none() {
        return Err(format!("log.brokers is not set, and log.kind = \"kafka\" needs it: {right} (or RAPPORT_LOG_BROKERS)"));
    }
    let kafka = s.properties("log.kafka")?;
    // The likeliest slip of a first configuration; interactions would quietly land on the local disk.
    let meant = if brokers.is_some() { Some("log.brokers") } else { (!kafka.is_empty()).then_some("log.kafka") };
    if let (LogKind::Embedded, Some(key)) = (kind, meant) {
        return Err(format!("{key} is set, but log.kind is \"embedded\": set log.kind = \"kafka\", or leave {key} out"));
    }
    Ok(LogConfig {
        kind,
        brokers: brokers.unwrap_or_default(),
        group: s.parsed("log.group", "letters, digits, '.', '_' and '-', at most 128", name)?.unwrap_or_else(|| "rapport".into()),
        prefix: s.parsed("log.prefix", "letters, digits, '.', '_' and '-', at most 128", name)?.unwrap_or_else(|| "rapport".into()),
        dir: s.path("log.dir")?.unwrap_or_else(|| "rapport-data/log".into()),
        kafka,
    })
}

fn http(s: &mut Settings) -> Result<HttpConfig, String> {
    let origin = s.origin("http.bind").unwrap_or_default();
    let bind = s.parsed("http.bind", "an address and port such as \"127.0.0.1:8080\" or \"[::1]:8080\"", address)?;
    let bind = bind.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080));
    let right = "16 to 512 visible ASCII characters";
    let valid = |t: &str| ((16..=512).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic())).then(|| t.to_string());
    let token = match (s.parsed("http.token", right, valid)?, readable_file(s, "http.token_file", "a file that this user can read")?) {
        (Some(_), Some(_)) => return Err("http.token and http.token_file are both set: set one".into()),
        (token, None) => token,
        (None, Some(path)) => {
            let read = std::fs::read_to_string(&path).ok().and_then(|text| valid(text.trim()));
            Some(read.ok_or_else(|| format!("http.token_file = {path:?}: the file must hold {right}"))?)
        }
    };
    let pem = "a PEM file that this user can read";
    let (cert, key) = (readable_file(s, "http.tls_cert", pem)?, readable_file(s, "http.tls_key", pem)?);
    let missing: Vec<_> = [("http.tls_cert", cert.is_some()), ("http.tls_key", key.is_some()), ("http.token", token.is_some())]
        .into_iter()
        .filter_map(|(name, there)| (!there).then_some(name))
        .collect();
    if !bind.ip().is_loopback() && !missing.is_empty() {
        return Err(format!(
            "{origin}: http.bind = \"{bind}\" can be reached from other machines, which wants TLS and a token: set {}, or bind to 127.0.0.1",
            missing.join(", ")
        ));
    }
    let tls = match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
        (None, None) => None,
        (Some(_), None) => return Err("http.tls_cert is set and http.tls_key is not: set both or neither".into()),
        (None, Some(_)) => return Err("http.tls_key is set and http.tls_cert is not: set both or neither".into()),
    };
    Ok(HttpConfig { bind, tls, token })
}

fn archive(s: &mut Settings) -> Result<Option<ArchiveConfig>, String> {
    let set = s.origin("archive.roll_bytes").or_else(|| s.origin("archive.roll_seconds"));
    let location = s.parsed("archive.url", Location::RIGHT, Location::parse)?;
    let roll_bytes = s.number("archive.roll_bytes", 1024..=1 << 30)?.unwrap_or(128 << 20);
    let roll = Duration::from_secs(s.number("archive.roll_seconds", 1..=86_400)?.unwrap_or(600) as u64);
    match (location, set) {
        (None, Some(origin)) => {
            Err(format!("{origin}: archive.url is not set, and the other keys of [archive] need it: {}", Location::RIGHT))
        }
        (location, _) => Ok(location.map(|location| ArchiveConfig { location, roll_bytes, roll })),
    }
}

/// A file that can be opened now, so that a wrong path is a wrong configuration and not a failure later.
fn readable_file(s: &mut Settings, key: &'static str, right: &str) -> Result<Option<PathBuf>, String> {
    let origin = s.origin(key).unwrap_or_default();
    let Some(path) = s.path(key)? else { return Ok(None) };
    match std::fs::File::open(&path) {
        Ok(_) => Ok(Some(path)),
        Err(e) => Err(format!("{origin}: {key} = {path:?}: {e}; must be {right}")),
    }
}

fn brokers(list: &str) -> Option<String> {
    let valid = |broker: &str| {
        // librdkafka also takes PROTOCOL://host:port
        let address = broker.split_once("://").map_or(broker, |(_, a)| a);
        address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
    };
    let trimmed: Vec<&str> = list.split(',').map(str::trim).collect();
    trimmed.iter().all(|b| valid(b)).then(|| trimmed.join(","))
}

fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?)),
        None => text.parse().ok(),
    }
}

/// What Kafka allows in the names of topics, with room for what is added to a prefix.
fn name(text: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (!text.is_empty() && text.len() <= 128 && text.bytes().all(allowed)).then(|| text.to_string())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

fn host_name() -> String {
    let from_file = || std::fs::read_to_string("/etc/hostname").ok();
    std::env::var("HOSTNAME").ok().or_else(from_file).and_then(|h| name(h.trim())).unwrap_or_else(|| "rapport".into())
}

/// Whether a key's value must not be shown.
fn is_secret(key: &str) -> bool {
    ["password", "token", "secret", "key.pem", "jaas", "credentials"].iter().any(|s| key.contains(s))
}

impl fmt::Debug for LogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(k, v): (&String, &String)| (k.clone(), if is_secret(k) { "(hidden)".to_string() } else { v.clone() });
        f.debug_struct("LogConfig")
            .field("kind", &self.kind)
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("prefix", &self.prefix)
            .field("dir", &self.dir)
            .field("kafka", &self.kafka.iter().map(shown).collect::<BTreeMap<_, _>>())
            .finish()
    }
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig")
            .field("bind", &self.bind)
            .field("tls", &self.tls)
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .finish()
    }
}

#[cfg(test)]
mod tests;
