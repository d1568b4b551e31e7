//! What the requests of one worker share. Belongs to the root context; a reload begins with a new one.
//!
//! Depends on `clock`, `metrics`, `recent` and `session`. Bounded: less than 1 MiB when every place is taken.

use crate::clock::Monotonic;
use crate::metrics::{Counter, Counts};
use crate::recent::Recent;
use crate::session::SessionId;
use std::time::Duration;

/// How many sessions a worker remembers.
const REMEMBERED: usize = 8192;

/// How many moves of one session are followed …
const MOVES: u8 = 3;

/// … in this time. More, and its pins are evidently not honoured.
const MOVES_WITHIN: Duration = Duration::from_secs(60);

/// The order in which things happened on a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(u64);

/// What the application said of a session a short while ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// It ended, or has another id now.
    Over,
    /// Its host was let go.
    Released(Sequence),
}

/// How often a session moved of late.
#[derive(Clone, Copy, Debug, Default)]
struct Moves {
    since: Monotonic,
    count: u8,
}

/// What a worker remembers of a session to which something happened.
#[derive(Clone, Copy, Debug, Default)]
struct Remembered {
    said: Option<Said>,
    moves: Moves,
}

/// What the requests of one worker share.
#[derive(Debug)]
pub struct Worker {
    /// What was counted.
    pub counts: Counts,
    sequence: Sequence,
    sessions: Recent<SessionId, Remembered>,
}

impl Default for Worker {
    fn default() -> Self {
        Self { counts: Counts::default(), sequence: Sequence::default(), sessions: Recent::new(REMEMBERED) }
    }
}

impl Worker {
    /// Adds one to a counter.
    pub fn count(&mut self, counter: Counter) {
        self.counts.add(counter);
    }

    /// The next place in the order of things.
    pub fn step(&mut self) -> Sequence {
        self.sequence = Sequence(self.sequence.0.saturating_add(1));
        self.sequence
    }

    /// The session ended, or has another id from now on.
    pub fn remember_over(&mut self, id: SessionId) {
        self.sessions.entry(id).said = Some(Said::Over);
    }

    /// The host of the session was let go. The session goes on.
    pub fn remember_release(&mut self, id: SessionId) {
        let now = self.step();
        self.sessions.entry(id).said = Some(Said::Released(now));
    }

    /// Whether the application said something of the session that a request which began at `began` could not know.
    /// Such a request issues nothing: it would undo what was said.
    pub fn overtaken(&self, id: &SessionId, began: Sequence) -> bool {
        match self.sessions.get(id).and_then(|session| session.said) {
            Some(Said::Over) => true,
            Some(Said::Released(at)) => began < at,
            None => false,
        }
    }

    /// Notes that the session is about to move. `false` when it moved too often of late: then it is left alone.
    pub fn may_move(&mut self, id: SessionId, now: Monotonic) -> bool {
        let moves = &mut self.sessions.entry(id).moves;
        if moves.count == 0 || now.since(moves.since) >= MOVES_WITHIN {
            *moves = Moves { since: now, count: 0 };
        }
        let may = moves.count < MOVES;
        moves.count = moves.count.saturating_add(u8::from(may));
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const ID: SessionId = SessionId([1; 16]);

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
    fn a_request_that_began_before_a_release_is_overtaken_and_a_later_one_is_not() {
        let mut worker = Worker::default();
        let before = worker.step();
        worker.remember_release(ID);
        let after = worker.step();
        assert!(worker.overtaken(&ID, before));
        assert!(!worker.overtaken(&ID, after));
    }

    #[test]
    fn a_session_that_is_over_stays_over() {
        let mut worker = Worker::default();
        worker.remember_over(ID);
        let after = worker.step();
        assert!(worker.overtaken(&ID, after));
        assert!(!worker.overtaken(&SessionId([2; 16]), after));
    }
}
