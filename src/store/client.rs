//! A worker's side of the session store: what it knows, what it has asked, who waits for it, and when it leaves the store alone.
//!
//! Sends nothing. Calls to be made are handed out by [`StoreClient::outgoing`]; what became of them comes back through
//! [`StoreClient::sent`], [`StoreClient::unsent`] and [`StoreClient::answered`], which say whom that wakes. Time is passed in.
//! One lookup of a session is under way at a time, however many requests wait for it; a write may have one response that waits.
//! Calls are paced: few are under way at a time, and the others wait in a queue in which the clients take turns. Revocations never wait.

mod answers;
mod queue;

use crate::clock::Monotonic;
use crate::config::Endpoint;
use crate::config::{Config, OnMissing, Shared, StoreConfig};
use crate::credential::keyring::KeyPosition;
use crate::ids::{CallId, StreamId};
use crate::observe::metrics::{CallResult, Counter, Counts, Fault, Histogram, Memory, Operation};
use crate::session::{Session, SessionId, Timeouts};
use crate::store::breaker::Breaker;
use crate::store::cache::{Cache, Entry, Record};
use crate::store::protocol::{Answer, Command, Failure, Request, StoreKey, Version};
use crate::store::value;
use queue::{Connection, FairQueue};
use std::collections::VecDeque;
use std::mem::take;
use std::rc::Rc;
use std::time::Duration;

/// How many calls a worker has under way at most, revocations aside. The proxy's own bounds lie above it for every worker together
/// (`docs/store.md`): what it turns away has failed, and what waits here has not.
const MAX_CALLS: usize = 32;

/// How many revocations a worker has under way at most, and how many that it owes.
const MAX_REVOCATIONS: usize = 1024;

/// How many calls wait for their turn at most.
const MAX_QUEUED: usize = 8192;

/// How many of them for one client.
const MAX_QUEUED_OF_ONE: usize = 1024;

/// For how long a call waits for its turn at most. Turns come while the store answers: longer than it may take for one answer.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// How many requests of a worker wait for lookups at most.
const MAX_WAITERS: usize = 8192;

/// How often a write is tried that finds another copy than it expected.
const MAX_TRIES: u8 = 4;

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

/// Something happens on a worker: when, and where it is counted.
#[derive(Debug)]
pub struct Event<'a> {
    /// When. `None` where the proxy did not tell: the time of the event before counts then.
    pub now: Option<Monotonic>,
    /// What was counted on the worker.
    pub counts: &'a mut Counts,
}

/// What a lookup came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupOutcome {
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
pub enum WriteOutcome {
    /// The store has it, or could not be told.
    Settled,
    /// The store has another copy, which wins.
    Adopted(Record),
    /// It ended meanwhile.
    Revoked,
}

/// Why a stream goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// Its session's lookup came to this.
    Lookup(LookupOutcome),
    /// Its write came to this.
    Write(WriteOutcome),
}

/// Who is told what, and therefore goes on.
pub type Wake = (StreamId, CallOutcome);

/// Why a call is made.
#[derive(Clone, Debug)]
enum Job {
    Lookup {
        /// Whether this is the second try, after the first failed together with other calls.
        again: bool,
    },
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
    /// For whom it is.
    client: Connection,
    /// When it was sent; before that, since when it waits.
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
    shared: Rc<Shared>,
    timeouts: Timeouts,
    store: StoreConfig,
    cache: Cache,
    breaker: Breaker,
    /// Revocations to be sent.
    revocations: VecDeque<Call>,
    /// Other calls that have no client yet: [`StoreClient::attribute`] gives them one.
    fresh: Vec<Call>,
    queue: FairQueue,
    /// Few as a rule: a search by hand is as fast as any.
    calls: Vec<(CallId, Call)>,
    /// Who waits for the lookup of a session. There is an entry while one is under way.
    lookups: Vec<(SessionId, Vec<StreamId>)>,
    waiters: usize,
    /// Revocations that the store has not been told.
    owed: Vec<Call>,
    /// The time of the latest event.
    now: Monotonic,
}

