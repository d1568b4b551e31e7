//! What is counted, and the names under which Envoy shows it.
//!
//! Names follow Envoy's stats: `.` separates, `label=value` parts become labels by the stat tags of the configs under `envoy/`
//! (docs/monitoring.md lists them all). Counting is an addition in memory; the shell hands the sums to the proxy once a second.

mod family;

use crate::carrier::Way;
use crate::credential::keyring::{KeyPosition, Keyring, MAX_KEYS};
use crate::credential::token::Refusal;
use crate::observe::decision::{Basis, Displaced, Outcome};
use crate::session::pin::HostAddr;
use crate::text::words::{ClosedSet as _, closed_set};
use family::{Label, metrics};

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
const MAX_HOSTS: usize = 256;

/// A host that sessions are pinned to, by the order in which hosts were met. The 257th stands for all that were met later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSlot(usize);

/// The way in which a session came. Those that are not configured have no metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By(pub Way);

/// The version of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigVersion;

/// The version of this plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginVersion;

/// What names of metrics have in them that is known at run time alone.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The keys of the configuration.
    pub keyring: &'a Keyring,
    /// Its version.
    pub version: &'a str,
    /// Hosts that sessions were pinned to.
    pub hosts: &'a [HostAddr],
    /// The ways in which clients carry their sessions.
    pub ways: &'a [Way],
}

impl Label for KeyPosition {
    const COUNT: usize = MAX_KEYS;

    fn ordinal(self) -> usize {
        self.position().min(MAX_KEYS - 1)
    }

    fn word(ordinal: usize, names: &Names<'_>) -> Option<String> {
        names.keyring.id(ordinal).map(|id| id.as_str().into())
    }
}

impl Label for HostSlot {
    const COUNT: usize = MAX_HOSTS + 1;

    fn ordinal(self) -> usize {
        self.0.min(MAX_HOSTS)
    }

    fn word(ordinal: usize, names: &Names<'_>) -> Option<String> {
        let others = || (ordinal == MAX_HOSTS && names.hosts.len() == MAX_HOSTS).then(|| "other".into());
        names.hosts.get(ordinal).map(HostAddr::to_text).or_else(others)
    }
}

impl Label for By {
    const COUNT: usize = Way::WORDS.len();

    fn ordinal(self) -> usize {
        Label::ordinal(self.0)
    }

    fn word(ordinal: usize, names: &Names<'_>) -> Option<String> {
        let word = Way::WORDS.get(ordinal)?;
        let configured = names.ways.iter().chain([&Way::None]).any(|way| way.word() == *word);
        configured.then(|| (*word).into())
    }
}

impl Label for ConfigVersion {
    const COUNT: usize = 1;

    fn ordinal(self) -> usize {
        0
    }

    fn word(_: usize, names: &Names<'_>) -> Option<String> {
        Some(names.version.into())
    }
}

impl Label for PluginVersion {
    const COUNT: usize = 1;

    fn ordinal(self) -> usize {
        0
    }

    fn word(_: usize, _: &Names<'_>) -> Option<String> {
        Some(env!("CARGO_PKG_VERSION").into())
    }
}

metrics! {
    /// A counter. Where nothing else is said, one for each member of what it names.
    pub enum Counter {
        /// What requests came with.
        Request(session: Basis) = "requests",
        /// What became of them, one for each response, and the way in which their sessions came.
        Session(outcome: Outcome, by: By) = "sessions",
        /// Requests that another host served than their session wanted, by why.
        Displaced(reason: Displaced) = "sessions_displaced",
        /// Tokens that were refused.
        Refused(reason: Refusal) = "tokens_refused",
        /// What went wrong around the filter.
        Fault(kind: Fault) = "faults",
        /// Calls to the store.
        StoreCall(operation: Operation, result: CallResult) = "store_calls",
        /// What a memory had.
        Hit(cache: Memory) = "cache_hits",
        /// What a memory had not.
        Miss(cache: Memory) = "cache_misses",
        /// What had to go although it might have been asked for again.
        Evicted(cache: Memory) = "cache_evictions",
        /// Requests that waited for a lookup which another had begun.
        LookupShared = "lookups_shared",
        /// Valid tokens by their keys' ids.
        Accepted(key: KeyPosition) = "tokens_accepted",
        /// Pins that sessions got, by host.
        Pinned(host: HostSlot) = "sessions_pinned",
    }
}

