//! A model of Envoy around the filter: routes, hosts with health, round robin, both bridges, one retry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mooring::ids::StreamId;
use mooring::shell::contexts::Action;
use mooring_test_kit::fake::{Call, Line, Stream};
use mooring_test_kit::proxy::{Proxy, ROOT, line};
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
    pub proxy: Proxy,
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
    fn wanted(&self, id: StreamId) -> Option<String> {
        match self.bridge {
            Bridge::StatefulSession | Bridge::Strict => self.proxy.asked(id),
            Bridge::OverrideHost => self.proxy.request_header(id, "x-mooring-host"),
        }
    }

    /// The proxy's and the upstream's part of a request.
    fn forward(&mut self, cluster: Option<usize>, path: &str, wanted: Option<&str>) -> Answer {
        let local = |status: &str, served| Answer { local: true, served, headers: vec![line(":status", status)] };
        let Some(cluster) = cluster else { return local("200", None) };
        let ignores_health = self.bridge == Bridge::OverrideHost;
        let usable = |host: &&Host| host.state != HostState::Unhealthy || ignores_health;
        let cluster = &mut self.clusters[cluster];
        let found = cluster.hosts.iter().filter(usable).find(|host| Some(host.address) == wanted);
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
        let healthy = |(name, address)| Host { name, address, state: HostState::Healthy };
        let app = [("a", "127.0.0.1:9001"), ("b", "127.0.0.1:9002"), ("c", "127.0.0.1:9003")].map(healthy);
        let other = [("d", "127.0.0.1:9004"), ("e", "127.0.0.1:9005")].map(healthy);
        Self {
            proxy: Proxy::with(&setup.plugin),
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
        let mut stream = Stream { request_headers: vec![line(":path", &request.path)], ..Stream::default() };
        stream.request_headers.extend(request.headers.iter().map(|(name, value)| line(name, value)));
        stream.set_property("xds.cluster_name", cluster.map(|cluster| self.clusters[cluster].name));
        let (id, action) = self.proxy.begin(ROOT, stream);
        assert_eq!(action, Action::Continue);

        let wanted = self.wanted(id);
        let answer = self.forward(cluster, &request.path, wanted.as_deref());
        let mut upstream_got = std::mem::take(&mut self.proxy.host.state().stream().request_headers);
        upstream_got.retain(|(name, _)| name != b"x-mooring-host");
        let address = answer.served.map(|(_, address)| address);
        let mut headers = answer.headers;
        if let Some(address) = address
            && self.bridge != Bridge::OverrideHost
            && wanted.as_deref() != Some(address)
        {
            headers.retain(|(name, _)| name != b"x-mooring-host");
            headers.push(line("x-mooring-host", STANDARD.encode(address)));
        }
        if self.mend_for_responses {
            self.proxy.host.break_call(Call::EditHeader, 0);
        }
        let details = if answer.local { "local" } else { "via_upstream" };
        let cluster = cluster.map(|cluster| self.clusters[cluster].name);
        assert_eq!(self.proxy.respond(id, headers, details, address, cluster), Action::Continue);
        let stream = self.proxy.end(id);

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
        self.proxy.pass(Duration::from_secs(seconds));
    }

    /// A new VM: what the old one knew is gone.
    fn reconfigure(&mut self, plugin: Value) {
        self.proxy.tick(ROOT);
        self.proxy.start(&plugin);
    }

    fn restart(&mut self) {
        let plugin = serde_json::from_slice(&self.proxy.host.state().configuration).expect("a configuration");
        self.reconfigure(plugin);
    }

    fn counter(&mut self, name: &str) -> u64 {
        self.proxy.counter(name)
    }
}
