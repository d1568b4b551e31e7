//! Two Envoys and a store as shipped, scraped as `prometheus.yaml` says, and the clients of an eventful minute.

use mooring_test_kit::browser::Browser;
use mooring_test_kit::fleet::{Fleet, Plan, configuration, unchecked};
use mooring_test_kit::rig::eventually;
use mooring_test_kit::servers::prometheus::Prometheus;
use mooring_test_kit::servers::root;
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::tokens::keys_reversed;
use mooring_test_kit::world::{HostState, Response, World};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// The sessions of the day.
pub const SESSIONS: usize = 40;
/// Cookies of each kind that nobody here made.
pub const FORGED: usize = 20;
/// Sessions that the application ends.
pub const ENDED: usize = 10;

/// A file under `deploy/monitoring/`.
pub fn shipped(file: &str) -> Value {
    let text = std::fs::read_to_string(root().join("deploy/monitoring").join(file)).expect("a file");
    serde_norway::from_str(&text).expect("YAML, or JSON")
}

/// The rules as shipped, but for what is waited for: alerts fire a second after they are pending.
fn hurried(mut rules: Value) -> Value {
    for group in rules["groups"].as_array_mut().expect("groups") {
        for rule in group["rules"].as_array_mut().expect("rules") {
            if !rule["for"].is_null() {
                rule["for"] = "1s".into();
            }
        }
    }
    rules
}

/// What clients saw.
#[derive(Debug, Default)]
pub struct Tally {
    /// Responses by the plugin's word.
    pub decisions: BTreeMap<String, usize>,
    /// Sessions that got a pin, by the host's address.
    pub pinned: BTreeMap<String, usize>,
}

pub struct Stage {
    pub fleet: Fleet,
    pub store: Store,
    pub prometheus: Prometheus,
    pub tally: Tally,
    browsers: Vec<Browser>,
    /// What was counted before Prometheus came.
    before: BTreeMap<String, f64>,
}

impl Stage {
    /// Starts everything. Every host has been pinned by then, on either Envoy, and Prometheus has seen every counter as it stands.
    pub fn set() -> Self {
        let store = Store::start(&[]);
        // A store that is dead is to be met by the plugin: Envoy must not leave it out first.
        let mut fleet = Fleet::of(&store.address, Plan { adjust: unchecked, ..Plan::new(json!({})) });
        for proxy in fleet.iter_mut() {
            (0..12).for_each(|_| drop(Browser::default().get(proxy, "/")));
            proxy.settle();
        }
        let mut configuration = shipped("prometheus.yaml");
        for interval in ["scrape_interval", "evaluation_interval"] {
            configuration["global"][interval] = "500ms".into();
        }
        configuration["rule_files"] = json!(["rules.yaml"]);
        let envoys: Vec<&str> = fleet.iter().map(|proxy| proxy.envoy.admin_address()).collect();
        configuration["scrape_configs"][0]["static_configs"] = json!([{"targets": envoys}]);
        configuration["scrape_configs"][1]["static_configs"] = json!([{"targets": [store.metrics_address]}]);
        let prometheus = Prometheus::start(&configuration, &hurried(shipped("mooring.rules.yaml")));
        eventually("Prometheus to scrape everything twice", || {
            let scraped = prometheus.query("count_over_time(up[1m]) >= 2 and up == 1").len();
            (scraped == 3 && prometheus.value("count(mooring_requests{session=\"none\"})") == Some(2.0)).then_some(())
        });
        let before = counters(&fleet);
        Self { fleet, store, prometheus, tally: Tally::default(), browsers: Vec::new(), before }
    }

    /// A request of this browser through this proxy.
    fn get(&mut self, browser: usize, proxy: usize, path: &str) {
        let response = self.browsers[browser].get(&mut self.fleet[proxy], path);
        self.note(&response);
    }

