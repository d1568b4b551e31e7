//! A worker's side of the session store: what it knows, what it has asked, who waits for it, and when it leaves the store alone.
//!
//! Sends nothing. Calls to be made are handed out by [`StoreClient::outgoing`]; what became of them comes back through
//! [`StoreClient::sent`], [`StoreClient::unsent`] and [`StoreClient::answered`], which say whom that wakes. Time is passed in.
//! One lookup of a session is under way at a time, however many requests wait for it; a write may have one response that waits.

mod answers;

use crate::breaker::Breaker;
use crate::cache::{Cache, Known, Record};
use crate::clock::Monotonic;
use crate::config::{Config, OnMissing, Store};
use crate::keyring::KeyAge;
use crate::metrics::{CallResult, Counter, Counts, Fault, Histogram, Memory, Operation};
use crate::session::{Session, SessionId};
use crate::store::value;
use crate::store::{Answer, Command, Failure, Gateway, Request, StoreKey, Version};
use std::collections::VecDeque;
use std::mem::take;
use std::rc::Rc;
use std::time::Duration;

/// How many calls a worker has under way at most, and as many revocations that it owes.
const MOST_CALLS: usize = 1024;

/// How many requests of a worker wait for lookups at most.
const MOST_WAITERS: usize = 8192;

/// How often a write is tried that finds another copy than it expected.
const MOST_TRIES: u8 = 4;

/// How often the response to a logout waits for the store to answer.
const REVOKE_TRIES: u8 = 2;

/// For how long a revocation that failed is tried again, once a second.
const REVOKE_FOR: Duration = Duration::from_secs(60);

/// How many of them at a time.
const REVOKES_A_TICK: usize = 64;

/// How much later than its time limit a call counts as lost: the proxy answers within the limit.
const GRACE: Duration = Duration::from_secs(1);

/// For how many seconds longer than a session its entry lives, at least.
const MARGIN: u32 = 120;

/// A stream of the proxy's: a request and its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u32);

/// A call under way, as the proxy names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u32);

/// What a lookup came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The store has it so.
    Session(Record),
    /// It ended.
    Revoked,
    /// The store does not know it.
    Missing,
    /// What the store has for it was not written by a proxy with our keys, or belongs elsewhere.
    Unreadable,
    /// The store could not be asked, or did not answer.
    Failed,
}

/// What a write came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The store has it, or could not be told.
    Settled,
    /// The store has another copy, which wins.
    Adopted(Record),
    /// It ended meanwhile.
    Revoked,
}

/// Why a stream goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Its session's lookup came to this.
    Found(Found),
    /// Its write came to this.
    Written(Written),
}

/// Who is told what, and therefore goes on.
pub type Wake = (StreamId, News);

/// Why a call is made.
#[derive(Clone, Debug)]
enum Job {
    Lookup,
    /// To have this copy written, as a new one or in place of an older one.
    Write {
        session: Session,
        tries: u8,
    },
    Touch {
        session: Session,
    },
    Revoke {
        tries: u8,
        /// When it is given up.
        give_up: Monotonic,
    },
}

/// A call to the store.
#[derive(Clone, Debug)]
pub struct Call {
    id: SessionId,
    key: StoreKey,
    command: Command,
    job: Job,
    /// The response that waits for it.
    waiter: Option<StreamId>,
    at: Monotonic,
}

impl Call {
    fn is_revocation(&self) -> bool {
        matches!(self.job, Job::Revoke { .. })
    }

    fn operation(&self) -> Operation {
        match self.command {
            Command::Lookup => Operation::Lookup,
            Command::Create { .. } => Operation::Create,
            Command::Move { .. } => Operation::Move,
            Command::Touch { .. } => Operation::Touch,
            Command::Revoke { .. } => Operation::Revoke,
        }
    }
}

/// A worker's side of the session store.
#[derive(Debug)]
pub struct StoreClient {
    config: Rc<Config>,
    store: Store,
    cache: Cache,
    breaker: Breaker,
    outbox: VecDeque<Call>,
    /// Few as a rule: a search by hand is as fast as any.
    calls: Vec<(CallId, Call)>,
    /// Who waits for the lookup of a session. There is an entry while one is under way.
    lookups: Vec<(SessionId, Vec<StreamId>)>,
    waiters: usize,
    /// Revocations that the store has not been told.
    owed: Vec<Call>,
}

