//! Every metric of the process, one function per observation, and their Prometheus text.
//!
//! Names follow Prometheus' conventions: base units, `_total` on counters, labels from closed sets alone. Knows plain numbers and names; nothing
//! of logs, engines or HTTP. Observing is cheap enough for once per interaction and never fails.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    exponential_buckets,
};

use crate::interaction::{RejectClass, Timestamp};

/// Kinds that get a label of their own; any other word, which a customer of this service may choose freely, counts as `other`.
const KINDS: [&str; 11] =
    ["message", "email", "review", "call", "purchase", "return", "visit", "ticket_opened", "ticket_closed", "campaign", "survey"];
const UNKNOWN: &str = "unknown";

/// What became of one input record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    Scored,
    Duplicate,
    Rejected,
}

impl EventOutcome {
    const ALL: [Self; 3] = [Self::Scored, Self::Duplicate, Self::Rejected];

    fn name(self) -> &'static str {
        match self {
            Self::Scored => "scored",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
        }
    }
}

/// A timed part of a batch's way through a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bytes to interactions.
    Decode,
    /// Texts to vectors.
    Encode,
    /// Recurrent steps, heads and policies.
    Step,
    /// Outputs, states and offsets made durable.
    Commit,
}

/// How one attempt to commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    Committed,
    /// Nothing changed; it will be tried again.
    Retried,
    /// Nothing of it is visible; the worker rewound.
    Aborted,
    /// The worker stops.
    Fatal,
}

impl CommitOutcome {
    const ALL: [Self; 4] = [Self::Committed, Self::Retried, Self::Aborted, Self::Fatal];

    fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Retried => "retried",
            Self::Aborted => "aborted",
            Self::Fatal => "fatal",
        }
    }
}

/// What became of an announced model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwapOutcome {
    /// It serves from the workers' next batches on.
    Swapped,
    /// It is damaged, not the announced one, or out of reach; what served goes on serving.
    Refused,
}

impl SwapOutcome {
    const ALL: [Self; 2] = [Self::Swapped, Self::Refused];

    fn name(self) -> &'static str {
        match self {
            Self::Swapped => "swapped",
            Self::Refused => "refused",
        }
    }
}

/// What champion and challenger say of an interaction as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShadowNumber {
    Dissatisfied,
    Churn,
    Purchases,
    Amount,
    Anomaly,
}

impl ShadowNumber {
    pub const ALL: [Self; 5] = [Self::Dissatisfied, Self::Churn, Self::Purchases, Self::Amount, Self::Anomaly];

    /// Name of its metric, and what that says.
    fn metric(self) -> (&'static str, &'static str) {
        match self {
            Self::Dissatisfied => {
                ("rapport_shadow_dissatisfied_difference", "Distance of the challenger's dissatisfied from the champion's")
            }
            Self::Churn => {
                ("rapport_shadow_churn_difference", "Distance of the challenger's churn from the champion's over the same horizon")
            }
            Self::Purchases => (
                "rapport_shadow_purchases_difference",
                "Distance of the purchases that the challenger expects from the champion's over the same horizon, in parts of the larger",
            ),
            Self::Amount => (
                "rapport_shadow_amount_difference",
                "Distance of the amount that the challenger expects from the champion's over the same horizon, in parts of the larger",
            ),
            Self::Anomaly => ("rapport_shadow_anomaly_difference", "Distance of the challenger's anomaly from the champion's"),
        }
    }
}

/// What went wrong in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFault {
    /// The directory or bucket did not answer, or not as it should.
    Store,
    /// The log did not.
    Log,
    /// Rows could not be made into columns.
    Write,
    /// What was to be archived is gone: retention was faster.
    Lost,
    /// A record that was scored cannot be read.
    Undecodable,
}

impl ArchiveFault {
    const ALL: [Self; 5] = [Self::Store, Self::Log, Self::Write, Self::Lost, Self::Undecodable];

    fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Log => "log",
            Self::Write => "write",
            Self::Lost => "lost",
            Self::Undecodable => "undecodable",
        }
    }
}

