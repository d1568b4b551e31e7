//! The request's half: find the session, ask for its host.

use super::carried::{self, Carried};
use super::{Arrival, Asked, Exchange, Resumed, Standing, Turn};
use crate::affinity::worker::Sequence;
use crate::carrier::{AnyCarrier, Carriers, Lines, MAX_CANDIDATES};
use crate::clock::UnixTime;
use crate::config::{Failover, OnError, OnMissing, Via};
use crate::credential::token::Refusal;
use crate::credential::verified::{OpenedToken, Recall};
use crate::headers::{Edit, Headers};
use crate::ids::StreamId;
use crate::observe::decision::Basis;
use crate::observe::metrics::{Counter, Ending, Fault, Histogram, Memory};
use crate::session::pin::{ClusterId, HostAddr};
use crate::session::{Session, SessionId, Untimely};
use crate::store::cache::Record;
use crate::store::client::LookupOutcome;
use crate::text::base64;
use std::cell::OnceCell;
use std::rc::Rc;

/// What a request does next.
#[derive(Debug)]
pub(crate) enum RequestStep<'a> {
    /// It goes to an upstream, with these edits.
    Proceed(Exchange, Vec<Edit<'a>>),
    /// It waits for the store. [`Turn::on_found`] goes on.
    Wait(Box<PausedRequest>),
    /// It is turned away, as `on_error: fail` says: 503 with a `retry-after` of this many seconds. Where the proxy cannot do that, the
    /// request goes on with these edits, and its session counts as unknown.
    Refuse(u64, Exchange, Vec<Edit<'a>>),
}

/// A request whose session is being looked up.
#[derive(Debug)]
pub(crate) struct PausedRequest {
    began: Sequence,
    opened: Rc<OpenedToken>,
    /// By which carrier it came.
    by: usize,
}

/// What a lookup found, and whether the cache or the store had it.
struct Finding {
    found: LookupOutcome,
    by: Basis,
}

/// What was found of tokens that are not valid.
#[derive(Default)]
struct Fruitless {
    /// Of which carriers they were.
    presented: Carriers,
    /// Why the last was refused.
    refusal: Option<Refusal>,
    /// What the last says that had timed out.
    timed_out: Option<Rc<OpenedToken>>,
}

/// What counts of a request's headers.
struct Received<'a> {
    path: &'a [u8],
    /// Which of the internal headers the client sent.
    internal: [bool; 3],
    /// What carriers read, by the places in [`Affinity::read`](super::Affinity).
    lines: Vec<(usize, &'a [u8])>,
}

/// A token that is refused.
struct Invalid {
    refusal: Refusal,
    /// What it says, where that can be believed.
    session: Option<Rc<OpenedToken>>,
}

impl From<Refusal> for Invalid {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, session: None }
    }
}

impl PausedRequest {
    /// What it came with, as it turned out.
    pub(super) fn arrival(&self, basis: Basis) -> Arrival {
        Arrival::with_token(self.began, basis, self.by)
    }
}

impl Arrival {
    /// It came with a token that is valid.
    fn with_token(began: Sequence, basis: Basis, by: usize) -> Self {
        Self { began, basis, presented: Carriers::only(by), by: Some(by) }
    }
}

