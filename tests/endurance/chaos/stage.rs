//! What every scenario has: two Envoys and a store as shipped, hosts, clients at work, and the account of it at the end.

use crate::census::Census;
use crate::load::{Entry, Load};
use crate::rotation::{Rotation, now};
use mooring_test_kit::fleet::{Fleet, Plan, configuration};
use mooring_test_kit::rig::{Bootstrap, EnvoyWorld, Launch, shipped, with_hosts};
use mooring_test_kit::servers::redis::Redis;
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::servers::within;
use mooring_test_kit::world::HostState;
use serde_json::{Value, json};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

/// How much of everything.
pub struct Size {
    full: bool,
    sessions: usize,
    /// Requests a second.
    rate: u32,
    /// While something is broken.
    pub requests: usize,
    /// Of calls to the store: as shipped, or longer, for machines that are busy with other tests.
    pub store_timeout: Duration,
}

impl Size {
    pub fn chosen() -> Self {
        #[allow(clippy::disallowed_methods)]
        let full = std::env::var("MOORING_CHAOS").is_ok_and(|size| size == "full");
        if full {
            Self { full, sessions: 300, rate: 600, requests: 2400, store_timeout: Duration::from_millis(100) }
        } else {
            Self { full, sessions: 40, rate: 250, requests: 160, store_timeout: Duration::from_millis(500) }
        }
    }

    /// These members of the plugin's configuration, and how long calls to the store may take.
    fn with_store(&self, mut members: Value) -> Value {
        members["store"]["timeout"] = format!("{}ms", self.store_timeout.as_millis()).into();
        members
    }
}

/// On a busy machine a probe fails now and then, and the breaker's next pause is twice as long: up to 30 s.
const BREAKER: Duration = Duration::from_secs(90);

/// The store of every scenario.
pub struct Storage {
    pub redis: Redis,
    pub store: Store,
}

impl Storage {
    pub fn start() -> Self {
        let redis = Redis::start();
        let store = Store::start(&["--redis", &redis.url()]);
        Self { redis, store }
    }
}

/// What differs from scenario to scenario.
pub struct Scene {
    /// Its place in the table, and what is done.
    pub title: (u32, &'static str),
    /// Of the plugin's configuration.
    pub plugin: Value,
    pub launch: Launch,
    /// Whether the same happens to an Envoy without the plugin.
    pub control: bool,
}

impl Scene {
    pub fn new(place: u32, title: &'static str) -> Self {
        Self { title: (place, title), plugin: json!({}), launch: Launch::default(), control: false }
    }
}

/// An Envoy whose own `stateful_session` keeps clients on their hosts by a cookie, with clients of its own.
struct Control {
    envoy: EnvoyWorld,
    load: Load,
}

/// A scenario under way.
pub struct Stage {
    scene: Scene,
    pub size: Size,
    pub fleet: Fleet,
    pub rotation: Rotation,
    pub load: Load,
    proxies: Arc<RwLock<Vec<String>>>,
    control: Option<Control>,
    /// When everything was well: counts, and how many requests had been answered.
    well: (Census, usize),
    /// What those that were replaced had counted: their successors begin at 0.
    gone: Census,
    control_well: usize,
    over: Option<Instant>,
    back: Option<Instant>,
}

/// What a scenario came to.
#[derive(Debug)]
pub struct Account {
    pub requests: usize,
    pub failed: usize,
    /// Of those, what no death of a host or an Envoy explains.
    pub because_of_mooring: usize,
    pub moved_host_gone: usize,
    pub moved_host_there: usize,
    pub lost: usize,
    pub cookies: usize,
    pub lookups: u64,
    pub vm_restarts: u64,
    /// What the plugins counted meanwhile.
    pub census: (Census, Census),
}

impl Account {
    /// How far a counter went up.
    pub fn counted(&self, name: &str) -> u64 {
        self.census.1.of(name).checked_sub(self.census.0.of(name)).expect("counters only go up")
    }
}

/// The shipped intervals of the health checks, and of what workers hear of them.
fn unhurried(bootstrap: &mut Bootstrap, file: &str) {
    let as_shipped = shipped(file)["static_resources"]["clusters"].clone();
    for cluster in bootstrap.0["static_resources"]["clusters"].as_array_mut().expect("clusters") {
        // `other` is a copy of `app`.
        let name = if cluster["name"] == "other" { "app" } else { cluster["name"].as_str().expect("a name") };
        let original = as_shipped.as_array().expect("clusters").iter().find(|known| known["name"] == name);
        for member in ["health_checks", "common_lb_config"] {
            cluster[member] = original.expect("a cluster of this name")[member].clone();
        }
    }
}

/// The same Envoy without the plugin: `stateful_session` in its own cookie mode.
fn without_plugin(bootstrap: &mut Bootstrap) {
    let filters = bootstrap.http()["http_filters"].as_array_mut().expect("filters");
    filters.retain(|filter| filter["typed_config"]["config"]["vm_config"].is_null());
    let session = filters.iter_mut().find(|filter| filter["name"] == "envoy.filters.http.stateful_session");
    session.expect("the filter")["typed_config"]["session_state"] = json!({
        "name": "envoy.http.stateful_session.cookie",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
            "cookie": {"name": "m", "path": "/"},
        },
    });
}

