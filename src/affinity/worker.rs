//! What the requests of one worker share. Belongs to the root context; a reload begins with a new one.
//!
//! Bounded: less than 2 MiB when every place is taken, and what `cache.entries` takes (docs/configuration.md).

use crate::clock::Monotonic;
use crate::config::Config;
use crate::credential::verified::VerifiedTokens;
use crate::lru::Lru;
use crate::observe::log::Seen;
use crate::observe::metrics::{Counter, Counts, Fault, Gauge, Memory};
use crate::session::SessionId;
use crate::store::client::StoreClient;
use std::time::Duration;

/// Of how many sessions a worker remembers the latest changes.
const MAX_CHANGED: usize = 8192;

/// How many moves of one session are followed within [`MOVES_WITHIN`]. More, and its pins are evidently not honoured.
const MOVES: u8 = 3;

/// The time in which moves of a session are counted.
const MOVES_WITHIN: Duration = Duration::from_secs(60);

/// For how long a client may still send the token that another has replaced: the new one is on its way. After that it was lost.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// The order in which things happened on a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sequence(u64);

/// A request's copy of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionCopy {
    /// Of which session.
    pub id: SessionId,
    /// How often its pins had changed.
    pub generation: u32,
    /// When the request began.
    pub began: Sequence,
}

/// How a request's copy of a session stands to what this worker has told the client since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Nothing newer is known.
    Current,
    /// The same, but the client got a token after the request began: another is needless.
    AlreadyIssued,
    /// The client has, or is about to get, something newer. A token made of this copy would undo it.
    Stale,
}

/// The last token of a session that this worker issued or cleared.
#[derive(Clone, Copy, Debug)]
struct LastToken {
    at: Sequence,
    when: Option<Monotonic>,
    /// Its generation. `None`: the session is over, or has another id.
    generation: Option<u32>,
}

/// How often a session moved of late.
#[derive(Clone, Copy, Debug, Default)]
struct Moves {
    since: Monotonic,
    count: u8,
}

/// What a worker did to a session of late.
#[derive(Clone, Copy, Debug, Default)]
struct RecentChanges {
    last_token: Option<LastToken>,
    moves: Moves,
}

/// What the requests of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    /// What was counted.
    pub counts: Counts,
    /// The session store's client, where there is a store.
    pub store: Option<StoreClient>,
    /// Tokens that verified.
    pub tokens: VerifiedTokens,
    sequence: Sequence,
    changes: Lru<SessionId, RecentChanges>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            counts: Counts::default(),
            store: None,
            tokens: VerifiedTokens::new(1),
            sequence: Sequence::default(),
            changes: Lru::new(MAX_CHANGED),
        }
    }
}

impl Worker {
    /// A worker for this configuration. `seed`: random bits ([`StoreClient::new`]).
    pub(crate) fn new(config: &Config, seed: u32) -> Self {
        let tokens = VerifiedTokens::new(config.shared.cache.entries);
        Self { store: StoreClient::new(config, seed), tokens, ..Self::default() }
    }

    /// Adds one to a counter.
    pub(crate) fn count(&mut self, counter: Counter) {
        self.counts.add(counter);
    }

    /// What it has just now.
    pub(crate) fn gauges(&self, now: Option<Monotonic>) -> [(Gauge, usize); 3] {
        let store = self.store.as_ref();
        [
            (Gauge::Entries(Memory::Sessions), store.map_or(0, StoreClient::remembered)),
            (Gauge::Entries(Memory::Tokens), self.tokens.count()),
            (Gauge::BreakerOpen, store.is_some_and(|store| store.breaker_is_open(now)).into()),
        ]
    }

    /// What the log may have to be told, of what was counted since it was handed over last.
    pub(crate) fn seen(&self) -> Seen {
        let counted = |fault| self.counts.get(Counter::Fault(fault)) > 0;
        Seen {
            store_is_away: self.store.as_ref().is_some_and(StoreClient::is_away),
            revocation_lost: counted(Fault::RevocationLost),
            bridge_silent: counted(Fault::BridgeSilent),
        }
    }

    /// The next place in the order of things.
    pub(crate) fn step(&mut self) -> Sequence {
        self.sequence = Sequence(self.sequence.0.saturating_add(1));
        self.sequence
    }

    /// The client gets a token of this generation of the session.
    pub(crate) fn token_issued(&mut self, id: SessionId, generation: u32, when: Option<Monotonic>) {
        let at = self.step();
        self.note(id, LastToken { at, when, generation: Some(generation) });
    }

    /// The client gets no token of this id any more: the session ended, or has another id.
    pub(crate) fn token_cleared(&mut self, id: SessionId, when: Option<Monotonic>) {
        let at = self.step();
        self.note(id, LastToken { at, when, generation: None });
    }

