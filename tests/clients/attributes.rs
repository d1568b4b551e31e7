//! What Chromium makes of the cookie, on one site.

use crate::browser::Browser;
use crate::stage::{APP, Stage};
use mooring_test_kit::servers::eventually;
use mooring_test_kit::world::{HostState, World as _};
use serde_json::{Value, json};
use thirtyfour::{Cookie, SameSite};

const NAME: &str = "__Host-mooring";

fn browser(stage: &Stage) -> Browser {
    let browser = Browser::start(&stage.certificates);
    browser.open(&stage.url(APP, "/"));
    browser
}

fn cookie(browser: &Browser) -> Cookie {
    browser.cookie(NAME).expect("the affinity cookie")
}

#[test]
fn a_browser_sends_the_cookie_back_and_stays_on_its_host() {
    let stage = Stage::tls(json!({}));
    let browser = browser(&stage);
    let first = browser.shown();
    for _ in 0..10 {
        let next = browser.fetch("/");
        assert_eq!(
            (next.host, next.decision.as_str(), next.session),
            (first.host.clone(), "resumed", first.session.clone())
        );
        assert_eq!(next.cookies, [""; 0], "the upstream gets it");
    }
    browser.open(&stage.url(APP, "/elsewhere"));
    assert_eq!(browser.shown().session, first.session);
    stage.assert_one_session(12);
}

#[test]
fn a_browser_keeps_the_cookie_as_its_attributes_say() {
    let stage = Stage::tls(json!({}));
    let browser = browser(&stage);
    let kept = cookie(&browser);
    assert_eq!((kept.http_only, kept.secure, kept.path.as_deref()), (Some(true), Some(true), Some("/")));
    assert_eq!((kept.same_site, kept.expiry, kept.domain.as_deref()), (Some(SameSite::Lax), None, Some(APP)));
    // Another cookie shows that a script would see it.
    let seen = browser.run("document.cookie = 'other=1'; return document.cookie;", &[]);
    assert_eq!(seen, "other=1");
    // Nor can a script put its own in the place of it.
    browser.run(&format!("document.cookie = '{NAME}=mine; Path=/; Secure';"), &[]);
    assert_eq!(cookie(&browser).value, kept.value);
}

#[test]
fn a_browser_keeps_a_persistent_cookie_for_its_idle_timeout_and_within_its_path() {
    let cookie = json!({"name": "m", "path": "/shop", "persistent": true, "same_site": "strict"});
    let stage = Stage::tls(json!({"cookie": cookie, "session": {"idle_timeout": "2h"}}));
    let browser = Browser::start(&stage.certificates);
    browser.open(&stage.url(APP, "/shop/cart"));
    let kept = browser.cookie("m").expect("the affinity cookie");
    let now = i64::try_from(mooring_test_kit::tokens::now()).expect("a time");
    let left = kept.expiry.expect("a time") - now;
    assert!((7_100..=7_200).contains(&left), "{left} s of two hours");
    assert_eq!((kept.path.as_deref(), kept.same_site), (Some("/shop"), Some(SameSite::Strict)));
    let session = browser.shown().session;
    assert_eq!(browser.fetch("/shop/cart/1").session, session);
    let outside = browser.fetch("/shopping");
    assert_eq!((outside.session.as_str(), browser.fetch("/shop").session), ("", session));
}

/// Why the plugin refuses a domain for such a name.
#[test]
fn a_browser_drops_a_cookie_whose_prefix_its_attributes_break() {
    let stage = Stage::tls(json!({}));
    let browser = browser(&stage);
    let lines =
        ["__Host-a=1;Path=/;Secure", "__Host-b=1;Path=/;Secure;Domain=app.test", "__Host-c=1;Path=/shop;Secure"];
    let lines = lines.map(|line| format!("header=set-cookie:{line}")).join("&");
    browser.fetch(&format!("/shop?{lines}"));
    browser.open(&stage.url(APP, "/shop"));
    let mut names: Vec<String> = browser.cookies().into_iter().map(|cookie| cookie.name).collect();
    names.sort();
    assert_eq!(names, ["__Host-a", NAME]);
}

