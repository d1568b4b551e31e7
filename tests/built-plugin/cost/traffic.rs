//! Requests and their responses, as a proxy takes them through the plugin.

use crate::plugin::Plugin;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mooring::clock::UnixTime;
use mooring::ids::ContextId;
use mooring::shell::proxy::{HeaderMap, Proxy};
use mooring_test_kit::fake::{Line, Sent};
use mooring_test_kit::proxy::line;
use serde_json::{Value, json};
use std::time::Duration;

const ROOT: u32 = 1;
const NOW: UnixTime = UnixTime(1_800_000_000);

/// The address of a host.
pub const HOME: &str = "10.1.2.3:8080";
pub const OTHER: &str = "10.1.2.4:8080";

/// One worker's plugin, and what it is asked to do.
pub struct Traffic {
    pub plugin: Plugin,
    members: Value,
    streams: u32,
}

/// A member of the configuration: so many keys, the first of them `first`.
pub fn keys(first: usize, count: usize) -> Value {
    let key = |at: usize| json!({"id": format!("key-{at}"), "secret": {"base64": STANDARD.encode([at as u8; 32])}});
    json!({"keys": (0..count).map(|at| key((first + at) % count)).collect::<Vec<_>>()})
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
    /// A worker that takes a configuration of two keys and these members, which is metered.
    pub fn start(members: &Value) -> Self {
        let mut config = keys(0, 2);
        if let (Value::Object(config), Value::Object(members)) = (&mut config, members) {
            config.extend(members.clone());
        }
        let mut traffic = Self { plugin: Plugin::load(), members: members.clone(), streams: 100 };
        let configuration = config.to_string().into_bytes();
        let size = configuration.len() as u32;
        {
            let mut state = traffic.plugin.host.state();
            state.now = NOW;
            state.configuration = configuration;
        }
        traffic.call("proxy_on_context_create", ROOT, &[0]);
        traffic.call("proxy_on_vm_start", ROOT, &[0]);
        traffic.plugin.forget();
        let accepted = traffic.call("proxy_on_configure", ROOT, &[size]);
        assert_eq!(accepted, Some(1), "{:?}", traffic.plugin.host.state().log);
        traffic
    }

    /// Another worker of the same configuration.
    pub fn another(&self) -> Self {
        Self::start(&self.members)
    }

    /// A callback of a context's.
    fn call(&mut self, name: &'static str, context: u32, arguments: &[u32]) -> Option<u32> {
        self.plugin.host.enter(ContextId(context));
        self.plugin.call(name, &[&[context], arguments].concat())
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
        self.call("proxy_on_tick", ROOT, &[]);
    }

    /// A request comes. Whether it is paused.
    fn receive(&mut self, lines: Vec<Line>) -> (u32, bool) {
        self.streams += 1;
        let id = self.streams;
        self.call("proxy_on_context_create", id, &[ROOT]);
        let count = lines.len() as u32;
        {
            let mut state = self.plugin.host.state();
            let stream = state.stream();
            stream.request_headers = lines;
            stream.properties.insert("xds.cluster_name".into(), "shop".into());
        }
        let paused = self.call("proxy_on_request_headers", id, &[count, 1]) == Some(1);
        (id, paused)
    }

    /// A request that nothing holds up.
    pub fn request(&mut self, lines: Vec<Line>) -> u32 {
        let (id, paused) = self.receive(lines);
        assert!(!paused);
        id
    }

    /// A request of a session that the store is asked for, and the call.
    pub fn wait(&mut self, cookie: &str) -> (u32, Sent) {
        let (id, paused) = self.receive(browser(Some(&among_others(cookie))));
        assert!(paused);
        (id, self.sent())
    }

    /// Its response comes, from the host of this address. The bridge speaks when it was not asked for that one.
    pub fn respond(&mut self, id: u32, address: &str) {
        let asked = self.header(HeaderMap::RequestHeaders, id, "x-mooring-host");
        let named = STANDARD.encode(address);
        let mut lines = vec![
            line(":status", "200"),
            line("content-type", "text/html; charset=utf-8"),
            line("content-length", "5120"),
            line("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
            line("server", "shop"),
            line("etag", "\"5f3c\""),
        ];
        if asked.is_none_or(|asked| asked != named && asked != address) {
            lines.push(line("x-mooring-host", named));
        }
        self.response(id, lines, "via_upstream", Some(address));
    }

    /// A response comes, of a host with this address or of the proxy itself.
    pub fn response(&mut self, id: u32, lines: Vec<Line>, details: &str, address: Option<&str>) {
        let count = lines.len() as u32;
        {
            let mut state = self.plugin.host.state();
            let stream = state.streams.entry(ContextId(id)).or_default();
            stream.properties.insert("response.code_details".into(), details.into());
            stream.properties.extend(address.map(|address| ("upstream.address".into(), address.into())));
            stream.response_headers = lines;
        }
        self.call("proxy_on_response_headers", id, &[count, 0]);
    }

    pub fn trailers(&mut self, id: u32) {
        self.call("proxy_on_response_trailers", id, &[1]);
    }

    pub fn end(&mut self, id: u32) {
        self.call("proxy_on_delete", id, &[]);
        self.plugin.host.state().streams.remove(&ContextId(id));
    }

    /// A request that nothing holds up, and its response. The cookie that the client gets.
    pub fn exchange(&mut self, lines: Vec<Line>, address: &str) -> Option<String> {
        let id = self.request(lines);
        self.respond(id, address);
        let cookie = self.header(HeaderMap::ResponseHeaders, id, "set-cookie");
        self.end(id);
        cookie.map(|cookie| cookie.split(';').next().expect("a pair").to_owned())
    }

    /// A new session. Its cookie.
    pub fn begin(&mut self) -> String {
        self.exchange(browser(None), HOME).expect("a cookie")
    }

    /// A request whose client gets another cookie.
    pub fn issue(&mut self, cookie: &str, address: &str) {
        let issued = self.exchange(browser(Some(&among_others(cookie))), address);
        assert!(issued.is_some());
    }

    /// One more request of a session that stays where it is.
    pub fn resume(&mut self, cookie: &str) {
        let id = self.request(browser(Some(&among_others(cookie))));
        self.stay(id);
    }

    /// The rest of a request of a session that stays where it is.
    pub fn stay(&mut self, id: u32) {
        assert!(self.header(HeaderMap::RequestHeaders, id, "x-mooring-host").is_some(), "it is resumed");
        self.respond(id, HOME);
        assert_eq!(self.header(HeaderMap::ResponseHeaders, id, "set-cookie"), None, "nothing is due");
        self.end(id);
    }

    /// A client returns whose session the store is asked for. The store lacks it, and is given it: the value.
    pub fn create(&mut self, cookie: &str) -> Vec<u8> {
        let (id, lookup) = self.wait(cookie);
        self.answer(&lookup, "404", None, b"");
        let create = self.sent();
        self.stay(id);
        self.answer(&create, "201", Some("\"1\""), b"");
        create.body
    }

    /// The call to the store that was made.
    fn sent(&self) -> Sent {
        let mut sent = std::mem::take(&mut self.plugin.host.state().sent);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    /// The store answers.
    pub fn answer(&mut self, call: &Sent, status: &str, etag: Option<&str>, body: &[u8]) {
        let mut lines = vec![line(":status", status)];
        lines.extend(etag.map(|etag| line("etag", etag)));
        let arguments = [call.id.0, lines.len() as u32, body.len() as u32, 0];
        self.plugin.host.state().call_response = (lines, body.into());
        self.call("proxy_on_http_call_response", call.context.0, &arguments);
    }

    /// A header of a request or a response, as it is by now.
    pub fn header(&self, map: HeaderMap, id: u32, name: &str) -> Option<String> {
        self.plugin.host.enter(ContextId(id));
        let value = self.plugin.host.header(map, name).expect("a map");
        value.map(|value| String::from_utf8(value).expect("text"))
    }
}
