//! Gauges, which every worker has a part in: as sums, and without what is gone.

use mooring::ids::ContextId;
use mooring_test_kit::fake::Call;
use mooring_test_kit::proxy::{Proxy, ROOT, line};
use mooring_test_kit::world::plugin;
use serde_json::{Value, json};

const OTHER: ContextId = ContextId(2);
const TOKENS: &str = "mooring_cache_entries.cache=tokens";

fn version(plugin: &Value) -> String {
    format!("mooring_config.version={}", mooring::config::version(plugin.to_string().as_bytes()))
}

/// A session begins at a root, and comes back.
fn visit(proxy: &mut Proxy, root: ContextId) {
    let (id, _) = proxy.receive(root, vec![line(":path", "/")]);
    proxy.bridged(id, "127.0.0.1:9001", &[]);
    let cookie = proxy.set_cookie(id).expect("a cookie");
    proxy.end(id);
    let (id, _) = proxy.receive(root, vec![line(":path", "/"), line("cookie", format!("m={cookie}"))]);
    proxy.served(id, "127.0.0.1:9001", &[]);
    proxy.end(id);
}

#[test]
fn roots_add_up_and_take_back_what_was_theirs() {
    let first = plugin(json!({}));
    let mut proxy = Proxy::with(&first);
    assert!(proxy.set_up(OTHER, &first));
    visit(&mut proxy, ROOT);
    visit(&mut proxy, ROOT);
    visit(&mut proxy, OTHER);
    assert_eq!((proxy.gauge(&version(&first)), proxy.gauge(TOKENS)), (0, 0), "nothing is told before a tick");
    for _ in 0..2 {
        [ROOT, OTHER].into_iter().for_each(|root| proxy.tick(root));
        assert_eq!((proxy.gauge(&version(&first)), proxy.gauge(TOKENS)), (2, 3));
    }
    proxy.delete(OTHER);
    assert_eq!((proxy.gauge(&version(&first)), proxy.gauge(TOKENS)), (1, 2));
    let second = plugin(json!({"scope": "other"}));
    assert!(proxy.set_up(ROOT, &second));
    assert_eq!((proxy.gauge(&version(&first)), proxy.gauge(TOKENS)), (0, 0));
    proxy.tick(ROOT);
    assert_eq!((proxy.gauge(&version(&first)), proxy.gauge(&version(&second))), (0, 1));
}

#[test]
fn a_configuration_that_was_only_tried_out_leaves_nothing() {
    let plugin = plugin(json!({}));
    let mut proxy = Proxy::with(&plugin);
    proxy.delete(ROOT);
    assert_eq!(proxy.gauge(&version(&plugin)), 0);
}

#[test]
fn what_the_proxy_did_not_take_is_told_again() {
    let plugin = plugin(json!({}));
    let mut proxy = Proxy::with(&plugin);
    visit(&mut proxy, ROOT);
    proxy.host.break_call(Call::Metric, 10);
    proxy.tick(ROOT);
    proxy.host.break_call(Call::Metric, 0);
    assert_eq!(proxy.gauge(TOKENS), 0);
    proxy.tick(ROOT);
    assert_eq!((proxy.gauge(&version(&plugin)), proxy.gauge(TOKENS)), (1, 1));
}

#[test]
fn an_open_breaker_is_told() {
    let plugin = plugin(json!({"store": {"cluster": "c", "create": "at_once"}}));
    let mut proxy = Proxy::with(&plugin);
    for _ in 0..5 {
        let (id, _) = proxy.receive(ROOT, vec![line(":path", "/")]);
        proxy.served(id, "127.0.0.1:9001", &[line("x-mooring-host", "x")]);
        let call = proxy.sent_one();
        proxy.give(&call, Vec::new(), Vec::new());
    }
    proxy.tick(ROOT);
    assert_eq!(proxy.gauge("mooring_store_breaker_open"), 1);
    proxy.delete(ROOT);
    assert_eq!(proxy.gauge("mooring_store_breaker_open"), 0);
}
