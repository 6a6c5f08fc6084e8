//! `rapport check`

use std::path::PathBuf;

use crate::cli::usage;
use crate::config::{Config, LogKind, Overrides};
use crate::log::kafka::{Finding, KafkaSettings, inspect_topics};
use crate::model::Model;

/// Looks at configuration, broker, topics and model, and says what is wrong.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  rapport check --config rapport.toml\n\nExit code: 0 all is well, 1 something is wrong, 2 wrong configuration."
)]
pub struct Args {
    /// Configuration file (default: rapport.toml, if there is one)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref(), &Overrides::default())?;
    let settings = (config.log.kind == LogKind::Kafka).then(|| KafkaSettings::from(&config));
    if let Some(settings) = &settings {
        settings.validate().map_err(usage)?;
    }
    let mut wrong = 0;
    let mut report = |finding: Finding| {
        println!("{:5} {}", if finding.good { "ok" } else { "WRONG" }, finding.line);
        wrong += usize::from(!finding.good);
    };
    report(Finding { good: true, line: "the configuration is valid".into() });
    report(model(&config));
    match &settings {
        None => report(Finding { good: true, line: format!("the log is embedded, in {}; it needs no broker", config.log.dir.display()) }),
        Some(settings) => match inspect_topics(settings) {
            Ok(findings) => {
                report(Finding { good: true, line: format!("a broker of {} answers", settings.brokers) });
                findings.into_iter().for_each(&mut report);
            }
            Err(e) => report(Finding { good: false, line: e.to_string() }),
        },
    }
    match wrong {
        0 => Ok(()),
        1 => Err(anyhow::anyhow!("1 thing is wrong")),
        n => Err(anyhow::anyhow!("{n} things are wrong")),
    }
}

fn model(config: &Config) -> Finding {
    let dir = &config.model.dir;
    match Model::load(dir) {
        Ok(model) => Finding { good: true, line: format!("the model {} in {} loads", model.manifest.version, dir.display()) },
        Err(e) => Finding { good: false, line: format!("model.dir: {e}") },
    }
}
