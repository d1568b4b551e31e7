//! The session store of `deploy/kubernetes`: its variables, arguments and probes, tried on the real programs; and its names,
//! which the proxies' configurations use.

use crate::objects::Objects;
use mooring_test_kit::servers::redis::Redis;
use mooring_test_kit::servers::store::Store;
use reqwest::blocking::{Client, Response};
use serde_json::Value;

const TOKEN: &str = "let-me-in";
const PASSWORD: &str = "redis-is-shut";

fn get(url: &str, token: Option<&str>) -> Response {
    let mut request = Client::builder().no_proxy().build().expect("a client").get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().expect("a response")
}

fn container(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]["containers"][0]
}

/// What stands in a mounted file, and where it would come from: `(Secret, its key)`.
fn mounted<'a>(workload: &'a Value, path: &str) -> (&'a str, String) {
    let mounts = container(workload)["volumeMounts"].as_array().expect("mounts");
    let (mount, key) = mounts
        .iter()
        .find_map(|mount| Some((mount, path.strip_prefix(mount["mountPath"].as_str()?)?.strip_prefix('/')?)))
        .unwrap_or_else(|| panic!("nothing is mounted at {path}"));
    let volumes = workload["spec"]["template"]["spec"]["volumes"].as_array().expect("volumes");
    let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("the volume");
    let items = volume["secret"]["items"].as_array();
    let key = items.map_or(key, |items| {
        let item = items.iter().find(|item| item["path"] == key).expect("the file");
        item["key"].as_str().expect("a key")
    });
    (volume["secret"]["secretName"].as_str().expect("a Secret"), key.to_owned())
}

/// The label that lets a namespace reach a port of the store.
fn let_in(policy: &Value, port: u16) -> Vec<&str> {
    let rules = policy["spec"]["ingress"].as_array().expect("rules");
    let rules = rules.iter().filter(|rule| rule["ports"].as_array().is_some_and(|ports| ports[0]["port"] == port));
    let labels = rules.filter_map(|rule| rule["from"][0]["namespaceSelector"]["matchLabels"].as_object());
    labels.flat_map(|labels| labels.keys().map(String::as_str)).collect()
}

#[test]
fn prometheus_reaches_the_metrics_and_no_session_and_proxies_the_other_way_round() {
    let objects = Objects::of("kubernetes");
    let pod = &objects.one("Deployment", None)["spec"]["template"];
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(
        (&annotations["prometheus.io/scrape"], &annotations["prometheus.io/port"]),
        (&"true".into(), &"8481".into())
    );
    assert_eq!(annotations["prometheus.io/path"], "/metrics");
    let policy = objects.one("NetworkPolicy", Some("mooring-store"));
    assert_eq!(let_in(policy, 8481), ["mooring/store-metrics"]);
    assert_eq!(let_in(policy, 8480), ["mooring/store-client"]);
    let file = |path| std::fs::read_to_string(mooring_test_kit::servers::root().join(path)).expect("a file");
    let script = file("scripts/stack.sh");
    let address =
        script.lines().find_map(|line| line.strip_prefix("store_metrics=http://")).expect("the port of `make run`");
    assert!(file("deploy/monitoring/prometheus.yaml").contains(&format!("targets: ['{address}']")), "{address}");
}

#[test]
fn the_store_runs_as_its_deployment_has_it() {
    let objects = Objects::of("kubernetes");
    let deployment = objects.one("Deployment", None);
    let redis = Redis::with_password(PASSWORD);
    let folder = tempfile::tempdir().expect("a folder");
    let mut environment = Vec::new();
    for variable in container(deployment)["env"].as_array().expect("variables") {
        let (name, value) = (variable["name"].as_str().expect("a name"), variable["value"].as_str().expect("a value"));
        let secret = |secret: (&str, &str), content: &str| {
            let (from, key) = mounted(deployment, value);
            assert_eq!((from, key.as_str()), secret, "{name}");
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("a file");
            path.to_string_lossy().into_owned()
        };
        let value = match name {
            "MOORING_STORE_REDIS_PASSWORD_FILE" => secret(("redis", "password"), PASSWORD),
            "MOORING_STORE_TOKEN_FILE" => secret(("mooring-store", "STORE_TOKEN"), TOKEN),
            "MOORING_STORE_REDIS" => {
                assert_eq!(value, "redis://redis:6379");
                format!("redis://127.0.0.1:{}", redis.port)
            }
            _ => value.to_owned(),
        };
        environment.push((name.to_owned(), value));
    }
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert!(environment.contains(&("MOORING_STORE_LISTEN", "0.0.0.0:8480")));
    assert_eq!(container(deployment)["ports"][0]["containerPort"], 8480);
    assert!(environment.contains(&("MOORING_STORE_METRICS_LISTEN", "0.0.0.0:8481")));
    assert_eq!(container(deployment)["ports"][1]["containerPort"], 8481);
    let store = Store::with(&[], &environment);
    let metrics = get(&store.metrics_url(), None).text().expect("metrics");
    assert!(metrics.contains("mooring_store_redis_up"), "{metrics}");
    assert_eq!(get(&store.url("/metrics"), None).status(), 404, "not where every proxy reaches it");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = container(deployment)[probe]["httpGet"]["path"].as_str().expect("a path");
        mooring_test_kit::rig::eventually(path, || (get(&store.url(path), None).status() == 200).then_some(()));
    }
    let session = store.url("/v1/sessions/mooring:yfeHTZUbokm3zjVDftAsfRe-PeN3-3xAUHALh3rPAss");
    assert_eq!(get(&session, None).status(), 401);
    assert_eq!(get(&session, Some(TOKEN)).status(), 404);
}

