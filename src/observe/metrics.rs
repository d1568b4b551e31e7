//! What is counted, and the names under which Envoy shows it.
//!
//! Names follow Envoy's stats: `.` separates, `label=value` parts become labels by the stat tags of the configs under `envoy/`
//! (docs/monitoring.md lists them all). Counting is an addition in memory; the shell hands the sums to the proxy once a second.

use crate::credential::keyring::{KeyAge, Keyring, MAX_KEYS};
use crate::credential::token::Refusal;
use crate::observe::decision::{Basis, Displaced, Outcome};
use crate::session::pin::HostAddr;
use crate::text;
use crate::text::words::closed_set;

closed_set! {
    /// What went wrong around the filter. None of it fails a request.
    pub enum Fault {
        /// A call of the proxy answered with a status that it should not.
        ProxyCall = "proxy_call",
        /// The proxy gave no random bytes: nothing was issued.
        Randomness = "randomness",
        /// The bridge said nothing where it must speak: it is missing, switched off on the route, or has another header.
        BridgeSilent = "bridge_silent",
        /// The application's action is none that is known.
        UnknownAction = "unknown_action",
        /// The serving host's address is missing, or cannot be pinned.
        HostUnknown = "host_unknown",
        /// A call to the store got no answer, or a 5xx.
        StoreUnavailable = "store_unavailable",
        /// The store refused a call, by its status or in its own words.
        StoreRefused = "store_refused",
        /// The store's answer was too long to be read.
        StoreTooLarge = "store_too_large",
        /// The store's answer was none that its protocol knows.
        StoreSenseless = "store_senseless",
        /// What the store had was not written by a proxy with our keys, or belongs elsewhere.
        StoreValue = "store_value",
        /// An answer of the store came to a call that nobody waits for any more.
        StoreLate = "store_late",
        /// Too many calls, or requests that wait for them: one more was not made.
        StoreOverload = "store_overload",
        /// The store failed so often that it is left alone for a while.
        StoreLeftAlone = "store_left_alone",
        /// A session was ended, and the store could not be told.
        RevocationLost = "revocation_lost",
    }
}

closed_set! {
    /// What is asked of the store.
    pub enum Operation {
        /// What it knows of a session.
        Lookup = "lookup",
        /// To put a session that it does not know.
        Create = "create",
        /// To put a session in place of an older copy.
        Move = "move",
        /// To let a session live on.
        Touch = "touch",
        /// To put a tombstone.
        Revoke = "revoke",
    }
}

closed_set! {
    /// What a call to the store came to.
    pub enum CallResult {
        /// It is done, or what was looked for is there.
        Ok = "ok",
        /// Another copy is there.
        Conflict = "conflict",
        /// Nothing is there.
        Missing = "missing",
        /// A tombstone is there.
        Revoked = "revoked",
        /// There is no answer that says anything. The faults say why.
        Failed = "failed",
        /// It was not made: the store is left alone, or there are too many calls.
        Skipped = "skipped",
    }
}

closed_set! {
    /// A memory of a worker's.
    pub enum Memory {
        /// Of sessions that the store knows.
        Sessions = "sessions",
        /// Of tokens that verified.
        Tokens = "tokens",
    }
}

closed_set! {
    /// How a session came to its end.
    pub enum Ending {
        /// The application ended it.
        Ended = "ended",
        /// Its idle timeout passed.
        ExpiredIdle = "expired_idle",
        /// Its absolute timeout passed.
        ExpiredAbsolute = "expired_absolute",
    }
}

/// How many hosts of sessions are told apart, in the life of a configuration. Those met later are counted as one.
pub const MAX_HOSTS: usize = 256;

/// A counter. Where nothing else is said, one for each member of what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// `mooring_requests`: what requests came with.
    Request(Basis),
    /// `mooring_sessions`: what became of them, one for each response.
    Session(Outcome),
    /// `mooring_sessions_displaced`: requests that another host served than their session wanted, by why.
    Displaced(Displaced),
    /// `mooring_tokens_refused`
    Refused(Refusal),
    /// `mooring_faults`
    Fault(Fault),
    /// `mooring_store_calls`
    StoreCall(Operation, CallResult),
    /// `mooring_cache_hits`
    Hit(Memory),
    /// `mooring_cache_misses`
    Miss(Memory),
    /// `mooring_cache_evictions`: what had to go although it might have been asked for again.
    Evicted(Memory),
    /// `mooring_lookups_shared`: requests that waited for a lookup which another had begun.
    LookupShared,
    /// `mooring_tokens_accepted`: valid tokens by their keys' ids.
    Accepted(KeyAge),
}

/// Counters that differ in one label. A word that is empty stands for no label at all.
struct Family {
    name: &'static str,
    words: &'static [&'static str],
}

