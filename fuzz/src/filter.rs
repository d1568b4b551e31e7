//! The whole filter in a proxy where anything happens in any order: requests and what clients send under our names, responses and
//! what upstreams say, calls that are answered well, badly, late, twice or never, clients that leave, redirects, reloads, clocks
//! that jump, and host calls that fail.
//!
//! An input is a configuration (`options`) and a row of events; `Run::step` has their letters. What must hold whatever happens is
//! said where it is checked: in `watch`, for streams and calls, and in `headers`, for what the upstream and the client get.

mod gateway;
mod headers;
mod options;
mod watch;

use crate::cookie;
use crate::input::Input;
use crate::keys;
use gateway::Wish;
use mooring::clock::UnixTime;
use mooring::config::Config;
use mooring::credential::keyring::Keyring;
use mooring::credential::token::{self, Protection};
use mooring::ids::ContextId;
use mooring::ids::{CallId, StreamId};
use mooring::session::pin::{ClusterId, HostAddr, Pin};
use mooring::session::{Session, SessionId};
use mooring::shell::contexts::{Action, Contexts};
use mooring::shell::proxy::{HeaderMap, Side};
use mooring::store::protocol::StoreKey;
use mooring::store::protocol::model::Model;
use mooring::store::value;
use mooring_test_kit::fake::{Call, FakeProxy, Line};
use options::{COOKIE, SCOPES};
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

const START: UnixTime = UnixTime(1_800_000_000);
const START_MONOTONIC: Duration = Duration::from_secs(1000);

/// More than this makes a run slow, and no richer.
const MOST_STREAMS: usize = 24;
const MOST_ROOTS: usize = 4;
const MOST_EVENTS: usize = 160;

const CALLS: [Call; 13] = [
    Call::Headers,
    Call::Header,
    Call::EditHeader,
    Call::Property,
    Call::SetProperty,
    Call::Configuration,
    Call::Clock,
    Call::Random,
    Call::Tick,
    Call::Metric,
    Call::Call,
    Call::ActAs,
    Call::Resume,
];

thread_local! {
    /// By the key that signs, and the scope.
    static KEYRINGS: LazyCell<Vec<[Keyring; 2]>> = const {
        LazyCell::new(|| (0..4).map(|key| SCOPES.map(|scope| keys::keyring(&[key], scope))).collect())
    };
}

/// Checks an input.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let mut run = Run::new();
    run.root(&mut input);
    for _ in 0..MOST_EVENTS {
        if input.0.is_empty() {
            break;
        }
        run.step(&mut input);
    }
    run.finish();
}

/// A configuration at work.
struct Root {
    id: ContextId,
    /// `None`: it was refused.
    config: Option<Rc<Config>>,
    /// It is done.
    over: bool,
    /// When it read the clock last, it could not.
    clockless: bool,
    /// Sessions whose tokens came with a request, and verified.
    met: BTreeSet<SessionId>,
    /// Sessions by their keys in the store.
    keys: BTreeMap<String, SessionId>,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Request,
    /// Its request went to the upstream.
    Upstream,
    /// The filter answered in the upstream's place.
    Answered,
    /// Its response's headers came.
    Response,
    /// The proxy answered, of itself.
    Local,
    Done,
}

struct Stream {
    id: StreamId,
    root: usize,
    stage: Stage,
    /// What waits to be resumed.
    paused: Option<Side>,
    /// How often its request and its response were resumed.
    resumed: (u32, u32),
    /// A host call failed that its being resumed takes.
    excused: bool,
    /// Kinds of host calls that failed in a callback about it, or while it was paused.
    broken: BTreeSet<Call>,
    /// The clock was put back or forward since it began.
    clock_moved: bool,
    /// It is another pass of the filter chain.
    redirected: bool,
    /// The request's header lines as they came.
    came: Vec<Line>,
    /// The sessions of which it has a valid token.
    sessions: BTreeSet<SessionId>,
    /// The session id that its upstream got.
    told: Option<Vec<u8>>,
    /// What came of the response, and when.
    responded: Option<Responded>,
    /// Its headers when it was done.
    last: Option<(Vec<Line>, Vec<Line>)>,
}

