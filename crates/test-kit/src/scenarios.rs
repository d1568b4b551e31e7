//! What Mooring does, told as scenarios. Each runs twice: on a fake proxy, and on real Envoy with the built plugin.

#![allow(missing_docs)] // Their names say what they tell.

use crate::browser::Browser;
use crate::tokens::{self, keyring, now, sign, timed};
use crate::world::{Bridge, HostState, Request, Setup, World, plugin};
use serde_json::json;
use std::collections::BTreeSet;

/// Makes a `#[test]` of each scenario, run in the world `$world`.
#[macro_export]
macro_rules! run_scenarios {
    ($world:ty: $($scenario:ident),* $(,)?) => {
        $(#[test] fn $scenario() { $crate::scenarios::$scenario::<$world>(); })*
    };
}

/// Every scenario, to be run in the world `$world`.
#[macro_export]
macro_rules! all_scenarios {
    ($world:ty) => {
        $crate::run_scenarios!($world:
            without_a_cookie_requests_spread_over_all_hosts,
            with_its_cookie_a_client_stays_on_one_host,
            every_refusal_is_counted_and_the_client_gets_a_new_session,
            no_altered_token_is_accepted,
            the_upstream_s_address_cannot_be_read_from_the_cookie,
            a_host_that_turns_unhealthy_is_left_for_good,
            a_temporary_failover_ends_when_the_host_is_back,
            a_request_for_a_dead_host_is_retried_elsewhere_and_the_session_moves,
            a_strict_session_is_refused_where_its_host_is_gone,
            the_override_host_bridge_keeps_a_session,
            a_restart_of_the_proxy_keeps_sessions,
            keys_are_rotated_without_losing_a_session,
            an_idle_session_ends,
            a_busy_session_is_renewed_and_ends_at_its_absolute_end,
            rotate_gives_a_new_id_on_the_same_host,
            end_clears_the_cookie,
            release_lets_the_next_request_go_elsewhere,
            the_application_gets_the_session_id,
            a_client_cannot_speak_for_the_filter,
            an_upstream_cannot_tell_the_client_what_is_internal,
            the_upstream_gets_every_cookie_but_ours,
            a_forwarded_cookie_is_left_in_place,
            bytes_that_are_no_text_are_served,
            of_several_cookies_the_newest_wins,
            local_replies_set_no_cookie,
            an_upstream_s_error_is_an_answer,
            the_application_s_own_cookies_and_caching_stay,
            two_services_share_a_cookie_without_flapping,
            weighted_clusters_share_a_cookie_without_flapping,
            cookie_attributes_are_those_of_the_config,
            a_request_outside_the_cookie_s_path_has_no_session,
        );
    };
}

fn default<W: World>() -> W {
    W::start(Setup::with(json!({})))
}

pub fn without_a_cookie_requests_spread_over_all_hosts<W: World>() {
    let mut world = default::<W>();
    let hosts: BTreeSet<String> = (0..30).map(|_| Browser::default().get(&mut world, "/").host().to_owned()).collect();
    assert_eq!(hosts.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
}

pub fn with_its_cookie_a_client_stays_on_one_host<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let first = browser.get(&mut world, "/");
    assert_eq!(first.decision(), "created");
    for _ in 0..200 {
        let next = browser.get(&mut world, "/");
        assert_eq!(next.host(), first.host());
        assert_eq!(next.header("set-cookie"), [""; 0], "a needless cookie");
        Browser::default().get(&mut world, "/");
    }
    assert_eq!(world.counter("mooring_sessions.outcome=created"), 201);
    assert_eq!(world.counter("mooring_sessions.outcome=resumed"), 200);
    assert_eq!(world.counter("mooring_faults.kind=bridge_silent"), 0);
}

pub fn every_refusal_is_counted_and_the_client_gets_a_new_session<W: World>() {
    let mut world = default::<W>();
    let now = now();
    let good = timed(now, now, now + 1000);
    let token = sign(&good, &keyring("m"));
    for (reason, token) in [
        ("malformed", "m1s.new".to_owned()),
        ("malformed", format!("{token}.")),
        ("malformed", "x".repeat(4000)),
        ("unknown_key", token.replace(".new.", ".gone.")),
        ("bad_tag", sign(&good, &keyring("another scope"))),
        ("bad_tag", token.replace("m1s.", "m1e.")),
        ("expired_absolute", sign(&timed(now - 1000, now, now - 1), &keyring("m"))),
        ("expired_absolute", sign(&timed(now - 30_000, now, now + 1000), &keyring("m"))),
        ("expired_idle", sign(&timed(now - 2000, now - 1900, now + 1000), &keyring("m"))),
        ("future", sign(&timed(now + 120, now + 120, now + 1000), &keyring("m"))),
    ] {
        let counter = format!("mooring_tokens_refused.reason={reason}");
        let before = world.counter(&counter);
        let mut browser = Browser::holding(&token);
        let response = browser.get(&mut world, "/");
        assert_eq!((response.status, response.decision()), (200, "created".into()), "{reason}");
        assert_ne!(browser.cookie(), Some(token.as_str()));
        assert_eq!(world.counter(&counter), before + 1);
        assert_eq!(browser.get(&mut world, "/").decision(), "resumed");
    }
    let valid = browser_decision(&mut world, &token);
    assert_eq!(valid, "pinned", "the token that these were made of is good, and gets its first pin");
}

fn browser_decision(world: &mut impl World, token: &str) -> String {
    Browser::holding(token).get(world, "/").decision()
}

pub fn no_altered_token_is_accepted<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    let token = browser.cookie().expect("a cookie").to_owned();
    for at in 0..token.len() {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).expect("text");
        assert_eq!(browser_decision(&mut world, &altered), "created", "altered at {at}");
    }
    assert_eq!(browser_decision(&mut world, &token), "resumed");
}

