//! The whole filter in a proxy where anything happens in any order: requests and what clients send under our names, responses and
//! what upstreams say, calls that are answered well, badly, late, twice or never, clients that leave, redirects, reloads, clocks
//! that jump, and host calls that fail.
//!
//! An input is a configuration (`options`) and a row of events; `Run::step` has their letters. Nothing here says beforehand what the
//! filter will do. What it may do at all, whatever happens, is said in three places: the proxy looks after every callback at what
//! became of its contexts (`mooring_test_kit::fake`), `checks` looks at what goes to the store, to upstreams and to clients, and
//! `Run::finish` at what is left: nobody waits for ever. And the same input does the same again.

mod checks;
mod options;

use crate::cookie;
use crate::input::Input;
use crate::keys;
use mooring::carrier::AnyCarrier;
use mooring::clock::UnixTime;
use mooring::config::{Config, Endpoint, WriteMode};
use mooring::credential::keyring::Keyring;
use mooring::credential::token::{self, Protection};
use mooring::ids::{CallId, ContextId, StreamId};
use mooring::session::pin::{ClusterId, HostAddr, Pin};
use mooring::session::{Session, SessionId};
use mooring::shell::contexts::Action;
use mooring::shell::proxy::HeaderMap;
use mooring::store::protocol::model::Model;
use mooring::store::protocol::{Command, StoreKey};
use mooring::store::value;
use mooring_test_kit::fake::{Call, Line, Sent};
use mooring_test_kit::proxy::{Proxy, line};
use mooring_test_kit::store;
use options::{COOKIE, SCOPES, TOKEN_HEADER};
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

thread_local! {
    /// By the key that signs, and the scope.
    static KEYRINGS: LazyCell<Vec<[Keyring; 2]>> = const {
        LazyCell::new(|| (0..4).map(|key| SCOPES.map(|scope| keys::keyring(&[key], scope))).collect())
    };
}

/// Checks an input.
pub fn check(data: &[u8]) {
    // It costs several times as much.
    if data.len().is_multiple_of(16) {
        let trace = || format!("{:?}", run(data, Some(Vec::new())).proxy.host.state());
        assert_eq!(trace(), trace(), "the same again");
    } else {
        run(data, None).clear();
    }
}

/// An input from its beginning to its end. With a journal the proxy keeps in it what it was asked.
fn run(data: &[u8], journal: Option<Vec<Call>>) -> Run {
    let mut input = Input(data);
    let mut run = Run::new();
    run.proxy.host.state().journal = journal;
    run.root(&mut input);
    for _ in 0..MOST_EVENTS {
        if input.0.is_empty() {
            break;
        }
        run.step(&mut input);
    }
    run.finish();
    run
}

/// A configuration at work.
struct Root {
    id: ContextId,
    /// `None`: it was refused.
    config: Option<Rc<Config>>,
    /// It is gone.
    over: bool,
    /// Sessions whose tokens came with a request, and verified.
    met: BTreeSet<SessionId>,
    /// Those that it knows to be over: the store told it, or took its word. It forgets none.
    ended: BTreeSet<SessionId>,
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
    /// What there was to say to the client is said.
    Over,
}

struct Stream {
    id: StreamId,
    root: usize,
    stage: Stage,
    /// Kinds of host calls that failed at any time since it began.
    broken: BTreeSet<Call>,
    /// The clock was put back or forward since it began.
    clock_moved: bool,
    /// It is another pass of the filter chain.
    redirected: bool,
    /// The request's header lines as they came.
    came: Vec<Line>,
    /// The sessions of which it has a valid token.
    sessions: BTreeSet<SessionId>,
    /// Sessions of which it has a token, and which had ended before it came.
    ended: BTreeSet<SessionId>,
    /// The session id that its upstream got.
    told: Option<Vec<u8>>,
    /// What came of the response, and when.
    responded: Option<Responded>,
    /// The calls that its response asked for and that it must not go on without.
    awaits: Vec<CallId>,
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
    sent: Sent,
    key: StoreKey,
    command: Command,
    session: SessionId,
    /// When it was made, as far as the filter knows.
    at: Duration,
    /// The filter may have given it up.
    late: bool,
}

