//! What happens to a stream while it waits for the store: it ends, it times out, its host dies, it carries a body. Whatever it is,
//! the store's answer that comes after it does no harm.

use super::waiting::{assert_served, assert_waiting, receive, send, wait_for_active, with_stranger};
use mooring_test_kit::browser::Browser;
use mooring_test_kit::fleet::{Fleet, Plan, requests, unchecked};
use mooring_test_kit::rig::{Bootstrap, eventually};
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::world::{HostState, World, plugin};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const CALLS: &str = "cluster.session_store.upstream_rq_active";

/// A proxy whose responses wait for the store, a session that it knows, its host, and the cookie.
fn held(store: &Store, adjust: fn(&mut Bootstrap)) -> (Fleet, String, String) {
    let plugin = json!({"store": {"write": "sync", "timeout": "10s"}});
    let mut fleet = Fleet::of(&store.address, Plan { envoys: 1, adjust, ..Plan::new(plugin) });
    let (mut browser, home) = fleet.browser(0);
    for _ in 0..20 {
        browser.get(&mut fleet[0], "/");
    }
    let cookie = browser.cookie().expect("a cookie").to_owned();
    (fleet, cookie, home)
}

/// Has a response wait for the write of a move, while its body is still coming.
fn hold(fleet: &mut Fleet, store: &Store, cookie: &str, home: &str) -> TcpStream {
    fleet.set_host(home, HostState::Unhealthy);
    store.pause();
    let stream = send(&fleet[0], cookie, "/?chunks=40&chunk_ms=100");
    eventually("the write to be under way", || (fleet[0].envoy.stat(CALLS) == 1).then_some(()));
    assert_waiting(&stream);
    stream
}

/// Lets the store answer, and expects the proxy to serve on.
fn assert_unharmed(fleet: &mut Fleet, store: &Store) {
    store.resume();
    eventually("the store's answer", || (fleet[0].envoy.stat(CALLS) == 0).then_some(()));
    for _ in 0..10 {
        let (_, home) = fleet.browser(0);
        assert!(!home.is_empty());
    }
    fleet.assert_sound();
}

/// The rest of what comes, however it ends.
fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_that_wait_outlive_a_change_of_the_configuration() {
    let store = Store::start(&[]);
    let (mut fleet, cookie, home) = with_stranger(&store);
    store.pause();
    let streams: Vec<_> = (0..16).map(|_| send(&fleet[1], &cookie, "/")).collect();
    wait_for_active(&fleet[1], 16);
    let store_members = json!({"protocol": "rest", "cluster": "session_store", "timeout": "10s"});
    fleet[1].reconfigure(plugin(json!({"store": store_members, "debug_header": "x-other"})));
    store.resume();
    streams.into_iter().for_each(|stream| {
        let answer = receive(stream);
        assert_served(&answer, &home);
        assert!(answer.contains("x-decision: resumed\r\n"), "{answer}");
    });
    let mut browser = Browser::holding(&cookie);
    let response = browser.get(&mut fleet[1], "/");
    assert_eq!((response.host(), response.header("x-other").concat()), (home.as_str(), "resumed".into()));
    fleet.assert_sound();
}

