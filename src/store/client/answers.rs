//! What the answers come to: for the breaker, the counters, the cache, and whoever waits.

use super::{Call, CallOutcome, Event, Job, LookupOutcome, MAX_TRIES, REVOKE_TRIES, StoreClient, Wake, WriteOutcome};
use crate::clock::Monotonic;
use crate::credential::keyring::KeyPosition;
use crate::ids::StreamId;
use crate::observe::metrics::{CallResult, Counter, Fault};
use crate::session::Session;
use crate::store::breaker::FailureKind;
use crate::store::cache::{Entry, Record};
use crate::store::protocol::{Command, Failure, Reply, Version};
use crate::store::value::{self, Stored};

impl StoreClient {
    /// What a call came to: for the breaker, the counters, the cache, and whoever waits.
    pub(super) fn settle(&mut self, call: Call, reply: Result<Reply, Failure>, event: &mut Event<'_>) -> Vec<Wake> {
        let (operation, client) = (call.operation(), call.client);
        let mut together = false;
        match &reply {
            Ok(_) => self.breaker.succeeded(),
            &Err(failure) => {
                if let Some(fault) = fault(failure) {
                    event.counts.add(Counter::Fault(fault));
                }
                if !is_of_the_store(failure) {
                    self.breaker.undecided(self.now);
                } else {
                    match self.breaker.failed(call.at, self.now) {
                        FailureKind::Opens => event.counts.add(Counter::Fault(Fault::StoreLeftAlone)),
                        FailureKind::Together => together = true,
                        FailureKind::Counts => {}
                    }
                }
            }
        }
        let made = !matches!(reply, Err(Failure::Overloaded | Failure::LeftAlone));
        let said = self.read(&call, reply, event);
        event.counts.add(Counter::StoreCall(operation, if made { said.result() } else { CallResult::Skipped }));
        // A worker that was busy, or a connection that broke, is no reason to go without an answer.
        let again = together && matches!(call.job, Job::Lookup { again: false });
        if again && self.enqueue(Call { job: Job::Lookup { again }, at: self.now, ..call.clone() }, event) {
            return Vec::new();
        }
        let wakes = self.conclude(call, said, event);
        // What follows from a call is for the same client.
        self.attribute(client);
        wakes
    }

    /// What was said to a call: for the cache, and whoever waits.
    fn conclude(&mut self, call: Call, said: SessionReply, event: &mut Event<'_>) -> Vec<Wake> {
        match call.job {
            Job::Lookup { .. } => {
                let found = self.found(&call, said, event);
                let at = self.lookups.iter().position(|(id, _)| *id == call.id);
                let waiters = at.map(|at| self.lookups.swap_remove(at).1).unwrap_or_default();
                self.waiters = self.waiters.saturating_sub(waiters.len());
                waiters.into_iter().map(|stream| (stream, CallOutcome::Lookup(found.clone()))).collect()
            }
            Job::Write { ref session, tries } => {
                let session = session.clone();
                self.written(&call, session, tries, said, event)
            }
            Job::Touch { ref session } => {
                let session = session.clone();
                self.touched(&call, &session, said, event)
            }
            Job::Revoke { tries, give_up } => self.revoked(call, tries, give_up, &said, event),
        }
    }

    /// Puts a reply in terms of sessions.
    fn read(&self, call: &Call, reply: Result<Reply, Failure>, event: &mut Event<'_>) -> SessionReply {
        match reply {
            Ok(Reply::Done(version)) => SessionReply::Done(version),
            Ok(Reply::Missing) => SessionReply::Missing,
            Ok(Reply::Revoked) => SessionReply::Revoked,
            Ok(Reply::Value(bytes, version)) => match value::open(&bytes, &call.key, &self.shared.keyring) {
                Some((Stored::Session { generation, pins }, age)) => {
                    let asked = matches!(call.command, Command::Lookup | Command::Touch { .. });
                    SessionReply::There { record: Record { generation, pins, version: Some(version), age }, asked }
                }
                Some((Stored::Tombstone, _)) => SessionReply::Revoked,
                None => {
                    event.counts.add(Counter::Fault(Fault::StoreValue));
                    SessionReply::Unreadable(version)
                }
            },
            Err(_) => SessionReply::Nothing,
        }
    }

    fn found(&mut self, call: &Call, said: SessionReply, event: &mut Event<'_>) -> LookupOutcome {
        let news = match said {
            SessionReply::There { record, .. } => Entry::Session(record),
            SessionReply::Missing => Entry::Missing,
            SessionReply::Revoked => Entry::Revoked,
            SessionReply::Unreadable(_) => Entry::Unreadable,
            SessionReply::Done(_) | SessionReply::Nothing => return LookupOutcome::Failed,
        };
        match self.learn(call.id, news, call.at, event) {
            Entry::Session(record) => LookupOutcome::Session(record),
            Entry::Missing => LookupOutcome::Missing,
            Entry::Revoked => LookupOutcome::Revoked,
            Entry::Unreadable => LookupOutcome::Unreadable,
        }
    }

