//! A store that is dead, hung, wiped, or lies: every request is served, on the host of its cookie.

use super::load::Load;
use mooring::session::SessionId;
use mooring::store::protocol::StoreKey;
use mooring::store::value;
use mooring_test_kit::browser::Browser;
use mooring_test_kit::fleet::{Fleet, Plan, over_unchecked_http1, requests, unchecked};
use mooring_test_kit::meddler::{Manner, Meddler};
use mooring_test_kit::rig::eventually;
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::tokens;
use mooring_test_kit::world::{HostState, World};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the breaker lets through in a row, at each worker.
const FAILURES: usize = 5;

/// As a store is used, but with a short memory, so that it is asked more often.
fn impatient() -> serde_json::Value {
    json!({"store": {"timeout": "100ms"}, "cache": {"ttl": "100ms"}})
}

/// Sends so many requests, and expects each on its host, without a new cookie. Returns how long each took, in order of length.
fn served(fleet: &mut Fleet, browser: &mut Browser, home: &str, count: usize) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..count)
        .map(|at| {
            #[allow(clippy::disallowed_methods)]
            let begun = Instant::now();
            let response = browser.get(&mut fleet[at % 2], "/");
            assert_eq!((response.status, response.host()), (200, home), "request {at}");
            assert_eq!(response.header("set-cookie"), [""; 0], "request {at}");
            begun.elapsed()
        })
        .collect();
    times.sort();
    times
}

/// Waits until the store is asked and answers again, on each worker of the first proxies.
fn wait_for_recovery(fleet: &mut Fleet, browser: &mut Browser, home: &str) {
    let skipped = |fleet: &mut Fleet| fleet.counter("mooring_store_calls.operation=lookup.result=skipped");
    eventually("the store to be asked again", || {
        let before = skipped(fleet);
        served(fleet, browser, home, 40);
        (skipped(fleet) == before).then_some(())
    });
}

#[test]
fn a_store_that_is_dead_hung_or_wiped_fails_no_request_and_is_found_again() {
    let mut store = Store::start(&[]);
    let mut fleet = Fleet::of(&store.address, Plan { adjust: unchecked, ..Plan::new(impatient()) });
    let (mut browser, home) = fleet.browser(0);
    let well = served(&mut fleet, &mut browser, &home, 200);
    for fault in ["killed", "hung"] {
        if fault == "killed" {
            store.kill()
        } else {
            store.pause()
        }
        #[allow(clippy::disallowed_methods)]
        let begun = Instant::now();
        let first = served(&mut fleet, &mut browser, &home, 60);
        let first_took = begun.elapsed();
        let after = served(&mut fleet, &mut browser, &home, 200);
        let (well, after) = (well[well.len() / 2], after[after.len() / 2]);
        // Five failures in a row at each of four workers, each until its timeout; then a probe a second. Nobody else waits.
        let most = FAILURES * 4 + usize::try_from(first_took.as_secs()).expect("a test that ends") * 4;
        let slow = first.iter().filter(|time| **time >= Duration::from_millis(95)).count();
        eprintln!("{fault}: median {well:?} before, {after:?} with the breaker open; {slow} of the first 60 waited");
        assert!(slow <= most, "{slow} waited");
        assert!(after < well * 5 + Duration::from_millis(5), "{after:?} against {well:?}");
        if fault == "killed" {
            store.restart();
            wait_for_recovery(&mut fleet, &mut browser, &home);
            // It was in memory: nothing was left. It fills up again by itself.
            assert!(requests(&store, "create") >= 1);
        } else {
            store.resume();
            wait_for_recovery(&mut fleet, &mut browser, &home);
        }
    }
    assert!(fleet.counter("mooring_faults.kind=store_unavailable") >= 10);
    assert!(fleet.counter("mooring_faults.kind=store_left_alone") >= 2);
    assert!(fleet.counter("mooring_store_calls.operation=lookup.result=skipped") > 0);
    fleet.assert_sound();
}