impl Stage {
    /// Starts everything, and lets every session come back to every proxy.
    pub fn set(scene: Scene, store: &str) -> Self {
        Self::adjusted(scene, store, |_| ())
    }

    /// As [`Self::set`], with a bootstrap that `adjust` has changed.
    pub fn adjusted(scene: Scene, store: &str, adjust: impl FnOnce(&mut Bootstrap)) -> Self {
        let size = Size::chosen();
        let plan = Plan { launch: scene.launch.clone(), ..Plan::new(size.with_store(scene.plugin.clone())) };
        let mut plain = None;
        let fleet = Fleet::adjusted(store, plan, |bootstrap| {
            if size.full {
                unhurried(bootstrap, "store.yaml");
            }
            adjust(bootstrap);
            plain = Some(Bootstrap(bootstrap.0.clone()));
        });
        let rotation = Rotation::default();
        let proxies = Arc::new(RwLock::new(addresses(&fleet)));
        let load = Load::start(Arc::clone(&proxies), size.sessions, size.rate);
        let control = scene.control.then(|| {
            let mut bootstrap = plain.expect("a bootstrap");
            without_plugin(&mut bootstrap);
            let envoy = EnvoyWorld::run_with(bootstrap, Vec::new(), 2, &scene.launch);
            fleet[0].hosts.iter().for_each(|host| envoy.wait_for_health(host, true));
            let address = Arc::new(RwLock::new(vec![envoy.envoy.address.clone()]));
            Control { load: Load::start(address, size.sessions, size.rate), envoy }
        });
        // Everyone has been to each proxy, as good as certainly, and what the workers did not know they do.
        load.serve(size.sessions * 8);
        load.until_normal(now());
        let well = (Census::take(&fleet), load.answered());
        let control_well = control.as_ref().map_or(0, |control| control.load.answered());
        Self {
            scene,
            size,
            fleet,
            rotation,
            load,
            proxies,
            control,
            well,
            gone: Census::default(),
            control_well,
            over: None,
            back: None,
        }
    }

    /// The host's state changes. Returns when every proxy knows, but for the death of a host.
    pub fn host(&mut self, name: &str, state: HostState) {
        if state != HostState::Healthy {
            self.rotation.leaves(name);
        }
        self.fleet.set_host(name, state);
        if state != HostState::Dead {
            self.until_known(name, state == HostState::Healthy);
        }
    }

    /// Waits until every proxy knows of a host's health.
    pub fn until_known(&mut self, name: &str, healthy: bool) {
        let host = self.fleet[0].hosts.iter().find(|host| host.name == name).expect("a host");
        self.fleet.iter().chain(self.control.iter().map(|control| &control.envoy)).for_each(|proxy| {
            proxy.wait_for_health(host, healthy);
        });
        if healthy {
            self.rotation.is_back(name);
        }
    }

    /// Posts to one of a host's controls.
    pub fn tell(&self, name: &str, what: &str) {
        self.fleet[0].hosts.iter().find(|host| host.name == name).expect("a host").control(what);
    }

    /// The plugin's configuration with these members.
    pub fn plugin(&self, members: Value) -> Value {
        configuration(self.size.with_store(members))
    }

    /// A proxy is about to be replaced: what its plugin has counted until now still counts. After a hot restart the successor has
    /// what was counted since Envoy last flushed its stats (5 s), too, so that this counts twice.
    pub fn remember(&mut self, at: usize) {
        self.gone.add(&self.fleet[at]);
    }

    /// Every Envoy, that without the plugin included.
    pub fn envoys(&mut self) -> impl Iterator<Item = &mut EnvoyWorld> {
        self.fleet.iter_mut().chain(self.control.iter_mut().map(|control| &mut control.envoy))
    }

    /// How many hosts of the cluster `app` the proxies know, together.
    pub fn known_hosts(&self) -> u64 {
        self.fleet.iter().map(|proxy| proxy.envoy.stat("cluster.app.membership_total")).sum()
    }

    /// Lets as many requests come as belong to the fault.
    pub fn serve(&self) {
        self.load.serve(self.size.requests);
    }

    /// Proxies may have other addresses now.
    pub fn find_proxies(&self) {
        *self.proxies.write().expect("a lock") = addresses(&self.fleet);
    }

    /// Whatever was broken is whole again.
    pub fn over(&mut self) {
        self.over = Some(now());
    }

    /// Waits until everything is as usual: every session resumed on its host, without a cookie.
    pub fn until_normal(&mut self) {
        let over = self.over.expect("a fault that is over");
        self.back = self.load.until_normal(over);
    }

