//! Decisions, with the proxy played by the test. By subject: `request`, `response`, `carriers`, `decision` (what it is called), `application`, `failures`,
//! `store`.

mod application;
mod carriers;
mod decision;
mod failures;
mod request;
mod response;
mod store;

use super::*;
use crate::carrier::AnyCarrier;
use crate::carrier::cookie::CookieCarrier;
use crate::config::Config;
use crate::credential::token::{self, Refusal};
use crate::headers::Edit;
use crate::ids::StreamId;
use crate::observe::decision::Outcome;
use crate::observe::metrics::{By, Counter, Counts, Fault};
use crate::session::Session;
use crate::text::words::ClosedSet as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::cell::Cell;
use std::time::Duration;

const STREAM: StreamId = StreamId(7);

const T0: UnixTime = UnixTime(1_800_000_000);
const A: &str = "127.0.0.1:9001";
const B: &str = "127.0.0.1:9002";
const VIA_UPSTREAM: &str = "via_upstream";

/// What the proxy knows, to be set by a test.
struct Proxy {
    now: Option<UnixTime>,
    /// So many seconds ago the clock was read.
    tick_ago: u64,
    cluster: Option<&'static str>,
    served: Option<String>,
    attempts: Option<u64>,
    code_details: &'static str,
    response: Vec<(String, String)>,
    carried: Option<Vec<u8>>,
    randomness: bool,
    monotonic: bool,
    drawn: Cell<u8>,
    /// How often each of cluster, address and details was asked for.
    asked: Cell<u32>,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            now: Some(T0),
            tick_ago: 0,
            cluster: Some("app"),
            served: Some(A.into()),
            attempts: Some(1),
            code_details: VIA_UPSTREAM,
            response: vec![(":status".into(), "200".into())],
            carried: None,
            randomness: true,
            monotonic: true,
            drawn: Cell::new(0),
            asked: Cell::new(0),
        }
    }
}

impl Proxy {
    fn draw<const N: usize>(&self) -> Option<[u8; N]> {
        self.drawn.set(self.drawn.get().wrapping_add(1));
        self.randomness.then(|| [self.drawn.get(); N])
    }

    fn ask<T>(&self, answer: T) -> T {
        self.asked.set(self.asked.get().saturating_add(1));
        answer
    }
}

impl Inputs for Proxy {
    fn now(&self) -> Option<UnixTime> {
        self.now.map(|now| UnixTime(now.0.saturating_sub(self.tick_ago)))
    }
    fn now_exactly(&self) -> Option<UnixTime> {
        self.now
    }
    fn monotonic(&self) -> Option<Monotonic> {
        self.now.filter(|_| self.monotonic).map(|now| Monotonic(Duration::from_secs(now.0)))
    }
    fn random_id(&self) -> Option<SessionId> {
        self.draw().map(SessionId)
    }
    fn random_nonce(&self) -> Option<[u8; 24]> {
        self.draw()
    }
    fn cluster_name(&self) -> Option<Vec<u8>> {
        self.ask(self.cluster.map(Into::into))
    }
    fn upstream_address(&self) -> Option<Vec<u8>> {
        self.ask(self.served.clone().map(Into::into))
    }
    fn attempts(&self) -> Option<u64> {
        self.attempts
    }
    fn code_details(&self) -> Option<Vec<u8>> {
        self.ask(Some(self.code_details.into()))
    }
    fn response_header(&self, name: &str) -> Option<Vec<u8>> {
        self.response.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone().into())
    }
    fn response_headers(&self) -> Option<Headers> {
        Some(Headers::from_pairs(self.response.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))))
    }
    fn carried(&self) -> Option<Vec<u8>> {
        self.carried.clone()
    }
}

/// A worker with one configuration, and a client with one cookie.
struct Scene {
    affinity: Affinity,
    worker: Worker,
    proxy: Proxy,
    cookie: Option<String>,
    /// What the access log was told last.
    logged: Option<String>,
}

const KEYS: &str = r#"{"id":"new","secret":{"base64":"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}},
    {"id":"old","secret":{"base64":"QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI="}}"#;

