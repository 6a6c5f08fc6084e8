//! What is to serve, as the registry's journal and Kafka's models topic say, and a thread that loads it while the workers go on.
//!
//! Knows neither workers nor engines: what is loaded and checked goes to [`Models`], and the workers take it up between two commits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;

use super::service::{START, retry};
use super::usage;
use crate::config::{Config, LogKind};
use crate::log::kafka::{KafkaSettings, ModelsTopic};
use crate::metrics::{self, SwapOutcome};
use crate::model::Model;
use crate::model::registry::{Announcement, Registry, RegistryError, Role, standing};
use crate::worker::{Models, Serving, Stop};

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);
/// Pause before a bundle that was refused is tried again: the disk that it lies on may come back.
const AGAIN: Duration = Duration::from_secs(60);

type Wanted = BTreeMap<Role, Announcement>;

/// Where announcements are read.
pub(super) struct Announcements {
    registry: Registry,
    topic: Option<ModelsTopic>,
    /// Time and length of the journal when it was last read, and what it said.
    journal: (Option<(SystemTime, u64)>, Wanted),
}

impl Announcements {
    /// `None` where the configuration names no registry: then one bundle serves until the end.
    pub fn open(config: &Config, interrupted: &dyn Fn() -> bool) -> anyhow::Result<Option<Self>> {
        let Some(dir) = &config.model.registry else { return Ok(None) };
        let topic = match config.log.kind {
            LogKind::Embedded => None,
            LogKind::Kafka => {
                let settings = KafkaSettings::from(config);
                settings.validate().map_err(usage)?;
                Some(retry(Instant::now() + START, interrupted, || ModelsTopic::open(&settings))?)
            }
        };
        Ok(Some(Self { registry: Registry::new(dir), topic, journal: (None, Wanted::new()) }))
    }

    /// The newest announcement of each role, waiting up to `timeout` for another.
    pub fn wanted(&mut self, timeout: Duration) -> anyhow::Result<Wanted> {
        let mut wanted = Wanted::new();
        if let Some(topic) = &mut self.topic {
            let newest = topic.newest(timeout)?;
            for role in Role::ALL {
                let Some(value) = newest.get(role.name()) else { continue };
                match serde_json::from_slice(value) {
                    Ok(announcement) => drop(wanted.insert(role, announcement)),
                    Err(e) => tracing::warn!("the announcement of the {} is not what this version reads: {e}", role.name()),
                }
            }
        } else {
            std::thread::sleep(timeout);
        }
        for (role, announcement) in self.journal()? {
            match wanted.get(role) {
                Some(other) if other.time() >= announcement.time() => {}
                _ => drop(wanted.insert(*role, announcement.clone())),
            }
        }
        Ok(wanted)
    }

    fn journal(&mut self) -> Result<&Wanted, RegistryError> {
        let path = self.registry.journal_path();
        let stamp = std::fs::metadata(path).ok().and_then(|m| Some((m.modified().ok()?, m.len())));
        if stamp != self.journal.0 {
            let standing = standing(&self.registry.entries()?);
            let announced = [(Role::Champion, standing.champion), (Role::Shadow, standing.shadow)];
            let announced = announced.into_iter().filter_map(|(role, entry)| Some((role, self.registry.announcement(&entry?))));
            self.journal = (stamp, announced.collect());
        }
        Ok(&self.journal.1)
    }
}

/// What serves at the start, and what will change it.
pub(super) struct Watch {
    announcements: Option<Announcements>,
    taken: Wanted,
    serving: Serving,
}

