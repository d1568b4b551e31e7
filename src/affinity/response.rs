//! The response's half: who served, what the application said, and what becomes of the session.

use super::{Arrival, Asked, Exchange, Resumed, Standing, Turn};
use crate::affinity::worker::{Freshness, SessionCopy};
use crate::carrier::{Carriers, cache_control};
use crate::clock::UnixTime;
use crate::config::{self, Failover, Via};
use crate::credential::keyring::KeyPosition;
use crate::credential::token::{self, Protection};
use crate::headers::{Edit, Headers, elements};
use crate::ids::StreamId;
use crate::observe::decision::{Decision, Displaced, Outcome};
use crate::observe::metrics::{Counter, Ending, Fault, Histogram};
use crate::session::pin::{ClusterId, HostAddr, MAX_PINS, Pin, Pins};
use crate::session::{Session, SessionId};
use crate::store::client::WriteOutcome;

/// What a response does next.
#[derive(Debug)]
pub(crate) enum Response<'a> {
    /// It goes to the client, with these edits.
    Proceed(Vec<Edit<'a>>),
    /// It gets these edits, and waits for the store. [`Turn::on_written`] goes on.
    Wait(Vec<Edit<'a>>, Box<HeldResponse>),
}

/// A response that waits for what the store makes of it.
#[derive(Debug)]
pub(crate) struct HeldResponse {
    /// How many writes it waits for.
    writes: u8,
    arrival: Arrival,
    decision: Decision,
    change: Change,
}

/// What the application can say, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum AppAction {
    Release,
    Rotate,
    End,
}

/// What the response says to the filter.
struct Signals {
    /// The bridge named the host that served: another than was asked for, or none was asked for.
    bridge: bool,
    action: Option<AppAction>,
}

/// How a session was served that goes on.
struct Served {
    /// By another host than it asked for.
    elsewhere: bool,
    action: Option<AppAction>,
}

/// Where a response comes from, as far as sessions care.
#[derive(PartialEq, Eq)]
enum Origin {
    Upstream,
    /// An upstream's, with headers that a cache adds to what it stored: it must not carry a cookie.
    NotModified,
    /// The proxy's own, whatever host it may name.
    Local,
}

/// What happens to the session, and to the client's token.
#[derive(Debug)]
enum Change {
    Keep,
    /// A first token.
    Begin(Session),
    /// A newer copy of the session that the client has.
    Update(Session, StoreUpdate),
    /// A session that takes the place of another.
    Replace(Session, SessionId),
    End {
        /// The one that is over, where it is known.
        session: Option<Session>,
        /// Of which carriers the client may have a token that can be cleared.
        clear: Carriers,
    },
}

/// What a response comes to.
struct Verdict {
    outcome: Outcome,
    change: Change,
    /// Whether another host served than the session wanted.
    displaced: bool,
}

impl From<(Outcome, Change)> for Verdict {
    fn from((outcome, change): (Outcome, Change)) -> Self {
        Self { outcome, change, displaced: false }
    }
}

/// What the store is told of a newer copy.
#[derive(Clone, Copy, Debug)]
enum StoreUpdate {
    /// The copy.
    Write,
    /// That it lives on.
    Touch,
}

/// What the serving host does to the pins.
enum Repin {
    Same,
    Kept,
    Ignored,
    Pinned,
    Moved,
}

impl HeldResponse {
    pub(super) fn arrival(&self) -> &Arrival {
        &self.arrival
    }
}

