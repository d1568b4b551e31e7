//! The response's half: who served, what the application said, and what becomes of the session.

use super::{Affinity, Asked, Edit, Exchange, Inputs, Standing};
use crate::cache_control;
use crate::clock::UnixTime;
use crate::config::{Failover, Via};
use crate::keyring::KeyAge;
use crate::metrics::{Counter, Fault, Outcome};
use crate::pin::{ClusterId, HostAddr, MAX_PINS, Pin};
use crate::session::{Session, SessionId};
use crate::token::{self, Protection};
use crate::worker::{Freshness, Worker};

/// What the application can say, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Release,
    Rotate,
    End,
}

/// What the response says to the filter.
struct Heard {
    /// The bridge named the host that served: another than was asked for, or none was asked for.
    bridge: bool,
    action: Option<Action>,
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

/// What happens to the client's cookie.
enum Change {
    Keep,
    /// A first cookie.
    Begin(Session),
    /// A newer copy of the session that the client has.
    Update(Session),
    /// A session that takes the place of another.
    Replace(Session, SessionId),
    Clear,
}

/// What the serving host does to the pins.
enum Repin {
    Same,
    Kept,
    Ignored,
    Pinned,
    Moved,
}

impl Affinity {
    /// Decides on the response of `exchange`.
    pub fn on_response(&self, exchange: Exchange, worker: &mut Worker, inputs: &dyn Inputs) -> Vec<Edit<'_>> {
        let mut edits = Vec::new();
        let heard = self.listen(worker, inputs, &mut edits);
        let (outcome, change) = match (heard.action, inputs.now()) {
            (Some(Action::End), _) => end(&exchange, worker, inputs),
            (_, Some(now)) => self.decide(exchange, &heard, now, worker, inputs),
            (_, None) => (Outcome::Failed, Change::Keep),
        };
        let outcome = if self.apply(change, worker, inputs, &mut edits) { outcome } else { Outcome::Failed };
        worker.count(Counter::Session(outcome));
        if let Some(name) = &self.config.debug_header {
            edits.push(Edit::Set(name.as_str(), outcome.word().into()));
        }
        edits
    }