impl StoreClient {
    /// A client of the config's store, if it has one. `seed`: random bits for the breaker ([`Breaker::jittered`]).
    pub fn new(config: &Config, seed: u32) -> Option<Self> {
        Some(Self {
            store: config.shared.store.clone()?,
            cache: Cache::new(config.shared.cache.entries, config.shared.cache.ttl),
            shared: Rc::clone(&config.shared),
            timeouts: config.policy.session,
            breaker: Breaker::jittered(seed),
            revocations: VecDeque::new(),
            fresh: Vec::new(),
            queue: FairQueue::default(),
            calls: Vec::new(),
            lookups: Vec::new(),
            waiters: 0,
            owed: Vec::new(),
            now: Monotonic::default(),
        })
    }

    /// What is known of a session, of which a request has this copy. `None`: the store is asked, and `stream` waits.
    pub fn lookup(&mut self, session: &Session, stream: StreamId, event: &mut Event<'_>) -> Option<LookupOutcome> {
        // Without a clock nothing can be believed for a while.
        if event.now.is_none() {
            return Some(LookupOutcome::Failed);
        }
        if let Some(known) = self.known(session, event) {
            return Some(known);
        }
        if self.has_ended(&session.id) {
            return Some(LookupOutcome::Revoked);
        }
        if self.waiters >= MAX_WAITERS {
            event.counts.add(Counter::Fault(Fault::StoreOverload));
            return Some(LookupOutcome::Failed);
        }
        match self.lookups.iter_mut().find(|(id, _)| *id == session.id) {
            Some((_, waiters)) => {
                waiters.push(stream);
                event.counts.add(Counter::LookupShared);
            }
            None => {
                let call = self.new_call(session.id, Command::Lookup, Job::Lookup { again: false }, None);
                if !self.enqueue(call, event) {
                    return Some(LookupOutcome::Failed);
                }
                self.lookups.push((session.id, vec![stream]));
            }
        }
        self.waiters = self.waiters.saturating_add(1);
        None
    }

    /// What this worker knows of a session, of which a request has this copy, without asking the store.
    pub fn known(&mut self, session: &Session, event: &mut Event<'_>) -> Option<LookupOutcome> {
        self.now = event.now?;
        let known = match self.cache.get(&session.id, self.now) {
            Some(Entry::Session(record)) if session.generation <= record.generation => {
                Some(LookupOutcome::Session(record.clone()))
            }
            // The client's copy is newer: another proxy changed the session.
            Some(Entry::Session(_)) | None => None,
            Some(Entry::Revoked) => Some(LookupOutcome::Revoked),
            Some(Entry::Missing) => Some(LookupOutcome::Missing),
            Some(Entry::Unreadable) => Some(LookupOutcome::Unreadable),
        };
        let counter = if known.is_some() { Counter::Hit } else { Counter::Miss };
        event.counts.add(counter(Memory::Sessions));
        known
    }

    /// Has the store know a new session. `true`: `waiter` waits.
    pub fn create(&mut self, session: &Session, waiter: Option<StreamId>, event: &mut Event<'_>) -> bool {
        self.begin(event);
        self.enqueue_write(session.clone(), None, 1, waiter, event) && waiter.is_some()
    }

    /// Has the store know this copy, which is newer than what it has. `true`: `waiter` waits.
    pub fn write(&mut self, session: &Session, waiter: Option<StreamId>, event: &mut Event<'_>) -> bool {
        self.begin(event);
        if self.has_ended(&session.id) {
            return false;
        }
        let expected = self.cache.change(session.id, session.generation, &session.pins, self.now);
        // A session that the store lost must not come back: a write that expects some other version creates nothing.
        let expected = expected.or_else(|| self.lost_is_over().then_some(Version::OfNothing));
        self.enqueue_write(session.clone(), expected, 1, waiter, event) && waiter.is_some()
    }

    /// As [`Self::write`], unless another of the requests that found it missing has had it written.
    pub fn write_if_missing(&mut self, session: &Session, event: &mut Event<'_>) {
        self.begin(event);
        let known = self.cache.get(&session.id, self.now);
        let filled = matches!(known, Some(Entry::Session(record)) if record.generation >= session.generation);
        if !filled {
            self.write(session, None, event);
        }
    }

