//! Redis goes away, hangs, restarts, fails over: 503 in time, and then recovery without anybody's help.

use crate::stage::{Engine, Peer, Stage, key};
use mooring_test_kit::servers::certs::Certificates;
use mooring_test_kit::servers::eventually;
use mooring_test_kit::servers::redis::{Redis, RedisCluster, Sentinels};
use mooring_test_kit::servers::store::Store;
use std::time::{Duration, Instant};

/// The request timeout of these stores, and what is allowed beyond it on a busy machine.
const TIMEOUT: &str = "500ms";
const BOUND: Duration = Duration::from_millis(1500);

/// The status of a request that must be answered in time.
fn in_time(request: impl FnOnce() -> u16) -> u16 {
    #[allow(clippy::disallowed_methods)]
    let begun = Instant::now();
    let status = request();
    assert!(begun.elapsed() < BOUND, "{status} after {:?}", begun.elapsed());
    status
}

/// Sends requests, each answered in time, until one is answered so.
fn becomes(what: &str, expected: u16, request: impl Fn() -> u16) {
    eventually(what, || {
        let status = in_time(&request);
        assert!(status == expected || status == 503 || expected == 503, "{what}: {status}");
        (status == expected).then_some(())
    });
}

fn lookup_becomes(store: &Peer, name: &str, expected: u16) {
    becomes(&format!("a lookup to answer {expected}"), expected, || store.lookup(name).status);
}

#[test]
fn a_redis_that_is_killed_and_restarted_is_ridden_out() {
    let mut redis = Redis::start();
    let store = Peer::new(Store::start(&["--redis", &redis.url(), "--request-timeout", TIMEOUT]));
    store.wait_until_ready();
    for _ in 0..2 {
        assert_eq!(store.create("k", "v", 60).status, 201);
        redis.kill();
        assert_eq!(in_time(|| store.lookup("k").status), 503);
        assert_eq!(in_time(|| store.revoke("k", 60)), 503, "a logout that is not done is not claimed");
        becomes("the store to be unready", 503, || store.get("/readyz").status);
        assert_eq!(store.get("/readyz").body, "unreachable\n");
        assert_eq!(store.get("/healthz").status, 200);
        redis.restart();
        lookup_becomes(&store, "k", 404);
        store.wait_until_ready();
    }
    assert!(store.metric("mooring_store_redis_errors_total{reason=\"unreachable\"}") >= 2.0);
    assert_eq!(store.store.log().matches("Redis cannot serve").count(), 2, "once for each time, not for each request");
}

#[test]
fn a_redis_that_hangs_is_ridden_out() {
    let stage = Stage::over(Engine::redis());
    let Engine::Redis(redis) = &stage.engine else { panic!() };
    let store = &stage.store;
    store.create("k", "v", 60);
    redis.pause();
    for _ in 0..5 {
        assert_eq!(in_time(|| store.lookup("k").status), 503);
        assert_eq!(in_time(|| store.create("l", "v", 60).status), 503);
    }
    becomes("the store to be unready", 503, || store.get("/readyz").status);
    redis.resume();
    lookup_becomes(store, "k", 200);
    store.wait_until_ready();
}

#[test]
fn a_store_starts_without_its_redis_and_finds_it_later() {
    let mut redis = Redis::start();
    redis.kill();
    let store = Peer::new(Store::start(&["--redis", &redis.url()]));
    assert_eq!(in_time(|| store.lookup("k").status), 503);
    assert_eq!(store.get("/readyz").status, 503);
    redis.restart();
    lookup_becomes(&store, "k", 404);
    store.wait_until_ready();
}

#[test]
fn a_redis_that_takes_no_writes_is_not_ready() {
    let stage = Stage::over(Engine::redis());
    let Engine::Redis(redis) = &stage.engine else { panic!() };
    redis.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    assert_eq!(in_time(|| stage.store.create("k", "v", 60).status), 503);
    eventually("the store to be unready", || (stage.store.get("/readyz").body == "readonly\n").then_some(()));
    redis.ask::<()>(&["REPLICAOF", "NO", "ONE"]).unwrap();
    stage.store.wait_until_ready();
    assert_eq!(stage.store.create("k", "v", 60).status, 201);
}

