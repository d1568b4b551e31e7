//! What attacks meet: docs/security.md names these tests.

use crate::fake::FakeWorld;
use mooring::clock::UnixTime;
use mooring::credential::token::MAX_TOKEN;
use mooring::session::pin::{ClusterId, HostAddr, Pin};
use mooring::session::{Session, SessionId};
use mooring::shell::contexts::Action;
use mooring_test_kit::browser::Browser;
use mooring_test_kit::fake::{Call, Line, Sent};
use mooring_test_kit::proxy::{Proxy, ROOT, line};
use mooring_test_kit::tokens::{self, keyring, sign, timed};
use mooring_test_kit::world::{NEW_SECRET, Request, Setup, World, plugin};
use serde_json::{Value, json};
use std::time::Duration;

/// A time that the proxies here begin at, so that two of them do the same.
const NOW: u64 = 1_800_000_000;

fn proxy(members: Value) -> Proxy {
    let mut proxy = Proxy::with(&plugin(members));
    proxy.host.state().now = UnixTime(NOW);
    proxy.tick(ROOT);
    proxy
}

fn with_store(mut store: Value) -> Proxy {
    store["cluster"] = "session_store".into();
    proxy(json!({"store": store}))
}

/// A session on the host 127.0.0.1:9001 that began a while ago.
fn session(number: u128) -> Session {
    let mut session = timed(NOW - 10, NOW - 10, NOW + 1000);
    session.id = SessionId(number.to_be_bytes());
    let host = HostAddr::parse(b"127.0.0.1:9001").expect("a host");
    session.pins.set(Pin { cluster: ClusterId::of(b"app"), host });
    session
}

fn cookie(token: impl AsRef<[u8]>) -> Vec<Line> {
    vec![line(":path", "/"), line("cookie", [b"m=", token.as_ref()].concat())]
}

fn good() -> String {
    sign(&session(1), &keyring("m"))
}

/// Of every kind that is refused, with the reason.
fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let good = good();
    let (untagged, tag) = good.rsplit_once('.').expect("a tag");
    vec![
        ("bad_tag", sign(&session(1), &keyring("another scope")).into_bytes()),
        ("bad_tag", good.replacen("m1s.", "m1e.", 1).into_bytes()),
        ("bad_tag", good.replacen(".new.", ".old.", 1).into_bytes()),
        ("unknown_key", good.replacen(".new.", ".gone.", 1).into_bytes()),
        ("expired_absolute", sign(&timed(NOW - 100, NOW, NOW - 1), &keyring("m")).into_bytes()),
        ("expired_absolute", sign(&timed(NOW - 30_000, NOW, NOW + 1000), &keyring("m")).into_bytes()),
        ("expired_idle", sign(&timed(NOW - 2000, NOW - 1900, NOW + 1000), &keyring("m")).into_bytes()),
        ("future", sign(&timed(NOW + 120, NOW + 120, NOW + 1000), &keyring("m")).into_bytes()),
        ("malformed", vec![b'x'; MAX_TOKEN + 1]),
        ("malformed", b"\xff\xfe\x80".to_vec()),
        ("malformed", format!("{good}.").into_bytes()),
        ("malformed", format!("{untagged}.{tag}=").into_bytes()),
    ]
}

/// Thousands of them: what a client can make up that has a valid token, and no key.
fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let (mut tokens, good) = (kinds(), good().into_bytes());
    tokens.extend((0..good.len()).map(|length| ("malformed", good[..length].to_vec())));
    // Body and tag, but for the last character: most others of that are no canonical base64.
    for at in "m1s.new.".len()..good.len() - 1 {
        for letter in b"AZaz09-_".iter().filter(|letter| ![b'.', **letter].contains(&good[at])) {
            let mut altered = good.clone();
            altered[at] = *letter;
            tokens.push(("bad_tag", altered));
        }
    }
    // Whole sessions, under keys of the attacker's own.
    let own = keyring("elsewhere");
    tokens.extend((0..2000).map(|number| ("bad_tag", sign(&session(number), &own).into_bytes())));
    tokens
}

#[test]
fn only_a_token_that_verifies_makes_the_proxy_call_the_store() {
    let mut proxy = with_store(json!({}));
    let tokens = refused();
    assert!(tokens.len() > 2500, "{}", tokens.len());
    for (reason, token) in &tokens {
        let (id, action) = proxy.receive(ROOT, cookie(token));
        assert_eq!(action, Action::Continue, "{reason}: {}", String::from_utf8_lossy(token));
        assert_eq!(proxy.sent(), [], "{reason}: {}", String::from_utf8_lossy(token));
        proxy.end(id);
    }
    for reason in ["bad_tag", "unknown_key", "expired_absolute", "expired_idle", "future", "malformed"] {
        let expected = tokens.iter().filter(|(known, _)| *known == reason).count();
        assert_eq!(proxy.counter(&format!("mooring_tokens_refused.reason={reason}")), expected as u64, "{reason}");
    }
    let (_, action) = proxy.receive(ROOT, cookie(good()));
    assert_eq!((action, proxy.sent().len()), (Action::Pause, 1), "the token that these were made of");
}