    /// Lets the store keep a session for longer. `true`: `waiter` waits.
    pub fn touch(&mut self, session: &Session, waiter: Option<StreamId>, event: &mut Event<'_>) -> bool {
        self.begin(event);
        if self.has_ended(&session.id) {
            return false;
        }
        // Its value must not outlive its key.
        if let Some(Entry::Session(Record { age: KeyPosition::Older(_), .. })) = self.cache.get(&session.id, self.now) {
            return self.write(session, waiter, event);
        }
        let command = Command::Touch { ttl: self.lifetime(session) };
        let call = self.new_call(session.id, command, Job::Touch { session: session.clone() }, waiter);
        self.enqueue(call, event) && waiter.is_some()
    }

    /// Ends a session, for this worker at once. Past the breaker, and tried again later if need be. `true`: `waiter` waits.
    pub fn revoke(&mut self, session: &Session, waiter: StreamId, event: &mut Event<'_>) -> bool {
        self.begin(event);
        self.learn(session.id, Entry::Revoked, self.now, event);
        let end = session.end.or_else(|| self.timeouts.end(session)).unwrap_or(session.renewed);
        let left = u32::try_from(end.seconds_since(session.renewed)).unwrap_or(u32::MAX);
        let key = self.key(&session.id);
        let command = Command::Revoke {
            tombstone: value::tombstone(&key, &self.shared.keyring),
            ttl: left.saturating_add(self.margin()),
        };
        let give_up = Monotonic(self.now.0.saturating_add(REVOKE_FOR));
        let call = self.new_call(session.id, command, Job::Revoke { tries: 1, give_up }, Some(waiter));
        self.enqueue(call, event)
    }

    /// Whether this worker knows that the session ended: it remembers, or has yet to tell the store.
    fn has_ended(&mut self, id: &SessionId) -> bool {
        let under_way = self.calls.iter().map(|(_, call)| call).chain(&self.revocations);
        let untold = under_way.chain(&self.owed).any(|call| call.id == *id && call.is_revocation());
        untold || self.cache.get(id, self.now) == Some(&Entry::Revoked)
    }

    /// A stream that may wait is gone, or goes on by itself.
    pub fn forget_waiter(&mut self, stream: StreamId) {
        let mut left = None;
        for (id, waiters) in &mut self.lookups {
            let before = waiters.len();
            waiters.retain(|waiter| *waiter != stream);
            self.waiters = self.waiters.saturating_sub(before.saturating_sub(waiters.len()));
            if before > 0 && waiters.is_empty() {
                left = Some(*id);
            }
        }
        // A lookup that was not made is not worth its turn any more.
        if let Some(id) = left
            && !self.queue.take(|call| call.id == id && matches!(call.job, Job::Lookup { .. })).is_empty()
        {
            self.lookups.retain(|(known, _)| *known != id);
            self.breaker.undecided(self.now);
        }
        let under_way = self.calls.iter_mut().map(|(_, call)| call).chain(&mut self.revocations);
        for call in under_way.chain(&mut self.fresh).chain(self.queue.iter_mut()) {
            call.waiter = call.waiter.filter(|waiter| *waiter != stream);
        }
    }

    /// How many sessions are remembered, in memory that is taken.
    pub fn remembered(&self) -> usize {
        self.cache.count()
    }

    /// Whether the store is left alone just now. The first call after a pause is a probe.
    pub fn breaker_is_open(&self, now: Option<Monotonic>) -> bool {
        self.breaker.is_open(now.unwrap_or(self.now))
    }

    /// Whether the store was left alone, and has answered nothing since.
    pub fn is_away(&self) -> bool {
        self.breaker.is_tripped()
    }

    /// After how many seconds a client that is turned away may try again; at least 1.
    pub fn retry_after(&self, now: Option<Monotonic>) -> u64 {
        self.breaker.pause(now.unwrap_or(self.now)).as_secs().saturating_add(1)
    }

    /// Whether the calls that were asked for just now must be attributed to a client: some of them will wait.
    pub fn must_queue(&self) -> bool {
        let waiting = self.queue.len().saturating_add(self.fresh.len());
        !self.fresh.is_empty() && self.under_way().saturating_add(waiting) > MAX_CALLS
    }

