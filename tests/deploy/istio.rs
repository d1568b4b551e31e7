//! What Istio makes of the objects under `deploy/istio`, in a real Envoy.
//!
//! Followed is Istio's own code, as of 1.30: where a listener's filters stand (`buildHTTPConnectionManager`), what a `WasmPlugin`
//! or `TrafficExtension` becomes (`buildWasmConfig`, by ECDS, with what Istio's agent does to it), how an `EnvoyFilter` is
//! applied (`pilot/pkg/networking/core/envoyfilter`), and what of routes and clusters comes from a `VirtualService` and a
//! `DestinationRule`. Not there: what only Istio's Envoy has (its filters for peer metadata, ALPN and statistics), mutual TLS,
//! TLS for clients, and xDS but for ECDS.

use crate::objects::{Objects, file, merge, sorted};
use crate::promises::{Rendered, SECRETS, Stage, file_log, found_in};
use mooring_test_kit::rig::plugin_path;
use serde_json::{Value, json};

const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";

/// Where in the mesh an Envoy stands.
struct Place {
    folder: &'static str,
    /// The Deployment whose pods have the Envoy.
    workload: &'static str,
    context: &'static str,
    /// That the listener is for.
    port: u64,
    /// Istio's name for the route configuration of that port.
    routes: &'static str,
}

const GATEWAY: Place = Place {
    folder: "istio/gateway",
    workload: "shop-gateway",
    context: "GATEWAY",
    port: 443,
    routes: "https.443.https.shop.shop",
};
const SIDECAR: Place =
    Place { folder: "istio/sidecar", workload: "front", context: "SIDECAR_OUTBOUND", port: 8090, routes: "8090" };

/// The cluster of a Service's port.
fn cluster_name(host: &str, port: &Value) -> String {
    format!("outbound|{port}||{host}")
}

impl Place {
    /// What an Envoy here is started with.
    fn rendered(&self) -> Rendered {
        let objects = Objects::of(self.folder);
        let pod = &objects.one("Deployment", Some(self.workload))["spec"]["template"];
        let route = &objects.one("VirtualService", None)["spec"]["http"][0];
        let target = &route["route"][0]["destination"];
        let app = cluster_name(target["host"].as_str().expect("a host"), &target["port"]["number"]);
        let plugin = objects.one("WasmPlugin", None);
        let configuration = &plugin["spec"]["pluginConfig"];
        let store = configuration["store"]["cluster"].as_str().expect("a cluster").to_owned();

        let manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": format!("outbound_0.0.0.0_{}", self.port),
            "use_remote_address": self.context == "GATEWAY",
            "normalize_path": true,
            "stream_idle_timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "access_log": [access_log(&objects)],
            "http_filters": self.filters(plugin, pod),
            "route_config": {
                "name": self.routes,
                "validate_clusters": false,
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [routed(route, &app)]}],
            },
        });
        let mut listener = json!({
            "name": format!("0.0.0.0_{}", self.port),
            "address": {"socket_address": {"address": "0.0.0.0", "port_value": self.port}},
            "filter_chains": [{"filters": [{"name": CONNECTION_MANAGER, "typed_config": manager}]}],
        });
        let filter = objects.one("EnvoyFilter", None);
        selects(&filter["spec"]["workloadSelector"]["labels"], pod);
        for patch in filter["spec"]["configPatches"].as_array().expect("patches") {
            self.apply(patch, &mut listener);
        }
        listener["address"] = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        let clusters = [(&app, "app", false), (&store, "mooring-store", true)];
        let clusters =
            clusters.map(|(name, rule, http2)| cluster(name, objects.one("DestinationRule", Some(rule)), http2));
        Rendered {
            bootstrap: bootstrap(listener, &clusters),
            app,
            store,
            environment: environment(pod),
            arguments: vec!["--config-yaml".into(), custom_bootstrap(&objects, pod)],
        }
    }

    /// In Istio's order: plugins without a phase come after authentication and authorization, of which there is none here, and
    /// before the rest.
    fn filters(&self, plugin: &Value, pod: &Value) -> Value {
        selects(&plugin["spec"]["selector"]["matchLabels"], pod);
        for selector in plugin["spec"]["match"].as_array().into_iter().flatten() {
            assert_eq!(
                (selector["mode"].as_str(), &selector["ports"]),
                (Some("CLIENT"), &json!([{"number": self.port}]))
            );
        }
        assert!(plugin["spec"]["phase"].is_null());
        json!([
            extension(plugin),
            {"name": "envoy.filters.http.grpc_stats", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
                "emit_filter_state": true}},
            {"name": "envoy.filters.http.fault", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}},
            {"name": "envoy.filters.http.cors", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}},
            {"name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
        ])
    }

    /// Applies a patch, where it matches: it must.
    fn apply(&self, patch: &Value, listener: &mut Value) {
        let (value, matched) = (&patch["patch"]["value"], &patch["match"]);
        assert_eq!(matched["context"], self.context);
        let network = &mut listener["filter_chains"][0]["filters"][0];
        let chain = &matched["listener"]["filterChain"]["filter"];
        let ports = [&matched["listener"]["portNumber"], &matched["routeConfiguration"]["portNumber"]];
        assert!(ports.into_iter().all(|port| port.is_null() || *port == self.port), "{patch}");
        match (patch["applyTo"].as_str().expect("text"), patch["patch"]["operation"].as_str().expect("text")) {
            ("NETWORK_FILTER", "MERGE") => {
                assert_eq!(chain["name"], network["name"]);
                merge(&mut network["typed_config"], &value["typed_config"]);
            }
            ("HTTP_FILTER", "INSERT_BEFORE") => {
                assert_eq!(chain["name"], network["name"]);
                let filters = network["typed_config"]["http_filters"].as_array_mut().expect("filters");
                let before = filters.iter().position(|filter| filter["name"] == chain["subFilter"]["name"]);
                filters.insert(before.expect("the filter to stand before"), value.clone());
            }
            ("ROUTE_CONFIGURATION", "MERGE") => merge(&mut network["typed_config"]["route_config"], value),
            other => panic!("what Istio makes of {other:?} is not known here"),
        }
    }
}