pub fn the_upstream_s_address_cannot_be_read_from_the_cookie<W: World>() {
    use base64::Engine as _;
    let mut world = default::<W>();
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    let token = browser.cookie().expect("a cookie").to_owned();
    let pin = tokens::session(&token).pins.iter().next().expect("a pin").host.to_text();
    let port: u16 = pin.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let packed = [&[127, 0, 0, 1][..], &port.to_be_bytes()].concat();
    let body = token.split('.').nth(2).expect("a body");
    let body = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).expect("base64url");
    assert!(!body.windows(packed.len()).any(|window| window == packed));
    assert!(!token.contains("127.0.0.1"));
}

pub fn a_host_that_turns_unhealthy_is_left_for_good<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    world.set_host(&home, HostState::Unhealthy);
    let moved = browser.get(&mut world, "/");
    assert_ne!(moved.host(), home);
    assert_eq!((moved.status, moved.decision()), (200, "moved".into()));
    assert_eq!(moved.header("set-cookie").len(), 1);
    world.set_host(&home, HostState::Healthy);
    for _ in 0..20 {
        let next = browser.get(&mut world, "/");
        assert_eq!((next.host(), next.decision()), (moved.host(), "resumed".into()));
    }
}

pub fn a_temporary_failover_ends_when_the_host_is_back<W: World>() {
    let mut world = W::start(Setup::with(json!({"upstream": {"failover": "temporary"}})));
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    world.set_host(&home, HostState::Unhealthy);
    let away = browser.get(&mut world, "/");
    assert_ne!(away.host(), home);
    assert_eq!((away.decision(), away.header("set-cookie").len()), ("kept".into(), 0));
    world.set_host(&home, HostState::Healthy);
    assert_eq!(browser.get(&mut world, "/").host(), home);
}

pub fn a_request_for_a_dead_host_is_retried_elsewhere_and_the_session_moves<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    world.set_host(&home, HostState::Dead);
    let moved = browser.get(&mut world, "/");
    assert_eq!((moved.status, moved.decision()), (200, "moved".into()));
    assert_ne!(moved.host(), home);
    assert_eq!(
        moved.upstream_header("x-mooring-host"),
        [""; 0],
        "not even on a retry does the upstream see the address"
    );
    assert_eq!(browser.get(&mut world, "/").host(), moved.host());
}

