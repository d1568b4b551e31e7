//! What is around a plugin in Envoy's configuration, and what commonly goes wrong there.

use crate::files::{is_type, member};
use mooring::config::{Config, Failover, Via};
use serde_json::Value;

/// What a file shows around a plugin. Empty where it shows nothing.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// The clusters that it names.
    pub clusters: Vec<String>,
    /// Whether there are no others.
    all_clusters: bool,
    chain: Option<Chain>,
}

/// The filter chain that the plugin is in.
struct Chain {
    bridges: Vec<Bridge>,
    /// Which headers are removed before any filter. `None`: the file does not show the connection manager.
    removed: Option<Vec<String>>,
    retries: bool,
}

/// A `stateful_session` filter with header state.
struct Bridge {
    behind: bool,
    header: String,
    strict: bool,
}

/// Something that the plugin's own configuration cannot show, and that is likely to be wrong.
pub(crate) struct Warning {
    /// Its name, for programs.
    pub kind: &'static str,
    /// What it is, and what to do.
    pub text: String,
}

impl Surroundings {
    /// Of the plugin that is in this chain, if it is in one: a connection manager, and a position there.
    pub(crate) fn of(document: &Value, chain: Option<(&Value, usize)>) -> Self {
        let bootstrap = member(document, "static_resources");
        let clusters = member(bootstrap, "clusters").as_array().into_iter().flatten();
        Self {
            clusters: clusters.filter_map(|cluster| cluster["name"].as_str()).map(str::to_owned).collect(),
            all_clusters: bootstrap.is_object() && member(document, "dynamic_resources").is_null(),
            chain: chain.map(|(manager, position)| Chain::of(manager, position)),
        }
    }

    /// What is likely to be wrong around a plugin with this configuration.
    pub(crate) fn warnings(&self, config: &Config) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |kind, text| warnings.push(Warning { kind, text });
        let header = config.policy.upstream.header.as_str();
        if let Some(chain) = &self.chain {
            if config.policy.upstream.via == Via::StatefulSession {
                chain.check_bridge(header, config.policy.upstream.failover, &mut warn);
            }
            if config.policy.upstream.failover == Failover::None && chain.retries {
                let text =
                    "upstream.failover is none, and a route has a retry_policy: a retry goes to any host. Take the \
                            retry_policy away"
                        .to_owned();
                warn("retries", text);
            }
            if let Some(removed) = &chain.removed {
                let session_header = Some(&config.policy.app.session_header).filter(|header| header.enabled);
                let internal = [Some(header), session_header.map(|header| header.name.as_str())];
                let open: Vec<_> =
                    internal.into_iter().flatten().filter(|name| !removed.iter().any(|gone| gone == name)).collect();
                if !open.is_empty() {
                    let text = format!(
                        "clients can send {} while the plugin is away: remove it with early_header_mutation_extensions of \
                         the connection manager",
                        open.join(" and ")
                    );
                    warn("headers_not_removed", text);
                }
            }
        }
        if let Some(store) = &config.shared.store
            && self.all_clusters
            && !self.clusters.contains(&store.endpoint.cluster)
        {
            let text = format!("store.cluster is {}, and no cluster of the file is called so", store.endpoint.cluster);
            warn("store_cluster", text);
        }
        warnings
    }
}

impl Chain {
    fn of(manager: &Value, position: usize) -> Self {
        let filters = member(manager, "http_filters").as_array().into_iter().flatten().enumerate();
        let bridges = filters.filter_map(|(at, filter)| Bridge::of(filter, at > position));
        let routes = member(manager, "route_config");
        let is_shown = is_type(manager, "HttpConnectionManager") || routes.is_object() || manager.get("rds").is_some();
        Self {
            bridges: bridges.collect(),
            removed: is_shown.then(|| removed_early(manager)),
            retries: has_retries(routes),
        }
    }

    fn check_bridge(&self, header: &str, failover: Failover, warn: &mut impl FnMut(&'static str, String)) {
        let what = "a stateful_session filter with header state, called the bridge";
        let behind: Vec<&Bridge> = self.bridges.iter().filter(|bridge| bridge.behind).collect();
        match (behind.iter().find(|bridge| bridge.header == header), behind.first()) {
            (Some(bridge), _) if failover == Failover::None && !bridge.strict => warn(
                "bridge_not_strict",
                "upstream.failover is none, and the bridge is not strict: other hosts will serve. Say strict: true there"
                    .to_owned(),
            ),
            (Some(_), _) => {}
            (None, Some(bridge)) => warn(
                "bridge_header",
                format!("the bridge reads the header {}, and upstream.header is {header}: say one in both", bridge.header),
            ),
            (None, None) if self.bridges.is_empty() => warn(
                "bridge_missing",
                format!("nothing reads {header}: no session will be kept. Behind the plugin there must be {what}"),
            ),
            (None, None) => warn(
                "bridge_before_plugin",
                format!("no session will be kept: {what}, must stand behind the plugin, and stands before it"),
            ),
        }
    }
}

impl Bridge {
    fn of(filter: &Value, behind: bool) -> Option<Self> {
        let config = member(filter, "typed_config");
        let state = member(config, "session_state");
        let is_bridge = is_type(config, "stateful_session.v3.StatefulSession")
            && is_type(member(state, "typed_config"), "HeaderBasedSessionState");
        let header = member(state, "typed_config")["name"].as_str().filter(|_| is_bridge)?.to_ascii_lowercase();
        Some(Self { behind, header, strict: config["strict"] == true })
    }
}

/// The headers that early header mutation removes, in lower case.
fn removed_early(manager: &Value) -> Vec<String> {
    let extensions = member(manager, "early_header_mutation_extensions").as_array().into_iter().flatten();
    let mutations =
        extensions.filter_map(|extension| member(extension, "typed_config")["mutations"].as_array()).flatten();
    mutations.filter_map(|mutation| mutation["remove"].as_str()).map(str::to_ascii_lowercase).collect()
}

fn has_retries(routes: &Value) -> bool {
    match routes {
        Value::Object(members) => {
            let here = ["retry_policy", "retryPolicy"].iter().any(|name| members.contains_key(*name));
            here || members.values().any(has_retries)
        }
        Value::Array(items) => items.iter().any(has_retries),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
