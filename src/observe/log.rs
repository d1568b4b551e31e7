//! What the proxy's log is told while traffic flows: little, rarely, and never a secret, a session's id or a host.

use crate::clock::Monotonic;
use log::Level;
use std::time::Duration;

/// For how long the same is not told again.
const QUIET: Duration = Duration::from_secs(60);

/// Something that an operator should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The store failed so often that it is left alone for a while.
    BreakerOpened,
    /// The store that was left alone answers again.
    BreakerClosed,
    /// A session was ended, and the store could not be told.
    RevocationLost,
    /// The bridge said nothing where it must speak.
    BridgeSilent,
}

impl Notice {
    /// How bad it is.
    pub fn level(self) -> Level {
        match self {
            Self::BreakerClosed => Level::Info,
            Self::BreakerOpened | Self::BridgeSilent => Level::Warn,
            Self::RevocationLost => Level::Error,
        }
    }

    /// What it is, and where more stands.
    pub fn text(self) -> &'static str {
        match self {
            Self::BreakerOpened => {
                "mooring: the session store is left alone for a while, it fails again and again; sessions go on as on_error says \
                 (docs/troubleshooting.md, The store is away)"
            }
            Self::BreakerClosed => "mooring: the session store answers again",
            Self::RevocationLost => {
                "mooring: a session was ended and the store could not be told, so other proxies may go on accepting it; more of \
                 these are counted alone for a minute (mooring_faults.kind=revocation_lost)"
            }
            Self::BridgeSilent => {
                "mooring: the bridge named no host for a new session; is stateful_session behind this filter, with the header of \
                 upstream.header? Told once (docs/troubleshooting.md, The bridge is silent)"
            }
        }
    }
}

/// What a worker has seen since it was asked last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// The store was left alone, and has answered nothing since.
    pub store_is_away: bool,
    /// A revocation was lost.
    pub revocation_lost: bool,
    /// The bridge was silent.
    pub bridge_silent: bool,
}

/// What a worker has told of, so that it does not repeat itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notices {
    breaker_opened: Option<Monotonic>,
    /// The breaker is open, and that was told.
    open_told: bool,
    was_away: bool,
    revocation_lost: Option<Monotonic>,
    bridge_told: bool,
}

impl Notices {
    /// What is to be told now. Without a clock, what was told once is not told again.
    pub fn due(&mut self, seen: Seen, now: Option<Monotonic>) -> impl Iterator<Item = Notice> + use<> {
        let opens = seen.store_is_away && !self.was_away && is_due(&mut self.breaker_opened, now);
        let closes = !seen.store_is_away && self.open_told;
        self.open_told = opens || self.open_told && !closes;
        self.was_away = seen.store_is_away;
        let lost = seen.revocation_lost && is_due(&mut self.revocation_lost, now);
        let silent = seen.bridge_silent && !self.bridge_told;
        self.bridge_told |= silent;
        let notices = [
            (opens, Notice::BreakerOpened),
            (closes, Notice::BreakerClosed),
            (lost, Notice::RevocationLost),
            (silent, Notice::BridgeSilent),
        ];
        notices.into_iter().filter(|(due, _)| *due).map(|(_, notice)| notice)
    }
}

/// Whether it was not told for a while. If so, it is told now.
fn is_due(told: &mut Option<Monotonic>, now: Option<Monotonic>) -> bool {
    let due = told.is_none_or(|told| now.is_some_and(|now| now.since(told) >= QUIET));
    if due {
        *told = now.or(*told).or(Some(Monotonic::default()));
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn due(notices: &mut Notices, seen: Seen, second: u64) -> Vec<Notice> {
        notices.due(seen, Some(Monotonic(Duration::from_secs(second)))).collect()
    }

    #[test]
    fn a_breaker_that_opens_is_told_of_once_a_minute_and_its_closing_to_who_heard_of_it() {
        let mut notices = Notices::default();
        let (open, closed) = (Seen { store_is_away: true, ..Seen::default() }, Seen::default());
        assert_eq!(due(&mut notices, closed, 100), []);
        assert_eq!(due(&mut notices, open, 101), [Notice::BreakerOpened]);
        assert_eq!(due(&mut notices, open, 170), [], "it is still open");
        assert_eq!(due(&mut notices, closed, 171), [Notice::BreakerClosed]);
        assert_eq!(due(&mut notices, open, 172), [Notice::BreakerOpened]);
        assert_eq!(due(&mut notices, closed, 173), [Notice::BreakerClosed], "who heard of the one hears of the other");
        assert_eq!(due(&mut notices, open, 174), [], "again within the minute");
        assert_eq!(due(&mut notices, closed, 175), [], "nobody heard that it was open");
        assert_eq!(due(&mut notices, open, 232), [Notice::BreakerOpened]);
    }

    #[test]
    fn lost_revocations_are_told_of_once_a_minute_and_a_silent_bridge_once() {
        let mut notices = Notices::default();
        let seen = Seen { revocation_lost: true, bridge_silent: true, ..Seen::default() };
        assert_eq!(due(&mut notices, seen, 0), [Notice::RevocationLost, Notice::BridgeSilent]);
        assert_eq!(due(&mut notices, seen, 59), []);
        assert_eq!(due(&mut notices, seen, 60), [Notice::RevocationLost]);
    }

    #[test]
    fn without_a_clock_nothing_is_told_twice() {
        let mut notices = Notices::default();
        let seen = Seen { revocation_lost: true, ..Seen::default() };
        assert_eq!(notices.due(seen, None).collect::<Vec<_>>(), [Notice::RevocationLost]);
        assert_eq!(notices.due(seen, None).count(), 0);
    }
}