metrics! {
    /// What is measured, for a distribution.
    pub enum Histogram {
        /// In milliseconds: until the store answered, or was given up.
        StoreCall(operation: Operation) = "store_call_time",
        /// In seconds: for how long a session had been used when its end was seen.
        Lifetime(reason: Ending) = "session_lifetime",
    }
}

metrics! {
    /// What a worker has of something just now. Envoy shows the sum over its workers, and its main thread.
    pub enum Gauge {
        /// What a memory holds.
        Entries(cache: Memory) = "cache_entries",
        /// 1 while the store is left alone.
        BreakerOpen = "store_breaker_open",
        /// 1: this configuration is at work.
        Config(version: ConfigVersion) = "config",
        /// 1: this version of the plugin is at work.
        Build(plugin: PluginVersion) = "build",
    }
}

/// How many measurements are kept from one tick to the next. More are not taken.
const MAX_MEASURED: usize = 8192;

/// What was counted and measured since the last time that it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    counters: Box<[u32; Counter::COUNT]>,
    /// Places of counters that are not zero.
    counted: Vec<usize>,
    /// Hosts that sessions were pinned to.
    hosts: Vec<HostAddr>,
    measured: Vec<(Histogram, u64)>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { counters: Box::new([0; Counter::COUNT]), counted: Vec::new(), hosts: Vec::new(), measured: Vec::new() }
    }
}

impl Counts {
    /// Adds one.
    pub fn add(&mut self, counter: Counter) {
        let index = counter.index();
        let Some(count) = self.counters.get_mut(index) else { return };
        if *count == 0 {
            self.counted.push(index);
        }
        *count = count.saturating_add(1);
    }

    /// A session got a pin to this host.
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
        self.add(Counter::Pinned(HostSlot(slot)));
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

    /// Hosts that sessions were pinned to, for [`Names`].
    pub fn hosts(&self) -> &[HostAddr] {
        &self.hosts
    }

    /// Hands over what was counted, by name.
    #[cfg(test)]
    pub(crate) fn take_named(&mut self, keyring: &Keyring) -> Vec<(String, u32)> {
        let taken = self.take();
        let names = Names { keyring, version: "", hosts: &self.hosts, ways: &[Way::Cookie, Way::Header] };
        taken.into_iter().filter_map(|(at, count)| Some((Counter::name(at, &names)?, count))).collect()
    }

    /// What a counter has come to since it was handed over last.
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