    /// Reads what is meant for the filter, and takes it from the response.
    fn listen<'a>(&'a self, worker: &mut Worker, inputs: &dyn Inputs, edits: &mut Vec<Edit<'a>>) -> Heard {
        let [host_header, action_header, session_header] = self.internal_headers();
        let bridge = match self.config.upstream.via {
            Via::StatefulSession => inputs.response_header(host_header).is_some(),
            Via::OverrideHost => false,
        };
        // The other bridge never speaks: what stands there is the upstream's doing.
        if bridge || self.config.upstream.via == Via::OverrideHost {
            edits.push(Edit::Remove(host_header));
        }
        let spoken = inputs.response_header(action_header).is_some();
        if spoken {
            edits.push(Edit::Remove(action_header));
        }
        // An upstream that echoes what it got must not tell the client its session id. Absent, this costs next to nothing.
        edits.push(Edit::Remove(session_header));
        let heeded = spoken && self.config.app.action_header.enabled;
        let headers = if heeded { inputs.response_headers() } else { None };
        let action = headers.and_then(|headers| Action::read(headers.values(action_header), worker));
        Heard { bridge, action }
    }

    fn decide(
        &self,
        exchange: Exchange,
        heard: &Heard,
        now: UnixTime,
        worker: &mut Worker,
        inputs: &dyn Inputs,
    ) -> (Outcome, Change) {
        match exchange.standing {
            Standing::Unknown => (Outcome::Failed, Change::Keep),
            Standing::Elsewhere => (Outcome::Untouched, Change::Keep),
            Standing::Fresh(id) => match origin(inputs) {
                Origin::Local | Origin::NotModified => (Outcome::Untouched, Change::Keep),
                Origin::Upstream => self.create(id, heard, now, worker, inputs),
            },
            Standing::Resumed(session, age) => {
                let elsewhere = self.served_elsewhere(heard, &exchange.asked, inputs);
                let renewal = self.config.session.renewal_due(&session, now);
                if !elsewhere && !renewal && age == KeyAge::Current && heard.action.is_none() {
                    return (Outcome::Resumed, Change::Keep);
                }
                let origin = origin(inputs);
                let monotonic = inputs.monotonic().unwrap_or_default();
                // A request that is under way is no idleness, but nothing lasts beyond the absolute end.
                let ended_meanwhile = self.config.session.end(&session).is_some_and(|end| now >= end);
                if origin != Origin::Upstream || ended_meanwhile {
                    return (Outcome::Untouched, Change::Keep);
                }
                let due = match age {
                    KeyAge::Older => Some(Outcome::Rekeyed),
                    KeyAge::Current => renewal.then_some(Outcome::Renewed),
                };
                let due = match worker.freshness(&session.id, session.generation, exchange.began, monotonic) {
                    // Whoever planted a token may have ended that session: a login gets a new id all the same.
                    Freshness::Stale if heard.action != Some(Action::Rotate) => {
                        return (Outcome::Untouched, Change::Keep);
                    }
                    Freshness::Stale | Freshness::Told => None,
                    Freshness::Current => due,
                };
                let mut session = Session { renewed: now, ..session };
                if let Some(cluster) = exchange.asked.cluster {
                    session.pins.touch(cluster);
                }
                self.resume(session, due, elsewhere, heard.action, worker, inputs)
            }
        }
    }

    fn create(
        &self,
        id: SessionId,
        heard: &Heard,
        now: UnixTime,
        worker: &mut Worker,
        inputs: &dyn Inputs,
    ) -> (Outcome, Change) {
        if self.config.upstream.via == Via::StatefulSession && !heard.bridge {
            worker.count(Counter::Fault(Fault::BridgeSilent));
        }
        // The upstream knows `id` already, and asked for another.
        let id = if heard.action == Some(Action::Rotate) { new_id(worker, inputs) } else { Some(id) };
        let Some(id) = id else { return (Outcome::Failed, Change::Keep) };
        let mut session = Session::begin(id, now, &self.config.session);
        if heard.action != Some(Action::Release)
            && let Some((cluster, host)) = serving(worker, inputs)
        {
            session.pins.set(Pin { cluster, host });
        }
        (Outcome::Created, Change::Begin(session))
    }

    /// A valid session whose response may change it. `due`: the reason for a new cookie that does not depend on who served.
    fn resume(
        &self,
        mut session: Session,
        due: Option<Outcome>,
        elsewhere: bool,
        action: Option<Action>,
        worker: &mut Worker,
        inputs: &dyn Inputs,
    ) -> (Outcome, Change) {
        if action == Some(Action::Release) {
            let released = serving(worker, inputs).is_some_and(|(at, host)| self.release(&mut session, at, &host));
            return match (released, due) {
                (true, _) => (Outcome::Released, Change::Update(session)),
                (false, Some(due)) => (due, Change::Update(session)),
                (false, None) => (Outcome::Resumed, Change::Keep),
            };
        }
        let repin = if elsewhere { self.repin(&mut session, worker, inputs) } else { Repin::Same };
        if action == Some(Action::Rotate) {
            let Some(id) = new_id(worker, inputs) else { return (Outcome::Failed, Change::Keep) };
            let old = std::mem::replace(&mut session.id, id);
            session.generation = 0;
            return (Outcome::Rotated, Change::Replace(session, old));
        }
        let unchanged = match repin {
            Repin::Moved => return (Outcome::Moved, Change::Update(session)),
            Repin::Pinned => return (Outcome::Pinned, Change::Update(session)),
            Repin::Same => Outcome::Resumed,
            Repin::Kept => Outcome::Kept,
            Repin::Ignored => Outcome::PinIgnored,
        };
        match due {
            Some(due) => (due, Change::Update(session)),
            None => (unchanged, Change::Keep),
        }
    }

    fn served_elsewhere(&self, heard: &Heard, asked: &Asked, inputs: &dyn Inputs) -> bool {
        match self.config.upstream.via {
            Via::StatefulSession => heard.bridge,
            Via::OverrideHost => inputs.upstream_address().and_then(|text| HostAddr::parse(&text)) != asked.host,
        }
    }

    /// Lets the pins follow the host that served, as `failover` says.
    fn repin(&self, session: &mut Session, worker: &mut Worker, inputs: &dyn Inputs) -> Repin {
        let Some((cluster, host)) = serving(worker, inputs) else { return Repin::Same };
        let (repin, displaces) = match session.pins.host_in(cluster) {
            Some(pinned) if *pinned == host => return Repin::Same,
            Some(_) if self.config.upstream.failover != Failover::Sticky => return Repin::Kept,
            Some(_) => (Repin::Moved, true),
            None => (Repin::Pinned, session.pins.len() == MAX_PINS),
        };
        if displaces && !inputs.monotonic().is_some_and(|now| worker.may_move(session.id, now)) {
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
            pinned == host || self.config.upstream.failover == Failover::Sticky
        });
        if forget {
            session.pins.remove(cluster);
            session.generation = session.generation.saturating_add(1);
        }
        forget
    }

    /// Carries out a change. `false` when it could not be.
    fn apply(&self, change: Change, worker: &mut Worker, inputs: &dyn Inputs, edits: &mut Vec<Edit<'_>>) -> bool {
        let set_cookie = match &change {
            Change::Keep => return true,
            Change::Clear => Some(self.config.cookie.set_cookie.clear()),
            Change::Begin(session) | Change::Update(session) | Change::Replace(session, _) => {
                self.issue(session, worker, inputs)
            }
        };
        let Some(set_cookie) = set_cookie else { return false };
        match change {
            Change::Update(session) => {
                worker.told(session.id, session.generation, inputs.monotonic().unwrap_or_default());
            }
            Change::Replace(_, old) => worker.over(old, inputs.monotonic().unwrap_or_default()),
            // Nothing older of a new session is about; a logout was noted when it was decided.
            Change::Keep | Change::Begin(_) | Change::Clear => {}
        }
        edits.push(Edit::Add("set-cookie", set_cookie.into_bytes()));
        let headers = inputs.response_headers().unwrap_or_default();
        if !cache_control::is_private(headers.values("cache-control")) {
            edits.push(Edit::Add("cache-control", b"private".to_vec()));
        }
        true
    }

    /// The `Set-Cookie` line of a session. `None` without randomness.
    fn issue(&self, session: &Session, worker: &mut Worker, inputs: &dyn Inputs) -> Option<String> {
        let cookie = &self.config.cookie;
        let protection = if cookie.encrypt {
            let Some(nonce) = inputs.random_nonce() else {
                worker.count(Counter::Fault(Fault::Randomness));
                return None;
            };
            Protection::Encrypted { nonce }
        } else {
            Protection::Signed
        };
        let token = token::seal(session, &self.config.keyring, &protection);
        let max_age = cookie.persistent.then(|| self.config.session.max_age(session, session.renewed));
        Some(cookie.set_cookie.issue(&token, max_age))
    }
}