struct Metrics {
    registry: Registry,
    events: IntCounterVec,
    rejects: IntCounterVec,
    refused_lines: IntCounterVec,
    unknown_fields: IntCounter,
    texts_cut: IntCounter,
    batch_records: Histogram,
    decode: Histogram,
    encode: Histogram,
    step: Histogram,
    commit: Histogram,
    latency: Histogram,
    commits: IntCounterVec,
    lag: IntGaugeVec,
    partitions: IntGaugeVec,
    customer_bytes: Histogram,
    restored: IntCounter,
    restore_seconds: Histogram,
    rebalances: IntCounter,
    rebuilt: IntCounter,
    swaps: IntCounterVec,
    load_seconds: Histogram,
    drift: GaugeVec,
    shadow_model: IntGaugeVec,
    shadow_scores: IntCounter,
    /// In the order of [`ShadowNumber::ALL`].
    shadow_differences: [Histogram; ShadowNumber::ALL.len()],
    shadow_classes: IntCounterVec,
    lost: IntCounter,
    alerts: IntCounterVec,
    model: IntGaugeVec,
    ready: IntGauge,
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
    archive_rows: IntCounterVec,
    archive_files: IntCounterVec,
    archive_bytes: IntCounterVec,
    archive_lag: Gauge,
    archive_faults: IntCounterVec,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    /// Panics only where two metrics below share a name or a name is malformed, which the first test would show.
    #[allow(clippy::expect_used)]
    fn new() -> Self {
        let registry = Registry::new();
        fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
            let metric = made.expect("metric names are constants");
            registry.register(Box::new(metric.clone())).expect("metric names are unique");
            metric
        }
        let counter = |name: &str, help: &str| add(&registry, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| add(&registry, IntCounterVec::new(Opts::new(name, help), labels));
        let gauges = |name: &str, help: &str, labels: &[&str]| add(&registry, IntGaugeVec::new(Opts::new(name, help), labels));
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            add(&registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
        };
        let doubling = |from: f64, count: usize| exponential_buckets(from, 2.0, count).expect("constants above zero");
        // 25 µs to 26 s: a batch of one decodes in microseconds, a commit to a slow broker takes seconds.
        let stage = || doubling(25e-6, 21);

        let build = gauges("rapport_build_info", "Constant 1, labelled by the version of this build.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);

        let metrics = Self {
            events: counters("rapport_events_total", "Input records by kind and by what became of them.", &["kind", "outcome"]),
            rejects: counters("rapport_rejects_total", "Input records that were not accepted, by class.", &["class"]),
            refused_lines: counters(
                "rapport_http_refused_lines_total",
                "Lines of POST /v1/interactions that went back to their sender, by class.",
                &["class"],
            ),
            unknown_fields: counter("rapport_unknown_fields_total", "Fields of accepted interactions that the format does not know."),
            texts_cut: counter("rapport_texts_cut_total", "Texts that were over 16 KiB and were cut."),
            batch_records: histogram("rapport_batch_records", "Input records per batch.", doubling(1.0, 14)),
            decode: histogram("rapport_decode_seconds", "Time to decode and validate a batch.", stage()),
            encode: histogram("rapport_encode_seconds", "Time to turn a batch's texts into vectors.", stage()),
            step: histogram("rapport_step_seconds", "Time of a batch's recurrent steps, heads and policies.", stage()),
            commit: histogram("rapport_commit_seconds", "Time to make a batch's outputs, states and offsets durable.", stage()),
            latency: histogram(
                "rapport_event_to_commit_seconds",
                "From the log taking an interaction to its score being visible.",
                doubling(0.5e-3, 21),
            ),
            commits: counters("rapport_commits_total", "Attempts to commit by outcome.", &["outcome"]),
            lag: gauges("rapport_lag_records", "Input records behind the end of each owned partition.", &["partition"]),
            partitions: gauges("rapport_assigned_partitions", "Input partitions that each worker owns.", &["worker"]),
            customer_bytes: histogram(
                "rapport_customer_state_bytes",
                "Stored form of one customer's state, as written.",
                doubling(64.0, 10),
            ),
            restored: counter("rapport_states_restored_total", "Customer states read back from the changelog, superseded ones included."),
            restore_seconds: histogram("rapport_restore_seconds", "Time to restore the states of an assignment.", doubling(1e-3, 20)),
            rebalances: counter("rapport_rebalances_total", "Times that a worker's set of partitions changed."),
            rebuilt: counter(
                "rapport_states_rebuilt_total",
                "Customers whose model state was rebuilt from the window for another model version.",
            ),
            swaps: counters(
                "rapport_model_swaps_total",
                "Models that were announced, by role and by what became of them.",
                &["role", "outcome"],
            ),
            load_seconds: histogram("rapport_model_load_seconds", "Time to load and check an announced bundle.", doubling(1e-3, 16)),
            drift: add(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        "rapport_drift_psi",
                        "Population stability index of the last interactions against the model's training data, by input feature or head.",
                    ),
                    &["feature", "head"],
                ),
            ),
            shadow_model: gauges(
                "rapport_shadow_model_info",
                "Constant 1, labelled by the version of the challenger in shadow.",
                &["version"],
            ),
            shadow_scores: counter("rapport_shadow_scores_total", "Interactions that a challenger in shadow scored."),
            shadow_differences: ShadowNumber::ALL.map(|number| {
                let (name, help) = number.metric();
                histogram(name, &format!("{help}; sum over count is the mean."), vec![0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5])
            }),
            shadow_classes: counters(
                "rapport_shadow_class_total",
                "Interactions by task and whether champion and challenger name the same likeliest class.",
                &["task", "same"],
            ),
            lost: counter("rapport_lost_records_total", "Input records that retention deleted before they were read."),
            alerts: counters("rapport_alerts_total", "Published alert transitions by kind and state.", &["kind", "state"]),
            model: gauges("rapport_model_info", "Constant 1, labelled by the version of the model that serves.", &["version"]),
            ready: add(&registry, IntGauge::new("rapport_ready", "1 while every worker owns its partitions and has restored them.")),
            http_requests: counters("rapport_http_requests_total", "HTTP responses by route and status code.", &["route", "code"]),
            http_seconds: add(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new("rapport_http_request_seconds", "Time to answer an HTTP request.").buckets(doubling(100e-6, 17)),
                    &["route"],
                ),
            ),
            archive_rows: counters("rapport_archive_rows_total", "Rows of published archive files by topic.", &["topic"]),
            archive_files: counters("rapport_archive_files_total", "Published archive files by topic.", &["topic"]),
            archive_bytes: counters("rapport_archive_bytes_total", "Bytes of published archive files by topic.", &["topic"]),
            archive_lag: add(
                &registry,
                Gauge::new("rapport_archive_lag_seconds", "Age of the oldest score that was read and is not in a published file."),
            ),
            archive_faults: counters("rapport_archive_errors_total", "Failures and losses of the archive by kind.", &["kind"]),
            registry,
        };
        #[cfg(target_os = "linux")]
        metrics.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self())).expect("registered once");

        // Series exist from the start, at zero: a rate over the first increment needs the zero before it.
        for class in RejectClass::ALL {
            metrics.rejects.with_label_values(&[class.name()]);
            metrics.refused_lines.with_label_values(&[class.name()]);
        }
        for outcome in EventOutcome::ALL {
            metrics.events.with_label_values(&["message", outcome.name()]);
        }
        for (role, outcome) in ["champion", "shadow"].iter().flat_map(|r| SwapOutcome::ALL.map(|o| (r, o))) {
            metrics.swaps.with_label_values(&[*role, outcome.name()]);
        }
        for outcome in CommitOutcome::ALL {
            metrics.commits.with_label_values(&[outcome.name()]);
        }
        for fault in ArchiveFault::ALL {
            metrics.archive_faults.with_label_values(&[fault.name()]);
        }
        metrics
    }
}