impl StoreClient {
    /// A client of the config's store, if it has one.
    pub fn new(config: &Rc<Config>) -> Option<Self> {
        Some(Self {
            store: config.store.clone()?,
            cache: Cache::new(config.cache.entries, config.cache.ttl),
            config: Rc::clone(config),
            breaker: Breaker::default(),
            outbox: VecDeque::new(),
            calls: Vec::new(),
            lookups: Vec::new(),
            waiters: 0,
            owed: Vec::new(),
        })
    }

    /// What is known of a session, of which a request has this copy. `None`: the store is asked, and `stream` waits.
    pub fn find(&mut self, session: &Session, stream: StreamId, now: Monotonic, counts: &mut Counts) -> Option<Found> {
        let known = match self.cache.get(&session.id, now) {
            Some(Known::Session(record)) if session.generation <= record.generation => {
                Some(Found::Session(record.clone()))
            }
            // The client's copy is newer: another proxy changed the session.
            Some(Known::Session(_)) | None => None,
            Some(Known::Revoked) => Some(Found::Revoked),
            Some(Known::Missing) => Some(Found::Missing),
            Some(Known::Unreadable) => Some(Found::Unreadable),
        };
        if known.is_some() {
            counts.add(Counter::Hit(Memory::Sessions));
            return known;
        }
        counts.add(Counter::Miss(Memory::Sessions));
        if self.has_ended(&session.id, now) {
            return Some(Found::Revoked);
        }
        if self.waiters >= MOST_WAITERS {
            counts.add(Counter::Fault(Fault::StoreOverload));
            return Some(Found::Failed);
        }
        match self.lookups.iter_mut().find(|(id, _)| *id == session.id) {
            Some((_, waiters)) => {
                waiters.push(stream);
                counts.add(Counter::LookupShared);
            }
            None => {
                let call = self.call(session.id, Command::Lookup, Job::Lookup, None, now);
                if !self.place(call, now, counts) {
                    return Some(Found::Failed);
                }
                self.lookups.push((session.id, vec![stream]));
            }
        }
        self.waiters = self.waiters.saturating_add(1);
        None
    }

    /// Has the store know a new session. `true`: `waiter` waits.
    pub fn begin(&mut self, session: &Session, waiter: Option<StreamId>, now: Monotonic, counts: &mut Counts) -> bool {
        self.write(session.clone(), None, 1, waiter, now, counts) && waiter.is_some()
    }

    /// Has the store know this copy, which is newer than what it has. `true`: `waiter` waits.
    pub fn put(&mut self, session: &Session, waiter: Option<StreamId>, now: Monotonic, counts: &mut Counts) -> bool {
        if self.has_ended(&session.id, now) {
            return false;
        }
        let expected = self.cache.change(session.id, session.generation, &session.pins, now);
        // What the store lost must not come back, and whether it did is not known.
        let expected = expected.or_else(|| self.lost_is_over().then(Version::of_nothing));
        self.write(session.clone(), expected, 1, waiter, now, counts) && waiter.is_some()
    }

    /// As [`Self::put`], unless it was put already for another of the requests that found it missing.
    pub fn fill(&mut self, session: &Session, now: Monotonic, counts: &mut Counts) {
        let known = self.cache.get(&session.id, now);
        let filled = matches!(known, Some(Known::Session(record)) if record.generation >= session.generation);
        if !filled {
            self.put(session, None, now, counts);
        }
    }

    /// Lets the store keep a session for longer. `true`: `waiter` waits.
    pub fn touch(&mut self, session: &Session, waiter: Option<StreamId>, now: Monotonic, counts: &mut Counts) -> bool {
        match self.cache.get(&session.id, now) {
            // Its value must not outlive its key.
            Some(Known::Session(Record { age: KeyAge::Older(_), .. })) => {
                return self.put(session, waiter, now, counts);
            }
            Some(Known::Revoked) => return false,
            Some(Known::Session(_) | Known::Missing | Known::Unreadable) | None => {}
        }
        let command = Command::Touch { ttl: self.lifetime(session) };
        let call = self.call(session.id, command, Job::Touch { session: session.clone() }, waiter, now);
        self.place(call, now, counts) && waiter.is_some()
    }

