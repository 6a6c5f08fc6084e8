//! `rapport check`

use std::path::PathBuf;

use super::{say, usage};
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
    let mut lines = Vec::new();
    let mut report = |finding: Finding| {
        lines.push(format!("{:5} {}", if finding.good { "ok" } else { "WRONG" }, finding.line));
        wrong += usize::from(!finding.good);
    };
    report(Finding { good: true, line: "the configuration is valid".into() });
    model(&config).into_iter().for_each(&mut report);
    if let Some(tls) = &config.http.tls {
        report(match crate::http::load_tls(tls) {
            Ok(_) => Finding { good: true, line: "the TLS certificate and key load".into() },
            Err(e) => Finding { good: false, line: e },
        });
    }
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
    say(lines.join("\n"))?;
    match wrong {
        0 => Ok(()),
        1 => Err(anyhow::anyhow!("1 thing is wrong")),
        n => Err(anyhow::anyhow!("{n} things are wrong")),
    }
}

fn model(config: &Config) -> Vec<Finding> {
    let dir = &config.model.dir;
    match Model::load(dir) {
        Ok(model) => {
            let loads = Finding { good: true, line: format!("the model {} in {} loads", model.manifest.version, dir.display()) };
            let never = model.lowest_rating().map(|lowest| config.alerts.out_of_reach(lowest)).unwrap_or_default();
            std::iter::once(loads).chain(never.into_iter().map(|line| Finding { good: false, line })).collect()
        }
        Err(e) => vec![Finding { good: false, line: format!("model.dir: {e}") }],
    }
}