#[derive(Clone, Copy)]
struct Responded {
    now: UnixTime,
    may_set_cookie: bool,
    rotates: bool,
    ends: bool,
}

/// A call that has no answer yet.
struct Pending {
    root: usize,
    id: CallId,
    key: String,
    session: SessionId,
    wish: Wish,
    /// The streams whose responses wait for it; more than one where these cannot be told apart.
    waiters: Vec<StreamId>,
    /// It takes the place of a revocation that failed.
    again: bool,
    /// When it was made, as far as the filter knows.
    at: Duration,
    /// The filter has forgotten it.
    given_up: bool,
}

/// A call that responses wait for, and that may be made again.
struct Settled {
    session: SessionId,
    revokes: bool,
    waiters: Vec<StreamId>,
}

struct Run {
    host: FakeProxy,
    contexts: Contexts<FakeProxy>,
    roots: Vec<Root>,
    streams: Vec<Stream>,
    calls: Vec<Pending>,
    answered: Vec<(ContextId, CallId)>,
    /// Calls that come to something in this callback, and may be made again.
    settled: Vec<Settled>,
    store: Model,
    /// The hosts that each session was ever pinned to, or served by.
    hosts: BTreeMap<SessionId, BTreeSet<String>>,
    /// Tokens that were issued, by the filter or by another proxy.
    jar: Vec<String>,
    /// Session ids that the filter made.
    made: BTreeSet<SessionId>,
    randomness_seen: usize,
    contexts_made: u32,
    refused: usize,
    latest: Duration,
}

