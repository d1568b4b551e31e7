//! What a worker knows of sessions from the store.
//!
//! Bounded: the session that was not used for longest goes first. Time is passed in, and nothing is believed for longer than the time to live.

use crate::clock::Monotonic;
use crate::credential::keyring::KeyPosition;
use crate::lru::Lru;
use crate::session::SessionId;
use crate::session::pin::Pins;
use crate::store::protocol::Version;
use std::time::Duration;

/// For how long a miss, or a value that cannot be read, is remembered.
const BRIEFLY: Duration = Duration::from_secs(1);

/// A session as the store has it, or is about to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts the changes of its pins.
    pub generation: u32,
    /// Its pins.
    pub pins: Pins,
    /// The version that a compare-and-set expects. `None`: not known.
    pub version: Option<Version>,
    /// Of the key of the store's value.
    pub age: KeyPosition,
}

/// What is known of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It is there.
    Session(Record),
    /// It ended. That does not change any more.
    Revoked,
    /// It was not there a moment ago.
    Missing,
    /// A moment ago, what was there could not be read.
    Unreadable,
}

/// What the cache holds after it learned something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// What is known of the session now.
    pub holds: Entry,
    /// Whether another session had to go for it, although the cache could still have answered for it.
    pub evicted: bool,
}

/// What a worker knows, and since when.
#[derive(Debug)]
pub struct Cache {
    ttl: Duration,
    entries: Lru<SessionId, (Entry, Monotonic)>,
}

impl Cache {
    /// An empty cache for `entries` sessions. Takes no space before it is used.
    pub fn new(entries: u32, ttl: Duration) -> Self {
        Self { ttl, entries: Lru::new(usize::try_from(entries).unwrap_or(usize::MAX)) }
    }

    /// What is known of a session at `now`.
    pub fn get(&mut self, id: &SessionId, now: Monotonic) -> Option<&Entry> {
        self.entry(id, now).map(|(known, _)| known)
    }

    /// How many sessions it holds, in memory that is taken.
    pub fn count(&self) -> usize {
        self.entries.count()
    }

    fn entry(&mut self, id: &SessionId, now: Monotonic) -> Option<(&Entry, Monotonic)> {
        let ttl = self.ttl;
        let (known, since) = self.entries.used(id)?;
        lasts(known, *since, ttl, now).then_some((&*known, *since))
    }

    /// Takes in what the store said to a call that was sent at `since`. What is newer stays: an end is an end, a later call
    /// knows better, and a higher generation is this worker's own change, which the store has yet to hear of. Returns what holds.
    pub fn learn(&mut self, id: SessionId, news: Entry, since: Monotonic, now: Monotonic) -> Update {
        let (holds, since) = match (self.entry(&id, now), news) {
            (Some((Entry::Revoked, before)), _) => (Entry::Revoked, before),
            (Some((Entry::Session(own), before)), Entry::Session(stored)) if own.generation > stored.generation => {
                (Entry::Session(Record { version: stored.version, age: stored.age, ..own.clone() }), before.max(since))
            }
            (Some((known @ Entry::Session(_), later)), Entry::Session(_) | Entry::Missing | Entry::Unreadable)
                if later > since =>
            {
                (known.clone(), later)
            }
            (_, news) => (news, since),
        };
        let gone = self.entries.put(id, (holds.clone(), since));
        Update { holds, evicted: gone.is_some_and(|(known, since)| lasts(&known, since, self.ttl, now)) }
    }

    /// Notes a change that this worker made, and returns the version that it replaces. It says nothing about what others did:
    /// what was not known stays so, what was known is believed no longer for it, and a change of theirs is not undone.
    pub fn change(&mut self, id: SessionId, generation: u32, pins: &Pins, now: Monotonic) -> Option<Version> {
        let (version, since, age) = match self.entry(&id, now)? {
            (Entry::Session(record), _)
                if record.generation > generation
                    || record.generation == generation && !record.pins.agrees_with(pins) =>
            {
                return None;
            }
            (Entry::Session(record), since) => (record.version.clone(), since, record.age),
            (Entry::Missing | Entry::Unreadable, since) => (None, since, KeyPosition::Current),
            (Entry::Revoked, _) => return None,
        };
        let record = Record { generation, pins: pins.clone(), version: version.clone(), age };
        // It was there: nothing has to go.
        let _ = self.entries.put(id, (Entry::Session(record), since));
        version
    }
}

