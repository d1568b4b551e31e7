//! A proxy with the filter, driven callback by callback. Whatever a test is about: after every callback it is looked at whether the
//! filter did something that it must not do ([`State::violations`](crate::fake::State::violations)).

use crate::fake::{Call, FakeProxy, Line, Sent, Stream};
use crate::store;
use crate::tokens::{self, keyring, sign, timed};
use crate::world::{is_counted, plugin};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mooring::clock::UnixTime;
use mooring::config::Protocol;
use mooring::ids::ContextId;
use mooring::ids::StreamId;
use mooring::session::pin::{ClusterId, HostAddr, Pin};
use mooring::shell::contexts::{Action, Contexts};
use mooring::shell::proxy::{HeaderMap, Side};
use mooring::store::protocol::Answer;
use mooring::store::protocol::model::Model;
use serde_json::{Value, json};
use std::time::Duration;

/// The root context of the first configuration.
pub const ROOT: ContextId = ContextId(1);

/// A fake proxy with the filter in it.
pub struct Proxy {
    /// What the filter calls.
    pub host: FakeProxy,
    contexts: Contexts<FakeProxy>,
    /// The last stream's number.
    streams: u32,
}

impl Default for Proxy {
    fn default() -> Self {
        let host = FakeProxy::default();
        Self { contexts: Contexts::new(host.clone()), host, streams: 100 }
    }
}

