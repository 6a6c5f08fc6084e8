//! Apache Kafka: scores, alerts, dead letters, state changelog and offsets commit in one transaction.
