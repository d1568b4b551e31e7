//! Leaves a store alone that does not answer, and finds out when it does again.
//!
//! A circuit breaker as the field knows it: closed, open, and one probe at a time in between.

use crate::clock::Monotonic;
use std::time::Duration;

/// How many failures in a row open it.
const FAILURES: u8 = 5;

/// How close failures follow each other that have one reason, of calls that were under way together.
const TOGETHER: Duration = Duration::from_millis(25);

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// One more.
    Counts,
    /// It opens the breaker, or keeps it open.
    Opens,
    /// The same as the one before, of a call that was under way with it: a worker was busy, or a connection broke.
    Together,
}

/// A circuit breaker. Closed at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    state: State,
    /// Where the next jitter comes from. Zero: there is none.
    seed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u8,
        /// When the last of them came.
        last: Monotonic,
    },
    Open {
        until: Monotonic,
        pause: Duration,
    },
    /// One call is on its way; what it comes to decides.
    Probing {
        pause: Duration,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0, last: Monotonic::default() }
    }
}

impl Breaker {
    /// A breaker whose pauses are shorter by up to a quarter, at random from this seed: workers and proxies that lost a store together do not
    /// probe it together.
    pub fn jittered(seed: u32) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Whether a call may be made now. The first after a pause is the probe.
    pub fn allows(&mut self, now: Monotonic) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until, pause } if now >= until => {
                self.state = State::Probing { pause };
                true
            }
            State::Open { .. } | State::Probing { .. } => false,
        }
    }

    /// A call was answered, whatever the answer: the store is there.
    pub fn succeeded(&mut self) {
        self.state = State::default();
    }

    /// A call that was sent at `sent` failed.
    ///
    /// Calls that were under way together and fail together fail for one reason: a worker that was busy while their time ran, a connection
    /// that broke. They count once. A store that is away fails calls again and again.
    pub fn failed(&mut self, sent: Monotonic, now: Monotonic) -> FailureKind {
        let pause = match self.state {
            State::Closed { failures, last } if failures > 0 && sent < last && is_together(last, now) => {
                return FailureKind::Together;
            }
            State::Closed { failures, .. } if failures.saturating_add(1) < FAILURES => {
                self.state = State::Closed { failures: failures.saturating_add(1), last: now };
                return FailureKind::Counts;
            }
            State::Closed { .. } => FIRST_PAUSE,
            State::Probing { pause } => pause.saturating_mul(2).min(MAX_PAUSE),
            // A call from before, or one that was made all the same.
            State::Open { .. } => return FailureKind::Counts,
        };
        let until = Monotonic(now.0.saturating_add(self.jitter(pause)));
        self.state = State::Open { until, pause };
        FailureKind::Opens
    }

    /// A pause, with jitter.
    fn jitter(&mut self, pause: Duration) -> Duration {
        // Marsaglia's xorshift: zero stays zero.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        let quarter = u64::try_from(pause.as_millis()).unwrap_or_default() / 4;
        let share = quarter.saturating_mul(self.seed.into()) >> u32::BITS;
        pause.saturating_sub(Duration::from_millis(share))
    }

    /// Whether it opened, and no call was answered since.
    pub fn is_tripped(&self) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { .. } | State::Probing { .. } => true,
        }
    }

    /// A call failed for a reason that says nothing of the store. If it was the probe, the next call is the probe.
    pub fn undecided(&mut self, now: Monotonic) {
        if let State::Probing { pause } = self.state {
            self.state = State::Open { until: now, pause };
        }
    }

    /// Whether no call would be made now, because calls failed.
    pub fn is_open(&self, now: Monotonic) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { until, .. } => now < until,
            State::Probing { .. } => true,
        }
    }

    /// For how long no call will be made, as far as is known.
    pub fn pause(&self, now: Monotonic) -> Duration {
        match self.state {
            State::Closed { .. } | State::Probing { .. } => Duration::ZERO,
            // No longer than it was when it began, whatever a clock says that failed.
            State::Open { until, pause } => until.since(now).min(pause),
        }
    }
}

