//! The objects under `deploy/`, as `kubectl` puts them together, and their models.

use mooring_test_kit::servers::{root, tool};
use serde::Deserialize as _;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What `kubectl apply -k` would apply of a folder under `deploy/`.
pub struct Objects(Vec<Value>);

impl Objects {
    pub fn of(folder: &str) -> Self {
        let mut kubectl = Command::new(tool("MOORING_KUBECTL", "kubectl"));
        let output = kubectl.arg("kustomize").arg(root().join("deploy").join(folder)).output().expect("kubectl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(documents(&String::from_utf8(output.stdout).expect("text")))
    }

    /// The only object of this kind, or of this kind and name.
    pub fn one(&self, kind: &str, name: Option<&str>) -> &Value {
        let matches =
            |object: &&Value| object["kind"] == kind && name.is_none_or(|name| object["metadata"]["name"] == name);
        let mut found = self.0.iter().filter(matches);
        let one = found.next().unwrap_or_else(|| panic!("no {kind} {name:?}"));
        assert!(found.next().is_none(), "more than one {kind} {name:?}");
        one
    }
}

/// What a YAML file under `deploy/` holds.
pub fn file(path: &str) -> Vec<Value> {
    documents(&std::fs::read_to_string(root().join("deploy").join(path)).expect("a file"))
}

/// A value as a control plane writes it down: members in the order of their names.
pub fn sorted(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    value.to_string()
}

fn documents(yaml: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(yaml);
    documents.map(|document| Value::deserialize(document).expect("YAML")).collect()
}

/// Merges as protobuf does: messages member by member, lists end to end, anything else is replaced.
pub fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.iter().for_each(|(name, value)| merge(into.entry(name).or_insert(Value::Null), value));
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}

/// Every YAML file under `deploy/` that holds objects for a cluster.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| std::fs::read_to_string(path).expect("text").lines().any(|line| line.starts_with("metadata:")))
        .collect();
    found.sort();
    found
}

/// Has the models read these files.
fn checked(files: &[PathBuf]) -> Output {
    let mut models = Command::new(tool("MOORING_MODELS", "kubernetes-models"));
    models.arg("-B").arg(root().join("tests/deploy/models.py")).args(files).output().expect("Python")
}

#[test]
fn every_object_is_what_its_kind_may_be() {
    let files = files(&root().join("deploy"));
    let output = checked(&files);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let objects: usize = files.iter().map(|path| documents(&std::fs::read_to_string(path).expect("text")).len()).sum();
    assert_eq!(said.lines().filter(|line| line.starts_with("valid: ")).count(), objects);
    assert!(objects >= 40, "{objects} objects");
}

#[test]
fn the_models_refuse_what_a_cluster_would_ignore_or_refuse() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = [
        ("istio/gateway/mooring.yaml", "failStrategy:", "failureStrategy:"),
        ("istio/gateway/mooring.yaml", "failStrategy: FAIL_RELOAD", "failStrategy: RELOAD"),
        ("istio/gateway/mooring.yaml", "INSERT_BEFORE", "PREPEND"),
        ("istio/gateway/traffic-extension.yaml", "  wasm:", "  plugin:"),
        ("istio/gateway/route.yaml", "consecutive5xxErrors: 0", "consecutive5xxErrors: none"),
        ("istio/gateway/route.yaml", "retryOn:", "on:"),
        ("istio/sidecar/workload.yaml", "secretKeyRef:", "secretRef:"),
        ("istio/gateway/telemetry.yaml", "accessLogging:", "accessLog:"),
        ("kubernetes/mooring-store.yaml", "runAsNonRoot: true", "runAsNonRoot: 'true'"),
        ("kubernetes/mooring-store.yaml", "maxSurge: 1", "maxSurge: {}"),
        ("kubernetes/network-policy.yaml", "namespaceSelector:", "namespace:"),
        ("envoy-gateway/mooring.yaml", "hostKeys:", "keys:"),
        ("envoy-gateway/mooring.yaml", "type: JSONPatch", "type: Patch"),
        ("envoy-gateway/proxy.yaml", "envoy.filters.http.wasm", "envoy.filters.http.plugin"),
        ("envoy-gateway/route.yaml", "sessionName:", "name:"),
    ];
    let files = broken.map(|(from, right, wrong)| {
        let text = std::fs::read_to_string(root().join("deploy").join(from)).expect("a file");
        let spoilt = text.replacen(right, wrong, 1);
        assert_ne!(text, spoilt, "{right}");
        let path =
            folder.path().join(format!("{}.yaml", wrong.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")));
        std::fs::write(&path, spoilt).expect("a file");
        path
    });
    let output = checked(&files);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    for path in files {
        let refused = format!("INVALID: {}: ", path.display());
        assert!(said.contains(&refused), "{} passes:\n{said}", path.display());
    }
}
