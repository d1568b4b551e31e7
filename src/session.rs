//! A session and its timeouts.
//!
//! Timeouts are enforced here and not left to the browser.

pub mod pin;

use crate::clock::UnixTime;
use crate::lru::RandomKey;
use crate::session::pin::Pins;
use crate::text::base64;
use std::fmt;
use std::time::Duration;

/// 128 random bits that name a session. Not authentication: whoever has it has only the affinity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// The form in which the upstream gets it: 22 characters of base64url without padding.
    pub fn to_text(self) -> String {
        base64::url_safe(&self.0)
    }
}

impl RandomKey for SessionId {
    fn bits(&self) -> usize {
        let [.., a, b, c, d] = self.0;
        u32::from_be_bytes([a, b, c, d]) as usize
    }
}

/// Session ids are not logged.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

/// What a token carries, and, but for the id, what the store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// When it began.
    pub created: UnixTime,
    /// When its cookie was last issued: what the idle timeout counts from.
    pub renewed: UnixTime,
    /// When it ends however busy it is. `None`: never.
    pub end: Option<UnixTime>,
    /// Counts the changes of its pins.
    pub generation: u32,
    /// Where it wants to go.
    pub pins: Pins,
}

impl Session {
    /// A session that begins now.
    pub fn begin(id: SessionId, now: UnixTime, timeouts: &Timeouts) -> Self {
        Self {
            id,
            created: now,
            renewed: now,
            end: timeouts.absolute.map(|timeout| now.plus(timeout)),
            generation: 0,
            pins: Pins::default(),
        }
    }

    /// Of two copies of one session, the higher generation is the newer; else what was renewed last, then what began last.
    pub fn is_newer_than(&self, other: &Self, now: UnixTime) -> bool {
        let renewed = (self.renewed.min(now), self.created).cmp(&(other.renewed.min(now), other.created));
        if self.id == other.id { self.generation.cmp(&other.generation).then(renewed).is_gt() } else { renewed.is_gt() }
    }
}

/// For how long browsers keep a cookie at most: 400 days (RFC 6265bis, section 5.5).
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// When sessions end, in seconds. `None` turns a timeout off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the session's beginning, however busy it is (Gateway API's `absoluteTimeout`).
    pub absolute: Option<u32>,
    /// From the last renewal (Gateway API's `idleTimeout`).
    pub idle: Option<u32>,
    /// How far in the future `created` may lie: what proxies' clocks may differ by.
    pub clock_skew: u32,
}

/// Why the times of a session make it invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untimely {
    /// Past its absolute end.
    ExpiredAbsolute,
    /// Not renewed for the idle timeout.
    ExpiredIdle,
    /// Created further in the future than clocks may differ by.
    Future,
}

impl Timeouts {
    /// Whether `session` is valid at `now`.
    ///
    /// # Errors
    /// The first of the reasons in [`Untimely`] that holds.
    pub fn check(&self, session: &Session, now: UnixTime) -> Result<(), Untimely> {
        if session.created > now.plus(self.clock_skew) {
            return Err(Untimely::Future);
        }
        if self.end(session).is_some_and(|end| now >= end) {
            return Err(Untimely::ExpiredAbsolute);
        }
        if self.idle.is_some_and(|idle| now.seconds_since(session.renewed) >= u64::from(idle)) {
            return Err(Untimely::ExpiredIdle);
        }
        Ok(())
    }

    /// When `session` ends: its own end, or sooner where the timeout was shortened since. Never later.
    pub fn end(&self, session: &Session) -> Option<UnixTime> {
        let configured = self.absolute.map(|timeout| session.created.plus(timeout));
        match (session.end, configured) {
            (Some(own), Some(configured)) => Some(own.min(configured)),
            (own, configured) => own.or(configured),
        }
    }

    /// Whether a tenth of the idle timeout has passed since the last renewal: at most ten cookies an idle period.
    pub fn renewal_due(&self, session: &Session, now: UnixTime) -> bool {
        let passed = now.seconds_since(session.renewed);
        self.idle.is_some_and(|idle| passed > 0 && passed.saturating_mul(10) >= u64::from(idle))
    }