    /// As [`Self::until_normal`], and the store is asked and answers: all circuit breakers are closed.
    pub fn until_the_store_is_asked(&mut self) {
        self.until_normal();
        let over = self.over.expect("a fault that is over");
        let left_alone = |census: &Census| census.calls("lookup", &["skipped"]);
        let (mut last, mut since) = (Census::take(&self.fleet), now());
        within(BREAKER, "the store to be asked again", || {
            // Counts are handed over once a second: two of that tell.
            std::thread::sleep(Duration::from_millis(100));
            let census = Census::take(&self.fleet);
            if left_alone(&census) != left_alone(&last) {
                self.back = Some(now()).max(self.back);
                (last, since) = (census, now());
                return None;
            }
            (since.elapsed() > Duration::from_millis(2200) && census.lookups() > last.lookups()).then_some(())
        });
        self.back = self.back.filter(|back| *back > over);
    }

    /// Ends the load, and holds what happened against what must never.
    pub fn account(self) -> Account {
        let Self { scene, fleet, rotation, load, control, well, gone, control_well, over, back, .. } = self;
        let over = over.expect("a fault that is over");
        let late = back.map_or("at once".to_owned(), |back| {
            let requests = load.between(over, back);
            format!("{requests} requests, {:.1} s", (back - over).as_secs_f64())
        });
        let (before, skip) = well;
        let journal = load.stop(skip);
        let after = Census::settled(&fleet).and(&gone);
        let count = |of: &dyn Fn(&Entry) -> bool| journal.iter().filter(|entry| of(entry)).count();
        let account = Account {
            requests: journal.len(),
            failed: count(&|entry| entry.served().is_none()),
            because_of_mooring: count(&|entry| entry.served().is_none() && !entry.died_with_it(&rotation)),
            moved_host_gone: count(&|entry| entry.moved(&rotation) == Some(true)),
            moved_host_there: count(&|entry| entry.moved(&rotation) == Some(false)),
            lost: count(&Entry::lost),
            cookies: count(&Entry::cookie),
            lookups: after.lookups().checked_sub(before.lookups()).expect("counters only go up"),
            vm_restarts: after.vm_restarts(),
            census: (before, after),
        };
        let control = control.map_or("–".to_owned(), |control| {
            let journal = control.load.stop(control_well);
            let failed = journal.iter().filter(|entry| entry.served().is_none()).count();
            format!("{failed} of {}", journal.len())
        });
        let (place, title) = scene.title;
        let row = format!(
            "| {title} | {} | {} | {} | {control} | {} | {} | {} | {} | {} | {} | {late} |",
            account.requests,
            account.failed,
            account.because_of_mooring,
            account.moved_host_gone,
            account.moved_host_there,
            account.lost,
            account.cookies,
            account.lookups,
            account.vm_restarts,
        );
        eprintln!("{row}");
        eprintln!("counted: {:?}", account.census.1.beginning("mooring_"));
        #[allow(clippy::disallowed_methods)]
        if let Ok(folder) = std::env::var("MOORING_CHAOS_ROWS") {
            std::fs::write(format!("{folder}/{place:02}"), row + "\n").expect("a file");
        }
        let shown =
            |of: &dyn Fn(&Entry) -> bool| -> Vec<&Entry> { journal.iter().filter(|entry| of(entry)).take(5).collect() };
        assert_eq!(
            account.because_of_mooring,
            0,
            "{:#?}",
            shown(&|entry| entry.served().is_none() && !entry.died_with_it(&rotation))
        );
        assert_eq!(account.moved_host_there, 0, "{:#?}", shown(&|entry| entry.moved(&rotation) == Some(false)));
        assert_eq!(account.lost, 0, "{:#?}", shown(&Entry::lost));
        assert_eq!(account.vm_restarts, 0);
        for proxy in fleet.iter() {
            let log = proxy.envoy.log();
            assert!(!log.contains("panicked"), "{log}");
        }
        account
    }
}

fn addresses(fleet: &Fleet) -> Vec<String> {
    fleet.iter().map(|proxy| proxy.envoy.address.clone()).collect()
}

/// A cluster whose hosts are read from a file.
pub fn read_from(cluster: &mut Value, folder: &std::path::Path) {
    let members = cluster.as_object_mut().expect("a cluster");
    let hosts = members.remove("load_assignment").expect("hosts");
    members.insert("type".into(), "EDS".into());
    members.insert(
        "eds_cluster_config".into(),
        json!({"eds_config": {"resource_api_version": "V3", "path_config_source":
            {"path": folder.join("eds.json"), "watched_directory": {"path": folder}}}}),
    );
    write_hosts(hosts, folder);
}

/// Writes the hosts that [`read_from`] reads.
pub fn write_hosts(mut hosts: Value, folder: &std::path::Path) {
    hosts["@type"] = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment".into();
    std::fs::write(folder.join("eds.new"), json!({"resources": [hosts]}).to_string()).expect("a file");
    std::fs::rename(folder.join("eds.new"), folder.join("eds.json")).expect("a file");
}

/// The hosts at these addresses, as [`write_hosts`] wants them.
pub fn hosts_at(addresses: &[&str]) -> Value {
    with_hosts(json!({}), "app", addresses)["load_assignment"].take()
}
