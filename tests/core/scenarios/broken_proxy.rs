//! Every call to the proxy refused, with every status: requests are served, nothing panics, and a good cookie is never replaced.

use crate::fake::FakeWorld;
use mooring::ids::{CallId, ContextId, StreamId};
use mooring::shell::contexts::Action;
use mooring::shell::proxy::HeaderMap;
use mooring_test_kit::browser::Browser;
use mooring_test_kit::fake::{Call, Line};
use mooring_test_kit::proxy::{Proxy, ROOT, line};
use mooring_test_kit::world::{Setup, World, plugin};
use serde_json::json;

/// Every status of the ABI, and some that it does not know.
const STATUSES: [u32; 15] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 255, u32::MAX];

#[test]
fn a_host_call_that_fails_during_a_request_costs_the_client_nothing() {
    for call in Call::ALL {
        for status in STATUSES {
            let mut world = FakeWorld::start(Setup::with(json!({})));
            let mut browser = Browser::default();
            let home = browser.get(&mut world, "/").host().to_owned();
            let cookie = browser.cookie().map(str::to_owned);
            world.proxy.host.break_call(call, status);
            for path in ["/", "/?action=rotate", "/?action=release", "/other", "/local"] {
                let mut same = browser.clone();
                assert_eq!(same.get(&mut world, path).status, 200, "{call:?} {status} {path}");
                assert_eq!(Browser::default().get(&mut world, path).status, 200, "{call:?} {status} {path}");
            }
            world.proxy.host.break_call(call, 0);
            let after = browser.get(&mut world, "/");
            assert_eq!((after.host(), browser.cookie()), (home.as_str(), cookie.as_deref()), "{call:?} {status}");
        }
    }
}

#[test]
fn what_fails_is_counted() {
    for call in [Call::Headers, Call::Header, Call::EditHeader, Call::Clock, Call::Random] {
        let mut world = FakeWorld::start(Setup::with(json!({})));
        world.proxy.host.break_call(call, 10);
        world.pass(1);
        Browser::default().get(&mut world, "/");
        world.proxy.host.break_call(call, 0);
        assert!(world.counter("mooring_faults.kind=proxy_call") >= 1, "{call:?}");
    }
}

#[test]
fn a_good_cookie_outlives_every_failure_of_ours() {
    for call in Call::ALL {
        let mut world = FakeWorld::start(Setup::with(json!({})));
        let mut browser = Browser::default();
        browser.get(&mut world, "/");
        let id = browser.cookie().map(mooring_test_kit::tokens::session).expect("a session").id;
        world.pass(600);
        world.proxy.host.break_call(call, 10);
        browser.get(&mut world, "/");
        world.proxy.host.break_call(call, 0);
        let kept = browser.cookie().map(mooring_test_kit::tokens::session).expect("a session").id;
        assert_eq!(kept, id, "{call:?}: another session was issued over it");
    }
}

#[test]
fn a_plugin_that_cannot_be_set_up_is_refused_with_a_reason() {
    for (call, reason) in [
        (Call::Configuration, "the proxy cannot give the configuration (status 10)"),
        (Call::SetProperty, "the proxy cannot declare a property (status 10)"),
        (Call::Metric, "the proxy cannot define a metric (status 10)"),
        (Call::Tick, "the proxy cannot set a timer (status 10)"),
    ] {
        let mut proxy = Proxy::default();
        proxy.host.break_call(call, 10);
        assert!(!proxy.set_up(ROOT, &plugin(json!({}))));
        assert_eq!(proxy.host.errors(), [format!("mooring: {reason}")]);
    }
}

#[test]
fn a_refused_config_is_logged_without_its_values() {
    let mut proxy = Proxy::default();
    let config = br#"{"keys":[{"id":"k","secret":{"base64":"c2VjcmV0"}}],"typo":1}"#;
    assert!(!proxy.set_up_with(ROOT, config.into()));
    let log = proxy.host.errors().concat();
    let state = proxy.host.state();
    assert!(log.contains("typo: is an unknown field") && log.contains("keys[0].secret.base64: has 6 bytes"), "{log}");
    assert!(!log.contains("c2VjcmV0"));
    assert_eq!(state.counters.len(), 0, "and has no effect");
}

