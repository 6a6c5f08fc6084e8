//! `rapport erase`: forgets a customer.

use std::path::PathBuf;

use super::client::{Client, Service};
use super::usage;
use crate::config::{Config, LogKind, Overrides};
use crate::log::Gateway as _;

/// Erases what the service keeps of a customer: the state, from which the next interaction would be scored.
///
/// The running service does it, between two commits: with log.kind = "kafka" the process that has the customer's partition. A stopped
/// service's embedded log is opened here. What lies in topics until retention takes it, in the log's records and in archive files stays: see
/// docs/operations.md.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rapport erase --customer c-42 --config rapport.toml
  rapport erase --customer c-42 --url https://scorer-2:8080 --token TOKEN

Exit code: 0 erased, 1 nothing is known of the customer (there), or the service did not answer.")]
pub struct Args {
    /// Whom to forget.
    #[arg(long, value_name = "ID")]
    customer: String,
    /// Configuration file of the service: says where its log or its HTTP address is. Without it, rapport.toml if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    service: Service,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    if args.customer.is_empty() {
        return Err(usage("--customer is empty: name a customer"));
    }
    let config = Config::load(args.config.as_deref(), &Overrides::default())?;
    let stopped = match (&args.service.url, config.log.kind) {
        (None, LogKind::Embedded) => super::dead_letters::stopped_log(&config)?,
        _ => None,
    };
    let erased = match &stopped {
        Some(log) => log.erase(&args.customer)?,
        None => ask(&args, &config)?,
    };
    anyhow::ensure!(
        erased,
        "nothing is known of customer {:?}{}",
        args.customer,
        match config.log.kind {
            LogKind::Kafka => " to this process; ask the others of the group by --url",
            LogKind::Embedded => "",
        }
    );
    eprintln!("erased the state of customer {:?}", args.customer);
    Ok(())
}

fn ask(args: &Args, config: &Config) -> anyhow::Result<bool> {
    let client = Client::new(&args.service, config)?;
    let path = format!("/v1/customers/{}", encoded(&args.customer));
    let answer = client.ask("DELETE", &path, &[])?;
    match answer.code {
        204 => Ok(true),
        404 => Ok(false),
        _ => anyhow::bail!(client.refusal(&path, &answer)),
    }
}

/// As one segment of a path: everything but RFC 3986's unreserved characters by its bytes.
fn encoded(id: &str) -> String {
    id.bytes().fold(String::new(), |mut out, b| {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
        out
    })
}
