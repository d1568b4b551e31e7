//! The request's half: find the session, ask for its host.

use super::{Asked, Edit, Exchange, Resumed, Standing, Turn, carried};
use crate::affinity::worker::Sequence;
use crate::carrier::cookie::{self, MAX_CANDIDATES, Removed};
use crate::clock::UnixTime;
use crate::config::{Failover, OnError, OnMissing, Via};
use crate::credential::token::Refusal;
use crate::credential::verified::{OpenedToken, Recall};
use crate::headers::Headers;
use crate::ids::StreamId;
use crate::observe::decision::Basis;
use crate::observe::metrics::{Counter, Ending, Fault, Histogram, Memory};
use crate::session::pin::{ClusterId, HostAddr};
use crate::session::{Session, SessionId, Untimely};
use crate::store::client::LookupOutcome;
use crate::text::base64;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;

/// What a request does next.
#[derive(Debug)]
pub(crate) enum RequestStep<'a> {
    /// It goes to an upstream, with these edits.
    Proceed(Exchange, Vec<Edit<'a>>),
    /// It waits for the store. [`Affinity::on_found`] goes on.
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
}

/// What a request came with, as decisions need it.
struct Arrival {
    began: Sequence,
    basis: Basis,
    /// Whether a cookie of our name was there, valid or not.
    presented: bool,
}

/// What a lookup found, and whether the cache or the store had it.
struct Finding {
    found: LookupOutcome,
    by: Basis,
}

/// The best of the cookies of our name.
enum Newest {
    /// The newest that is valid.
    Session(Rc<OpenedToken>),
    /// None is.
    None(Basis),
}

/// What counts of a request's headers.
struct Received<'a> {
    path: &'a [u8],
    cookies: Vec<&'a [u8]>,
    /// Which of the internal headers the client sent.
    internal: [bool; 3],
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

impl Arrival {
    /// It came with a cookie.
    fn with_cookie(began: Sequence, basis: Basis) -> Self {
        Self { began, basis, presented: true }
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
        let out_of_path = !cookie::path_matches(&self.config().cookie.path, received.path);
        let newest = if out_of_path { Newest::None(Basis::Outside) } else { self.newest(&received, now) };
        let basis = match newest {
            Newest::Session(opened) => {
                return self.find(PausedRequest { began, opened }, stream, &received);
            }
            Newest::None(basis) => basis,
        };
        let presented = matches!(basis, Basis::Refused(_));
        let (came, standing) = match self.carried(now) {
            Some((before, standing)) => {
                (Arrival { began, basis: Basis::Redirected, presented: presented || before }, standing)
            }
            None if out_of_path => (Arrival { began, basis, presented }, Standing::OutOfPath),
            None => (Arrival { began, basis, presented }, self.fresh()),
        };
        RequestStep::proceed(self.exchange(&received, came, standing))
    }