#[test]
fn a_wrong_password_is_told_in_one_word_and_never_shown() {
    let redis = Redis::with_password("right");
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let arguments = ["--redis", url.as_str()];
    let store = Peer::new(Store::with(&arguments, &[("MOORING_STORE_REDIS_PASSWORD", "guessed-in-vain")]));
    eventually("the reason", || (store.get("/readyz").body == "auth\n").then_some(()));
    assert_eq!(in_time(|| store.lookup("k").status), 503);
    assert!(!store.store.log().contains("guessed-in-vain"));
    let store = Peer::new(Store::with(&arguments, &[("MOORING_STORE_REDIS_PASSWORD", "right")]));
    store.wait_until_ready();
}

#[test]
fn a_user_who_may_not_run_scripts_is_told_once() {
    let stage = Stage::over(Engine::redis());
    let Engine::Redis(redis) = &stage.engine else { panic!() };
    redis.ask::<()>(&["ACL", "SETUSER", "reader", "on", ">pw", "~*", "+get", "+ping"]).unwrap();
    let url = format!("redis://reader:pw@127.0.0.1:{}", redis.port);
    let store = Peer::new(Store::start(&["--redis", &url]));
    store.wait_until_ready();
    for _ in 0..3 {
        assert_eq!(store.lookup("k").status, 404);
        assert_eq!(store.create("k", "v", 60).status, 503);
        eventually("the reason", || store.store.log().contains("reason=auth").then_some(()));
    }
    assert_eq!(store.store.log().matches("did not do every command").count(), 1);
}

/// The commands of `docs/store.md` that make the user for Redis, each as its words.
fn documented_user(heading: &str) -> Vec<String> {
    let page = std::fs::read_to_string(mooring_test_kit::servers::root().join("docs/store.md")).unwrap();
    let (_, rest) = page.split_once(heading).expect("the heading");
    let (_, rest) = rest.split_once("```text\n").expect("a block");
    let (block, _) = rest.split_once("```").expect("its end");
    block.split_whitespace().map(str::to_owned).collect()
}

/// Makes that user on a server, and looks at what it may not do.
fn confine(redis: &Redis, words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    redis.ask::<()>(&words).unwrap();
    redis.ask::<()>(&["SET", "cart:42", "theirs"]).ok();
    let client = ::redis::Client::open(format!("redis://mooring-store:change-me@127.0.0.1:{}", redis.port)).unwrap();
    let mut confined = client.get_connection().unwrap();
    for command in
        [&["GET", "cart:42"][..], &["SET", "cart:42", "ours"], &["KEYS", "*"], &["FLUSHALL"], &["CONFIG", "GET", "*"]]
    {
        let said = ::redis::cmd(command[0]).arg(&command[1..]).query::<::redis::Value>(&mut confined).unwrap_err();
        assert_eq!(said.code(), Some("NOPERM"), "{command:?}: {said}");
    }
}

/// Every operation, and no word of trouble: a user who may not do something shows as that.
fn does_everything(store: &Peer) {
    store.wait_until_ready();
    assert_eq!(store.create("k", "v", 60).status, 201);
    assert_eq!(store.create("k", "v2", 60).status, 412);
    assert_eq!(store.lookup("k").status, 200);
    assert_eq!(store.move_to("k", "v", "v2", 60).status, 204);
    assert_eq!(store.touch("k", 600), 204);
    assert_eq!(store.revoke("k", 60), 204);
    assert_eq!(store.lookup("k").status, 410);
    assert_eq!(store.metric("mooring_store_redis_errors_total{reason=\"auth\"}"), 0.0);
    let log = store.store.log();
    assert!(!log.contains("cannot serve") && !log.contains("did not do"), "{log}");
}

const PASSWORD: (&str, &str) = ("MOORING_STORE_REDIS_PASSWORD", "change-me");

