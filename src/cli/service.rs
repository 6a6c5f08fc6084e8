//! The running service: workers on a log, and HTTP beside them. `serve` runs it until a signal, `demo` until its input is scored.
//!
//! Puts the parts together and knows none of their insides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::usage;
use super::watch::Watch;
use crate::archive::{self, Mode};
use crate::config::{ArchiveConfig, Config, LogKind};
use crate::engine::Engine;
use crate::http;
use crate::interaction::Name;
use crate::log::embedded::Embedded;
use crate::log::kafka::{KafkaGateway, KafkaLog, KafkaSettings, verify_topics};
use crate::log::{Gateway, Log, LogError};
use crate::worker::{Models, Stop, Worker, WorkerOptions, WorkerState};

/// How long a cluster may be in the middle of an election or a restart when the service starts.
pub(super) const START: Duration = Duration::from_secs(60);

/// A service that works until [`Self::stop`].
pub struct Service {
    stop: Stop,
    status: Arc<http::Status>,
    http: http::Running,
    workers: Vec<JoinHandle<Result<(), LogError>>>,
    /// Archives beside the workers, where that is configured; stops after them, so that their last scores are in it.
    archive: Option<(Stop, JoinHandle<()>)>,
    gateway: Arc<dyn Gateway>,
    /// The log, where it is the embedded one.
    embedded: Option<Embedded>,
    model: Name,
    /// Loads what is announced.
    watch: Option<JoinHandle<()>>,
}

