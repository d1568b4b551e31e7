//! A proxy with the filter, driven callback by callback.

use crate::fake::{FakeProxy, Line, Sent};
use crate::tokens::{self, keyring, sign, timed};
use crate::world::plugin;
use mooring::clock::UnixTime;
use mooring::ids::ContextId;
use mooring::ids::StreamId;
use mooring::session::pin::{ClusterId, HostAddr, Pin};
use mooring::shell::contexts::{Action, Contexts};
use serde_json::{Value, json};

/// The root context of the first configuration.
pub const ROOT: ContextId = ContextId(1);

/// A fake proxy with the filter in it.
pub struct Proxy {
    /// What the filter calls.
    pub host: FakeProxy,
    /// The filter.
    pub contexts: Contexts<FakeProxy>,
    /// The last stream's number.
    pub streams: u32,
}

/// A line of headers.
pub fn line(name: &str, value: impl AsRef<[u8]>) -> Line {
    (name.into(), value.as_ref().into())
}

impl Proxy {
    /// A proxy whose first root has this configuration.
    pub fn with(plugin: &Value) -> Self {
        let host = FakeProxy::default();
        host.state().now = UnixTime(tokens::now());
        let mut proxy = Self { contexts: Contexts::new(host.clone()), host, streams: 100 };
        assert!(proxy.set_up(ROOT, plugin), "{:?}", proxy.host.state().log);
        proxy
    }

    /// Gives a root a configuration. `false`: it is refused.
    pub fn set_up(&mut self, root: ContextId, plugin: &Value) -> bool {
        self.host.state().configuration = plugin.to_string().into_bytes();
        self.contexts.on_root_create(root);
        self.contexts.on_configure(root)
    }

    /// As [`Self::with`], with a store: these members of it, and its cluster.
    pub fn with_store(store: Value) -> Self {
        Self::with(&with_store(store))
    }

    /// Gives a root a configuration with a store.
    pub fn configure_store(&mut self, root: ContextId, store: Value) {
        assert!(self.set_up(root, &with_store(store)), "{:?}", self.host.state().log);
    }

    /// A request's headers come, with a valid cookie.
    pub fn request(&mut self, root: ContextId) -> (StreamId, Action) {
        let now = self.host.state().now.0;
        let mut session = timed(now, now, now + 1000);
        let host = HostAddr::parse(b"127.0.0.1:9001").expect("a host");
        session.pins.set(Pin { cluster: ClusterId::of(b"app"), host });
        let cookie = format!("m={}", sign(&session, &keyring("m")));
        self.receive(root, vec![line(":path", "/"), line("cookie", cookie)])
    }

    /// A response comes from the host that [`Self::request`] asked for.
    pub fn response(&mut self, id: StreamId, more: &[Line]) -> Action {
        self.served(id, "127.0.0.1:9001", more)
    }

    /// The store answers a call.
    pub fn answer(&mut self, call: &Sent, status: &str, body: &[u8]) {
        self.give(call, vec![line(":status", status), line("etag", "\"1\"")], body.into());
    }

    /// A request's headers come.
    pub fn receive(&mut self, root: ContextId, headers: Vec<Line>) -> (StreamId, Action) {
        self.streams += 1;
        let id = StreamId(self.streams);
        self.host.enter(id.into());
        self.contexts.on_stream_create(id, root);
        self.host.state().stream().request_headers = headers;
        (id, self.contexts.on_request_headers(id))
    }

    /// A response comes from the host with this address in the cluster `app`.
    pub fn served(&mut self, id: StreamId, address: &str, more: &[Line]) -> Action {
        self.host.enter(id.into());
        {
            let mut state = self.host.state();
            let stream = state.stream();
            stream.response_headers = vec![line(":status", "200")];
            stream.response_headers.extend_from_slice(more);
            stream.properties.insert("response.code_details".into(), "via_upstream".into());
            stream.properties.insert("upstream.address".into(), address.into());
            stream.properties.insert("xds.cluster_name".into(), "app".into());
        }
        self.contexts.on_response_headers(id)
    }

    /// A stream is over.
    pub fn end(&mut self, id: StreamId) {
        self.host.enter(id.into());
        self.contexts.on_delete(id.into());
        self.host.state().streams.remove(&id.into());
        self.host.state().gone.insert(id.into());
    }

    /// The calls that were made since this was asked last.
    pub fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.host.state().sent)
    }

    /// The one call that was made.
    pub fn sent_one(&self) -> Sent {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    /// A call comes back; without header lines, it came to nothing.
    pub fn give(&mut self, call: &Sent, lines: Vec<Line>, body: Vec<u8>) {
        self.host.enter(call.context);
        let (count, size) = (lines.len(), body.len());
        self.host.state().call_response = (lines, body);
        self.contexts.on_call_response(call.context, call.id, count, size);
    }

    /// How often a stream's request and its response were resumed.
    pub fn resumed(&self, id: StreamId) -> (u32, u32) {
        let state = self.host.state();
        state.streams.get(&id.into()).map_or((0, 0), |stream| (stream.requests_resumed, stream.responses_resumed))
    }

    /// What the upstream would get under this name.
    pub fn request_header(&self, id: StreamId, name: &str) -> Option<String> {
        let state = self.host.state();
        first(&state.streams.get(&id.into())?.request_headers, name)
    }

    /// What the client would get under this name.
    pub fn response_header(&self, id: StreamId, name: &str) -> Option<String> {
        let state = self.host.state();
        first(&state.streams.get(&id.into())?.response_headers, name)
    }

    /// What the access log was told of a stream.
    pub fn logged(&self, id: StreamId) -> Option<String> {
        let state = self.host.state();
        let line = state.streams.get(&id.into())?.properties.get("mooring")?;
        String::from_utf8(line.clone()).ok()
    }

    /// A gauge as the proxy has it.
    pub fn gauge(&self, name: &str) -> i64 {
        self.host.state().gauges.get(name).copied().unwrap_or(0)
    }

    /// The timer of a root fires.
    pub fn tick(&mut self, root: ContextId) {
        self.host.enter(root);
        self.contexts.on_tick(root);
    }

    /// A counter as the proxy has it, after a tick.
    pub fn counter(&mut self, name: &str) -> u64 {
        self.tick(ROOT);
        self.host.state().counters.get(name).copied().unwrap_or(0)
    }
}

fn with_store(mut store: Value) -> Value {
    store["cluster"] = "session_store".into();
    plugin(json!({"store": store}))
}

fn first(lines: &[Line], name: &str) -> Option<String> {
    let (_, value) = lines.iter().find(|(key, _)| key == name.as_bytes())?;
    String::from_utf8(value.clone()).ok()
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.host.state().crashes, [""; 0]);
        }
    }
}