fn answer(proxy: &mut Proxy, call: &Sent, status: &str) {
    proxy.give(call, vec![line(":status", status), line("etag", "\"1\"")], Vec::new());
}

#[test]
fn a_token_that_is_replayed_costs_one_lookup_in_the_time_to_live() {
    let mut proxy = with_store(json!({}));
    let token = sign(&session(1), &keyring("m"));
    for _ in 0..3 {
        // A thousand at once, and a thousand one after the other.
        let waiting: Vec<_> = (0..1000).map(|_| proxy.receive(ROOT, cookie(&token)).0).collect();
        let lookup = proxy.sent_one();
        answer(&mut proxy, &lookup, "404");
        let create = proxy.sent_one();
        answer(&mut proxy, &create, "201");
        assert!(waiting.iter().all(|id| proxy.resumed(*id) == (1, 0)));
        for _ in 0..1000 {
            assert_eq!(proxy.receive(ROOT, cookie(&token)).1, Action::Continue);
        }
        assert_eq!(proxy.sent(), []);
        proxy.host.state().monotonic += Duration::from_secs(30);
    }
}

#[test]
fn many_sessions_at_once_have_a_bounded_number_of_calls_under_way_and_every_one_is_served() {
    for (on_error, asked) in [("trust_cookie", true), ("rebalance", false)] {
        let mut proxy = with_store(json!({"on_error": on_error}));
        let (mut paused, keyring) = (Vec::new(), keyring("m"));
        for number in 0..3000 {
            let (id, action) = proxy.receive(ROOT, cookie(sign(&session(number), &keyring)));
            match action {
                Action::Pause => paused.push(id),
                Action::Continue => assert_eq!(proxy.request_header(id, "x-mooring-host").is_some(), asked),
            }
        }
        // 32 calls are under way, and 1,024 wait for their turn: all are of one client here.
        let mut calls = proxy.sent();
        assert_eq!((calls.len(), paused.len()), (32, 32 + 1024));
        assert_eq!(proxy.counter("mooring_faults.kind=store_overload"), 3000 - (32 + 1024));
        while let Some(call) = calls.pop() {
            answer(&mut proxy, &call, "404");
            calls.extend(proxy.sent());
            assert!(calls.len() <= 32);
        }
        assert!(paused.iter().all(|id| proxy.resumed(*id) == (1, 0)));
    }
}

/// Everything that a client and the proxy see of a request with this token: the calls, in order, and the response.
fn seen(token: &[u8]) -> (Vec<Call>, Vec<Line>) {
    let mut proxy = proxy(json!({}));
    proxy.host.state().journal = Some(Vec::new());
    let (id, action) = proxy.receive(ROOT, cookie(token));
    assert_eq!(action, Action::Continue);
    assert_eq!(proxy.request_header(id, "x-mooring-host"), None);
    let bridge = line("x-mooring-host", "MTI3LjAuMC4xOjkwMDE=");
    assert_eq!(proxy.served(id, "127.0.0.1:9001", &[bridge]), Action::Continue);
    let mut state = proxy.host.state();
    let calls = state.journal.take().expect("a journal");
    (calls, std::mem::take(&mut state.streams.get_mut(&id.into()).expect("the stream").response_headers))
}

#[test]
fn every_refused_token_gets_the_same_answer_by_the_same_calls() {
    let (calls, response) = seen(b"nothing of the kind");
    assert!(calls.len() > 8, "{calls:?}");
    assert!(response.iter().any(|(name, _)| name == b"set-cookie"));
    for (reason, token) in kinds() {
        let (mut made, got) = seen(&token);
        if reason == "future" {
            // What a tick read may be too old for it: the clock is read. Such a token has verified.
            assert_eq!(made.remove(1), Call::Clock);
        }
        assert_eq!((made, got), (calls.clone(), response.clone()), "{reason}: {}", String::from_utf8_lossy(&token));
    }
}

#[test]
fn nothing_that_a_client_an_upstream_or_a_store_sends_is_logged() {
    let mut proxy = with_store(json!({}));
    let marker = "\r\n[critical] forged";
    for (_, token) in refused() {
        let mut headers = cookie(token);
        headers.extend(
            ["cookie", "x-mooring-host", "x-mooring-session", "x-mooring-action"].map(|name| line(name, marker)),
        );
        let (id, _) = proxy.receive(ROOT, headers);
        proxy.served(id, marker, &[line("x-mooring-action", marker), line("x-mooring-host", marker)]);
        proxy.end(id);
    }
    for status in ["200", "418", marker] {
        proxy.host.state().monotonic += Duration::from_secs(30);
        proxy.receive(ROOT, cookie(good()));
        let lookup = proxy.sent_one();
        proxy.give(&lookup, vec![line(":status", status), line("etag", marker)], marker.into());
        proxy.sent();
    }
    assert_eq!(proxy.host.errors(), [""; 0]);
}