pub fn a_strict_session_is_refused_where_its_host_is_gone<W: World>() {
    let plugin = plugin(json!({"upstream": {"failover": "none"}}));
    let mut world = W::start(Setup { bridge: Bridge::Strict, plugin });
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    assert_eq!(
        browser.get(&mut world, "/other").status,
        200,
        "a strict bridge is not asked for a host of another cluster"
    );
    world.set_host(&home, HostState::Unhealthy);
    let refused = browser.get(&mut world, "/");
    assert_eq!((refused.status, refused.served_by.as_deref()), (503, None));
    assert_eq!(refused.header("set-cookie"), [""; 0]);
    world.set_host(&home, HostState::Healthy);
    assert_eq!(browser.get(&mut world, "/").host(), home);
}

pub fn the_override_host_bridge_keeps_a_session<W: World>() {
    let plugin = plugin(json!({"upstream": {"via": "override_host"}}));
    let mut world = W::start(Setup { bridge: Bridge::OverrideHost, plugin });
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    for _ in 0..30 {
        let next = browser.get(&mut world, "/");
        assert_eq!((next.host(), next.decision()), (home.as_str(), "resumed".into()));
        assert_eq!(next.upstream_header("x-mooring-host"), [""; 0]);
        Browser::default().get(&mut world, "/");
    }
    world.set_host(&home, HostState::Dead);
    let moved = browser.get(&mut world, "/");
    assert_eq!((moved.status, moved.decision()), (200, "moved".into()));
    assert_eq!(browser.get(&mut world, "/").host(), moved.host());
}

pub fn a_restart_of_the_proxy_keeps_sessions<W: World>() {
    let mut world = default::<W>();
    let mut browsers: Vec<(Browser, String)> = (0..6)
        .map(|_| {
            let mut browser = Browser::default();
            let home = browser.get(&mut world, "/").host().to_owned();
            (browser, home)
        })
        .collect();
    world.restart();
    for (browser, home) in &mut browsers {
        let next = browser.get(&mut world, "/");
        assert_eq!((next.host(), next.decision()), (home.as_str(), "resumed".into()));
    }
}

pub fn keys_are_rotated_without_losing_a_session<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let mut absent = browser.clone();
    assert!(browser.cookie().is_some_and(|cookie| cookie.starts_with("m1e.new.")));

    world.reconfigure(plugin(json!({"keys": tokens::keys_reversed()})));
    let rekeyed = browser.get(&mut world, "/");
    assert_eq!((rekeyed.host(), rekeyed.decision()), (home.as_str(), "rekeyed".into()));
    assert!(browser.cookie().is_some_and(|cookie| cookie.starts_with("m1e.old.")), "the first key signs");
    assert_eq!(browser.get(&mut world, "/").decision(), "resumed");

    let one = json!([tokens::keys_reversed()[0]]);
    world.reconfigure(plugin(json!({"keys": one})));
    assert_eq!(browser.get(&mut world, "/").host(), home, "who came in time keeps the session");
    assert_eq!(absent.get(&mut world, "/").decision(), "created", "a retired key is refused");
    assert_eq!(world.counter("mooring_tokens_refused.reason=unknown_key"), 1);
}

pub fn an_idle_session_ends<W: World>() {
    let mut world = W::start(Setup::with(json!({"session": {"idle_timeout": "2s"}})));
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    world.pass(3);
    assert_eq!(browser.get(&mut world, "/").decision(), "created");
    assert_eq!(world.counter("mooring_tokens_refused.reason=expired_idle"), 1);
}

pub fn a_busy_session_is_renewed_and_ends_at_its_absolute_end<W: World>() {
    let mut world = W::start(Setup::with(json!({"session": {"idle_timeout": "4s", "absolute_timeout": "6s"}})));
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    for _ in 0..2 {
        world.pass(2);
        let renewed = browser.get(&mut world, "/");
        assert_eq!((renewed.host(), renewed.decision()), (home.as_str(), "renewed".into()));
        assert_eq!(browser.get(&mut world, "/").header("set-cookie").len(), 0, "once");
    }
    world.pass(3);
    assert_eq!(browser.get(&mut world, "/").decision(), "created");
    assert_eq!(world.counter("mooring_tokens_refused.reason=expired_absolute"), 1);
}

