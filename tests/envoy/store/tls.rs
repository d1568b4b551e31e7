//! `envoy/store-tls.yaml`, for real: two Envoys, and one store that speaks TLS and wants a token.

use mooring_test_kit::rig::{Bootstrap, Envoy, Launch, eventually, plugin_path, shipped};
use mooring_test_kit::servers::certs::Certificates;
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::upstream::Upstream;
use mooring_test_kit::world::NEW_SECRET;
use reqwest::blocking::Client;
use serde_json::{Value, json};

const TOKEN: &str = "a-token-for-tests";

/// The store, and the hosts behind the Envoys.
struct Stage {
    certificates: Certificates,
    store: Store,
    hosts: Vec<Upstream>,
    client: Client,
}

fn socket(address: &str) -> Value {
    let (ip, port) = address.rsplit_once(':').expect("an address");
    json!({"endpoint": {"address": {"socket_address": {"address": ip, "port_value": port.parse::<u16>().expect("a port")}}}})
}

impl Stage {
    fn new() -> Self {
        let certificates = Certificates::new();
        let [certificate, key] = ["server.pem", "server.key"].map(|name| certificates.path(name));
        let arguments = ["--tls-cert", &certificate, "--tls-key", &key];
        let store = Store::with(&arguments, &[("MOORING_STORE_TOKEN", TOKEN)]);
        let hosts = ["a", "b", "c"].map(|name| Upstream::start(name, "127.0.0.1:0")).into();
        let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
        Self { certificates, store, hosts, client }
    }

    /// The shipped config, with the addresses, names and secrets of this stage. The store's certificate is one for localhost.
    fn bootstrap(&self, token: &str) -> Bootstrap {
        let mut bootstrap = Bootstrap(shipped("store-tls.yaml"));
        bootstrap.0["admin"]["address"]["socket_address"]["port_value"] = 0.into();
        bootstrap.listener()["address"]["socket_address"]["port_value"] = 0.into();
        let vm = &mut bootstrap.wasm()["vm_config"];
        vm["code"]["local"]["filename"] = plugin_path().to_string_lossy().as_ref().into();
        assert_eq!(vm["environment_variables"], json!({"host_env_keys": ["MOORING_KEY_2026_11", "STORE_TOKEN"]}));
        vm["environment_variables"] = json!({"key_values": {"MOORING_KEY_2026_11": NEW_SECRET, "STORE_TOKEN": token}});
        let addresses = self.hosts.iter().map(|host| socket(&host.address)).collect();
        bootstrap.cluster("app")["load_assignment"]["endpoints"][0]["lb_endpoints"] = Value::Array(addresses);
        let store = bootstrap.cluster("session_store");
        store["load_assignment"]["endpoints"][0]["lb_endpoints"] = json!([socket(&self.store.address)]);
        let tls = &mut store["transport_socket"]["typed_config"];
        tls["sni"] = "localhost".into();
        let validation = &mut tls["common_tls_context"]["validation_context"];
        assert_eq!(validation["trusted_ca"], json!({"environment_variable": "STORE_CA"}));
        validation["trusted_ca"] = json!({"filename": self.certificates.ca()});
        validation["match_typed_subject_alt_names"][0]["matcher"]["exact"] = "localhost".into();
        bootstrap
    }

    /// Sends a request with this cookie, and returns who served and the cookie that the client then has.
    fn get(&self, envoy: &Envoy, path: &str, cookie: Option<&str>) -> (String, Option<String>) {
        let mut request = self.client.get(format!("http://{}{path}", envoy.address));
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        let response = request.send().expect("a response");
        assert_eq!(response.status(), 200);
        let header = |name| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        let set = header("set-cookie").map(|line| line.split(';').next().unwrap_or_default().to_owned());
        (header("x-served-by").expect("a host"), set.or_else(|| cookie.map(str::to_owned)))
    }
}

/// Starts an Envoy with one worker, and waits until it sees so many healthy members of both clusters.
fn start(bootstrap: Bootstrap, stores: u64) -> Envoy {
    let envoy = Envoy::start(bootstrap.0, &Launch::with(&["--concurrency", "1"]));
    let healthy = |cluster: &str| envoy.stat(&format!("cluster.{cluster}.membership_healthy"));
    eventually("healthy hosts", || (healthy("app") == 3).then_some(()));
    eventually("the store's health", || (healthy("session_store") == stores).then_some(()));
    envoy
}

/// Waits until the plugin has counted so many.
fn counts(envoy: &Envoy, counter: &str, number: u64) {
    eventually(counter, || (envoy.stat(&format!("wasmcustom.{counter}")) == number).then_some(()));
}

#[test]
fn two_envoys_share_sessions_over_tls() {
    let stage = Stage::new();
    let [one, other] = [(); 2].map(|()| start(stage.bootstrap(TOKEN), 1));
    let (home, cookie) = stage.get(&one, "/", None);
    assert_eq!(stage.get(&one, "/", cookie.as_deref()), (home.clone(), cookie.clone()));
    counts(&one, "mooring_store_calls.operation=create.result=ok", 1);
    assert_eq!(stage.get(&other, "/", cookie.as_deref()), (home, cookie));
    counts(&other, "mooring_store_calls.operation=lookup.result=ok", 1);

    let (_, second) = stage.get(&one, "/", None);
    stage.get(&one, "/?action=end", second.as_deref());
    let (_, third) = stage.get(&other, "/", second.as_deref());
    assert_ne!(third, second, "a new session");
    counts(&other, "mooring_tokens_refused.reason=revoked", 1);
    assert_eq!(one.stat("cluster.session_store.upstream_cx_http1_total"), 0);
    assert!(one.stat("cluster.session_store.ssl.versions.TLSv1.3") > 0);
}

#[test]
fn a_store_with_another_name_is_not_spoken_to() {
    let stage = Stage::new();
    let mut bootstrap = stage.bootstrap(TOKEN);
    let tls = &mut bootstrap.cluster("session_store")["transport_socket"]["typed_config"]["common_tls_context"];
    tls["validation_context"]["match_typed_subject_alt_names"][0]["matcher"]["exact"] = "another".into();
    let envoy = start(bootstrap, 0);
    let (home, cookie) = stage.get(&envoy, "/", None);
    assert_eq!(stage.get(&envoy, "/", cookie.as_deref()), (home, cookie));
    counts(&envoy, "mooring_store_calls.operation=lookup.result=failed", 1);
    assert!(envoy.stat("cluster.session_store.ssl.fail_verify_san") > 0);
}

#[test]
fn a_wrong_token_costs_the_store_and_no_request() {
    let stage = Stage::new();
    let envoy = start(stage.bootstrap("another-token"), 1);
    let (home, cookie) = stage.get(&envoy, "/", None);
    assert_eq!(stage.get(&envoy, "/", cookie.as_deref()), (home, cookie));
    counts(&envoy, "mooring_faults.kind=store_refused", 1);
    counts(&envoy, "mooring_store_calls.operation=lookup.result=failed", 1);
    assert!(!envoy.log().contains("another-token") && !stage.store.log().contains("another-token"));
}