impl<'p> Turn<'p, '_> {
    /// Decides on the response of `exchange`.
    pub(crate) fn on_response(&mut self, stream: StreamId, exchange: Exchange) -> Response<'p> {
        let mut edits = Vec::new();
        let arrival = exchange.arrival;
        let heard = self.listen(&mut edits);
        let Verdict { outcome, change, displaced } = match (heard.action, self.proxy.now()) {
            (Some(AppAction::End), _) => self.end(&exchange).into(),
            (_, Some(now)) => self.decide(exchange, &heard, now),
            (_, None) => (Outcome::Failed, Change::Keep).into(),
        };
        let displaced = displaced.then(|| self.why_displaced());
        let decision = Decision { outcome, basis: arrival.basis, by: self.affinity.way(arrival.by), displaced };
        let writes = self.tell(stream, &change);
        let held = HeldResponse { writes, arrival, decision, change };
        if writes > 0 {
            return Response::Wait(edits, Box::new(held));
        }
        self.conclude(held, &mut edits);
        Response::Proceed(edits)
    }

    /// Goes on with a response of which a write came to something.
    pub(crate) fn on_written(&mut self, held: HeldResponse, written: WriteOutcome) -> Response<'p> {
        let HeldResponse { writes, arrival, decision, change } = held;
        if writes > 1 {
            let held = HeldResponse { writes: writes.saturating_sub(1), arrival, decision, change };
            return Response::Wait(Vec::new(), Box::new(held));
        }
        let mut edits = Vec::new();
        let (outcome, change) = match (change, written) {
            (Change::Update(..), WriteOutcome::Revoked) => (Outcome::Untouched, Change::Keep),
            (Change::Update(mut session, telling), written) => {
                let mut outcome = decision.outcome;
                if let WriteOutcome::Adopted(record) = written {
                    (session.generation, session.pins) = (record.generation, record.pins);
                    outcome = Outcome::Adopted;
                }
                let copy = SessionCopy { id: session.id, generation: session.generation, began: arrival.began };
                match self.worker.freshness(&copy, self.moment()) {
                    Freshness::Stale => (Outcome::Untouched, Change::Keep),
                    Freshness::AlreadyIssued | Freshness::Current => (outcome, Change::Update(session, telling)),
                }
            }
            (change @ (Change::Keep | Change::Begin(_) | Change::Replace(..) | Change::End { .. }), _) => {
                (decision.outcome, change)
            }
        };
        self.conclude(
            HeldResponse { writes: 0, arrival, decision: Decision { outcome, ..decision }, change },
            &mut edits,
        );
        Response::Proceed(edits)
    }

    /// Tells the store of a change. For how many writes the response waits.
    fn tell(&mut self, stream: StreamId, change: &Change) -> u8 {
        let Some(rules) = &self.shared().store else { return 0 };
        let waiter = Some(stream).filter(|_| rules.write == config::WriteMode::Sync);
        let told = match change {
            Change::Keep | Change::End { session: None, .. } => return 0,
            Change::Begin(_) if rules.create == config::CreateWhen::OnReturn => return 0,
            Change::Begin(_) | Change::Update(..) | Change::Replace(..) | Change::End { .. } => self.store(),
        };
        let Some((store, mut event)) = told else { return 0 };
        let event = &mut event;
        match change {
            Change::Keep | Change::End { session: None, .. } => 0,
            Change::Begin(session) => store.create(session, waiter, event).into(),
            Change::Update(session, StoreUpdate::Write) => store.write(session, waiter, event).into(),
            Change::Update(session, StoreUpdate::Touch) => store.touch(session, waiter, event).into(),
            Change::Replace(session, old) => {
                let put = u8::from(store.create(session, waiter, event));
                let old = Session { id: *old, ..session.clone() };
                put.saturating_add(store.revoke(&old, stream, event).into())
            }
            Change::End { session: Some(session), .. } => store.revoke(session, stream, event).into(),
        }
    }

    /// Carries out a change, and says what became of the request's session.
    fn conclude(&mut self, concluded: HeldResponse, edits: &mut Vec<Edit<'p>>) {
        let HeldResponse { arrival, decision, change, .. } = concluded;
        let pinned = match (decision.outcome, &change) {
            (
                Outcome::Created | Outcome::Pinned | Outcome::Moved,
                Change::Begin(session) | Change::Update(session, _),
            ) => session.pins.iter().next().map(|pin| pin.host.clone()),
            _ => None,
        };
        let applied = self.apply(change, arrival.by, edits);
        let outcome = if applied { decision.outcome } else { Outcome::Failed };
        if let Some(host) = pinned.filter(|_| applied) {
            self.worker.counts.add_pin(&host);
        }
        edits.extend(self.report(Decision { outcome, ..decision }));
        if let Some(name) = &self.policy().debug_header {
            edits.push(Edit::Set(name.as_str(), outcome.word().into()));
        }
    }

    /// Reads what is meant for the filter, and takes it from the response.
    fn listen(&mut self, edits: &mut Vec<Edit<'p>>) -> Signals {
        let [host_header, action_header, session_header] = self.affinity.internal_headers();
        let bridge = match self.policy().upstream.via {
            Via::StatefulSession => self.proxy.response_header(host_header).is_some(),
            Via::OverrideHost => false,
        };
        // The other bridge never speaks: what stands there is the upstream's doing.
        if bridge || self.policy().upstream.via == Via::OverrideHost {
            edits.push(Edit::Remove(host_header));
        }
        // What is switched off is the application's affair, and costs nothing.
        let spoken = self.policy().app.action_header.enabled && self.proxy.response_header(action_header).is_some();
        if spoken {
            edits.push(Edit::Remove(action_header));
        }
        // Tokens come from here alone: what a client sends from then on is what it gets under these names.
        edits.extend(self.affinity.token_headers().map(Edit::Remove));
        // An upstream that echoes what it got must not tell the client its session id.
        if self.policy().app.session_header.enabled {
            edits.push(Edit::Remove(session_header));
        }
        let headers = if spoken { self.proxy.response_headers() } else { None };
        let (action, unknown) = headers.map_or((None, 0), |headers| AppAction::read(headers.values(action_header)));
        for _ in 0..unknown {
            self.count(Counter::Fault(Fault::UnknownAction));
        }
        Signals { bridge, action }
    }

    fn decide(&mut self, exchange: Exchange, heard: &Signals, now: UnixTime) -> Verdict {
        match exchange.standing {
            Standing::Unknown => (Outcome::Failed, Change::Keep).into(),
            Standing::Outside => (Outcome::Untouched, Change::Keep).into(),
            Standing::Fresh(id) => match self.origin() {
                Origin::Local | Origin::NotModified => (Outcome::Untouched, Change::Keep).into(),
                Origin::Upstream => self.create(id, heard, now).into(),
            },
            Standing::Unconfirmed(opened) => match (heard.action, self.origin()) {
                // A login gets a new id whatever may have become of the old one.
                (Some(AppAction::Rotate), Origin::Upstream) => {
                    let pins = self.serving().map(|(cluster, host)| Pin { cluster, host });
                    let pins = Pins::from_vec(pins.into_iter().collect()).unwrap_or_default();
                    self.rotate(Session { renewed: now, pins, ..opened.session.clone() }).into()
                }
                _ => (Outcome::Failed, Change::Keep).into(),
            },
            Standing::Resumed(Resumed { opened, behind }) => {
                let session = &opened.session;
                let elsewhere = self.served_elsewhere(heard, &exchange.asked);
                let renewal = self.policy().session.renewal_due(session, now);
                let due = match (opened.age, renewal, behind) {
                    (KeyPosition::Older(_), _, _) => Some((Outcome::Rekeyed, StoreUpdate::Write)),
                    (KeyPosition::Current, true, _) => Some((Outcome::Renewed, StoreUpdate::Touch)),
                    (KeyPosition::Current, false, Some(_)) => Some((Outcome::Adopted, StoreUpdate::Touch)),
                    (KeyPosition::Current, false, None) => None,
                };
                if !elsewhere && due.is_none() && heard.action.is_none() {
                    return (Outcome::Resumed, Change::Keep).into();
                }
                let origin = self.origin();
                let moment = self.moment();
                // A request that is under way is no idleness, but nothing lasts beyond the absolute end.
                let ended_meanwhile = self.policy().session.end(session).is_some_and(|end| now >= end);
                if origin != Origin::Upstream || ended_meanwhile {
                    return (Outcome::Untouched, Change::Keep).into();
                }
                let freshness = |generation| {
                    let copy = SessionCopy { id: session.id, generation, began: exchange.arrival.began };
                    self.worker.freshness(&copy, moment)
                };
                // The store's copy that the client lacks may be on its way to it.
                let on_its_way = behind.is_some_and(|generation| freshness(generation) == Freshness::Stale);
                let due = match freshness(session.generation) {
                    // Whoever planted a token may have ended that session: a login gets a new id all the same.
                    Freshness::Stale if heard.action != Some(AppAction::Rotate) => {
                        return (Outcome::Untouched, Change::Keep).into();
                    }
                    Freshness::Stale | Freshness::AlreadyIssued => None,
                    Freshness::Current => due.filter(|_| !on_its_way),
                };
                let mut session = Session { renewed: now, ..session.clone() };
                if let Some(cluster) = exchange.asked.cluster {
                    session.pins.touch(cluster);
                }
                self.resume(session, due, Served { elsewhere, action: heard.action })
            }
        }
    }

    fn create(&mut self, id: SessionId, heard: &Signals, now: UnixTime) -> (Outcome, Change) {
        if self.policy().upstream.via == Via::StatefulSession && !heard.bridge {
            self.count(Counter::Fault(Fault::BridgeSilent));
        }
        // The upstream knows `id` already, and asked for another.
        let id = if heard.action == Some(AppAction::Rotate) { self.new_id() } else { Some(id) };
        let Some(id) = id else { return (Outcome::Failed, Change::Keep) };
        let mut session = Session::begin(id, now, &self.policy().session);
        if heard.action != Some(AppAction::Release)
            && let Some((cluster, host)) = self.serving()
        {
            session.pins.set(Pin { cluster, host });
        }
        (Outcome::Created, Change::Begin(session))
    }

    /// A valid session whose response may change it. `due`: the reason for a new cookie that does not depend on who served.
    fn resume(&mut self, mut session: Session, due: Option<(Outcome, StoreUpdate)>, served: Served) -> Verdict {
        let Served { elsewhere, action } = served;
        if action == Some(AppAction::Release) {
            let released = self.serving().is_some_and(|(at, host)| self.release(&mut session, at, &host));
            let (outcome, change) = match (released, due) {
                (true, _) => (Outcome::Released, Change::Update(session, StoreUpdate::Write)),
                (false, Some((due, telling))) => (due, Change::Update(session, telling)),
                (false, None) => (Outcome::Resumed, Change::Keep),
            };
            return (outcome, change).into();
        }
        let repin = if elsewhere { self.repin(&mut session) } else { Repin::Same };
        let displaced = matches!(repin, Repin::Moved | Repin::Kept | Repin::Ignored);
        let (outcome, change) = match (action, repin, due) {
            (Some(AppAction::Rotate), ..) => self.rotate(session),
            (_, Repin::Moved, _) => (Outcome::Moved, Change::Update(session, StoreUpdate::Write)),
            (_, Repin::Pinned, _) => (Outcome::Pinned, Change::Update(session, StoreUpdate::Write)),
            (_, _, Some((due, telling))) => (due, Change::Update(session, telling)),
            (_, Repin::Same, None) => (Outcome::Resumed, Change::Keep),
            (_, Repin::Kept, None) => (Outcome::Kept, Change::Keep),
            (_, Repin::Ignored, None) => (Outcome::PinIgnored, Change::Keep),
        };
        Verdict { outcome, change, displaced }
    }

    fn served_elsewhere(&self, heard: &Signals, asked: &Asked) -> bool {
        match self.policy().upstream.via {
            Via::StatefulSession => heard.bridge,
            Via::OverrideHost => self.proxy.upstream_address().and_then(|text| HostAddr::parse(&text)) != asked.host,
        }
    }

    /// Lets the pins follow the host that served, as `failover` says.
    fn repin(&mut self, session: &mut Session) -> Repin {
        let Some((cluster, host)) = self.serving() else { return Repin::Same };
        let (repin, displaces) = match session.pins.host_in(cluster) {
            Some(pinned) if *pinned == host => return Repin::Same,
            Some(_) if self.policy().upstream.failover != Failover::Sticky => return Repin::Kept,
            Some(_) => (Repin::Moved, true),
            None => (Repin::Pinned, session.pins.len() == MAX_PINS),
        };
        if displaces && !self.moment().is_some_and(|now| self.worker.may_move(session.id, now)) {
            return Repin::Ignored;
        }
        session.pins.set(Pin { cluster, host });
        session.generation = session.generation.saturating_add(1);
        repin
    }

    /// Forgets the host that asked to be let go. `false` when the session does not prefer it.
    fn release(&self, session: &mut Session, cluster: ClusterId, host: &HostAddr) -> bool {
        let forget = session.pins.host_in(cluster).is_some_and(|pinned| {
            // A session that would have moved here prefers this host as well.
            pinned == host || self.policy().upstream.failover == Failover::Sticky
        });
        if forget {
            session.pins.remove(cluster);
            session.generation = session.generation.saturating_add(1);
        }
        forget
    }

    /// Carries out a change. `false` when it could not be.
    fn apply(&mut self, change: Change, by: Option<usize>, edits: &mut Vec<Edit<'p>>) -> bool {
        let carriers = self.affinity.carriers();
        let session = match &change {
            Change::Keep => return true,
            Change::End { clear, .. } => {
                let mut cleared = carriers.iter().enumerate().filter(|(place, _)| clear.contain(*place)).peekable();
                if cleared.peek().is_some() {
                    let response = self.proxy.response_headers().unwrap_or_default();
                    cleared.for_each(|(_, carrier)| carrier.clear(&response, edits));
                    keep_private(&response, edits);
                }
                return true;
            }
            Change::Begin(session) | Change::Update(session, _) | Change::Replace(session, _) => session,
        };
        let Some(carrier) = by.and_then(|by| carriers.get(by)) else { return false };
        let Some(token) = self.seal(session) else { return false };
        match &change {
            Change::Update(session, _) => self.worker.token_issued(session.id, session.generation, self.moment()),
            Change::Replace(_, old) => self.worker.token_cleared(*old, self.moment()),
            // Nothing older of a new session is about; a logout was noted when it was decided.
            Change::Keep | Change::Begin(_) | Change::End { .. } => {}
        }
        let max_age = self.policy().session.max_age(session, session.renewed);
        let response = self.proxy.response_headers().unwrap_or_default();
        carrier.issue(&token, max_age, &response, edits);
        keep_private(&response, edits);
        true
    }

    /// The token of a session. `None` without randomness.
    fn seal(&mut self, session: &Session) -> Option<String> {
        let protection = if self.policy().encrypt {
            let Some(nonce) = self.proxy.random_nonce() else {
                self.count(Counter::Fault(Fault::Randomness));
                return None;
            };
            Protection::Encrypted { nonce }
        } else {
            Protection::Signed
        };
        Some(token::seal(session, &self.shared().keyring, &protection))
    }

    /// A logout. It needs neither time nor randomness, and where the request could not be read every token goes.
    fn end(&mut self, exchange: &Exchange) -> (Outcome, Change) {
        let origin = self.origin();
        if origin == Origin::Local {
            return (Outcome::Untouched, Change::Keep);
        }
        let session = match &exchange.standing {
            Standing::Resumed(Resumed { opened, .. }) | Standing::Unconfirmed(opened) => {
                let session = &opened.session;
                self.worker.token_cleared(session.id, self.moment());
                if let Some(now) = self.proxy.now() {
                    self.worker.counts.measure(Histogram::Lifetime(Ending::Ended), now.seconds_since(session.created));
                }
                Some(session.clone())
            }
            Standing::Fresh(_) | Standing::Unknown | Standing::Outside => None,
        };
        let Arrival { presented, by, .. } = exchange.arrival;
        let clear = match (&session, by) {
            _ if origin != Origin::Upstream => Carriers::default(),
            // Tokens of others are not the client's session.
            (Some(_), Some(by)) => Carriers::only(by),
            _ => presented,
        };
        (Outcome::Ended, Change::End { session, clear })
    }

    /// The same session under a new id.
    fn rotate(&mut self, session: Session) -> (Outcome, Change) {
        let Some(id) = self.new_id() else { return (Outcome::Failed, Change::Keep) };
        let old = session.id;
        (Outcome::Rotated, Change::Replace(Session { id, generation: 0, ..session }, old))
    }

    fn why_displaced(&self) -> Displaced {
        let retried = self.proxy.attempts().is_some_and(|attempts| attempts > 1);
        if retried { Displaced::Retried } else { Displaced::Unavailable }
    }

    fn origin(&self) -> Origin {
        if self.proxy.code_details().as_deref() != Some(b"via_upstream") {
            return Origin::Local;
        }
        match self.proxy.response_header(":status").as_deref() {
            // Unread, it may be one.
            Some(b"304") | None => Origin::NotModified,
            Some(_) => Origin::Upstream,
        }
    }

    /// The cluster and host that served. Counted where they are not to be had.
    fn serving(&mut self) -> Option<(ClusterId, HostAddr)> {
        let cluster = self.proxy.cluster_name().map(|name| ClusterId::of(&name));
        let host = self.proxy.upstream_address().and_then(|text| HostAddr::parse(&text));
        if cluster.is_none() || host.is_none() {
            self.count(Counter::Fault(Fault::HostUnknown));
        }
        cluster.zip(host)
    }

    fn new_id(&mut self) -> Option<SessionId> {
        let id = self.proxy.random_id();
        if id.is_none() {
            self.count(Counter::Fault(Fault::Randomness));
        }
        id
    }
}

/// Keeps shared caches from what carries a token, or takes one away.
fn keep_private(response: &Headers, edits: &mut Vec<Edit<'_>>) {
    if !cache_control::is_private(response.values("cache-control")) {
        edits.push(Edit::Add("cache-control", b"private".to_vec()));
    }
}

impl AppAction {
    /// The strongest action of a header, and how many of its elements are none that is known. The header is a list (RFC 9110,
    /// section 5.6.1), perhaps in several lines: middleware and handler may each say something. Empty elements say nothing.
    fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> (Option<Self>, u32) {
        lines.flat_map(elements).fold((None, 0), |(strongest, unknown), word| {
            let action = match word.to_ascii_lowercase().as_slice() {
                b"release" => Self::Release,
                b"rotate" => Self::Rotate,
                b"end" => Self::End,
                _ => return (strongest, unknown.saturating_add(1)),
            };
            (strongest.max(Some(action)), unknown)
        })
    }
}