const FAMILIES: &[Family] = &[
    Family { name: "requests.session", words: Basis::WORDS },
    Family { name: "sessions.outcome", words: Outcome::WORDS },
    Family { name: "sessions_displaced.reason", words: Displaced::WORDS },
    Family { name: "tokens_refused.reason", words: Refusal::WORDS },
    Family { name: "faults.kind", words: Fault::WORDS },
    Family { name: "store_calls.operation=lookup.result", words: CallResult::WORDS },
    Family { name: "store_calls.operation=create.result", words: CallResult::WORDS },
    Family { name: "store_calls.operation=move.result", words: CallResult::WORDS },
    Family { name: "store_calls.operation=touch.result", words: CallResult::WORDS },
    Family { name: "store_calls.operation=revoke.result", words: CallResult::WORDS },
    Family { name: "cache_hits.cache", words: Memory::WORDS },
    Family { name: "cache_misses.cache", words: Memory::WORDS },
    Family { name: "cache_evictions.cache", words: Memory::WORDS },
    Family { name: "lookups_shared", words: &[""] },
];

// Where each family begins. The test below holds them against the names.
const SESSIONS: usize = Basis::WORDS.len();
const DISPLACED: usize = SESSIONS + Outcome::WORDS.len();
const REFUSED: usize = DISPLACED + Displaced::WORDS.len();
const FAULTS: usize = REFUSED + Refusal::WORDS.len();
const STORE_CALLS: usize = FAULTS + Fault::WORDS.len();
const HITS: usize = STORE_CALLS + Operation::WORDS.len() * CallResult::WORDS.len();
const MISSES: usize = HITS + Memory::WORDS.len();
const EVICTED: usize = MISSES + Memory::WORDS.len();
const LOOKUPS_SHARED: usize = EVICTED + Memory::WORDS.len();
const ACCEPTED: usize = LOOKUPS_SHARED + 1;
const PINNED: usize = ACCEPTED + MAX_KEYS;

/// How many counters there are at most.
pub const COUNTERS: usize = PINNED + MAX_HOSTS + 1;

impl Counter {
    /// Its place among the counters.
    #[allow(clippy::arithmetic_side_effects)] // Of small constants.
    fn index(self) -> usize {
        match self {
            Self::Request(basis) => basis.ordinal(),
            Self::Session(outcome) => SESSIONS + outcome as usize,
            Self::Displaced(displaced) => DISPLACED + displaced as usize,
            Self::Refused(refusal) => REFUSED + refusal as usize,
            Self::Fault(fault) => FAULTS + fault as usize,
            Self::StoreCall(operation, result) => {
                STORE_CALLS + operation as usize * CallResult::WORDS.len() + result as usize
            }
            Self::Hit(memory) => HITS + memory as usize,
            Self::Miss(memory) => MISSES + memory as usize,
            Self::Evicted(memory) => EVICTED + memory as usize,
            Self::LookupShared => LOOKUPS_SHARED,
            Self::Accepted(age) => ACCEPTED + age.position().min(MAX_KEYS - 1),
        }
    }
}

/// The name of the counter at this place. `None` for a key that there is not, and for hosts: [`Counts::host_name`] knows those.
pub fn counter_name(index: usize, keyring: &Keyring) -> Option<String> {
    if let Some(position) = index.checked_sub(ACCEPTED) {
        return Some(text::concat(&["mooring_tokens_accepted.key=", keyring.id(position)?.as_str()]));
    }
    let mut left = index;
    for family in FAMILIES {
        match family.words.get(left) {
            Some(&"") => return Some(text::concat(&["mooring_", family.name])),
            Some(word) => return Some(text::concat(&["mooring_", family.name, "=", word])),
            None => left = left.saturating_sub(family.words.len()),
        }
    }
    None
}

/// What is measured, for a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Histogram {
    /// `mooring_store_call_time`, in milliseconds: until the store answered, or was given up.
    StoreCall(Operation),
    /// `mooring_session_lifetime`, in seconds: for how long a session had been used when its end was seen.
    Lifetime(Ending),
}

impl Histogram {
    /// Their names, in the order of [`Histogram::index`].
    pub fn names() -> impl Iterator<Item = String> {
        let calls = Operation::WORDS.iter().map(|word| ["mooring_store_call_time.operation=", word]);
        let lifetimes = Ending::WORDS.iter().map(|word| ["mooring_session_lifetime.reason=", word]);
        calls.chain(lifetimes).map(|parts| text::concat(&parts))
    }

    /// Its place among the histograms.
    #[allow(clippy::arithmetic_side_effects)] // Of small constants.
    pub fn index(self) -> usize {
        match self {
            Self::StoreCall(operation) => operation as usize,
            Self::Lifetime(ending) => Operation::WORDS.len() + ending as usize,
        }
    }
}

