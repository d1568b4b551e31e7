//! Time as the core sees it: always passed in, never read.
//!
//! Tokens use wall-clock time, because several proxies read them. What one worker remembers uses monotonic time.

use std::time::Duration;

/// Wall-clock time in whole seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// This time and `seconds` more.
    pub fn plus(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(u64::from(seconds)))
    }

    /// Whole seconds from `earlier` to this time; zero when `earlier` is later.
    pub fn seconds_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Time that never goes back, from an arbitrary start. Means something to one worker only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// Time from `earlier` to this one; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
