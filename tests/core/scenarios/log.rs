//! What the proxy's log is told: the start, and little besides.

use mooring_test_kit::proxy::{Proxy, ROOT, line};
use serde_json::json;
use std::time::Duration;

fn log(proxy: &Proxy) -> Vec<String> {
    proxy.host.state().log.iter().map(|(level, message)| format!("{level} {message}")).collect()
}

#[test]
fn the_start_tells_version_and_configuration_and_no_secret() {
    let proxy = Proxy::with_store(json!({"token": {"text": "hush"}}));
    let log = log(&proxy);
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].starts_with(concat!("INFO mooring ", env!("CARGO_PKG_VERSION"), " (")), "{log:?}");
    assert!(log[0].contains("store rest in the cluster session_store"), "{log:?}");
    assert!(!log[0].contains("hush"), "{log:?}");
}

#[test]
fn a_store_that_is_away_and_comes_back_is_told_of_once_each() {
    let mut proxy = Proxy::with_store(json!({}));
    for _ in 0..5 {
        proxy.request(ROOT);
        let lookup = proxy.sent_one();
        proxy.pass(Duration::from_millis(50));
        proxy.give(&lookup, Vec::new(), Vec::new());
    }
    proxy.tick(ROOT);
    proxy.tick(ROOT);
    let away = log(&proxy);
    assert_eq!(away.len(), 2, "{away:?}");
    assert!(away[1].starts_with("WARN mooring: the session store is left alone"), "{away:?}");
    proxy.pass(Duration::from_secs(2));
    assert_eq!(log(&proxy).len(), 2, "nothing has answered yet");
    proxy.request(ROOT);
    let probe = proxy.sent_one();
    proxy.answer(&probe, "404", b"");
    proxy.tick(ROOT);
    let back = log(&proxy);
    assert_eq!(back[2..], ["INFO mooring: the session store answers again"]);
}

#[test]
fn a_logout_that_is_lost_is_an_error() {
    let mut proxy = Proxy::with_store(json!({}));
    let (id, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    proxy.answer(&call, "404", b"");
    proxy.sent();
    proxy.response(id, &[line("x-mooring-action", "end")]);
    proxy.configure_store(ROOT, json!({}));
    let lost = proxy.host.errors();
    assert!(lost.len() == 1 && lost[0].contains("revocation_lost"), "{lost:?}");
}

#[test]
fn a_silent_bridge_is_told_of_once() {
    let mut proxy = Proxy::with(&mooring_test_kit::world::plugin(json!({})));
    for _ in 0..3 {
        let (id, _) = proxy.receive(ROOT, vec![line(":path", "/")]);
        proxy.response(id, &[]);
        proxy.tick(ROOT);
    }
    let log = log(&proxy);
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log[1].starts_with("WARN mooring: the bridge named no host"), "{log:?}");
}