/// What a worker has of something just now. Envoy shows the sum over its workers, and its main thread.
pub const GAUGES: [&str; 3] =
    ["mooring_cache_entries.cache=sessions", "mooring_cache_entries.cache=tokens", "mooring_store_breaker_open"];

/// The name of the gauge that counts the contexts of a configuration.
pub fn version_gauge(version: &str) -> String {
    text::concat(&["mooring_config.version=", version])
}

/// How many measurements are kept from one tick to the next. More are not taken.
const MAX_MEASURED: usize = 8192;

/// What was counted and measured since the last time that it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    counters: Box<[u32; COUNTERS]>,
    /// Places of counters that are not zero.
    counted: Vec<usize>,
    /// Hosts that sessions were pinned to.
    hosts: Vec<HostAddr>,
    measured: Vec<(Histogram, u64)>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { counters: Box::new([0; COUNTERS]), counted: Vec::new(), hosts: Vec::new(), measured: Vec::new() }
    }
}

impl Counts {
    /// Adds one.
    pub fn add(&mut self, counter: Counter) {
        self.add_at(counter.index());
    }

    fn add_at(&mut self, index: usize) {
        let Some(count) = self.counters.get_mut(index) else { return };
        if *count == 0 {
            self.counted.push(index);
        }
        *count = count.saturating_add(1);
    }

    /// A session got a pin to this host: `mooring_sessions_pinned`.
    pub fn add_pin(&mut self, host: &HostAddr) {
        let known = self.hosts.iter().position(|known| known == host);
        let slot = known.unwrap_or_else(|| {
            if self.hosts.len() < MAX_HOSTS {
                self.hosts.push(host.clone());
                self.hosts.len().saturating_sub(1)
            } else {
                MAX_HOSTS
            }
        });
        self.add_at(PINNED.saturating_add(slot));
    }

    /// Takes a measurement.
    pub fn measure(&mut self, histogram: Histogram, value: u64) {
        if self.measured.len() < MAX_MEASURED {
            self.measured.push((histogram, value));
        }
    }

    /// Hands over what was counted, each counter with its place, and starts from zero.
    pub fn take(&mut self) -> Vec<(usize, u32)> {
        let counters = &mut self.counters;
        let take = |at| counters.get_mut(at).map(|count| (at, std::mem::take(count)));
        std::mem::take(&mut self.counted).into_iter().filter_map(take).collect()
    }

    /// Hands over what was measured.
    pub fn take_measured(&mut self) -> Vec<(Histogram, u64)> {
        std::mem::take(&mut self.measured)
    }

    /// The name of a host's counter. `None` where there is no such host (yet).
    pub fn host_name(&self, index: usize) -> Option<String> {
        let slot = index.checked_sub(PINNED)?;
        let host = self.hosts.get(slot).map(HostAddr::to_text);
        let host = host.or_else(|| (slot == MAX_HOSTS).then(|| "other".into()))?;
        Some(text::concat(&["mooring_sessions_pinned.host=", &host]))
    }