    /// For how many seconds from `now` a browser should keep the cookie of `session`; at least 1.
    /// With both timeouts off, 400 days: browsers keep none for longer.
    pub fn max_age(&self, session: &Session, now: UnixTime) -> u64 {
        let longest = MAX_LIFETIME.as_secs();
        let remaining = self.end(session).map_or(longest, |end| end.seconds_since(now));
        let idle = self.idle.map_or(longest, u64::from);
        remaining.min(idle).clamp(1, longest)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const T0: UnixTime = UnixTime(1_800_000_000);
    const TIMEOUTS: Timeouts = Timeouts { absolute: Some(1000), idle: Some(100), clock_skew: 60 };

    fn at(offset: i64) -> UnixTime {
        UnixTime(T0.0.saturating_add_signed(offset))
    }

    fn session() -> Session {
        Session::begin(SessionId([7; 16]), T0, &TIMEOUTS)
    }

    #[test]
    fn a_session_ends_at_its_absolute_end_however_busy_it_is() {
        let busy = Session { renewed: at(999), ..session() };
        assert_eq!(TIMEOUTS.check(&busy, at(999)), Ok(()));
        assert_eq!(TIMEOUTS.check(&busy, at(1000)), Err(Untimely::ExpiredAbsolute));
    }

    #[test]
    fn a_session_ends_when_it_is_idle() {
        assert_eq!(TIMEOUTS.check(&session(), at(99)), Ok(()));
        assert_eq!(TIMEOUTS.check(&session(), at(100)), Err(Untimely::ExpiredIdle));
        let off = Timeouts { idle: None, ..TIMEOUTS };
        assert_eq!(off.check(&session(), at(999)), Ok(()));
    }

    #[test]
    fn a_session_of_the_future_is_refused_beyond_the_clock_skew() {
        assert_eq!(TIMEOUTS.check(&session(), at(-60)), Ok(()));
        assert_eq!(TIMEOUTS.check(&session(), at(-61)), Err(Untimely::Future));
    }

    #[test]
    fn a_renewal_in_the_future_counts_as_now() {
        let renewed = Session { renewed: at(500), ..session() };
        assert_eq!(TIMEOUTS.check(&renewed, at(0)), Ok(()));
        assert!(!TIMEOUTS.renewal_due(&renewed, at(0)));
    }

    #[test]
    fn the_config_shortens_an_end_and_never_lengthens_it() {
        let shorter = Timeouts { absolute: Some(10), ..TIMEOUTS };
        assert_eq!(shorter.end(&session()), Some(at(10)));
        let longer = Timeouts { absolute: Some(5000), ..TIMEOUTS };
        assert_eq!(longer.end(&session()), Some(at(1000)));
        let off = Timeouts { absolute: None, ..TIMEOUTS };
        assert_eq!(off.end(&session()), Some(at(1000)));
        let endless = Session { end: None, ..session() };
        assert_eq!(off.end(&endless), None);
        assert_eq!(TIMEOUTS.end(&endless), Some(at(1000)));
    }

    #[test]
    fn a_renewal_is_due_after_a_tenth_of_the_idle_timeout() {
        assert!(!TIMEOUTS.renewal_due(&session(), at(9)));
        assert!(TIMEOUTS.renewal_due(&session(), at(10)));
        let short = Timeouts { idle: Some(2), ..TIMEOUTS };
        assert!(!short.renewal_due(&session(), at(0)));
        assert!(short.renewal_due(&session(), at(1)));
        assert!(!Timeouts { idle: None, ..TIMEOUTS }.renewal_due(&session(), at(900)));
    }

    #[test]
    fn a_browser_keeps_the_cookie_as_long_as_the_session_can_last() {
        assert_eq!(TIMEOUTS.max_age(&session(), at(0)), 100);
        assert_eq!(TIMEOUTS.max_age(&session(), at(950)), 50);
        assert_eq!(TIMEOUTS.max_age(&session(), at(5000)), 1);
        let off = Timeouts { absolute: None, idle: None, ..TIMEOUTS };
        let endless = Session { end: None, ..session() };
        assert_eq!(off.max_age(&endless, at(0)), 34_560_000);
    }

    #[test]
    fn times_at_the_edge_of_what_fits_do_not_overflow() {
        let last = Session { created: UnixTime(u64::MAX), renewed: UnixTime(u64::MAX), ..session() };
        assert_eq!(TIMEOUTS.check(&last, UnixTime(0)), Err(Untimely::Future));
        let _ = TIMEOUTS.check(&last, UnixTime(u64::MAX));
        let _ = TIMEOUTS.max_age(&last, UnixTime(u64::MAX));
        assert!(TIMEOUTS.renewal_due(&session(), UnixTime(u64::MAX)));
    }
}