impl Service {
    /// Loads the model, takes the address, opens the log and only then starts to work. A Kafka cluster that answers but is not in order is
    /// waited for, a minute or until `interrupted`.
    ///
    /// # Errors
    /// Usage errors where the configuration is wrong, others where the model, the address or the log cannot be had; with what to do.
    pub fn start(config: &Config, interrupted: &dyn Fn() -> bool) -> anyhow::Result<Self> {
        let watch = Watch::start(config, interrupted)?;
        let lowest = watch.serving().champion.lowest_rating();
        for never in lowest.map(|lowest| config.alerts.out_of_reach(lowest)).unwrap_or_default() {
            tracing::warn!("{never}");
        }
        let server = http::Server::bind(&config.http).map_err(super::bind_error)?;
        let url = server.url();

        let (logs, gateway, embedded, what) = match config.log.kind {
            LogKind::Embedded => {
                let log = Embedded::open(&config.log.dir)?;
                let count = config.worker.threads.min(log.partitions() as usize);
                let logs =
                    (0..count).map(|i| Ok(Box::new(log.worker(i, count)?) as Box<dyn Log + Send>)).collect::<Result<Vec<_>, LogError>>()?;
                let what = format!("embedded log in {}, {} partitions", config.log.dir.display(), log.partitions());
                (logs, Arc::new(log.clone()) as Arc<dyn Gateway>, Some(log), what)
            }
            LogKind::Kafka => {
                let settings = KafkaSettings::from(config);
                settings.validate().map_err(usage)?;
                let until = Instant::now() + START;
                retry(until, interrupted, || verify_topics(&settings))?;
                let gateway = KafkaGateway::open(&settings)?;
                let mut logs = Vec::new();
                for index in 0..config.worker.threads {
                    let log = retry(until, interrupted, || KafkaLog::open(&settings, index))?;
                    gateway.watch(log.states());
                    logs.push(Box::new(log) as Box<dyn Log + Send>);
                }
                let what = format!("topics {}.* of {} in group {}", settings.prefix, settings.brokers, settings.group);
                (logs, Arc::new(gateway) as Arc<dyn Gateway>, None, what)
            }
        };

        let status = Arc::new(http::Status::new(logs.len()));
        let stop = Stop::default();
        let http = server.start(gateway.clone(), status.clone()).context("cannot start the HTTP server")?;
        let serving = watch.serving();
        let version = serving.champion.version.clone();
        let models = Models::new(serving.champion.clone(), serving.shadow.clone());
        let count = logs.len();
        let mut workers = Vec::with_capacity(count);
        for (index, log) in logs.into_iter().enumerate() {
            let (models, alerts, engine, stop, status) =
                (models.clone(), config.alerts.clone(), config.engine(), stop.clone(), status.clone());
            let options = WorkerOptions {
                rebuilds: config.model.rebuilds_per_commit,
                ..WorkerOptions::new(index, config.worker.batch, &config.log.prefix)
            };
            let work = move || {
                // Made here because a model's run-time state belongs to one thread.
                let champion = models.now().champion.clone();
                let engine = Engine::new(champion, alerts, engine).map_err(|e| LogError::Fatal(e.to_string()))?;
                Worker::new(log, engine, options).following(models).run(&stop, |state| {
                    status.set(
                        index,
                        match state {
                            WorkerState::Waiting => http::WorkerStatus::Starting,
                            WorkerState::Restoring => http::WorkerStatus::Restoring,
                            WorkerState::Working(partitions) => http::WorkerStatus::Ready(partitions),
                            WorkerState::Failing(reason) => http::WorkerStatus::Failed(reason),
                            WorkerState::Ended(reason) => http::WorkerStatus::Failed(reason.unwrap_or_else(|| "stopped".into())),
                        },
                    );
                })
            };
            workers.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(work).context("cannot start a worker thread")?);
        }
        let watch = watch.follow(models, stop.clone()).context("cannot start the thread that loads models")?;
        let archive = config.archive.as_ref().map(|archive| archiver(archive, config, embedded.clone())).transpose()?;
        tracing::info!(model = %version, workers = count, "serving the {what} at {url}");
        Ok(Self { stop, status, http, workers, archive, gateway, embedded, model: version, watch })
    }

    /// Where HTTP listens, with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.http.address()
    }

    pub fn gateway(&self) -> &Arc<dyn Gateway> {
        &self.gateway
    }

    /// The log, where it is the embedded one.
    pub fn embedded(&self) -> Option<&Embedded> {
        self.embedded.as_ref()
    }

    /// Version of the model that served at the start.
    pub fn model(&self) -> &str {
        self.model.as_str()
    }

    /// Why it is not ready; `None` when every worker works.
    pub fn not_ready(&self) -> Option<String> {
        self.status.not_ready()
    }

    /// Whether a worker has ended by itself; [`Self::stop`] says why.
    pub fn failed(&self) -> bool {
        self.workers.iter().any(JoinHandle::is_finished)
    }

    /// Workers finish the batch at hand, commit and leave the log; open requests end.
    ///
    /// # Errors
    /// The first worker's failure, where one ended by itself.
    pub fn stop(self) -> anyhow::Result<()> {
        self.status.stopping();
        self.stop.request();
        self.http.stop();
        let mut result = Ok(());
        for (index, worker) in self.workers.into_iter().enumerate() {
            let ended = match worker.join() {
                Ok(ended) => ended.with_context(|| format!("worker {index}")),
                Err(_) => Err(anyhow!("worker {index} panicked, which is a defect; nothing of its last batch was committed")),
            };
            result = result.and(ended);
        }
        if self.watch.is_some_and(|watch| watch.join().is_err()) {
            tracing::error!("the thread that loads models panicked, which is a defect");
        }
        if let Some((stop, archive)) = self.archive {
            stop.request();
            // What a panic kept from the archive is archived at the next start.
            let _ = archive.join();
        }
        result
    }
}

/// Tries again what may succeed later.
pub(super) fn retry<T>(
    until: Instant,
    interrupted: &dyn Fn() -> bool,
    mut what: impl FnMut() -> Result<T, LogError>,
) -> Result<T, LogError> {
    loop {
        match what() {
            Err(LogError::Retriable(message)) if Instant::now() < until && !interrupted() => {
                tracing::warn!("waiting for the log: {message}");
                std::thread::sleep(Duration::from_secs(1));
            }
            result => return result,
        }
    }
}

/// A thread that archives what the workers publish. Whatever fails in it, scoring goes on.
fn archiver(archive: &ArchiveConfig, config: &Config, embedded: Option<Embedded>) -> anyhow::Result<(Stop, JoinHandle<()>)> {
    let stop = Stop::default();
    let (archive, settings, watched) = (archive.clone(), KafkaSettings::from(config), stop.clone());
    let work = move || {
        let ended = archive::run(&archive, Mode::Beside, &watched, |positions| match &embedded {
            Some(log) => Ok(Box::new(log.pairs(positions)?)),
            None => super::archive::kafka(&settings, positions),
        });
        if let Err(e) = ended {
            tracing::error!("archive: {e}");
        }
    };
    let thread = std::thread::Builder::new().name("archive".into()).spawn(work).context("cannot start the archive's thread")?;
    Ok((stop, thread))
}