#[test]
fn the_documented_user_may_do_all_that_is_needed_and_nothing_else() {
    let redis = Redis::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    confine(&redis, &documented_user("### A user of its own"));
    let url = format!("redis://mooring-store@127.0.0.1:{}", redis.port);
    let store = Peer::new(Store::with(&["--redis", &url], &[PASSWORD]));
    does_everything(&store);
    eventually("the look at its memory", || store.store.log().contains("noeviction").then_some(()));
    // The probe writes: a Redis that takes no writes is seen by this user as well.
    redis.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    eventually("the store to be unready", || (store.get("/readyz").body == "readonly\n").then_some(()));
}

#[test]
fn the_documented_user_suffices_for_a_cluster_and_behind_sentinels() {
    let words = documented_user("### A user of its own");
    let cluster = RedisCluster::start();
    cluster.nodes.iter().for_each(|node| confine(node, &words));
    let urls = cluster.urls();
    let mut arguments = vec!["--redis-mode", "cluster", "--redis-username", "mooring-store"];
    urls.iter().for_each(|url| arguments.extend(["--redis", url]));
    does_everything(&Peer::new(Store::with(&arguments, &[PASSWORD])));
    let sentinels = Sentinels::start();
    sentinels.servers.iter().for_each(|server| confine(server, &words));
    let urls = sentinels.urls();
    let mut arguments = vec!["--redis-mode", "sentinel", "--redis-sentinel-master", Sentinels::NAME];
    arguments.extend(["--redis-username", "mooring-store"]);
    urls.iter().for_each(|url| arguments.extend(["--redis", url]));
    does_everything(&Peer::new(Store::with(&arguments, &[PASSWORD])));
}

#[test]
fn redis_is_reached_over_tls_with_a_password_from_a_file() {
    let certificates = Certificates::new();
    let redis = Redis::with_tls(&certificates, "a password");
    let url = format!("rediss://127.0.0.1:{}", redis.tls_port.unwrap());
    let password = certificates.path("password");
    std::fs::write(&password, "a password\n").unwrap();
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| certificates.path(name));
    let trusting = ["--redis", &url, "--redis-password-file", &password, "--redis-ca-cert", &ca];
    let known = ["--redis-client-cert", &cert, "--redis-client-key", &key];
    let store = Peer::new(Store::start(&[&trusting[..], &known[..]].concat()));
    store.wait_until_ready();
    assert_eq!(store.create("k", "v", 60).status, 201);
    assert_eq!(store.lookup("k").status, 200);
    // Without a certificate to show it is turned away, and without the authority it trusts nobody.
    for arguments in [&trusting[..], &[&trusting[..4], &known[..]].concat()] {
        let store = Peer::new(Store::start(arguments));
        assert_eq!(in_time(|| store.lookup("k").status), 503);
        assert_eq!(store.get("/readyz").status, 503);
    }
}

#[test]
fn a_redis_that_may_evict_is_warned_of() {
    let redis = Redis::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let stage = Stage::over(Engine::Redis(redis));
    eventually("a warning", || stage.store.store.log().contains("noeviction").then_some(()));
    let stage = Stage::over(Engine::redis());
    assert!(!stage.store.store.log().contains("noeviction"));
}

#[test]
fn sentinels_lead_to_the_new_primary() {
    let mut sentinels = Sentinels::with_password(Some("secret"));
    let urls = sentinels.urls();
    let mut arguments = vec!["--redis-mode", "sentinel", "--redis-sentinel-master", Sentinels::NAME];
    urls.iter().for_each(|url| arguments.extend(["--redis", url]));
    let store = Peer::new(Store::with(&arguments, &[("MOORING_STORE_REDIS_PASSWORD", "secret")]));
    store.wait_until_ready();
    assert_eq!(store.create("k", "v", 60).status, 201);
    eventually("the replica to have it", || {
        let there: bool = sentinels.servers[1].ask(&["EXISTS", &key("k")]).ok()?;
        there.then_some(())
    });
    // Hung, not gone: its connections stay open.
    sentinels.servers[0].pause();
    assert_eq!(in_time(|| store.lookup("k").status), 503);
    sentinels.wait_for_primary(1);
    lookup_becomes(&store, "k", 200);
    assert_eq!(store.move_to("k", "v", "v2", 60).status, 204);
    // Back as a replica: nothing goes to it.
    sentinels.servers[0].resume();
    eventually("the old primary to be a replica", || {
        let told: String = sentinels.servers[0].ask(&["INFO", "replication"]).ok()?;
        told.contains("master_link_status:up").then_some(())
    });
    assert_eq!(store.lookup("k").body, "v2");
    // And the other way about.
    sentinels.servers[1].kill();
    sentinels.wait_for_primary(0);
    lookup_becomes(&store, "k", 200);
    becomes("a write to succeed", 204, || store.touch("k", 100));
}