#[test]
fn a_body_that_comes_while_its_request_waits_reaches_the_host_whole() {
    let store = Store::start(&[]);
    let (fleet, cookie, home) = with_stranger(&store);
    store.pause();
    let size = 3 << 20;
    let mut stream = TcpStream::connect(&fleet[1].envoy.address).expect("Envoy");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let head = format!(
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncookie: m={cookie}\r\ncontent-length: {size}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("Envoy");
    let mut sink = stream.try_clone().expect("a connection");
    // Envoy stops reading when its buffers are full.
    let writer = std::thread::spawn(move || sink.write_all(&vec![b'x'; size]));
    eventually("the lookup to be under way", || (fleet[1].envoy.stat(CALLS) == 1).then_some(()));
    store.resume();
    let answer = receive(stream);
    writer.join().expect("a writer").expect("Envoy");
    assert_served(&answer, &home);
    assert!(answer.contains(&format!("\"body_bytes\":{size}")), "{answer}");
}

#[test]
fn a_web_socket_waits_for_its_lookup_like_any_request() {
    let store = Store::start(&[]);
    let (fleet, cookie, home) = with_stranger(&store);
    store.pause();
    let mut stream = TcpStream::connect(&fleet[1].envoy.address).expect("Envoy");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: a\r\ncookie: m={cookie}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("Envoy");
    eventually("the lookup to be under way", || (fleet[1].envoy.stat(CALLS) == 1).then_some(()));
    store.resume();
    let mut answer = String::new();
    // The upgrade, and the host's greeting: its name.
    let greeting = format!("\r\n\r\n\u{81}\u{1}{home}");
    while !answer.contains(&greeting) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).expect("an answer"), 1, "{answer}");
        answer.push(char::from(byte[0]));
    }
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
}

#[test]
fn a_request_that_envoy_gives_up_while_it_waits_takes_nothing_down() {
    let store = Store::start(&[]);
    let plugin = json!({"store": {"timeout": "10s"}});
    let adjust = |bootstrap: &mut Bootstrap| {
        unchecked(bootstrap);
        bootstrap.http()["stream_idle_timeout"] = "0.5s".into();
    };
    let mut fleet = Fleet::of(&store.address, Plan { adjust, ..Plan::new(plugin) });
    let (browser, home) = fleet.browser(0);
    let cookie = browser.cookie().expect("a cookie").to_owned();
    eventually("the session to be stored", || (requests(&store, "create") > 0).then_some(()));
    store.pause();
    let streams: Vec<_> = (0..8).map(|_| send(&fleet[1], &cookie, "/")).collect();
    for stream in streams {
        let answer = receive(stream);
        assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    }
    store.resume();
    eventually("the store's answer", || (fleet[1].envoy.stat(CALLS) == 0).then_some(()));
    for _ in 0..20 {
        assert_eq!(Browser::holding(&cookie).get(&mut fleet[1], "/").host(), home);
    }
    assert_eq!(fleet[1].counter("mooring_faults.kind=proxy_call"), 0);
    fleet.assert_sound();
}

#[test]
fn a_client_that_leaves_while_its_response_waits_takes_nothing_down() {
    let store = Store::start(&[]);
    let (mut fleet, cookie, home) = held(&store, unchecked);
    let stream = hold(&mut fleet, &store, &cookie, &home);
    drop(stream);
    wait_for_active(&fleet[0], 0);
    assert_unharmed(&mut fleet, &store);
    // The move was written all the same: it happened.
    eventually("the move to be written", || (requests(&store, "move") == 1).then_some(()));
}

#[test]
fn a_host_that_dies_while_its_response_waits_takes_nothing_down() {
    let store = Store::start(&[]);
    let (mut fleet, cookie, home) = held(&store, unchecked);
    let stream = hold(&mut fleet, &store, &cookie, &home);
    let others: Vec<&str> = ["a", "b", "c"].into_iter().filter(|name| *name != home).collect();
    others.iter().for_each(|name| fleet.set_host(name, HostState::Dead));
    let answer = rest(stream);
    eprintln!("the client got: {:?}", answer.lines().next());
    for name in ["a", "b", "c"] {
        fleet.set_host(name, HostState::Healthy);
    }
    assert_unharmed(&mut fleet, &store);
}

#[test]
fn a_response_that_times_out_while_it_waits_takes_nothing_down() {
    let store = Store::start(&[]);
    let adjust = |bootstrap: &mut Bootstrap| {
        unchecked(bootstrap);
        bootstrap.routes().last_mut().expect("a route")["route"]["timeout"] = "1s".into();
    };
    let (mut fleet, cookie, home) = held(&store, adjust);
    let stream = hold(&mut fleet, &store, &cookie, &home);
    let answer = rest(stream);
    eprintln!("the client got: {:?}", answer.lines().next());
    fleet.set_host(&home, HostState::Healthy);
    assert_unharmed(&mut fleet, &store);
}