    #[test]
    fn names_are_distinct_and_safe_for_envoy_and_prometheus() {
        let keyring = keyring();
        let names = Names { keyring: &keyring, version: "0a1b2c3d", hosts: &[], ways: &[Way::Cookie] };
        let counters = (0..Counter::COUNT).filter_map(|index| Counter::name(index, &names));
        let histograms = (0..Histogram::COUNT).filter_map(|index| Histogram::name(index, &names));
        let gauges = (0..Gauge::COUNT).filter_map(|index| Gauge::name(index, &names));
        let mut all: Vec<String> = counters.chain(histograms).chain(gauges).collect();
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.=".contains(&b);
        assert!(all.iter().all(|name| name.bytes().all(allowed)));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn each_metric_has_the_name_of_its_place() {
        let keyring = keyring();
        let names = Names { keyring: &keyring, version: "0a1b2c3d", hosts: &[host(0)], ways: &[Way::Cookie] };
        let counter = |counter: Counter| Counter::name(counter.index(), &names);
        for (given, name) in [
            (Counter::Request(Basis::None), "mooring_requests.session=none"),
            (Counter::Request(Basis::Refused(Refusal::Future)), "mooring_requests.session=refused"),
            (Counter::Request(Basis::Unread), "mooring_requests.session=unread"),
            (Counter::Session(Outcome::Created, By(Way::Cookie)), "mooring_sessions.outcome=created.by=cookie"),
            (Counter::Session(Outcome::Failed, By(Way::None)), "mooring_sessions.outcome=failed.by=none"),
            (Counter::Displaced(Displaced::Retried), "mooring_sessions_displaced.reason=retried"),
            (Counter::Refused(Refusal::Revoked), "mooring_tokens_refused.reason=revoked"),
            (Counter::Fault(Fault::ProxyCall), "mooring_faults.kind=proxy_call"),
            (Counter::Fault(Fault::RevocationLost), "mooring_faults.kind=revocation_lost"),
            (
                Counter::StoreCall(Operation::Lookup, CallResult::Skipped),
                "mooring_store_calls.operation=lookup.result=skipped",
            ),
            (Counter::StoreCall(Operation::Revoke, CallResult::Ok), "mooring_store_calls.operation=revoke.result=ok"),
            (Counter::Hit(Memory::Sessions), "mooring_cache_hits.cache=sessions"),
            (Counter::Miss(Memory::Tokens), "mooring_cache_misses.cache=tokens"),
            (Counter::Evicted(Memory::Tokens), "mooring_cache_evictions.cache=tokens"),
            (Counter::LookupShared, "mooring_lookups_shared"),
            (Counter::Accepted(KeyPosition::Current), "mooring_tokens_accepted.key=new"),
            (Counter::Accepted(KeyPosition::Older(1)), "mooring_tokens_accepted.key=old"),
            (Counter::Pinned(HostSlot(0)), "mooring_sessions_pinned.host=10.0.0.1:8000"),
        ] {
            assert_eq!(counter(given).as_deref(), Some(name));
        }
        for unknown in [
            Counter::Session(Outcome::Created, By(Way::Header)),
            Counter::Accepted(KeyPosition::Older(2)),
            Counter::Pinned(HostSlot(1)),
        ] {
            assert_eq!(counter(unknown), None);
        }
        for (given, name) in [
            (Histogram::StoreCall(Operation::Revoke), "mooring_store_call_time.operation=revoke"),
            (Histogram::Lifetime(Ending::Ended), "mooring_session_lifetime.reason=ended"),
            (Histogram::Lifetime(Ending::ExpiredAbsolute), "mooring_session_lifetime.reason=expired_absolute"),
        ] {
            assert_eq!(Histogram::name(given.index(), &names).as_deref(), Some(name));
        }
        for (given, name) in [
            (Gauge::Entries(Memory::Tokens), "mooring_cache_entries.cache=tokens"),
            (Gauge::BreakerOpen, "mooring_store_breaker_open"),
            (Gauge::Config(ConfigVersion), "mooring_config.version=0a1b2c3d"),
            (Gauge::Build(PluginVersion), concat!("mooring_build.plugin=", env!("CARGO_PKG_VERSION"))),
        ] {
            assert_eq!(Gauge::name(given.index(), &names).as_deref(), Some(name));
        }
        assert_eq!(Counter::name(Counter::COUNT, &names), None);
    }

    #[test]
    fn counts_and_measurements_are_handed_over_once() {
        let mut counts = Counts::default();
        let created = Counter::Session(Outcome::Created, By(Way::Cookie));
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
        let names = counts.take_named(&keyring());
        assert_eq!(names.len(), MAX_HOSTS + 1);
        assert_eq!(names[0], ("mooring_sessions_pinned.host=10.0.0.1:8000".into(), 2));
        assert_eq!(names[255], ("mooring_sessions_pinned.host=10.0.0.1:8255".into(), 1));
        assert_eq!(names[256], ("mooring_sessions_pinned.host=other".into(), 2));
        counts.add_pin(&host(0));
        assert_eq!(counts.take(), [(Counter::Pinned(HostSlot(0)).index(), 1)], "a host keeps its counter");
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
