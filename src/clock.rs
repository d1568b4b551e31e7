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
    /// Time from `earlier` to this one; zero when `earlier` is later. What is beyond 584 years counts as that.
    pub fn since(self, earlier: Self) -> Duration {
        // `Duration`'s own subtraction keeps a panic that never comes.
        let nanos =
            |time: Duration| time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into());
        Duration::from_nanos(nanos(self.0).saturating_sub(nanos(earlier.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn what_has_passed_is_exact_and_never_negative() {
        let (early, late) = (Monotonic(Duration::new(1, 999_999_999)), Monotonic(Duration::new(3, 1)));
        assert_eq!(late.since(early), Duration::new(1, 2));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(late), Duration::ZERO);
        assert_eq!(Monotonic(Duration::MAX).since(Monotonic::default()), Duration::from_nanos(u64::MAX));
    }
}
