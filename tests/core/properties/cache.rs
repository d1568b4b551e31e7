//! The cache against a plain list, and against what was said to it.

use mooring::clock::Monotonic;
use mooring::credential::keyring::KeyPosition;
use mooring::session::SessionId;
use mooring::session::pin::{ClusterId, HostAddr, Pin, Pins};
use mooring::store::cache::{Cache, Entry, Record};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

const BRIEFLY: u64 = 1000;

#[derive(Clone, Debug)]
enum Event {
    Get(u8),
    /// What the store said to a call that was sent so many milliseconds ago.
    Learn(u8, News, u64),
    Change(u8, Copied),
    Pass(u64),
    Back(u64),
}

/// A copy of a session: its generation, and the port of its one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Copied(u32, u16);

impl Copied {
    fn pins(self) -> Pins {
        let host = HostAddr::V4([127, 0, 0, 1].into(), self.1);
        Pins::from_vec(vec![Pin { cluster: ClusterId([1; 8]), host }]).expect("one pin")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Session(Copied),
    Revoked,
    Missing,
    Unreadable,
}

impl News {
    fn known(self) -> Entry {
        match self {
            Self::Session(copied) => Entry::Session(Record {
                generation: copied.0,
                pins: copied.pins(),
                version: None,
                age: KeyPosition::Current,
            }),
            Self::Revoked => Entry::Revoked,
            Self::Missing => Entry::Missing,
            Self::Unreadable => Entry::Unreadable,
        }
    }

    fn of(known: &Entry) -> Self {
        match known {
            Entry::Session(record) => {
                let port = if record.pins == Copied(0, 0).pins() { 0 } else { 1 };
                Self::Session(Copied(record.generation, port))
            }
            Entry::Revoked => Self::Revoked,
            Entry::Missing => Self::Missing,
            Entry::Unreadable => Self::Unreadable,
        }
    }
}

fn copied() -> impl Strategy<Value = Copied> {
    (0..5_u32, 0..2_u16).prop_map(|(generation, port)| Copied(generation, port))
}

fn event() -> impl Strategy<Value = Event> {
    let news = prop_oneof![
        6 => copied().prop_map(News::Session),
        1 => Just(News::Revoked),
        2 => Just(News::Missing),
        1 => Just(News::Unreadable),
    ];
    prop_oneof![
        6 => (0..8_u8).prop_map(Event::Get),
        6 => (0..8_u8, news, 0..500_u64).prop_map(|(id, news, ago)| Event::Learn(id, news, ago)),
        3 => (0..8_u8, copied()).prop_map(|(id, copied)| Event::Change(id, copied)),
        3 => (0..3_000_u64).prop_map(Event::Pass),
        1 => (0..3_000_u64).prop_map(Event::Back),
    ]
}

fn id(name: u8) -> SessionId {
    SessionId([name; 16])
}

fn at(millis: u64) -> Monotonic {
    Monotonic(Duration::from_millis(millis))
}

/// A list, what goes first at its front.
struct Model {
    entries: usize,
    ttl: u64,
    list: Vec<(u8, News, u64)>,
}

impl Model {
    fn get(&mut self, id: u8, now: u64) -> Option<(News, u64)> {
        let place = self.list.iter().position(|(known, _, _)| *known == id)?;
        let entry = self.list.remove(place);
        self.list.push(entry);
        let (_, news, since) = entry;
        let lasts = match news {
            News::Session(_) => self.ttl,
            News::Missing | News::Unreadable => self.ttl.min(BRIEFLY),
            News::Revoked => u64::MAX,
        };
        (now.saturating_sub(since) < lasts).then_some((news, since))
    }

    fn put(&mut self, id: u8, news: News, since: u64) {
        self.list.retain(|(known, _, _)| *known != id);
        self.list.push((id, news, since));
        if self.list.len() > self.entries {
            self.list.remove(0);
        }
    }

    fn learn(&mut self, id: u8, news: News, since: u64, now: u64) -> News {
        let before = self.get(id, now);
        let (holds, since) = match before {
            Some((News::Revoked, then)) => (News::Revoked, then),
            Some((News::Session(own), then)) => match news {
                News::Session(theirs) if own.0 > theirs.0 => (News::Session(own), then.max(since)),
                News::Revoked => (news, since),
                News::Session(_) | News::Missing | News::Unreadable if then > since => (News::Session(own), then),
                News::Session(_) | News::Missing | News::Unreadable => (news, since),
            },
            Some((News::Missing | News::Unreadable, _)) | None => (news, since),
        };
        self.put(id, holds, since);
        holds
    }

    fn change(&mut self, id: u8, own: Copied, now: u64) {
        match self.get(id, now) {
            Some((News::Session(known), _)) if known.0 > own.0 || known.0 == own.0 && known.1 != own.1 => {}
            Some((News::Session(_) | News::Missing | News::Unreadable, since)) => {
                self.put(id, News::Session(own), since)
            }
            Some((News::Revoked, _)) | None => {}
        }
    }
}

proptest! {
    #[test]
    fn the_store_s_cache_does_what_a_list_would(
        entries in 1..10_u32, ttl in prop_oneof![Just(200_u64), Just(1500), Just(5000)], events in vec(event(), 1..150),
    ) {
        let mut cache = Cache::new(entries, Duration::from_millis(ttl));
        let mut model = Model { entries: entries as usize, ttl, list: Vec::new() };
        let mut now = 1_000_000_u64;
        // Of each session: when the calls were sent that told of it, and whether one told of its end.
        let mut told: [(Vec<u64>, bool); 8] = Default::default();
        for event in events {
            match event {
                Event::Get(name) => {
                    let known = cache.get(&id(name), at(now)).map(News::of);
                    prop_assert_eq!(known, model.get(name, now).map(|(news, _)| news));
                    let (calls, _) = &told[usize::from(name)];
                    if matches!(known, Some(News::Session(_) | News::Missing | News::Unreadable)) {
                        let fresh = calls.iter().any(|since| now.saturating_sub(*since) < ttl);
                        prop_assert!(fresh, "{:?} is believed for longer than the time to live", known);
                    }
                }
                Event::Learn(name, news, ago) => {
                    let since = now - ago;
                    let held = cache.learn(id(name), news.known(), at(since), at(now));
                    prop_assert_eq!(News::of(&held.holds), model.learn(name, news, since, now));
                    let (calls, ended) = &mut told[usize::from(name)];
                    calls.push(since);
                    *ended |= news == News::Revoked;
                }
                Event::Change(name, copied) => {
                    cache.change(id(name), copied.0, &copied.pins(), at(now));
                    model.change(name, copied, now);
                }
                Event::Pass(millis) => now += millis,
                Event::Back(millis) => now -= millis,
            }
            // With room for every session nothing is forgotten: what ended stays so.
            for (name, (_, ended)) in (0..8).zip(&told).filter(|_| entries >= 8) {
                let known = cache.get(&id(name), at(now)).map(News::of);
                model.get(name, now);
                prop_assert!(!ended || known == Some(News::Revoked), "{} ended", name);
            }
        }
        // At a time at which whatever was learnt still holds.
        let known = (0..8).filter(|name| cache.get(&id(*name), at(0)).is_some()).count();
        prop_assert!(known <= entries as usize, "{} sessions", known);
    }
}
