//! The request's half: find the session, ask for its host.

use super::{Affinity, Asked, Edit, Exchange, Inputs, Resumed, Standing, carried};
use crate::base64;
use crate::clock::UnixTime;
use crate::config::{Failover, OnError, OnMissing, Via};
use crate::cookie::{self, MAX_CANDIDATES, Without};
use crate::headers::Headers;
use crate::keyring::KeyAge;
use crate::metrics::{Counter, Fault};
use crate::pin::{ClusterId, HostAddr};
use crate::session::Session;
use crate::store_client::{Found, StreamId};
use crate::token::{self, Refusal};
use crate::worker::{Sequence, Worker};

/// What a request does next.
#[derive(Debug)]
pub enum Request<'a> {
    /// It goes to an upstream, with these edits.
    Proceed(Exchange, Vec<Edit<'a>>),
    /// It waits for the store. [`Affinity::on_found`] goes on.
    Wait(Box<Waiting>),
    /// It is turned away, as `on_error: fail` says: 503 with a `retry-after` of so many seconds. Where that cannot be, it goes on,
    /// edited like this, as one of which nothing is known.
    Refuse(u64, Exchange, Vec<Edit<'a>>),
}

/// A request whose session is being looked up.
#[derive(Debug)]
pub struct Waiting {
    began: Sequence,
    presented: bool,
    session: Session,
    age: KeyAge,
}

impl Affinity {
    /// Decides on a request. `headers` are `None` when the proxy did not give them.
    pub fn on_request(
        &self,
        stream: StreamId,
        worker: &mut Worker,
        headers: Option<&Headers>,
        inputs: &dyn Inputs,
    ) -> Request<'_> {
        let began = worker.step();
        let (Some(headers), Some(now)) = (headers, inputs.now()) else { return self.proceed_unread(began) };
        let path = headers.values(":path").next().unwrap_or(b"/");
        if !cookie::path_matches(&self.config.cookie.path, path) {
            let (presented, standing) = self.carried(now, inputs).unwrap_or((false, Standing::Elsewhere));
            return self.proceed(began, headers, presented, standing, inputs);
        }
        match self.newest(worker, headers, now) {
            (presented, None) => {
                let (before, standing) = self.carried(now, inputs).unwrap_or_else(|| (false, fresh(worker, inputs)));
                self.proceed(began, headers, presented || before, standing, inputs)
            }
            (presented, Some((session, age))) => {
                let waiting = Waiting { began, presented, session, age };
                self.find(waiting, stream, worker, headers, inputs)
            }
        }
    }

    /// Asks what is known of the session, where there is a store to know it.
    fn find(
        &self,
        waiting: Waiting,
        stream: StreamId,
        worker: &mut Worker,
        headers: &Headers,
        inputs: &dyn Inputs,
    ) -> Request<'_> {
        let Some(store) = &mut worker.store else {
            let Waiting { began, presented, session, age } = waiting;
            let standing = Standing::Resumed(Resumed { session, age, behind: None });
            return self.proceed(began, headers, presented, standing, inputs);
        };
        let found = match inputs.monotonic() {
            Some(now) => store.find(&waiting.session, stream, now, &mut worker.counts),
            // Without a clock nothing can be believed for a while.
            None => Some(Found::Failed),
        };
        match found {
            Some(found) => self.on_found(waiting, found, worker, Some(headers), inputs),
            None => Request::Wait(Box::new(waiting)),
        }
    }

    /// Goes on with a request whose session was looked up. `headers` are read anew, so that those who wait take little room.
    pub fn on_found(
        &self,
        waiting: Waiting,
        found: Found,
        worker: &mut Worker,
        headers: Option<&Headers>,
        inputs: &dyn Inputs,
    ) -> Request<'_> {
        let Waiting { began, presented, mut session, age } = waiting;
        let Some(headers) = headers else { return self.proceed_unread(began) };
        let trusted = |session| Standing::Resumed(Resumed { session, age, behind: None });
        let rules = self.config.store.as_ref();
        let standing = match found {
            Found::Session(ref record) if record.generation >= session.generation => {
                let differs = record.generation != session.generation || !record.pins.agrees_with(&session.pins);
                let behind = Some(session.generation).filter(|_| differs);
                if differs {
                    (session.generation, session.pins) = (record.generation, record.pins.clone());
                }
                Standing::Resumed(Resumed { session, age, behind })
            }
            // The store has yet to hear of the last change.
            Found::Session(_) => {
                fill(&session, worker, inputs);
                trusted(session)
            }
            Found::Missing if rules.is_some_and(|rules| rules.on_missing == OnMissing::TrustCookie) => {
                fill(&session, worker, inputs);
                trusted(session)
            }
            Found::Missing | Found::Revoked => {
                worker.count(Counter::Refused(Refusal::Revoked));
                fresh(worker, inputs)
            }
            Found::Unreadable | Found::Failed => match rules.map_or(OnError::TrustCookie, |rules| rules.on_error) {
                OnError::TrustCookie => {
                    if found == Found::Unreadable {
                        fill(&session, worker, inputs);
                    }
                    trusted(session)
                }
                OnError::Rebalance => Standing::Unconfirmed(session),
                OnError::Fail => {
                    let store = worker.store.as_ref();
                    let wait = store.map(|store| store.retry_after(inputs.monotonic().unwrap_or_default()));
                    let (exchange, edits) = self.exchange(began, headers, presented, Standing::Unknown, inputs);
                    return Request::Refuse(wait.unwrap_or(1), exchange, edits);
                }
            },
        };
        self.proceed(began, headers, presented, standing, inputs)
    }

    /// Sends a request on its way of which nothing is known: whatever the client may have sent under our names goes.
    fn proceed_unread(&self, began: Sequence) -> Request<'_> {
        let edits = self.internal_headers().map(Edit::Remove).to_vec();
        let exchange = Exchange { began, presented: false, standing: Standing::Unknown, asked: Asked::default() };
        Request::Proceed(exchange, edits)
    }

    /// Sends the request on its way.
    fn proceed(
        &self,
        began: Sequence,
        headers: &Headers,
        presented: bool,
        standing: Standing,
        inputs: &dyn Inputs,
    ) -> Request<'_> {
        let (exchange, edits) = self.exchange(began, headers, presented, standing, inputs);
        Request::Proceed(exchange, edits)
    }

    /// What is kept of a request for its response, and how it is edited.
    fn exchange(
        &self,
        began: Sequence,
        headers: &Headers,
        presented: bool,
        standing: Standing,
        inputs: &dyn Inputs,
    ) -> (Exchange, Vec<Edit<'_>>) {
        let asked = match &standing {
            Standing::Resumed(Resumed { session, .. }) => self.ask(session, inputs),
            Standing::Fresh(_) | Standing::Unconfirmed(_) | Standing::Unknown | Standing::Elsewhere => Asked::default(),
        };
        let mut edits = Vec::new();
        if !self.config.cookie.forward {
            self.take_cookie_out(headers, &mut edits);
        }
        self.set_internal_headers(headers, &standing, &asked, &mut edits);
        (Exchange { began, presented, standing, asked }, edits)
    }

    /// What an earlier pass of this stream left: whether the cookie was there, and the session.
    fn carried(&self, now: UnixTime, inputs: &dyn Inputs) -> Option<(bool, Standing)> {
        inputs.carried().and_then(|bytes| carried::read(&bytes)).filter(|(_, standing)| match standing {
            Standing::Resumed(Resumed { session, .. }) | Standing::Unconfirmed(session) => {
                self.config.session.check(session, now).is_ok()
            }
            Standing::Fresh(_) | Standing::Unknown | Standing::Elsewhere => true,
        })
    }

    /// Of the first few cookies of our name, the newest that verifies. The first of several that are equally new.
    fn newest(&self, worker: &mut Worker, headers: &Headers, now: UnixTime) -> (bool, Option<(Session, KeyAge)>) {
        let name = self.config.cookie.set_cookie.name();
        let mut presented = false;
        let mut newest: Option<(Session, KeyAge)> = None;
        for value in headers.values("cookie").flat_map(|line| cookie::values(line, name)).take(MAX_CANDIDATES) {
            presented = true;
            match self.open(value, now) {
                Ok(candidate) => {
                    if newest.as_ref().is_none_or(|(known, _)| is_newer(&candidate.0, known, now)) {
                        newest = Some(candidate);
                    }
                }
                Err(refusal) => worker.count(Counter::Refused(refusal)),
            }
        }
        (presented, newest)
    }

    fn open(&self, value: &[u8], now: UnixTime) -> Result<(Session, KeyAge), Refusal> {
        let (session, age) = token::open(value, &self.config.keyring)?;
        self.config.session.check(&session, now)?;
        Ok((session, age))
    }

    /// The host to ask for. The cluster is looked up only where the answer depends on it: with several pins, or where a
    /// strict bridge would refuse a host of another cluster. Any other bridge ignores such a host, and clusters may share
    /// hosts: without a pin for the cluster, the one used last is worth asking for.
    fn ask(&self, session: &Session, inputs: &dyn Inputs) -> Asked {
        let strict = self.config.upstream.failover == Failover::None;
        let mut pins = session.pins.iter();
        match (pins.next(), pins.next()) {
            (None, _) => Asked::default(),
            (Some(only), None) if !strict => Asked { cluster: None, host: Some(only.host.clone()) },
            (Some(latest), _) => {
                let cluster = inputs.cluster_name().map(|name| ClusterId::of(&name));
                let pinned = cluster.and_then(|cluster| session.pins.host_in(cluster));
                let host = pinned.or(Some(&latest.host).filter(|_| !strict)).cloned();
                Asked { cluster, host }
            }
        }
    }

    fn take_cookie_out(&self, headers: &Headers, edits: &mut Vec<Edit<'_>>) {
        let cookies: Vec<&[u8]> = headers.values("cookie").collect();
        let name = self.config.cookie.set_cookie.name();
        let without: Vec<Without> = cookies.iter().map(|line| cookie::without(line, name)).collect();
        if without.iter().all(|line| *line == Without::Untouched) {
            return;
        }
        let mut left: Vec<Vec<u8>> = cookies
            .iter()
            .zip(without)
            .filter_map(|(line, without)| match without {
                Without::Untouched => Some(line.to_vec()),
                Without::Rest(rest) => Some(rest),
                Without::Nothing => None,
            })
            .collect();
        // Setting a header leaves one line of it, so several lines are removed and added again.
        match (left.pop(), left.is_empty()) {
            (Some(only), true) => edits.push(Edit::Set("cookie", only)),
            (last, _) => {
                edits.push(Edit::Remove("cookie"));
                edits.extend(left.into_iter().chain(last).map(|line| Edit::Add("cookie", line)));
            }
        }
    }

    /// Sets what this request has, and removes what the client sent. A header that is not there is not touched: that alone
    /// would make Envoy match routes again.
    fn set_internal_headers<'a>(
        &'a self,
        headers: &Headers,
        standing: &Standing,
        asked: &Asked,
        edits: &mut Vec<Edit<'a>>,
    ) {
        let id = match standing {
            Standing::Resumed(Resumed { session, .. }) => Some(session.id),
            Standing::Fresh(id) => Some(*id),
            // The application must not take it for a session that goes on.
            Standing::Unconfirmed(_) => None,
            Standing::Unknown | Standing::Elsewhere => None,
        };
        let host = asked.host.as_ref().map(|host| self.override_value(host));
        let id = id.filter(|_| self.config.app.session_header.enabled).map(|id| id.to_text().into_bytes());
        let [host_header, action_header, session_header] = self.internal_headers();
        for (name, value) in [(host_header, host), (session_header, id), (action_header, None)] {
            match value {
                Some(value) => edits.push(Edit::Set(name, value)),
                None if headers.values(name).next().is_some() => edits.push(Edit::Remove(name)),
                None => {}
            }
        }
    }

    /// The override header, as the bridge reads it.
    fn override_value(&self, host: &HostAddr) -> Vec<u8> {
        let host = host.to_text();
        match self.config.upstream.via {
            Via::StatefulSession => base64::standard(host.as_bytes()).into_bytes(),
            Via::OverrideHost => host.into_bytes(),
        }
    }
}

/// The standing of a request that has no session yet.
fn fresh(worker: &mut Worker, inputs: &dyn Inputs) -> Standing {
    inputs.random_id().map_or_else(
        || {
            worker.count(Counter::Fault(Fault::Randomness));
            Standing::Unknown
        },
        Standing::Fresh,
    )
}

/// Has the store know a session that it misses, or of which it has an older copy.
fn fill(session: &Session, worker: &mut Worker, inputs: &dyn Inputs) {
    if let (Some(store), Some(now)) = (&mut worker.store, inputs.monotonic()) {
        store.fill(session, now, &mut worker.counts);
    }
}

/// Of two copies of one session, the higher generation is the newer; else what was renewed last, then what began last.
fn is_newer(candidate: &Session, known: &Session, now: UnixTime) -> bool {
    let renewed = (candidate.renewed.min(now), candidate.created).cmp(&(known.renewed.min(now), known.created));
    if candidate.id == known.id {
        candidate.generation.cmp(&known.generation).then(renewed).is_gt()
    } else {
        renewed.is_gt()
    }
}