#[test]
fn envoy_s_own_health_checks_take_a_dead_store_out_and_put_it_back() {
    let mut store = Store::start(&[]);
    let mut fleet = Fleet::start(&store.address, impatient());
    let (mut browser, home) = fleet.browser(0);
    store.kill();
    served(&mut fleet, &mut browser, &home, 60);
    eventually("the health check to fail", || {
        served(&mut fleet, &mut browser, &home, 2);
        (fleet[0].envoy.stat("cluster.session_store.membership_healthy") == 0).then_some(())
    });
    served(&mut fleet, &mut browser, &home, 20);
    store.restart();
    wait_for_recovery(&mut fleet, &mut browser, &home);
    assert!(requests(&store, "create") >= 1, "wiped, it fills up again");
}

/// A proxy of one worker, so that calls can be counted.
fn behind(meddler: &Meddler) -> Fleet {
    let plugin = json!({"store": {"timeout": "1s"}, "cache": {"ttl": "100ms"}});
    Fleet::of(&meddler.address, Plan { workers: 1, adjust: over_unchecked_http1, ..Plan::new(plugin) })
}

/// Has `fleet` meet each manner of the store's, with a session of its own, and counts what is expected of it: for each proxy, so
/// many calls at first, and then at most one a second.
fn meets(manners: Vec<(&str, Manner, &str, usize)>) {
    let store = Store::start(&[]);
    let meddler = Meddler::before(&store.address);
    let mut fleet = behind(&meddler);
    let mut counts = BTreeMap::new();
    for (name, manner, fault, most) in manners {
        let mut browser = Browser::default();
        let home = browser.get(&mut fleet[0], "/").host().to_owned();
        let before = meddler.calls();
        meddler.behave(manner);
        #[allow(clippy::disallowed_methods)]
        let begun = Instant::now();
        served(&mut fleet, &mut browser, &home, 60);
        let probes = usize::try_from(begun.elapsed().as_secs()).expect("a test that ends");
        let calls = meddler.calls() - before;
        let count = fleet.counter(&format!("mooring_faults.kind={fault}"));
        let counted = count - counts.insert(fault, count).unwrap_or(0);
        eprintln!("{name}: 60 requests, {calls} calls, {counted} of {fault}");
        assert!((2..=(most + probes) * 2).contains(&calls), "{name}: {calls} calls");
        assert_eq!(counted, calls as u64, "{name}");

        // Once it is itself again, each proxy asks it again, and it gets the session that it was never told.
        let known = requests(&store, "create");
        meddler.behave(Manner::Honest);
        for at in 0..2 {
            let answers = "cluster.session_store.upstream_rq_completed";
            let before = fleet[at].envoy.stat(answers);
            eventually("the store to be asked again", || {
                assert_eq!(browser.get(&mut fleet[at], "/").host(), home);
                (fleet[at].envoy.stat(answers) > before).then_some(())
            });
        }
        eventually("the session to be stored", || (requests(&store, "create") > known).then_some(()));
    }
    fleet.assert_sound();
}