    /// The calls that were asked for just now are for this client.
    pub fn attribute(&mut self, client: Connection) {
        self.fresh.iter_mut().filter(|call| call.client.is_none()).for_each(|call| call.client = client);
    }

    /// Lets the calls that were asked for just now wait for their turn, and returns whom it wakes that a client has too many.
    #[must_use]
    pub fn admit(&mut self, event: &mut Event<'_>) -> Vec<Wake> {
        let mut wakes = Vec::new();
        for call in take(&mut self.fresh) {
            if self.queue.len_of(call.client) < MAX_QUEUED_OF_ONE {
                self.queue.push(call);
            } else {
                wakes.extend(self.settle(call, Err(Failure::Overloaded), event));
            }
        }
        wakes
    }

    /// The next call to be made. It must come back through [`Self::sent`] or [`Self::unsent`]. Its time runs from now on.
    pub fn outgoing(&mut self) -> Option<Call> {
        let call = match self.revocations.pop_front() {
            Some(revocation) => revocation,
            None if self.under_way() < MAX_CALLS => self.queue.pop()?,
            None => return None,
        };
        Some(Call { at: self.now, ..call })
    }

    /// How many calls are under way, revocations aside.
    fn under_way(&self) -> usize {
        self.calls.iter().filter(|(_, call)| !call.is_revocation()).count()
    }

    /// Where calls go, and how long they may take.
    pub fn endpoint(&self) -> &Endpoint {
        &self.store.endpoint
    }

    /// A call as the store understands it.
    pub fn request(&self, call: &Call) -> Request {
        self.store.endpoint.request(&call.key, &call.command)
    }

    /// The proxy makes this call.
    pub fn sent(&mut self, id: CallId, call: Call) {
        self.calls.push((id, call));
    }

    /// The proxy would not make this call.
    #[must_use]
    pub fn unsent(&mut self, call: Call, event: &mut Event<'_>) -> Vec<Wake> {
        self.begin(event);
        self.settle(call, Err(Failure::Unsent), event)
    }

    /// A call came to something.
    #[must_use]
    pub fn answered(&mut self, id: CallId, answer: Answer, event: &mut Event<'_>) -> Vec<Wake> {
        self.begin(event);
        let Some(call) = self.take_call(id) else {
            event.counts.add(Counter::Fault(Fault::StoreLate));
            return Vec::new();
        };
        measure(&call, self.now, event.counts);
        let reply = self.store.endpoint.reply(&call.command, answer);
        let mut wakes = self.settle(call, reply, event);
        wakes.extend(self.give_up_waiting(event));
        wakes
    }

    /// Some time has passed: gives up what the proxy never answered, and tries revocations again.
    #[must_use]
    pub fn on_tick(&mut self, event: &mut Event<'_>) -> Vec<Wake> {
        self.begin(event);
        let limit = self.store.endpoint.timeout.saturating_add(GRACE);
        let lost = self.calls.iter().filter(|(_, call)| self.now.since(call.at) > limit);
        let lost: Vec<CallId> = lost.map(|(id, _)| *id).collect();
        let mut wakes = Vec::new();
        for id in lost {
            if let Some(call) = self.take_call(id) {
                measure(&call, self.now, event.counts);
                wakes.extend(self.settle(call, Err(Failure::Unavailable), event));
            }
        }
        let due = self.owed.len().min(REVOKES_A_TICK);
        for call in self.owed.drain(..due).collect::<Vec<_>>() {
            self.enqueue(Call { at: self.now, ..call }, event);
        }
        wakes.extend(self.give_up_waiting(event));
        wakes
    }

    /// Gives up the calls whose turn did not come in time: all of them once the store is left alone. Never in a stream's callback,
    /// because it may turn other streams away.
    fn give_up_waiting(&mut self, event: &mut Event<'_>) -> Vec<Wake> {
        if self.queue.len() == 0 {
            return Vec::new();
        }
        let left_alone = self.breaker.is_open(self.now);
        let late = self.queue.take(|call| left_alone || self.now.since(call.at) > MAX_WAIT);
        let failure = if left_alone { Failure::LeftAlone } else { Failure::Overloaded };
        late.into_iter().flat_map(|call| self.settle(call, Err(failure), event)).collect()
    }