#[test]
fn redis_keeps_everything_as_its_stateful_set_has_it() {
    let objects = Objects::of("kubernetes");
    let container = container(objects.one("StatefulSet", None));
    let mut arguments: Vec<&str> = container["args"]
        .as_array()
        .expect("arguments")
        .iter()
        .map(|argument| argument.as_str().expect("text"))
        .collect();
    let at = arguments.iter().position(|argument| *argument == "--dir").expect("a folder");
    let folder: Vec<&str> = arguments.drain(at..at + 2).collect();
    assert_eq!(folder[1], container["volumeMounts"][0]["mountPath"]);
    let redis = Redis::with(&arguments);
    for (setting, value) in [("maxmemory-policy", "noeviction"), ("appendonly", "yes"), ("maxmemory", "268435456")] {
        let told: Vec<String> = redis.ask(&["CONFIG", "GET", setting]).expect("an answer");
        assert_eq!(told, [setting, value]);
    }
    let (secret, key) = mounted(objects.one("StatefulSet", None), container["command"][1].as_str().expect("a file"));
    assert_eq!((secret, key.as_str()), ("redis", "auth.conf"));
}

#[test]
fn proxies_call_the_store_by_the_names_of_its_services() {
    let objects = Objects::of("kubernetes");
    let port = |name: &str| {
        let service = objects.one("Service", Some(name));
        assert_eq!(service["metadata"]["namespace"], "mooring");
        assert_eq!(
            service["spec"]["selector"],
            objects.one("Deployment", None)["spec"]["template"]["metadata"]["labels"]
        );
        service["spec"]["ports"][0]["port"].clone()
    };
    for folder in ["istio/gateway", "istio/sidecar"] {
        let istio = Objects::of(folder);
        let store = &istio.one("WasmPlugin", None)["spec"]["pluginConfig"]["store"];
        let host = "mooring-store.mooring.svc.cluster.local";
        assert_eq!(store["cluster"], format!("outbound|{}||{host}", port("mooring-store")));
        assert_eq!(store["authority"], host);
    }
    let gateway = Objects::of("envoy-gateway");
    let patches = gateway.one("EnvoyPatchPolicy", None)["spec"]["jsonPatches"].as_array().expect("patches");
    let cluster = patches.iter().find(|patch| patch["name"] == "session_store").expect("the cluster");
    let endpoint = &cluster["operation"]["value"]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    let address = &endpoint["address"]["socket_address"];
    assert_eq!(address["address"], "mooring-store-pods.mooring.svc.cluster.local");
    assert_eq!(address["port_value"], port("mooring-store-pods"));
    assert_eq!(objects.one("Service", Some("mooring-store-pods"))["spec"]["clusterIP"], "None");
}

/// The namespace enforces Kubernetes' profile `restricted`: a pod that does not keep to it would not be started.
#[test]
fn pods_ask_for_no_more_than_the_namespace_allows() {
    let objects = Objects::of("kubernetes");
    assert_eq!(
        objects.one("Namespace", None)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        "restricted"
    );
    for kind in ["Deployment", "StatefulSet"] {
        let pod = &objects.one(kind, None)["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for volume in pod["volumes"].as_array().expect("volumes") {
            assert!(volume["secret"].is_object(), "{volume}");
        }
        for container in pod["containers"].as_array().expect("containers") {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["capabilities"], serde_json::json!({"drop": ["ALL"]}));
        }
    }
}
