//! A model of Envoy around the filter: routes, hosts with health, round robin, both bridges, one retry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mooring::clock::UnixTime;
use mooring::ids::StreamId;
use mooring::shell::contexts::{Action, Contexts};
use mooring_test_kit::fake::{Call, FakeProxy, Line};
use mooring_test_kit::proxy::{ROOT, line};
use mooring_test_kit::tokens;
use mooring_test_kit::world::{Bridge, HostState, Request, Response, Setup, World};
use serde_json::Value;
use std::time::Duration;

struct Host {
    name: &'static str,
    address: &'static str,
    state: HostState,
}

struct Cluster {
    name: &'static str,
    hosts: Vec<Host>,
    turn: usize,
}

pub struct FakeWorld {
    pub host: FakeProxy,
    contexts: Contexts<FakeProxy>,
    streams: u32,
    bridge: Bridge,
    clusters: [Cluster; 2],
    weighted_turn: usize,
    /// Header edits that fail in a request work again in its response.
    pub mend_for_responses: bool,
}

/// What the upstream, or the proxy itself, answered.
struct Answer {
    local: bool,
    served: Option<(&'static str, &'static str)>,
    headers: Vec<Line>,
}

impl FakeWorld {
    fn contexts(host: &FakeProxy, plugin: &Value) -> Contexts<FakeProxy> {
        host.state().configuration = plugin.to_string().into_bytes();
        let mut contexts = Contexts::new(host.clone());
        contexts.on_root_create(ROOT);
        assert!(contexts.on_configure(ROOT), "{:?}", host.state().log);
        contexts
    }

    /// The routed cluster: 0 is `app`, 1 is `other`.
    fn route(&mut self, path: &str) -> Option<usize> {
        if path.starts_with("/local") {
            return None;
        }
        if path.starts_with("/weighted") {
            self.weighted_turn += 1;
            return Some(self.weighted_turn % 2);
        }
        Some(usize::from(path.starts_with("/other")))
    }

    /// The host that the override header asks for.
    fn wanted(&self) -> Option<String> {
        let mut state = self.host.state();
        let value = state.stream().request_headers.iter().find(|(name, _)| name == b"x-mooring-host")?.1.clone();
        match self.bridge {
            Bridge::StatefulSession | Bridge::Strict => String::from_utf8(STANDARD.decode(value).ok()?).ok(),
            Bridge::OverrideHost => String::from_utf8(value).ok(),
        }
    }

    /// The proxy's and the upstream's part of a request.
    fn forward(&mut self, cluster: Option<usize>, path: &str) -> Answer {
        let local = |status: &str, served| Answer { local: true, served, headers: vec![line(":status", status)] };
        let Some(cluster) = cluster else { return local("200", None) };
        let wanted = self.wanted();
        let ignores_health = self.bridge == Bridge::OverrideHost;
        let usable = |host: &&Host| host.state != HostState::Unhealthy || ignores_health;
        let cluster = &mut self.clusters[cluster];
        let found = cluster.hosts.iter().filter(usable).find(|host| Some(host.address) == wanted.as_deref());
        if self.bridge == Bridge::Strict && wanted.is_some() && found.is_none() {
            return local("503", None);
        }
        let first = found.map(|host| (host.name, host.address, host.state));
        let mut balanced = || {
            let healthy: Vec<&Host> = cluster.hosts.iter().filter(|host| host.state != HostState::Unhealthy).collect();
            cluster.turn += 1;
            healthy.get(cluster.turn % healthy.len().max(1)).map(|host| (host.name, host.address, host.state))
        };
        let mut attempt = first.or_else(&mut balanced);
        for _ in 0..3 {
            if attempt.is_some_and(|(_, _, state)| state == HostState::Dead) {
                attempt = balanced();
            }
        }
        match attempt {
            Some((name, address, HostState::Healthy | HostState::Unhealthy)) => {
                Answer { local: false, served: Some((name, address)), headers: upstream_answer(path) }
            }
            Some((name, address, HostState::Dead)) => local("503", Some((name, address))),
            None => local("503", None),
        }
    }

    fn tick(&mut self) {
        self.host.enter(ROOT);
        self.contexts.on_tick(ROOT);
    }

    fn set_property(&self, path: &str, value: Option<&str>) {
        let mut state = self.host.state();
        match value {
            Some(value) => state.stream().properties.insert(path.into(), value.into()),
            None => state.stream().properties.remove(path),
        };
    }
}

