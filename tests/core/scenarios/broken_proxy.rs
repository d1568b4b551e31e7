//! Every call to the proxy refused, with every status: requests are served, nothing panics, and a good cookie is never replaced.

use crate::fake::FakeWorld;
use mooring::ids::{CallId, StreamId};
use mooring::shell::contexts::{Action, Contexts};
use mooring::shell::proxy::HeaderMap;
use mooring_test_kit::browser::Browser;
use mooring_test_kit::fake::{Call, FakeProxy};
use mooring_test_kit::proxy::ROOT;
use mooring_test_kit::world::{Setup, World, plugin};
use serde_json::json;

const CALLS: [Call; 13] = [
    Call::Headers,
    Call::Header,
    Call::EditHeader,
    Call::Property,
    Call::SetProperty,
    Call::Configuration,
    Call::Clock,
    Call::Random,
    Call::Tick,
    Call::Metric,
    Call::Call,
    Call::ActAs,
    Call::Resume,
];

/// Every status of the ABI, and some that it does not know.
const STATUSES: [u32; 15] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 255, u32::MAX];

const STREAM: StreamId = StreamId(2);

fn created(proxy: &FakeProxy) -> Contexts<FakeProxy> {
    let mut contexts = Contexts::new(proxy.clone());
    contexts.on_root_create(ROOT);
    contexts
}

fn configured() -> (FakeProxy, Contexts<FakeProxy>) {
    let proxy = FakeProxy::default();
    proxy.state().configuration = plugin(json!({})).to_string().into_bytes();
    let mut contexts = created(&proxy);
    assert!(contexts.on_configure(ROOT));
    proxy.enter(STREAM.into());
    (proxy, contexts)
}

#[test]
fn a_host_call_that_fails_during_a_request_costs_the_client_nothing() {
    for call in CALLS {
        for status in STATUSES {
            let mut world = FakeWorld::start(Setup::with(json!({})));
            let mut browser = Browser::default();
            let home = browser.get(&mut world, "/").host().to_owned();
            let cookie = browser.cookie().map(str::to_owned);
            world.host.break_call(call, status);
            for path in ["/", "/?action=rotate", "/?action=release", "/other", "/local"] {
                let mut same = browser.clone();
                assert_eq!(same.get(&mut world, path).status, 200, "{call:?} {status} {path}");
                assert_eq!(Browser::default().get(&mut world, path).status, 200, "{call:?} {status} {path}");
            }
            world.host.break_call(call, 0);
            let after = browser.get(&mut world, "/");
            assert_eq!((after.host(), browser.cookie()), (home.as_str(), cookie.as_deref()), "{call:?} {status}");
        }
    }
}

#[test]
fn what_fails_is_counted() {
    for call in [Call::Headers, Call::Header, Call::EditHeader, Call::Clock, Call::Random] {
        let mut world = FakeWorld::start(Setup::with(json!({})));
        world.host.break_call(call, 10);
        world.pass(1);
        Browser::default().get(&mut world, "/");
        world.host.break_call(call, 0);
        assert!(world.counter("mooring_faults.kind=proxy_call") >= 1, "{call:?}");
    }
}

#[test]
fn a_good_cookie_outlives_every_failure_of_ours() {
    for call in CALLS {
        let mut world = FakeWorld::start(Setup::with(json!({})));
        let mut browser = Browser::default();
        browser.get(&mut world, "/");
        let id = browser.cookie().map(mooring_test_kit::tokens::session).expect("a session").id;
        world.pass(600);
        world.host.break_call(call, 10);
        browser.get(&mut world, "/");
        world.host.break_call(call, 0);
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
        let proxy = FakeProxy::default();
        proxy.state().configuration = plugin(json!({})).to_string().into_bytes();
        proxy.break_call(call, 10);
        assert!(!created(&proxy).on_configure(ROOT));
        assert_eq!(proxy.state().log, [format!("mooring: {reason}")]);
    }
}

#[test]
fn a_refused_config_is_logged_without_its_values() {
    let proxy = FakeProxy::default();
    proxy.state().configuration = br#"{"keys":[{"id":"k","secret":{"base64":"c2VjcmV0"}}],"typo":1}"#.to_vec();
    assert!(!created(&proxy).on_configure(ROOT));
    let log = proxy.state().log.concat();
    assert!(log.contains("typo: is an unknown field") && log.contains("keys[0].secret.base64: has 6 bytes"), "{log}");
    assert!(!log.contains("c2VjcmV0"));
    assert_eq!(proxy.state().counters.len(), 0, "and has no effect");
}

