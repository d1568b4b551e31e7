//! The configurations that roots get.

use crate::input::Input;
use crate::keys;
use mooring::config::Config;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The scopes.
pub const SCOPES: [&str; 2] = ["one", "two"];

/// The cookie's name.
pub const COOKIE: &str = "m";

/// The header in which tokens travel too.
pub const TOKEN_HEADER: &str = "x-session-token";

/// How many configurations are kept ready.
const KEPT: usize = 4096;

type Known = BTreeMap<Vec<u8>, (Rc<[u8]>, Option<Rc<Config>>)>;

thread_local! {
    static KNOWN: RefCell<Known> = const { RefCell::new(BTreeMap::new()) };
}

/// A configuration, as JSON and as it is read. Some are refused.
pub fn config(input: &mut Input<'_>) -> (Rc<[u8]>, Option<Rc<Config>>) {
    let choices = [5, 6, 32, 5, 64, 4, 8, 3, 3].map(|count| input.choice(count) as u8).to_vec();
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= KEPT {
            known.clear();
        }
        let make = || {
            let json: Rc<[u8]> = json(&choices).to_string().into_bytes().into();
            let config = Config::parse(&json, &|_| None).ok().map(Rc::new);
            (json, config)
        };
        known.entry(choices.clone()).or_insert_with(make).clone()
    })
}

fn json(choices: &[u8]) -> Value {
    let [keys, upstream, cookie, session, app, protocol, rules, on_error, cache] = choices else { return json!({}) };
    let keys: &[usize] = [&[0, 1][..], &[1, 0], &[0], &[2, 0], &[2]][usize::from(*keys)];
    let secret = |key: &usize| json!({"id": keys::IDS[*key], "secret": {"base64": keys::secret_text(*key)}});
    let bit = |of: &u8, at: u8| of >> at & 1 == 1;
    let (via, failover) = [
        ("stateful_session", "sticky"),
        ("stateful_session", "temporary"),
        ("stateful_session", "none"),
        ("override_host", "sticky"),
        ("override_host", "temporary"),
        ("override_host", "none"),
    ][usize::from(*upstream)];
    let (absolute, idle) =
        [("8h", "30m"), ("60s", "10s"), ("60s", "0s"), ("0s", "10s"), ("0s", "0s")][usize::from(*session)];
    let (entries, ttl) = [(1000, "30s"), (1, "1h"), (2, "100ms")][usize::from(*cache)];
    let own_names = bit(app, 3);
    let mut config = json!({
        "keys": keys.iter().map(secret).collect::<Vec<_>>(),
        "scope": SCOPES[usize::from(bit(cookie, 4))],
        "cookie": {
            "name": COOKIE,
            "forward": bit(cookie, 0),
            "encrypt": !bit(cookie, 1),
            "persistent": bit(cookie, 2),
            "path": if bit(cookie, 3) { "/shop" } else { "/" },
        },
        "session": {"absolute_timeout": absolute, "idle_timeout": idle},
        "upstream": {"via": via, "failover": failover},
        "cache": {"entries": entries, "ttl": ttl},
        "app": {},
    });
    if own_names {
        config["upstream"]["header"] = "x-own-host".into();
        config["app"]["session_header"] = "x-own-session".into();
    }
    if bit(app, 0) {
        config["app"]["action_header"] = Value::Null;
    }
    if bit(app, 1) {
        config["app"]["session_header"] = Value::Null;
    }
    if bit(app, 2) {
        config["debug_header"] = "x-decision".into();
    }
    match app >> 4 {
        0 => {}
        1 => config["identify"] = json!([{"header": {}}, {"cookie": {}}]),
        2 => config["identify"] = json!([{"cookie": {}}, {"header": {"issue": "always"}}]),
        _ => config["identify"] = json!([{"header": {"issue": "always", "expose": true}}]),
    }
    if let Some(protocol) = [None, Some("rest"), Some("webdis"), Some("upstash")][usize::from(*protocol)] {
        let on_error = ["trust_cookie", "rebalance", "fail"][usize::from(*on_error)];
        config["store"] = json!({
            "protocol": protocol,
            "cluster": "store",
            "create": if bit(rules, 0) { "at_once" } else { "on_return" },
            "write": if bit(rules, 1) { "sync" } else { "async" },
            "on_missing": if bit(rules, 2) { "new_session" } else { "trust_cookie" },
            "on_error": on_error,
            "timeout": if bit(cookie, 4) { "1s" } else { "100ms" },
        });
    }
    config
}