fn line(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Line {
    (name.as_ref().into(), value.as_ref().into())
}

impl Run {
    fn new() -> Self {
        let host = FakeProxy::default();
        host.state().now = START;
        host.state().monotonic = START_MONOTONIC;
        Self {
            contexts: Contexts::new(host.clone()),
            host,
            roots: Vec::new(),
            streams: Vec::new(),
            calls: Vec::new(),
            answered: Vec::new(),
            settled: Vec::new(),
            store: Model::default(),
            hosts: BTreeMap::new(),
            jar: Vec::new(),
            made: BTreeSet::new(),
            randomness_seen: 0,
            contexts_made: 0,
            refused: 0,
            latest: START_MONOTONIC,
        }
    }

    /// The next event. Letters from `a` on; others stand for one of these.
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte().wrapping_sub(b'a') % 16 {
            0 => self.answer(input),
            1 => self.break_call(input),
            2 => self.mend(),
            3 => self.done(input),
            4 => self.delete(input),
            5 => self.redirect(input),
            6 => self.pass_time(input),
            7 => self.put_clock(input),
            8 => self.plant(input),
            9 => self.root(input),
            10 => self.end_root(input),
            11 => self.stray(input),
            12 => self.trailers(input),
            13 => self.respond(input),
            14 => self.tick(input),
            _ => self.request(input),
        }
    }

    fn context(&mut self) -> ContextId {
        self.contexts_made += 1;
        ContextId(self.contexts_made)
    }

    /// A new root: at first, and at a reload.
    fn root(&mut self, input: &mut Input<'_>) {
        let (json, config) = options::config(input);
        if self.roots.len() >= MOST_ROOTS {
            return;
        }
        let id = self.context();
        self.host.state().configuration = json.to_vec();
        let (met, keys) = (BTreeSet::new(), BTreeMap::new());
        self.roots.push(Root { id, config: None, over: false, clockless: self.clock_is_broken(), met, keys });
        self.callback(id, |contexts| contexts.on_root_create(id));
        let accepted = self.callback(id, |contexts| contexts.on_configure(id));
        if accepted {
            assert!(config.is_some(), "accepted as it was refused");
            self.roots.last_mut().expect("a root").config = config;
        } else {
            self.refused += 1;
        }
        self.watch();
    }

    fn some_root(&self, input: &mut Input<'_>) -> Option<usize> {
        let live: Vec<usize> = (0..self.roots.len()).filter(|at| !self.roots[*at].over).collect();
        let at = input.choice(MOST_ROOTS as u8);
        live.get(at % live.len().max(1)).copied()
    }

    fn some_stream(&self, input: &mut Input<'_>, fits: impl Fn(&Stream) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.streams.len()).filter(|at| fits(&self.streams[*at])).collect();
        let at = input.choice(MOST_STREAMS as u8);
        fitting.get(at % fitting.len().max(1)).copied()
    }

    /// A client's request.
    fn request(&mut self, input: &mut Input<'_>) {
        let root = self.some_root(input);
        let mut headers: Vec<Line> = [&b"/shop"[..], b"/", b"/shop/cart?a=/", b"/shopping"]
            .get(input.choice(5))
            .map(|path| line(":path", path))
            .into_iter()
            .collect();
        let mut cookies: Vec<Vec<u8>> = Vec::new();
        for _ in 0..input.choice(6) {
            let cookie = self.cookie(input);
            match cookies.last_mut().filter(|_| input.flag()) {
                Some(last) => *last = [last, &b"; "[..], &cookie].concat(),
                None => cookies.push(cookie),
            }
        }
        headers.extend(cookies.into_iter().map(|cookie| line("cookie", cookie)));
        let spoofs = input.choice(8);
        let names = ["x-mooring-host", "x-mooring-action", "x-mooring-session"];
        for name in names.iter().enumerate().filter(|(at, _)| spoofs >> at & 1 == 1).map(|(_, name)| name) {
            headers.push(line(name, "MTAuMC42Ni42Njo4MA=="));
            headers.push(line(name, "end"));
        }
        headers.push(line("x-other", b"\xff"));
        if let Some(root) = root.filter(|_| self.streams.len() < MOST_STREAMS) {
            let stream = self.stream(root, headers);
            self.begin(stream);
        }
    }

    fn stream(&mut self, root: usize, came: Vec<Line>) -> Stream {
        Stream {
            id: StreamId(self.context().0),
            root,
            stage: Stage::Request,
            paused: None,
            resumed: (0, 0),
            excused: false,
            broken: BTreeSet::new(),
            clock_moved: false,
            redirected: false,
            came,
            sessions: BTreeSet::new(),
            told: None,
            responded: None,
            last: None,
        }
    }

    /// The request of a stream comes.
    fn begin(&mut self, mut stream: Stream) {
        let (id, root) = (stream.id, &mut self.roots[stream.root]);
        let now = self.host.state().now;
        if root.clockless {
            stream.broken.insert(Call::Clock);
        }
        if let Some(config) = &root.config {
            stream.sessions.extend(sessions(config, &stream.came, now));
        }
        root.met.extend(&stream.sessions);
        let root = root.id;
        self.host.state().streams.entry(id.into()).or_default().request_headers = stream.came.clone();
        self.streams.push(stream);
        let at = self.streams.len() - 1;
        self.contexts.on_stream_create(id, root);
        let action = self.callback(id.into(), |contexts| contexts.on_request_headers(id));
        self.came_to(at, Side::Request, action);
    }

    /// A cookie of a request.
    fn cookie(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let ours = |value: &[u8]| [COOKIE.as_bytes(), b"=", value].concat();
        let from_jar = |run: &Self, input: &mut Input<'_>| {
            let at = input.choice(32);
            run.jar.get(at % run.jar.len().max(1)).cloned().unwrap_or_default().into_bytes()
        };
        match input.choice(8) {
            0 => ours(&from_jar(self, input)),
            1 => ours(self.mint(input).as_bytes()),
            2 => b"a=1".to_vec(),
            3 => {
                let mut token = from_jar(self, input);
                let at = usize::from(input.byte()) % token.len().max(1);
                if let Some(byte) = token.get_mut(at) {
                    *byte ^= 1 << input.choice(7);
                }
                ours(&token)
            }
            4 => {
                // Of a key that nobody has, or of a scope that nobody has with that key.
                let foreign = SessionId([0xf0; 16]);
                let keyring = keyring(3, input.choice(2));
                ours(token::seal(&session(foreign, START, 0, input), &keyring, &Protection::Signed).as_bytes())
            }
            5 => {
                let length = input.choice(10);
                ours(input.take(length))
            }
            6 => [b"m=x; ".repeat(300), ours(&from_jar(self, input))].concat(),
            _ => ours(&[b"\"", &from_jar(self, input)[..], b"\""].concat()),
        }
    }

    /// A token that another proxy issued, for one of a few sessions.
    fn mint(&mut self, input: &mut Input<'_>) -> String {
        let (id, session) = self.minted(input);
        let (key, scope) = (input.choice(3), input.choice(2));
        let protection = if input.flag() { Protection::Encrypted { nonce: [7; 24] } } else { Protection::Signed };
        let token = token::seal(&session, &keyring(key, scope), &protection);
        self.pinned(id, &session);
        self.keep(&token);
        token
    }

    fn minted(&mut self, input: &mut Input<'_>) -> (SessionId, Session) {
        let name = input.choice(6) as u8;
        let id = SessionId([0xa0 + name; 16]);
        let now = self.host.state().now;
        (id, session(id, now, name, input))
    }

    fn keep(&mut self, token: &str) {
        if self.jar.len() == 32 {
            self.jar.remove(0);
        }
        self.jar.push(token.into());
    }

    fn pinned(&mut self, id: SessionId, session: &Session) {
        self.hosts.entry(id).or_default().extend(session.pins.iter().map(|pin| pin.host.to_text()));
    }

    /// A response's headers come: the upstream's, or the proxy's own.
    fn respond(&mut self, input: &mut Input<'_>) {
        let open = |stream: &Stream| !matches!(stream.stage, Stage::Done | Stage::Local | Stage::Request);
        let Some(at) = self.some_stream(input, |stream| open(stream) || stream.paused.is_some()) else { return };
        let stream = &self.streams[at];
        if stream.stage != Stage::Upstream || stream.paused.is_some() {
            // A response that went on already comes no second time.
            if stream.paused.is_some() || stream.stage == Stage::Answered {
                self.respond_locally(at);
            }
            return;
        }
        let config = self.roots[stream.root].config.clone();
        let host_header = config.as_ref().map_or("x-mooring-host", |config| config.upstream.header.as_str()).to_owned();
        let session_header =
            config.as_ref().map_or("x-mooring-session", |config| config.app.session_header.name.as_str()).to_owned();
        let (status, details) = [
            ("200", "via_upstream"),
            ("200", "via_upstream"),
            ("500", "via_upstream"),
            ("304", "via_upstream"),
            ("503", "upstream_reset_before_response_started{connection_failure}"),
            ("200", "direct_response"),
        ][input.choice(6)];
        let host = some_host(input);
        let cluster = ["app", "other", "third"].get(input.choice(4)).copied();
        let mut headers = vec![line(":status", status)];
        match input.choice(4) {
            0 => headers.push(line(&host_header, base64_of(&host))),
            1 => {}
            2 => headers.push(line(&host_header, base64_of("10.9.9.9:1"))),
            _ => headers.push(line(&host_header, b"\xff")),
        }
        let action =
            ["", "end", "rotate", "release", "Rotate , END", "nonsense", "release,", "rotate"][input.choice(8)];
        if !action.is_empty() {
            headers.push(line("x-mooring-action", action));
            headers.push(line("x-mooring-action", "x"));
        }
        let more = input.choice(16);
        let others = [
            line(session_header, "echo"),
            line("set-cookie", "app=1"),
            line("cache-control", "public, max-age=1"),
            line("cache-control", "no-store"),
        ];
        headers.extend(others.into_iter().enumerate().filter(|(at, _)| more >> at & 1 == 1).map(|(_, line)| line));

        let actions = config.as_ref().is_some_and(|config| config.app.action_header.enabled);
        let says = |word: &str| actions && action.to_ascii_lowercase().contains(word);
        // Unread, it is not heeded.
        let reads = [Call::Headers, Call::Header].iter().all(|call| !self.host.state().broken.contains_key(call));
        let (rotates, ends) = (says("rotate") && reads, says("end"));
        let from_upstream = details == "via_upstream";
        let id = stream.id;
        if from_upstream {
            for session in stream.sessions.clone() {
                self.hosts.entry(session).or_default().insert(host.clone());
            }
        }
        let now = {
            let mut state = self.host.state();
            let now = state.now;
            let stream = state.streams.entry(id.into()).or_default();
            stream.response_headers = headers;
            let properties = [
                ("response.code_details", Some(details)),
                ("upstream.address", Some(&*host)),
                ("xds.cluster_name", cluster),
            ];
            for (name, value) in properties {
                match value {
                    Some(value) => stream.properties.insert(name.into(), value.into()),
                    None => stream.properties.remove(name),
                };
            }
            now
        };
        let may_set_cookie = from_upstream && status != "304";
        self.streams[at].responded = Some(Responded { now, may_set_cookie, rotates, ends });
        self.streams[at].stage = Stage::Response;
        let action = self.callback(id.into(), |contexts| contexts.on_response_headers(id));
        self.came_to(at, Side::Response, action);
    }

    /// The proxy waits no longer, and answers by itself; or it passes the filter's own answer through the filter.
    fn respond_locally(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        (stream.stage, stream.paused) = (Stage::Local, None);
        let id = stream.id;
        let headers = vec![line(":status", "504"), line("x-local", "1")];
        {
            let mut state = self.host.state();
            let stream = state.streams.entry(id.into()).or_default();
            stream.response_headers = headers.clone();
            stream.properties.insert("response.code_details".into(), "stream_idle_timeout".into());
        }
        let action = self.callback(id.into(), |contexts| contexts.on_response_headers(id));
        assert_eq!(action, Action::Continue, "nothing is to be waited for");
        // One that could not be resumed is not known to wait.
        let untouched = self.host.state().streams[&id.into()].response_headers == headers;
        assert!(untouched || self.streams[at].excused, "there is nothing to say");
        self.watch();
    }

    fn trailers(&mut self, input: &mut Input<'_>) {
        let map = [HeaderMap::RequestTrailers, HeaderMap::ResponseTrailers][input.choice(2)];
        let Some(at) = self.some_stream(input, |stream| stream.stage != Stage::Done) else { return };
        let id = self.streams[at].id;
        let names =
            ["x-mooring-host", "x-own-session", "grpc-status", "x-own-host", "x-mooring-action", "x-mooring-session"];
        let lines: Vec<Line> = names.iter().map(|name| line(name, "v")).collect();
        {
            let mut state = self.host.state();
            let stream = state.streams.entry(id.into()).or_default();
            match map {
                HeaderMap::RequestTrailers => stream.request_trailers = lines,
                _ => stream.response_trailers = lines,
            }
        }
        self.callback(id.into(), |contexts| contexts.on_trailers(id, map));
        self.check_trailers(at, map, &names);
        self.watch();
    }

    /// A call comes to something.
    fn answer(&mut self, input: &mut Input<'_>) {
        let (at, how) = (input.choice(16), input.choice(8));
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.remove(at % self.calls.len());
        let root = &self.roots[call.root];
        let Some(config) = root.config.clone() else { return };
        let Some(store) = &config.store else { return };
        let id = root.id;
        self.settled.extend(call.settled().filter(|_| !call.given_up));
        let key = StoreKey::of(&call.session, &config.scope, &store.endpoint.namespace);
        let right = |run: &mut Self| gateway::serve(&mut run.store, &store.endpoint, &key, &call.wish);
        let (lines, body) = match how {
            0 | 1 => right(self),
            2 => {
                let statuses = ["200", "201", "204", "404", "410", "412", "401", "503", "xyz", "99999"];
                let (status, length) = (statuses[input.choice(10)], input.choice(64));
                gateway::response(status, input.flag().then_some(b"\"1\""), input.take(length))
            }
            3 => (Vec::new(), Vec::new()),
            4 => gateway::response("200", Some(b"\"1\""), &[b'x'; 4097]),
            5 => {
                // What was written for another session, or by somebody with other keys.
                let (other, session) = self.minted(input);
                let key = StoreKey::of(&other, &config.scope, &store.endpoint.namespace);
                if other != call.session {
                    let value = value::seal(&session, &key, &config.keyring);
                    self.other_value(&value, &config)
                } else {
                    let value = value::seal(&session, &key, &keyring(3, 0));
                    self.other_value(&value, &config)
                }
            }
            6 => {
                right(self);
                gateway::response("503", None, b"")
            }
            _ => {
                let response = right(self);
                self.deliver(id, call.id, response.clone());
                response
            }
        };
        self.deliver(id, call.id, (lines, body));
        self.answered.push((id, call.id));
        if let Some(root) = self.roots.iter_mut().find(|root| root.id == id) {
            root.met.insert(call.session);
        }
    }

    fn other_value(&self, value: &str, config: &Config) -> gateway::Response {
        let protocol = config.store.as_ref().map(|store| store.endpoint.protocol);
        let body = match protocol {
            Some(mooring::config::Protocol::Webdis) => serde_json::json!({"GET": value}).to_string(),
            Some(mooring::config::Protocol::Upstash) => serde_json::json!({"result": value}).to_string(),
            _ => value.to_owned(),
        };
        gateway::response("200", Some(b"\"7\""), body.as_bytes())
    }

    fn deliver(&mut self, root: ContextId, call: CallId, (lines, body): gateway::Response) {
        let (count, size) = (lines.len(), body.len());
        self.host.state().call_response = (lines, body);
        self.callback(root, |contexts| contexts.on_call_response(root, call, count, size));
        self.host.state().call_response = (Vec::new(), Vec::new());
        self.watch();
    }

    /// Callbacks that mean nothing: of contexts that nobody made, about calls that nobody made or that were answered.
    fn stray(&mut self, input: &mut Input<'_>) {
        let nobody = ContextId(u32::MAX - input.byte() as u32);
        let root = self.some_root(input).map_or(nobody, |at| self.roots[at].id);
        match input.choice(5) {
            0 => {
                assert_eq!(
                    self.callback(nobody, |contexts| contexts.on_request_headers(StreamId(nobody.0))),
                    Action::Continue
                );
                assert_eq!(
                    self.callback(nobody, |contexts| contexts.on_response_headers(StreamId(nobody.0))),
                    Action::Continue
                );
                self.callback(nobody, |contexts| contexts.on_delete(nobody));
            }
            1 => self.deliver(root, CallId(u32::MAX), gateway::response("200", None, b"x")),
            2 => {
                let at = input.choice(8);
                if let Some((root, call)) = self.answered.get(at % self.answered.len().max(1)).copied() {
                    self.deliver(root, call, gateway::response("404", None, b""));
                }
            }
            3 => {
                // A call's answer, to a root that did not make it.
                let call = self.calls.first().filter(|call| self.roots[call.root].id != root).map(|call| call.id);
                if let Some(call) = call {
                    self.deliver(root, call, gateway::response("404", None, b""));
                }
            }
            _ => self.callback(nobody, |contexts| contexts.on_tick(nobody)),
        }
        self.watch();
    }

    fn tick(&mut self, input: &mut Input<'_>) {
        if let Some(root) = self.some_root(input) {
            self.tick_root(root);
        }
    }

    fn clock_is_broken(&self) -> bool {
        self.host.state().broken.contains_key(&Call::Clock)
    }

    fn tick_root(&mut self, root: usize) {
        let id = self.roots[root].id;
        self.roots[root].clockless = self.clock_is_broken();
        self.forget_overdue(root);
        self.callback(id, |contexts| contexts.on_tick(id));
        self.watch();
    }

    fn pass_time(&mut self, input: &mut Input<'_>) {
        let steps = [10, 100, 1101, 2001, 5000, 31_000, 3_600_000, 1 << 42];
        let step = Duration::from_millis(steps[input.choice(8)]);
        let back = input.flag();
        let mut state = self.host.state();
        let now = if back { state.monotonic.saturating_sub(step) } else { state.monotonic.saturating_add(step) };
        // The filter counts nanoseconds in 64 bits: 584 years.
        state.monotonic = now.min(Duration::from_secs(1 << 34));
        self.latest = self.latest.max(state.monotonic);
    }

    fn put_clock(&mut self, input: &mut Input<'_>) {
        let step = [1, 2, 10, 61, 600, 8 * 60 * 60, 1 << 33, u64::MAX][input.choice(8)];
        let back = input.flag();
        let mut state = self.host.state();
        state.now = UnixTime(if back { state.now.0.saturating_sub(step) } else { state.now.0.saturating_add(step) });
        drop(state);
        self.streams.iter_mut().for_each(|stream| stream.clock_moved = true);
        // Else the filter would go on with the time that it read last.
        (0..self.roots.len()).for_each(|root| self.tick_root(root));
    }

    fn break_call(&mut self, input: &mut Input<'_>) {
        let call = CALLS[input.choice(13)];
        self.host.break_call(call, [1, 2, 3, 10, 13, u32::MAX][input.choice(6)]);
    }

    fn mend(&mut self) {
        self.host.state().broken.clear();
    }

    /// What another proxy wrote into the store, or that it was lost.
    fn plant(&mut self, input: &mut Input<'_>) {
        if input.choice(8) == 7 {
            self.store.wipe();
            return;
        }
        let (id, session) = self.minted(input);
        let (key, scope) = (input.choice(4), input.choice(2));
        let store_key = StoreKey::of(&id, SCOPES[scope], "mooring");
        let value = match input.choice(3) {
            0 | 1 => value::seal(&session, &store_key, &keyring(key, scope)),
            _ => value::tombstone(&store_key, &keyring(key, scope)),
        };
        self.pinned(id, &session);
        self.store.plant(&store_key, &value);
    }

    /// A stream is over.
    fn done(&mut self, input: &mut Input<'_>) {
        let Some(at) = self.some_stream(input, |stream| stream.stage != Stage::Done) else { return };
        self.end(at);
        if !input.flag() {
            self.forget(at);
        }
    }

    fn end(&mut self, at: usize) {
        let id = self.streams[at].id;
        self.callback(id.into(), |contexts| contexts.on_delete(id.into()));
        let state = self.host.state();
        let headers = state.streams.get(&id.into());
        let stream = &mut self.streams[at];
        (stream.stage, stream.paused) = (Stage::Done, None);
        stream.last = headers.map(|stream| (stream.request_headers.clone(), stream.response_headers.clone()));
        drop(state);
        self.watch();
    }

    fn delete(&mut self, input: &mut Input<'_>) {
        if let Some(at) = self.some_stream(input, |stream| stream.stage == Stage::Done) {
            self.forget(at);
        }
    }

    /// A stream's context is gone.
    fn forget(&mut self, at: usize) {
        let id = self.streams.remove(at).id;
        self.callback(id.into(), |contexts| contexts.on_delete(id.into()));
        let mut state = self.host.state();
        state.streams.remove(&id.into());
        state.gone.insert(id.into());
        drop(state);
        self.watch();
    }

    /// The proxy follows a redirect by itself: the filter runs anew, on the headers as they are now.
    fn redirect(&mut self, input: &mut Input<'_>) {
        let Some(at) = self.some_stream(input, |stream| stream.stage == Stage::Upstream && stream.paused.is_none())
        else {
            return;
        };
        self.end(at);
        let (headers, properties) = {
            let mut state = self.host.state();
            let declared = state.declared.clone();
            let stream = state.streams.remove(&self.streams[at].id.into()).unwrap_or_default();
            let kept = stream.properties.into_iter().filter(|(name, _)| declared.contains(name));
            (stream.request_headers, kept.collect())
        };
        let root = self.streams[at].root;
        let mut next = self.stream(root, headers);
        let stream = &self.streams[at];
        next.redirected = true;
        next.clock_moved = stream.clock_moved;
        next.broken = stream.broken.clone();
        next.sessions = stream.sessions.clone();
        next.told = stream.told.clone();
        self.forget(at);
        if self.roots[root].over {
            return;
        }
        self.host.state().streams.entry(next.id.into()).or_default().properties = properties;
        self.begin(next);
    }

    /// A configuration is replaced, and drained.
    fn end_root(&mut self, input: &mut Input<'_>) {
        let Some(at) = self.some_root(input) else { return };
        let id = self.roots[at].id;
        self.callback(id, |contexts| contexts.on_delete(id));
        self.roots[at].over = true;
        // Envoy drains a root before; if it did not, nobody could wake these.
        self.streams.iter_mut().filter(|stream| stream.root == at).for_each(|stream| stream.excused = true);
        self.calls.iter_mut().filter(|call| call.root == at).for_each(|call| call.given_up = true);
        self.host.state().gone.insert(id);
        self.watch();
    }

    /// Whatever happened, in the end everybody goes on, and the next request is served.
    fn finish(&mut self) {
        self.mend();
        for _ in 0..3 {
            self.latest = self.latest.saturating_add(Duration::from_secs(60));
            self.host.state().monotonic = self.latest;
            for root in 0..self.roots.len() {
                if !self.roots[root].over {
                    self.tick_root(root);
                }
            }
        }
        let paused = self.streams.iter().find(|stream| stream.paused.is_some() && !stream.excused);
        assert!(paused.is_none(), "{:?} waits for ever", paused.map(|stream| stream.id));
        for root in (0..self.roots.len()).filter(|root| !self.roots[*root].over).collect::<Vec<_>>() {
            let stream = self.stream(root, vec![line(":path", "/shop")]);
            self.begin(stream);
            assert_eq!(self.streams.last().map(|stream| stream.stage), Some(Stage::Upstream));
        }
        while !self.streams.is_empty() {
            if self.streams[0].stage != Stage::Done {
                self.end(0);
            }
            self.forget(0);
        }
    }
}