/// What `examples/upstream` answers.
fn upstream_answer(path: &str) -> Vec<Line> {
    let mut headers = vec![line(":status", "200")];
    for (key, value) in path.split_once('?').map_or("", |(_, query)| query).split('&').filter_map(|p| p.split_once('='))
    {
        match key {
            "status" => headers[0] = line(":status", value),
            "action" => headers.push(line("x-mooring-action", value)),
            "header" => headers.extend(value.split_once(':').map(|(name, value)| line(name, value))),
            _ => {}
        }
    }
    headers
}

impl World for FakeWorld {
    fn start(setup: Setup) -> Self {
        let host = FakeProxy::default();
        host.state().now = UnixTime(tokens::now());
        let healthy = |(name, address)| Host { name, address, state: HostState::Healthy };
        let app = [("a", "127.0.0.1:9001"), ("b", "127.0.0.1:9002"), ("c", "127.0.0.1:9003")].map(healthy);
        let other = [("d", "127.0.0.1:9004"), ("e", "127.0.0.1:9005")].map(healthy);
        Self {
            contexts: Self::contexts(&host, &setup.plugin),
            streams: 1,
            host,
            bridge: setup.bridge,
            clusters: [
                Cluster { name: "app", hosts: app.into(), turn: 0 },
                Cluster { name: "other", hosts: other.into(), turn: 0 },
            ],
            weighted_turn: 0,
            mend_for_responses: false,
        }
    }

    fn send(&mut self, request: &Request) -> Response {
        let cluster = self.route(&request.path);
        self.streams += 1;
        let id = StreamId(self.streams);
        self.host.enter(id.into());
        self.contexts.on_stream_create(id, ROOT);
        {
            let mut state = self.host.state();
            let stream = state.stream();
            stream.request_headers = vec![line(":path", &request.path)];
            stream.request_headers.extend(request.headers.iter().map(|(name, value)| line(name, value)));
        }
        self.set_property("xds.cluster_name", cluster.map(|cluster| self.clusters[cluster].name));
        assert_eq!(self.contexts.on_request_headers(id), Action::Continue);

        let wanted = self.wanted();
        let answer = self.forward(cluster, &request.path);
        let mut upstream_got = self.host.state().stream().request_headers.clone();
        upstream_got.retain(|(name, _)| name != b"x-mooring-host");
        self.set_property("upstream.address", answer.served.map(|(_, address)| address));
        self.set_property("response.code_details", Some(if answer.local { "local" } else { "via_upstream" }));
        let mut headers = answer.headers;
        if let Some((_, address)) = answer.served
            && self.bridge != Bridge::OverrideHost
            && wanted.as_deref() != Some(address)
        {
            headers.retain(|(name, _)| name != b"x-mooring-host");
            headers.push(line("x-mooring-host", STANDARD.encode(address)));
        }
        {
            let mut state = self.host.state();
            let stream = state.stream();
            stream.request_headers.clear();
            stream.response_headers = headers;
        }
        if self.mend_for_responses {
            self.host.break_call(Call::EditHeader, 0);
        }
        assert_eq!(self.contexts.on_response_headers(id), Action::Continue);
        self.contexts.on_delete(id.into());
        let stream = self.host.state().streams.remove(&id.into()).expect("the stream");

        let text = |lines: &[Line]| -> Vec<(String, Vec<u8>)> {
            lines.iter().map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.clone())).collect()
        };
        let headers = text(&stream.response_headers);
        let status = headers.iter().find(|(name, _)| name == ":status").map(|(_, value)| value.clone());
        Response {
            status: status.and_then(|status| String::from_utf8(status).ok()?.parse().ok()).expect("a status"),
            headers,
            served_by: answer.served.filter(|_| !answer.local).map(|(name, _)| name.to_owned()),
            upstream_got: text(&upstream_got),
        }
    }

    fn set_host(&mut self, name: &str, state: HostState) {
        let hosts = self.clusters.iter_mut().flat_map(|cluster| &mut cluster.hosts);
        hosts.filter(|host| host.name == name).for_each(|host| host.state = state);
    }

    fn pass(&mut self, seconds: u64) {
        {
            let mut state = self.host.state();
            state.now = UnixTime(state.now.0 + seconds);
            state.monotonic += Duration::from_secs(seconds);
        }
        self.tick();
    }

    fn reconfigure(&mut self, plugin: Value) {
        self.tick();
        self.contexts = Self::contexts(&self.host, &plugin);
    }

    fn restart(&mut self) {
        let plugin = serde_json::from_slice(&self.host.state().configuration).expect("a configuration");
        self.reconfigure(plugin);
    }

    fn counter(&mut self, name: &str) -> u64 {
        self.tick();
        self.host.state().counters.get(name).copied().unwrap_or(0)
    }
}
