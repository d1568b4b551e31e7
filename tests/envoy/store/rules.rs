//! What the operator chose for sessions that are missing, and for a store that fails.

use mooring::store::protocol::StoreKey;
use mooring_test_kit::browser::Browser;
use mooring_test_kit::fleet::{Fleet, Plan, requests, unchecked};
use mooring_test_kit::rig::eventually;
use mooring_test_kit::servers::redis::Redis;
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::tokens;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_millis(100);

fn fleet_on_error(store: &Store, on_error: &str) -> Fleet {
    let ttl = format!("{}ms", TTL.as_millis());
    let plugin = json!({"store": {"timeout": "100ms", "on_error": on_error}, "cache": {"ttl": ttl}});
    Fleet::of(&store.address, Plan { adjust: unchecked, ..Plan::new(plugin) })
}

#[test]
fn where_the_operator_says_so_a_request_is_turned_away_while_the_store_fails() {
    let mut store = Store::start(&[]);
    let mut fleet = fleet_on_error(&store, "fail");
    let (mut browser, home) = fleet.browser(0);
    let cookie = browser.cookie().expect("a cookie").to_owned();
    for fault in ["killed", "hung"] {
        if fault == "killed" {
            store.kill()
        } else {
            store.pause()
        }
        // What a worker knows, it still serves. Whichever was not met for so long has forgotten.
        eventually("what the workers know to be forgotten", || {
            #[allow(clippy::disallowed_methods)]
            let begun = Instant::now();
            while begun.elapsed() < 2 * TTL {
                let answers = [0, 1].map(|at| browser.get(&mut fleet[at], "/").status);
                (answers == [503, 503]).then_some(())?;
            }
            Some(())
        });
        for at in 0..40 {
            let refused = browser.get(&mut fleet[at % 2], "/");
            assert_eq!((refused.status, &refused.served_by), (503, &None), "{fault}");
            let seconds: u64 = refused.header("retry-after").concat().parse().expect("seconds");
            assert!((1..=31).contains(&seconds), "{seconds}");
            assert_eq!((refused.header("set-cookie"), refused.upstream_got.len()), (vec![], 0));
        }
        // Who has no session needs no store.
        assert_eq!(Browser::default().get(&mut fleet[0], "/").status, 200);
        if fault == "killed" {
            store.restart()
        } else {
            store.resume()
        }
        eventually("requests to be served again", || {
            let answers: Vec<_> = (0..8).map(|at| browser.get(&mut fleet[at % 2], "/")).collect();
            answers.iter().all(|answer| answer.status == 200 && answer.host() == home).then_some(())
        });
        assert_eq!(browser.cookie(), Some(cookie.as_str()));
    }
    fleet.assert_sound();
}

#[test]
fn where_the_operator_says_so_a_request_is_balanced_anew_while_the_store_fails() {
    let mut store = Store::start(&[]);
    let mut fleet = fleet_on_error(&store, "rebalance");
    let (mut browser, home) = fleet.browser(0);
    store.kill();
    let mut hosts = BTreeSet::new();
    eventually("all hosts to serve", || {
        for at in 0..6 {
            let response = browser.get(&mut fleet[at % 2], "/");
            assert_eq!((response.status, response.header("set-cookie")), (200, vec![]));
            hosts.insert(response.host().to_owned());
            if response.decision() == "failed" {
                assert_eq!(response.upstream_header("x-mooring-session"), [""; 0], "nothing is known of the session");
            }
        }
        (hosts.len() == 3).then_some(())
    });
    store.restart();
    eventually("the session to be at home again", || {
        let answers: Vec<_> = (0..8).map(|at| browser.get(&mut fleet[at % 2], "/")).collect();
        answers.iter().all(|answer| answer.host() == home).then_some(())
    });
}

#[test]
fn where_the_operator_says_so_a_session_that_the_store_does_not_know_is_none() {
    let mut store = Store::start(&[]);
    let rules = json!({"create": "at_once", "write": "sync", "on_missing": "new_session"});
    let mut fleet = Fleet::of(&store.address, Plan { adjust: unchecked, ..Plan::new(json!({"store": rules})) });
    // Each is known to the other proxy as soon as its first response is there.
    let mut sessions = Vec::new();
    for at in 0..20 {
        let mut browser = Browser::default();
        let home = browser.get(&mut fleet[at % 2], "/").host().to_owned();
        assert_eq!(requests(&store, "create"), at as u64 + 1);
        let next = browser.get(&mut fleet[1 - at % 2], "/");
        assert_eq!((next.host(), next.decision()), (home.as_str(), "resumed".into()));
        sessions.push((browser, home));
    }
    assert_eq!(requests(&store, "create"), 20);

    let now = tokens::now();
    let unknown = tokens::sign(&tokens::timed(now, now, now + 1000), &tokens::keyring("m"));
    let mut browser = Browser::holding(&unknown);
    let first = browser.get(&mut fleet[0], "/");
    assert_eq!((first.status, first.decision()), (200, "created".into()));
    assert_ne!(browser.cookie(), Some(unknown.as_str()));
    assert_eq!(browser.get(&mut fleet[1], "/").host(), first.host());
    assert_eq!(fleet.counter("mooring_tokens_refused.reason=revoked"), 1);

    // A store that forgot everything ends every session, once.
    store.restart();
    for at in 0..2 {
        fleet.restart(at);
    }
    for (at, (browser, _)) in sessions.iter_mut().enumerate() {
        assert_eq!(browser.get(&mut fleet[at % 2], "/").decision(), "created");
        assert_eq!(browser.get(&mut fleet[1 - at % 2], "/").decision(), "resumed");
    }
}

#[test]
fn a_renewal_lets_a_real_store_keep_the_session() {
    let redis = Redis::start();
    let store = Store::start(&["--redis", &redis.url()]);
    let mut fleet = Fleet::start(&store.address, json!({"session": {"idle_timeout": "10s"}}));
    let (mut browser, home) = fleet.browser(0);
    let session = tokens::session(browser.cookie().expect("a cookie"));
    let key = StoreKey::of(&session.id, "m", "mooring");
    let left = || redis.ask::<i64>(&["PTTL", key.as_str()]).expect("PTTL");
    let first = eventually("it to be written", || Some(left()).filter(|left| *left > 0));
    let touched = requests(&store, "touch");
    let (before, renewed) = eventually("a renewal", || {
        // Long enough after, to tell how long it lives.
        let before = Some(left()).filter(|left| *left < first - 500)?;
        let response = browser.get(&mut fleet[1], "/");
        assert_eq!(response.host(), home);
        (response.decision() == "renewed").then_some((before, response))
    });
    assert_eq!(renewed.header("set-cookie").len(), 1);
    eventually("it to live for longer", || (left() > before).then_some(()));
    assert_eq!((requests(&store, "touch") - touched, requests(&store, "move")), (1, 0));
    assert_eq!(browser.get(&mut fleet[0], "/").host(), home);
}
