//! The rig: Envoys with `envoy/store.yaml`, the same upstream hosts, and the same store.

use crate::browser::Browser;
use crate::rig::{Bootstrap, EnvoyWorld, Launch, eventually, start_hosts, with_hosts};
use crate::servers::store::Store;
use crate::world::{HostState, World, plugin};
use serde_json::{Value, json};
use std::ops::{Index, IndexMut};

/// Envoys, which share hosts and store.
pub struct Fleet {
    /// The first of them has the hosts.
    proxies: Vec<EnvoyWorld>,
}

/// What differs from the shipped config.
pub struct Plan {
    /// How many Envoys.
    pub envoys: usize,
    /// How many workers each has.
    pub workers: u32,
    /// How each is started.
    pub launch: Launch,
    /// The plugin's configuration. Of `store`, what is not the same for all.
    pub plugin: Value,
    /// What is changed of the shipped config.
    pub adjust: fn(&mut Bootstrap),
}

impl Plan {
    /// Two Envoys with two workers each, and this configuration of the plugin.
    pub fn new(plugin: Value) -> Self {
        Self { envoys: 2, workers: 2, launch: Launch::default(), plugin, adjust: |_| () }
    }
}

/// The store's cluster as it is for a store that speaks HTTP/1.1 and knows nothing of health checks.
pub fn over_http1(bootstrap: &mut Bootstrap) {
    let cluster = bootstrap.cluster("session_store");
    cluster.as_object_mut().expect("a cluster").remove("health_checks");
    let options =
        &mut cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    options["explicit_http_config"] = json!({"http_protocol_options": {}});
}

/// Without Envoy's own judgement of the store, which would come between the plugin and what it is to meet.
pub fn unchecked(bootstrap: &mut Bootstrap) {
    let cluster = bootstrap.cluster("session_store").as_object_mut().expect("a cluster");
    cluster.remove("health_checks");
    cluster.remove("outlier_detection");
}

/// As [`over_http1`] and [`unchecked`].
pub fn over_unchecked_http1(bootstrap: &mut Bootstrap) {
    over_http1(bootstrap);
    unchecked(bootstrap);
}

impl Fleet {
    /// Two Envoys with the store at `address`.
    pub fn start(address: &str, plugin: Value) -> Self {
        Self::of(address, Plan::new(plugin))
    }

    /// Envoys as `plan` has them, with the store at `address`.
    pub fn of(address: &str, plan: Plan) -> Self {
        let adjust = plan.adjust;
        Self::adjusted(address, plan, adjust)
    }

    /// As [`Self::of`], with another `adjust` than the plan's.
    pub fn adjusted(address: &str, plan: Plan, adjust: impl FnOnce(&mut Bootstrap)) -> Self {
        let hosts = start_hosts("127.0.0.1:0");
        let addresses: Vec<&str> = hosts.iter().map(|host| host.address.as_str()).collect();
        let (app, other) = addresses.split_at(3);
        let mut bootstrap = Bootstrap::from_file("store.yaml", app, other);
        let cluster = bootstrap.cluster("session_store");
        *cluster = with_hosts(cluster.take(), "session_store", &[address]);
        bootstrap.set_plugin(&configuration(plan.plugin));
        adjust(&mut bootstrap);

        let mut hosts = Some(hosts);
        let start = |_| {
            let bootstrap = Bootstrap(bootstrap.0.clone());
            EnvoyWorld::run_with(bootstrap, hosts.take().unwrap_or_default(), plan.workers, &plan.launch)
        };
        let fleet = Self { proxies: (0..plan.envoys).map(start).collect() };
        fleet.wait_for_hosts();
        fleet
    }

    fn wait_for_hosts(&self) {
        for proxy in &self.proxies {
            self.proxies[0].hosts.iter().for_each(|host| proxy.wait_for_health(host, true));
        }
    }

    /// Changes a host's state. Returns when every proxy knows.
    pub fn set_host(&mut self, name: &str, state: HostState) {
        self.proxies[0].set_host(name, state);
        let host = self.proxies[0].hosts.iter().find(|host| host.name == name).expect("a host");
        if state != HostState::Dead {
            self.proxies.iter().for_each(|proxy| proxy.wait_for_health(host, state == HostState::Healthy));
        }
    }

    /// Stops a proxy and starts it again.
    pub fn restart(&mut self, at: usize) {
        self.proxies[at].restart();
        self.wait_for_hosts();
    }

    /// A browser that has come back to a proxy with its first cookie, so that the store knows its session; and its host.
    pub fn browser(&mut self, at: usize) -> (Browser, String) {
        let mut browser = Browser::default();
        let home = browser.get(&mut self[at], "/").host().to_owned();
        assert_eq!(browser.get(&mut self[at], "/").host(), home);
        (browser, home)
    }

    /// A counter of every proxy's plugin, together.
    pub fn counter(&mut self, name: &str) -> u64 {
        self.proxies.iter_mut().map(|proxy| proxy.counter(name)).sum()
    }

    /// How often the plugins asked the store for this, whatever came of it.
    pub fn calls(&mut self, operation: &str) -> u64 {
        ["ok", "conflict", "missing", "revoked", "failed"]
            .map(|result| self.counter(&format!("mooring_store_calls.operation={operation}.result={result}")))
            .iter()
            .sum()
    }

    /// Every proxy.
    pub fn iter(&self) -> impl Iterator<Item = &EnvoyWorld> {
        self.proxies.iter()
    }

    /// Every proxy, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut EnvoyWorld> {
        self.proxies.iter_mut()
    }

    /// No VM of any proxy has stopped.
    pub fn assert_sound(&self) {
        self.iter().for_each(EnvoyWorld::assert_sound);
    }
}

impl Index<usize> for Fleet {
    type Output = EnvoyWorld;
    fn index(&self, at: usize) -> &EnvoyWorld {
        &self.proxies[at]
    }
}

impl IndexMut<usize> for Fleet {
    fn index_mut(&mut self, at: usize) -> &mut EnvoyWorld {
        &mut self.proxies[at]
    }
}

/// The plugin's configuration: these members, and a store.
pub fn configuration(members: Value) -> Value {
    let mut plugin = plugin(members);
    // A busy machine is no fault of the store's: tests of faults set a timeout themselves.
    let mut store = json!({"protocol": "rest", "cluster": "session_store", "timeout": "5s"});
    let own = plugin["store"].take();
    store.as_object_mut().expect("an object").extend(own.as_object().cloned().unwrap_or_default());
    plugin["store"] = store;
    plugin
}

/// How many requests of this operation a store has had.
pub fn requests(store: &Store, operation: &str) -> u64 {
    let metrics = eventually("the store's metrics", || {
        let client = reqwest::blocking::Client::builder().no_proxy().build().expect("a client");
        client.get(store.metrics_url()).send().ok()?.text().ok()
    });
    let line = format!("mooring_store_requests_total{{operation=\"{operation}\",");
    let counts = metrics.lines().filter(|known| known.starts_with(&line));
    counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}
