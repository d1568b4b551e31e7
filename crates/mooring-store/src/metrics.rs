//! What `/metrics` shows.

use crate::backend::Failure;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use std::time::Duration;

/// The operations of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `GET`.
    Lookup,
    /// `PUT`, unless it is a move.
    Create,
    /// `PUT` with `If-Match`.
    Move,
    /// `POST …/touch`.
    Touch,
    /// `DELETE`.
    Revoke,
    /// A method that the contract does not know.
    Other,
}

impl Operation {
    const ALL: [Self; 6] = [Self::Lookup, Self::Create, Self::Move, Self::Touch, Self::Revoke, Self::Other];

    /// One word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Create => "create",
            Self::Move => "move",
            Self::Touch => "touch",
            Self::Revoke => "revoke",
            Self::Other => "other",
        }
    }
}

/// The counters. A clone counts into the same.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    /// Connections that are open.
    pub connections: IntGauge,
    /// Connections that were closed at once because there were too many.
    pub refused: IntCounter,
    sessions: IntGauge,
    tombstones: IntGauge,
    bytes: IntGauge,
    evictions: IntCounter,
    redis_errors: IntCounterVec,
    redis_up: IntGauge,
}

/// Upper bounds in seconds: from memory's tenth of a millisecond to the longest timeout that makes sense.
const BUCKETS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0];

impl Metrics {
    /// All counters at zero.
    ///
    /// # Errors
    /// When two metrics have the same name.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let requests = Opts::new("mooring_store_requests_total", "Requests of the contract, by operation and status.");
        let durations = HistogramOpts::new("mooring_store_request_duration_seconds", "How long a request took.");
        let redis_errors = Opts::new("mooring_store_redis_errors_total", "Commands that Redis did not do, by reason.");
        let metrics = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(requests, &["operation", "status"])?,
            durations: HistogramVec::new(durations.buckets(BUCKETS.to_vec()), &["operation"])?,
            connections: IntGauge::new("mooring_store_connections", "Connections that are open.")?,
            refused: IntCounter::new(
                "mooring_store_connections_refused_total",
                "Connections closed at once: there were too many.",
            )?,
            sessions: IntGauge::new("mooring_store_sessions", "Values in memory.")?,
            tombstones: IntGauge::new("mooring_store_tombstones", "Tombstones in memory.")?,
            bytes: IntGauge::new("mooring_store_memory_bytes", "Bytes of what is in memory, as --max-memory counts.")?,
            evictions: IntCounter::new(
                "mooring_store_evictions_total",
                "Live values that made room in memory for others.",
            )?,
            redis_errors: IntCounterVec::new(redis_errors, &["reason"])?,
            redis_up: IntGauge::new("mooring_store_redis_up", "1 while Redis answers, else 0.")?,
        };
        let common: [Box<dyn Collector>; 4] = [
            Box::new(metrics.requests.clone()),
            Box::new(metrics.durations.clone()),
            Box::new(metrics.connections.clone()),
            Box::new(metrics.refused.clone()),
        ];
        common.into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        for operation in Operation::ALL {
            metrics.duration_of(operation);
        }
        Ok(metrics)
    }

    /// Shows what the memory backend counts.
    ///
    /// # Errors
    /// When it is shown already.
    pub(crate) fn show_memory(&self) -> prometheus::Result<()> {
        self.registry.register(Box::new(self.sessions.clone()))?;
        self.registry.register(Box::new(self.tombstones.clone()))?;
        self.registry.register(Box::new(self.bytes.clone()))?;
        self.registry.register(Box::new(self.evictions.clone()))
    }

    /// Shows what the Redis backend counts.
    ///
    /// # Errors
    /// When it is shown already.
    pub(crate) fn show_redis(&self) -> prometheus::Result<()> {
        for reason in Failure::ALL {
            let _ = self.redis_errors.get_metric_with_label_values(&[reason.word()]);
        }
        self.registry.register(Box::new(self.redis_errors.clone()))?;
        self.registry.register(Box::new(self.redis_up.clone()))
    }

    fn duration_of(&self, operation: Operation) -> Option<Histogram> {
        self.durations.get_metric_with_label_values(&[operation.word()]).ok()
    }

    /// Counts a request that has been answered.
    pub(crate) fn answered(&self, operation: Operation, status: u16, took: Duration) {
        let status = status.to_string();
        if let Ok(requests) = self.requests.get_metric_with_label_values(&[operation.word(), status.as_str()]) {
            requests.inc();
        }
        if let Some(duration) = self.duration_of(operation) {
            duration.observe(took.as_secs_f64());
        }
    }

    /// Says how many values and tombstones memory holds, and how many bytes they take.
    pub(crate) fn kept(&self, values: usize, tombstones: usize, bytes: usize) {
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.sessions.set(i64::try_from(values).unwrap_or(i64::MAX));
        self.tombstones.set(i64::try_from(tombstones).unwrap_or(i64::MAX));
    }

    /// Counts live values that made room in memory.
    pub(crate) fn evicted(&self, values: u64) {
        self.evictions.inc_by(values);
    }

    /// Counts a command that Redis did not do.
    pub(crate) fn redis_failed(&self, reason: Failure) {
        if let Ok(errors) = self.redis_errors.get_metric_with_label_values(&[reason.word()]) {
            errors.inc();
        }
    }

    /// Says whether Redis answers.
    pub(crate) fn redis_answers(&self, answers: bool) {
        self.redis_up.set(i64::from(answers));
    }

    /// All of it, in the text format of Prometheus.
    pub(crate) fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}