fn keyring(key: usize, scope: usize) -> Keyring {
    KEYRINGS.with(|keyrings| keyrings[key][scope].clone())
}

/// A session with hosts of its own.
fn session(id: SessionId, now: UnixTime, name: u8, input: &mut Input<'_>) -> Session {
    let ago = [0, 5, 20, 100, 4000][input.choice(5)];
    let created = UnixTime(now.0.saturating_sub(ago).saturating_add([0, 30, 500][input.choice(3)]));
    let generation = [0, 1, 2, u32::MAX][input.choice(4)];
    let mut session = Session {
        id,
        created,
        renewed: created,
        end: (!input.flag()).then(|| created.plus(30_000)),
        generation,
        pins: Default::default(),
    };
    let pins: &[(&str, String)] = &match input.choice(6) {
        0 => vec![("app", format!("10.0.{name}.1:80"))],
        1 => vec![],
        2 => vec![("app", format!("10.0.{name}.2:80"))],
        3 => vec![("app", format!("10.0.{name}.1:80")), ("other", format!("[fd00::{name}]:80"))],
        4 => vec![("other", format!("/run/{name}.sock"))],
        _ => (0..8).map(|at| ("", format!("10.1.{name}.{at}:80"))).collect(),
    };
    for (at, (cluster, host)) in pins.iter().enumerate() {
        let cluster = if cluster.is_empty() { ClusterId([at as u8; 8]) } else { ClusterId::of(cluster.as_bytes()) };
        session.pins.set(Pin { cluster, host: HostAddr::parse(host.as_bytes()).expect("a host") });
    }
    session
}

