//! What attacks meet, where only the real proxy can show it: docs/security.md names these tests.

use mooring::session::pin::{ClusterId, HostAddr, Pin};
use mooring::session::{Session, SessionId};
use mooring_test_kit::browser::Browser;
use mooring_test_kit::fleet::{Fleet, Plan, over_unchecked_http1};
use mooring_test_kit::meddler::Meddler;
use mooring_test_kit::rig::{EnvoyWorld, eventually};
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::tokens::{keyring, now, sign, timed};
use mooring_test_kit::world::{Bridge, Request, Setup, World, plugin};
use serde_json::json;
use std::net::{TcpListener, TcpStream};

fn session() -> Session {
    timed(now(), now(), now() + 1000)
}

#[test]
fn no_token_that_does_not_verify_reaches_the_store() {
    let store = Store::start(&[]);
    let counting = Meddler::before(&store.address);
    let plan = Plan { envoys: 1, adjust: over_unchecked_http1, ..Plan::new(json!({})) };
    let mut fleet = Fleet::of(&counting.address, plan);
    let good = sign(&session(), &keyring("m"));
    let (untagged, tag) = good.rsplit_once('.').expect("a tag");
    let mut tokens = vec![
        sign(&session(), &keyring("another scope")),
        good.replacen("m1s.", "m1e.", 1),
        good.replacen(".new.", ".old.", 1),
        good.replacen(".new.", ".gone.", 1),
        sign(&timed(now() - 1000, now(), now() - 1), &keyring("m")),
        sign(&timed(now() - 2000, now() - 1900, now() + 1000), &keyring("m")),
        sign(&timed(now() + 1000, now() + 1000, now() + 2000), &keyring("m")),
        format!("{untagged}.{tag}="),
        "x".repeat(4000),
    ];
    tokens.extend((0..good.len()).step_by(3).map(|length| good.chars().take(length).collect()));
    let own = keyring("elsewhere");
    tokens
        .extend((0..200_u128).map(|number| sign(&Session { id: SessionId(number.to_be_bytes()), ..session() }, &own)));
    for token in &tokens {
        let line = format!("m={token}; m=junk; m={}", tokens[0]);
        let response = fleet[0].send(&Request::get("/").header("cookie", line));
        assert_eq!((response.status, response.decision()), (200, "created".into()), "{token}");
    }
    assert_eq!(counting.calls(), 0);
    assert_eq!(Browser::holding(&good).get(&mut fleet[0], "/").decision(), "pinned", "what these were made of");
    assert!(counting.calls() > 0);
    fleet.assert_sound();
}

#[test]
fn nothing_that_a_client_or_an_upstream_sends_is_in_the_plugin_s_log_even_at_the_level_trace() {
    let mut world = EnvoyWorld::start(Setup::with(json!({})));
    world.log_every_call();
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    let token = browser.cookie().expect("a cookie").to_owned();
    let marker = "forged-line";
    for cookie in [format!("m={marker}"), format!("m={token}; m=m1e.{marker}.{marker}.{marker}"), marker.into()] {
        for path in ["/", &format!("/?action={marker}&header=x-mooring-host:{marker}&header=x-app:{marker}")] {
            let mut request = Request::get(path).header("cookie", &cookie);
            for name in ["x-mooring-host", "x-mooring-session", "x-mooring-action", "x-other"] {
                request = request.header(name, marker);
            }
            assert_eq!(world.send(&request).status, 200);
        }
    }
    world.settle();
    let log = eventually("the log", || {
        let log = world.envoy.log();
        (log.matches("proxy_on_response_headers").count() >= 7).then_some(log)
    });
    let session = mooring_test_kit::tokens::session(&token);
    let host = session.pins.iter().next().expect("a pin").host.to_text();
    for secret in [marker, &token, &session.id.to_text(), &host] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// Who holds the key can write any address into a token. The bridge takes hosts of the routed cluster, and nothing else.
#[test]
fn a_host_outside_the_cluster_is_never_dialled_whoever_signed_for_it() {
    for (bridge, members, status) in [
        (Bridge::StatefulSession, json!({}), 200),
        (Bridge::OverrideHost, json!({"upstream": {"via": "override_host"}}), 200),
        (Bridge::Strict, json!({"upstream": {"failover": "none"}}), 503),
    ] {
        let inside = TcpListener::bind("127.0.0.1:0").expect("a free port");
        inside.set_nonblocking(true).expect("a socket that does not wait");
        let address = inside.local_addr().expect("an address").to_string();
        let mut world = EnvoyWorld::start(Setup { bridge, plugin: plugin(members) });
        let mut forged = session();
        let host = HostAddr::parse(address.as_bytes()).expect("a host");
        forged.pins.set(Pin { cluster: ClusterId::of(b"app"), host });
        let token = sign(&forged, &keyring("m"));
        for _ in 0..8 {
            assert_eq!(Browser::holding(&token).get(&mut world, "/").status, status, "{bridge:?}");
        }
        assert!(inside.accept().is_err(), "{bridge:?}: somebody came");
        let _caller = TcpStream::connect(&address).expect("a connection");
        eventually("a caller to be noticed, if there were one", || inside.accept().ok());
    }
}