/// A stream, through every callback that there is. How many host calls that took.
fn calls_of_a_stream(proxy: &mut Proxy, root: ContextId) -> u64 {
    let before = proxy.host.state().calls;
    let (id, action) = proxy.receive(root, vec![line(":path", "/")]);
    assert_eq!(action, Action::Continue);
    assert_eq!(proxy.response(id, &[]), Action::Continue);
    proxy.trailers(id, HeaderMap::ResponseTrailers, Vec::new());
    proxy.end(id);
    proxy.tick(root);
    proxy.callback(root, |contexts| contexts.on_call_response(root, CallId(1), 1, 1));
    proxy.host.state().calls - before
}

#[test]
fn a_root_without_a_config_lets_requests_pass() {
    let mut proxy = Proxy::default();
    proxy.callback(ROOT, |contexts| contexts.on_root_create(ROOT));
    assert_eq!(calls_of_a_stream(&mut proxy, ROOT), 0);
}

#[test]
fn callbacks_of_contexts_that_were_never_made_do_nothing() {
    let mut proxy = Proxy::with(&plugin(json!({})));
    let (stranger, stream) = (ContextId(77), StreamId(77));
    assert!(!proxy.callback(stranger, |contexts| contexts.on_configure(stranger)));
    assert_eq!(calls_of_a_stream(&mut proxy, stranger), 0);
    let before = proxy.host.state().calls;
    assert_eq!(proxy.callback(stranger, |contexts| contexts.on_request_headers(stream)), Action::Continue);
    assert_eq!(proxy.callback(stranger, |contexts| contexts.on_response_headers(stream)), Action::Continue);
    proxy.callback(stranger, |contexts| contexts.on_trailers(stream, HeaderMap::RequestTrailers));
    proxy.callback(stranger, |contexts| contexts.on_delete(stranger));
    assert_eq!(proxy.host.state().calls, before);
}

#[test]
fn an_override_that_the_proxy_did_not_set_is_no_reason_to_move() {
    let mut world = FakeWorld::start(Setup::with(json!({})));
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    let cookie = browser.cookie().map(str::to_owned);
    world.proxy.host.break_call(Call::EditHeader, 10);
    world.mend_for_responses = true;
    for _ in 0..4 {
        assert_eq!(browser.get(&mut world, "/").decision(), "failed");
        world.proxy.host.break_call(Call::EditHeader, 10);
    }
    assert_eq!(browser.cookie().map(str::to_owned), cookie);
}

#[test]
fn what_was_counted_last_is_handed_over_when_the_root_ends() {
    let mut proxy = Proxy::with(&plugin(json!({})));
    let (id, _) = proxy.receive(ROOT, Vec::new());
    proxy.respond(id, vec![line(":status", "200")], "direct_response", None, None);
    assert_eq!(proxy.host.state().counters.get("mooring_sessions.outcome=untouched.by=cookie"), None);
    proxy.delete(ROOT);
    assert_eq!(proxy.host.state().counters.get("mooring_sessions.outcome=untouched.by=cookie"), Some(&1));
}

#[test]
fn a_stream_that_ends_without_a_response_leaves_its_session_for_the_next_pass() {
    let mut proxy = Proxy::with(&plugin(json!({})));
    let (first, _) = proxy.receive(ROOT, Vec::new());
    let told = proxy.request_header(first, "x-mooring-session");
    let (second, _) = proxy.redirect(first, ROOT);
    assert!(told.is_some());
    assert_eq!(proxy.request_header(second, "x-mooring-session"), told);
}

#[test]
fn trailers_of_both_sides_lose_what_is_internal() {
    let mut proxy = Proxy::with(&plugin(json!({})));
    let (id, _) = proxy.receive(ROOT, Vec::new());
    for map in [HeaderMap::RequestTrailers, HeaderMap::ResponseTrailers] {
        let names = ["x-mooring-session", "x-app", "x-mooring-host", "x-mooring-action"];
        let lines: Vec<Line> = names.iter().map(|name| line(name, "v")).collect();
        assert_eq!(proxy.trailers(id, map, lines), [line("x-app", "v")]);
    }
}