#[test]
fn a_store_that_fails_in_any_way_is_left_alone_after_five_calls_and_is_found_again() {
    let megabytes = vec![b'x'; 2 << 20];
    let page = b"<html><body>Welcome to nginx!</body></html>";
    let json = "content-type: application/json\r\n";
    let tail = b"HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 100\r\n\r\nv1.new.".to_vec();
    meets(vec![
        ("a web page", Manner::response("200 OK", "content-type: text/html\r\n", page), "store_senseless", FAILURES),
        ("other JSON", Manner::response("200 OK", json, b"{\"result\":null}"), "store_senseless", FAILURES),
        ("an empty answer", Manner::response("204 No Content", "", b""), "store_senseless", FAILURES),
        ("half an answer", Manner::SayAndClose(tail), "store_unavailable", FAILURES),
        ("a closed connection", Manner::SayAndClose(Vec::new()), "store_unavailable", FAILURES),
        ("no HTTP", Manner::SayAndClose(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "store_unavailable", FAILURES),
        ("2 MB", Manner::response("200 OK", "etag: \"1\"\r\n", &megabytes), "store_too_large", FAILURES),
    ]);
}

#[test]
fn a_store_that_refuses_is_left_alone_after_five_calls_and_is_found_again() {
    meets(vec![
        ("500", Manner::response("500 Internal Server Error", "", b"oops"), "store_unavailable", FAILURES),
        ("429", Manner::response("429 Too Many Requests", "retry-after: 1\r\n", b""), "store_refused", FAILURES),
        ("401", Manner::response("401 Unauthorized", "", b""), "store_refused", FAILURES),
        ("302", Manner::response("302 Found", "location: /login\r\n", b""), "store_refused", FAILURES),
    ]);
}

#[test]
fn a_value_that_is_not_the_session_s_own_moves_nobody_and_is_not_held_against_the_store() {
    let store = Store::start(&[]);
    let meddler = Meddler::before(&store.address);
    let mut fleet = behind(&meddler);
    for (name, of_another_key) in [("another session's value", false), ("a value of another scope's keys", true)] {
        let mut browser = Browser::default();
        let home = browser.get(&mut fleet[0], "/").host().to_owned();
        let mut session = tokens::session(browser.cookie().expect("a cookie"));
        // A later copy, with a pin on a host that is not there: who believes it loses the session's host.
        session.generation += 1;
        let elsewhere = mooring::session::pin::HostAddr::parse(b"127.0.0.1:1").expect("a host");
        let pin = mooring::session::pin::Pin { cluster: mooring::session::pin::ClusterId::of(b"app"), host: elsewhere };
        session.pins.set(pin);
        let (id, scope) = if of_another_key { (session.id, "other") } else { (SessionId([7; 16]), "m") };
        let value = value::seal(&session, &StoreKey::of(&id, "m", "mooring"), &tokens::keyring(scope));
        meddler.behave(Manner::response("200 OK", "etag: \"1\"\r\n", value.as_bytes()).to("GET"));
        let (lookups, faults) = (fleet.calls("lookup"), fleet.counter("mooring_faults.kind=store_value"));
        served(&mut fleet, &mut browser, &home, 60);
        let lookups = fleet.calls("lookup") - lookups;
        let counted = fleet.counter("mooring_faults.kind=store_value") - faults;
        eprintln!("{name}: 60 requests, {lookups} lookups, {counted} of store_value");
        assert!(lookups >= 2);
        assert_eq!(counted, lookups);
        meddler.behave(Manner::Honest);
    }
    assert_eq!(fleet.counter("mooring_faults.kind=store_left_alone"), 0);
    fleet.assert_sound();
}

#[test]
fn a_value_that_nobody_can_read_is_replaced_by_the_session() {
    let store = Store::start(&[]);
    let mut fleet = Fleet::start(&store.address, json!({"cache": {"ttl": "100ms"}}));
    let mut browser = Browser::default();
    let home = browser.get(&mut fleet[0], "/").host().to_owned();
    let session = tokens::session(browser.cookie().expect("a cookie"));
    let url = store.url(&format!("/v1/sessions/{}", StoreKey::of(&session.id, "m", "mooring").as_str()));
    let client = reqwest::blocking::Client::builder().no_proxy().build().expect("a client");
    let put = client.put(url).header("if-none-match", "*").header("mooring-ttl", "600").body("v1.gone.AAAA.AAAA");
    assert_eq!(put.send().expect("the store").status(), 201);
    let found = "mooring_store_calls.operation=lookup.result=ok";
    eventually("the session to be found", || {
        served(&mut fleet, &mut browser, &home, 4);
        (fleet[0].counter(found) > 0 && fleet[1].counter(found) > 0).then_some(())
    });
    assert!(fleet.counter("mooring_faults.kind=store_value") > 0);
}

#[test]
fn the_same_value_under_its_own_key_is_believed() {
    // What the test above would do to a session if values were not checked.
    let store = Store::start(&[]);
    let meddler = Meddler::before(&store.address);
    let mut fleet = behind(&meddler);
    let mut browser = Browser::default();
    let home = browser.get(&mut fleet[0], "/").host().to_owned();
    let mut session = tokens::session(browser.cookie().expect("a cookie"));
    let other = fleet[0].hosts.iter().find(|host| host.name != home).expect("another host");
    let (name, address) = (other.name, other.address.clone());
    session.generation += 1;
    let host = mooring::session::pin::HostAddr::parse(address.as_bytes()).expect("a host");
    session.pins.set(mooring::session::pin::Pin { cluster: mooring::session::pin::ClusterId::of(b"app"), host });
    let value = value::seal(&session, &StoreKey::of(&session.id, "m", "mooring"), &tokens::keyring("m"));
    meddler.behave(Manner::response("200 OK", "etag: \"1\"\r\n", value.as_bytes()));
    let response = browser.get(&mut fleet[1], "/");
    assert_eq!((response.host(), response.decision()), (name, "adopted".into()));
}

#[test]
fn answers_to_writes_that_make_no_sense_fail_no_request() {
    let store = Store::start(&[]);
    let meddler = Meddler::before(&store.address);
    let mut fleet = behind(&meddler);
    for manner in [
        Manner::SayTo(
            "PUT",
            b"HTTP/1.1 412 Precondition Failed\r\netag: \"1\"\r\ncontent-length: 4\r\n\r\nwhat".to_vec(),
        ),
        Manner::SayTo("PUT", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        Manner::SayTo("PUT", b"HTTP/1.1 507 Insufficient Storage\r\ncontent-length: 0\r\n\r\n".to_vec()),
    ] {
        let mut browser = Browser::default();
        let home = browser.get(&mut fleet[0], "/").host().to_owned();
        meddler.behave(manner);
        served(&mut fleet, &mut browser, &home, 10);
        fleet.set_host(&home, HostState::Unhealthy);
        let moved = browser.get(&mut fleet[0], "/");
        assert_eq!((moved.status, moved.decision()), (200, "moved".into()));
        let new_home = moved.host().to_owned();
        fleet.set_host(&home, HostState::Healthy);
        served(&mut fleet, &mut browser, &new_home, 10);
    }
    assert!(fleet.counter("mooring_store_calls.operation=create.result=failed") > 0);
    fleet.assert_sound();
}

#[test]
fn killing_or_stopping_the_store_in_the_middle_of_a_load_fails_no_request() {
    let mut store = Store::start(&[]);
    let mut fleet = Fleet::start(&store.address, impatient());
    let load = Load::of(&mut fleet, 40);
    for fault in ["killed", "hung"] {
        let (mut begun, mut over) = (false, false);
        let outcome = load.run(6000, 200, |answered| {
            if answered > 2000 && !begun {
                if fault == "killed" {
                    store.kill()
                } else {
                    store.pause()
                }
                begun = true;
            }
            if answered > 4000 && !over {
                if fault == "killed" {
                    store.restart()
                } else {
                    store.resume()
                }
                over = true;
            }
        });
        assert!(begun && over, "the load was over too soon");
        let (failed, elsewhere) = (outcome.failed.len(), outcome.misplaced);
        eprintln!("{fault}: {} requests, {failed} failed, {elsewhere} elsewhere", outcome.requests);
        outcome.assert_flawless();
    }
    assert!(fleet.calls("lookup") > 40);
    assert!(fleet.counter("mooring_faults.kind=store_unavailable") > 0);
    fleet.assert_sound();
}
