//! The plugin's metrics in the proxy: defined once, and told what was counted since.

use crate::affinity::worker::Worker;
use crate::carrier::Way;
use crate::clock::Monotonic;
use crate::config::{Config, Shared};
use crate::observe::metrics::{ConfigVersion, Counter, Counts, Gauge, Histogram, Names, PluginVersion};
use crate::shell::proxy::{MetricId, MetricKind, Proxy, Status};
use std::rc::Rc;

/// The metrics of one configuration on one worker.
pub(super) struct ProxyMetrics {
    shared: Rc<Shared>,
    version: String,
    ways: Vec<Way>,
    /// By their places. `None`: a host that no session was pinned to yet, or a key or a way that is not configured.
    counters: Vec<Option<MetricId>>,
    histograms: Vec<MetricId>,
    gauges: Vec<SharedGauge>,
}

/// A gauge that all workers share, and this one's part in it.
struct SharedGauge {
    id: MetricId,
    told: i64,
}

impl SharedGauge {
    /// Lost where the proxy refuses, until the next time.
    fn tell<P: Proxy>(&mut self, proxy: &P, value: i64) {
        let difference = value.saturating_sub(self.told);
        if difference != 0 && proxy.add_to_metric(self.id, difference).is_ok() {
            self.told = value;
        }
    }
}

impl ProxyMetrics {
    /// Defines every metric whose name is known.
    ///
    /// # Errors
    /// What the proxy says when it refuses one.
    pub(super) fn define<P: Proxy>(proxy: &P, config: &Config, version: String) -> Result<Self, Status> {
        let ways: Vec<Way> = config.policy.identify.iter().map(|carrier| carrier.way()).collect();
        let names = Names { keyring: &config.shared.keyring, version: &version, hosts: &[], ways: &ways };
        let define = |kind, name: Option<String>| name.map(|name| proxy.define_metric(kind, &name)).transpose();
        let (mut counters, mut histograms, mut gauges) = (Vec::with_capacity(Counter::COUNT), Vec::new(), Vec::new());
        for at in 0..Counter::COUNT {
            counters.push(define(MetricKind::Counter, Counter::name(at, &names))?);
        }
        for at in 0..Histogram::COUNT {
            histograms.extend(define(MetricKind::Histogram, Histogram::name(at, &names))?);
        }
        for at in 0..Gauge::COUNT {
            let id = define(MetricKind::Gauge, Gauge::name(at, &names))?;
            gauges.extend(id.map(|id| SharedGauge { id, told: 0 }));
        }
        Ok(Self { shared: Rc::clone(&config.shared), version, ways, counters, histograms, gauges })
    }

    /// Tells the proxy what was counted. Lost where it refuses: there is nowhere left to count that.
    pub(super) fn hand_over<P: Proxy>(&mut self, proxy: &P, counts: &mut Counts) {
        let taken = counts.take();
        let Self { shared, version, ways, counters, .. } = self;
        let names = Names { keyring: &shared.keyring, version, hosts: counts.hosts(), ways };
        for (at, count) in taken {
            let Some(counter) = counters.get_mut(at) else { continue };
            if counter.is_none()
                && let Some(name) = Counter::name(at, &names)
            {
                *counter = proxy.define_metric(MetricKind::Counter, &name).ok();
            }
            if let Some(id) = counter {
                let _ = proxy.add_to_metric(*id, count.into());
            }
        }
        for (histogram, value) in counts.take_measured() {
            if let Some(id) = self.histograms.get(histogram.index()) {
                let _ = proxy.record_metric(*id, value);
            }
        }
    }

    /// Tells the proxy what the worker has just now, and that this configuration and this plugin are at work on it.
    pub(super) fn tell_gauges<P: Proxy>(&mut self, proxy: &P, worker: &Worker, now: Option<Monotonic>) {
        let at_work = [(Gauge::Config(ConfigVersion), 1), (Gauge::Build(PluginVersion), 1)];
        for (gauge, value) in worker.gauges(now).into_iter().chain(at_work) {
            if let Some(gauge) = self.gauges.get_mut(gauge.index()) {
                gauge.tell(proxy, i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
    }

    /// The configuration is gone from this worker.
    pub(super) fn take_back_gauges<P: Proxy>(&mut self, proxy: &P) {
        for gauge in &mut self.gauges {
            gauge.tell(proxy, 0);
        }
    }
}