    /// Ends a session, for this worker at once. Past the breaker, and tried again later if need be. `true`: `waiter` waits.
    pub fn revoke(&mut self, session: &Session, waiter: StreamId, now: Monotonic, counts: &mut Counts) -> bool {
        self.learn(session.id, Known::Revoked, now, now, counts);
        let end = session.end.or_else(|| self.config.session.end(session)).unwrap_or(session.renewed);
        let left = u32::try_from(end.seconds_since(session.renewed)).unwrap_or(u32::MAX);
        let key = self.key(&session.id);
        let command = Command::Revoke {
            tombstone: value::tombstone(&key, &self.config.keyring),
            ttl: left.saturating_add(self.margin()),
        };
        let give_up = Monotonic(now.0.saturating_add(REVOKE_FOR));
        let call = self.call(session.id, command, Job::Revoke { tries: 1, give_up }, Some(waiter), now);
        self.place(call, now, counts)
    }

    /// Whether this worker knows that the session ended: it remembers, or has yet to tell the store.
    fn has_ended(&mut self, id: &SessionId, now: Monotonic) -> bool {
        let under_way = self.calls.iter().map(|(_, call)| call).chain(&self.outbox);
        let untold = under_way.chain(&self.owed).any(|call| call.id == *id && call.is_revocation());
        untold || self.cache.get(id, now) == Some(&Known::Revoked)
    }

    /// A stream that may wait is gone, or goes on by itself.
    pub fn leave(&mut self, stream: StreamId) {
        for (_, waiters) in &mut self.lookups {
            let before = waiters.len();
            waiters.retain(|waiter| *waiter != stream);
            self.waiters = self.waiters.saturating_sub(before.saturating_sub(waiters.len()));
        }
        for call in self.calls.iter_mut().map(|(_, call)| call).chain(&mut self.outbox) {
            call.waiter = call.waiter.filter(|waiter| *waiter != stream);
        }
    }

    /// How many sessions are remembered, in memory that is taken.
    pub fn remembered(&self) -> usize {
        self.cache.count()
    }

    /// Whether the store is left alone just now. The first call after a pause is a probe.
    pub fn is_left_alone(&self, now: Monotonic) -> bool {
        self.breaker.is_open(now)
    }

    /// After how many seconds a client that is turned away may try again; at least 1.
    pub fn retry_after(&self, now: Monotonic) -> u64 {
        self.breaker.pause(now).as_secs().saturating_add(1)
    }

    /// The next call to be made. It must come back through [`Self::sent`] or [`Self::unsent`].
    pub fn outgoing(&mut self) -> Option<Call> {
        self.outbox.pop_front()
    }

    /// Where calls go, and how long they may take.
    pub fn gateway(&self) -> &Gateway {
        &self.store.gateway
    }

    /// A call as the store understands it.
    pub fn request(&self, call: &Call) -> Request {
        self.store.gateway.request(&call.key, &call.command)
    }

    /// The proxy makes this call.
    pub fn sent(&mut self, id: CallId, call: Call) {
        self.calls.push((id, call));
    }

    /// The proxy would not make this call.
    #[must_use]
    pub fn unsent(&mut self, call: Call, now: Monotonic, counts: &mut Counts) -> Vec<Wake> {
        self.settle(call, Err(Failure::Unavailable), now, counts)
    }

    /// A call came to something.
    #[must_use]
    pub fn answered(&mut self, id: CallId, answer: Answer, now: Monotonic, counts: &mut Counts) -> Vec<Wake> {
        let Some(call) = self.take_call(id) else {
            counts.add(Counter::Fault(Fault::StoreLate));
            return Vec::new();
        };
        measure(&call, now, counts);
        let reply = self.store.gateway.reply(&call.command, answer);
        self.settle(call, reply, now, counts)
    }

    /// Some time has passed: gives up what the proxy never answered, and tries revocations again.
    #[must_use]
    pub fn on_tick(&mut self, now: Monotonic, counts: &mut Counts) -> Vec<Wake> {
        let limit = self.store.gateway.timeout.saturating_add(GRACE);
        let lost = self.calls.iter().filter(|(_, call)| now.since(call.at) > limit);
        let lost: Vec<CallId> = lost.map(|(id, _)| *id).collect();
        let mut wakes = Vec::new();
        for id in lost {
            if let Some(call) = self.take_call(id) {
                measure(&call, now, counts);
                wakes.extend(self.settle(call, Err(Failure::Unavailable), now, counts));
            }
        }
        let due = self.owed.len().min(REVOKES_A_TICK);
        for call in self.owed.drain(..due).collect::<Vec<_>>() {
            self.place(Call { at: now, ..call }, now, counts);
        }
        wakes
    }