impl<'a> RequestStep<'a> {
    fn proceed((exchange, edits): (Exchange, Vec<Edit<'a>>)) -> Self {
        Self::Proceed(exchange, edits)
    }
}

impl<'p> Turn<'p, '_> {
    /// Decides on a request. `headers` are `None` when the proxy did not give them.
    pub(crate) fn on_request(&mut self, stream: StreamId, headers: Option<&Headers>) -> RequestStep<'p> {
        let began = self.worker.step();
        let (Some(headers), Some(now)) = (headers, self.proxy.now()) else { return self.proceed_unread(began) };
        let received = self.receive(headers);
        let mut fruitless = Fruitless::default();
        for (by, carrier) in self.carriers_for(&received) {
            let tokens = carrier.tokens(self.lines(&received, by));
            if let Some(opened) = self.newest(tokens, now, &mut fruitless) {
                return self.find(PausedRequest { began, opened, by }, stream, &received);
            }
            if tokens.iter().any(Option::is_some) {
                fruitless.presented = fruitless.presented.and(Carriers::only(by));
            }
        }
        // Once a request, and not for what is left beside a session that goes on.
        if let Some(opened) = &fruitless.timed_out {
            self.measure_end(&opened.session);
        }
        let Fruitless { presented, refusal, .. } = fruitless;
        if let Some((before, standing)) = self.carried(now) {
            let arrival =
                Arrival { began, basis: Basis::Redirected, presented: presented.and(before.presented), by: before.by };
            return RequestStep::proceed(self.exchange(&received, arrival, standing));
        }
        let by = self.begins_by(&received);
        let basis = match (refusal, by) {
            (Some(refusal), _) => Basis::Refused(refusal),
            (None, Some(_)) => Basis::None,
            (None, None) => Basis::Outside,
        };
        let standing = if by.is_some() { self.fresh() } else { Standing::Outside };
        RequestStep::proceed(self.exchange(&received, Arrival { began, basis, presented, by }, standing))
    }

    /// Reads the headers, once.
    fn receive<'a>(&self, headers: &'a Headers) -> Received<'a> {
        let mut received = Received { path: b"/", internal: [false; 3], lines: Vec::new() };
        headers.select(&self.affinity.read, |which, value| {
            match which {
                0 => received.path = value,
                1 => received.internal[0] = true,
                2 => received.internal[1] = true,
                3 => received.internal[2] = true,
                _ => {}
            }
            if self.affinity.read_by.contains(&which) {
                received.lines.push((which, value));
            }
        });
        received
    }

    /// The carriers that this request can have a session of, and their places.
    fn carriers_for<'r>(&self, received: &Received<'r>) -> impl Iterator<Item = (usize, &'p AnyCarrier)> + use<'p, 'r> {
        let path = received.path;
        self.affinity.carriers().iter().enumerate().filter(move |(_, carrier)| carrier.covers(path))
    }

    /// The first carrier by which a new session may begin.
    fn begins_by(&self, received: &Received<'_>) -> Option<usize> {
        let mut carriers = self.carriers_for(received);
        carriers.find(|(by, carrier)| carrier.may_begin(self.lines(received, *by))).map(|(by, _)| by)
    }

    /// A session that came by a later carrier than this one, and that the worker knows. The store is asked once a request.
    fn known_by_another(&mut self, after: usize, received: &Received<'_>) -> Option<(usize, Resumed)> {
        let now = self.proxy.now()?;
        for (by, carrier) in self.carriers_for(received).filter(|(by, _)| *by > after) {
            let tokens = carrier.tokens(self.lines(received, by));
            let Some(opened) = self.newest(tokens, now, &mut Fruitless::default()) else { continue };
            let (store, mut event) = self.store()?;
            if let Some(LookupOutcome::Session(record)) = store.known(&opened.session, &mut event) {
                return Some((by, Resumed::as_stored(opened, &record)));
            }
        }
        None
    }

    /// What the carrier at this place reads.
    fn lines<'r, 'a>(&self, received: &'r Received<'a>, by: usize) -> Lines<'r, 'a> {
        // A carrier that is not there reads nothing.
        Lines::of(&received.lines, self.affinity.read_by.get(by).copied().unwrap_or(usize::MAX))
    }

    /// Asks what is known of the session, where there is a store to know it.
    fn find(&mut self, waiting: PausedRequest, stream: StreamId, received: &Received<'_>) -> RequestStep<'p> {
        let Some((store, mut event)) = self.store() else {
            let arrival = waiting.arrival(Basis::Token);
            let standing = Standing::Resumed(Resumed { opened: waiting.opened, behind: None });
            return RequestStep::proceed(self.exchange(received, arrival, standing));
        };
        let found = store.lookup(&waiting.opened.session, stream, &mut event);
        match found {
            Some(found) => self.go_on(waiting, Finding { found, by: Basis::Cache }, received),
            None => RequestStep::Wait(Box::new(waiting)),
        }
    }

    /// Goes on with a request whose session was looked up. `headers` are read anew, so that those who wait take little room.
    pub(crate) fn on_found(
        &mut self,
        waiting: PausedRequest,
        found: LookupOutcome,
        headers: Option<&Headers>,
    ) -> RequestStep<'p> {
        match headers {
            Some(headers) => self.go_on(waiting, Finding { found, by: Basis::Store }, &self.receive(headers)),
            None => self.proceed_unread(waiting.began),
        }
    }

    fn go_on(&mut self, waiting: PausedRequest, finding: Finding, received: &Received<'_>) -> RequestStep<'p> {
        let Finding { found, by: known } = finding;
        let PausedRequest { began, opened, by } = waiting;
        let arrival = |basis| Arrival::with_token(began, basis, by);
        let session = &opened.session;
        let trusted = |opened| Standing::Resumed(Resumed { opened, behind: None });
        let rules = self.shared().store.as_ref();
        let (basis, standing) = match found {
            LookupOutcome::Session(ref record) if record.generation >= session.generation => {
                (known, Standing::Resumed(Resumed::as_stored(opened, record)))
            }
            // The store has yet to hear of the last change.
            LookupOutcome::Session(_) => {
                self.fill(session);
                (known, trusted(opened))
            }
            LookupOutcome::Missing if rules.is_some_and(|rules| rules.on_missing == OnMissing::TrustCookie) => {
                self.fill(session);
                (Basis::Token, trusted(opened))
            }
            LookupOutcome::Missing | LookupOutcome::Revoked => {
                self.count(Counter::Refused(Refusal::Revoked));
                let (arrival, standing) = match self.known_by_another(by, received) {
                    Some((another, session)) => {
                        (Arrival::with_token(began, Basis::Cache, another), Standing::Resumed(session))
                    }
                    None => {
                        let begins = self.begins_by(received).or(Some(by));
                        (Arrival { by: begins, ..arrival(Basis::Refused(Refusal::Revoked)) }, self.fresh())
                    }
                };
                return RequestStep::proceed(self.exchange(received, arrival, standing));
            }
            LookupOutcome::Unreadable | LookupOutcome::Failed => {
                match rules.map_or(OnError::TrustCookie, |rules| rules.on_error) {
                    OnError::TrustCookie => {
                        if found == LookupOutcome::Unreadable {
                            self.fill(session);
                        }
                        (Basis::Token, trusted(opened))
                    }
                    OnError::Rebalance => (Basis::Unconfirmed, Standing::Unconfirmed(opened)),
                    OnError::Fail => {
                        let store = self.worker.store.as_ref();
                        let wait = store.map(|store| store.retry_after(self.moment()));
                        let arrival = arrival(Basis::Unconfirmed);
                        let (exchange, edits) = self.exchange(received, arrival, Standing::Unknown);
                        return RequestStep::Refuse(wait.unwrap_or(1), exchange, edits);
                    }
                }
            }
        };
        RequestStep::proceed(self.exchange(received, arrival(basis), standing))
    }

    /// Sends a request on its way of which nothing is known: whatever the client may have sent under our names goes.
    fn proceed_unread(&mut self, began: Sequence) -> RequestStep<'p> {
        let basis = Basis::Unread;
        self.count(Counter::Request(basis));
        let edits = self.affinity.not_for_upstreams().map(Edit::Remove).collect();
        let arrival = Arrival { began, basis, presented: Carriers::ALL, by: None };
        RequestStep::Proceed(Exchange { arrival, standing: Standing::Unknown, asked: Asked::default() }, edits)
    }

    /// What is kept of a request for its response, and how it is edited.
    fn exchange(&mut self, received: &Received<'_>, arrival: Arrival, standing: Standing) -> (Exchange, Vec<Edit<'p>>) {
        self.count(Counter::Request(arrival.basis));
        let asked = match &standing {
            Standing::Resumed(Resumed { opened, .. }) => self.ask(&opened.session),
            Standing::Fresh(_) | Standing::Unconfirmed(_) | Standing::Unknown | Standing::Outside => Asked::default(),
        };
        let mut edits = Vec::with_capacity(4);
        for (by, carrier) in self.affinity.carriers().iter().enumerate() {
            carrier.strip(self.lines(received, by), &mut edits);
        }
        let exchange = Exchange { arrival, standing, asked };
        self.set_internal_headers(received, &exchange, &mut edits);
        (exchange, edits)
    }

    /// What an earlier pass of this stream left: how the client carries its session, and the session.
    fn carried(&self, now: UnixTime) -> Option<(Carried, Standing)> {
        self.proxy.carried().and_then(|bytes| carried::read(&bytes)).filter(|(_, standing)| match standing {
            Standing::Resumed(Resumed { opened, .. }) | Standing::Unconfirmed(opened) => {
                self.check(&opened.session, now).is_ok()
            }
            Standing::Fresh(_) | Standing::Unknown | Standing::Outside => true,
        })
    }

    /// Of a carrier's tokens the newest that is valid. The first of several that are equally new.
    fn newest(
        &mut self,
        tokens: [Option<&[u8]>; MAX_CANDIDATES],
        now: UnixTime,
        fruitless: &mut Fruitless,
    ) -> Option<Rc<OpenedToken>> {
        let mut newest: Option<Rc<OpenedToken>> = None;
        for token in tokens.into_iter().flatten() {
            match self.open(token, now) {
                Ok(candidate) => {
                    if newest.as_ref().is_none_or(|known| candidate.session.is_newer_than(&known.session, now)) {
                        newest = Some(candidate);
                    }
                }
                Err(Invalid { refusal, session }) => {
                    self.count(Counter::Refused(refusal));
                    fruitless.refusal = Some(refusal);
                    fruitless.timed_out = session.filter(|_| refusal != Refusal::Future).or(fruitless.timed_out.take());
                }
            }
        }
        let opened = newest?;
        self.count(Counter::Accepted(opened.age));
        Some(opened)
    }

    fn open(&mut self, value: &[u8], now: UnixTime) -> Result<Rc<OpenedToken>, Invalid> {
        let (opened, recall) = self.worker.tokens.open(value, &self.shared().keyring)?;
        self.count(match recall {
            Recall::Remembered => Counter::Hit(Memory::Tokens),
            Recall::Verified { .. } => Counter::Miss(Memory::Tokens),
        });
        if recall == (Recall::Verified { evicted: true }) {
            self.count(Counter::Evicted(Memory::Tokens));
        }
        match self.check(&opened.session, now) {
            Ok(()) => Ok(opened),
            Err(untimely) => Err(Invalid { refusal: untimely.into(), session: Some(opened) }),
        }
    }

    /// Measures for how long a session had lasted that is found to have timed out.
    fn measure_end(&mut self, session: &Session) {
        let timeouts = &self.policy().session;
        let end = timeouts.end(session);
        let idle_end = timeouts.idle.map(|idle| session.renewed.plus(idle));
        // Whichever came first.
        let (ending, last) = match (idle_end, end) {
            (Some(idle_end), Some(end)) if end < idle_end => (Ending::ExpiredAbsolute, end),
            (Some(_), _) => (Ending::ExpiredIdle, session.renewed),
            (None, Some(end)) => (Ending::ExpiredAbsolute, end),
            (None, None) => return,
        };
        self.worker.counts.measure(Histogram::Lifetime(ending), last.seconds_since(session.created));
    }

    fn check(&self, session: &Session, now: UnixTime) -> Result<(), Untimely> {
        let timeouts = &self.policy().session;
        match timeouts.check(session, now) {
            // `now` is a little old, and the session may have begun since, at another worker or proxy.
            Err(Untimely::Future) => timeouts.check(session, self.proxy.now_exactly().unwrap_or(now)),
            checked => checked,
        }
    }

    /// The host to ask for. The cluster is looked up only where the answer depends on it: with several pins, or where a
    /// strict bridge would refuse a host of another cluster. Any other bridge ignores such a host, and clusters may share
    /// hosts: without a pin for the cluster, the one used last is worth asking for.
    fn ask(&self, session: &Session) -> Asked {
        let strict = self.policy().upstream.failover == Failover::None;
        let mut pins = session.pins.iter();
        match (pins.next(), pins.next()) {
            (None, _) => Asked::default(),
            (Some(only), None) if !strict => Asked { cluster: None, host: Some(only.host.clone()) },
            (Some(latest), _) => {
                let cluster = self.proxy.cluster_name().map(|name| ClusterId::of(&name));
                let pinned = cluster.and_then(|cluster| session.pins.host_in(cluster));
                let host = pinned.or(Some(&latest.host).filter(|_| !strict)).cloned();
                Asked { cluster, host }
            }
        }
    }

    /// Sets what this request has, and removes what the client sent. A header that is not there is not touched: that alone
    /// would make Envoy match routes again.
    fn set_internal_headers(&self, received: &Received<'_>, exchange: &Exchange, edits: &mut Vec<Edit<'p>>) {
        let Exchange { standing, asked, .. } = exchange;
        let id_value = |id: SessionId| id.to_text().into_bytes();
        let id = match standing {
            _ if !self.policy().app.session_header.enabled => None,
            Standing::Resumed(Resumed { opened, .. }) => Some(once(&opened.id_header, || id_value(opened.session.id))),
            Standing::Fresh(id) => Some(id_value(*id)),
            // The application must not take it for a session that goes on.
            Standing::Unconfirmed(_) => None,
            Standing::Unknown | Standing::Outside => None,
        };
        let host = asked.host.as_ref().map(|host| {
            let value = || self.override_value(host);
            // Where the cluster does not matter, it is the same for every request of the token.
            if let (Standing::Resumed(Resumed { opened, .. }), None) = (standing, asked.cluster) {
                once(&opened.host_header, value)
            } else {
                value()
            }
        });
        let names = self.affinity.internal_headers();
        for ((name, sent), value) in names.into_iter().zip(received.internal).zip([host, None, id]) {
            match value {
                Some(value) => edits.push(Edit::Set(name, value)),
                None if sent => edits.push(Edit::Remove(name)),
                None => {}
            }
        }
    }

    /// The override header, as the bridge reads it.
    fn override_value(&self, host: &HostAddr) -> Vec<u8> {
        let host = host.to_text();
        match self.policy().upstream.via {
            Via::StatefulSession => base64::standard(host.as_bytes()).into_bytes(),
            Via::OverrideHost => host.into_bytes(),
        }
    }

    /// The standing of a request that has no session yet.
    fn fresh(&mut self) -> Standing {
        self.proxy.random_id().map_or_else(
            || {
                self.count(Counter::Fault(Fault::Randomness));
                Standing::Unknown
            },
            Standing::Fresh,
        )
    }

    /// Has the store know a session that it misses, or of which it has an older copy.
    fn fill(&mut self, session: &Session) {
        if let Some((store, mut event)) = self.store() {
            store.write_if_missing(session, &mut event);
        }
    }
}

impl Resumed {
    /// As the store has it, whose copy is no older than the token's.
    fn as_stored(opened: Rc<OpenedToken>, record: &Record) -> Self {
        let session = &opened.session;
        if record.generation == session.generation && record.pins.agrees_with(&session.pins) {
            return Self { opened, behind: None };
        }
        let behind = Some(session.generation);
        let (generation, pins) = (record.generation, record.pins.clone());
        let opened = Rc::new(OpenedToken::new(Session { generation, pins, ..*session }, opened.age));
        Self { opened, behind }
    }
}

/// A value that is made once.
fn once(cell: &OnceCell<Vec<u8>>, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    cell.get().cloned().unwrap_or_else(|| {
        let value = make();
        // It was empty.
        let _ = cell.set(value.clone());
        value
    })
}