pub fn rotate_gives_a_new_id_on_the_same_host<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let before = browser.cookie().map(tokens::session).expect("a session");
    let rotated = browser.get(&mut world, "/?action=rotate");
    assert_eq!((rotated.decision(), rotated.header("x-mooring-action").len()), ("rotated".into(), 0));
    let after = browser.cookie().map(tokens::session).expect("a session");
    assert_ne!(after.id, before.id);
    assert_eq!(after.end, before.end);
    assert_eq!(browser.get(&mut world, "/").host(), home);
}

pub fn end_clears_the_cookie<W: World>() {
    let mut world = W::start(Setup::with(json!({"cookie": {"name": "m", "path": "/", "domain": "example.com"}})));
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    let ended = browser.get(&mut world, "/?action=end");
    let lines = ended.header("set-cookie");
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("m=; Max-Age=0; ") && lines[0].contains("; Path=/; Domain=example.com; "),
        "{lines:?}"
    );
    assert_eq!(browser.cookie(), None);
    assert_eq!(ended.header("x-mooring-action"), [""; 0]);
    assert_eq!(browser.get(&mut world, "/?action=end").header("set-cookie"), [""; 0], "nothing to clear");
    assert_eq!(browser.get(&mut world, "/").decision(), "created");
}

pub fn release_lets_the_next_request_go_elsewhere<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    let id = browser.cookie().map(tokens::session).expect("a session").id;
    let mut hosts = BTreeSet::new();
    for _ in 0..12 {
        let released = browser.get(&mut world, "/?action=release");
        assert_eq!(released.decision(), "released");
        let next = browser.get(&mut world, "/");
        assert_eq!(next.decision(), "pinned");
        hosts.insert(next.host().to_owned());
    }
    assert!(hosts.len() > 1, "balanced anew: {hosts:?}");
    assert_eq!(browser.cookie().map(tokens::session).expect("a session").id, id, "the session is the same");
}

pub fn the_application_gets_the_session_id<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let first = browser.get(&mut world, "/").upstream_header("x-mooring-session");
    let id = browser.cookie().map(tokens::session).expect("a session").id.to_text();
    assert_eq!(first, [id.as_str()], "from the first request on");
    assert_eq!(browser.get(&mut world, "/").upstream_header("x-mooring-session"), [id]);
}

pub fn a_client_cannot_speak_for_the_filter<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let first = browser.get(&mut world, "/");
    let pinned = browser.cookie().map(tokens::session).expect("a session").pins;
    let address = pinned.iter().next().expect("a pin").host.to_text();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &address);
    let mut hosts = BTreeSet::new();
    for _ in 0..12 {
        let spoof = Request::get("/")
            .header("x-mooring-host", &encoded)
            .header("x-mooring-host", &address)
            .header("x-mooring-session", "mine")
            .header("x-mooring-action", "end");
        let response = world.send(&spoof);
        assert_eq!(response.decision(), "created");
        assert_eq!(response.upstream_header("x-mooring-session").len(), 1);
        assert_ne!(response.upstream_header("x-mooring-session"), ["mine"]);
        assert_eq!(response.upstream_header("x-mooring-action"), [""; 0]);
        hosts.insert(response.host().to_owned());
    }
    assert_eq!(hosts.len(), 3, "a client's own header chooses no host");
    let other = Request::get("/").header("x-mooring-host", "MTI3LjAuMC4xOjE=").header("x-mooring-session", "mine");
    let resumed = browser.send(&mut world, other);
    assert_eq!((resumed.host(), resumed.decision()), (first.host(), "resumed".into()));
}

pub fn an_upstream_cannot_tell_the_client_what_is_internal<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let spoofed =
        "/?header=x-mooring-host:MTI3LjAuMC4xOjE=&header=x-mooring-session:s&header=x-mooring-action:nonsense";
    for path in [spoofed, "/"] {
        let response = browser.get(&mut world, path);
        assert_eq!((response.host(), response.decision()), (home.as_str(), "resumed".into()));
        for name in ["x-mooring-host", "x-mooring-session", "x-mooring-action"] {
            assert_eq!(response.header(name), [""; 0], "{name}");
        }
    }
    assert_eq!(world.counter("mooring_faults.kind=unknown_action"), 1);
}

