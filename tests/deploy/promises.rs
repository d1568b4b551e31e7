//! What every deployment must keep: two Envoys with the same configuration, hosts behind them, and a session store that they
//! share.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mooring_test_kit::browser::Browser;
use mooring_test_kit::rig::{Bootstrap, EnvoyWorld, Launch, eventually, start_hosts, with_hosts};
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::world::{HostState, NEW_SECRET, Request, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tempfile::TempDir;

/// What the Secret `mooring` holds.
pub const SECRETS: [(&str, &str); 2] = [("MOORING_KEY_2026_11", NEW_SECRET), ("STORE_TOKEN", "let-me-in")];

/// An Envoy's configuration, as a control plane would make it.
pub struct Rendered {
    pub bootstrap: Value,
    /// The cluster of the hosts.
    pub app: String,
    /// The cluster of the session store.
    pub store: String,
    /// Of its process.
    pub environment: Vec<(String, String)>,
    pub arguments: Vec<String>,
}

impl Rendered {
    /// The connection manager's filters.
    pub fn filters(&mut self) -> &mut Vec<Value> {
        manager(&mut self.bootstrap)["http_filters"].as_array_mut().expect("filters")
    }
}

fn manager(bootstrap: &mut Value) -> &mut Value {
    &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

/// The variables of a container whose values are those of a Secret.
pub fn found_in(variables: &Value, secrets: &[(&str, &str)]) -> Vec<(String, String)> {
    let references =
        variables.as_array().expect("variables").iter().filter(|variable| !variable["valueFrom"].is_null());
    let found = references.map(|variable| {
        let reference = &variable["valueFrom"]["secretKeyRef"];
        assert_eq!(reference["name"], "mooring");
        let secret = secrets.iter().find(|(name, _)| reference["key"] == *name);
        let name = variable["name"].as_str().expect("a name").to_owned();
        (name, secret.unwrap_or_else(|| panic!("no secret {}", reference["key"])).1.to_owned())
    });
    found.collect()
}

/// An access log of this format, which is that of `envoy/`. Its file comes later.
pub fn file_log(format: &Value) -> Value {
    let mut shipped = Bootstrap(mooring_test_kit::rig::shipped("envoy.yaml"));
    let shipped = &shipped.http()["access_log"][0]["typed_config"]["log_format"]["text_format_source"]["inline_string"];
    assert_eq!(format, shipped);
    json!({"name": "envoy.access_loggers.file", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": "/dev/stdout",
        "log_format": {"text_format_source": {"inline_string": format}},
    }})
}

/// Two Envoys, hosts and store.
pub struct Stage {
    /// The first of them has the hosts.
    proxies: [EnvoyWorld; 2],
    folder: TempDir,
    _store: Store,
}

impl Stage {
    pub fn start(rendered: &Rendered) -> Self {
        let store = Store::with(&[], &[("MOORING_STORE_TOKEN", SECRETS[1].1)]);
        let folder = tempfile::tempdir().expect("a folder");
        let hosts = start_hosts("127.0.0.1:0");
        let addresses: Vec<&str> = hosts.iter().take(3).map(|host| host.address.as_str()).collect();

        let mut bootstrap = rendered.bootstrap.clone();
        for cluster in bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters") {
            let name = cluster["name"].as_str().expect("a name").to_owned();
            cluster["type"] = "STATIC".into();
            let at = [store.address.as_str()];
            *cluster = match &name {
                app if *app == rendered.app => with_hosts(cluster.take(), &name, &addresses),
                other if *other == rendered.store => with_hosts(cluster.take(), &name, &at),
                other => panic!("a cluster {other}"),
            };
            // On a busy machine a host answers late. One that is dead refuses at once.
            for check in cluster["health_checks"].as_array_mut().into_iter().flatten() {
                check["timeout"] = "10s".into();
            }
        }
        let manager = manager(&mut bootstrap);
        manager["access_log"][0]["typed_config"]["path"] =
            folder.path().join("access.log").to_string_lossy().as_ref().into();
        for filter in manager["http_filters"].as_array_mut().expect("filters") {
            if let Some(plugin) = plugin(filter) {
                be_patient(plugin);
            }
            discover(filter, &folder);
        }

        let launch = Launch {
            arguments: rendered.arguments.clone(),
            environment: rendered.environment.clone(),
            ..Launch::default()
        };
        let proxy = |hosts| EnvoyWorld::run_with(Bootstrap(bootstrap.clone()), hosts, 2, &launch);
        let proxies = [proxy(hosts), proxy(Vec::new())];
        for proxy in &proxies {
            proxies[0].hosts.iter().take(3).for_each(|host| proxy.wait_for_health(host, true));
            eventually("the store to be ready", || {
                let clusters = proxy.envoy.admin("/clusters")?;
                clusters
                    .lines()
                    .any(|line| line.ends_with(&format!("{}::health_flags::healthy", store.address)))
                    .then_some(())
            });
        }
        Self { proxies, folder, _store: store }
    }

    /// Has a client without a cookie served.
    pub fn serves_a_new_client(&mut self) -> Browser {
        let mut browser = Browser::default();
        browser.get(&mut self.proxies[0], "/").host();
        assert_eq!(browser.cookies.len(), 1);
        browser
    }

    /// What Prometheus would scrape of an Envoy, with every request so far.
    pub fn prometheus(&self, proxy: usize) -> String {
        self.proxies[proxy].settle();
        self.proxies[proxy].envoy.admin("/stats/prometheus").expect("stats")
    }

    /// Gives the Envoys, by ECDS, a configuration of the plugin's that it refuses. Returns when they have refused it.
    pub fn discovers_nonsense(&mut self) {
        let (path, new) = (self.folder.path().join("ecds.json"), self.folder.path().join("ecds.new"));
        let text = std::fs::read_to_string(&path).expect("a file");
        let mut discovered: Value = serde_json::from_str(&text).expect("JSON");
        discovered["resources"][0]["typed_config"]["config"]["configuration"]["value"] = "{\"nonsense\": 1}".into();
        std::fs::write(&new, discovered.to_string()).expect("a file");
        std::fs::rename(new, path).expect("a file");
        for proxy in &self.proxies {
            eventually("the configuration to be refused", || {
                proxy.envoy.log().contains("nonsense: is an unknown field").then_some(())
            });
        }
    }

    /// What a client gets.
    pub fn status(&mut self, browser: &mut Browser) -> u16 {
        browser.get(&mut self.proxies[0], "/").status
    }

    /// Everything, in turn.
    pub fn keeps_its_promises(mut self) {
        self.a_session_stays_on_its_host();
        self.a_client_does_not_choose_its_host();
        self.addresses_stay_inside();
        self.a_logout_holds_on_the_other_proxy();
        self.a_session_leaves_a_host_that_is_gone();
        self.it_is_counted_and_logged();
    }

    fn a_session_stays_on_its_host(&mut self) {
        for _ in 0..3 {
            let mut browser = self.serves_a_new_client();
            let cookies = browser.cookies.clone();
            let home = browser.get(&mut self.proxies[0], "/").host().to_owned();
            for round in 0..12 {
                assert_eq!(browser.get(&mut self.proxies[round % 2], "/").host(), home);
            }
            assert_eq!(browser.cookies, cookies);
            assert!(cookies[0].0 == "__Host-mooring");
        }
    }

    fn a_client_does_not_choose_its_host(&mut self) {
        let mut browser = self.serves_a_new_client();
        let home = browser.get(&mut self.proxies[0], "/").host().to_owned();
        for at in 0..3 {
            let chosen = self.chosen(at);
            let request = Request::get("/").header("x-mooring-host", &chosen).header("x-mooring-session", "mine");
            let response = browser.send(&mut self.proxies[1], request);
            assert_eq!(response.host(), home);
            assert_ne!(response.upstream_header("x-mooring-session"), ["mine"]);
        }
        self.lets_no_client_choose();
        let underscores = Request::get("/").header("x_mooring_host", self.chosen(0));
        assert_eq!(self.refused(&underscores), 400);
    }

    /// Clients without a cookie that ask for a host are balanced.
    pub fn lets_no_client_choose(&mut self) {
        let request = Request::get("/").header("x-mooring-host", self.chosen(0));
        let hosts: BTreeSet<String> = (0..40).map(|_| self.proxies[0].send(&request).host().to_owned()).collect();
        assert!(hosts.len() > 1, "{hosts:?}");
    }

    /// The header that would choose a host.
    fn chosen(&self, at: usize) -> String {
        STANDARD.encode(&self.proxies[0].hosts[at].address)
    }

    /// The status of what Envoy itself refuses. The plugin does not see it: it is not among the requests that are counted.
    fn refused(&self, request: &Request) -> u16 {
        let client = reqwest::blocking::Client::builder().no_proxy().build().expect("a client");
        let (name, value) = &request.headers[0];
        let sent = client.get(self.proxies[0].url(&request.path)).header(name.as_str(), value.as_slice()).send();
        sent.expect("a response").status().as_u16()
    }

    fn addresses_stay_inside(&mut self) {
        let mut browser = self.serves_a_new_client();
        let response = browser.get(&mut self.proxies[0], "/");
        assert_eq!(response.upstream_header("x-mooring-host"), [""; 0]);
        assert_eq!(response.upstream_header("x-mooring-session").len(), 1);
        assert_eq!(response.upstream_header("cookie"), [""; 0]);
        assert!(response.headers.iter().all(|(name, _)| !name.starts_with("x-mooring")), "{:?}", response.headers);
    }

    fn a_logout_holds_on_the_other_proxy(&mut self) {
        let mut browser = self.serves_a_new_client();
        let id = browser.get(&mut self.proxies[0], "/").upstream_header("x-mooring-session");
        let mut thief = browser.clone();
        let left = browser.get(&mut self.proxies[0], "/?action=end");
        assert_eq!(left.header("x-mooring-action"), [""; 0]);
        assert_eq!(browser.cookies, []);
        let response = thief.get(&mut self.proxies[1], "/");
        assert_ne!(response.upstream_header("x-mooring-session"), id);
        assert_eq!(response.header("set-cookie").len(), 1, "a session of its own");
        assert_eq!(self.proxies[1].counter("mooring_tokens_refused.reason=revoked"), 1);
    }

    fn a_session_leaves_a_host_that_is_gone(&mut self) {
        let mut browser = self.serves_a_new_client();
        let home = browser.get(&mut self.proxies[0], "/").host().to_owned();
        self.proxies[0].set_host(&home, HostState::Dead);
        let moved = browser.get(&mut self.proxies[0], "/");
        assert_eq!((moved.status, moved.header("set-cookie").len()), (200, 1));
        assert_ne!(moved.host(), home);
        let new: Vec<String> =
            (0..6).map(|round| browser.get(&mut self.proxies[round % 2], "/").host().to_owned()).collect();
        assert_eq!(new, vec![moved.host(); 6]);
    }

    fn it_is_counted_and_logged(&mut self) {
        let shown = self.prometheus(0);
        for line in [
            "mooring_sessions{outcome=\"created\",by=\"cookie\"} ",
            "mooring_sessions{outcome=\"moved\",by=\"cookie\"} 1",
            "mooring_store_calls{operation=\"revoke\",result=\"ok\"} 1",
            "mooring_tokens_accepted{key=\"2026-11\"} ",
            "mooring_cache_hits{cache=\"sessions\"} ",
            "mooring_store_call_time_count{operation=\"lookup\"} ",
            "mooring_sessions{outcome=\"ended\",by=\"cookie\"} 1",
        ] {
            assert!(shown.lines().any(|known| known.starts_with(line)), "{line} is not in:\n{shown}");
        }
        for fault in ["bridge_silent", "store_unavailable", "store_refused", "store_senseless", "proxy_call"] {
            assert_eq!(self.proxies[0].envoy.stat(&format!("wasmcustom.mooring_faults.kind={fault}")), 0, "{fault}");
        }
        eventually("the access log", || {
            let log = std::fs::read_to_string(self.folder.path().join("access.log")).ok()?;
            let told = |words: &str| {
                let words = regex::Regex::new(&format!("\"GET /.* 200 - via_upstream .* mooring=\"{words}\"$"))
                    .expect("a regex");
                log.lines().any(|line| words.is_match(line))
            };
            // Which of two workers a request meets, and whether a health check was before it, is left to chance.
            let words =
                ["created none", "-", "moved (cache|store|token) (retried|unavailable)", "ended (cache|store|token)"];
            words.into_iter().all(told).then_some(())
        });
        for proxy in &self.proxies {
            let log = proxy.envoy.log();
            assert!(["panicked", "Uncaught", "RuntimeError"].iter().all(|word| !log.contains(word)), "{log}");
        }
    }
}