    /// Reads the headers, once.
    fn receive<'a>(&self, headers: &'a Headers) -> Received<'a> {
        let mut received = Received { path: b"/", cookies: Vec::new(), internal: [false; 3] };
        let [host, action, session] = self.policy.internal_headers().map(str::as_bytes);
        headers.select([b":path", b"cookie", host, action, session], |which, value| match which {
            0 => received.path = value,
            1 => received.cookies.push(value),
            2 => received.internal[0] = true,
            3 => received.internal[1] = true,
            _ => received.internal[2] = true,
        });
        received
    }

    /// Asks what is known of the session, where there is a store to know it.
    fn find(&mut self, waiting: PausedRequest, stream: StreamId, received: &Received<'_>) -> RequestStep<'p> {
        let Some((store, mut event)) = self.store() else {
            let PausedRequest { began, opened } = waiting;
            let standing = Standing::Resumed(Resumed { opened, behind: None });
            return RequestStep::proceed(self.exchange(received, Arrival::with_cookie(began, Basis::Cookie), standing));
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
        let PausedRequest { began, opened } = waiting;
        let session = &opened.session;
        let trusted = |opened| Standing::Resumed(Resumed { opened, behind: None });
        let rules = self.config().store.as_ref();
        let (basis, standing) = match found {
            LookupOutcome::Session(ref record) if record.generation >= session.generation => {
                let differs = record.generation != session.generation || !record.pins.agrees_with(&session.pins);
                let behind = Some(session.generation).filter(|_| differs);
                let opened = if differs {
                    let (generation, pins) = (record.generation, record.pins.clone());
                    Rc::new(OpenedToken::new(Session { generation, pins, ..*session }, opened.age))
                } else {
                    opened
                };
                (known, Standing::Resumed(Resumed { opened, behind }))
            }
            // The store has yet to hear of the last change.
            LookupOutcome::Session(_) => {
                self.fill(session);
                (known, trusted(opened))
            }
            LookupOutcome::Missing if rules.is_some_and(|rules| rules.on_missing == OnMissing::TrustCookie) => {
                self.fill(session);
                (Basis::Cookie, trusted(opened))
            }
            LookupOutcome::Missing | LookupOutcome::Revoked => {
                self.count(Counter::Refused(Refusal::Revoked));
                (Basis::Refused(Refusal::Revoked), self.fresh())
            }
            LookupOutcome::Unreadable | LookupOutcome::Failed => {
                match rules.map_or(OnError::TrustCookie, |rules| rules.on_error) {
                    OnError::TrustCookie => {
                        if found == LookupOutcome::Unreadable {
                            self.fill(session);
                        }
                        (Basis::Cookie, trusted(opened))
                    }
                    OnError::Rebalance => (Basis::Unconfirmed, Standing::Unconfirmed(opened)),
                    OnError::Fail => {
                        let store = self.worker.store.as_ref();
                        let wait = store.map(|store| store.retry_after(self.moment()));
                        let came = Arrival::with_cookie(began, Basis::Unconfirmed);
                        let (exchange, edits) = self.exchange(received, came, Standing::Unknown);
                        return RequestStep::Refuse(wait.unwrap_or(1), exchange, edits);
                    }
                }
            }
        };
        RequestStep::proceed(self.exchange(received, Arrival::with_cookie(began, basis), standing))
    }

    /// Sends a request on its way of which nothing is known: whatever the client may have sent under our names goes.
    fn proceed_unread(&mut self, began: Sequence) -> RequestStep<'p> {
        let basis = Basis::Unread;
        self.count(Counter::Request(basis));
        let edits = self.policy.internal_headers().map(Edit::Remove).to_vec();
        let exchange =
            Exchange { began, basis, presented: false, standing: Standing::Unknown, asked: Asked::default() };
        RequestStep::Proceed(exchange, edits)
    }

    /// What is kept of a request for its response, and how it is edited.
    fn exchange(
        &mut self,
        received: &Received<'_>,
        Arrival { began, basis, presented }: Arrival,
        standing: Standing,
    ) -> (Exchange, Vec<Edit<'p>>) {
        self.count(Counter::Request(basis));
        let asked = match &standing {
            Standing::Resumed(Resumed { opened, .. }) => self.ask(&opened.session),
            Standing::Fresh(_) | Standing::Unconfirmed(_) | Standing::Unknown | Standing::OutOfPath => Asked::default(),
        };
        let mut edits = Vec::new();
        if !self.config().cookie.forward {
            self.take_cookie_out(&received.cookies, &mut edits);
        }
        let exchange = Exchange { began, basis, presented, standing, asked };
        self.set_internal_headers(received, &exchange, &mut edits);
        (exchange, edits)
    }

    /// What an earlier pass of this stream left: whether the cookie was there, and the session.
    fn carried(&self, now: UnixTime) -> Option<(bool, Standing)> {
        self.proxy.carried().and_then(|bytes| carried::read(&bytes)).filter(|(_, standing)| match standing {
            Standing::Resumed(Resumed { opened, .. }) | Standing::Unconfirmed(opened) => {
                self.check(&opened.session, now).is_ok()
            }
            Standing::Fresh(_) | Standing::Unknown | Standing::OutOfPath => true,
        })
    }

    /// Of the first few cookies of our name, the newest that verifies. The first of several that are equally new.
    fn newest(&mut self, received: &Received<'_>, now: UnixTime) -> Newest {
        let name = self.config().cookie.set_cookie.name();
        let mut basis = Basis::None;
        let mut timed_out = None;
        let mut newest: Option<Rc<OpenedToken>> = None;
        for value in received.cookies.iter().flat_map(|line| cookie::values(line, name)).take(MAX_CANDIDATES) {
            match self.open(value, now) {
                Ok(candidate) => {
                    if newest.as_ref().is_none_or(|known| candidate.session.is_newer_than(&known.session, now)) {
                        newest = Some(candidate);
                    }
                }
                Err(Invalid { refusal, session }) => {
                    self.count(Counter::Refused(refusal));
                    basis = Basis::Refused(refusal);
                    timed_out = session.filter(|_| refusal != Refusal::Future).or(timed_out);
                }
            }
        }
        let Some(opened) = newest else {
            // Once a request, and not for what is left beside a session that goes on.
            if let Some(opened) = timed_out {
                self.measure_end(&opened.session);
            }
            return Newest::None(basis);
        };
        self.count(Counter::Accepted(opened.age));
        Newest::Session(opened)
    }

    fn open(&mut self, value: &[u8], now: UnixTime) -> Result<Rc<OpenedToken>, Invalid> {
        let (opened, recall) = self.worker.tokens.open(value, &self.config().keyring)?;
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
        let timeouts = &self.config().session;
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
        let timeouts = &self.config().session;
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
        let strict = self.config().upstream.failover == Failover::None;
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

    fn take_cookie_out(&self, cookies: &[&[u8]], edits: &mut Vec<Edit<'p>>) {
        let name = self.config().cookie.set_cookie.name();
        let mut left: Vec<Cow<'_, [u8]>> = Vec::with_capacity(cookies.len());
        let mut touched = false;
        for line in cookies {
            match cookie::without(line, name) {
                Removed::Untouched => left.push(Cow::Borrowed(line)),
                Removed::Rest(rest) => {
                    touched = true;
                    left.push(Cow::Owned(rest));
                }
                Removed::Nothing => touched = true,
            }
        }
        if !touched {
            return;
        }
        // Setting a header leaves one line of it, so several lines are removed and added again.
        match (left.pop(), left.is_empty()) {
            (Some(only), true) => edits.push(Edit::Set("cookie", only.into_owned())),
            (last, _) => {
                edits.push(Edit::Remove("cookie"));
                edits.extend(left.into_iter().chain(last).map(|line| Edit::Add("cookie", line.into_owned())));
            }
        }
    }

    /// Sets what this request has, and removes what the client sent. A header that is not there is not touched: that alone
    /// would make Envoy match routes again.
    fn set_internal_headers(&self, received: &Received<'_>, exchange: &Exchange, edits: &mut Vec<Edit<'p>>) {
        let Exchange { standing, asked, .. } = exchange;
        let id_value = |id: SessionId| id.to_text().into_bytes();
        let id = match standing {
            _ if !self.config().app.session_header.enabled => None,
            Standing::Resumed(Resumed { opened, .. }) => Some(once(&opened.id_header, || id_value(opened.session.id))),
            Standing::Fresh(id) => Some(id_value(*id)),
            // The application must not take it for a session that goes on.
            Standing::Unconfirmed(_) => None,
            Standing::Unknown | Standing::OutOfPath => None,
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
        let names = self.policy.internal_headers();
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
        match self.config().upstream.via {
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

/// A value that is made once.
fn once(cell: &OnceCell<Vec<u8>>, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    cell.get().cloned().unwrap_or_else(|| {
        let value = make();
        // It was empty.
        let _ = cell.set(value.clone());
        value
    })
}