    /// One of this cookie.
    fn present(&mut self, cookie: &str, proxy: usize) {
        let response = Browser::holding(cookie).get(&mut self.fleet[proxy], "/");
        self.note(&response);
    }

    fn note(&mut self, response: &Response) {
        let decision = response.decision();
        if ["created", "pinned", "moved"].contains(&decision.as_str()) {
            let host = self.fleet[0].hosts.iter().find(|host| host.name == response.host()).expect("a host");
            *self.tally.pinned.entry(host.address.clone()).or_default() += 1;
        }
        *self.tally.decisions.entry(decision).or_default() += 1;
    }

    /// Every session makes a request, through the proxy that it began at or (`crossed`) the other.
    fn everybody(&mut self, crossed: bool) {
        for browser in 0..self.browsers.len() {
            self.get(browser, (browser + usize::from(crossed)) % 2, "/");
        }
    }

    /// Sessions begin and go on; each host fails in turn, and comes back.
    pub fn let_sessions_move(&mut self) {
        self.browsers = vec![Browser::default(); SESSIONS];
        self.everybody(false);
        self.everybody(true);
        for host in ["a", "b", "c"] {
            self.fleet.set_host(host, HostState::Unhealthy);
            self.everybody(false);
            self.fleet.set_host(host, HostState::Healthy);
        }
    }

    /// Somebody makes cookies up: no token, a token whose key nobody has, and one that was changed.
    pub fn forge(&mut self) {
        let mut cookie = self.browsers[0].cookie().expect("a cookie").to_owned();
        let unknown = cookie.replacen(".new.", ".gone.", 1);
        let changed = if cookie.pop() == Some('A') { 'E' } else { 'A' };
        cookie.push(changed);
        let forged = ["garbage".into(), unknown, cookie];
        for at in 0..FORGED {
            forged.iter().for_each(|cookie| self.present(cookie, at % 2));
        }
    }

    /// Another key signs on this proxy from now on.
    pub fn rotate_key(&mut self, proxy: usize) {
        self.fleet[proxy].reconfigure(rotated());
    }

    /// Sessions come back after the rotation, and the application ends some of them.
    pub fn let_sessions_end(&mut self) {
        self.everybody(false);
        self.everybody(true);
        (0..ENDED).for_each(|browser| self.get(browser, browser % 2, "/?action=end"));
        self.browsers.drain(..ENDED);
    }

    /// The store dies, and the proxies meet sessions that they do not know.
    pub fn lose_the_store(&mut self) {
        self.store.kill();
        for _ in 0..3 {
            self.browsers = vec![Browser::default(); SESSIONS];
            self.everybody(false);
            self.everybody(true);
        }
    }

    /// What all Envoys have counted since Prometheus came. Series that match every `label="value"`.
    pub fn counted(&self, name: &str, labels: &[&str]) -> f64 {
        let now = counters(&self.fleet);
        let of = |counters: &BTreeMap<String, f64>| -> f64 {
            let matching = counters.iter().filter(|(series, _)| {
                series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label))
            });
            matching.map(|(_, value)| value).sum()
        };
        of(&now) - of(&self.before)
    }
}

/// The plugin's metrics as Prometheus is told them, summed over the Envoys. Every request is counted.
fn counters(fleet: &Fleet) -> BTreeMap<String, f64> {
    let mut counters = BTreeMap::new();
    for proxy in fleet.iter() {
        proxy.settle();
        let text = proxy.envoy.admin("/stats/prometheus?filter=mooring").expect("Envoy");
        for line in text.lines().filter(|line| line.starts_with("mooring_")) {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            *counters.entry(series.to_owned()).or_default() += value.parse::<f64>().expect("a number");
        }
    }
    counters
}

/// The plugin's configuration after the rotation.
fn rotated() -> Value {
    configuration(json!({"keys": keys_reversed()}))
}

/// Its version, as the documentation has it.
pub fn rotated_version() -> String {
    let digest = Sha256::digest(rotated().to_string().as_bytes());
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