/// The pods have these labels.
fn selects(labels: &Value, pod: &Value) {
    let labels = labels.as_object().expect("labels");
    assert!(!labels.is_empty());
    labels.iter().for_each(|(name, value)| assert_eq!(pod["metadata"]["labels"][name], *value));
}

/// The HTTP filter of a `WasmPlugin` or `TrafficExtension`: a reference. The filter itself comes by ECDS; until there is a file
/// for that, it stands in `ecds`.
fn extension(plugin: &Value) -> Value {
    let text = |at: &str| plugin["metadata"][at].as_str().expect("text");
    let name = format!("{}.{}", text("namespace"), text("name"));
    let filter = json!({"@type": WASM, "config": plugin_config(plugin)});
    json!({"name": name, "config_discovery": {"ecds": filter, "type_urls": [WASM, RBAC]}})
}

/// Envoy's `PluginConfig`, as Istio's agent passes it on: the code is fetched, and stands in a file.
fn plugin_config(plugin: &Value) -> Value {
    let spec = if plugin["kind"] == "TrafficExtension" { &plugin["spec"]["wasm"] } else { &plugin["spec"] };
    let url = spec["url"].as_str().expect("text");
    assert!(url.starts_with("oci://"));
    let mut host_keys = Vec::new();
    for variable in spec["vmConfig"]["env"].as_array().into_iter().flatten() {
        assert_eq!(variable["valueFrom"], "HOST");
        host_keys.push(variable["name"].clone());
    }
    let policy = match spec["failStrategy"].as_str() {
        Some("FAIL_RELOAD") => "FAIL_RELOAD",
        Some("FAIL_OPEN") => "FAIL_OPEN",
        _ => "FAIL_CLOSED",
    };
    let text = |at: &str| plugin["metadata"][at].as_str().expect("text");
    json!({
        "name": format!("{}.{}", text("namespace"), text("name")),
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": sorted(&spec["pluginConfig"]),
        },
        "failure_policy": policy,
        // Neither a vm_id nor a reload_config: Istio sets none.
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": plugin_path().to_string_lossy()}},
            "environment_variables": {
                "host_env_keys": host_keys,
                "key_values": {
                    "ISTIO_META_WASM_IMAGE_PULL_POLICY": spec["imagePullPolicy"],
                    "ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION": "1",
                },
            },
        },
    })
}

/// A route of a `VirtualService`.
fn routed(route: &Value, cluster: &str) -> Value {
    json!({"match": {"prefix": "/"}, "route": {
        "cluster": cluster,
        "timeout": route["timeout"],
        "retry_policy": {
            "retry_on": route["retries"]["retryOn"],
            "num_retries": route["retries"]["attempts"],
            "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}],
            "host_selection_retry_max_attempts": 5,
        },
    }})
}

