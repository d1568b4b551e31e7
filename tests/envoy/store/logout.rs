//! The end of a session, and the change of its id: known to every proxy.

use mooring_test_kit::browser::Browser;
use mooring_test_kit::fleet::{Fleet, Plan, requests, unchecked};
use mooring_test_kit::rig::eventually;
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::tokens;
use mooring_test_kit::world::{World, plugin};
use serde_json::json;
use std::time::{Duration, Instant};

const REVOKED: &str = "mooring_tokens_refused.reason=revoked";

/// Two proxies of one worker each, so that "at once" has a meaning: workers tell each other through the store.
fn pair(address: &str) -> Fleet {
    Fleet::of(address, Plan { workers: 1, ..Plan::new(json!({"cache": {"ttl": "500ms"}})) })
}

/// Waits until the proxy refuses the cookie: a new session begins.
fn wait_for_refusal(fleet: &mut Fleet, at: usize, cookie: &str) {
    eventually("the old cookie to be refused", || {
        (Browser::holding(cookie).get(&mut fleet[at], "/").decision() == "created").then_some(())
    });
}

#[test]
fn a_logout_on_one_proxy_is_one_on_all() {
    let store = Store::start(&[]);
    let mut fleet = pair(&store.address);
    let (mut browser, home) = fleet.browser(0);
    let old = browser.cookie().expect("a cookie").to_owned();
    assert_eq!(browser.get(&mut fleet[1], "/").host(), home);
    assert_eq!(browser.get(&mut fleet[0], "/?action=end").decision(), "ended");
    #[allow(clippy::disallowed_methods)]
    let ended = Instant::now();
    assert_eq!(browser.cookie(), None);
    assert_eq!(Browser::holding(&old).get(&mut fleet[0], "/").decision(), "created", "the same proxy knows at once");
    wait_for_refusal(&mut fleet, 1, &old);
    let late = ended.elapsed();
    eprintln!("refused by the other proxy {late:?} after the logout, with a time to live of 500 ms");
    assert!(late < Duration::from_secs(2), "{late:?}");
    for at in [0, 1].repeat(5) {
        let again = Browser::holding(&old).get(&mut fleet[at], "/");
        assert_eq!(again.decision(), "created");
        let id = tokens::session(&old).id.to_text();
        assert_ne!(again.upstream_header("x-mooring-session"), [id], "the application never meets the old id again");
    }
    assert_eq!(fleet[1].counter(REVOKED), 6);
    assert_eq!(requests(&store, "revoke"), 1);
}

#[test]
fn after_a_rotation_the_old_token_is_refused_everywhere_and_the_new_one_works_everywhere() {
    let store = Store::start(&[]);
    let mut fleet = pair(&store.address);
    let (mut browser, home) = fleet.browser(0);
    let old = browser.cookie().expect("a cookie").to_owned();
    assert_eq!(browser.get(&mut fleet[1], "/").host(), home);
    assert_eq!(browser.get(&mut fleet[0], "/?action=rotate").decision(), "rotated");
    for at in [1, 0, 1, 0] {
        let response = browser.get(&mut fleet[at], "/");
        assert_eq!((response.host(), response.decision()), (home.as_str(), "resumed".into()));
    }
    for at in [0, 1] {
        wait_for_refusal(&mut fleet, at, &old);
    }
    assert_eq!(browser.get(&mut fleet[1], "/").host(), home);
    assert!(fleet[1].counter(REVOKED) >= 1);
    assert_eq!(fleet.calls("revoke"), 1);
}

#[test]
fn a_logout_while_the_store_is_down_is_delivered_when_it_is_back() {
    let mut store = Store::start(&[]);
    let plugin = json!({"store": {"timeout": "100ms"}, "cache": {"ttl": "500ms"}});
    let mut fleet = Fleet::of(&store.address, Plan { adjust: unchecked, ..Plan::new(plugin) });
    let (mut browser, home) = fleet.browser(0);
    let old = browser.cookie().expect("a cookie").to_owned();
    assert_eq!(browser.get(&mut fleet[1], "/").host(), home);
    store.kill();
    let ended = browser.get(&mut fleet[0], "/?action=end");
    assert_eq!((ended.status, ended.decision(), browser.cookie()), (200, "ended".into(), None));
    // Until the store knows, the other proxy trusts the cookie.
    assert_eq!(Browser::holding(&old).get(&mut fleet[1], "/").host(), home);
    store.restart();
    eventually("the logout to be delivered", || (requests(&store, "revoke") > 0).then_some(()));
    wait_for_refusal(&mut fleet, 1, &old);
    for at in [0, 1].repeat(5) {
        wait_for_refusal(&mut fleet, at, &old);
    }
    assert_eq!(fleet.counter("mooring_faults.kind=revocation_lost"), 0);
    fleet.assert_sound();
}

#[test]
fn a_logout_that_the_store_was_not_told_outlives_a_change_of_the_configuration() {
    let mut store = Store::start(&[]);
    let members = json!({"store": {"timeout": "100ms"}, "cache": {"ttl": "500ms"}});
    let mut fleet = Fleet::of(&store.address, Plan { adjust: unchecked, ..Plan::new(members) });
    let (mut browser, _) = fleet.browser(0);
    let old = browser.cookie().expect("a cookie").to_owned();
    store.kill();
    assert_eq!(browser.get(&mut fleet[0], "/?action=end").decision(), "ended");
    let store_members = json!({"protocol": "rest", "cluster": "session_store", "timeout": "200ms"});
    fleet[0].reconfigure(plugin(json!({"store": store_members, "cache": {"ttl": "500ms"}})));
    store.restart();
    eventually("the logout to be delivered", || (requests(&store, "revoke") > 0).then_some(()));
    for at in [0, 1] {
        wait_for_refusal(&mut fleet, at, &old);
    }
}