    fn note(&mut self, id: SessionId, last: LastToken) {
        let known = self.changes.get(&id).copied().unwrap_or_default();
        self.changes.put(id, RecentChanges { last_token: Some(last), ..known });
    }

    /// How a request's copy stands to what the client was told since.
    pub(crate) fn freshness(&self, copy: &SessionCopy, now: Option<Monotonic>) -> Freshness {
        let Some(last) = self.changes.get(&copy.id).and_then(|session| session.last_token) else {
            return Freshness::Current;
        };
        let before = copy.began < last.at;
        if last.generation.is_some_and(|latest| copy.generation >= latest) {
            return if before { Freshness::AlreadyIssued } else { Freshness::Current };
        }
        // As long as nobody knows what time it is, it may be on its way.
        let on_its_way = last.when.is_some_and(|when| now.is_none_or(|now| now.since(when) < ON_ITS_WAY));
        if before || on_its_way { Freshness::Stale } else { Freshness::Current }
    }

    /// Notes that the session is about to move. `false` when it moved too often of late: then it is left alone.
    pub(crate) fn may_move(&mut self, id: SessionId, now: Monotonic) -> bool {
        let mut known = self.changes.get(&id).copied().unwrap_or_default();
        let moves = &mut known.moves;
        if moves.count == 0 || now.since(moves.since) >= MOVES_WITHIN {
            *moves = Moves { since: now, count: 0 };
        }
        let may = moves.count < MOVES;
        moves.count = moves.count.saturating_add(u8::from(may));
        self.changes.put(id, known);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const ID: SessionId = SessionId([1; 16]);

    fn copy(id: SessionId, generation: u32, began: Sequence) -> SessionCopy {
        SessionCopy { id, generation, began }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn three_moves_a_minute_are_followed() {
        let mut worker = Worker::default();
        assert!([0, 1, 2].into_iter().all(|second| worker.may_move(ID, at(second))));
        assert!(!worker.may_move(ID, at(59)));
        assert!(worker.may_move(SessionId([2; 16]), at(59)), "another session is not held back");
        assert!(worker.may_move(ID, at(60)), "after a minute it may move again");
    }

    #[test]
    fn an_older_copy_is_stale_for_requests_that_began_before_and_for_a_while() {
        let mut worker = Worker::default();
        let before = worker.step();
        worker.token_issued(ID, 2, Some(at(100)));
        let after = worker.step();
        assert_eq!(worker.freshness(&copy(ID, 1, before), Some(at(500))), Freshness::Stale);
        assert_eq!(
            worker.freshness(&copy(ID, 1, after), Some(at(109))),
            Freshness::Stale,
            "the new cookie is on its way"
        );
        assert_eq!(worker.freshness(&copy(ID, 1, after), Some(at(110))), Freshness::Current, "the new cookie was lost");
    }

    #[test]
    fn the_latest_copy_needs_no_second_cookie_and_is_never_stale() {
        let mut worker = Worker::default();
        let before = worker.step();
        worker.token_issued(ID, 2, Some(at(100)));
        let after = worker.step();
        for generation in [2, 3] {
            assert_eq!(worker.freshness(&copy(ID, generation, before), Some(at(100))), Freshness::AlreadyIssued);
            assert_eq!(worker.freshness(&copy(ID, generation, after), Some(at(100))), Freshness::Current);
        }
        assert_eq!(
            worker.freshness(&copy(SessionId([2; 16]), 0, before), Some(at(100))),
            Freshness::Current,
            "another session"
        );
    }

    #[test]
    fn every_copy_of_a_session_that_is_over_is_stale() {
        let mut worker = Worker::default();
        let before = worker.step();
        worker.token_cleared(ID, Some(at(100)));
        let after = worker.step();
        assert_eq!(worker.freshness(&copy(ID, u32::MAX, before), Some(at(500))), Freshness::Stale);
        assert_eq!(worker.freshness(&copy(ID, u32::MAX, after), Some(at(109))), Freshness::Stale);
        assert_eq!(
            worker.freshness(&copy(ID, u32::MAX, after), Some(at(110))),
            Freshness::Current,
            "the client did not hear of it"
        );
    }

    #[test]
    fn a_worker_remembers_a_bounded_number_of_sessions() {
        let mut worker = Worker::default();
        let before = worker.step();
        let id = |n: usize| SessionId((n as u128).to_be_bytes());
        for n in 0..=MAX_CHANGED {
            worker.token_cleared(id(n), Some(at(0)));
        }
        assert_eq!(
            worker.freshness(&copy(id(0), 0, before), Some(at(0))),
            Freshness::Current,
            "the oldest is forgotten"
        );
        assert_eq!(worker.freshness(&copy(id(1), 0, before), Some(at(0))), Freshness::Stale);
    }
}