/// One input record was dealt with. `kind` is `None` where it could not be read. A rejected record is also counted by [`reject`].
pub fn event(kind: Option<&str>, outcome: EventOutcome) {
    METRICS.events.with_label_values(&[kind_label(kind), outcome.name()]).inc();
}

/// One input record was not accepted.
pub fn reject(class: RejectClass) {
    METRICS.rejects.with_label_values(&[class.name()]).inc();
}

/// One line of a POST went back to its sender.
pub fn refused_line(class: RejectClass) {
    METRICS.refused_lines.with_label_values(&[class.name()]).inc();
}

/// What decoding tolerated in one accepted interaction.
pub fn tolerated(unknown_fields: usize, text_cut: bool) {
    METRICS.unknown_fields.inc_by(unknown_fields as u64);
    METRICS.texts_cut.inc_by(u64::from(text_cut));
}

/// A batch of `records` input records was polled.
pub fn batch(records: usize) {
    METRICS.batch_records.observe(records as f64);
}

/// A stage of a batch took `elapsed`.
pub fn stage(stage: Stage, elapsed: Duration) {
    let histogram = match stage {
        Stage::Decode => &METRICS.decode,
        Stage::Encode => &METRICS.encode,
        Stage::Step => &METRICS.step,
        Stage::Commit => &METRICS.commit,
    };
    histogram.observe(elapsed.as_secs_f64());
}

