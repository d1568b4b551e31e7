//! Times and spans for people. (RFC 3339, and what `humantime` writes.)

use mooring::clock::UnixTime;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Later than this is written as this: `humantime` writes four digits of a year.
const LATEST: u64 = 253_402_300_799;

#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// `2026-11-21T20:00:00Z`
pub(crate) fn written(time: UnixTime) -> String {
    let since = Duration::from_secs(time.0.min(LATEST));
    UNIX_EPOCH.checked_add(since).map(|time| humantime::format_rfc3339_seconds(time).to_string()).unwrap_or_default()
}

/// `2h 3m`: what a config would say, of the two largest units.
#[allow(clippy::arithmetic_side_effects)] // Of units, none of which is 0.
pub(crate) fn span(seconds: u64) -> String {
    let mut left = seconds;
    let parts = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)].map(|(unit, size)| {
        let (count, rest) = (left / size, left % size);
        left = rest;
        (count, unit)
    });
    let shown = parts.iter().skip_while(|(count, _)| *count == 0).take(2).filter(|(count, _)| *count > 0);
    let shown: Vec<String> = shown.map(|(count, unit)| format!("{count}{unit}")).collect();
    if shown.is_empty() { "0s".to_owned() } else { shown.join(" ") }
}

/// `(2h 3m ago)`, `(in 5m)`
pub(crate) fn beside(time: UnixTime, now: UnixTime) -> String {
    if time > now {
        format!("in {}", span(time.seconds_since(now)))
    } else {
        format!("{} ago", span(now.seconds_since(time)))
    }
}

/// Reads RFC 3339, or seconds since the Unix epoch.
pub(crate) fn parse(text: &str) -> Result<UnixTime, String> {
    let epoch = text.parse().ok().map(UnixTime);
    let time = || humantime::parse_rfc3339_weak(text).ok()?.duration_since(UNIX_EPOCH).ok();
    epoch
        .or_else(|| time().map(|since| UnixTime(since.as_secs())))
        .ok_or_else(|| "a time as in 2026-11-21T20:00:00Z, or seconds since the Unix epoch".to_owned())
}
