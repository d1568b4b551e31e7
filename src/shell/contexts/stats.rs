//! The plugin's metrics in the proxy: defined once, and told what was counted since.

use crate::affinity::worker::Worker;
use crate::clock::Monotonic;
use crate::config::Config;
use crate::observe::metrics::{self, COUNTERS, Counts, GAUGES, Histogram};
use crate::shell::host::{Host, MetricId, MetricKind, Status};

/// The metrics of one configuration on one worker.
pub struct Stats {
    /// By their places. `None`: of a host that no session was pinned to yet, or of a key that there is not.
    counters: Vec<Option<MetricId>>,
    histograms: Vec<MetricId>,
    gauges: Vec<Gauge>,
}

/// A gauge that all workers share, and this one's part in it.
struct Gauge {
    id: MetricId,
    told: i64,
}

impl Gauge {
    /// Lost where the proxy refuses, until the next time.
    fn tell<H: Host>(&mut self, host: &H, value: i64) {
        let difference = value.saturating_sub(self.told);
        if difference != 0 && host.add_to_metric(self.id, difference).is_ok() {
            self.told = value;
        }
    }
}

impl Stats {
    /// Defines every metric whose name is known.
    ///
    /// # Errors
    /// What the proxy says when it refuses one.
    pub fn define<H: Host>(host: &H, config: &Config, version: &str) -> Result<Self, Status> {
        let mut counters = Vec::with_capacity(COUNTERS);
        for at in 0..COUNTERS {
            let name = metrics::counter_name(at, &config.keyring);
            counters.push(name.map(|name| host.define_metric(MetricKind::Counter, &name)).transpose()?);
        }
        let mut histograms = Vec::new();
        for name in Histogram::names() {
            histograms.push(host.define_metric(MetricKind::Histogram, &name)?);
        }
        let mut gauges = Vec::new();
        let version = metrics::version_gauge(version);
        for name in GAUGES.into_iter().chain([version.as_str()]) {
            gauges.push(Gauge { id: host.define_metric(MetricKind::Gauge, name)?, told: 0 });
        }
        Ok(Self { counters, histograms, gauges })
    }

    /// Tells the proxy what was counted. Lost where it refuses: there is nowhere left to count that.
    pub fn hand_over<H: Host>(&mut self, host: &H, counts: &mut Counts) {
        for (at, count) in counts.take() {
            let Some(counter) = self.counters.get_mut(at) else { continue };
            if counter.is_none()
                && let Some(name) = counts.host_name(at)
            {
                *counter = host.define_metric(MetricKind::Counter, &name).ok();
            }
            if let Some(id) = counter {
                let _ = host.add_to_metric(*id, count.into());
            }
        }
        for (histogram, value) in counts.take_measured() {
            if let Some(id) = self.histograms.get(histogram.index()) {
                let _ = host.record_metric(*id, value);
            }
        }
    }

    /// Tells the proxy what the worker has just now, and that this configuration is at work on it.
    pub fn tell_gauges<H: Host>(&mut self, host: &H, worker: &Worker, now: Monotonic) {
        let values = worker.gauges(now).into_iter().chain([1]);
        for (gauge, value) in self.gauges.iter_mut().zip(values) {
            gauge.tell(host, i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// The configuration is gone from this worker.
    pub fn take_back_gauges<H: Host>(&mut self, host: &H) {
        for gauge in &mut self.gauges {
            gauge.tell(host, 0);
        }
    }
}