/// An interaction that the log took at `logged_at` became visible as a score at `committed_at`.
pub fn event_to_commit(logged_at: Timestamp, committed_at: Timestamp) {
    METRICS.latency.observe(committed_at.seconds_since(logged_at));
}

/// An attempt to commit ended.
pub fn commit(outcome: CommitOutcome) {
    METRICS.commits.with_label_values(&[outcome.name()]).inc();
}

/// Records behind the end of an owned partition; 0 or more.
pub fn lag(partition: i32, records: i64) {
    METRICS.lag.with_label_values(&[partition.to_string()]).set(records.max(0));
}

/// This process no longer owns the partition: its lag is another's to tell.
pub fn forget_lag(partition: i32) {
    // Absent already is as good as removed.
    let _ = METRICS.lag.remove_label_values(&[partition.to_string()]);
}

/// A worker's set of partitions changed to one of `partitions` members.
pub fn rebalanced(worker: usize, partitions: usize) {
    METRICS.rebalances.inc();
    METRICS.partitions.with_label_values(&[worker.to_string()]).set(partitions as i64);
}

/// A customer's state was written, `bytes` long.
pub fn customer_state_bytes(bytes: usize) {
    METRICS.customer_bytes.observe(bytes as f64);
}

/// So many more states were read back.
pub fn states_restored(states: u64) {
    METRICS.restored.inc_by(states);
}

/// All states of an assignment were read back, in this time.
pub fn restored(elapsed: Duration) {
    METRICS.restore_seconds.observe(elapsed.as_secs_f64());
}

/// Customers whose model state was rebuilt from the window because another model version serves.
pub fn rebuilt(customers: usize) {
    METRICS.rebuilt.inc_by(customers as u64);
}

/// Input records are gone unread, because retention deleted them.
pub fn lost(records: u64) {
    METRICS.lost.inc_by(records);
}

/// An alert transition was published. Names as in the record: `satisfaction_low`, `raised`.
pub fn alert(kind: &str, state: &str) {
    METRICS.alerts.with_label_values(&[kind, state]).inc();
}

/// The model version that serves from now on.
pub fn model(version: &str) {
    METRICS.model.reset();
    METRICS.model.with_label_values(&[version]).set(1);
}

/// An announced model of this role (`champion`, `shadow`) was taken up or refused.
pub fn swap(role: &'static str, outcome: SwapOutcome) {
    METRICS.swaps.with_label_values(&[role, outcome.name()]).inc();
}

/// A bundle was loaded and checked, off the workers' threads.
pub fn model_loaded(elapsed: Duration) {
    METRICS.load_seconds.observe(elapsed.as_secs_f64());
}

/// How far an input feature, or else an output, is from the training data of the model that serves.
pub fn drift(name: &str, is_input: bool, psi: f64) {
    // An empty label is none to Prometheus.
    let labels = if is_input { [name, ""] } else { ["", name] };
    METRICS.drift.with_label_values(&labels).set(psi);
}

/// Another model serves, which has a reference of its own.
pub fn forget_drift() {
    METRICS.drift.reset();
}