fn config(members: &str) -> Config {
    let comma = if members.is_empty() { "" } else { "," };
    let json = format!(r#"{{"keys":[{KEYS}],"cookie":{{"name":"m"}}{comma}{members}}}"#);
    read(&json)
}

fn read(json: &str) -> Config {
    Config::parse(json.as_bytes(), &|_| None).unwrap()
}

fn affinity(config: &Config) -> Affinity {
    Affinity::new(Rc::clone(&config.shared), Rc::clone(&config.policy))
}

/// What a response did, as the client sees it.
#[derive(Debug, PartialEq)]
enum Cookie {
    Kept,
    Issued,
    Cleared,
}

impl Scene {
    fn new(members: &str) -> Self {
        let config = config(members);
        let (affinity, worker) = (affinity(&config), Worker::new(&config, 0));
        Self { affinity, worker, proxy: Proxy::default(), cookie: None, logged: None }
    }

    /// A client whose session is pinned to `A` in the cluster `app`.
    fn resumed(members: &str) -> Self {
        let mut scene = Self::new(members);
        scene.bridge(true);
        assert_eq!(scene.exchange(), Cookie::Issued);
        scene.bridge(false);
        scene.worker.counts = Counts::default();
        scene
    }

    /// As it is by now.
    fn config(&self) -> Config {
        Config { shared: Rc::clone(&self.affinity.shared), policy: Rc::clone(&self.affinity.policy) }
    }

    /// The policy, to be changed.
    fn policy(&mut self) -> &mut Policy {
        Rc::make_mut(&mut self.affinity.policy)
    }

    /// What policies share, to be changed.
    fn shared(&mut self) -> &mut Shared {
        Rc::make_mut(&mut self.affinity.shared)
    }

    /// The cookie's carrier, to be changed.
    fn cookie_carrier(&mut self) -> &mut CookieCarrier {
        match self.policy().identify.first_mut() {
            Some(AnyCarrier::Cookie(carrier)) => carrier,
            other => panic!("{other:?}"),
        }
    }

    /// Whether the native filter names the serving host on the response.
    fn bridge(&mut self, speaks: bool) {
        self.proxy.response.retain(|(name, _)| name != "x-mooring-host");
        if speaks {
            self.proxy.response.push(("x-mooring-host".into(), "eA==".into()));
        }
    }

    fn served_by(&mut self, host: &str) {
        self.proxy.served = Some(host.into());
        self.bridge(true);
    }

    fn says(&mut self, action: &str) {
        self.proxy.response.push(("x-mooring-action".into(), action.into()));
    }

    fn says_nothing(&mut self) {
        self.proxy.response.retain(|(name, _)| name != "x-mooring-action");
    }

    fn later(&mut self, seconds: u64) {
        self.proxy.now = self.proxy.now.map(|now| UnixTime(now.0 + seconds));
    }

    fn request(&mut self) -> (Exchange, Vec<Edit<'static>>) {
        let cookie = self.cookie.as_ref().map(|value| format!("m={value}"));
        let lines = cookie.iter().map(|line| (&b"cookie"[..], line.as_bytes()));
        self.request_with(&Headers::from_pairs(lines))
    }

    fn request_with(&mut self, headers: &Headers) -> (Exchange, Vec<Edit<'static>>) {
        let request = self.affinity.turn(&mut self.worker, &self.proxy).on_request(STREAM, Some(headers));
        let (exchange, edits) = proceeds(request);
        (exchange, edits.into_iter().map(owned).collect())
    }

    fn respond(&mut self, exchange: Exchange) -> Cookie {
        let edits = answers(self.affinity.turn(&mut self.worker, &self.proxy).on_response(STREAM, exchange));
        let edits: Vec<Edit<'static>> = edits.into_iter().map(owned).collect();
        self.take(&edits)
    }

    /// What the client does with a response.
    fn take(&mut self, edits: &[Edit<'_>]) -> Cookie {
        let set_cookie = added(edits, "set-cookie");
        self.logged = edits.iter().find_map(|edit| match edit {
            Edit::Log(line) => Some(line.clone()),
            Edit::Set(..) | Edit::Add(..) | Edit::Remove(_) => None,
        });
        match set_cookie.as_deref().and_then(|line| line.strip_prefix("m=")?.split_once(';')) {
            None => Cookie::Kept,
            Some(("", _)) => {
                self.cookie = None;
                Cookie::Cleared
            }
            Some((value, _)) => {
                self.cookie = Some(value.into());
                Cookie::Issued
            }
        }
    }

    /// One request and its response.
    fn exchange(&mut self) -> Cookie {
        let (exchange, _) = self.request();
        self.respond(exchange)
    }

    fn session(&self) -> Session {
        token::open(self.cookie.as_ref().unwrap().as_bytes(), &self.affinity.shared.keyring).unwrap().0
    }

    fn pin(&self, cluster: &str) -> Option<String> {
        self.session().pins.host_in(ClusterId::of(cluster.as_bytes())).map(HostAddr::to_text)
    }

    /// The one outcome since last time, by its word.
    fn outcome(&mut self) -> &'static str {
        let counted = std::mem::take(&mut self.worker.counts).take_named(&self.affinity.shared.keyring);
        let outcomes: Vec<&str> = counted
            .iter()
            .filter_map(|(name, _)| name.strip_prefix("mooring_sessions.outcome=")?.split('.').next())
            .collect();
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        Outcome::WORDS.iter().find(|word| **word == outcomes[0]).unwrap()
    }

    fn counted(&self, counter: Counter) -> bool {
        self.worker.counts.get(counter) > 0
    }
}

/// A request that does not wait.
fn proceeds(request: RequestStep<'_>) -> (Exchange, Vec<Edit<'_>>) {
    match request {
        RequestStep::Proceed(exchange, edits) => (exchange, edits),
        other @ (RequestStep::Wait(_) | RequestStep::Refuse(..)) => panic!("{other:?}"),
    }
}

/// A response that does not wait.
fn answers(response: Response<'_>) -> Vec<Edit<'_>> {
    match response {
        Response::Proceed(edits) => edits,
        waiting @ Response::Wait(..) => panic!("{waiting:?}"),
    }
}

fn owned(edit: Edit<'_>) -> Edit<'static> {
    let name = |name: &str| &*Box::leak(name.to_owned().into_boxed_str());
    match edit {
        Edit::Set(key, value) => Edit::Set(name(key), value),
        Edit::Add(key, value) => Edit::Add(name(key), value),
        Edit::Remove(key) => Edit::Remove(name(key)),
        Edit::Log(line) => Edit::Log(line),
    }
}

fn headers(lines: &[(&str, &str)]) -> Headers {
    Headers::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

/// The value that the edits set or add under `name`.
fn added(edits: &[Edit<'_>], name: &str) -> Option<String> {
    edits.iter().find_map(|edit| match edit {
        Edit::Set(key, value) | Edit::Add(key, value) if *key == name => String::from_utf8(value.clone()).ok(),
        Edit::Set(..) | Edit::Add(..) | Edit::Remove(_) | Edit::Log(_) => None,
    })
}

/// The host that the edits ask the bridge for.
fn asked(edits: &[Edit<'_>]) -> Option<String> {
    added(edits, "x-mooring-host").map(|value| String::from_utf8(STANDARD.decode(value).unwrap()).unwrap())
}
