//! What is counted: closed sets, and the names under which Envoy shows them.
//!
//! Names follow Envoy's stats: `.` separates, `label=value` parts become labels by the stat tags of the configs under `envoy/`.
//! Depends on `token` for its refusals. Counting is an addition in memory; the shell hands the sums to the proxy once a second.

use crate::token::Refusal;

/// What became of a request's session. One of them for each response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new session began.
    Created,
    /// Nothing was due: as a rule the session was served where it wanted to go. Local replies are not told apart here.
    Resumed,
    /// A session met a cluster for which it had no pin, and got one.
    Pinned,
    /// A session moved to the host that served it.
    Moved,
    /// Another host served, and the session keeps its pin: `failover` says so.
    Kept,
    /// Another host served, once more: the pin is not honoured, and the session is left alone.
    PinIgnored,
    /// A renewal was due.
    Renewed,
    /// The token was of an older key and was issued anew.
    Rekeyed,
    /// The store had a newer copy than the client's cookie, which follows.
    Adopted,
    /// The application asked for a new session id.
    Rotated,
    /// The application ended the session.
    Ended,
    /// The application let the host go.
    Released,
    /// The answer could not change a session: not an upstream's, a 304, overtaken by the session's end, or outside the
    /// cookie's path.
    Untouched,
    /// Something that the filter needs failed; the client keeps what it has.
    Failed,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 14] = [
        Self::Created,
        Self::Resumed,
        Self::Pinned,
        Self::Moved,
        Self::Kept,
        Self::PinIgnored,
        Self::Renewed,
        Self::Rekeyed,
        Self::Adopted,
        Self::Rotated,
        Self::Ended,
        Self::Released,
        Self::Untouched,
        Self::Failed,
    ];

    /// Its word, in metrics and in the debug header.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Resumed => "resumed",
            Self::Pinned => "pinned",
            Self::Moved => "moved",
            Self::Kept => "kept",
            Self::PinIgnored => "pin_ignored",
            Self::Renewed => "renewed",
            Self::Rekeyed => "rekeyed",
            Self::Adopted => "adopted",
            Self::Rotated => "rotated",
            Self::Ended => "ended",
            Self::Released => "released",
            Self::Untouched => "untouched",
            Self::Failed => "failed",
        }
    }
}

/// What went wrong around the filter. None of it fails a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A call of the proxy answered with a status that it should not.
    ProxyCall,
    /// The proxy gave no random bytes: nothing was issued.
    Randomness,
    /// The bridge said nothing where it must speak: it is missing, switched off on the route, or has another header.
    BridgeSilent,
    /// The application's action is none that is known.
    UnknownAction,
    /// The serving host's address is missing, or cannot be pinned.
    HostUnknown,
    /// A call to the store got no answer, or a 5xx.
    StoreUnavailable,
    /// The store refused a call, by its status or in its own words.
    StoreRefused,
    /// The store's answer was too long to be read.
    StoreTooLarge,
    /// The store's answer was none that its protocol knows.
    StoreSenseless,
    /// What the store had was not written by a proxy with our keys, or belongs elsewhere.
    StoreValue,
    /// An answer of the store came to a call that nobody waits for any more.
    StoreLate,
    /// Too many calls, or requests that wait for them: one more was not made.
    StoreOverload,
    /// The store failed so often that it is left alone for a while.
    StoreLeftAlone,
    /// A session was ended, and the store could not be told.
    RevocationLost,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 14] = [
        Self::ProxyCall,
        Self::Randomness,
        Self::BridgeSilent,
        Self::UnknownAction,
        Self::HostUnknown,
        Self::StoreUnavailable,
        Self::StoreRefused,
        Self::StoreTooLarge,
        Self::StoreSenseless,
        Self::StoreValue,
        Self::StoreLate,
        Self::StoreOverload,
        Self::StoreLeftAlone,
        Self::RevocationLost,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::ProxyCall => "proxy_call",
            Self::Randomness => "randomness",
            Self::BridgeSilent => "bridge_silent",
            Self::UnknownAction => "unknown_action",
            Self::HostUnknown => "host_unknown",
            Self::StoreUnavailable => "store_unavailable",
            Self::StoreRefused => "store_refused",
            Self::StoreTooLarge => "store_too_large",
            Self::StoreSenseless => "store_senseless",
            Self::StoreValue => "store_value",
            Self::StoreLate => "store_late",
            Self::StoreOverload => "store_overload",
            Self::StoreLeftAlone => "store_left_alone",
            Self::RevocationLost => "revocation_lost",
        }
    }
}