pub fn the_upstream_gets_every_cookie_but_ours<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    let token = browser.cookie().expect("a cookie").to_owned();
    let got = |world: &mut W, lines: &[String]| {
        let request = lines.iter().fold(Request::get("/"), |request, line| request.header("cookie", line));
        let response = world.send(&request);
        assert_eq!(response.decision(), "resumed", "{lines:?}");
        response.upstream_header("cookie")
    };
    assert_eq!(got(&mut world, &[format!("a=1; m={token}; b=\"2; c\"")]), ["a=1; b=\"2; c\""]);
    assert_eq!(got(&mut world, &[format!("m={token};b=2")]), ["b=2"]);
    assert_eq!(got(&mut world, &[format!("m=\"{token}\"")]), [""; 0]);
    assert_eq!(got(&mut world, &[format!("m=junk; ;; a; m = {token} ;=x")]), [";; a;=x"]);
    assert_eq!(got(&mut world, &["a=1".into(), format!("m={token}; b=2"), "c=3".into()]), ["a=1", "b=2", "c=3"]);
}

pub fn a_forwarded_cookie_is_left_in_place<W: World>() {
    let mut world = W::start(Setup::with(json!({"cookie": {"name": "m", "forward": true}})));
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    let line = format!("m={}", browser.cookie().expect("a cookie"));
    assert_eq!(browser.get(&mut world, "/").upstream_header("cookie"), [line]);
}

pub fn bytes_that_are_no_text_are_served<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let token = browser.cookie().expect("a cookie").to_owned();
    for line in [&b"a=\xff"[..], b"\x80\xfe\xff", b"m=\xff\xff\xff", b"m\xff=1", b"=", b";", b"m", b"\"", b"m=\""] {
        let response = world.send(&Request::get("/").header("cookie", line));
        assert_eq!((response.status, response.decision()), (200, "created".into()), "{line:?}");
        let beside = [line, b"; m=", token.as_bytes()].concat();
        let response = world.send(&Request::get("/").header("cookie", beside).header("x-other", b"\xff"));
        assert_eq!((response.host(), response.decision()), (home.as_str(), "resumed".into()), "{line:?}");
    }
    let huge = format!("a={}; {} m={token}", "x".repeat(40_000), "b=1; ".repeat(500));
    assert_eq!(world.send(&Request::get("/").header("cookie", huge)).host(), home);
    assert_eq!(world.counter("mooring_faults.kind=proxy_call"), 0);
}

pub fn of_several_cookies_the_newest_wins<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let old = browser.cookie().expect("a cookie").to_owned();
    world.set_host(&home, HostState::Unhealthy);
    let moved = browser.get(&mut world, "/").host().to_owned();
    world.set_host(&home, HostState::Healthy);
    let new = browser.cookie().expect("a cookie").to_owned();
    for line in [format!("m={old}; m={new}"), format!("m={new}; m={old}"), format!("m=junk; m={old}; a=1; m={new}")] {
        assert_eq!(world.send(&Request::get("/").header("cookie", &line)).host(), moved);
    }
    let lines = Request::get("/").header("cookie", format!("m={old}")).header("cookie", format!("m={new}"));
    assert_eq!(world.send(&lines).host(), moved);
}

pub fn local_replies_set_no_cookie<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let local = browser.get(&mut world, "/local");
    assert_eq!((local.status, local.decision(), local.header("set-cookie").len()), (200, "untouched".into(), 0));

    let home = browser.get(&mut world, "/").host().to_owned();
    ["a", "b", "c"].into_iter().for_each(|host| world.set_host(host, HostState::Dead));
    let cookie = browser.cookie().map(str::to_owned);
    let failed = browser.get(&mut world, "/");
    assert_eq!((failed.status, failed.served_by.as_deref()), (503, None));
    assert_eq!(failed.header("set-cookie"), [""; 0], "the failed host is no reason to move");
    assert_eq!(failed.header("x-mooring-host"), [""; 0]);
    assert_eq!(Browser::default().get(&mut world, "/").header("set-cookie"), [""; 0]);
    assert_eq!(browser.cookie().map(str::to_owned), cookie);
    world.set_host(&home, HostState::Healthy);
    assert_eq!(browser.get(&mut world, "/").host(), home);
}

