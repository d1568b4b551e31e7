//! The REST contract, held by each backend.

use crate::stage::{Answer, Engine, Peer, Stage, key, key_in, peer, send};
use mooring_test_kit::servers::eventually;
use mooring_test_kit::servers::redis::Redis;

/// Makes a test of each clause for an engine that starts at once, and one test of all clauses for one that takes seconds.
macro_rules! clauses {
    ($($clause:ident)*) => {
        mod memory {
            $(#[test] fn $clause() { super::$clause(&super::Stage::over(super::Engine::Memory)); })*
        }

        mod redis {
            $(#[test] fn $clause() { super::$clause(&super::Stage::over(super::Engine::redis())); })*
        }

        const CLAUSES: &[(&str, fn(&Stage))] = &[$((stringify!($clause), $clause)),*];
    };
}

clauses! {
    nothing_is_found_where_nothing_was_put
    the_first_create_wins
    a_move_needs_the_value_that_it_replaces
    a_revoked_session_stays_revoked
    a_second_revocation_never_shortens_the_first
    a_touch_only_prolongs
    a_write_sets_the_time_to_live_anew
    what_has_expired_is_gone
    values_of_every_length_and_kind_come_back_as_they_were
}

fn hold_all(stage: &Stage) {
    for (name, clause) in CLAUSES {
        println!("{name}");
        clause(stage);
    }
}

#[test]
fn a_cluster_holds_every_clause() {
    hold_all(&Stage::over(Engine::cluster()));
}

#[test]
fn a_redis_that_sentinels_watch_holds_every_clause() {
    hold_all(&Stage::over(Engine::sentinels()));
}

fn nothing_is_found_where_nothing_was_put(stage: &Stage) {
    let store = &stage.store;
    assert_eq!(store.lookup("none"), Answer::of(404));
    assert_eq!(store.touch("none", 60), 404);
    assert_eq!(store.move_to("none", "v1", "v2", 60), Answer::of(412));
    assert_eq!(store.lookup("none"), Answer::of(404));
}

fn the_first_create_wins(stage: &Stage) {
    let store = &stage.store;
    assert_eq!(store.create("first", "v1", 60), Answer::written(201, "v1"));
    assert_eq!(store.create("first", "v2", 60), Answer::showing(412, "v1"));
    assert_eq!(store.create("first", "v1", 60), Answer::showing(412, "v1"));
    assert_eq!(store.lookup("first"), Answer::showing(200, "v1"));
}

fn a_move_needs_the_value_that_it_replaces(stage: &Stage) {
    let store = &stage.store;
    store.create("moved", "v1", 60);
    assert_eq!(store.move_to("moved", "other", "v2", 60), Answer::showing(412, "v1"));
    assert_eq!(store.move_to("moved", "v1", "v2", 60), Answer::written(204, "v2"));
    assert_eq!(store.move_to("moved", "v1", "v3", 60), Answer::showing(412, "v2"));
    assert_eq!(store.lookup("moved"), Answer::showing(200, "v2"));
    let upper_case = store.client.put(store.session("moved")).header("mooring-ttl", 60).body("v3");
    let etag = crate::stage::etag("v2").to_uppercase();
    assert_eq!(send(upper_case.header("if-match", etag)), Answer::showing(412, "v2"));
}

fn a_revoked_session_stays_revoked(stage: &Stage) {
    let store = &stage.store;
    store.create("ended", "v1", 60);
    for key in ["ended", "never-was"] {
        assert_eq!(store.revoke(key, 60), 204);
        assert_eq!(store.lookup(key), Answer::of(410));
        assert_eq!(store.create(key, "v1", 60), Answer::of(410));
        assert_eq!(store.move_to(key, "v1", "v2", 60), Answer::of(410));
        assert_eq!(store.move_to(key, "", "v2", 60), Answer::of(410), "the etag of the empty string revives nothing");
        assert_eq!(store.touch(key, 600), 410);
        assert_eq!(store.revoke(key, 60), 204);
        assert_eq!(store.lookup(key), Answer::of(410));
    }
}

fn a_second_revocation_never_shortens_the_first(stage: &Stage) {
    let store = &stage.store;
    store.revoke("twice", 600);
    store.revoke("twice", 1);
    store.touch("twice", 1);
    if let Some(left) = stage.engine.left("twice") {
        assert!((590_000..=600_000).contains(&left), "{left}");
        store.revoke("twice", 900);
        let left = stage.engine.left("twice").unwrap();
        assert!((890_000..=900_000).contains(&left), "{left}");
        store.touch("twice", 2000);
        assert!(stage.engine.left("twice").unwrap() <= 900_000, "a touch leaves a tombstone as it is");
    }
}

fn a_touch_only_prolongs(stage: &Stage) {
    let store = &stage.store;
    store.create("touched", "v1", 60);
    assert_eq!(store.touch("touched", 600), 204);
    assert_eq!(store.touch("touched", 1), 204);
    assert_eq!(store.lookup("touched"), Answer::showing(200, "v1"));
    if let Some(left) = stage.engine.left("touched") {
        assert!((590_000..=600_000).contains(&left), "{left}");
    }
}

fn a_write_sets_the_time_to_live_anew(stage: &Stage) {
    let store = &stage.store;
    store.create("anew", "v1", 600);
    if let Some(left) = stage.engine.left("anew") {
        assert!((590_000..=600_000).contains(&left), "{left}");
        store.move_to("anew", "v1", "v1", 60);
        let left = stage.engine.left("anew").unwrap();
        assert!((50_000..=60_000).contains(&left), "{left}");
        store.create("longest", "v", 40_000_000);
        assert!(stage.engine.left("longest").unwrap() > 39_999_000_000);
    }
    assert_eq!(store.move_to("anew", "v1", "v2", 1).status, 204);
    eventually("the shorter life to end", || (store.lookup("anew").status == 404).then_some(()));
}

fn what_has_expired_is_gone(stage: &Stage) {
    let store = &stage.store;
    store.create("brief", "v1", 1);
    store.create("prolonged", "v1", 1);
    store.touch("prolonged", 600);
    store.revoke("brief-tombstone", 1);
    assert_eq!(store.lookup("brief-tombstone"), Answer::of(410));
    eventually("a session to expire", || (store.lookup("brief").status == 404).then_some(()));
    eventually("a tombstone to expire", || (store.lookup("brief-tombstone").status == 404).then_some(()));
    assert_eq!(store.lookup("prolonged").status, 200);
    assert_eq!(store.touch("brief", 60), 404);
    assert_eq!(store.create("brief", "v2", 60).status, 201);
}

fn values_of_every_length_and_kind_come_back_as_they_were(stage: &Stage) {
    let store = &stage.store;
    let all: String = (0x21..=0x7e_u8).map(char::from).collect();
    for (at, value) in ["x", &all, &"y".repeat(4096)].into_iter().enumerate() {
        let name = format!("kind-{at}");
        assert_eq!(store.create(&name, value, 60), Answer::written(201, value));
        assert_eq!(store.lookup(&name), Answer::showing(200, value));
        assert_eq!(store.move_to(&name, value, "next", 60), Answer::written(204, "next"));
    }
}

#[test]
fn several_stores_over_one_redis_agree() {
    let engine = Engine::redis();
    let [a, b] = [peer(&engine, &[]), peer(&engine, &[])];
    assert_eq!(a.create("k", "v1", 60).status, 201);
    assert_eq!(b.create("k", "v2", 60), Answer::showing(412, "v1"));
    assert_eq!(b.move_to("k", "v1", "v2", 60).status, 204);
    assert_eq!(a.move_to("k", "v1", "v3", 60), Answer::showing(412, "v2"));
    assert_eq!(a.revoke("k", 60), 204);
    assert_eq!(b.lookup("k"), Answer::of(410));
}

#[test]
fn a_redis_that_forgot_its_scripts_is_taught_again() {
    let stage = Stage::over(Engine::redis());
    let Engine::Redis(redis) = &stage.engine else { panic!() };
    stage.store.create("a", "v1", 60);
    redis.ask::<()>(&["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(stage.store.create("b", "v1", 60).status, 201);
    assert_eq!(stage.store.move_to("b", "v1", "v2", 60).status, 204);
}

#[test]
fn what_somebody_else_put_into_redis_breaks_nothing() {
    let stage = Stage::over(Engine::redis());
    let Engine::Redis(redis) = &stage.engine else { panic!() };
    redis.ask::<()>(&["LPUSH", &key("list"), "x"]).unwrap();
    redis.ask::<()>(&["SET", &key("long"), &"x".repeat(5000)]).unwrap();
    redis.ask::<()>(&["SET", &key("eternal"), "not ours"]).unwrap();
    for name in ["list", "long"] {
        assert_eq!(stage.store.lookup(name).status, 502);
        assert_eq!(stage.store.create(name, "v", 60).status, 502);
    }
    assert_eq!(stage.store.lookup("eternal"), Answer::showing(200, "not ours"));
    assert_eq!(stage.store.touch("eternal", 60), 204);
    assert_eq!(stage.engine.left("eternal"), Some(-1), "a touch shortens nothing");
    assert_eq!(stage.store.revoke("eternal", 60), 204);
    assert_eq!(stage.store.lookup("eternal").status, 410);
    assert_eq!(stage.store.get("/readyz").status, 200);
}

/// The statuses of every operation on a key, as it is.
fn all_operations(store: &Peer, key: &str) -> [u16; 5] {
    let (url, ttl) = (store.store.url(&format!("/v1/sessions/{key}")), ("mooring-ttl", "60"));
    let status = |request: reqwest::blocking::RequestBuilder| send(request.header(ttl.0, ttl.1)).status;
    [
        status(store.client.get(&url)),
        status(store.client.put(&url).header("if-none-match", "*").body("v")),
        status(store.client.put(&url).header("if-match", crate::stage::etag("theirs")).body("v")),
        status(store.client.post(format!("{url}/touch"))),
        status(store.client.delete(&url)),
    ]
}

#[test]
fn keys_of_other_applications_are_out_of_reach() {
    let stage = Stage::over(Engine::redis());
    let Engine::Redis(redis) = &stage.engine else { panic!() };
    let digest = key("k").split_off("mooring:".len());
    let foreign = [
        ("cart:42".to_owned(), 400),
        ("session".to_owned(), 400),
        ("mooring:probe".to_owned(), 400),
        ("mooring:".to_owned() + &"k".repeat(200), 400),
        (format!("shop:{digest}"), 403),
        (format!("mooring2:{digest}"), 403),
    ];
    for (key, status) in foreign {
        redis.ask::<()>(&["SET", &key, "theirs"]).unwrap();
        assert_eq!(all_operations(&stage.store, &key), [status; 5], "{key}");
        assert_eq!(redis.ask::<String>(&["GET", &key]).as_deref(), Ok("theirs"), "{key}");
        assert_eq!(redis.ask::<i64>(&["TTL", &key]), Ok(-1), "{key}");
    }
}

#[test]
fn the_namespaces_that_are_named_are_served_and_no_other() {
    let engine = Engine::redis();
    for store in [
        peer(&engine, &["--namespace", "shop.1", "--namespace", "admin"]),
        Peer::new(mooring_test_kit::servers::store::Store::with(&[], &[("MOORING_STORE_NAMESPACE", "shop.1,admin")])),
    ] {
        for namespace in ["shop.1", "admin"] {
            assert_eq!(all_operations(&store, &key_in(namespace, "k")), [404, 201, 412, 204, 204], "{namespace}");
        }
        assert_eq!(all_operations(&store, &key("k")), [403; 5]);
    }
}

#[test]
fn a_full_memory_lets_sessions_go_but_no_tombstone() {
    let store = Peer::new(mooring_test_kit::servers::store::Store::start(&["--max-sessions", "3"]));
    store.revoke("t1", 60);
    store.create("a", "v", 60);
    store.create("b", "v", 50);
    assert_eq!(store.create("c", "v", 100).status, 201);
    assert_eq!((store.lookup("a").status, store.lookup("b").status, store.lookup("t1").status), (200, 404, 410));
    assert_eq!(store.metric("mooring_store_evictions_total"), 1.0);
    assert_eq!((store.revoke("t2", 60), store.revoke("t3", 60)), (204, 204));
    assert_eq!(store.revoke("t4", 60), 507, "a logout is not lost in silence");
    assert_eq!(store.create("d", "v", 60).status, 507);
    assert_eq!(["t1", "t2", "t3"].map(|key| store.lookup(key).status), [410; 3]);
    assert_eq!(store.metric("mooring_store_tombstones"), 3.0);
    assert_eq!(store.metric("mooring_store_sessions"), 0.0);
}

#[test]
fn a_full_redis_is_told() {
    let redis = Redis::with(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]);
    let stage = Stage::over(Engine::Redis(redis));
    assert_eq!(stage.store.create("k", "v", 60).status, 507);
    assert_eq!(stage.store.revoke("k", 60), 507);
    assert_eq!(stage.store.lookup("k").status, 404);
}
