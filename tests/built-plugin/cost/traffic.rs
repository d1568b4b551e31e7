//! Requests and their responses, as a proxy takes them through the plugin.

use crate::plugin::Plugin;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mooring::clock::UnixTime;
use mooring::ids::ContextId;
use mooring_test_kit::fake::{Line, Sent};
use serde_json::{Value, json};
use std::time::Duration;

const ROOT: u32 = 1;
const NOW: UnixTime = UnixTime(1_800_000_000);

/// A host, as Envoy writes its address, and as the bridge does.
pub struct Host {
    address: &'static str,
    bridge: &'static str,
}

pub const HOME: Host = Host { address: "10.1.2.3:8080", bridge: "MTAuMS4yLjM6ODA4MA==" };
pub const OTHER: Host = Host { address: "10.1.2.4:8080", bridge: "MTAuMS4yLjQ6ODA4MA==" };

/// One worker's plugin, and what it is asked to do.
pub struct Traffic {
    pub plugin: Plugin,
    streams: u32,
}

pub fn line(name: &str, value: impl AsRef<[u8]>) -> Line {
    (name.into(), value.as_ref().into())
}

/// A configuration of so many keys, the first of them `first`, with other members.
pub fn config(first: usize, keys: usize, members: Value) -> Value {
    let secret = |key: usize| STANDARD.encode([key as u8; 32]);
    let key = |at: usize| json!({"id": format!("key-{at}"), "secret": {"base64": secret(at)}});
    let mut config = json!({"keys": (0..keys).map(|at| key((first + at) % keys)).collect::<Vec<_>>()});
    if let (Some(config), Value::Object(members)) = (config.as_object_mut(), members) {
        config.extend(members);
    }
    config
}