struct Run {
    proxy: Proxy,
    roots: Vec<Root>,
    streams: Vec<Stream>,
    calls: Vec<Pending>,
    answered: Vec<Sent>,
    store: Model,
    /// The hosts that each session was ever pinned to, or served by.
    hosts: BTreeMap<SessionId, BTreeSet<String>>,
    /// Tokens that were issued, by the filter or by another proxy.
    jar: Vec<String>,
    /// Session ids that the filter made.
    made: BTreeSet<SessionId>,
    randomness_seen: usize,
    refused: usize,
    latest: Duration,
}

impl Run {
    fn new() -> Self {
        let proxy = Proxy::default();
        {
            let mut state = proxy.host.state();
            (state.now, state.monotonic) = (START, START_MONOTONIC);
        }
        Self {
            proxy,
            roots: Vec::new(),
            streams: Vec::new(),
            calls: Vec::new(),
            answered: Vec::new(),
            store: Model::default(),
            hosts: BTreeMap::new(),
            jar: Vec::new(),
            made: BTreeSet::new(),
            randomness_seen: 0,
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
            3 => self.leave(input),
            4 => self.crowd(input),
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

    /// A new root: at first, and at a reload.
    fn root(&mut self, input: &mut Input<'_>) {
        let (json, config) = options::config(input);
        if self.roots.len() >= MOST_ROOTS {
            return;
        }
        let id = ContextId(1 + self.roots.len() as u32);
        let accepted = self.proxy.set_up_with(id, json.to_vec());
        assert!(!accepted || config.is_some(), "accepted as it was refused");
        self.refused += usize::from(!accepted);
        let config = config.filter(|_| accepted);
        let (met, ended) = (BTreeSet::new(), BTreeSet::new());
        self.roots.push(Root { id, config, over: false, met, ended, keys: BTreeMap::new() });
        self.look_around();
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
        if root.is_some_and(|root| self.roots[root].config.as_ref().is_some_and(|config| carries_in_header(config))) {
            for _ in 0..input.choice(3) {
                let cookie = self.cookie(input);
                let value = cookie.strip_prefix(&b"m="[..]).unwrap_or_default();
                headers.push(line(TOKEN_HEADER, value));
            }
        }
        let spoofs = input.choice(8);
        let names = ["x-mooring-host", "x-mooring-action", "x-mooring-session"];
        for name in names.iter().enumerate().filter(|(at, _)| spoofs >> at & 1 == 1).map(|(_, name)| name) {
            headers.push(line(name, "MTAuMC42Ni42Njo4MA=="));
            headers.push(line(name, "end"));
        }
        headers.push(line("x-other", b"\xff"));
        if let Some(root) = root.filter(|_| self.streams.len() < MOST_STREAMS) {
            self.begin(root, headers);
        }
    }

    /// A request comes.
    fn begin(&mut self, root: usize, came: Vec<Line>) {
        let (id, _) = self.proxy.receive(self.roots[root].id, came.clone());
        let stream = self.stream(root, id, came);
        self.streams.push(stream);
        self.look_around();
    }

    /// A stream whose request has just come.
    fn stream(&mut self, root: usize, id: StreamId, came: Vec<Line>) -> Stream {
        let state = self.proxy.host.state();
        let (now, broken) = (state.now, state.broken.keys().copied().collect::<BTreeSet<Call>>());
        drop(state);
        let Root { config, met, ended, .. } = &mut self.roots[root];
        let valid = config.as_ref().map(|config| sessions(config, &came, now)).unwrap_or_default();
        met.extend(&valid);
        // Without a clock it cannot look up what it knows.
        let knows = |session: &SessionId| ended.contains(session) && !broken.contains(&Call::Clock);
        let (ended, sessions) = valid.into_iter().partition(knows);
        Stream {
            id,
            root,
            stage: Stage::Request,
            broken,
            clock_moved: false,
            redirected: false,
            came,
            sessions,
            ended,
            told: None,
            responded: None,
            awaits: Vec::new(),
        }
    }

    /// So many clients come, each with a session of its own, and do not wait.
    fn crowd(&mut self, input: &mut Input<'_>) {
        let Some(root) = self.some_root(input) else { return };
        for name in 0..input.choice(64) as u8 {
            let mut session = session(SessionId([0x40 + name; 16]), self.proxy.host.state().now, name, &mut Input(b""));
            session.generation = 1;
            self.pinned(&session);
            let token = token::seal(&session, &keyring(0, 0), &Protection::Signed);
            self.begin(root, vec![line("cookie", format!("{COOKIE}={token}"))]);
            self.forget(self.streams.len() - 1);
        }
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
        let session = self.minted(input);
        let (key, scope) = (input.choice(3), input.choice(2));
        let protection = if input.flag() { Protection::Encrypted { nonce: [7; 24] } } else { Protection::Signed };
        let token = token::seal(&session, &keyring(key, scope), &protection);
        self.pinned(&session);
        self.keep(&token);
        token
    }

    fn minted(&mut self, input: &mut Input<'_>) -> Session {
        let name = input.choice(6) as u8;
        let now = self.proxy.host.state().now;
        session(SessionId([0xa0 + name; 16]), now, name, input)
    }

    fn keep(&mut self, token: &str) {
        if self.jar.len() == 32 {
            self.jar.remove(0);
        }
        self.jar.push(token.into());
    }

    fn pinned(&mut self, session: &Session) {
        self.hosts.entry(session.id).or_default().extend(session.pins.iter().map(|pin| pin.host.to_text()));
    }

    /// A response's headers come: the upstream's, or the proxy's own.
    fn respond(&mut self, input: &mut Input<'_>) {
        let waits = |stream: &Stream| stream.stage == Stage::Answered || self.proxy.paused(stream.id).is_some();
        let Some(at) = self.some_stream(input, |stream| stream.stage == Stage::Upstream || waits(stream)) else {
            return;
        };
        let stream = &self.streams[at];
        if waits(stream) {
            self.respond_locally(at);
            return;
        }
        let config = self.roots[stream.root].config.clone();
        let host_header =
            config.as_ref().map_or("x-mooring-host", |config| config.policy.upstream.header.as_str()).to_owned();
        let session_header = config
            .as_ref()
            .map_or("x-mooring-session", |config| config.policy.app.session_header.name.as_str())
            .to_owned();
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

        let actions = config.as_ref().is_some_and(|config| config.policy.app.action_header.enabled);
        let says = |word: &str| actions && action.to_ascii_lowercase().contains(word);
        // Unread, it is not heeded.
        let broken: Vec<Call> = self.proxy.host.state().broken.keys().copied().collect();
        let reads = !broken.contains(&Call::Headers) && !broken.contains(&Call::Header);
        let (rotates, ends) = (says("rotate") && reads, says("end"));
        let from_upstream = details == "via_upstream";
        let id = stream.id;
        if from_upstream {
            for session in stream.sessions.clone() {
                self.hosts.entry(session).or_default().insert(host.clone());
            }
        }
        let now = self.proxy.host.state().now;
        let may_set_cookie = from_upstream && status != "304";
        self.streams[at].responded = Some(Responded { now, may_set_cookie, rotates, ends });
        self.streams[at].stage = Stage::Response;
        let before = self.calls.len();
        self.proxy.respond(id, headers, details, Some(&host), cluster);
        self.take_calls();
        let sync = config
            .is_some_and(|config| config.shared.store.as_ref().is_some_and(|store| store.write == WriteMode::Sync));
        let awaited = |call: &&Pending| match call.command {
            Command::Lookup => false,
            Command::Create { .. } | Command::Move { .. } | Command::Touch { .. } => sync,
            Command::Revoke { .. } => true,
        };
        self.streams[at].awaits = self.calls[before..].iter().filter(awaited).map(|call| call.sent.id).collect();
        self.look_around();
    }

    /// The proxy waits no longer, and answers by itself; or it passes the filter's own answer through the filter.
    fn respond_locally(&mut self, at: usize) {
        self.streams[at].stage = Stage::Over;
        let id = self.streams[at].id;
        let headers = vec![line(":status", "504"), line("x-local", "1")];
        let action = self.proxy.respond(id, headers.clone(), "stream_idle_timeout", None, None);
        assert_eq!(action, Action::Continue, "nothing is to be waited for");
        {
            let state = self.proxy.host.state();
            let stream = &state.streams[&id.into()];
            // One that could not be resumed is not known to wait.
            assert!(stream.response_headers == headers || stream.out_of_reach, "there is nothing to say");
        }
        self.look_around();
    }

    fn trailers(&mut self, input: &mut Input<'_>) {
        let map = [HeaderMap::RequestTrailers, HeaderMap::ResponseTrailers][input.choice(2)];
        let Some(at) = self.some_stream(input, |_| true) else { return };
        let names =
            ["x-mooring-host", "x-own-session", "grpc-status", "x-own-host", "x-mooring-action", "x-mooring-session"];
        let left = self.proxy.trailers(self.streams[at].id, map, names.map(|name| line(name, "v")).into());
        self.check_trailers(at, map, &names, &left);
        self.look_around();
    }

    /// A call comes to something.
    fn answer(&mut self, input: &mut Input<'_>) {
        let (at, how) = (input.choice(16), input.choice(8));
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.remove(at % self.calls.len());
        let Some(config) = self.roots[call.root].config.clone() else { return };
        let Some(Endpoint { protocol, namespace, .. }) = config.shared.store.as_ref().map(|store| &store.endpoint)
        else {
            return;
        };
        let mut serve = || store::answer(&mut self.store, *protocol, &call.key, &call.command);
        match how {
            2 => {
                let statuses = ["200", "201", "204", "404", "410", "412", "401", "503", "xyz", "99999"];
                let (status, length) = (statuses[input.choice(10)], input.choice(64));
                let etag = input.flag().then(|| line("etag", "\"1\""));
                let lines = [line(":status", status)].into_iter().chain(etag).collect();
                self.proxy.give(&call.sent, lines, input.take(length).to_vec());
            }
            3 => self.proxy.give(&call.sent, Vec::new(), Vec::new()),
            4 => self.proxy.answer(&call.sent, "200", &[b'x'; 4097]),
            5 => {
                // What was written for another session, or by somebody with other keys.
                let session = self.minted(input);
                let key = StoreKey::of(&session.id, &config.shared.scope, namespace);
                let strange = keyring(3, 0);
                let keyring = if session.id == call.session { &strange } else { &config.shared.keyring };
                let found = store::found(*protocol, &value::seal(&session, &key, keyring));
                self.proxy.tell(&call.sent, found);
            }
            6 => {
                serve();
                self.proxy.answer(&call.sent, "503", b"");
            }
            _ => {
                let said = serve();
                let heard =
                    !call.late && self.proxy.host.state().broken.is_empty() && config.shared.cache.entries > 100;
                self.proxy.tell(&call.sent, said.clone());
                if heard && self.store.value(&call.key) == Some("") {
                    self.roots[call.root].ended.insert(call.session);
                }
                if how == 7 {
                    self.look_around();
                    self.proxy.tell(&call.sent, said);
                }
            }
        }
        self.answered.push(call.sent);
        self.look_around();
    }

    /// Callbacks that mean nothing: of contexts that nobody made, about calls that nobody made or that were answered.
    fn stray(&mut self, input: &mut Input<'_>) {
        let nobody = ContextId(u32::MAX - u32::from(input.byte()));
        let root = self.some_root(input).map_or(nobody, |at| self.roots[at].id);
        let sent = |context, id| Sent {
            id,
            context,
            cluster: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: Duration::ZERO,
        };
        match input.choice(5) {
            0 => {
                let (stream, before) = (StreamId(nobody.0), self.proxy.host.state().calls);
                let request = self.proxy.callback(nobody, |contexts| contexts.on_request_headers(stream));
                let response = self.proxy.callback(nobody, |contexts| contexts.on_response_headers(stream));
                assert_eq!((request, response), (Action::Continue, Action::Continue));
                self.proxy.callback(nobody, |contexts| contexts.on_delete(nobody));
                assert_eq!(self.proxy.host.state().calls, before, "nothing is to be done for nobody");
            }
            1 => self.proxy.answer(&sent(root, CallId(u32::MAX)), "200", b"x"),
            2 => {
                let at = input.choice(8);
                if let Some(call) = self.answered.get(at % self.answered.len().max(1)).cloned() {
                    self.proxy.answer(&call, "404", b"");
                }
            }
            3 => {
                // A call's answer, to a root that did not make it.
                if let Some(call) = self.calls.first().filter(|call| call.sent.context != root) {
                    self.proxy.answer(&sent(root, call.sent.id), "404", b"");
                }
            }
            _ => self.proxy.tick(nobody),
        }
        self.look_around();
    }

    fn tick(&mut self, input: &mut Input<'_>) {
        if let Some(root) = self.some_root(input) {
            self.tick_root(root);
        }
    }

    fn tick_root(&mut self, root: usize) {
        let now = self.proxy.host.state().monotonic;
        for call in self.calls.iter_mut().filter(|call| call.root == root) {
            call.late |= now.saturating_sub(call.at) > call.sent.timeout;
        }
        self.proxy.tick(self.roots[root].id);
        self.look_around();
    }

    fn tick_all(&mut self) {
        let live: Vec<usize> = (0..self.roots.len()).filter(|root| !self.roots[*root].over).collect();
        live.into_iter().for_each(|root| self.tick_root(root));
    }

    fn pass_time(&mut self, input: &mut Input<'_>) {
        let steps = [10, 100, 1101, 2001, 5000, 31_000, 3_600_000, 1 << 42];
        let step = Duration::from_millis(steps[input.choice(8)]);
        let back = input.flag();
        let mut state = self.proxy.host.state();
        let now = if back { state.monotonic.saturating_sub(step) } else { state.monotonic.saturating_add(step) };
        // The filter counts nanoseconds in 64 bits: 584 years.
        state.monotonic = now.min(Duration::from_secs(1 << 34));
        self.latest = self.latest.max(state.monotonic);
    }

    fn put_clock(&mut self, input: &mut Input<'_>) {
        let step = [1, 2, 10, 61, 600, 8 * 60 * 60, 1 << 33, u64::MAX][input.choice(8)];
        let back = input.flag();
        let mut state = self.proxy.host.state();
        state.now = UnixTime(if back { state.now.0.saturating_sub(step) } else { state.now.0.saturating_add(step) });
        drop(state);
        self.streams.iter_mut().for_each(|stream| stream.clock_moved = true);
        // Else the filter would go on with the time that it read last.
        self.tick_all();
    }

    fn break_call(&mut self, input: &mut Input<'_>) {
        let call = Call::ALL[input.choice(13)];
        self.proxy.host.break_call(call, [1, 2, 3, 10, 13, u32::MAX][input.choice(6)]);
        self.streams.iter_mut().for_each(|stream| stream.broken.extend([call]));
    }

    fn mend(&mut self) {
        let broken = std::mem::take(&mut self.proxy.host.state().broken);
        if broken.contains_key(&Call::Clock) {
            // Else it would stay unread until then.
            self.tick_all();
        }
    }

    /// What another proxy wrote into the store, or that it was lost.
    fn plant(&mut self, input: &mut Input<'_>) {
        if input.choice(8) == 7 {
            self.store.wipe();
            return;
        }
        let session = self.minted(input);
        let (key, scope) = (input.choice(4), input.choice(2));
        let store_key = StoreKey::of(&session.id, SCOPES[scope], "mooring");
        let value = match input.choice(3) {
            0 | 1 => value::seal(&session, &store_key, &keyring(key, scope)),
            _ => value::tombstone(&store_key, &keyring(key, scope)),
        };
        self.pinned(&session);
        self.store.plant(&store_key, &value);
    }

    /// A client leaves, or has got all.
    fn leave(&mut self, input: &mut Input<'_>) {
        if let Some(at) = self.some_stream(input, |_| true) {
            self.forget(at);
        }
    }

    fn forget(&mut self, at: usize) {
        self.proxy.end(self.streams.remove(at).id);
        self.look_around();
    }

    /// The proxy follows a redirect by itself: the filter runs anew, on the headers as they are now.
    fn redirect(&mut self, input: &mut Input<'_>) {
        let Some(at) = self.some_stream(input, |stream| stream.stage == Stage::Upstream) else { return };
        let before = self.streams.remove(at);
        if self.roots[before.root].over {
            self.proxy.end(before.id);
            return;
        }
        let came = self.proxy.host.state().streams[&before.id.into()].request_headers.clone();
        let (id, _) = self.proxy.redirect(before.id, self.roots[before.root].id);
        let mut next = self.stream(before.root, id, came);
        // It goes by what was found out before.
        next.ended.clear();
        next.sessions.extend(before.sessions);
        next.broken.extend(before.broken);
        (next.redirected, next.clock_moved, next.told) = (true, before.clock_moved, before.told);
        self.streams.push(next);
        self.look_around();
    }

    /// A configuration is replaced, and drained.
    fn end_root(&mut self, input: &mut Input<'_>) {
        let Some(at) = self.some_root(input) else { return };
        self.proxy.delete(self.roots[at].id);
        self.roots[at].over = true;
        self.look_around();
    }

    /// Whatever happened, in the end everybody goes on, and the next request is served.
    fn finish(&mut self) {
        self.mend();
        for _ in 0..3 {
            self.latest = self.latest.saturating_add(Duration::from_secs(60));
            self.proxy.host.state().monotonic = self.latest;
            self.tick_all();
        }
        for stream in &self.streams {
            // Envoy drains a root before it goes; if it did not, nobody could wake these.
            let excused =
                self.roots[stream.root].over || self.proxy.host.state().streams[&stream.id.into()].out_of_reach;
            assert!(excused || self.proxy.paused(stream.id).is_none(), "{:?} waits for ever", stream.id);
        }
        for root in (0..self.roots.len()).filter(|root| !self.roots[*root].over).collect::<Vec<_>>() {
            self.begin(root, vec![line(":path", "/shop")]);
            assert_eq!(self.streams.last().map(|stream| stream.stage), Some(Stage::Upstream));
        }
    }

    /// Every client leaves.
    fn clear(mut self) {
        while !self.streams.is_empty() {
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

/// Whether tokens travel in a header too.
fn carries_in_header(config: &Config) -> bool {
    config.policy.identify.iter().any(|carrier| matches!(carrier, AnyCarrier::Header(_)))
}

/// The sessions of the tokens of a request that may count: the first four cookies of the name, where the cookie belongs to the path, and
/// the first four of the header.
fn sessions(config: &Config, headers: &[Line], now: UnixTime) -> BTreeSet<SessionId> {
    let path = headers.iter().find(|(name, _)| name == b":path").map_or(&b"/"[..], |(_, path)| path);
    let path = String::from_utf8_lossy(path).into_owned();
    let path = path.split('?').next().unwrap_or_default();
    let lines = |wanted: &'static str| headers.iter().filter(move |(name, _)| name == wanted.as_bytes());
    let mut tokens: Vec<Vec<u8>> = Vec::new();
    if let Some(wanted) = config.policy.cookie().map(|cookie| cookie.path.trim_end_matches('/'))
        && (path == wanted || path.starts_with(&format!("{wanted}/")))
    {
        tokens.extend(lines("cookie").flat_map(|(_, line)| cookie::values(line, COOKIE)).take(4));
    }
    if carries_in_header(config) {
        tokens.extend(lines(TOKEN_HEADER).map(|(_, value)| value.clone()));
    }
    let opened = tokens.into_iter().filter_map(|value| token::open(&value, &config.shared.keyring).ok());
    opened
        .filter(|(session, _)| config.policy.session.check(session, now).is_ok())
        .map(|(session, _)| session.id)
        .collect()
}