    fn written(
        &mut self,
        call: &Call,
        session: Session,
        tries: u8,
        said: SessionReply,
        event: &mut Event<'_>,
    ) -> Vec<Wake> {
        let (generation, pins) = (session.generation, session.pins.clone());
        let written = match said {
            SessionReply::Done(version) => {
                let record = Record { generation, pins, version, age: KeyPosition::Current };
                self.learn(call.id, Entry::Session(record), call.at, event);
                WriteOutcome::Settled
            }
            SessionReply::There { record: theirs, .. } => {
                let same = theirs.generation == session.generation && theirs.pins.agrees_with(&session.pins);
                let replaced = theirs.generation < session.generation || same && theirs.age != KeyPosition::Current;
                if replaced && tries < MAX_TRIES {
                    let again = tries.saturating_add(1);
                    if self.enqueue_write(session, theirs.version, again, call.waiter, event) {
                        return Vec::new();
                    }
                    WriteOutcome::Settled
                } else {
                    self.learn(call.id, Entry::Session(theirs.clone()), call.at, event);
                    if replaced || same { WriteOutcome::Settled } else { WriteOutcome::Adopted(theirs) }
                }
            }
            // The store lost it.
            SessionReply::Missing if self.lost_is_over() => {
                self.learn(call.id, Entry::Missing, call.at, event);
                WriteOutcome::Revoked
            }
            SessionReply::Missing if tries < MAX_TRIES => {
                if self.enqueue_write(session, None, tries.saturating_add(1), call.waiter, event) {
                    return Vec::new();
                }
                WriteOutcome::Settled
            }
            SessionReply::Revoked => {
                self.learn(call.id, Entry::Revoked, call.at, event);
                WriteOutcome::Revoked
            }
            // No tombstone is hidden in it, so the value can be put right.
            SessionReply::Unreadable(version) if self.store.endpoint.tells_tombstones() && tries < MAX_TRIES => {
                if self.enqueue_write(session, Some(version), tries.saturating_add(1), call.waiter, event) {
                    return Vec::new();
                }
                WriteOutcome::Settled
            }
            SessionReply::Missing | SessionReply::Unreadable(_) | SessionReply::Nothing => WriteOutcome::Settled,
        };
        wake(call.waiter, written)
    }

    fn touched(&mut self, call: &Call, session: &Session, said: SessionReply, event: &mut Event<'_>) -> Vec<Wake> {
        let written = match said {
            SessionReply::There { record, .. } => {
                self.learn(call.id, Entry::Session(record), call.at, event);
                WriteOutcome::Settled
            }
            // The store lost it.
            SessionReply::Missing if self.lost_is_over() => {
                self.learn(call.id, Entry::Missing, call.at, event);
                WriteOutcome::Revoked
            }
            SessionReply::Missing => {
                if self.enqueue_write(session.clone(), None, 1, call.waiter, event) {
                    return Vec::new();
                }
                WriteOutcome::Settled
            }
            SessionReply::Revoked => {
                self.learn(call.id, Entry::Revoked, call.at, event);
                WriteOutcome::Revoked
            }
            SessionReply::Done(_) | SessionReply::Unreadable(_) | SessionReply::Nothing => WriteOutcome::Settled,
        };
        wake(call.waiter, written)
    }

    fn revoked(
        &mut self,
        call: Call,
        tries: u8,
        give_up: Monotonic,
        said: &SessionReply,
        event: &mut Event<'_>,
    ) -> Vec<Wake> {
        let waiter = call.waiter;
        match said {
            SessionReply::Done(_) | SessionReply::Revoked => {}
            SessionReply::There { .. }
            | SessionReply::Missing
            | SessionReply::Unreadable(_)
            | SessionReply::Nothing
                if tries < REVOKE_TRIES =>
            {
                let job = Job::Revoke { tries: tries.saturating_add(1), give_up };
                if self.enqueue(Call { job, at: self.now, ..call }, event) {
                    return Vec::new();
                }
            }
            SessionReply::There { .. }
            | SessionReply::Missing
            | SessionReply::Unreadable(_)
            | SessionReply::Nothing => self.owe(call, event),
        }
        wake(waiter, WriteOutcome::Settled)
    }
}

/// How a failure is counted. That the store is left alone was counted when that began.
fn fault(failure: Failure) -> Option<Fault> {
    match failure {
        Failure::Unavailable | Failure::Unsent => Some(Fault::StoreUnavailable),
        Failure::Refused => Some(Fault::StoreRefused),
        Failure::TooLarge => Some(Fault::StoreTooLarge),
        Failure::Senseless => Some(Fault::StoreSenseless),
        Failure::Overloaded => Some(Fault::StoreOverload),
        Failure::LeftAlone => None,
    }
}

/// Whether it is the store that failed. What happened on this side says nothing of it.
fn is_of_the_store(failure: Failure) -> bool {
    match failure {
        Failure::Unavailable | Failure::Refused | Failure::TooLarge | Failure::Senseless => true,
        Failure::Unsent | Failure::Overloaded | Failure::LeftAlone => false,
    }
}

/// A reply in terms of sessions.
enum SessionReply {
    Done(Option<Version>),
    There {
        record: Record,
        /// It is what was asked for, and not in the way of a write.
        asked: bool,
    },
    Missing,
    Revoked,
    Unreadable(Version),
    Nothing,
}

impl SessionReply {
    fn result(&self) -> CallResult {
        match self {
            Self::Done(_) | Self::There { asked: true, .. } => CallResult::Ok,
            Self::There { asked: false, .. } => CallResult::Conflict,
            Self::Missing => CallResult::Missing,
            Self::Revoked => CallResult::Revoked,
            Self::Unreadable(_) | Self::Nothing => CallResult::Failed,
        }
    }
}

fn wake(waiter: Option<StreamId>, written: WriteOutcome) -> Vec<Wake> {
    waiter.into_iter().map(|stream| (stream, CallOutcome::Write(written.clone()))).collect()
}
