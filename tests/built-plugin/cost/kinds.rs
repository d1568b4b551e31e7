//! The kinds of requests that are metered.

use crate::traffic::{HOME, OTHER, Traffic, among_others, browser, keys};
use mooring::shell::proxy::HeaderMap;
use mooring_test_kit::proxy::line;
use serde_json::{Value, json};
use std::time::Duration;

pub struct Kind {
    pub name: &'static str,
    /// Members of the plugin's configuration.
    members: Value,
    /// What goes before, after a new session: a client has its cookie.
    before: fn(&mut Traffic, &str),
    /// What is metered.
    happens: fn(&mut Traffic, &str),
}

impl Kind {
    /// What happened, and what it cost.
    pub fn happen(&self) -> Traffic {
        let mut traffic = Traffic::start(&self.members);
        let cookie = traffic.exchange(browser(None), HOME).unwrap_or_default();
        (self.before)(&mut traffic, &cookie);
        traffic.plugin.forget();
        (self.happens)(&mut traffic, &cookie);
        traffic
    }

    pub fn has_store(&self) -> bool {
        self.members.get("store").is_some()
    }
}

/// In the order of the snapshot.
pub fn kinds() -> Vec<Kind> {
    let kind = |name, members, before, happens| Kind { name, members, before, happens };
    let nothing: fn(&mut Traffic, &str) = |_, _| {};
    let tick: fn(&mut Traffic, &str) = |traffic, _| traffic.tick();
    let create: fn(&mut Traffic, &str) = |traffic, cookie| drop(traffic.create(cookie));

    let resumed = |name, members| kind(name, members, Traffic::resume, Traffic::resume);
    let no_headers = json!({"session_header": null, "action_header": null});
    let leanest = json!({"cookie": {"forward": true, "encrypt": false}, "app": no_headers});
    vec![
        resumed("resumed", json!({})),
        resumed("resumed, the access log told of everything", json!({"access_log": "all"})),
        resumed("resumed, the cookie forwarded", json!({"cookie": {"forward": true}})),
        resumed("resumed, the cookie signed but not encrypted", json!({"cookie": {"encrypt": false}})),
        resumed("resumed, no session id for the application", json!({"app": {"session_header": null}})),
        resumed("resumed, no action of the application's", json!({"app": {"action_header": null}})),
        resumed("resumed, the leanest", leanest),
        resumed("resumed, a debug header", json!({"debug_header": "x-decision"})),
        resumed("resumed, a strict bridge", json!({"upstream": {"failover": "none"}})),
        resumed("resumed, by override_host", json!({"upstream": {"via": "override_host"}})),
        kind("resumed, a token of another worker's", json!({}), nothing, resume_elsewhere),
        kind("resumed, a token of another worker's, 16 keys", keys(0, 16), nothing, resume_elsewhere),
        kind("resumed, a cookie header of 60 KB", json!({}), resume_among_many, resume_among_many),
        kind("resumed, the store's copy in the cache", store(), create, Traffic::resume),
        kind("resumed, looked up in the store", store(), nothing, |traffic, _| {
            let mut another = traffic.another();
            let cookie = another.begin();
            let value = another.create(&cookie);
            let (id, lookup) = traffic.wait(&cookie);
            traffic.answer(&lookup, "200", Some("\"1\""), &value);
            traffic.stay(id);
        }),
        kind("resumed, looked up and created in the store", store(), nothing, create),
        kind("new", json!({}), nothing, |traffic, _| drop(traffic.begin())),
        kind("new, answered by the proxy itself", json!({}), nothing, |traffic, _| {
            let id = traffic.request(browser(None));
            traffic.response(id, vec![line(":status", "503")], "no_healthy_upstream", None);
            assert_eq!(traffic.header(HeaderMap::ResponseHeaders, id, "set-cookie"), None);
            traffic.end(id);
        }),
        kind("new, for a cookie that is none of ours", json!({}), begin_anew, begin_anew),
        kind("renewed", json!({}), nothing, |traffic, cookie| {
            traffic.resume(cookie);
            traffic.pass(Duration::from_secs(600));
            traffic.plugin.forget();
            traffic.issue(cookie, HOME);
        }),
        kind("issued anew, for a token of the last of 16 keys", keys(0, 16), nothing, |traffic, _| {
            let cookie = Traffic::start(&keys(15, 16)).begin();
            traffic.issue(&cookie, HOME);
        }),
        kind("moved to another host", json!({}), Traffic::resume, |traffic, cookie| traffic.issue(cookie, OTHER)),
        kind("outside the cookie's path", json!({"cookie": {"path": "/account"}}), nothing, |traffic, _| {
            assert_eq!(traffic.exchange(browser(None), HOME), None);
        }),
        kind("redirected by the proxy", json!({}), Traffic::resume, |traffic, cookie| {
            let id = traffic.request(browser(Some(&among_others(cookie))));
            traffic.end(id);
        }),
        kind("the trailers of a response", json!({}), nothing, |traffic, _| {
            let id = traffic.request(browser(None));
            traffic.respond(id, HOME);
            traffic.plugin.forget();
            traffic.trailers(id);
        }),
        kind("a tick after a request", json!({}), nothing, tick),
        kind("a tick with nothing to do", store(), tick, tick),
        kind("the configuration", json!({}), nothing, |traffic, _| *traffic = traffic.another()),
    ]
}

pub fn store() -> Value {
    json!({"store": {"cluster": "session_store", "authority": "session-store"}})
}

/// A session stays where it is whose token another worker issued.
pub fn resume_elsewhere(traffic: &mut Traffic, _: &str) {
    let cookie = traffic.another().begin();
    traffic.resume(&cookie);
}

fn resume_among_many(traffic: &mut Traffic, cookie: &str) {
    let lines = browser(Some(&format!("{}{cookie}", "a=1; ".repeat(12_000))));
    assert_eq!(traffic.exchange(lines, HOME), None);
}

fn begin_anew(traffic: &mut Traffic, _: &str) {
    let foreign = format!("__Host-mooring=m1e.key-0.{}.{}", "x".repeat(120), "y".repeat(43));
    traffic.issue(&foreign, HOME);
}