fn some_host(input: &mut Input<'_>) -> String {
    let name = input.choice(6);
    match input.choice(5) {
        0 => format!("10.0.{name}.1:80"),
        1 => format!("10.0.{name}.2:80"),
        2 => format!("[fd00::{name}]:80"),
        3 => "not an address".into(),
        _ => format!("/run/{name}.sock"),
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The sessions of the tokens of a request that count: the first four cookies of the name, where the cookie belongs to the path.
fn sessions(config: &Config, headers: &[Line], now: UnixTime) -> BTreeSet<SessionId> {
    let path = headers.iter().find(|(name, _)| name == b":path").map_or(&b"/"[..], |(_, path)| path);
    let path = String::from_utf8_lossy(path).into_owned();
    let path = path.split('?').next().unwrap_or_default();
    let wanted = config.cookie.path.trim_end_matches('/');
    if !(path == wanted || path.starts_with(&format!("{wanted}/"))) {
        return BTreeSet::new();
    }
    let lines = headers.iter().filter(|(name, _)| name == b"cookie");
    let values = lines.flat_map(|(_, line)| cookie::values(line, COOKIE)).take(4);
    let opened = values.filter_map(|value| token::open(&value, &config.keyring).ok());
    opened.filter(|(session, _)| config.session.check(session, now).is_ok()).map(|(session, _)| session.id).collect()
}
