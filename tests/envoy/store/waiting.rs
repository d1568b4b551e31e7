//! Requests that wait for a lookup, and responses that wait for a write.

use mooring_test_kit::browser::Browser;
use mooring_test_kit::fleet::{Fleet, Plan, over_unchecked_http1, requests, unchecked};
use mooring_test_kit::meddler::{Manner, Meddler};
use mooring_test_kit::rig::{EnvoyWorld, eventually};
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::world::{HostState, World};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Sends a request with this cookie, and does not wait for the answer.
pub fn send(proxy: &EnvoyWorld, cookie: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&proxy.envoy.address).expect("Envoy");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncookie: m={cookie}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("Envoy");
    stream
}

pub fn receive(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Nothing has come yet.
pub fn assert_waiting(stream: &TcpStream) {
    stream.set_nonblocking(true).expect("a connection");
    let nothing = stream.peek(&mut [0]).err().map(|error| error.kind());
    assert_eq!(nothing, Some(std::io::ErrorKind::WouldBlock));
    stream.set_nonblocking(false).expect("a connection");
}

/// Waits until the proxy has so many requests under way.
pub fn wait_for_active(proxy: &EnvoyWorld, count: u64) {
    eventually("requests to be under way", || {
        (proxy.envoy.stat("http.http.downstream_rq_active") == count).then_some(())
    });
}

/// A fleet whose second proxy does not know the session of the browser.
pub fn with_stranger(store: &Store) -> (Fleet, String, String) {
    let plan = Plan { adjust: unchecked, ..Plan::new(json!({"store": {"timeout": "10s"}})) };
    let mut fleet = Fleet::of(&store.address, plan);
    let (browser, home) = fleet.browser(0);
    eventually("the session to be stored", || (requests(store, "create") > 0).then_some(()));
    (fleet, browser.cookie().expect("a cookie").to_owned(), home)
}

pub fn assert_served(answer: &str, home: &str) {
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("x-served-by: {home}\r\n")), "{answer}");
}

#[test]
fn sixty_four_requests_of_an_unknown_session_make_one_lookup_a_worker() {
    let store = Store::start(&[]);
    let (mut fleet, cookie, home) = with_stranger(&store);
    let before = requests(&store, "lookup");
    store.pause();
    let streams: Vec<_> = (0..64).map(|_| send(&fleet[1], &cookie, "/")).collect();
    wait_for_active(&fleet[1], 64);
    streams.iter().for_each(assert_waiting);
    store.resume();
    streams.into_iter().for_each(|stream| assert_served(&receive(stream), &home));
    let lookups = requests(&store, "lookup") - before;
    eprintln!("64 requests at once: {lookups} lookups by two workers");
    assert!((1..=2).contains(&lookups), "{lookups} lookups");
    eventually("the lookups to be counted", || {
        (fleet[1].counter("mooring_store_calls.operation=lookup.result=ok") == lookups).then_some(())
    });
    fleet.assert_sound();
}

#[test]
fn clients_that_hang_up_while_they_wait_break_nobody() {
    let store = Store::start(&[]);
    let (mut fleet, cookie, home) = with_stranger(&store);
    let before = requests(&store, "lookup");
    store.pause();
    let mut streams: Vec<_> = (0..64).map(|_| send(&fleet[1], &cookie, "/")).collect();
    wait_for_active(&fleet[1], 64);
    // Every other one goes, the first, for whom a lookup was made, among them.
    let mut at = 0;
    streams.retain(|_| {
        at += 1;
        at % 2 == 0
    });
    wait_for_active(&fleet[1], 32);
    store.resume();
    streams.into_iter().for_each(|stream| assert_served(&receive(stream), &home));
    let lookups = requests(&store, "lookup") - before;
    assert!((1..=2).contains(&lookups), "{lookups} lookups");
    eventually("the rest to be counted", || (fleet[1].counter("mooring_sessions.outcome=resumed") == 32).then_some(()));
    assert_eq!(fleet[1].counter("mooring_faults.kind=store_late"), 0);
    assert_eq!(fleet[1].counter("mooring_faults.kind=proxy_call"), 0);
    fleet.assert_sound();
}

#[test]
fn a_lookup_that_nobody_waits_for_any_more_serves_who_comes_next() {
    let store = Store::start(&[]);
    let (mut fleet, cookie, home) = with_stranger(&store);
    let before = requests(&store, "lookup");
    store.pause();
    let streams: Vec<_> = (0..32).map(|_| send(&fleet[1], &cookie, "/")).collect();
    wait_for_active(&fleet[1], 32);
    drop(streams);
    wait_for_active(&fleet[1], 0);
    store.resume();
    let known = "mooring_store_calls.operation=lookup.result=ok";
    let lookups = eventually("the answers", || Some(fleet[1].counter(known)).filter(|count| *count > 0));
    for _ in 0..20 {
        assert_eq!(Browser::holding(&cookie).get(&mut fleet[1], "/").host(), home);
    }
    assert!(lookups <= 2 && (1..=2).contains(&(requests(&store, "lookup") - before)));
    fleet.assert_sound();
}

/// How long a request took that moved its session, and what the store made of it, with this kind of write.
fn time_of_move(write: &str) -> Duration {
    let store = Store::start(&[]);
    let meddler = Meddler::before(&store.address);
    let plugin = json!({"store": {"write": write}});
    let plan = Plan { envoys: 1, workers: 1, adjust: over_unchecked_http1, ..Plan::new(plugin) };
    let mut fleet = Fleet::of(&meddler.address, plan);
    let (mut browser, home) = fleet.browser(0);
    eventually("the session to be stored", || (requests(&store, "create") > 0).then_some(()));
    fleet.set_host(&home, HostState::Unhealthy);
    meddler.behave(Manner::Slow(Duration::from_secs(1)));
    #[allow(clippy::disallowed_methods)]
    let begun = Instant::now();
    assert_eq!(browser.get(&mut fleet[0], "/").decision(), "moved");
    let took = begun.elapsed();
    eventually("the move to be written", || (requests(&store, "move") == 1).then_some(()));
    took
}

#[test]
fn the_response_of_a_move_waits_for_its_write_where_the_operator_says_so() {
    let (sync, alone) = (time_of_move("sync"), time_of_move("async"));
    eprintln!("with a write of 1 s, the response of a move took {sync:?} (sync) and {alone:?} (async)");
    assert!(sync >= Duration::from_secs(1), "{sync:?}");
    assert!(alone < Duration::from_secs(1), "{alone:?}");
}

#[test]
fn a_response_whose_write_died_with_the_store_still_comes() {
    let mut store = Store::start(&[]);
    let plugin = json!({"store": {"write": "sync", "timeout": "10s"}});
    let mut fleet = Fleet::of(&store.address, Plan { envoys: 1, adjust: unchecked, ..Plan::new(plugin) });
    let (mut browser, home) = fleet.browser(0);
    // Each worker knows the session, so that it is the write that waits.
    for _ in 0..20 {
        browser.get(&mut fleet[0], "/");
    }
    fleet.set_host(&home, HostState::Unhealthy);
    store.pause();
    let stream = send(&fleet[0], browser.cookie().expect("a cookie"), "/");
    eventually("the host to have answered", || {
        (fleet[0].envoy.stat("cluster.session_store.upstream_rq_active") == 1).then_some(())
    });
    assert_waiting(&stream);
    store.kill();
    let answer = receive(stream);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-decision: moved\r\n"), "{answer}");
    assert!(answer.contains("set-cookie: m="), "{answer}");
    assert_eq!(fleet[0].counter("mooring_store_calls.operation=move.result=failed"), 1);
}
