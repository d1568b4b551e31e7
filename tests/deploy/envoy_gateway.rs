//! What Envoy Gateway makes of the objects under `deploy/envoy-gateway`, in a real Envoy.
//!
//! Followed is Envoy Gateway's own code, of about 1.10 (`internal/xds/translator`): the shape of a listener and its routes, where
//! filters stand (`newOrderedHTTPFilter`) and how `filterOrder` moves them, the plugin as a disabled filter that routes enable,
//! session persistence as `stateful_session` on a route, and JSON patches over all of it. Not there: TLS for clients, and xDS.

use crate::objects::{Objects, merge, sorted};
use crate::promises::{Rendered, SECRETS, Stage, file_log, found_in};
use mooring_test_kit::rig::plugin_path;
use serde_json::{Value, json};
use serde_json_path::JsonPath;

const FILTER_CONFIG: &str = "type.googleapis.com/envoy.config.route.v3.FilterConfig";
const STATEFUL_SESSION: &str = "envoy.filters.http.stateful_session";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// `namespace/name` of an object.
fn path(object: &Value) -> String {
    let text = |at: &str| object["metadata"][at].as_str().expect("text");
    format!("{}/{}", text("namespace"), text("name"))
}

/// A policy is for this object.
fn targets(policy: &Value, object: &Value) {
    let target = &policy["spec"]["targetRefs"][0];
    assert_eq!((&target["kind"], &target["name"]), (&object["kind"], &object["metadata"]["name"]));
    assert_eq!(policy["metadata"]["namespace"], object["metadata"]["namespace"]);
}

fn rendered() -> Rendered {
    let objects = Objects::of("envoy-gateway");
    let (gateway, route) = (objects.one("Gateway", None), objects.one("HTTPRoute", None));
    assert_eq!(route["spec"]["parentRefs"][0]["name"], gateway["metadata"]["name"]);
    let class = objects.one("GatewayClass", None);
    assert_eq!(gateway["spec"]["gatewayClassName"], class["metadata"]["name"]);
    let proxy = objects.one("EnvoyProxy", None);
    assert_eq!(class["spec"]["parametersRef"]["name"], proxy["metadata"]["name"]);
    let policy = objects.one("EnvoyExtensionPolicy", None);
    targets(policy, route);
    let plugin = &policy["spec"]["wasm"][0];
    let plugin_name = format!("envoyextensionpolicy/{}/wasm/0", path(policy));
    let wasm = format!("envoy.filters.http.wasm/{plugin_name}");
    let app = format!("httproute/{}/rule/0", path(route));

    let mut filters = vec![
        session_filter(&route["spec"]["rules"][0]["sessionPersistence"]),
        json!({"name": wasm, "disabled": true, "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": plugin_config(plugin, &plugin_name)}}),
        json!({"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", "suppress_envoy_headers": true}}),
    ];
    order(&mut filters, &proxy["spec"]["filterOrder"]);
    let traffic = objects.one("BackendTrafficPolicy", None);
    targets(traffic, route);
    let mut routed = routed(route, &app, &traffic["spec"]["retry"]);
    routed["typed_per_filter_config"][&wasm] = json!({"@type": FILTER_CONFIG, "config": {}});

    let client = objects.one("ClientTrafficPolicy", None);
    targets(client, gateway);
    let headers = &client["spec"]["headers"];
    assert_eq!(headers["withUnderscoresAction"], "RejectRequest");
    let removed = headers["earlyRequestHeaders"]["remove"].as_array().expect("headers");
    let name = format!("{}/{}", path(gateway), gateway["spec"]["listeners"][0]["name"].as_str().expect("a name"));
    let log = &proxy["spec"]["telemetry"]["accessLog"]["settings"][0]["format"]["text"];
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "https-443",
        "access_log": [file_log(log)],
        "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
        "early_header_mutation_extensions": [{"name": "envoy.http.early_header_mutation.header_mutation", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": removed.iter().map(|header| json!({"remove": header})).collect::<Vec<_>>()}}],
        "http_filters": filters,
        "merge_slashes": true,
        "normalize_path": true,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
        "server_header_transformation": "PASS_THROUGH",
        "use_remote_address": true,
        "route_config": {"name": name, "virtual_hosts": [{"name": format!("{name}/*"), "domains": ["*"], "routes": [routed]}]},
    });
    let mut listener = json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    });
    let mut clusters = vec![cluster(&app, &traffic["spec"]["healthCheck"])];
    patch(objects.one("EnvoyPatchPolicy", None), &mut listener, &mut clusters);
    let mut bootstrap = json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    });
    let custom = &proxy["spec"]["bootstrap"];
    assert_eq!(custom["type"], "Merge");
    merge(&mut bootstrap, &serde_norway::from_str(custom["value"].as_str().expect("text")).expect("YAML"));
    let store = plugin["config"]["store"]["cluster"].as_str().expect("a cluster").to_owned();
    let container = &proxy["spec"]["provider"]["kubernetes"]["envoyDeployment"]["container"];
    Rendered { bootstrap, app, store, environment: found_in(&container["env"], &SECRETS), arguments: Vec::new() }
}

/// Session persistence, for routes to turn on.
fn session_filter(persistence: &Value) -> Value {
    json!({"name": STATEFUL_SESSION, "disabled": true, "typed_config": session(persistence)})
}

fn session(persistence: &Value) -> Value {
    assert_eq!(persistence["type"], "Header");
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
        "session_state": {"name": "envoy.http.stateful_session.header", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState",
            "name": persistence["sessionName"]}},
    })
}

