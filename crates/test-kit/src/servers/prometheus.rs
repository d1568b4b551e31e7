//! Prometheus.

use super::{Process, eventually, tool};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A running Prometheus.
pub struct Prometheus {
    /// Killed before its folder goes.
    _process: Process,
    _folder: TempDir,
    client: reqwest::blocking::Client,
    address: String,
}

/// A series' labels, without its name.
pub type Labels = BTreeMap<String, String>;

impl Prometheus {
    /// Starts one with this configuration, and these rules as `rules.yaml` beside it.
    pub fn start(configuration: &Value, rules: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // JSON is YAML.
        for (name, content) in [("prometheus.yaml", configuration), ("rules.yaml", rules)] {
            std::fs::write(folder.path().join(name), content.to_string()).expect("a file");
        }
        let client = reqwest::blocking::Client::builder().no_proxy().build().expect("a client");
        let program = tool("MOORING_PROMETHEUS", "prometheus");
        let (process, address) = eventually("a Prometheus on a free port", || {
            let address = format!("127.0.0.1:{}", super::free_port());
            let log = std::fs::File::create(folder.path().join("log")).expect("a log");
            let mut command = Command::new(&program);
            command.current_dir(folder.path()).args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data"]);
            command.arg(format!("--web.listen-address={address}")).stdout(Stdio::null()).stderr(log);
            let mut process = Process::spawn(&mut command);
            let ready = eventually("Prometheus to be ready", || {
                if process.ended().is_some() {
                    return Some(false);
                }
                let answer = client.get(format!("http://{address}/-/ready")).send().ok()?;
                answer.status().is_success().then_some(true)
            });
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(ready || log.contains("address already in use"), "Prometheus ended:\n{log}");
            ready.then_some((process, address))
        });
        Self { _process: process, _folder: folder, client, address }
    }

    /// Asks its API, which must agree.
    pub fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let url = reqwest::Url::parse_with_params(&url, parameters).expect("a URL");
        let text = self.client.get(url).send().expect("Prometheus").text().expect("text");
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path} {parameters:?}: {text}"));
        assert_eq!(answer["status"], "success", "{path} {parameters:?}: {answer}");
        answer["data"].take()
    }

    /// What an expression comes to now: each series' labels and value.
    pub fn query(&self, expression: &str) -> Vec<(Labels, f64)> {
        let data = self.ask("query", &[("query", expression)]);
        assert_eq!(data["resultType"], "vector", "{expression}");
        let sample = |sample: &Value| {
            let mut labels: Labels = serde_json::from_value(sample["metric"].clone()).expect("labels");
            labels.remove("__name__");
            (labels, sample["value"][1].as_str().expect("a value").parse().expect("a number"))
        };
        data["result"].as_array().expect("samples").iter().map(sample).collect()
    }

    /// The one value that an expression comes to, if it comes to one.
    pub fn value(&self, expression: &str) -> Option<f64> {
        match self.query(expression).as_slice() {
            [(_, value)] => Some(*value),
            _ => None,
        }
    }
}
