//! The same behaviour over every engine, and through every protocol.

use super::load::Load;
use mooring::store::protocol::StoreKey;
use mooring_test_kit::browser::Browser;
use mooring_test_kit::fleet::{Fleet, Plan, over_unchecked_http1, unchecked};
use mooring_test_kit::rig::eventually;
use mooring_test_kit::servers::redis::{Redis, RedisCluster};
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::servers::upstash::Upstash;
use mooring_test_kit::servers::webdis::Webdis;
use mooring_test_kit::tokens;
use mooring_test_kit::world::HostState;
use serde_json::{Value, json};

/// Of a call, how many came to this.
fn calls(fleet: &mut Fleet, operation: &str, result: &str) -> u64 {
    fleet.counter(&format!("mooring_store_calls.operation={operation}.result={result}"))
}

fn key_of(browser: &Browser) -> String {
    let session = tokens::session(browser.cookie().expect("a cookie"));
    StoreKey::of(&session.id, "m", "mooring").as_str().to_owned()
}

/// A session's life on two proxies: created, followed, moved, renewed, rotated and ended.
fn lives(address: &str, store: Value, adjust: fn(&mut mooring_test_kit::rig::Bootstrap)) {
    let plugin = json!({"store": store, "cache": {"ttl": "300ms"}, "session": {"idle_timeout": "20s"}});
    let mut fleet = Fleet::of(address, Plan { adjust, ..Plan::new(plugin) });
    let (mut browser, home) = fleet.browser(0);
    eventually("the session to be written", || (calls(&mut fleet, "create", "ok") == 1).then_some(()));
    let first = browser.cookie().expect("a cookie").to_owned();
    assert_eq!(browser.get(&mut fleet[1], "/").host(), home);
    assert!(calls(&mut fleet, "lookup", "ok") >= 1);

    fleet.set_host(&home, HostState::Unhealthy);
    let new_home = browser.get(&mut fleet[0], "/").host().to_owned();
    eventually("the move to be written", || (calls(&mut fleet, "move", "ok") == 1).then_some(()));
    fleet.set_host(&home, HostState::Healthy);
    eventually("the old cookie to follow", || {
        (Browser::holding(&first).get(&mut fleet[1], "/").host() == new_home).then_some(())
    });

    eventually("a renewal", || {
        let response = browser.get(&mut fleet[1], "/");
        assert_eq!(response.host(), new_home);
        (response.decision() == "renewed").then_some(())
    });
    eventually("the renewal to be written", || (calls(&mut fleet, "touch", "ok") > 0).then_some(()));

    let before = browser.cookie().expect("a cookie").to_owned();
    assert_eq!(browser.get(&mut fleet[0], "/?action=rotate").decision(), "rotated");
    assert_eq!(browser.get(&mut fleet[1], "/").host(), new_home);
    let after = browser.cookie().expect("a cookie").to_owned();
    assert_eq!(browser.get(&mut fleet[1], "/?action=end").decision(), "ended");
    for cookie in [&first, &before, &after] {
        for at in [0, 1] {
            eventually("the cookie to be refused", || {
                let decision = Browser::holding(cookie).get(&mut fleet[at], "/").decision();
                (decision == "created").then_some(())
            });
        }
    }
    assert_eq!(calls(&mut fleet, "revoke", "ok"), 2);
    for operation in ["lookup", "create", "move", "touch", "revoke"] {
        for result in ["failed", "skipped"] {
            assert_eq!(calls(&mut fleet, operation, result), 0, "{operation} {result}");
        }
    }
    fleet.assert_sound();
}

#[test]
fn a_session_lives_in_the_memory_of_mooring_store() {
    lives(&Store::start(&[]).address, json!({}), |_| ());
}

#[test]
fn a_session_lives_in_redis_through_mooring_store() {
    let redis = Redis::start();
    lives(&Store::start(&["--redis", &redis.url()]).address, json!({}), |_| ());
}

#[test]
fn a_session_lives_in_redis_through_webdis() {
    let redis = Redis::start();
    let webdis = Webdis::with_login(&redis.url(), "mooring:secret");
    let store = json!({"protocol": "webdis", "token": {"text": "mooring:secret"}});
    lives(&webdis.address, store, over_unchecked_http1);
}

#[test]
fn a_session_lives_in_redis_through_the_interface_of_upstash() {
    let redis = Redis::start();
    let upstash = Upstash::start(&redis.url(), "a-token");
    let store = json!({"protocol": "upstash", "token": {"text": "a-token"}});
    lives(&upstash.address, store, over_unchecked_http1);
}

