//! The shipped Envoy config with other filters: whatever differs between contestants is theirs.

use mooring_test_kit::rig::{Bootstrap, plugin_path, shipped};
use mooring_test_kit::servers::root;
use mooring_test_kit::world::NEW_SECRET;
use serde_json::{Map, Value, json};

/// The header in which clients name their host, where no plugin does it for them. (That of the plugin is taken from clients.)
pub const HOST_HEADER: &str = "x-session-host";

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.http";
const SESSION_STATE: &str = "type.googleapis.com/envoy.extensions.http.stateful_session";

/// A shipped config with these hosts, on free ports, without an access log.
pub fn base(file: &str, hosts: &[u16]) -> Bootstrap {
    let mut bootstrap = Bootstrap(shipped(file));
    let anywhere = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    bootstrap.0["admin"]["address"] = anywhere.clone();
    bootstrap.listener()["address"] = anywhere;
    members(bootstrap.http()).remove("access_log");
    set_hosts(bootstrap.cluster("app"), hosts);
    bootstrap
}

/// Gives a cluster other hosts, and leaves the rest of it.
pub fn set_hosts(cluster: &mut Value, ports: &[u16]) {
    let endpoint =
        |port: &u16| json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}});
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = ports.iter().map(endpoint).collect();
}

fn members(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("an object")
}

/// The plugin's configuration: a key, and these members.
pub fn plugin(further: Value) -> Value {
    let mut plugin = json!({"keys": [{"id": "2026-11", "secret": {"base64": NEW_SECRET}}]});
    if let Value::Object(further) = further {
        members(&mut plugin).extend(further);
    }
    plugin
}

/// A shipped config with the plugin.
pub fn mooring(file: &str, hosts: &[u16], plugin: &Value) -> Bootstrap {
    let mut bootstrap = base(file, hosts);
    let wasm = bootstrap.wasm();
    wasm["vm_config"]["code"]["local"]["filename"] = plugin_path().to_string_lossy().into();
    members(&mut wasm["vm_config"]).remove("environment_variables");
    bootstrap.set_plugin(plugin);
    bootstrap
}

/// `envoy.yaml` with these filters in front of the router, and no others.
pub fn filters(hosts: &[u16], filters: Vec<Value>) -> Bootstrap {
    let mut bootstrap = base("envoy.yaml", hosts);
    let chain = bootstrap.http()["http_filters"].as_array_mut().expect("filters");
    let router = chain.pop().expect("the router");
    *chain = filters;
    chain.push(router);
    // As the plugin's, the header that says where a client belongs stays inside.
    bootstrap.http()["route_config"]["virtual_hosts"][0]["request_headers_to_remove"] = json!([HOST_HEADER]);
    bootstrap
}

/// The filters of the floor: a plugin that does nothing, and Envoy's own sessions.
pub fn floor() -> Vec<Value> {
    vec![sdk_plugin("noop"), by_header()]
}

/// Envoy's own sessions, by a header.
pub fn by_header() -> Value {
    stateful_session("header", json!({"name": HOST_HEADER}))
}

/// Envoy's own sessions, by a cookie.
pub fn by_cookie(name: &str) -> Value {
    stateful_session("cookie", json!({"cookie": {"name": name, "path": "/"}}))
}

fn stateful_session(kind: &str, mut state: Value) -> Value {
    let of = if kind == "header" { "Header" } else { "Cookie" };
    state["@type"] = format!("{SESSION_STATE}.{kind}.v3.{of}BasedSessionState").into();
    json!({"name": "envoy.filters.http.stateful_session", "typed_config": {
        "@type": format!("{FILTERS}.stateful_session.v3.StatefulSession"),
        "session_state": {"name": format!("envoy.http.stateful_session.{kind}"), "typed_config": state}}})
}

/// A plugin of `benches/plugins`, in a VM like that of the shipped config.
pub fn sdk_plugin(name: &str) -> Value {
    let mut bootstrap = Bootstrap(shipped("envoy.yaml"));
    let filters = bootstrap.http()["http_filters"].as_array_mut().expect("filters");
    let mut filter = filters.swap_remove(0);
    filter["name"] = name.into();
    let config = &mut filter["typed_config"]["config"];
    config["name"] = name.into();
    config["vm_config"]["vm_id"] = name.into();
    config["vm_config"]["code"]["local"]["filename"] = sdk_plugin_path(name).into();
    members(config).remove("configuration");
    members(&mut config["vm_config"]).remove("environment_variables");
    filter
}

#[allow(clippy::disallowed_methods)]
fn sdk_plugin_path(name: &str) -> String {
    let folder =
        std::env::var("MOORING_BENCH_PLUGINS").expect("MOORING_BENCH_PLUGINS: where benches/plugins were built");
    root().join(folder).join(format!("{name}.wasm")).to_string_lossy().into_owned()
}

/// A script that takes the host from a cookie, and sets one where another host served.
pub fn lua() -> Value {
    json!({"name": "envoy.filters.http.lua", "typed_config": {"@type": format!("{FILTERS}.lua.v3.Lua"),
        "default_source_code": {"inline_string": include_str!("session.lua").replace("HOST_HEADER", HOST_HEADER)}}})
}