#[test]
fn a_cluster_whose_primary_dies_fails_over() {
    let mut cluster = RedisCluster::with_replicas();
    let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let urls = cluster.urls();
    let mut arguments = vec!["--redis-mode", "cluster", "--request-timeout", TIMEOUT];
    urls.iter().take(3).for_each(|url| arguments.extend(["--redis", url]));
    let store = Peer::new(Store::start(&arguments));
    store.wait_until_ready();
    keys.iter().for_each(|key| assert_eq!(store.create(key, "v", 60).status, 201));
    let dead = cluster.kill_primary_of(&key("k0"));
    assert_eq!(in_time(|| store.lookup("k0").status), 503);
    keys.iter().for_each(|key| lookup_becomes(&store, key, 200));
    keys.iter().for_each(|key| becomes("a move", 204, || store.move_to(key, "v", "v2", 60).status));
    cluster.nodes[dead].restart();
    keys.iter().for_each(|key| assert_eq!(in_time(|| store.lookup(key).status), 200));
}

#[test]
fn a_cluster_that_hangs_or_dies_whole_is_ridden_out() {
    let mut cluster = RedisCluster::start();
    let urls = cluster.urls();
    let mut arguments = vec!["--redis-mode", "cluster", "--request-timeout", TIMEOUT];
    urls.iter().for_each(|url| arguments.extend(["--redis", url]));
    let store = Peer::new(Store::start(&arguments));
    store.wait_until_ready();
    store.create("k", "v", 60);
    cluster.nodes.iter().for_each(Redis::pause);
    assert_eq!(in_time(|| store.lookup("k").status), 503);
    becomes("the store to be unready", 503, || store.get("/readyz").status);
    cluster.nodes.iter().for_each(Redis::resume);
    lookup_becomes(&store, "k", 200);
    // One node hangs: its sessions are out of reach.
    let primary = cluster.primary_of(&key("k"));
    cluster.nodes[primary].pause();
    assert_eq!(in_time(|| store.lookup("k").status), 503);
    cluster.nodes[primary].resume();
    lookup_becomes(&store, "k", 200);
    // All die, and come back empty.
    cluster.nodes.iter_mut().for_each(Redis::kill);
    assert_eq!(in_time(|| store.lookup("k").status), 503);
    cluster.nodes.iter_mut().for_each(Redis::restart);
    lookup_becomes(&store, "k", 404);
    store.wait_until_ready();
}

#[test]
fn a_cluster_whose_primary_hangs_serves_the_others_meanwhile() {
    let cluster = RedisCluster::with_replicas();
    let urls = cluster.urls();
    let mut arguments = vec!["--redis-mode", "cluster", "--request-timeout", TIMEOUT];
    urls.iter().take(3).for_each(|url| arguments.extend(["--redis", url]));
    let store = Peer::new(Store::start(&arguments));
    store.wait_until_ready();
    let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    keys.iter().for_each(|key| assert_eq!(store.create(key, "v", 60).status, 201));
    let hung = cluster.primary_of(&key("k0"));
    let others: Vec<&String> = keys.iter().filter(|name| cluster.primary_of(&key(name)) != hung).collect();
    cluster.nodes[hung].pause();
    lookup_becomes(&store, "k0", 503);
    eventually("the replica to serve", || {
        // On a busy machine one may come too late; the next does not.
        others.iter().for_each(|key| lookup_becomes(&store, key, 200));
        (in_time(|| store.lookup("k0").status) == 200).then_some(())
    });
    cluster.nodes[hung].resume();
    keys.iter().for_each(|key| assert_eq!(in_time(|| store.lookup(key).status), 200));
}