fn is_together(last: Monotonic, now: Monotonic) -> bool {
    last <= now && now.since(last) < TOGETHER
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn opens(breaker: &mut Breaker, sent: Monotonic, now: Monotonic) -> bool {
        breaker.failed(sent, now) == FailureKind::Opens
    }

    fn opened_at(seconds: u64) -> Breaker {
        let mut breaker = Breaker::default();
        let opened = [(); 5].map(|()| opens(&mut breaker, at(seconds), at(seconds)));
        assert_eq!(opened, [false, false, false, false, true]);
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            assert!(!opens(&mut breaker, at(0), at(0)));
        }
        breaker.succeeded();
        for _ in 0..4 {
            assert!(!opens(&mut breaker, at(0), at(0)));
            assert!(breaker.allows(at(0)));
        }
        assert!(opens(&mut breaker, at(0), at(0)));
        assert!(!breaker.allows(at(0)));
        assert_eq!(breaker.pause(at(0)), Duration::from_secs(1));
    }

    #[test]
    fn one_probe_at_a_time_after_a_second_then_two_up_to_thirty() {
        let mut breaker = opened_at(100);
        let mut now = 100;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            assert!(!breaker.allows(Monotonic(Duration::from_millis(now * 1000 + pause * 1000 - 1))), "{pause}");
            now += pause;
            assert!(breaker.allows(at(now)), "{pause}");
            assert!(!breaker.allows(at(now)), "a second probe");
            assert!(opens(&mut breaker, at(now), at(now)));
        }
    }

    #[test]
    fn a_success_closes_it_and_the_pause_begins_anew() {
        let mut breaker = opened_at(0);
        assert!(breaker.allows(at(1)));
        assert!(opens(&mut breaker, at(1), at(1)));
        assert!(breaker.allows(at(3)));
        breaker.succeeded();
        assert!(breaker.allows(at(3)) && breaker.allows(at(3)));
        for _ in 0..5 {
            breaker.failed(at(3), at(3));
        }
        assert_eq!(breaker.pause(at(3)), Duration::from_secs(1));
    }

    #[test]
    fn answers_to_earlier_calls_do_not_lengthen_the_pause() {
        let mut breaker = opened_at(0);
        assert!(!opens(&mut breaker, Monotonic(Duration::from_millis(900)), Monotonic(Duration::from_millis(900))));
        assert!(breaker.allows(at(1)));
    }

    #[test]
    fn calls_that_were_under_way_together_and_fail_together_fail_once() {
        let mut breaker = Breaker::default();
        for round in 0..4 {
            for _ in 0..100 {
                assert!(!opens(&mut breaker, at(round), at(round + 1)), "{round}");
            }
        }
        let later = |millis: u64| Monotonic(Duration::from_millis(4000 + millis));
        assert!(!opens(&mut breaker, at(3), later(24)), "just behind the fourth");
        assert!(opens(&mut breaker, at(3), later(25)), "they go on failing");
    }

    #[test]
    fn a_store_that_hangs_under_load_opens_it_soon_after_the_first_call_has_failed() {
        let mut breaker = Breaker::default();
        // A call a millisecond, each of which fails after 100 ms.
        let millis = |millis: u64| Monotonic(Duration::from_millis(millis));
        let opened = (100..).find(|now| opens(&mut breaker, millis(now - 100), millis(*now)));
        assert_eq!(opened, Some(200));
    }

    #[test]
    fn calls_that_follow_each_other_count_however_fast_they_fail() {
        let mut breaker = Breaker::default();
        let opened = [(); 5].map(|()| opens(&mut breaker, at(1), at(1)));
        assert_eq!(opened, [false, false, false, false, true]);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_keep_it_closed() {
        let mut breaker = Breaker::default();
        assert!(!opens(&mut breaker, at(1000), at(1000)));
        let opened = [(); 4].map(|()| opens(&mut breaker, at(0), at(0)));
        assert_eq!(opened, [false, false, false, true]);
    }

    #[test]
    fn a_probe_of_which_nothing_follows_is_followed_by_another() {
        let mut breaker = opened_at(0);
        breaker.undecided(at(0));
        assert!(!breaker.allows(at(0)), "there was none");
        assert!(breaker.allows(at(1)));
        breaker.undecided(at(1));
        assert!(breaker.allows(at(1)) && !breaker.allows(at(1)));
        assert!(opens(&mut breaker, at(1), at(1)));
        assert_eq!(breaker.pause(at(1)), Duration::from_secs(2));
        let mut closed = Breaker::default();
        closed.undecided(at(1));
        assert_eq!(closed, Breaker::default());
    }

    #[test]
    fn a_clock_that_fails_does_not_lengthen_the_pause() {
        assert_eq!(opened_at(1000).pause(Monotonic::default()), Duration::from_secs(1));
    }

    #[test]
    fn a_clock_at_its_end_does_not_overflow() {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            breaker.failed(Monotonic(Duration::MAX), Monotonic(Duration::MAX));
        }
        assert!(breaker.allows(Monotonic(Duration::MAX)));
    }

    #[test]
    fn pauses_are_shorter_by_up_to_a_quarter_each_by_its_own_share() {
        let pauses: Vec<Duration> = (1..=100)
            .map(|seed| {
                let mut breaker = Breaker::jittered(u32::wrapping_mul(seed, 0x9e37_79b9));
                for second in 0..5 {
                    breaker.failed(at(second), at(second));
                }
                breaker.pause(at(4))
            })
            .collect();
        let (shortest, longest) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*shortest >= Duration::from_millis(750) && *longest <= Duration::from_secs(1));
        assert!(*longest - *shortest > Duration::from_millis(200), "{shortest:?} to {longest:?}");
    }
}
