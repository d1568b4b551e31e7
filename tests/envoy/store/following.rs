//! Several proxies, one session: where it goes, who knows, and what that costs.

use mooring_test_kit::browser::Browser;
use mooring_test_kit::fleet::{Fleet, requests};
use mooring_test_kit::rig::eventually;
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::tokens;
use mooring_test_kit::world::{HostState, World};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn one_session_stays_on_its_host_through_two_proxies_and_costs_one_lookup_a_worker() {
    let store = Store::start(&[]);
    let mut fleet = Fleet::start(&store.address, json!({}));
    let mut browser = Browser::default();
    let home = browser.get(&mut fleet[0], "/").host().to_owned();
    for at in 0..300 {
        let response = browser.get(&mut fleet[at % 2], "/");
        assert_eq!((response.host(), response.decision()), (home.as_str(), "resumed".into()), "request {at}");
        assert_eq!(response.header("set-cookie"), [""; 0]);
    }
    let lookups = requests(&store, "lookup");
    eprintln!("300 requests through two proxies of two workers: {lookups} lookups");
    assert!((2..=4).contains(&lookups), "{lookups} lookups");
    assert!((1..=2).contains(&requests(&store, "create")), "one, and perhaps one that came too late");
    fleet.assert_sound();
}

#[test]
fn a_session_is_looked_up_again_once_in_the_cache_s_time_to_live() {
    let store = Store::start(&[]);
    let ttl = Duration::from_millis(500);
    let mut fleet = Fleet::start(&store.address, json!({"cache": {"ttl": "500ms"}}));
    let (mut browser, home) = fleet.browser(0);
    let first = requests(&store, "lookup");
    #[allow(clippy::disallowed_methods)]
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < ttl * 4 {
        assert_eq!(browser.get(&mut fleet[sent % 2], "/").host(), home);
        sent += 1;
    }
    let periods = begun.elapsed().as_millis() / ttl.as_millis() + 1;
    let lookups = requests(&store, "lookup") - first;
    eprintln!("{sent} requests in {periods} times to live: {lookups} lookups by four workers");
    assert!(lookups > 4, "{lookups} lookups: more than one a worker");
    assert!(u128::from(lookups) <= periods * 4, "{lookups} lookups in {periods} times to live");
}

#[test]
fn a_session_that_one_proxy_moved_is_followed_by_the_other_at_once_with_its_new_cookie() {
    let store = Store::start(&[]);
    let mut fleet = Fleet::start(&store.address, json!({}));
    let (mut browser, home) = fleet.browser(0);
    // Each worker of the other proxy knows the session as it was.
    for _ in 0..20 {
        assert_eq!(browser.get(&mut fleet[1], "/").host(), home);
    }
    fleet.set_host(&home, HostState::Unhealthy);
    let moved = browser.get(&mut fleet[0], "/");
    assert_eq!(moved.decision(), "moved");
    let new_home = moved.host().to_owned();
    assert_ne!(new_home, home);
    eventually("the move to be written", || (requests(&store, "move") == 1).then_some(()));
    fleet.set_host(&home, HostState::Healthy);
    let before = requests(&store, "lookup");
    for _ in 0..20 {
        let response = browser.get(&mut fleet[1], "/");
        assert_eq!((response.host(), response.decision()), (new_home.as_str(), "resumed".into()));
    }
    // A cookie that is newer than what a worker knows makes it ask, once.
    assert!((1..=2).contains(&(requests(&store, "lookup") - before)));
    assert_eq!(requests(&store, "move"), 1);
}

#[test]
fn a_session_that_one_proxy_moved_is_followed_by_the_other_in_time_with_its_old_cookie_which_is_replaced_once() {
    for state in [HostState::Unhealthy, HostState::Dead] {
        let store = Store::start(&[]);
        let mut fleet = Fleet::start(&store.address, json!({"cache": {"ttl": "500ms"}}));
        let (mut browser, home) = fleet.browser(0);
        let old = browser.cookie().expect("a cookie").to_owned();
        // Each worker of the other proxy knows the session as it was.
        for _ in 0..20 {
            assert_eq!(browser.get(&mut fleet[1], "/").host(), home);
        }
        fleet.set_host(&home, state);
        let new_home = browser.get(&mut fleet[0], "/").host().to_owned();
        eventually("the move to be written", || (requests(&store, "move") == 1).then_some(()));
        #[allow(clippy::disallowed_methods)]
        let begun = Instant::now();
        fleet.set_host(&home, HostState::Healthy);
        // Both hosts are well: only the store can say where the session is.
        let mut behind = Browser::holding(&old);
        let adopted = eventually("the other proxy to follow", || {
            let response = behind.get(&mut fleet[1], "/");
            (response.host() == new_home).then_some(response)
        });
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?} with a time to live of 500 ms", begun.elapsed());
        assert_eq!((adopted.decision(), adopted.header("set-cookie").len()), ("adopted".into(), 1));
        for at in 0..20 {
            let response = behind.get(&mut fleet[at % 2], "/");
            assert_eq!((response.host(), response.decision()), (new_home.as_str(), "resumed".into()));
        }
        assert_eq!(fleet[1].counter("mooring_sessions.outcome=adopted"), 1);
    }
}