/// A line of headers.
pub fn line(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Line {
    (name.as_ref().into(), value.as_ref().into())
}

impl Proxy {
    /// A proxy whose first root has this configuration.
    pub fn with(plugin: &Value) -> Self {
        let mut proxy = Self::default();
        proxy.host.state().now = UnixTime(tokens::now());
        proxy.start(plugin);
        proxy
    }

    /// A new VM, whose first root has this configuration, in place of the one that is there.
    pub fn start(&mut self, plugin: &Value) {
        self.contexts = Contexts::new(self.host.clone());
        assert!(self.set_up(ROOT, plugin), "{:?}", self.host.state().log);
    }

    /// As [`Self::with`], with a store: these members of it, and its cluster.
    pub fn with_store(store: Value) -> Self {
        Self::with(&with_store(store))
    }

    /// Gives a root a configuration. `false`: it is refused.
    pub fn set_up(&mut self, root: ContextId, plugin: &Value) -> bool {
        self.set_up_with(root, plugin.to_string().into_bytes())
    }

    /// As [`Self::set_up`], with what may be no configuration.
    pub fn set_up_with(&mut self, root: ContextId, configuration: Vec<u8>) -> bool {
        self.host.state().configuration = configuration;
        self.callback(root, |contexts| contexts.on_root_create(root));
        self.callback(root, |contexts| contexts.on_configure(root))
    }

    /// Gives a root a configuration with a store.
    pub fn configure_store(&mut self, root: ContextId, store: Value) {
        assert!(self.set_up(root, &with_store(store)), "{:?}", self.host.state().log);
    }

    /// A callback of the proxy's.
    pub fn callback<T>(&mut self, context: ContextId, call: impl FnOnce(&mut Contexts<FakeProxy>) -> T) -> T {
        self.host.enter(context);
        let result = call(&mut self.contexts);
        let state = self.host.state();
        assert_eq!(state.violations, [""; 0]);
        if !state.broken.contains_key(&Call::ActAs) {
            assert_eq!(state.effective, context, "a callback ends as it began");
        }
        result
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

    /// A request's headers come.
    pub fn receive(&mut self, root: ContextId, headers: Vec<Line>) -> (StreamId, Action) {
        self.begin(root, Stream { request_headers: headers, ..Stream::default() })
    }

    /// A stream begins as the proxy has it, with its request's headers.
    pub fn begin(&mut self, root: ContextId, stream: Stream) -> (StreamId, Action) {
        self.streams += 1;
        let id = StreamId(self.streams);
        self.host.state().streams.insert(id.into(), stream);
        self.callback(id.into(), |contexts| contexts.on_stream_create(id, root));
        let action = self.callback(id.into(), |contexts| contexts.on_request_headers(id));
        let mut state = self.host.state();
        let stream = state.stream();
        let answered = stream.answered.is_some();
        assert!(!answered || action == Action::Pause, "who is answered does not go on");
        stream.paused = Some(Side::Request).filter(|_| action == Action::Pause && !answered);
        drop(state);
        (id, action)
    }

    /// The proxy follows a redirect by itself: the filter runs anew, on the headers as they are now.
    pub fn redirect(&mut self, id: StreamId, root: ContextId) -> (StreamId, Action) {
        let Stream { request_headers, mut properties, .. } = self.end(id);
        properties.retain(|name, _| self.host.state().declared.contains(name));
        self.begin(root, Stream { request_headers, properties, ..Stream::default() })
    }

    /// A response comes from the host that [`Self::request`] asked for.
    pub fn response(&mut self, id: StreamId, more: &[Line]) -> Action {
        self.served(id, "127.0.0.1:9001", more)
    }

    /// A response comes from the host with this address in the cluster `app`.
    pub fn served(&mut self, id: StreamId, address: &str, more: &[Line]) -> Action {
        let headers = [&[line(":status", "200")], more].concat();
        self.respond(id, headers, "via_upstream", Some(address), Some("app"))
    }

    /// As [`Self::served`], where the bridge names the host that was not the one asked for.
    pub fn bridged(&mut self, id: StreamId, address: &str, more: &[Line]) -> Action {
        let other = self.asked(id).as_deref() != Some(address);
        let bridge = other.then(|| line("x-mooring-host", STANDARD.encode(address)));
        self.served(id, address, &[bridge.as_slice(), more].concat())
    }

    /// A response's headers come: those of the upstream, or of the proxy's own answer.
    pub fn respond(
        &mut self,
        id: StreamId,
        headers: Vec<Line>,
        details: &str,
        address: Option<&str>,
        cluster: Option<&str>,
    ) -> Action {
        {
            let mut state = self.host.state();
            let stream = state.streams.entry(id.into()).or_default();
            (stream.response_headers, stream.paused) = (headers, None);
            for (name, value) in
                [("response.code_details", Some(details)), ("upstream.address", address), ("xds.cluster_name", cluster)]
            {
                stream.set_property(name, value);
            }
        }
        let action = self.callback(id.into(), |contexts| contexts.on_response_headers(id));
        self.host.state().stream().paused = Some(Side::Response).filter(|_| action == Action::Pause);
        action
    }

    /// Trailers come. Those that are left.
    pub fn trailers(&mut self, id: StreamId, map: HeaderMap, lines: Vec<Line>) -> Vec<Line> {
        self.host.enter(id.into());
        *self.host.state().map(map) = lines;
        self.callback(id.into(), |contexts| contexts.on_trailers(id, map));
        self.host.state().map(map).clone()
    }

    /// A stream is over.
    pub fn end(&mut self, id: StreamId) -> Stream {
        self.delete(id.into());
        self.host.state().streams.remove(&id.into()).unwrap_or_default()
    }

    /// A context is gone.
    pub fn delete(&mut self, id: ContextId) {
        self.callback(id, |contexts| contexts.on_delete(id));
        self.host.state().gone.insert(id);
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

    /// The store answers a call.
    pub fn answer(&mut self, call: &Sent, status: &str, body: &[u8]) {
        self.give(call, vec![line(":status", status), line("etag", "\"1\"")], body.into());
    }

    /// A call comes back; without header lines, it came to nothing.
    pub fn give(&mut self, call: &Sent, lines: Vec<Line>, body: Vec<u8>) {
        let (count, size) = (lines.len(), body.len());
        self.host.state().call_response = (lines, body);
        self.callback(call.context, |contexts| contexts.on_call_response(call.context, call.id, count, size));
        self.host.state().call_response = Default::default();
    }

    /// A call comes back with this answer.
    pub fn tell(&mut self, call: &Sent, answer: Answer) {
        match answer {
            Answer::Response { status, etag, body } => {
                let status = line(":status", status.to_string());
                self.give(call, [status].into_iter().chain(etag.map(|etag| line("etag", etag))).collect(), body);
            }
            Answer::Overloaded => {
                self.give(call, vec![line(":status", "503"), line("x-envoy-overloaded", "true")], Vec::new());
            }
            Answer::Nothing | Answer::TooLarge => self.give(call, Vec::new(), Vec::new()),
        }
    }

    /// Lets the store answer until nothing is asked any more.
    pub fn talk(&mut self, store: &mut Model) {
        loop {
            let sent = self.sent();
            if sent.is_empty() {
                return;
            }
            for call in sent {
                let (key, command) = store::read(Protocol::Rest, &call);
                let answer = store.answer(&key, &command);
                self.tell(&call, answer);
            }
        }
    }

    /// What of a stream waits to be resumed.
    pub fn paused(&self, id: StreamId) -> Option<Side> {
        self.host.state().streams.get(&id.into()).and_then(|stream| stream.paused)
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

    /// The host that a request asks the bridge `stateful_session` for.
    pub fn asked(&self, id: StreamId) -> Option<String> {
        let asked = self.request_header(id, "x-mooring-host")?;
        Some(String::from_utf8(STANDARD.decode(asked).expect("base64")).expect("text"))
    }

    /// What the client would get under this name.
    pub fn response_header(&self, id: StreamId, name: &str) -> Option<String> {
        let state = self.host.state();
        first(&state.streams.get(&id.into())?.response_headers, name)
    }

    /// The value of the affinity cookie that the client would get; an empty one takes it away.
    pub fn set_cookie(&self, id: StreamId) -> Option<String> {
        let line = self.response_header(id, "set-cookie")?;
        Some(line.strip_prefix("m=")?.split(';').next()?.to_owned())
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
        self.callback(root, |contexts| contexts.on_tick(root));
    }

    /// Time passes, on every clock, and the first root's timer fires.
    pub fn pass(&mut self, time: Duration) {
        {
            let mut state = self.host.state();
            state.monotonic += time;
            state.now.0 += time.as_secs();
        }
        self.tick(ROOT);
    }

    /// A counter as the proxy has it, after a tick.
    pub fn counter(&mut self, name: &str) -> u64 {
        self.tick(ROOT);
        self.host.state().counters.iter().filter(|(stat, _)| is_counted(stat, name)).map(|(_, count)| count).sum()
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