#[test]
fn a_browser_trusts_loopback_with_a_secure_cookie_and_no_other_name_without_tls() {
    let stage = Stage::plain();
    let browser = Browser::start(&stage.certificates);
    for name in ["localhost", "127.0.0.1"] {
        browser.open(&stage.url(name, "/"));
        let first = browser.shown();
        assert_eq!(cookie(&browser).secure, Some(true), "{name}");
        let next = browser.fetch("/");
        assert_eq!((next.session, next.host, next.decision.as_str()), (first.session, first.host, "resumed"), "{name}");
    }
    browser.open(&stage.url(APP, "/"));
    assert_eq!(browser.cookie(NAME).map(|cookie| cookie.value), None);
    assert_eq!(browser.fetch("/").decision, "created");
}

#[test]
fn a_browser_takes_the_new_cookie_at_a_renewal() {
    let stage = Stage::tls(json!({"session": {"idle_timeout": "10s"}}));
    let browser = browser(&stage);
    let (first, before) = (browser.shown(), cookie(&browser));
    eventually("a tenth of the idle timeout to pass", || {
        let next = browser.fetch("/");
        assert_eq!((&next.session, &next.host), (&first.session, &first.host));
        (next.decision == "renewed").then_some(())
    });
    assert_ne!(cookie(&browser).value, before.value);
    assert_eq!(browser.fetch("/").session, first.session);
}

#[test]
fn a_browser_takes_a_new_cookie_at_login_and_drops_it_at_logout() {
    let stage = Stage::tls(json!({}));
    let browser = browser(&stage);
    let first = browser.shown();
    assert_eq!(browser.fetch("/?action=rotate").decision, "rotated");
    let rotated = browser.fetch("/");
    assert_eq!((&rotated.host, rotated.decision.as_str()), (&first.host, "resumed"));
    assert_ne!(rotated.session, first.session);
    assert_eq!(browser.fetch("/?action=end").decision, "ended");
    assert!(browser.cookie(NAME).is_none());
    let next = browser.fetch("/");
    assert_eq!(next.decision, "created");
    assert!(next.session != rotated.session && next.session != first.session);
}

#[test]
fn a_browser_follows_when_its_host_is_gone() {
    let mut stage = Stage::tls(json!({}));
    let browser = browser(&stage);
    let first = browser.shown();
    stage.world.set_host(&first.host, HostState::Dead);
    let moved = browser.fetch("/");
    assert_eq!((moved.decision.as_str(), &moved.session), ("moved", &first.session));
    assert_ne!(moved.host, first.host);
    let next = browser.fetch("/");
    assert_eq!((next.decision.as_str(), next.host), ("resumed", moved.host));
}

/// Opens a WebSocket of the page's own. Returns the host that greets.
fn greeting(browser: &Browser) -> Value {
    let body = "const socket = new WebSocket(`${location.protocol.replace('http', 'ws')}//${location.host}/ws`);
        const host = await new Promise((greeted, failed) => {
            socket.onmessage = ({data}) => greeted(data);
            socket.onerror = () => failed('no WebSocket');
        });
        socket.close();
        return host;";
    browser.run(body, &[])
}

#[test]
fn a_browser_s_web_sockets_reach_the_session_s_host() {
    let stage = Stage::tls(json!({}));
    let browser = browser(&stage);
    let home = browser.shown().host;
    for _ in 0..6 {
        assert_eq!(greeting(&browser), home.as_str());
    }
    assert_eq!(browser.fetch("/").host, home);
    stage.assert_one_session(8);
}

/// RFC 8441: a stream of the connection that the page came by.
#[test]
fn a_browser_s_web_sockets_over_http_2_reach_the_session_s_host() {
    let stage = Stage::adjusted(json!({}), |bootstrap| {
        let options = json!({"allow_connect": true});
        bootstrap.http()["http2_protocol_options"] = options.clone();
        bootstrap.speak_http2("app", options); // Envoy adds no `Sec-WebSocket-Key`, which HTTP/1.1 would want.
    });
    let browser = browser(&stage);
    let home = browser.shown().host;
    for _ in 0..6 {
        assert_eq!(greeting(&browser), home.as_str());
    }
    stage.assert_one_session(7);
    assert_eq!(stage.world.envoy.stat("http.http.downstream_cx_http1_total"), 0, "they came by HTTP/1.1");
}