#[test]
fn what_the_store_knows_of_a_session_outlives_every_proxy() {
    let store = Store::start(&[]);
    let mut fleet = Fleet::start(&store.address, json!({}));
    let (mut browser, home) = fleet.browser(0);
    let old = browser.cookie().expect("a cookie").to_owned();
    fleet.set_host(&home, HostState::Unhealthy);
    let new_home = browser.get(&mut fleet[0], "/").host().to_owned();
    eventually("the move to be written", || (requests(&store, "move") == 1).then_some(()));
    fleet.set_host(&home, HostState::Healthy);
    for at in 0..2 {
        fleet.restart(at);
        for cookie in [browser.cookie().expect("a cookie"), &old] {
            assert_eq!(Browser::holding(cookie).get(&mut fleet[at], "/").host(), new_home);
        }
    }
}

#[test]
fn each_service_of_a_session_keeps_its_host_through_both_proxies() {
    let store = Store::start(&[]);
    let mut fleet = Fleet::start(&store.address, json!({}));
    let (mut browser, home) = fleet.browser(0);
    let second = browser.get(&mut fleet[1], "/other").host().to_owned();
    assert!(["d", "e"].contains(&second.as_str()));
    eventually("the second pin to be written", || (requests(&store, "move") == 1).then_some(()));
    let mut cookies = 0;
    for at in 0..60 {
        let (path, host) = [("/", &home), ("/other", &second)][at / 2 % 2];
        let response = browser.get(&mut fleet[at % 2], path);
        assert_eq!(response.host(), host, "{path}, request {at}");
        cookies += response.header("set-cookie").len();
    }
    assert_eq!(cookies, 0);
}

#[test]
fn a_host_that_lets_a_session_go_on_one_proxy_does_not_get_it_back_through_the_other() {
    let store = Store::start(&[]);
    let mut fleet = Fleet::start(&store.address, json!({}));
    let (mut browser, home) = fleet.browser(0);
    for _ in 0..20 {
        assert_eq!(browser.get(&mut fleet[1], "/").host(), home);
    }
    assert_eq!(browser.get(&mut fleet[0], "/?action=release").decision(), "released");
    eventually("the release to be written", || (requests(&store, "move") == 1).then_some(()));
    let pinned = browser.get(&mut fleet[1], "/");
    assert_eq!((pinned.decision(), pinned.header("set-cookie").len()), ("pinned".into(), 1));
    let new_home = pinned.host().to_owned();
    eventually("the new pin to be written", || (requests(&store, "move") == 2).then_some(()));
    for at in 0..20 {
        assert_eq!(browser.get(&mut fleet[at % 2], "/").host(), new_home);
    }
}

#[test]
fn proxies_of_which_one_has_the_next_key_already_agree_on_every_session() {
    let store = Store::start(&[]);
    // When a response is there, its write is done: below, the first to move is the one that counts.
    let members = json!({"store": {"write": "sync"}, "cache": {"ttl": "300ms"}});
    let mut fleet = Fleet::start(&store.address, members);
    let mut ahead: serde_json::Value = {
        let configuration = fleet[1].bootstrap.wasm()["configuration"]["value"].as_str().expect("JSON").to_owned();
        serde_json::from_str(&configuration).expect("JSON")
    };
    let (mut browser, home) = fleet.browser(0);
    ahead["keys"] = tokens::keys_reversed();
    fleet[1].reconfigure(ahead);
    let first = browser.get(&mut fleet[1], "/");
    assert_eq!((first.host(), first.decision()), (home.as_str(), "rekeyed".into()));
    let old = browser.cookie().expect("a cookie").to_owned();
    for at in 0..20 {
        assert_eq!(browser.get(&mut fleet[at % 2], "/").host(), home);
    }
    // A move under the one key is followed under the other.
    fleet.set_host(&home, HostState::Unhealthy);
    let new_home = browser.get(&mut fleet[1], "/").host().to_owned();
    fleet.set_host(&home, HostState::Healthy);
    eventually("every worker to know of the move", || {
        let mut hosts = (0..12).map(|at| Browser::holding(&old).get(&mut fleet[at % 2], "/").host().to_owned());
        hosts.all(|host| host == new_home).then_some(())
    });
    for at in 0..20 {
        assert_eq!(browser.get(&mut fleet[at % 2], "/").host(), new_home);
    }
    assert_eq!(fleet.counter("mooring_faults.kind=store_value"), 0);
}
