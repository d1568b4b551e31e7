//! The kinds of requests, and what each may cost.

use crate::traffic::{HOME, OTHER, Traffic, among_others, browser, config};
use serde_json::{Value, json};
use std::time::Duration;

pub struct Kind {
    pub name: &'static str,
    /// The plugin's configuration.
    pub config: fn() -> Value,
    /// What happens. What is to be metered comes after the last [`Plugin::forget`](crate::plugin::Plugin::forget).
    pub happens: fn(&mut Traffic),
    /// The most instructions: what was measured, and 15 % for other compilers. A build without wasm-opt needs 3 % of them.
    pub instructions: i64,
    /// The host calls, in order.
    pub calls: &'static [&'static str],
}

fn keys(members: Value) -> Value {
    config(0, 2, members)
}

pub fn default() -> Value {
    keys(json!({}))
}

pub fn with_store(mut members: Value) -> Value {
    members["store"] = json!({"cluster": "session_store", "authority": "session-store"});
    keys(members)
}

/// A session stays where it is.
pub fn resumed(traffic: &mut Traffic) {
    let cookie = traffic.begin();
    traffic.resume(&cookie);
    traffic.plugin.forget();
    traffic.resume(&cookie);
}

/// So does one whose token another worker issued.
pub fn resumed_from_elsewhere(traffic: &mut Traffic, config: &Value) {
    let cookie = Traffic::start(config).begin();
    traffic.plugin.forget();
    traffic.resume(&cookie);
}

/// A client returns whose session the store is asked for. The store lacks it, and is given it: the value.
pub fn returned(traffic: &mut Traffic, cookie: &str) -> Vec<u8> {
    let (id, paused) = traffic.request(browser(Some(&among_others(cookie))));
    assert!(paused);
    let lookup = traffic.sent();
    traffic.answer(&lookup, "404", None, b"");
    let create = traffic.sent();
    traffic.stay(id);
    traffic.answer(&create, "201", Some("\"1\""), b"");
    create.body
}

/// What a session that stays where it is costs, with everything at its default, and what for.
const RESUMED: &[&str] = &[
    "on_request_headers:",
    // Every line at once, for one allocation: the path, each line of cookies, and what a client sent under internal names.
    "get_header_map_pairs request",
    // The other cookies, without the session's: the upstream does not get it.
    "replace_header_map_value cookie",
    // Where to, for the bridge.
    "replace_header_map_value x-mooring-host",
    // The session's id, for the application.
    "replace_header_map_value x-mooring-session",
    "on_response_headers:",
    // The bridge speaks when another host served.
    "get_header_map_value x-mooring-host",
    // The application may rotate, end or release the session.
    "get_header_map_value x-mooring-action",
    // An upstream that echoes what it got must not tell the client its session id. Where it is not there, looking costs as much.
    "remove_header_map_value x-mooring-session",
];