    /// Nobody will be there to try again, or to hear an answer: what the store has not confirmed counts as lost.
    pub fn on_done(&mut self, counts: &mut Counts) {
        let calls = take(&mut self.calls).into_iter().map(|(_, call)| call);
        let calls = calls.chain(take(&mut self.outbox)).chain(take(&mut self.owed));
        calls.filter(Call::is_revocation).for_each(|_| counts.add(Counter::Fault(Fault::RevocationLost)));
    }

    /// Takes in what the store said to a call that was sent at `since`, and returns what holds.
    fn learn(&mut self, id: SessionId, news: Known, since: Monotonic, now: Monotonic, counts: &mut Counts) -> Known {
        let learned = self.cache.learn(id, news, since, now);
        if learned.evicted {
            counts.add(Counter::Evicted(Memory::Sessions));
        }
        learned.holds
    }

    fn take_call(&mut self, id: CallId) -> Option<Call> {
        let at = self.calls.iter().position(|(known, _)| *known == id)?;
        Some(self.calls.swap_remove(at).1)
    }

    fn key(&self, id: &SessionId) -> StoreKey {
        StoreKey::of(id, &self.config.scope, &self.store.gateway.namespace)
    }

    fn call(&self, id: SessionId, command: Command, job: Job, waiter: Option<StreamId>, at: Monotonic) -> Call {
        Call { id, key: self.key(&id), command, job, waiter, at }
    }

    /// For how many seconds longer than a session its entry lives: a proxy whose clock is late still takes the token.
    fn margin(&self) -> u32 {
        MARGIN.max(self.config.session.clock_skew)
    }

    /// For how many seconds the store must know a session that was renewed just now.
    fn lifetime(&self, session: &Session) -> u32 {
        let left = self.config.session.max_age(session, session.renewed);
        u32::try_from(left).unwrap_or(u32::MAX).saturating_add(self.margin())
    }

    fn write(
        &mut self,
        session: Session,
        expected: Option<Version>,
        tries: u8,
        waiter: Option<StreamId>,
        now: Monotonic,
        counts: &mut Counts,
    ) -> bool {
        let value = value::seal(&session, &self.key(&session.id), &self.config.keyring);
        let ttl = self.lifetime(&session);
        let command = match expected {
            Some(expected) => Command::Move { expected, value, ttl },
            None => Command::Create { value, ttl },
        };
        let call = self.call(session.id, command, Job::Write { session, tries }, waiter, now);
        self.place(call, now, counts)
    }

    /// Puts a call among those to be made. `false` where it is not: the store is left alone, or there are too many.
    fn place(&mut self, call: Call, now: Monotonic, counts: &mut Counts) -> bool {
        // A logout is not held back by the rest.
        let revocation = call.is_revocation();
        let most = if revocation { MOST_CALLS.saturating_mul(2) } else { MOST_CALLS };
        let room = self.calls.len().saturating_add(self.outbox.len()) < most;
        if !room {
            counts.add(Counter::Fault(Fault::StoreOverload));
        }
        let placed = room && (revocation || self.breaker.allows(now));
        if placed {
            self.outbox.push_back(call);
        } else {
            counts.add(Counter::StoreCall(call.operation(), CallResult::Skipped));
            if revocation {
                self.owe(call, now, counts);
            }
        }
        placed
    }

    fn owe(&mut self, call: Call, now: Monotonic, counts: &mut Counts) {
        let in_time = matches!(call.job, Job::Revoke { give_up, .. } if now < give_up);
        if in_time && self.owed.len() < MOST_CALLS {
            self.owed.push(Call { waiter: None, ..call });
        } else {
            counts.add(Counter::Fault(Fault::RevocationLost));
        }
    }

    /// Whether a session that the store does not know any more is over, and not to be written anew: it may have been ended, and
    /// its tombstone lost with the rest.
    fn lost_is_over(&self) -> bool {
        self.store.on_missing == OnMissing::NewSession
    }
}

/// How long a call took.
fn measure(call: &Call, now: Monotonic, counts: &mut Counts) {
    let took = u64::try_from(now.since(call.at).as_millis()).unwrap_or(u64::MAX);
    counts.measure(Histogram::StoreCall(call.operation()), took);
}

#[cfg(test)]
impl Call {
    /// What is asked, and of which entry.
    pub(crate) fn asked(&self) -> (&StoreKey, &Command) {
        (&self.key, &self.command)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