/// The plugin's `PluginConfig`, if this is its filter, however it gets there.
fn plugin(filter: &mut Value) -> Option<&mut Value> {
    let place =
        if filter["config_discovery"].is_null() { "/typed_config/config" } else { "/config_discovery/ecds/config" };
    filter.pointer_mut(place).filter(|config| config["vm_config"].is_object())
}

/// A busy machine is no fault of the store's.
fn be_patient(plugin: &mut Value) {
    let value = &mut plugin["configuration"]["value"];
    let mut configuration: Value = serde_json::from_str(value.as_str().expect("text")).expect("JSON");
    configuration["store"]["timeout"] = "5s".into();
    *value = configuration.to_string().into();
}

/// Puts what a filter is to get by ECDS into a file, for Envoy to read it from there.
fn discover(filter: &mut Value, folder: &TempDir) {
    let Some(discovered) = filter["config_discovery"].as_object_mut().and_then(|source| source.remove("ecds")) else {
        return;
    };
    let path = folder.path().join("ecds.json");
    let resource = json!({"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": filter["name"], "typed_config": discovered});
    std::fs::write(&path, json!({"resources": [resource]}).to_string()).expect("a file");
    filter["config_discovery"]["config_source"] =
        json!({"resource_api_version": "V3", "path_config_source": {"path": path.to_string_lossy()}});
}
