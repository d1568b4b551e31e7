//! What the plugin reports, as Envoy shows it: metrics with their labels for Prometheus, and the access log of the shipped configs.

use mooring_test_kit::browser::Browser;
use mooring_test_kit::fleet::{Fleet, Plan, unchecked};
use mooring_test_kit::rig::{EnvoyWorld, Launch, eventually};
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::tokens;
use mooring_test_kit::world::{HostState, NEW_SECRET, Setup, World, plugin};
use serde_json::json;

/// A metric as Prometheus gets it. `None`: it does not.
fn scraped(world: &EnvoyWorld, series: &str) -> Option<f64> {
    let text = world.envoy.admin("/stats/prometheus").expect("Envoy");
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

fn reaches(world: &EnvoyWorld, series: &str, value: f64) {
    eventually(&format!("{series} to be {value}"), || (scraped(world, series) == Some(value)).then_some(()));
}

#[test]
fn every_metric_has_labels_and_none_has_them_in_its_name() {
    let store = Store::start(&[]);
    let mut fleet = Fleet::of(&store.address, Plan { envoys: 1, workers: 1, ..Plan::new(json!({"store": {}})) });
    let world = &mut fleet[0];
    let (mut browser, mut other) = (Browser::default(), Browser::holding("garbage"));
    browser.get(world, "/");
    other.get(world, "/");
    browser.get(world, "/");
    browser.get(world, "/?action=end");
    for (series, value) in [
        (r#"mooring_requests{session="none"}"#, 1.0),
        (r#"mooring_requests{session="refused"}"#, 1.0),
        // The store did not know it yet.
        (r#"mooring_requests{session="token"}"#, 1.0),
        (r#"mooring_requests{session="cache"}"#, 1.0),
        (r#"mooring_sessions{outcome="created",by="cookie"}"#, 2.0),
        (r#"mooring_sessions{outcome="ended",by="cookie"}"#, 1.0),
        (r#"mooring_tokens_refused{reason="malformed"}"#, 1.0),
        (r#"mooring_tokens_accepted{key="new"}"#, 2.0),
        (r#"mooring_store_calls{operation="revoke",result="ok"}"#, 1.0),
        (r#"mooring_store_call_time_count{operation="revoke"}"#, 1.0),
        (r#"mooring_session_lifetime_count{reason="ended"}"#, 1.0),
        (r#"mooring_cache_misses{cache="sessions"}"#, 1.0),
        (r#"mooring_cache_entries{cache="sessions"}"#, 1.0),
        ("mooring_store_breaker_open{}", 0.0),
    ] {
        // Histograms come with Envoy's next flush.
        reaches(world, series, value);
    }
    let pinned = world
        .hosts
        .iter()
        .filter_map(|host| scraped(world, &format!("mooring_sessions_pinned{{host=\"{}\"}}", host.address)));
    assert_eq!(pinned.sum::<f64>(), 2.0);
    let text = world.envoy.admin("/stats/prometheus").expect("Envoy");
    let ours: Vec<&str> = text.lines().filter(|line| line.starts_with("mooring_")).collect();
    assert!(ours.len() > 100, "{} lines", ours.len());
    const NAMES: [&str; 18] = [
        "mooring_requests",
        "mooring_sessions",
        "mooring_sessions_displaced",
        "mooring_sessions_pinned",
        "mooring_tokens_accepted",
        "mooring_tokens_refused",
        "mooring_faults",
        "mooring_store_calls",
        "mooring_store_call_time",
        "mooring_session_lifetime",
        "mooring_lookups_shared",
        "mooring_cache_hits",
        "mooring_cache_misses",
        "mooring_cache_evictions",
        "mooring_cache_entries",
        "mooring_store_breaker_open",
        "mooring_config",
        "mooring_build",
    ];
    for line in ours {
        let name = line.split_once('{').expect("labels").0;
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(NAMES.contains(&name), "{line}");
    }
}

#[test]
fn an_older_key_is_seen_to_be_used_until_it_is_not() {
    let mut world = EnvoyWorld::start(Setup::with(json!({})));
    let mut browsers: Vec<Browser> = (0..3).map(|_| Browser::default()).collect();
    browsers.iter_mut().for_each(|browser| drop(browser.get(&mut world, "/")));
    world.reconfigure(plugin(json!({"keys": tokens::keys_reversed()})));
    // The sessions come back twice. The first time their tokens are of what is now the older key.
    for _ in 0..2 {
        browsers.iter_mut().for_each(|browser| drop(browser.get(&mut world, "/")));
    }
    reaches(&world, r#"mooring_tokens_accepted{key="old"}"#, 3.0);
    reaches(&world, r#"mooring_tokens_accepted{key="new"}"#, 3.0);
    assert_eq!(world.counter("mooring_sessions.outcome=rekeyed"), 3);
}

/// The versions of the configuration that are at work, and in how many contexts.
fn versions(world: &EnvoyWorld) -> Vec<(String, u64)> {
    let text = world.envoy.admin("/stats?filter=mooring_config").expect("Envoy");
    let gauge = |line: &str| {
        let (name, value) = line.rsplit_once(": ")?;
        Some((name.rsplit_once('=')?.1.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(gauge).filter(|(_, contexts)| *contexts > 0).collect()
}

#[test]
fn gauges_tell_which_configuration_is_at_work_and_forget_one_that_is_gone() {
    let store = Store::start(&[]);
    let launch = Launch::with(&["--drain-time-s", "1"]);
    let mut fleet = Fleet::of(&store.address, Plan { envoys: 1, launch, ..Plan::new(json!({"store": {}})) });
    let world = &mut fleet[0];
    let mut browsers: Vec<Browser> = (0..5).map(|_| Browser::default()).collect();
    for _ in 0..2 {
        browsers.iter_mut().for_each(|browser| drop(browser.get(world, "/")));
    }
    // Two workers and the main thread; each worker remembers the tokens that it verified.
    eventually("the configuration's gauge", || matches!(&versions(world)[..], [(_, 3)]).then_some(()));
    let before = versions(world);
    let entries = r#"mooring_cache_entries{cache="tokens"}"#;
    reaches(world, entries, 5.0);
    let after = plugin(json!({"scope": "other"}));
    world.reconfigure(after.clone());
    let expected = [(mooring::config::version(after.to_string().as_bytes()), 3)];
    assert_ne!(before, expected);
    eventually("the new configuration's gauge, and no other", || (versions(world) == expected).then_some(()));
    reaches(world, entries, 0.0);
}

#[test]
fn the_breaker_is_seen_to_open_and_to_close() {
    let mut store = Store::start(&[]);
    // Envoy's health check would leave the store out first, and then there is nothing to leave alone.
    let plan = Plan { adjust: unchecked, ..Plan::new(json!({"store": {}, "cache": {"ttl": "100ms"}})) };
    let mut fleet = Fleet::of(&store.address, plan);
    let mut browsers: Vec<Browser> = (0..8).map(|_| Browser::default()).collect();
    browsers.iter_mut().for_each(|browser| drop(browser.get(&mut fleet[0], "/")));
    store.kill();
    let open = |world: &EnvoyWorld| scraped(world, "mooring_store_breaker_open{}");
    eventually("a breaker to open", || {
        browsers.iter_mut().for_each(|browser| drop(browser.get(&mut fleet[0], "/")));
        (open(&fleet[0]) > Some(0.0)).then_some(())
    });
    logs(&fleet[0], "mooring: the session store is left alone");
    store.restart();
    eventually("every breaker to close", || {
        browsers.iter_mut().for_each(|browser| drop(browser.get(&mut fleet[0], "/")));
        (open(&fleet[0]) == Some(0.0)).then_some(())
    });
    logs(&fleet[0], "mooring: the session store answers again");
}

/// Waits until Envoy's log has this.
fn logs(world: &EnvoyWorld, text: &str) {
    eventually(text, || world.envoy.log().contains(text).then_some(()));
}

#[test]
fn the_log_tells_which_plugin_starts_with_what_and_that_the_bridge_is_silent_and_no_more() {
    let mut world = EnvoyWorld::adjusted(&Setup::with(json!({})), |bootstrap| {
        let filters = bootstrap.http()["http_filters"].as_array_mut().expect("filters");
        filters.retain(|filter| filter["name"] != "envoy.filters.http.stateful_session");
    });
    logs(&world, concat!("mooring ", env!("CARGO_PKG_VERSION"), " ("));
    logs(
        &world,
        "scope m; keys new, old; by cookie m; absolute timeout 8h, idle timeout 30m; failover sticky, by stateful_session",
    );
    (0..20).for_each(|_| drop(Browser::default().get(&mut world, "/")));
    logs(&world, "mooring: the bridge named no host for a new session");
    world.settle();
    let log = world.envoy.log();
    let silent = log.matches("the bridge named no host").count();
    assert!(silent <= 2, "once a worker: {log}");
    for secret in [NEW_SECRET, &world.hosts[0].address] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// The decisions in the shipped config's access log, in order.
fn logged(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let decision = |line: &str| Some(line.rsplit_once(" mooring=\"")?.1.trim_end_matches('"').to_owned());
    text.lines().filter_map(decision).collect()
}

#[test]
fn the_access_log_tells_why_a_request_went_where_it_went() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let mut world = EnvoyWorld::adjusted(&Setup::with(json!({})), |bootstrap| {
        let log = &mut bootstrap.http()["access_log"][0];
        log["name"] = "envoy.access_loggers.file".into();
        log["typed_config"]["@type"] =
            "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog".into();
        log["typed_config"]["path"] = path.to_str().expect("text").into();
    });
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    browser.get(&mut world, "/");
    Browser::holding("garbage").get(&mut world, "/");
    world.set_host(&home, HostState::Unhealthy);
    browser.get(&mut world, "/");
    world.set_host(&home, HostState::Healthy);
    browser.get(&mut world, "/?action=rotate");
    browser.get(&mut world, "/?action=end");
    let expected =
        ["created none", "-", "created malformed", "moved token unavailable", "rotated token", "ended token"];
    eventually("the access log", || (logged(&path).len() >= expected.len()).then_some(()));
    assert_eq!(logged(&path), expected);
}
