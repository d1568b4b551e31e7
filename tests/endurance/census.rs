//! What the plugins of a fleet counted.

use crate::rotation::now;
use mooring_test_kit::fleet::Fleet;
use mooring_test_kit::rig::{EnvoyWorld, eventually};
use mooring_test_kit::world::is_counted;
use std::collections::BTreeMap;
use std::time::Duration;

/// Counts are handed to Envoy once a second.
const HANDED_OVER: Duration = Duration::from_millis(1200);

/// Counters by name, those of all proxies together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census(BTreeMap<String, u64>);

impl Census {
    /// What they have counted so far. While requests are under way, that is a second old.
    pub fn take(fleet: &Fleet) -> Self {
        let mut census = Self::default();
        fleet.iter().for_each(|proxy| census.add(proxy));
        census
    }

    /// Adds what one proxy's have counted so far.
    pub fn add(&mut self, proxy: &EnvoyWorld) {
        let stats = eventually("Envoy's stats", || proxy.envoy.admin("/stats?filter=^wasm"));
        for (name, value) in stats.lines().filter_map(|line| line.split_once(": ")) {
            let name = name.trim_start_matches("wasmcustom.").to_owned();
            *self.0.entry(name).or_default() += value.parse::<u64>().unwrap_or(0);
        }
    }

    /// With what these counted, too.
    pub fn and(mut self, others: &Self) -> Self {
        others.0.iter().for_each(|(name, count)| *self.0.entry(name.clone()).or_default() += count);
        self
    }

    /// What they have counted when nothing is under way any more.
    pub fn settled(fleet: &Fleet) -> Self {
        let (mut last, mut since) = (Self::take(fleet), now());
        eventually("the plugins' counts", || {
            let census = Self::take(fleet);
            if census != last {
                (last, since) = (census, now());
            }
            (since.elapsed() > HANDED_OVER).then(|| last.clone())
        })
    }

    /// A counter, over all values of labels that are not named.
    pub fn of(&self, name: &str) -> u64 {
        self.0.iter().filter(|(stat, _)| is_counted(stat, name)).map(|(_, count)| count).sum()
    }

    /// Calls to the store, by what came of them.
    pub fn calls(&self, operation: &str, results: &[&str]) -> u64 {
        let name = |result| format!("mooring_store_calls.operation={operation}.result={result}");
        results.iter().map(|result| self.of(&name(result))).sum()
    }

    /// Lookups that the store was asked for, and answered.
    pub fn lookups(&self) -> u64 {
        self.calls("lookup", &["ok", "missing", "revoked"])
    }

    /// How often a VM was started again, or could not be.
    pub fn vm_restarts(&self) -> u64 {
        let restarts = ["vm_reload", "vm_reload_success", "vm_reload_failure", "vm_reload_backoff"];
        restarts.iter().map(|stat| self.of(&format!("wasm.mooring.{stat}"))).sum()
    }

    /// Everything that is not zero and begins so.
    pub fn beginning(&self, prefix: &str) -> Vec<(&str, u64)> {
        let counters = self.0.iter().filter(|(name, count)| name.starts_with(prefix) && **count > 0);
        counters.map(|(name, count)| (name.as_str(), *count)).collect()
    }
}