#[test]
fn a_refused_config_cannot_forge_a_line_of_the_log() {
    let forged = "x\n[critical] forged";
    let config = json!({
        forged: 1, "keys": [{"id": forged, "secret": {"env": forged}, forged: 1}], "scope": forged,
        "cookie": {"name": forged, "same_site": forged, "path": forged}, "session": {"idle_timeout": forged},
        "store": {"cluster": forged, "namespace": forged, "token": {"text": forged}}, "debug_header": forged,
    });
    let mut proxy = Proxy::default();
    assert!(!proxy.set_up(ROOT, &config));
    let log = proxy.host.errors().concat();
    assert!(log.lines().count() > 8, "{log}");
    assert!(!log.contains("forged"), "{log}");
    assert!(!proxy.set_up_with(ROOT, format!("{{\"keys\": {forged}").into_bytes()));
    assert!(!proxy.host.errors().concat().contains("forged"));
}

#[test]
fn a_planted_token_is_left_behind_at_login() {
    let mut world = FakeWorld::start(Setup::with(json!({})));
    let mut attacker = Browser::default();
    attacker.get(&mut world, "/");
    let planted = attacker.cookie().map(tokens::session).expect("a session").id;
    let mut victim = attacker.clone();
    assert_eq!(victim.get(&mut world, "/?action=rotate").decision(), "rotated");
    let own = victim.cookie().map(tokens::session).expect("a session").id;
    assert_ne!(own, planted);
    assert_eq!(victim.get(&mut world, "/").upstream_header("x-mooring-session"), [own.to_text()]);
    // Without a store the planted token lives on, under the id that the login has left.
    for _ in 0..3 {
        world.pass(11);
        assert_eq!(attacker.get(&mut world, "/").upstream_header("x-mooring-session"), [planted.to_text()]);
    }
}

#[test]
fn without_a_store_a_copy_of_a_cookie_outlives_a_logout_until_it_times_out() {
    let mut world = FakeWorld::start(Setup::with(json!({})));
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let mut thief = browser.clone();
    assert_eq!(browser.get(&mut world, "/?action=end").decision(), "ended");
    assert_eq!(browser.cookie(), None);
    assert_eq!(thief.get(&mut world, "/").host(), home);
    world.pass(30 * 60);
    assert_eq!(thief.get(&mut world, "/").decision(), "created");
}

#[test]
fn a_key_that_is_removed_takes_its_sessions_with_it_at_once_forged_ones_too() {
    let mut world = FakeWorld::start(Setup::with(json!({})));
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    let honest = browser.cookie().expect("a cookie").to_owned();
    let now = tokens::now();
    let forged = sign(&timed(now, now, now + 1000), &keyring("m"));
    assert_eq!(Browser::holding(&forged).get(&mut world, "/").decision(), "pinned", "whoever has the key can forge");
    world.reconfigure(plugin(json!({"keys": [tokens::keys_reversed()[0]]})));
    for token in [&honest, &forged] {
        assert_eq!(Browser::holding(token).get(&mut world, "/").decision(), "created");
    }
    let renamed = json!([{"id": "new", "secret": {"base64": NEW_SECRET.replace("QUFB", "Q0ND")}}]);
    world.reconfigure(plugin(json!({"keys": renamed})));
    assert_eq!(Browser::holding(&forged).get(&mut world, "/").decision(), "created", "another secret of the same name");
}

#[test]
fn what_a_sibling_domain_tosses_costs_affinity_and_no_more() {
    let mut world = FakeWorld::start(Setup::with(json!({})));
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let own = browser.cookie().expect("a cookie").to_owned();
    let mut get = |line: String| world.send(&Request::get("/").header("cookie", line));
    for junk in 1..=3 {
        let resumed = get(format!("{}m={own}", "m=junk; ".repeat(junk)));
        assert_eq!((resumed.host(), resumed.decision()), (home.as_str(), "resumed".into()));
    }
    let hidden = get(format!("{}m={own}", "m=junk; ".repeat(4)));
    assert_eq!((hidden.status, hidden.decision()), (200, "created".into()), "no more than four are tried");
    assert_eq!(hidden.upstream_header("cookie"), [""; 0], "but all are taken out");

    world.pass(1);
    let mut attacker = Browser::default();
    attacker.get(&mut world, "/");
    let tossed = attacker.cookie().expect("a cookie").to_owned();
    let id = tokens::session(&tossed).id.to_text();
    for line in [format!("m={tossed}; m={own}"), format!("m={own}; m={tossed}")] {
        let response = world.send(&Request::get("/").header("cookie", line));
        assert_eq!(response.upstream_header("x-mooring-session"), [id.as_str()], "the newer one wins, whoever set it");
    }
}
