//! What Envoy does with configs: good ones, refused ones, one without the filter, and hosts with other addresses.

use mooring_test_kit::browser::Browser;
use mooring_test_kit::rig::{Bootstrap, EnvoyWorld};
use mooring_test_kit::world::{Bridge, NEW_SECRET, Request, Setup, World, plugin};
use serde_json::{Value, json};

#[test]
fn a_refused_config_keeps_the_old_one_in_force_and_says_what_is_wrong() {
    let mut world = EnvoyWorld::start(Setup::with(json!({})));
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let secret = "c2hvcnQtc2VjcmV0";
    for (members, error) in [
        (json!({"cokie": {}}), "cokie: is an unknown field"),
        (json!({"store": {"protocol": "rest"}}), "store.cluster: is missing"),
        (
            json!({"keys": [{"id": "k", "secret": {"env": "ABSENT"}}]}),
            "keys[0].secret.env: names an environment variable",
        ),
        (json!({"keys": [{"id": "k", "secret": {"base64": secret}}]}), "keys[0].secret.base64: has 12 bytes"),
    ] {
        world.bootstrap.set_plugin(&plugin(members));
        let listeners = world.bootstrap.0["static_resources"]["listeners"].clone();
        assert!(!world.envoy.reload(&listeners), "{error}");
        let log = world.envoy.log();
        assert!(log.contains(error), "{log}");
        assert!(!log.contains(secret) && !log.contains(NEW_SECRET), "a secret in the log");
        assert_eq!(browser.get(&mut world, "/").host(), home);
    }
}

#[test]
fn at_start_envoy_refuses_a_plugin_whose_config_is_refused() {
    let mut bootstrap = Bootstrap::new(Bridge::StatefulSession, &["127.0.0.1:1"], &["127.0.0.1:1"]);
    bootstrap.set_plugin(&json!({"keys": []}));
    let said = mooring_test_kit::rig::start_in_vain(&bootstrap.0);
    assert!(said.contains("keys: has 0 keys; accepted is an array of 1 to 16 keys"), "{said}");
}

#[test]
fn a_struct_is_told_apart_from_json() {
    let mut bootstrap = Bootstrap::new(Bridge::StatefulSession, &["127.0.0.1:1"], &["127.0.0.1:1"]);
    bootstrap.wasm()["configuration"] =
        json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": plugin(json!({}))});
    let said = mooring_test_kit::rig::start_in_vain(&bootstrap.0);
    assert!(said.contains("google.protobuf.StringValue"), "the error names the way out: {said}");
}

#[test]
fn secrets_come_from_the_environment_of_the_vm() {
    let keys = json!([{"id": "new", "secret": {"env": "KEY"}}]);
    let mut world = EnvoyWorld::adjusted(&Setup::with(json!({"keys": keys})), |bootstrap| {
        bootstrap.wasm()["vm_config"]["environment_variables"] = json!({"key_values": {"KEY": NEW_SECRET}});
    });
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    assert_eq!(browser.get(&mut world, "/").host(), home);
}

#[test]
fn without_the_filter_the_shipped_config_still_lets_no_client_choose_a_host() {
    let mut world = EnvoyWorld::adjusted(&Setup::with(json!({})), |bootstrap| {
        let filters = bootstrap.http()["http_filters"].as_array_mut().expect("filters");
        filters.retain(|filter| filter["typed_config"]["config"]["vm_config"].is_null());
    });
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &world.hosts[0].address);
    let mut hosts = std::collections::BTreeSet::new();
    for _ in 0..9 {
        hosts.insert(world.send(&Request::get("/").header("x-mooring-host", &encoded)).host().to_owned());
    }
    assert_eq!(hosts.len(), 3);
}

/// Puts `filter` at this place of the chain.
fn insert_filter(bootstrap: &mut Bootstrap, at: usize, filter: Value) {
    bootstrap.http()["http_filters"].as_array_mut().expect("filters").insert(at, filter);
}