    /// Nobody will be there to try again, or to hear an answer: what the store has not confirmed counts as lost.
    pub fn on_done(&mut self, event: &mut Event<'_>) {
        let calls = take(&mut self.calls).into_iter().map(|(_, call)| call);
        let calls = calls.chain(take(&mut self.revocations)).chain(take(&mut self.owed));
        calls.filter(Call::is_revocation).for_each(|_| event.counts.add(Counter::Fault(Fault::RevocationLost)));
    }

    /// The time that counts from here on.
    fn begin(&mut self, event: &Event<'_>) {
        self.now = event.now.unwrap_or(self.now);
    }

    /// Takes in what the store said to a call that was sent at `since`, and returns what holds.
    fn learn(&mut self, id: SessionId, news: Entry, since: Monotonic, event: &mut Event<'_>) -> Entry {
        let learned = self.cache.learn(id, news, since, self.now);
        if learned.evicted {
            event.counts.add(Counter::Evicted(Memory::Sessions));
        }
        learned.holds
    }

    fn take_call(&mut self, id: CallId) -> Option<Call> {
        let at = self.calls.iter().position(|(known, _)| *known == id)?;
        Some(self.calls.swap_remove(at).1)
    }

    fn key(&self, id: &SessionId) -> StoreKey {
        StoreKey::of(id, &self.shared.scope, &self.store.endpoint.namespace)
    }

    fn new_call(&self, id: SessionId, command: Command, job: Job, waiter: Option<StreamId>) -> Call {
        Call { id, key: self.key(&id), command, job, waiter, client: None, at: self.now }
    }

    /// For how many seconds longer than a session its entry lives: a proxy whose clock is late still takes the token.
    fn margin(&self) -> u32 {
        MARGIN.max(self.timeouts.clock_skew)
    }

    /// For how many seconds the store must know a session that was renewed just now.
    fn lifetime(&self, session: &Session) -> u32 {
        let left = self.timeouts.max_age(session, session.renewed);
        u32::try_from(left).unwrap_or(u32::MAX).saturating_add(self.margin())
    }

    fn enqueue_write(
        &mut self,
        session: Session,
        expected: Option<Version>,
        tries: u8,
        waiter: Option<StreamId>,
        event: &mut Event<'_>,
    ) -> bool {
        let value = value::seal(&session, &self.key(&session.id), &self.shared.keyring);
        let ttl = self.lifetime(&session);
        let command = match expected {
            Some(expected) => Command::Move { expected, value, ttl },
            None => Command::Create { value, ttl },
        };
        let call = self.new_call(session.id, command, Job::Write { session, tries }, waiter);
        self.enqueue(call, event)
    }

    /// Puts a call among those to be made. `false` where it is not: the store is left alone, or there are too many.
    fn enqueue(&mut self, call: Call, event: &mut Event<'_>) -> bool {
        // A logout is not held back by the rest.
        let revocation = call.is_revocation();
        let room = if revocation {
            let under_way = self.calls.len().saturating_sub(self.under_way());
            under_way.saturating_add(self.revocations.len()) < MAX_REVOCATIONS
        } else {
            self.queue.len().saturating_add(self.fresh.len()) < MAX_QUEUED
        };
        if !room {
            event.counts.add(Counter::Fault(Fault::StoreOverload));
        }
        let placed = room && (revocation || self.breaker.allows(self.now));
        if !placed {
            event.counts.add(Counter::StoreCall(call.operation(), CallResult::Skipped));
        }
        match (placed, revocation) {
            (true, true) => self.revocations.push_back(call),
            (true, false) => self.fresh.push(call),
            (false, true) => self.owe(call, event),
            (false, false) => {}
        }
        placed
    }

    fn owe(&mut self, call: Call, event: &mut Event<'_>) {
        let in_time = matches!(call.job, Job::Revoke { give_up, .. } if self.now < give_up);
        if in_time && self.owed.len() < MAX_REVOCATIONS {
            self.owed.push(Call { waiter: None, ..call });
        } else {
            event.counts.add(Counter::Fault(Fault::RevocationLost));
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
