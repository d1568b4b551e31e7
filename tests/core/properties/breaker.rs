//! The breaker against a model that counts: closed until five failures in a row, then one probe at a time, after a second that doubles up
//! to thirty, until anything succeeds. Calls that were under way together and fail within 25 ms count once.

use mooring::clock::Monotonic;
use mooring::store::breaker::{Breaker, FailureKind};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Event {
    Ask,
    Succeed,
    /// Of a call that was sent so many milliseconds ago.
    Fail(u64),
    /// To so many milliseconds later, or to the moment at which the next probe is due, or just before.
    Pass(u64),
    PassUntilDue(u64),
    /// A clock that goes back.
    Back(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Ask),
        1 => Just(Event::Succeed),
        5 => Just(Event::Fail(0)),
        1 => (0..5_000_u64).prop_map(Event::Fail),
        2 => (0..40_000_u64).prop_map(Event::Pass),
        4 => (0..2_u64).prop_map(Event::PassUntilDue),
        1 => (0..5_000_u64).prop_map(Event::Back),
    ]
}

/// What happened since something succeeded last.
#[derive(Debug, Default)]
struct Model {
    failures: u32,
    /// When the last of them came that counted.
    last: u64,
    openings: u32,
    due: u64,
    probing: bool,
}

impl Model {
    fn is_open(&self) -> bool {
        self.openings > 0
    }

    fn pause(&self) -> u64 {
        (1000 << (self.openings - 1).min(10)).min(30_000)
    }

    fn allows(&mut self, now: u64) -> bool {
        if !self.is_open() {
            return true;
        }
        let probe = !self.probing && now >= self.due;
        self.probing |= probe;
        probe
    }

    /// `true`: this opened it.
    fn fails(&mut self, sent: u64, now: u64) -> bool {
        if !self.is_open() {
            if self.failures > 0 && sent < self.last && self.last <= now && now < self.last + 25 {
                return false;
            }
            self.failures += 1;
            self.last = now;
        }
        let opens = if self.is_open() { self.probing } else { self.failures >= 5 };
        if opens {
            self.openings += 1;
            self.probing = false;
            self.due = now + self.pause();
        }
        opens
    }
}

proptest! {
    #[test]
    fn the_breaker_is_as_open_as_the_failures_say(events in vec(event(), 1..200)) {
        let (mut breaker, mut model, mut now) = (Breaker::default(), Model::default(), 1_000_000_u64);
        for event in events {
            let at = Monotonic(Duration::from_millis(now));
            match event {
                Event::Ask => prop_assert_eq!(breaker.allows(at), model.allows(now), "{:?}", model),
                Event::Succeed => {
                    breaker.succeeded();
                    model = Model::default();
                }
                Event::Fail(ago) => {
                    let sent = now - ago;
                    let opened = breaker.failed(Monotonic(Duration::from_millis(sent)), at) == FailureKind::Opens;
                    prop_assert_eq!(opened, model.fails(sent, now), "{:?}", model);
                }
                Event::Pass(millis) => now += millis,
                Event::PassUntilDue(less) => now = now.max(model.due.saturating_sub(less)),
                Event::Back(millis) => now -= millis,
            }
            // Never longer than it was when it began, even where the clock went back.
            let waits = model.is_open() && !model.probing;
            let left = if waits { model.due.saturating_sub(now).min(model.pause()) } else { 0 };
            let at = Monotonic(Duration::from_millis(now));
            prop_assert_eq!(breaker.pause(at), Duration::from_millis(left), "{:?}", model);
        }
    }
}
