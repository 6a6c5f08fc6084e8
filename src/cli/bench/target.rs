//! Where the interactions of a bench go: an embedded log in a scratch directory, or topics of its own in a Kafka cluster.

use std::path::Path;
use std::sync::Arc;

use crate::cli::usage;
use crate::interaction::Timestamp;
use crate::log::embedded::Embedded;
use crate::log::kafka::{KafkaGateway, KafkaLog, KafkaSettings, TopicPlan, create_topics, delete_topics};
use crate::log::{Gateway, Log, LogError};

pub enum Target {
    Embedded(Embedded),
    Kafka(OwnTopics),
}

/// Topics under a name that nobody else has; they go away at the end. So does their group, once the brokers see that nothing is left of it.
pub struct OwnTopics {
    settings: KafkaSettings,
    partitions: i32,
    deleted: bool,
}

impl Target {
    pub fn embedded(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self::Embedded(Embedded::open(dir)?))
    }

    /// Makes the topics, with as many copies as the brokers make by default.
    pub fn kafka(settings: KafkaSettings, partitions: i32) -> anyhow::Result<Self> {
        let own = |name: &str| format!("{name}-bench-{}-{}", std::process::id(), Timestamp::now().0);
        let settings = KafkaSettings { group: own(&settings.group), prefix: own(&settings.prefix), instance: "bench".into(), ..settings };
        settings.validate().map_err(usage)?;
        let findings = create_topics(&settings, TopicPlan { partitions, replication_factor: -1 })?;
        let topics = OwnTopics { settings, partitions, deleted: false };
        if let Some(bad) = findings.iter().find(|f| !f.good) {
            anyhow::bail!("{}", bad.line);
        }
        eprintln!("topics {}.* were made and are deleted at the end", topics.settings.prefix);
        Ok(Self::Kafka(topics))
    }

    pub fn name(&self) -> String {
        match self {
            Self::Embedded(_) => "embedded".into(),
            Self::Kafka(topics) => format!("kafka {}", topics.settings.brokers),
        }
    }

    pub fn partitions(&self) -> usize {
        match self {
            Self::Embedded(log) => log.partitions() as usize,
            Self::Kafka(topics) => topics.partitions as usize,
        }
    }

    pub fn gateway(&self) -> Result<Arc<dyn Gateway>, LogError> {
        match self {
            Self::Embedded(log) => Ok(Arc::new(log.clone())),
            Self::Kafka(topics) => Ok(Arc::new(KafkaGateway::open(&topics.settings)?)),
        }
    }

    /// The logs of so many workers.
    pub fn workers(&self, count: usize) -> Result<Vec<Box<dyn Log + Send>>, LogError> {
        let one = |index| -> Result<Box<dyn Log + Send>, LogError> {
            match self {
                Self::Embedded(log) => Ok(Box::new(log.worker(index, count)?)),
                Self::Kafka(topics) => Ok(Box::new(KafkaLog::open(&topics.settings, index)?)),
            }
        };
        (0..count).map(one).collect()
    }

    /// Deletes what was made.
    ///
    /// # Errors
    /// What is left, by name.
    pub fn close(self) -> Result<(), LogError> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Kafka(mut topics) => topics.delete(),
        }
    }
}

impl OwnTopics {
    fn delete(&mut self) -> Result<(), LogError> {
        self.deleted = true;
        delete_topics(&self.settings)
    }
}

impl Drop for OwnTopics {
    fn drop(&mut self) {
        if !self.deleted
            && let Err(e) = self.delete()
        {
            eprintln!("cannot delete the topics {}.*: {e}", self.settings.prefix);
        }
    }
}