#[test]
fn a_root_without_a_config_lets_requests_pass() {
    let proxy = FakeProxy::default();
    let mut contexts = created(&proxy);
    contexts.on_stream_create(STREAM, ROOT);
    assert_eq!(contexts.on_request_headers(STREAM), Action::Continue);
    assert_eq!(contexts.on_response_headers(STREAM), Action::Continue);
    contexts.on_trailers(STREAM, HeaderMap::ResponseTrailers);
    contexts.on_delete(STREAM.into());
    contexts.on_tick(ROOT);
    assert_eq!(proxy.state().calls, 0);
}

#[test]
fn callbacks_of_contexts_that_were_never_made_do_nothing() {
    let (proxy, mut contexts) = configured();
    let before = proxy.state().calls;
    let stranger = StreamId(77);
    assert!(!contexts.on_configure(stranger.into()));
    let configuring = proxy.state().calls;
    assert!(configuring > before);
    contexts.on_stream_create(StreamId(78), stranger.into());
    for stream in [stranger, StreamId(78)] {
        assert_eq!(contexts.on_request_headers(stream), Action::Continue);
        assert_eq!(contexts.on_response_headers(stream), Action::Continue);
        contexts.on_trailers(stream, HeaderMap::RequestTrailers);
        contexts.on_tick(stream.into());
        contexts.on_call_response(stream.into(), CallId(1), 1, 1);
        contexts.on_delete(stream.into());
    }
    assert_eq!(proxy.state().calls, configuring);
}

#[test]
fn an_override_that_the_proxy_did_not_set_is_no_reason_to_move() {
    let mut world = FakeWorld::start(Setup::with(json!({})));
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    let cookie = browser.cookie().map(str::to_owned);
    world.host.break_call(Call::EditHeader, 10);
    world.mend_for_responses = true;
    for _ in 0..4 {
        assert_eq!(browser.get(&mut world, "/").decision(), "failed");
        world.host.break_call(Call::EditHeader, 10);
    }
    assert_eq!(browser.cookie().map(str::to_owned), cookie);
}

#[test]
fn what_was_counted_last_is_handed_over_when_the_root_ends() {
    let (proxy, mut contexts) = configured();
    contexts.on_stream_create(STREAM, ROOT);
    contexts.on_request_headers(STREAM);
    contexts.on_response_headers(STREAM);
    assert_eq!(proxy.state().counters.get("mooring_sessions.outcome=untouched"), None);
    contexts.on_delete(ROOT);
    assert_eq!(proxy.state().counters.get("mooring_sessions.outcome=untouched"), Some(&1));
}

#[test]
fn a_stream_that_ends_without_a_response_leaves_its_session_for_the_next_pass() {
    let (proxy, mut contexts) = configured();
    let id = |proxy: &FakeProxy| {
        let mut state = proxy.state();
        state.stream().request_headers.iter().find(|(name, _)| name == b"x-mooring-session").map(|(_, id)| id.clone())
    };
    contexts.on_stream_create(STREAM, ROOT);
    contexts.on_request_headers(STREAM);
    contexts.on_delete(STREAM.into());
    let told = id(&proxy);
    contexts.on_stream_create(STREAM, ROOT);
    contexts.on_request_headers(STREAM);
    assert!(told.is_some());
    assert_eq!(id(&proxy), told);
}

#[test]
fn trailers_of_both_sides_lose_what_is_internal() {
    let (proxy, mut contexts) = configured();
    let lines = ["x-mooring-session", "x-app", "x-mooring-host", "x-mooring-action"];
    let lines: Vec<_> = lines.into_iter().map(|name| (name.as_bytes().to_vec(), b"v".to_vec())).collect();
    proxy.state().stream().request_trailers = lines.clone();
    proxy.state().stream().response_trailers = lines;
    contexts.on_stream_create(STREAM, ROOT);
    contexts.on_trailers(STREAM, HeaderMap::RequestTrailers);
    contexts.on_trailers(STREAM, HeaderMap::ResponseTrailers);
    let mut state = proxy.state();
    let stream = state.stream();
    for trailers in [&stream.request_trailers, &stream.response_trailers] {
        assert_eq!(*trailers, [(b"x-app".to_vec(), b"v".to_vec())]);
    }
}