pub const KINDS: &[Kind] = &[
    Kind { name: "resumed", config: default, happens: resumed, instructions: 13_000, calls: RESUMED },
    Kind {
        name: "resumed, the access log told of everything",
        config: || keys(json!({"access_log": "all"})),
        happens: resumed,
        instructions: 15_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "remove_header_map_value x-mooring-session",
            "set_property mooring",
        ],
    },
    Kind {
        name: "resumed, the cookie forwarded",
        config: || keys(json!({"cookie": {"forward": true}})),
        happens: resumed,
        instructions: 11_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "remove_header_map_value x-mooring-session",
        ],
    },
    Kind {
        name: "resumed, the cookie signed but not encrypted",
        config: || keys(json!({"cookie": {"encrypt": false}})),
        happens: resumed,
        instructions: 13_000,
        calls: RESUMED,
    },
    Kind {
        name: "resumed, no session id for the application",
        config: || keys(json!({"app": {"session_header": null}})),
        happens: resumed,
        instructions: 13_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
        ],
    },
    Kind {
        name: "resumed, no action of the application's",
        config: || keys(json!({"app": {"action_header": null}})),
        happens: resumed,
        instructions: 13_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "remove_header_map_value x-mooring-session",
        ],
    },
    Kind {
        name: "resumed, all of these",
        config: || {
            keys(json!({
                "cookie": {"forward": true, "encrypt": false},
                "app": {"session_header": null, "action_header": null},
            }))
        },
        happens: resumed,
        instructions: 9_800,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "replace_header_map_value x-mooring-host",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
        ],
    },
    Kind {
        name: "resumed, a debug header",
        config: || keys(json!({"debug_header": "x-decision"})),
        happens: resumed,
        instructions: 14_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "remove_header_map_value x-mooring-session",
            "replace_header_map_value x-decision",
        ],
    },
    Kind {
        name: "resumed, a strict bridge",
        config: || keys(json!({"upstream": {"failover": "none"}})),
        happens: resumed,
        instructions: 23_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "get_property xds.cluster_name",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "remove_header_map_value x-mooring-session",
        ],
    },
    Kind {
        name: "resumed, by override_host",
        config: || keys(json!({"upstream": {"via": "override_host"}})),
        happens: resumed,
        instructions: 18_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-action",
            "get_property upstream.address",
            "remove_header_map_value x-mooring-host",
            "remove_header_map_value x-mooring-session",
        ],
    },
    Kind {
        name: "resumed, a token of another worker's",
        config: default,
        happens: |traffic| resumed_from_elsewhere(traffic, &default()),
        instructions: 55_000,
        calls: RESUMED,
    },
    Kind {
        name: "resumed, a token of another worker's, 16 keys",
        config: || config(0, 16, json!({})),
        happens: |traffic| resumed_from_elsewhere(traffic, &config(0, 16, json!({}))),
        instructions: 56_000,
        calls: RESUMED,
    },
    Kind {
        name: "resumed, a cookie header of 60 KB",
        config: default,
        happens: |traffic| {
            let cookie = traffic.begin();
            let lines = browser(Some(&format!("{}{cookie}", "a=1; ".repeat(12_000))));
            assert_eq!(traffic.exchange(lines.clone(), &HOME), None);
            traffic.plugin.forget();
            assert_eq!(traffic.exchange(lines, &HOME), None);
        },
        instructions: 4_000_000,
        calls: RESUMED,
    },
    Kind {
        name: "resumed, the store's copy in the cache",
        config: || with_store(json!({})),
        happens: |traffic| {
            let cookie = traffic.begin();
            returned(traffic, &cookie);
            traffic.plugin.forget();
            traffic.resume(&cookie);
        },
        instructions: 15_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "clock_time_get",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "remove_header_map_value x-mooring-session",
        ],
    },
    Kind {
        name: "resumed, looked up in the store",
        config: || with_store(json!({})),
        happens: |traffic| {
            let mut another = Traffic::start(&with_store(json!({})));
            let cookie = another.begin();
            let value = returned(&mut another, &cookie);
            traffic.plugin.forget();
            let (id, paused) = traffic.request(browser(Some(&among_others(&cookie))));
            assert!(paused);
            let lookup = traffic.sent();
            traffic.answer(&lookup, "200", Some("\"1\""), &value);
            traffic.stay(id);
        },
        instructions: 120_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "clock_time_get",
            "set_effective_context",
            "http_call GET",
            "set_effective_context",
            "on_http_call_response:",
            "get_header_map_value :status",
            "get_buffer_bytes call",
            "get_header_map_value etag",
            "clock_time_get",
            "set_effective_context",
            "get_header_map_pairs request",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "continue_stream",
            "set_effective_context",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "remove_header_map_value x-mooring-session",
        ],
    },
    Kind {
        name: "resumed, looked up and created in the store",
        config: || with_store(json!({})),
        happens: |traffic| {
            let cookie = traffic.begin();
            traffic.plugin.forget();
            returned(traffic, &cookie);
        },
        instructions: 150_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "clock_time_get",
            "set_effective_context",
            "http_call GET",
            "set_effective_context",
            "on_http_call_response:",
            "get_header_map_value :status",
            "get_header_map_value etag",
            "clock_time_get",
            "set_effective_context",
            "get_header_map_pairs request",
            "clock_time_get",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "continue_stream",
            "set_effective_context",
            "http_call PUT",
            "set_effective_context",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "remove_header_map_value x-mooring-session",
            "on_http_call_response:",
            "get_header_map_value :status",
            "get_header_map_value etag",
            "clock_time_get",
        ],
    },
    Kind {
        name: "new",
        config: default,
        happens: |traffic| {
            traffic.begin();
            traffic.plugin.forget();
            traffic.begin();
        },
        instructions: 67_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "get_property mooring.session.__Host-mooring",
            "random_get",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "get_property response.code_details",
            "get_header_map_value :status",
            "get_property xds.cluster_name",
            "get_property upstream.address",
            "random_get",
            "get_header_map_pairs response",
            "remove_header_map_value x-mooring-host",
            "remove_header_map_value x-mooring-session",
            "add_header_map_value set-cookie",
            "add_header_map_value cache-control",
            "set_property mooring",
        ],
    },
    Kind {
        name: "new, answered by the proxy itself",
        config: default,
        happens: |traffic| {
            traffic.begin();
            traffic.plugin.forget();
            let (id, _) = traffic.request(browser(None));
            traffic.respond_locally(id);
            assert_eq!(traffic.response_header(id, "set-cookie"), None);
            traffic.end(id);
        },
        instructions: 13_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "get_property mooring.session.__Host-mooring",
            "random_get",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "get_property response.code_details",
            "remove_header_map_value x-mooring-session",
            "set_property mooring",
        ],
    },
    Kind {
        name: "new, for a cookie that is none of ours",
        config: default,
        happens: |traffic| {
            let lines = browser(Some(&among_others(&format!(
                "__Host-mooring=m1e.key-0.{}.{}",
                "x".repeat(120),
                "y".repeat(43)
            ))));
            traffic.exchange(lines.clone(), &HOME);
            traffic.plugin.forget();
            assert!(traffic.exchange(lines, &HOME).is_some());
        },
        instructions: 77_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "get_property mooring.session.__Host-mooring",
            "random_get",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "get_property response.code_details",
            "get_header_map_value :status",
            "get_property xds.cluster_name",
            "get_property upstream.address",
            "random_get",
            "get_header_map_pairs response",
            "remove_header_map_value x-mooring-host",
            "remove_header_map_value x-mooring-session",
            "add_header_map_value set-cookie",
            "add_header_map_value cache-control",
            "set_property mooring",
        ],
    },
    Kind {
        name: "renewed",
        config: default,
        happens: |traffic| {
            let cookie = traffic.begin();
            traffic.resume(&cookie);
            traffic.pass(Duration::from_secs(600));
            traffic.plugin.forget();
            assert!(traffic.exchange(browser(Some(&among_others(&cookie))), &HOME).is_some());
        },
        instructions: 59_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "get_property response.code_details",
            "get_header_map_value :status",
            "clock_time_get",
            "random_get",
            "clock_time_get",
            "get_header_map_pairs response",
            "remove_header_map_value x-mooring-session",
            "add_header_map_value set-cookie",
            "add_header_map_value cache-control",
            "set_property mooring",
        ],
    },
    Kind {
        name: "issued anew, for a token of the last of 16 keys",
        config: || config(0, 16, json!({})),
        happens: |traffic| {
            let cookie = Traffic::start(&config(15, 16, json!({}))).begin();
            traffic.begin();
            traffic.plugin.forget();
            assert!(traffic.exchange(browser(Some(&among_others(&cookie))), &HOME).is_some());
        },
        instructions: 110_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "get_property response.code_details",
            "get_header_map_value :status",
            "clock_time_get",
            "random_get",
            "clock_time_get",
            "get_header_map_pairs response",
            "remove_header_map_value x-mooring-session",
            "add_header_map_value set-cookie",
            "add_header_map_value cache-control",
            "set_property mooring",
        ],
    },
    Kind {
        name: "moved to another host",
        config: default,
        happens: |traffic| {
            let cookie = traffic.begin();
            traffic.resume(&cookie);
            traffic.plugin.forget();
            assert!(traffic.exchange(browser(Some(&among_others(&cookie))), &OTHER).is_some());
        },
        instructions: 76_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "get_property response.code_details",
            "get_header_map_value :status",
            "clock_time_get",
            "get_property xds.cluster_name",
            "get_property upstream.address",
            "clock_time_get",
            "get_property upstream.request_attempt_count",
            "random_get",
            "clock_time_get",
            "get_header_map_pairs response",
            "remove_header_map_value x-mooring-host",
            "remove_header_map_value x-mooring-session",
            "add_header_map_value set-cookie",
            "add_header_map_value cache-control",
            "set_property mooring",
        ],
    },
    Kind {
        name: "outside the cookie's path",
        config: || keys(json!({"cookie": {"path": "/account"}})),
        happens: |traffic| {
            traffic.exchange(browser(None), &HOME);
            traffic.plugin.forget();
            assert_eq!(traffic.exchange(browser(None), &HOME), None);
        },
        instructions: 7_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "get_property mooring.session.mooring",
            "on_response_headers:",
            "get_header_map_value x-mooring-host",
            "get_header_map_value x-mooring-action",
            "remove_header_map_value x-mooring-host",
            "remove_header_map_value x-mooring-session",
        ],
    },
    Kind {
        name: "redirected by the proxy",
        config: default,
        happens: |traffic| {
            let cookie = traffic.begin();
            traffic.resume(&cookie);
            traffic.plugin.forget();
            let (id, _) = traffic.request(browser(Some(&among_others(&cookie))));
            traffic.end(id);
        },
        instructions: 14_000,
        calls: &[
            "on_request_headers:",
            "get_header_map_pairs request",
            "replace_header_map_value cookie",
            "replace_header_map_value x-mooring-host",
            "replace_header_map_value x-mooring-session",
            "on_delete:",
            "set_property mooring.session.__Host-mooring",
        ],
    },
    Kind {
        name: "the trailers of a response",
        config: default,
        happens: |traffic| {
            let (id, _) = traffic.request(browser(None));
            traffic.respond(id, &HOME);
            traffic.plugin.forget();
            traffic.trailers(id);
        },
        instructions: 1_200,
        calls: &[
            "on_response_trailers:",
            "remove_header_map_value x-mooring-host",
            "remove_header_map_value x-mooring-action",
            "remove_header_map_value x-mooring-session",
        ],
    },
    Kind {
        name: "a tick after a request",
        config: default,
        happens: |traffic| {
            traffic.begin();
            traffic.plugin.forget();
            traffic.tick();
        },
        instructions: 4_100,
        calls: &[
            "on_tick:",
            "get_current_time_nanoseconds",
            // What it came with.
            "increment_metric",
            // A host that no session was pinned to before.
            "define_metric",
            // That, what became of it, and that this configuration is at work here.
            "increment_metric (3 times)",
        ],
    },
    Kind {
        name: "a tick with nothing to do",
        config: || with_store(json!({})),
        happens: |traffic| {
            traffic.begin();
            traffic.tick();
            traffic.plugin.forget();
            traffic.tick();
        },
        instructions: 1060,
        calls: &["on_tick:", "get_current_time_nanoseconds", "clock_time_get"],
    },
    Kind {
        name: "the configuration",
        config: default,
        happens: |_| {},
        instructions: 900_000,
        calls: &[
            "on_configure:",
            "get_buffer_bytes configuration",
            "call_foreign_function declare_property",
            "define_metric (97 times)",
            "set_tick_period_milliseconds",
            "get_current_time_nanoseconds",
        ],
    },
];