/// Whether what was known since then is still believed.
fn lasts(known: &Entry, since: Monotonic, ttl: Duration, now: Monotonic) -> bool {
    match known {
        Entry::Session(_) => now.since(since) < ttl,
        Entry::Revoked => true,
        Entry::Missing | Entry::Unreadable => now.since(since) < ttl.min(BRIEFLY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const ID: SessionId = SessionId([1; 16]);

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    fn cache() -> Cache {
        Cache::new(2, Duration::from_secs(30))
    }

    fn session(generation: u32) -> Entry {
        Entry::Session(Record { generation, pins: Pins::default(), version: None, age: KeyPosition::Current })
    }

    #[test]
    fn a_session_is_believed_for_the_time_to_live() {
        let mut cache = cache();
        cache.learn(ID, session(1), at(1000), at(1100));
        assert_eq!(cache.get(&ID, at(30_999)), Some(&session(1)));
        assert_eq!(cache.get(&ID, at(31_000)), None, "counted from the lookup");
    }

    #[test]
    fn a_miss_is_believed_briefly_and_an_end_for_ever() {
        let mut cache = cache();
        for news in [Entry::Missing, Entry::Unreadable] {
            cache.learn(ID, news.clone(), at(0), at(0));
            assert_eq!(cache.get(&ID, at(999)), Some(&news));
            assert_eq!(cache.get(&ID, at(1000)), None);
        }
        cache.learn(ID, Entry::Revoked, at(0), at(0));
        assert_eq!(cache.get(&ID, at(1_000_000)), Some(&Entry::Revoked));
        assert_eq!(cache.learn(ID, session(9), at(0), at(0)).holds, Entry::Revoked, "an answer from before the end");
        assert_eq!(cache.change(ID, 9, &Pins::default(), at(0)), None);
        assert_eq!(cache.get(&ID, at(0)), Some(&Entry::Revoked));
    }

    fn session_with(generation: u32, version: &[u8]) -> Entry {
        let version = Version::for_test(version);
        Entry::Session(Record { generation, pins: Pins::default(), version, age: KeyPosition::Current })
    }

    #[test]
    fn the_higher_generation_wins_and_of_equals_the_store_s() {
        let mut cache = cache();
        let own = |version: Option<&[u8]>| {
            let version = version.and_then(Version::for_test);
            Entry::Session(Record { generation: 2, pins: Pins::default(), version, age: KeyPosition::Current })
        };
        cache.learn(ID, own(None), at(0), at(0));
        let older = session_with(1, b"\"1\"");
        assert_eq!(
            cache.learn(ID, older, at(0), at(0)).holds,
            own(Some(b"\"1\"")),
            "with what a compare-and-set needs"
        );
        let equal = own(Some(b"\"2\""));
        assert_eq!(cache.learn(ID, equal.clone(), at(0), at(0)).holds, equal);
    }

    #[test]
    fn a_change_that_the_store_has_yet_to_hear_of_is_believed_from_the_last_answer_on() {
        let mut cache = cache();
        cache.learn(ID, session(2), at(0), at(0));
        cache.learn(ID, session_with(1, b"\"1\""), at(10_000), at(10_000));
        assert!(cache.get(&ID, at(39_999)).is_some());
        assert_eq!(cache.get(&ID, at(40_000)), None);
    }

    #[test]
    fn an_answer_that_was_overtaken_changes_nothing_but_for_an_end() {
        let mut cache = cache();
        cache.learn(ID, session(1), at(100), at(110));
        for overtaken in [Entry::Missing, Entry::Unreadable, session(0), session(1)] {
            assert_eq!(cache.learn(ID, overtaken, at(50), at(120)).holds, session(1));
        }
        assert_eq!(cache.get(&ID, at(30_099)), Some(&session(1)), "believed as long as before");
        assert_eq!(cache.learn(ID, Entry::Revoked, at(50), at(120)).holds, Entry::Revoked);
    }

    #[test]
    fn what_has_to_go_while_it_is_believed_is_counted() {
        let evicted = |third_at: u64| {
            let mut cache = cache();
            let mut learn =
                |number, millis| cache.learn(SessionId([number; 16]), session(1), at(millis), at(millis)).evicted;
            [learn(1, 0), learn(2, 0), learn(3, third_at)]
        };
        assert_eq!([29_999, 30_000].map(evicted), [[false, false, true], [false; 3]]);
    }

    #[test]
    fn a_change_of_one_s_own_lasts_no_longer_than_what_it_changed() {
        let mut cache = cache();
        assert_eq!(cache.change(ID, 1, &Pins::default(), at(0)), None);
        assert_eq!(cache.get(&ID, at(0)), None, "what was not known stays so");
        cache.learn(ID, session(0), at(0), at(0));
        cache.change(ID, 1, &Pins::default(), at(20_000));
        assert_eq!(cache.get(&ID, at(29_999)), Some(&session(1)));
        assert_eq!(cache.get(&ID, at(30_000)), None);
    }
}
