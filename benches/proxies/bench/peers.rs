//! Mooring and everything that its users could pick instead.

use super::accounting::Cores;
use super::clients::{Affinity, CLIENTS, Clients, Sessions};
use super::contestant::{Contestant, Proxy, Work};
use super::envoys::{self, HOST_HEADER};
use super::hosts::Hosts;
use super::rounds::Course;
use super::{chart, others, report};
use mooring_test_kit::rig::Bootstrap;
use mooring_test_kit::servers::store::Store;
use serde_json::{Value, json};

/// Its place among the contestants is that of the floor.
const FLOOR: &str = "the floor: no-op plugin, `stateful_session` header";

/// An Envoy with the plugin, yet to be started.
pub struct Plugged {
    pub bootstrap: Bootstrap,
    plugin: Value,
}

impl Plugged {
    /// A shipped config with these members in the plugin's.
    pub fn new(file: &str, hosts: &Hosts, members: Value) -> Self {
        let plugin = envoys::plugin(members);
        Self { bootstrap: envoys::mooring(file, &hosts.ports, &plugin), plugin }
    }

    /// `store.yaml` with this store.
    pub fn with_store(hosts: &Hosts, store: &Store, mut members: Value) -> Self {
        // A busy machine is no fault of the store's.
        members["store"] = json!({"cluster": "session_store", "timeout": "5s"});
        let mut plugged = Self::new("store.yaml", hosts, members);
        let port = store.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
        envoys::set_hosts(plugged.bootstrap.cluster("session_store"), &[port]);
        plugged
    }

    pub fn start(&self, name: &str, workers: u32, work: Work) -> Contestant {
        let affinity = match work {
            Work::Create => Affinity::None,
            Work::Resume | Work::LookUp | Work::Ask => Affinity::Session(Box::new(Sessions::new(&self.plugin))),
        };
        Contestant::new(name, Proxy::envoy(&self.bootstrap, workers), Clients::with(affinity), Some(work))
    }
}

fn envoy(name: &str, hosts: &Hosts, workers: u32, filters: Vec<Value>, affinity: Affinity) -> Contestant {
    let bootstrap = envoys::filters(&hosts.ports, filters);
    Contestant::new(name, Proxy::envoy(&bootstrap, workers), Clients::with(affinity), None)
}

fn floor(name: &str, hosts: &Hosts, workers: u32) -> Contestant {
    envoy(name, hosts, workers, envoys::floor(), Affinity::Header(HOST_HEADER))
}

fn ring_hash(hosts: &Hosts) -> Contestant {
    let mut bootstrap = envoys::filters(&hosts.ports, Vec::new());
    bootstrap.cluster("app")["lb_policy"] = "RING_HASH".into();
    bootstrap.routes()[0]["route"]["hash_policy"] = json!([{"cookie": {"name": "sid"}}]);
    Contestant::new(
        "`RING_HASH` on a cookie",
        Proxy::envoy(&bootstrap, 1),
        Clients::with(Affinity::Hashed("sid")),
        None,
    )
}

/// Whose clients are told by the proxy where they belong.
fn issuing(name: &str, proxy: Proxy, hosts: &Hosts) -> Contestant {
    let mut contestant = Contestant::new(name, proxy, Clients::with(Affinity::None), None);
    contestant.issue(hosts);
    contestant
}

fn contestants(hosts: &Hosts, store: &Store) -> Vec<Contestant> {
    let ports = &hosts.ports;
    let one_worker = |filters| Proxy::envoy(&envoys::filters(ports, filters), 1);
    let leanest = json!({
        "cookie": {"forward": true, "encrypt": false},
        "app": {"session_header": null, "action_header": null},
    });
    let mooring = |name: &str, members| Plugged::new("envoy.yaml", hosts, members).start(name, 1, Work::Resume);
    let with_store = |name: &str, entries: usize, work| {
        let members = json!({"cache": {"entries": entries, "ttl": "1h"}});
        Plugged::with_store(hosts, store, members).start(name, 1, work)
    };
    let defaults = Plugged::new("envoy.yaml", hosts, json!({}));
    let override_host = Plugged::new("override-host.yaml", hosts, json!({"upstream": {"via": "override_host"}}));
    vec![
        envoy("Envoy without a filter", hosts, 1, vec![], Affinity::None),
        envoy("`stateful_session` header", hosts, 1, vec![envoys::by_header()], Affinity::Header(HOST_HEADER)),
        issuing("`stateful_session` cookie", one_worker(vec![envoys::by_cookie("sid")]), hosts),
        ring_hash(hosts),
        envoy("no-op plugin alone", hosts, 1, vec![envoys::sdk_plugin("noop")], Affinity::None),
        floor(FLOOR, hosts, 1),
        floor("the floor again", hosts, 1),
        floor("the floor, 4 workers", hosts, 4),
        issuing("Lua, an unsigned cookie", one_worker(vec![envoys::lua(), envoys::by_header()]), hosts),
        issuing(
            "plugin of the SDK, an unsigned cookie",
            one_worker(vec![envoys::sdk_plugin("unsigned"), envoys::by_header()]),
            hosts,
        ),
        defaults.start("Mooring, new session", 1, Work::Create),
        defaults.start("Mooring, resumed", 1, Work::Resume),
        defaults.start("Mooring, resumed, 4 workers", 4, Work::Resume),
        mooring("Mooring, `cookie.forward: true`", json!({"cookie": {"forward": true}})),
        mooring("Mooring, `cookie.encrypt: false`", json!({"cookie": {"encrypt": false}})),
        mooring("Mooring, leanest", leanest),
        with_store("Mooring, store, cached", 2 * CLIENTS, Work::Resume),
        with_store("Mooring, store, looked up", 1, Work::LookUp),
        override_host.start("Mooring, `override_host`", 1, Work::Resume),
        issuing("HAProxy, `cookie insert`", Proxy::Other(others::haproxy(ports)), hosts),
        Contestant::new(
            "NGINX, `hash $cookie_sid`",
            Proxy::Other(others::hashing_nginx(ports)),
            Clients::with(Affinity::Hashed(others::HASHED_COOKIE)),
            None,
        ),
        issuing("Caddy, `lb_policy cookie`", Proxy::Other(others::caddy(ports)), hosts),
    ]
}

pub fn run() {
    let cores = Cores::share_out();
    let hosts = Hosts::start(3);
    let store = Store::start(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let course = Course {
        rounds: super::setting("ROUNDS", 7) as usize,
        seconds: super::setting("SECONDS_PER_ROUND", 2),
        cores,
        hosts: &hosts,
        folder: folder.path(),
    };
    let mut contestants = contestants(&hosts, &store);
    contestants.iter_mut().for_each(|contestant| course.prepare(contestant));
    let results = course.run(&mut contestants);

    let names: Vec<String> = contestants.iter().map(|contestant| contestant.name.clone()).collect();
    let floor = names.iter().position(|name| name == FLOOR).expect("the floor");
    let rows = report::rows(&names, &results, floor);
    let table = format!(
        "{} rounds of {} s each, {} connections, {}.\n\n{}",
        course.rounds,
        course.seconds,
        super::load::CONNECTIONS,
        cores.describe(),
        report::table(&rows)
    );
    println!("{table}");
    super::write(&super::folder().join("peers.csv"), &report::csv(&names, &results));
    super::write(&super::folder().join("peers.md"), &table);
    chart::bars(&super::charts().join("peers.svg"), "CPU for a request, µs", &rows);
}