pub fn an_upstream_s_error_is_an_answer<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let first = browser.get(&mut world, "/?status=404");
    assert_eq!((first.status, first.decision()), (404, "created".into()));
    let next = browser.get(&mut world, "/?status=500");
    assert_eq!((next.host(), next.decision()), (first.host(), "resumed".into()));
    assert_eq!(Browser::default().get(&mut world, "/?status=304").header("set-cookie"), [""; 0]);
}

pub fn the_application_s_own_cookies_and_caching_stay<W: World>() {
    let mut world = default::<W>();
    let first =
        world.send(&Request::get("/?header=set-cookie:a=1&header=set-cookie:b=2&header=cache-control:max-age=60"));
    let cookies = first.header("set-cookie");
    assert_eq!(cookies.len(), 3, "{cookies:?}");
    assert_eq!(cookies[..2], ["a=1", "b=2"]);
    assert_eq!(first.header("cache-control").join(","), "max-age=60,private", "in one line or two");
    let strict = world.send(&Request::get("/?header=cache-control:no-store"));
    assert_eq!(strict.header("cache-control"), ["no-store"]);
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    let resumed = browser.get(&mut world, "/?header=cache-control:public");
    assert_eq!(resumed.header("cache-control"), ["public"], "without a cookie of ours nothing is added");
}

pub fn two_services_share_a_cookie_without_flapping<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let app = browser.get(&mut world, "/").host().to_owned();
    let other = browser.get(&mut world, "/other");
    assert_eq!(other.decision(), "pinned");
    for _ in 0..20 {
        for (path, host) in [("/", app.as_str()), ("/other", other.host())] {
            let next = browser.get(&mut world, path);
            assert_eq!((next.host(), next.header("set-cookie").len()), (host, 0));
        }
    }
    assert!(["d", "e"].contains(&other.host()));
}

pub fn weighted_clusters_share_a_cookie_without_flapping<W: World>() {
    let mut world = default::<W>();
    let mut browser = Browser::default();
    let mut hosts = BTreeSet::new();
    let mut cookies = 0;
    for _ in 0..60 {
        let response = browser.get(&mut world, "/weighted");
        cookies += response.header("set-cookie").len();
        hosts.insert(response.host().to_owned());
    }
    assert_eq!((hosts.len(), cookies), (2, 2), "one host and one cookie for each cluster: {hosts:?}");
}

pub fn cookie_attributes_are_those_of_the_config<W: World>() {
    let attributes = |path, members| {
        let mut world = W::start(Setup::with(json!({"cookie": members})));
        let line = world.send(&Request::get(path)).header("set-cookie").concat();
        let (pair, attributes) = line.split_once("; ").expect("attributes");
        (pair.split('=').next().expect("a name").to_owned(), attributes.to_owned())
    };
    assert_eq!(attributes("/", json!({})), ("__Host-mooring".into(), "Path=/; SameSite=Lax; Secure; HttpOnly".into()));
    assert_eq!(
        attributes(
            "/a/b",
            json!({"name": "n", "path": "/a", "domain": "example.com", "secure": true, "http_only": false,
            "same_site": "none", "partitioned": true, "persistent": true})
        ),
        ("n".into(), "Max-Age=1800; Path=/a; Domain=example.com; SameSite=None; Secure; Partitioned".into())
    );
}

pub fn a_request_outside_the_cookie_s_path_has_no_session<W: World>() {
    let mut world = W::start(Setup::with(json!({"cookie": {"name": "m", "path": "/other"}})));
    let outside = world.send(&Request::get("/").header("x-mooring-session", "mine"));
    assert_eq!((outside.status, outside.decision()), (200, "untouched".into()));
    assert_eq!((outside.header("set-cookie").len(), outside.upstream_header("x-mooring-session").len()), (0, 0));
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/other/page?a=1").host().to_owned();
    assert_eq!(browser.get(&mut world, "/other").host(), home);
}