impl Watch {
    /// Loads what is announced, else what `[model]` names.
    ///
    /// # Errors
    /// A champion or configured challenger that cannot be loaded; an announced challenger that cannot is left out.
    pub fn start(config: &Config, interrupted: &dyn Fn() -> bool) -> anyhow::Result<Self> {
        let mut announcements = Announcements::open(config, interrupted)?;
        let wanted = match &mut announcements {
            Some(a) => a.wanted(Duration::ZERO)?,
            None => Wanted::new(),
        };
        let registry = announcements.as_ref().map(|a| &a.registry);
        let hint = "`rapport models rollback` makes an earlier one serve";
        let champion = match wanted.get(&Role::Champion) {
            Some(announcement) => announcement.load(registry).with_context(|| format!("the promoted model cannot serve; {hint}"))?,
            None => None,
        };
        let champion = match champion {
            Some(model) => model,
            None => super::load_model(&config.model.dir).context("model.dir (RAPPORT_MODEL_DIR, --model)")?,
        };
        let mut taken = wanted.clone();
        let shadow = match (wanted.get(&Role::Shadow), &config.model.shadow) {
            (Some(announcement), _) => announcement.load(registry).unwrap_or_else(|e| {
                refused(Role::Shadow, announcement, &e);
                taken.remove(&Role::Shadow);
                None
            }),
            (None, Some(dir)) => Some(super::load_model(dir).context("model.shadow (RAPPORT_MODEL_SHADOW)")?),
            (None, None) => None,
        };
        metrics::model(champion.version.as_str());
        metrics::shadow_model(shadow.as_ref().map(|m| m.version.as_str()));
        Ok(Self { announcements, taken, serving: Serving { champion, shadow } })
    }

    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// Follows the announcements on a thread of its own until `stop`; `None` where nothing can change.
    pub fn follow(self, models: Models, stop: Stop) -> std::io::Result<Option<JoinHandle<()>>> {
        let Self { announcements: Some(mut announcements), mut taken, mut serving } = self else { return Ok(None) };
        let work = move || {
            let mut tried: BTreeMap<Role, (Announcement, Instant)> = BTreeMap::new();
            while !stop.requested() {
                let wanted = match announcements.wanted(LOOK.min(Duration::from_millis(200))) {
                    Ok(wanted) => wanted,
                    Err(e) => {
                        tracing::warn!("cannot see what is to serve: {e:#}");
                        std::thread::sleep(LOOK);
                        continue;
                    }
                };
                for (role, announcement) in wanted {
                    let again = tried.get(&role).is_some_and(|(a, at)| *a == announcement && at.elapsed() < AGAIN);
                    if taken.get(&role) == Some(&announcement) || again {
                        continue;
                    }
                    match take_up(&mut serving, role, &announcement, &announcements.registry) {
                        Ok(()) => {
                            models.put(serving.clone());
                            taken.insert(role, announcement);
                        }
                        Err(e) => {
                            refused(role, &announcement, &e);
                            tried.insert(role, (announcement, Instant::now()));
                        }
                    }
                }
            }
        };
        std::thread::Builder::new().name("models".into()).spawn(work).map(Some)
    }
}

/// Loads and checks; `serving` stays as it is where that fails.
fn take_up(serving: &mut Serving, role: Role, announcement: &Announcement, registry: &Registry) -> Result<(), RegistryError> {
    let serves = |model: &Arc<Model>| Some(model.version.as_str()) == announcement.version.as_deref();
    let started = Instant::now();
    match role {
        // Announced again, or what `model.dir` names: nothing to load.
        Role::Champion if serves(&serving.champion) => return Ok(()),
        Role::Shadow if serving.shadow.as_ref().is_some_and(serves) => return Ok(()),
        _ => {}
    }
    let model = announcement.load(Some(registry))?;
    if model.is_some() {
        metrics::model_loaded(started.elapsed());
    }
    match (role, model) {
        (Role::Champion, Some(model)) => {
            tracing::info!(model = %model.version, "announced, loaded and checked in {:.2} s", started.elapsed().as_secs_f64());
            metrics::model(model.version.as_str());
            serving.champion = model;
        }
        (Role::Champion, None) => return Err(RegistryError::Refused("the announcement names no version".into())),
        (Role::Shadow, model) => {
            metrics::shadow_model(model.as_ref().map(|m| m.version.as_str()));
            match &model {
                Some(model) => tracing::info!(model = %model.version, "scores in shadow"),
                None => tracing::info!("nothing scores in shadow any more"),
            }
            serving.shadow = model;
        }
    }
    metrics::swap(role.name(), SwapOutcome::Swapped);
    Ok(())
}

fn refused(role: Role, announcement: &Announcement, e: &RegistryError) {
    metrics::swap(role.name(), SwapOutcome::Refused);
    let version = announcement.version.as_deref().unwrap_or_default();
    tracing::error!(model = version, "the announced {} is refused, and what served goes on serving: {e}", role.name());
}
