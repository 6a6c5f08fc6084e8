//! `rapport demo`: the whole service on bundled real interactions, nothing to install or to configure.
//!
//! Uses the service as `serve` does; what it adds is the replay and words for a person who sees it for the first time.

mod replay;
mod report;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, anyhow};
use flate2::read::GzDecoder;

use super::serve::stop_on_signal;
use super::service::Service;
use super::{say, usage};
use crate::config::{Config, DEFAULT_MODEL, Overrides};
use crate::http::BindError;
use crate::interaction::{DecodeOptions, Timestamp, decode};
use replay::{Pace, Replay};

/// MultiDoGO and Online Retail II; `deploy/demo/README.md` says what exactly.
static BUNDLED: &[u8] = include_bytes!("../../deploy/demo/interactions.jsonl.gz");

/// Interactions a second where nobody says otherwise: slow enough to watch.
const RATE: f64 = 60.0;
/// How long the last interactions may take to be scored.
const DRAIN: Duration = Duration::from_secs(60);

/// Replays bundled real interactions through the embedded log: no install, no broker.
///
/// Serves the console and the API meanwhile, prints a line per alert and goes on serving when all is replayed, until Ctrl-C. With
/// --exit-when-done it replays as fast as it can, prints a summary and one alert in full, and ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rapport demo\n  rapport demo --exit-when-done")]
pub struct Args {
    /// Model bundle [default: the bundled onnx/champion].
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Keep the embedded log in this new directory [default: a temporary one, removed at the end].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Interactions a second [default: 60; with --exit-when-done as fast as possible].
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// End with a summary when everything is scored.
    #[arg(long)]
    exit_when_done: bool,
    /// Address and port of HTTP; where it is taken, a free port is used.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    bind: String,
}

/// A bundled interaction and what the report needs of it.
struct Bundled {
    id: Box<str>,
    customer_id: Box<str>,
    at: Timestamp,
    text: Option<Box<str>>,
    line: Vec<u8>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let interactions = bundled()?;
    let model = find_model(args.model)?;
    // Neither a file nor the environment: the demo is the same everywhere.
    let overrides = Overrides { model: Some(model), bind: Some(args.bind), threads: None };
    let (mut config, _) = Config::parse(None, [], &overrides).map_err(usage)?;
    let dir = LogDir::create(args.dir)?;
    config.log.dir.clone_from(&dir.path);

    let stop = stop_on_signal()?;
    let service = start(&mut config)?;
    let url = format!("http://{}/", service.address());
    let pace = match (args.rate, args.exit_when_done) {
        (None, true) => Pace::AsFastAsPossible,
        (rate, _) => Pace::PerSecond(rate.unwrap_or(RATE)),
    };
    if !args.exit_when_done {
        say(format_args!("The console is at {url} ; Ctrl-C ends."))?;
        say(format_args!("Replaying {} real interactions. One line per alert:", interactions.len()))?;
    }
    let mut replay = Replay::start(&service, &interactions, !args.exit_when_done);
    let result = replay.feed(pace, &stop).and_then(|()| {
        replay.drain(DRAIN)?;
        if args.exit_when_done || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        say(format_args!("All {} are replayed; {url} goes on serving until Ctrl-C.", interactions.len()))?;
        while !stop.load(Ordering::Relaxed) && !service.failed() {
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    });
    let seen = replay.finish();
    let model = service.model().to_owned();
    // A worker that ended by itself says why here, and that explains any failure of the replay.
    service.stop()?;
    result?;
    report::print(&interactions, &seen?, &model)
}

/// The model of the flag or of the environment, or the bundled one: beside the working directory, the program or its sources, or where an
/// installation puts it.
pub(super) fn find_model(flag: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(model) = flag {
        return Ok(model);
    }
    if let Some(model) = std::env::var_os("RAPPORT_MODEL_DIR").filter(|v| !v.is_empty()) {
        return Ok(model.into());
    }
    let executable = std::env::current_exe().unwrap_or_default();
    let mut places = vec![PathBuf::from(DEFAULT_MODEL)];
    places.extend(executable.ancestors().skip(1).take(4).map(|dir| dir.join(DEFAULT_MODEL)));
    places.extend(executable.ancestors().nth(2).map(|prefix| prefix.join("share/rapport").join(DEFAULT_MODEL)));
    places.push(Path::new(env!("CARGO_MANIFEST_DIR")).join(DEFAULT_MODEL));
    places.into_iter().find(|place| place.join("manifest.json").is_file()).ok_or_else(|| {
        usage(format!("the bundled model {DEFAULT_MODEL} is neither here nor beside the program; name a bundle with --model DIR"))
    })
}

/// Starts the service; where the port is taken, on a free one.
fn start(config: &mut Config) -> anyhow::Result<Service> {
    match Service::start(config, &|| false) {
        Err(e) if matches!(e.downcast_ref::<BindError>(), Some(BindError::Listen { .. })) && config.http.bind.port() != 0 => {
            eprintln!("{} is taken; a free port is used instead", config.http.bind);
            config.http.bind.set_port(0);
            Service::start(config, &|| false)
        }
        started => started,
    }
}

fn bundled() -> anyhow::Result<Vec<Bundled>> {
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut GzDecoder::new(BUNDLED), &mut text).context("the bundled interactions are damaged")?;
    let bundled = |line: &[u8]| {
        let interaction = decode(line, DecodeOptions::default()).map_err(|e| anyhow!("a bundled interaction is damaged: {e}"))?.interaction;
        Ok(Bundled {
            id: interaction.id,
            customer_id: interaction.customer_id,
            at: interaction.occurred_at,
            text: interaction.text,
            line: line.to_vec(),
        })
    };
    text.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(bundled).collect()
}

/// Where the embedded log lies; a temporary one is removed at the end.
struct LogDir {
    path: PathBuf,
    temporary: bool,
}

impl LogDir {
    fn create(flag: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(path) = flag {
            // What an earlier run left would make every interaction a repeat.
            if path.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
                return Err(usage(format!("--dir {} is not empty; name a new directory, so that the replay begins anew", path.display())));
            }
            std::fs::create_dir_all(&path).with_context(|| format!("cannot create --dir {}", path.display()))?;
            return Ok(Self { path, temporary: false });
        }
        let parent = std::env::temp_dir();
        for attempt in 0..1000 {
            let path = parent.join(format!("rapport-demo-{}-{attempt}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, temporary: true }),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).with_context(|| format!("cannot create {}; name a directory with --dir", path.display())),
            }
        }
        Err(anyhow!("{} is full of rapport-demo directories; remove them", parent.display()))
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        if self.temporary
            && let Err(e) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove {}: {e}", self.path.display());
        }
    }
}

fn rate(argument: &str) -> Result<f64, String> {
    argument.parse().ok().filter(|n| (0.01..=1e6).contains(n)).ok_or_else(|| "it should be a number from 0.01 to 1000000".into())
}