/// Envoy's `PluginConfig`. The Envoys fetch the code from Envoy Gateway: here it stands in a file.
fn plugin_config(plugin: &Value, name: &str) -> Value {
    assert_eq!(plugin["failOpen"], false);
    json!({
        "name": plugin["name"],
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": sorted(&plugin["config"])},
        "vm_config": {
            "vm_id": name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": plugin_path().to_string_lossy()}},
            "environment_variables": {"host_env_keys": plugin["env"]["hostKeys"]},
        },
    })
}

/// Moves filters from where Envoy Gateway has them.
fn order(filters: &mut Vec<Value>, positions: &Value) {
    let of = |filters: &[Value], kind: &Value| {
        let kind = kind.as_str().expect("a filter").to_owned();
        let is =
            move |filter: &Value| filter["name"].as_str().is_some_and(|name| name.split('/').next() == Some(&kind));
        filters.iter().position(is).expect("a filter of this kind")
    };
    for position in positions.as_array().into_iter().flatten() {
        let moved = filters.remove(of(filters, &position["name"]));
        let after = of(filters, &position["after"]);
        filters.insert(after + 1, moved);
    }
}

fn routed(route: &Value, cluster: &str, retry: &Value) -> Value {
    let rule = &route["spec"]["rules"][0];
    assert_eq!(rule["matches"], json!([{"path": {"type": "PathPrefix", "value": "/"}}]));
    let triggers: Vec<&str> =
        retry["retryOn"]["triggers"].as_array().expect("triggers").iter().filter_map(Value::as_str).collect();
    let mut session = session(&rule["sessionPersistence"]);
    session.as_object_mut().expect("a filter").remove("@type");
    json!({
        "match": {"prefix": "/"},
        "request_headers_to_remove": rule["filters"][0]["requestHeaderModifier"]["remove"],
        "route": {
            "cluster": cluster,
            "timeout": rule["timeouts"]["request"],
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "retry_policy": {
                "retry_on": triggers.join(","),
                "num_retries": retry["numRetries"],
                "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}],
                "host_selection_retry_max_attempts": 5,
            },
        },
        "typed_per_filter_config": {STATEFUL_SESSION: {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
            "stateful_session": session}},
    })
}

/// The hosts' cluster. Its hosts come later.
fn cluster(name: &str, health: &Value) -> Value {
    let (active, passive) = (&health["active"], &health["passive"]);
    json!({
        "name": name,
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "10s",
        "ignore_health_on_host_removal": true,
        "circuit_breakers": {"thresholds": [{"max_retries": 1024}]},
        "common_lb_config": {"healthy_panic_threshold": {"value": health["panicThreshold"]}},
        "health_checks": [{
            "timeout": active["timeout"],
            "interval": active["interval"],
            "unhealthy_threshold": active["unhealthyThreshold"],
            "healthy_threshold": active["healthyThreshold"],
            "http_health_check": {"host": "*", "path": active["http"]["path"]},
        }],
        "outlier_detection": {
            "split_external_local_origin_errors": passive["splitExternalLocalOriginErrors"],
            "consecutive_local_origin_failure": passive["consecutiveLocalOriginFailures"],
            "consecutive_5xx": passive["consecutive5XxErrors"],
            "max_ejection_percent": passive["maxEjectionPercent"],
        },
    })
}

/// Applies the patches: each must find what it is for.
fn patch(policy: &Value, listener: &mut Value, clusters: &mut Vec<Value>) {
    assert_eq!(policy["spec"]["type"], "JSONPatch");
    for patch in policy["spec"]["jsonPatches"].as_array().expect("patches") {
        let operation = &patch["operation"];
        assert_eq!(operation["op"], "add");
        match patch["type"].as_str().expect("a type") {
            LISTENER => {
                assert_eq!(patch["name"], listener["name"]);
                let found = JsonPath::parse(operation["jsonPath"].as_str().expect("a path")).expect("a path");
                let places: Vec<String> =
                    found.query_located(listener).locations().map(|place| place.to_json_pointer()).collect();
                assert!(!places.is_empty(), "{operation} finds nothing");
                let member = operation["path"].as_str().and_then(|path| path.strip_prefix('/')).expect("a member");
                for place in places {
                    listener.pointer_mut(&place).expect("a place")[member] = operation["value"].clone();
                }
            }
            CLUSTER => {
                assert_eq!((&operation["path"], &operation["value"]["name"]), (&json!(""), &patch["name"]));
                clusters.push(operation["value"].clone());
            }
            other => panic!("what Envoy Gateway makes of {other} is not known here"),
        }
    }
}

#[test]
fn envoy_gateway_keeps_sessions() {
    Stage::start(&rendered()).keeps_its_promises();
}

#[test]
fn without_the_plugin_no_client_of_envoy_gateway_chooses_a_host() {
    let mut rendered = rendered();
    rendered.filters().retain(|filter| filter["typed_config"]["config"]["vm_config"].is_null());
    Stage::start(&rendered).lets_no_client_choose();
}

#[test]
fn a_plugin_that_crashes_is_to_be_started_anew() {
    let mut rendered = rendered();
    let config = rendered.filters().iter().find(|filter| !filter["typed_config"]["config"]["vm_config"].is_null());
    let config = &config.expect("the plugin")["typed_config"]["config"];
    assert_eq!(config["failure_policy"], "FAIL_RELOAD");
    assert_eq!(config["reload_config"], json!({"backoff": {"base_interval": "0.1s", "max_interval": "1s"}}));
}