    /// What a counter has come to.
    #[cfg(test)]
    pub(crate) fn get(&self, counter: Counter) -> u32 {
        self.counters.get(counter.index()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::keyring::{Key, KeyId, Secret};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn keyring() -> Keyring {
        let mut keys = ["new", "old"].into_iter().map(|id| {
            let secret = Secret::new(vec![7; 32]).unwrap();
            Key::derive(KeyId::new(id).unwrap(), &secret, "s").unwrap()
        });
        Keyring::new(keys.next().unwrap(), keys.collect())
    }

    fn host(number: usize) -> HostAddr {
        HostAddr::parse(format!("10.0.0.1:{}", number.saturating_add(8000)).as_bytes()).unwrap()
    }

    fn name_of(counter: Counter) -> String {
        counter_name(counter.index(), &keyring()).unwrap()
    }

    #[test]
    fn names_are_distinct_and_safe_for_envoy_and_prometheus() {
        let mut names: Vec<String> = (0..COUNTERS).filter_map(|index| counter_name(index, &keyring())).collect();
        names.extend(Histogram::names());
        names.extend(GAUGES.map(String::from));
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b"_.=".contains(&b))));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn each_counter_has_the_name_of_its_place() {
        for (words, make) in [
            (Outcome::WORDS, &(|at| name_of(Counter::Session(Outcome::ALL[at]))) as &dyn Fn(usize) -> String),
            (Displaced::WORDS, &|at| name_of(Counter::Displaced(Displaced::ALL[at]))),
            (Refusal::WORDS, &|at| name_of(Counter::Refused(Refusal::ALL[at]))),
            (Fault::WORDS, &|at| name_of(Counter::Fault(Fault::ALL[at]))),
            (Memory::WORDS, &|at| name_of(Counter::Hit(Memory::ALL[at]))),
            (Memory::WORDS, &|at| name_of(Counter::Miss(Memory::ALL[at]))),
            (Memory::WORDS, &|at| name_of(Counter::Evicted(Memory::ALL[at]))),
        ] {
            for (at, word) in words.iter().enumerate() {
                assert!(make(at).ends_with(&format!("={word}")), "{} is not {word}", make(at));
            }
        }
        for (operation, result) in Operation::ALL.iter().flat_map(|o| CallResult::ALL.iter().map(move |r| (*o, *r))) {
            let (name, words) = (name_of(Counter::StoreCall(operation, result)), (operation.word(), result.word()));
            assert_eq!(name, format!("mooring_store_calls.operation={}.result={}", words.0, words.1));
        }
        for (counter, name) in [
            (Counter::Request(Basis::None), "mooring_requests.session=none"),
            (Counter::Request(Basis::Unread), "mooring_requests.session=unread"),
            (Counter::Session(Outcome::Created), "mooring_sessions.outcome=created"),
            (Counter::Displaced(Displaced::Retried), "mooring_sessions_displaced.reason=retried"),
            (Counter::Refused(Refusal::Revoked), "mooring_tokens_refused.reason=revoked"),
            (Counter::Fault(Fault::RevocationLost), "mooring_faults.kind=revocation_lost"),
            (Counter::Hit(Memory::Sessions), "mooring_cache_hits.cache=sessions"),
            (Counter::Evicted(Memory::Tokens), "mooring_cache_evictions.cache=tokens"),
            (Counter::LookupShared, "mooring_lookups_shared"),
            (Counter::Accepted(KeyAge::Current), "mooring_tokens_accepted.key=new"),
            (Counter::Accepted(KeyAge::Older(1)), "mooring_tokens_accepted.key=old"),
        ] {
            assert_eq!(name_of(counter), name);
        }
        assert_eq!(counter_name(Counter::Accepted(KeyAge::Older(2)).index(), &keyring()), None);
    }

    #[test]
    fn each_histogram_has_the_name_of_its_place() {
        let names: Vec<String> = Histogram::names().collect();
        let name = |histogram: Histogram| names[histogram.index()].as_str();
        assert_eq!(name(Histogram::StoreCall(Operation::Revoke)), "mooring_store_call_time.operation=revoke");
        assert_eq!(name(Histogram::Lifetime(Ending::Ended)), "mooring_session_lifetime.reason=ended");
        assert_eq!(
            name(Histogram::Lifetime(Ending::ExpiredAbsolute)),
            "mooring_session_lifetime.reason=expired_absolute"
        );
    }

    #[test]
    fn counts_and_measurements_are_handed_over_once() {
        let mut counts = Counts::default();
        let created = Counter::Session(Outcome::Created);
        counts.add(created);
        counts.add(created);
        counts.measure(Histogram::StoreCall(Operation::Lookup), 3);
        assert_eq!(counts.take(), [(created.index(), 2)]);
        assert_eq!(counts.take_measured(), [(Histogram::StoreCall(Operation::Lookup), 3)]);
        assert_eq!(counts, Counts::default());
    }

    #[test]
    fn hosts_have_counters_of_their_own_up_to_a_bound() {
        let mut counts = Counts::default();
        for number in 0..=MAX_HOSTS {
            counts.add_pin(&host(number));
        }
        counts.add_pin(&host(0));
        counts.add_pin(&host(MAX_HOSTS + 1));
        let taken = counts.take();
        let names: Vec<(String, u32)> =
            taken.into_iter().map(|(at, count)| (counts.host_name(at).unwrap(), count)).collect();
        assert_eq!(names.len(), MAX_HOSTS + 1);
        assert_eq!(names[0], ("mooring_sessions_pinned.host=10.0.0.1:8000".into(), 2));
        assert_eq!(names[255], ("mooring_sessions_pinned.host=10.0.0.1:8255".into(), 1));
        assert_eq!(names[256], ("mooring_sessions_pinned.host=other".into(), 2));
        counts.add_pin(&host(0));
        assert_eq!(counts.take(), [(PINNED, 1)], "a host keeps its counter");
    }

    #[test]
    fn measurements_are_bounded() {
        let mut counts = Counts::default();
        for _ in 0..MAX_MEASURED + 1 {
            counts.measure(Histogram::Lifetime(Ending::Ended), 1);
        }
        assert_eq!(counts.take_measured().len(), MAX_MEASURED);
    }
}