/// A cluster, as a `DestinationRule` has it. Its hosts come later.
fn cluster(name: &str, rule: &Value, http2: bool) -> Value {
    let host = rule["spec"]["host"].as_str().expect("a host");
    assert!(name.ends_with(&format!("||{host}")), "{name} is not of {host}");
    let policy = &rule["spec"]["trafficPolicy"];
    let (tcp, http, outlier) =
        (&policy["connectionPool"]["tcp"], &policy["connectionPool"]["http"], &policy["outlierDetection"]);
    let most = |limit: &Value| if limit.is_null() { json!(u32::MAX) } else { limit.clone() };
    // A count of 0 turns a detector off, and one that is given turns it on.
    let enforced = |count: &Value| if *count == json!(0) { 0 } else { 100 };
    let protocol = if http2 { "http2_protocol_options" } else { "http_protocol_options" };
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "lb_policy": policy["loadBalancer"]["simple"].as_str().unwrap_or("LEAST_REQUEST"),
        "connect_timeout": tcp["connectTimeout"],
        "circuit_breakers": {"thresholds": [{
            "max_connections": most(&tcp["maxConnections"]),
            "max_pending_requests": most(&http["http1MaxPendingRequests"]),
            "max_requests": most(&http["http2MaxRequests"]),
            "max_retries": u32::MAX,
            "track_remaining": true,
        }]},
        "common_lb_config": {"healthy_panic_threshold": {}},
        "outlier_detection": {
            "enforcing_success_rate": 0,
            "max_ejection_percent": outlier["maxEjectionPercent"],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {protocol: {}},
        }},
    });
    let detection = &mut cluster["outlier_detection"];
    for (given, count, enforcing) in [
        ("consecutive5xxErrors", "consecutive_5xx", "enforcing_consecutive_5xx"),
        ("consecutiveGatewayErrors", "consecutive_gateway_failure", "enforcing_consecutive_gateway_failure"),
        (
            "consecutiveLocalOriginFailures",
            "consecutive_local_origin_failure",
            "enforcing_consecutive_local_origin_failure",
        ),
    ] {
        if !outlier[given].is_null() {
            detection[count] = outlier[given].clone();
            detection[enforcing] = enforced(&outlier[given]).into();
        }
    }
    for (given, name) in [("interval", "interval"), ("baseEjectionTime", "base_ejection_time")] {
        if !outlier[given].is_null() {
            detection[name] = outlier[given].clone();
        }
    }
    if outlier["splitExternalLocalOriginErrors"] == true {
        detection["split_external_local_origin_errors"] = true.into();
        detection["enforcing_local_origin_success_rate"] = 0.into();
    }
    if !http["idleTimeout"].is_null() {
        let options =
            &mut cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        options["common_http_protocol_options"] = json!({"idle_timeout": http["idleTimeout"]});
    }
    cluster
}

/// What Istio's bootstrap has that matters here: its own stat tags, and which stats are kept.
fn bootstrap(listener: Value, clusters: &[Value]) -> Value {
    let tag = |name: &str, regex: &str| json!({"tag_name": name, "regex": regex});
    let prefixes = [
        "reporter=",
        "cluster_manager",
        "listener_manager",
        "server",
        "cluster.xds-grpc",
        "wasm",
        "component",
        "istio",
    ];
    let prefixes = prefixes.map(|prefix| json!({"prefix": prefix}));
    json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "stats_config": {
            "use_all_default_tags": false,
            "stats_tags": [
                tag("cluster_name", r"^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)"),
                tag("response_code", r"_rq(_(\d{3}))$"),
                tag("response_code", r"(response_code=\.=(.*?);\.;)"),
                tag("cache", r"(cache\.(.+?)\.)"),
                tag("component", r"(component\.(.+?)\.)"),
                tag("tag", r"(tag\.(.+?);\.)"),
                tag("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
            ],
            "stats_matcher": {"inclusion_list": {"patterns": prefixes}},
        },
        "static_resources": {"listeners": [listener], "clusters": clusters},
    })
}

/// The proxy's variables, from the Secret.
fn environment(pod: &Value) -> Vec<(String, String)> {
    let containers = pod["spec"]["containers"].as_array().expect("containers");
    let proxy = containers.iter().find(|container| container["name"] == "istio-proxy").expect("the proxy");
    found_in(&proxy["env"], &SECRETS)
}

