//! Labels for Prometheus: by stat tags in Envoy, or by relabelling what an Envoy without them shows.

use crate::objects::{Objects, file};
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;

/// A metric: its name, and its labels.
type Metric = (String, BTreeMap<String, String>);

/// One of each kind that the plugin has.
const STATS: [&str; 19] = [
    "mooring_requests.session=unconfirmed",
    "mooring_sessions.outcome=pin_ignored.by=cookie",
    "mooring_sessions_displaced.reason=unavailable",
    "mooring_sessions_pinned.host=10.0.0.1:8080",
    "mooring_sessions_pinned.host=[fd00::1]:8080",
    "mooring_sessions_pinned.host=other",
    "mooring_tokens_accepted.key=2026-11",
    "mooring_tokens_refused.reason=expired_absolute",
    "mooring_store_calls.operation=lookup.result=missing",
    "mooring_lookups_shared",
    "mooring_cache_hits.cache=sessions",
    "mooring_cache_misses.cache=tokens",
    "mooring_cache_evictions.cache=sessions",
    "mooring_faults.kind=store_left_alone",
    "mooring_session_lifetime.reason=expired_idle",
    "mooring_cache_entries.cache=tokens",
    "mooring_store_breaker_open",
    "mooring_config.version=0a1b2c3d",
    "mooring_build.plugin=0.1.0",
];

/// As Envoy writes a name or a value of a label that comes of one.
fn sanitised(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

/// What an Envoy with these stat tags shows of a stat: each takes its first group out of the name, the second is the label's
/// value.
fn tagged(stat: &str, tags: &Value) -> Metric {
    let full = format!("wasmcustom.{stat}");
    let mut rest = full.clone();
    let mut labels = BTreeMap::new();
    for tag in tags.as_array().expect("tags") {
        let regex = Regex::new(tag["regex"].as_str().expect("text")).expect("a regex");
        if let Some(found) = regex.captures(&full) {
            rest = rest.replace(&found[1], "");
            labels.insert(tag["tag_name"].as_str().expect("a name").to_owned(), found[2].to_owned());
        }
    }
    (sanitised(rest.trim_start_matches("wasmcustom.")), labels)
}

/// What Prometheus makes of a name by the shipped rules.
pub fn relabelled(name: &str) -> Metric {
    let mut name = name.to_owned();
    let mut labels = BTreeMap::new();
    for rule in file("istio/prometheus.yaml")[0]["metric_relabel_configs"].as_array().expect("rules") {
        assert_eq!(rule["source_labels"], serde_json::json!(["__name__"]));
        let regex = format!("^(?:{})$", rule["regex"].as_str().expect("text"));
        let Some(found) = Regex::new(&regex).expect("a regex").captures(&name) else { continue };
        let mut value = String::new();
        found.expand(rule["replacement"].as_str().unwrap_or("$1"), &mut value);
        match rule["target_label"].as_str().expect("a label") {
            "__name__" => name = value,
            label => drop(labels.insert(label.to_owned(), value)),
        }
    }
    (name, labels)
}

/// The tags of each bootstrap.
fn bootstraps() -> [Value; 3] {
    let json = |text: &Value| -> Value { serde_norway::from_str(text.as_str().expect("text")).expect("YAML") };
    let custom = |folder: &str| {
        json(&Objects::of(folder).one("ConfigMap", Some("mooring-bootstrap"))["data"]["custom_bootstrap.json"])
    };
    let gateway = Objects::of("envoy-gateway");
    let bootstraps = [
        custom("istio/gateway"),
        custom("istio/sidecar"),
        json(&gateway.one("EnvoyProxy", None)["spec"]["bootstrap"]["value"]),
    ];
    bootstraps.map(|bootstrap| bootstrap["stats_config"]["stats_tags"].clone())
}

#[test]
fn stat_tags_and_relabelling_lead_to_the_same_labels() {
    let tags = mooring_test_kit::rig::shipped("envoy.yaml")["stats_config"]["stats_tags"].clone();
    bootstraps().iter().for_each(|bootstrap| assert_eq!(*bootstrap, tags));
    for stat in STATS {
        let (name, labels) = tagged(stat, &tags);
        let expected = stat.split('.').next().expect("a name");
        assert_eq!(name, expected);
        assert_eq!(labels.len(), stat.matches('=').count(), "{stat}: {labels:?}");
        let of_names = labels.into_iter().map(|(label, value)| (label, sanitised(&value)));
        let found = relabelled(&sanitised(stat));
        assert_eq!(found, (name, of_names.collect()), "{stat}");
    }
}

#[test]
fn the_parts_of_a_histogram_are_relabelled_as_well() {
    for (name, label, value) in [
        ("mooring_store_call_time_operation_lookup", "operation", "lookup"),
        ("mooring_session_lifetime_reason_expired_idle", "reason", "expired_idle"),
    ] {
        for part in ["_bucket", "_sum", "_count"] {
            let (base, _) = name.rsplit_once(&format!("_{label}_")).expect("a label");
            let labels = BTreeMap::from([(label.to_owned(), value.to_owned())]);
            assert_eq!(relabelled(&format!("{name}{part}")), (format!("{base}{part}"), labels));
        }
    }
}

#[test]
fn what_is_not_the_plugins_is_left_alone() {
    for name in [
        "istio_requests_total",
        "mooring_store_requests_total",
        "envoy_cluster_upstream_rq",
        "mooring_session_lifetime",
    ] {
        assert_eq!(relabelled(name), (name.to_owned(), BTreeMap::new()));
    }
}