#[test]
fn gateways_whose_token_is_wrong_are_stores_that_fail() {
    let redis = Redis::start();
    let webdis = Webdis::with_login(&redis.url(), "mooring:secret");
    let upstash = Upstash::start(&redis.url(), "a-token");
    let of = |protocol: &str| json!({"protocol": protocol, "token": {"text": "some:other"}, "timeout": "1s"});
    for (address, store) in [(&webdis.address, of("webdis")), (&upstash.address, of("upstash"))] {
        let plan = Plan { envoys: 1, adjust: over_unchecked_http1, ..Plan::new(json!({"store": store})) };
        let mut fleet = Fleet::of(address, plan);
        let (mut browser, home) = fleet.browser(0);
        for _ in 0..20 {
            assert_eq!(browser.get(&mut fleet[0], "/").host(), home);
        }
        assert!(fleet.counter("mooring_faults.kind=store_refused") >= 5);
        assert_eq!(calls(&mut fleet, "lookup", "missing"), 0);
    }
    assert_eq!(redis.ask::<u64>(&["DBSIZE"]).ok(), Some(0));
}

#[test]
fn redis_away_and_back_fails_no_request_and_forgets_no_logout_that_comes_after() {
    let mut redis = Redis::start();
    let store = Store::start(&["--redis", &redis.url()]);
    let plugin = json!({"store": {"timeout": "100ms"}, "cache": {"ttl": "200ms"}});
    let mut fleet = Fleet::of(&store.address, Plan { adjust: unchecked, ..Plan::new(plugin) });
    let (mut browser, home) = fleet.browser(0);
    let key = key_of(&browser);
    let stored = |redis: &Redis| redis.ask::<bool>(&["EXISTS", &key]).unwrap_or(false);
    eventually("the session to be in Redis", || stored(&redis).then_some(()));
    redis.kill();
    for at in 0..100 {
        let response = browser.get(&mut fleet[at % 2], "/");
        assert_eq!((response.status, response.host()), (200, home.as_str()));
    }
    redis.restart();
    eventually("the session to be in Redis again", || {
        for at in 0..4 {
            assert_eq!(browser.get(&mut fleet[at % 2], "/").host(), home);
        }
        stored(&redis).then_some(())
    });
    let old = browser.cookie().expect("a cookie").to_owned();
    assert_eq!(browser.get(&mut fleet[0], "/?action=end").decision(), "ended");
    eventually("the other proxy to refuse the cookie", || {
        (Browser::holding(&old).get(&mut fleet[1], "/").decision() == "created").then_some(())
    });
    fleet.assert_sound();
}

#[test]
fn a_cluster_s_primary_that_is_killed_fails_no_request_and_its_replica_goes_on_with_the_session() {
    let mut cluster = RedisCluster::with_replicas();
    let urls = cluster.urls();
    let mut arguments = vec!["--redis-mode", "cluster"];
    arguments.extend(urls.iter().flat_map(|url| ["--redis", url.as_str()]));
    let store = Store::start(&arguments);
    let plugin = json!({"store": {"timeout": "200ms"}, "cache": {"ttl": "200ms"}});
    let mut fleet = Fleet::of(&store.address, Plan { adjust: unchecked, ..Plan::new(plugin) });

    // It moved, and only the store can say where to: the client has its old cookie.
    let (mut browser, home) = fleet.browser(0);
    let old = browser.cookie().expect("a cookie").to_owned();
    let key = key_of(&browser);
    fleet.set_host(&home, HostState::Unhealthy);
    let new_home = browser.get(&mut fleet[0], "/").host().to_owned();
    eventually("the move to be written", || (calls(&mut fleet, "move", "ok") == 1).then_some(()));
    fleet.set_host(&home, HostState::Healthy);
    let followed = |fleet: &mut Fleet| Browser::holding(&old).get(&mut fleet[1], "/").host() == new_home;
    eventually("the session to be followed", || followed(&mut fleet).then_some(()));

    let load = Load::of(&mut fleet, 30);
    let primary = cluster.primary_of(&key);
    eventually("the replica to have the session", || {
        let replica: u64 = cluster.nodes[primary].ask(&["WAIT", "1", "1000"]).ok()?;
        (replica == 1).then_some(())
    });
    let mut killed = false;
    let outcome = load.run(4000, 50, |answered| {
        if answered > 1000 && !killed {
            cluster.nodes[primary].kill();
            killed = true;
        }
    });
    eprintln!("{} requests, {} failed, {} elsewhere", outcome.requests, outcome.failed.len(), outcome.misplaced);
    outcome.assert_flawless();

    let successor = cluster.primary_of(&key);
    assert_ne!(successor, primary);
    // Proxies that know nothing but the old cookie learn from the replica where the session is.
    for at in 0..2 {
        fleet.restart(at);
    }
    eventually("the session to be followed after the failover", || followed(&mut fleet).then_some(()));
    fleet.assert_sound();
}