/// What a browser sends.
pub fn browser(cookie: Option<&str>) -> Vec<Line> {
    let mut lines = vec![
        line(":authority", "shop.example.com"),
        line(":path", "/cart/items?sort=price"),
        line(":method", "GET"),
        line(":scheme", "https"),
        line("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        line("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        line("accept-language", "en-US,en;q=0.5"),
        line("accept-encoding", "gzip, deflate, br, zstd"),
        line("referer", "https://shop.example.com/cart"),
        line("x-forwarded-for", "203.0.113.7"),
        line("x-request-id", "6b3e9a0e-0d4c-4c51-8a57-2f6b1e7d9c11"),
    ];
    lines.extend(cookie.map(|cookie| line("cookie", cookie)));
    lines
}

/// `cookie` among others.
pub fn among_others(cookie: &str) -> String {
    format!("theme=dark; {cookie}; lang=en")
}

impl Traffic {
    /// A worker that takes this configuration, which is metered.
    pub fn start(config: &Value) -> Self {
        let mut plugin = Plugin::load();
        let size = {
            let mut state = plugin.host.state();
            state.now = NOW;
            state.configuration = config.to_string().into_bytes();
            state.configuration.len() as u32
        };
        plugin.host.enter(ContextId(ROOT));
        plugin.call("proxy_on_context_create", &[ROOT, 0]);
        plugin.call("proxy_on_vm_start", &[ROOT, 0]);
        plugin.forget();
        let accepted = plugin.call("proxy_on_configure", &[ROOT, size]);
        assert_eq!(accepted, Some(1), "{:?}", plugin.host.state().log);
        Self { plugin, streams: 100 }
    }

    /// Lets time pass, until the next tick.
    pub fn pass(&mut self, time: Duration) {
        {
            let mut state = self.plugin.host.state();
            state.now.0 += time.as_secs();
            state.monotonic += time;
        }
        self.tick();
    }

    pub fn tick(&mut self) {
        self.plugin.host.enter(ContextId(ROOT));
        self.plugin.call("proxy_on_tick", &[ROOT]);
    }

    /// A request comes. Whether it is paused.
    pub fn request(&mut self, lines: Vec<Line>) -> (u32, bool) {
        self.streams += 1;
        let id = self.streams;
        self.plugin.host.enter(ContextId(id));
        self.plugin.call("proxy_on_context_create", &[id, ROOT]);
        let count = lines.len() as u32;
        {
            let mut state = self.plugin.host.state();
            let stream = state.stream();
            stream.request_headers = lines;
            stream.properties.insert("xds.cluster_name".into(), "shop".into());
        }
        let paused = self.plugin.call("proxy_on_request_headers", &[id, count, 1]) == Some(1);
        (id, paused)
    }

    /// Its response comes, from `host`. The bridge speaks when it was not asked for that one.
    pub fn respond(&mut self, id: u32, host: &Host) {
        let asked = self.request_header(id, "x-mooring-host");
        let bridge = Some(host.bridge)
            .filter(|_| asked.as_deref() != Some(host.bridge) && asked.as_deref() != Some(host.address));
        let lines = [
            line(":status", "200"),
            line("content-type", "text/html; charset=utf-8"),
            line("content-length", "5120"),
            line("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
            line("server", "shop"),
            line("etag", "\"5f3c\""),
        ];
        let lines = lines.into_iter().chain(bridge.map(|bridge| line("x-mooring-host", bridge)));
        self.response(id, lines.collect(), "via_upstream", Some(host.address));
    }

    /// The proxy answers by itself.
    pub fn respond_locally(&mut self, id: u32) {
        self.response(id, vec![line(":status", "503")], "no_healthy_upstream", None);
    }

    fn response(&mut self, id: u32, lines: Vec<Line>, details: &str, address: Option<&str>) {
        self.plugin.host.enter(ContextId(id));
        let count = lines.len() as u32;
        {
            let mut state = self.plugin.host.state();
            let stream = state.stream();
            stream.properties.insert("response.code_details".into(), details.into());
            stream.properties.extend(address.map(|address| ("upstream.address".into(), address.into())));
            stream.response_headers = lines;
        }
        self.plugin.call("proxy_on_response_headers", &[id, count, 0]);
    }

    pub fn trailers(&mut self, id: u32) {
        self.plugin.host.enter(ContextId(id));
        self.plugin.call("proxy_on_response_trailers", &[id, 1]);
    }

    pub fn end(&mut self, id: u32) {
        self.plugin.host.enter(ContextId(id));
        self.plugin.call("proxy_on_delete", &[id]);
        self.plugin.host.state().streams.remove(&ContextId(id));
    }

    /// A request that nothing holds up, and its response from `host`. The cookie that the client gets.
    pub fn exchange(&mut self, lines: Vec<Line>, host: &Host) -> Option<String> {
        let (id, paused) = self.request(lines);
        assert!(!paused);
        self.respond(id, host);
        let cookie = self.response_header(id, "set-cookie");
        self.end(id);
        cookie.map(|cookie| cookie.split(';').next().expect("a pair").to_owned())
    }

    /// A new session. Its cookie.
    pub fn begin(&mut self) -> String {
        self.exchange(browser(None), &HOME).expect("a cookie")
    }

    /// One more request of a session that stays where it is.
    pub fn resume(&mut self, cookie: &str) {
        let (id, paused) = self.request(browser(Some(&among_others(cookie))));
        assert!(!paused);
        self.stay(id);
    }

    /// The rest of a request of a session that stays where it is.
    pub fn stay(&mut self, id: u32) {
        assert!(self.request_header(id, "x-mooring-host").is_some(), "it is resumed");
        self.respond(id, &HOME);
        assert_eq!(self.response_header(id, "set-cookie"), None, "nothing is due");
        self.end(id);
    }

    /// The call to the store that was made.
    pub fn sent(&self) -> Sent {
        let mut sent = std::mem::take(&mut self.plugin.host.state().sent);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    /// The store answers.
    pub fn answer(&mut self, call: &Sent, status: &str, etag: Option<&str>, body: &[u8]) {
        self.plugin.host.enter(call.context);
        let mut lines = vec![line(":status", status)];
        lines.extend(etag.map(|etag| line("etag", etag)));
        let count = lines.len() as u32;
        self.plugin.host.state().call_response = (lines, body.into());
        self.plugin.call("proxy_on_http_call_response", &[call.context.0, call.id.0, count, body.len() as u32, 0]);
    }

    pub fn request_header(&self, id: u32, name: &str) -> Option<String> {
        first(&self.plugin.host.state().streams[&ContextId(id)].request_headers, name)
    }

    pub fn response_header(&self, id: u32, name: &str) -> Option<String> {
        first(&self.plugin.host.state().streams[&ContextId(id)].response_headers, name)
    }
}

fn first(lines: &[Line], name: &str) -> Option<String> {
    let (_, value) = lines.iter().find(|(key, _)| key == name.as_bytes())?;
    Some(String::from_utf8(value.clone()).expect("text"))
}