impl Action {
    /// The header is a list (RFC 9110, section 5.6.1), perhaps in several lines: middleware and handler may each say something.
    fn read<'a>(lines: impl Iterator<Item = &'a [u8]>, worker: &mut Worker) -> Option<Self> {
        let mut known = None;
        for word in lines.flat_map(|line| line.split(|byte| *byte == b',')) {
            let action = match word.trim_ascii().to_ascii_lowercase().as_slice() {
                b"release" => Some(Self::Release),
                b"rotate" => Some(Self::Rotate),
                b"end" => Some(Self::End),
                _ => None,
            };
            if action.is_none() {
                worker.count(Counter::Fault(Fault::UnknownAction));
            }
            known = known.max(action);
        }
        known
    }
}

/// A logout. It needs neither time nor randomness, and where the request could not be read the cookie goes as well.
fn end(exchange: &Exchange, worker: &mut Worker, inputs: &dyn Inputs) -> (Outcome, Change) {
    let origin = origin(inputs);
    if origin == Origin::Local {
        return (Outcome::Untouched, Change::Keep);
    }
    if let Standing::Resumed(session, _) = &exchange.standing {
        worker.over(session.id, inputs.monotonic().unwrap_or_default());
    }
    let may_have_one = exchange.presented || exchange.standing == Standing::Unknown;
    let clear = may_have_one && origin == Origin::Upstream;
    (Outcome::Ended, if clear { Change::Clear } else { Change::Keep })
}

fn origin(inputs: &dyn Inputs) -> Origin {
    if inputs.code_details().as_deref() != Some(b"via_upstream") {
        return Origin::Local;
    }
    match inputs.response_header(":status").as_deref() {
        Some(b"304") => Origin::NotModified,
        Some(_) | None => Origin::Upstream,
    }
}

/// The cluster and host that served. Counted where they are not to be had.
fn serving(worker: &mut Worker, inputs: &dyn Inputs) -> Option<(ClusterId, HostAddr)> {
    let cluster = inputs.cluster_name().map(|name| ClusterId::of(&name));
    let host = inputs.upstream_address().and_then(|text| HostAddr::parse(&text));
    if cluster.is_none() || host.is_none() {
        worker.count(Counter::Fault(Fault::HostUnknown));
    }
    cluster.zip(host)
}

fn new_id(worker: &mut Worker, inputs: &dyn Inputs) -> Option<SessionId> {
    let id = inputs.random_id();
    if id.is_none() {
        worker.count(Counter::Fault(Fault::Randomness));
    }
    id
}