/// What is asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// What it knows of a session.
    Lookup,
    /// To put a session that it does not know.
    Create,
    /// To put a session in place of an older copy.
    Move,
    /// To let a session live on.
    Touch,
    /// To put a tombstone.
    Revoke,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 5] = [Self::Lookup, Self::Create, Self::Move, Self::Touch, Self::Revoke];

    fn word(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Create => "create",
            Self::Move => "move",
            Self::Touch => "touch",
            Self::Revoke => "revoke",
        }
    }
}

/// What a call to the store came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// It is done, or what was looked for is there.
    Ok,
    /// Another copy is there.
    Conflict,
    /// Nothing is there.
    Missing,
    /// A tombstone is there.
    Revoked,
    /// There is no answer that says anything. The faults say why.
    Failed,
    /// It was not made: the store is left alone, or there are too many calls.
    Skipped,
}

impl CallResult {
    /// Every result.
    pub const ALL: [Self; 6] = [Self::Ok, Self::Conflict, Self::Missing, Self::Revoked, Self::Failed, Self::Skipped];

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Conflict => "conflict",
            Self::Missing => "missing",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Every reason for which a token is refused.
const REFUSALS: [Refusal; 7] = [
    Refusal::Malformed,
    Refusal::UnknownKey,
    Refusal::BadTag,
    Refusal::ExpiredAbsolute,
    Refusal::ExpiredIdle,
    Refusal::Future,
    Refusal::Revoked,
];

fn refusal_word(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Malformed => "malformed",
        Refusal::UnknownKey => "unknown_key",
        Refusal::BadTag => "bad_tag",
        Refusal::ExpiredAbsolute => "expired_absolute",
        Refusal::ExpiredIdle => "expired_idle",
        Refusal::Future => "future",
        Refusal::Revoked => "revoked",
    }
}

/// A counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// `mooring_sessions`, by outcome.
    Session(Outcome),
    /// `mooring_tokens_refused`, by reason.
    Refused(Refusal),
    /// `mooring_faults`, by kind.
    Fault(Fault),
    /// `mooring_store_calls`, by operation and result.
    StoreCall(Operation, CallResult),
}

impl Counter {
    /// Every counter.
    pub fn all() -> impl Iterator<Item = Self> {
        let sessions = Outcome::ALL.into_iter().map(Self::Session);
        let refusals = REFUSALS.into_iter().map(Self::Refused);
        let faults = Fault::ALL.into_iter().map(Self::Fault);
        let calls = Operation::ALL
            .into_iter()
            .flat_map(|operation| CallResult::ALL.into_iter().map(move |result| Self::StoreCall(operation, result)));
        sessions.chain(refusals).chain(faults).chain(calls)
    }

    /// Its name in Envoy's stats.
    pub fn name(self) -> String {
        match self {
            Self::Session(outcome) => format!("mooring_sessions.outcome={}", outcome.word()),
            Self::Refused(refusal) => format!("mooring_tokens_refused.reason={}", refusal_word(refusal)),
            Self::Fault(fault) => format!("mooring_faults.kind={}", fault.word()),
            Self::StoreCall(operation, result) => {
                format!("mooring_store_calls.operation={}.result={}", operation.word(), result.word())
            }
        }
    }
}

/// What was counted since the last time it was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<(Counter, u32)>);

impl Counts {
    /// Adds one.
    pub fn add(&mut self, counter: Counter) {
        match self.0.iter_mut().find(|(known, _)| *known == counter) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.0.push((counter, 1)),
        }
    }

    /// Hands over what was counted and starts from zero.
    pub fn take(&mut self) -> Vec<(Counter, u32)> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn names_are_distinct_and_safe_for_envoy_and_prometheus() {
        let mut names: Vec<String> = Counter::all().map(Counter::name).collect();
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b"_.=".contains(&b))));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn counts_are_handed_over_once() {
        let mut counts = Counts::default();
        let created = Counter::Session(Outcome::Created);
        counts.add(created);
        counts.add(created);
        assert_eq!(counts.take(), [(created, 2)]);
        assert_eq!(counts.take(), []);
    }
}