/// The bootstrap that is merged into Istio's: Istio's agent passes it to Envoy as `--config-yaml`.
fn custom_bootstrap(objects: &Objects, pod: &Value) -> String {
    let annotated = pod["metadata"]["annotations"]["sidecar.istio.io/bootstrapOverride"].as_str();
    let name = annotated.unwrap_or_else(|| {
        // A gateway has no such annotation: a variable, and a volume.
        let containers = pod["spec"]["containers"].as_array().expect("containers");
        let proxy = containers.iter().find(|container| container["name"] == "istio-proxy").expect("the proxy");
        let variables = proxy["env"].as_array().expect("variables");
        let variable =
            variables.iter().find(|variable| variable["name"] == "ISTIO_BOOTSTRAP_OVERRIDE").expect("the variable");
        let mount = &proxy["volumeMounts"][0];
        assert_eq!(
            variable["value"],
            format!("{}/custom_bootstrap.json", mount["mountPath"].as_str().expect("a path"))
        );
        let volume = &pod["spec"]["volumes"][0];
        assert_eq!(mount["name"], volume["name"]);
        volume["configMap"]["name"].as_str().expect("a name")
    });
    objects.one("ConfigMap", Some(name))["data"]["custom_bootstrap.json"].as_str().expect("text").to_owned()
}

/// The access log that a `Telemetry` asks for, as the mesh defines it.
fn access_log(objects: &Objects) -> Value {
    let provider = &objects.one("Telemetry", None)["spec"]["accessLogging"][0]["providers"][0]["name"];
    let mesh = file("istio/mesh-values.yaml");
    let providers = mesh[0]["meshConfig"]["extensionProviders"].as_array().expect("providers");
    let found = providers.iter().find(|found| found["name"] == *provider).expect("the provider");
    file_log(&found["envoyFileAccessLog"]["logFormat"]["text"])
}

#[test]
fn istio_s_gateway_keeps_sessions() {
    Stage::start(&GATEWAY.rendered()).keeps_its_promises();
}

#[test]
fn a_sidecar_keeps_sessions_on_the_way_out() {
    Stage::start(&SIDECAR.rendered()).keeps_its_promises();
}

#[test]
fn without_the_plugin_no_client_of_istio_chooses_a_host() {
    for place in [GATEWAY, SIDECAR] {
        let mut rendered = place.rendered();
        rendered.filters().retain(|filter| filter["config_discovery"].is_null());
        Stage::start(&rendered).lets_no_client_choose();
    }
}

#[test]
fn without_the_bootstrap_the_labels_come_by_relabelling() {
    let mut rendered = GATEWAY.rendered();
    rendered.arguments.clear();
    let mut stage = Stage::start(&rendered);
    stage.serves_a_new_client();
    let names = stage.prometheus(0);
    let names = names.lines().filter_map(|line| line.split_once('{').or_else(|| line.split_once(' ')));
    let metrics: Vec<_> = names.map(|(name, _)| crate::labels::relabelled(name)).collect();
    let labels = [("outcome", "created"), ("by", "cookie")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let labels = std::collections::BTreeMap::from(labels);
    assert!(metrics.contains(&("mooring_sessions".to_owned(), labels)), "{metrics:?}");
}

/// By ECDS, as nowhere else, Envoy starts without its plugin, and answers 500.
#[test]
fn a_refused_configuration_changes_nothing_but_at_the_start() {
    let mut rendered = GATEWAY.rendered();
    let mut stage = Stage::start(&rendered);
    let mut browser = stage.serves_a_new_client();
    let cookies = browser.cookies.clone();
    stage.discovers_nonsense();
    assert_eq!((stage.status(&mut browser), &browser.cookies), (200, &cookies));
    drop(stage);

    rendered.environment.retain(|(name, _)| name != "MOORING_KEY_2026_11");
    assert_eq!(Stage::start(&rendered).status(&mut browser), 500);
}

#[test]
fn a_traffic_extension_is_the_same_plugin() {
    let objects = Objects::of("istio/gateway");
    let extension = &file("istio/gateway/traffic-extension.yaml")[0];
    let plugin = objects.one("WasmPlugin", None);
    assert_eq!(plugin_config(extension), plugin_config(plugin));
    assert_eq!(extension["spec"]["selector"], plugin["spec"]["selector"]);
}

#[test]
fn a_store_outside_of_the_mesh_has_the_cluster_that_is_said() {
    let text =
        std::fs::read_to_string(mooring_test_kit::servers::root().join("deploy/istio/common/store-outside.yaml"))
            .expect("text");
    let [entry, rule] = &file("istio/common/store-outside.yaml")[..] else { panic!("two objects") };
    let name = cluster_name(entry["spec"]["hosts"][0].as_str().expect("a host"), &entry["spec"]["ports"][0]["number"]);
    assert!(text.contains(&format!("cluster: {name}\n")), "{name}");
    cluster(&name, rule, true);
}