#[test]
fn pins_that_are_never_honoured_do_not_cost_a_cookie_each_time() {
    let mut world = EnvoyWorld::adjusted(&Setup::with(json!({})), |bootstrap| {
        // Between plugin and bridge, something takes the override header away.
        let mutations = json!({"request_mutations": [{"remove": "x-mooring-host"}]});
        let thief = json!({"name": "thief", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": mutations}});
        insert_filter(bootstrap, 1, thief);
    });
    let mut browser = Browser::default();
    let mut cookies = 0;
    for _ in 0..40 {
        cookies += browser.get(&mut world, "/").header("set-cookie").len();
    }
    // The first, and three moves a minute on each of two workers.
    assert!((2..=7).contains(&cookies), "{cookies} cookies");
    assert!(world.counter("mooring_sessions.outcome=pin_ignored") > 0);
}

#[test]
fn a_bridge_in_front_of_the_plugin_is_counted() {
    let mut world = EnvoyWorld::adjusted(&Setup::with(json!({})), |bootstrap| {
        let filters = bootstrap.http()["http_filters"].as_array_mut().expect("filters");
        let plugin = filters.remove(0);
        insert_filter(bootstrap, 1, plugin);
    });
    let mut browser = Browser::default();
    for _ in 0..10 {
        browser.get(&mut world, "/");
    }
    assert!(world.counter("mooring_faults.kind=bridge_silent") > 0);
}

#[test]
fn a_bridge_that_is_missing_is_counted() {
    let mut world = EnvoyWorld::adjusted(&Setup::with(json!({})), |bootstrap| {
        let filters = bootstrap.http()["http_filters"].as_array_mut().expect("filters");
        filters.retain(|filter| filter["name"] != "envoy.filters.http.stateful_session");
    });
    Browser::default().get(&mut world, "/");
    assert_eq!(world.counter("mooring_faults.kind=bridge_silent"), 1);
}

#[test]
fn a_host_with_an_ipv6_address_is_kept() {
    let mut world = EnvoyWorld::launch("[::1]:0", &Setup::with(json!({})), |_| ());
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    for _ in 0..20 {
        assert_eq!(browser.get(&mut world, "/").host(), home);
    }
    let pins = browser.cookie().map(mooring_test_kit::tokens::session).expect("a session").pins;
    assert!(pins.iter().all(|pin| pin.host.to_text().starts_with("[::1]:")));
}

#[test]
fn two_plugins_in_one_chain_do_not_meet() {
    let mut world = EnvoyWorld::adjusted(&Setup::with(json!({})), |bootstrap| {
        let filters = bootstrap.http()["http_filters"].as_array_mut().expect("filters");
        let plugin = filters.iter().find(|filter| !filter["typed_config"]["config"]["vm_config"].is_null());
        let mut second = plugin.expect("the plugin").clone();
        second["name"] = "mooring-2".into();
        let config = &mut second["typed_config"]["config"];
        config["name"] = "mooring-2".into();
        let other = json!({"keys": [{"id": "new", "secret": {"base64": NEW_SECRET}}],
            "cookie": {"name": "m2", "secure": false}, "upstream": {"header": "x-unused"},
            "app": {"action_header": "x-a2", "session_header": "x-s2"}});
        config["configuration"]["value"] = other.to_string().into();
        filters.insert(0, second);
        let redirected =
            bootstrap.route("/redirected", json!({"internal_redirect_policy": {"max_internal_redirects": 3}}));
        bootstrap.routes().insert(0, redirected);
    });
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let names: Vec<&str> = browser.cookies.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let cookies = browser.cookies.clone();
    let redirected = format!("/redirected?redirect={}", world.url("/"));
    for path in ["/", &redirected].repeat(5) {
        assert_eq!(browser.get(&mut world, path).host(), home);
    }
    assert_eq!(browser.cookies, cookies, "each kept its own session, over internal redirects too");
}

#[test]
fn prometheus_shows_the_outcomes_as_labels() {
    let mut world = EnvoyWorld::start(Setup::with(json!({})));
    Browser::default().get(&mut world, "/");
    world.settle();
    let shown = world.envoy.admin("/stats/prometheus").expect("stats");
    assert!(shown.lines().any(|line| line == "mooring_sessions{outcome=\"created\",by=\"cookie\"} 1"), "{shown}");
}

/// Envoy must start with every shipped config as it is, given keys.
#[test]
fn every_shipped_config_names_secrets_by_environment() {
    for file in ["envoy.yaml", "strict.yaml", "override-host.yaml", "store.yaml"] {
        let shipped = mooring_test_kit::rig::shipped(file);
        let mut bootstrap = Bootstrap(shipped);
        let configuration = bootstrap.wasm()["configuration"]["value"].as_str().expect("a string").to_owned();
        let plugin: Value = serde_json::from_str(&configuration).expect("JSON");
        assert!(plugin["keys"][0]["secret"]["env"].is_string(), "{file}");
    }
}