/// The challenger that scores in shadow from now on, if any.
pub fn shadow_model(version: Option<&str>) {
    METRICS.shadow_model.reset();
    if let Some(version) = version {
        METRICS.shadow_model.with_label_values(&[version]).set(1);
    }
}

/// A challenger scored an interaction too: how far apart the numbers are that both say, and by task whether the likeliest class differs.
pub fn shadow_score(numbers: &[(ShadowNumber, f32)], classes: &[(String, bool)]) {
    METRICS.shadow_scores.inc();
    for (number, difference) in numbers {
        METRICS.shadow_differences[*number as usize].observe(f64::from(*difference));
    }
    for (task, differs) in classes {
        METRICS.shadow_classes.with_label_values(&[task.as_str(), if *differs { "no" } else { "yes" }]).inc();
    }
}

/// Whether this process owns its partitions and has restored them.
pub fn ready(ready: bool) {
    METRICS.ready.set(i64::from(ready));
}

/// An HTTP request was answered. `route` is the route's pattern, never the path itself.
pub fn http_request(route: &'static str, code: u16, elapsed: Duration) {
    METRICS.http_requests.with_label_values(&[route, &code.to_string()]).inc();
    METRICS.http_seconds.with_label_values(&[route]).observe(elapsed.as_secs_f64());
}

/// A file of the archive was published.
pub fn archived(topic: &str, rows: usize, bytes: usize) {
    METRICS.archive_rows.with_label_values(&[topic]).inc_by(rows as u64);
    METRICS.archive_files.with_label_values(&[topic]).inc();
    METRICS.archive_bytes.with_label_values(&[topic]).inc_by(bytes as u64);
}

/// How old the oldest score is that waits for its file, in seconds.
pub fn archive_lag(seconds: f64) {
    METRICS.archive_lag.set(seconds);
}

/// Something went wrong in the archive, `n` times.
pub fn archive_faults(fault: ArchiveFault, n: u64) {
    METRICS.archive_faults.with_label_values(&[fault.name()]).inc_by(n);
}

/// All metrics in Prometheus' text format, version 0.0.4.
pub fn render() -> String {
    let mut out = String::new();
    // Encoding fails only for a metric without a name or help, and the text so far is then the best answer.
    if let Err(e) = TextEncoder::new().encode_utf8(&METRICS.registry.gather(), &mut out) {
        tracing::error!(error = %e, "cannot encode the metrics");
    }
    out
}

fn kind_label(kind: Option<&str>) -> &'static str {
    match kind {
        None => UNKNOWN,
        Some(kind) => KINDS.into_iter().find(|k| *k == kind).unwrap_or("other"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_show_in_the_text() {
        event(Some("review"), EventOutcome::Duplicate);
        event(Some("a word of the sender's own"), EventOutcome::Scored);
        event(None, EventOutcome::Rejected);
        reject(RejectClass::TooLarge);
        tolerated(3, true);
        stage(Stage::Commit, Duration::from_millis(3));
        event_to_commit(Timestamp(1_000_000), Timestamp(1_250_000));
        alert("satisfaction_low", "raised");
        let text = render();
        for line in [
            r#"rapport_events_total{kind="review",outcome="duplicate"} 1"#,
            r#"rapport_events_total{kind="other",outcome="scored"} 1"#,
            r#"rapport_events_total{kind="unknown",outcome="rejected"} 1"#,
            r#"rapport_rejects_total{class="too_large"} 1"#,
            "rapport_unknown_fields_total 3",
            "rapport_texts_cut_total 1",
            "rapport_event_to_commit_seconds_sum 0.25",
            r#"rapport_alerts_total{kind="satisfaction_low",state="raised"} 1"#,
            concat!(r#"rapport_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_model_swap_leaves_one_version_and_a_revoked_partition_no_lag() {
        model("first");
        model("second");
        lag(7, 5);
        lag(8, -1);
        forget_lag(7);
        let text = render();
        assert!(!text.contains("first"), "{text}");
        assert!(text.contains(r#"rapport_model_info{version="second"} 1"#));
        assert!(!text.contains(r#"rapport_lag_records{partition="7"}"#));
        assert!(text.contains(r#"rapport_lag_records{partition="8"} 0"#));
    }
}
