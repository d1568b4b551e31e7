//! What the long run measured, minute by minute, and what must hold at its end.

use super::processes::processor_time;
use super::tally::{Count, Tally};
use super::{IDLE, TTL};
use crate::census::Census;
use mooring_test_kit::fleet::Fleet;
use mooring_test_kit::memory::{Footprint, PAGE, resident};
use mooring_test_kit::rig::{Envoy, EnvoyWorld};
use mooring_test_kit::servers::redis::Redis;
use mooring_test_kit::servers::root;
use mooring_test_kit::servers::store::Store;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Of a run of so many seconds the first quarter fills all caches, twice at reloads.
const SETTLED: usize = 40 * 60;

/// What a VM may take more from then on. Wasm memory never shrinks, and what overlaps at a reload never overlaps quite alike. Two
/// bytes lost for each request would be more: in an hour of 400 requests a second, on four VMs, a quarter million come to each.
const SLACK: u64 = 8 * PAGE;

/// In a shorter one they are still filling.
const CACHES: u64 = 32 * PAGE;

const MIB: f64 = (1 << 20) as f64;

/// What is measured once a minute.
#[derive(Clone, Debug)]
struct Line {
    second: u32,
    requests: u64,
    failed: u64,
    alive: u64,
    born: u64,
    cookies: u64,
    lookups: u64,
    moved: u64,
    envoys: [Footprint; 2],
    store_resident: u64,
    redis_used: u64,
    redis_keys: u64,
    /// Hundredths of a second, so far: Envoys, the store and its Redis, the clients with the hosts.
    processor: [u64; 3],
}

/// All of it.
pub struct Report {
    lines: Vec<Line>,
    interval: u32,
    processor: [u64; 3],
}

fn file(variable: &str, otherwise: &str) -> PathBuf {
    #[allow(clippy::disallowed_methods)]
    let path = std::env::var(variable).ok().filter(|path| !path.is_empty());
    root().join(path.as_deref().unwrap_or(otherwise))
}

fn processor(fleet: &Fleet, store: &Store, redis: &Redis) -> [u64; 3] {
    let envoys = fleet.iter().map(|proxy| processor_time(proxy.envoy.pid())).sum();
    [envoys, processor_time(store.id()) + processor_time(redis.id()), processor_time(std::process::id())]
}

impl Report {
    pub fn begin(fleet: &Fleet, store: &Store, redis: &Redis, interval: u32) -> Self {
        Self { lines: Vec::new(), interval, processor: processor(fleet, store, redis) }
    }

    /// Takes what there is at this second.
    pub fn line(&mut self, fleet: &Fleet, store: &Store, redis: &Redis, tally: &Tally, second: u32) {
        let used = redis.ask::<String>(&["INFO", "memory"]).expect("Redis's memory");
        let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        let line = Line {
            second,
            requests: tally.of(Count::Requests),
            failed: tally.of(Count::Failed),
            alive: tally.of(Count::Alive),
            born: tally.of(Count::Born),
            cookies: tally.cookies().values().sum(),
            lookups: Census::take(fleet).lookups(),
            moved: tally.of(Count::Moved),
            envoys: [0, 1].map(|at| footprint(&fleet[at].envoy)),
            store_resident: resident(store.id()),
            redis_used: used.expect("a number"),
            redis_keys: redis.ask(&["DBSIZE"]).expect("Redis's keys"),
            processor: processor(fleet, store, redis),
        };
        eprintln!("{}", self.csv(&line));
        self.lines.push(line);
        // Whoever ends it early finds what there was.
        let lines = self.lines.iter().map(|line| self.csv(line));
        let text: String = std::iter::once(HEADER.to_owned()).chain(lines).map(|line| line + "\n").collect();
        std::fs::write(file("MOORING_SOAK_CSV", "target/soak.csv"), text).expect("a file to write to");
    }

    fn csv(&self, line: &Line) -> String {
        let before = self.lines.iter().rfind(|before| before.second < line.second);
        let processor = before.map_or(self.processor, |before| before.processor);
        let cores = [0, 1, 2].map(|at| (line.processor[at] - processor[at]) as f64 / 100.0 / f64::from(self.interval));
        let pages = |at: usize| {
            let pages: Vec<String> = line.envoys[at].wasm.iter().map(|bytes| (bytes / PAGE).to_string()).collect();
            pages.join(" ")
        };
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB);
        [
            line.second.to_string(),
            line.requests.to_string(),
            line.failed.to_string(),
            line.alive.to_string(),
            line.born.to_string(),
            line.moved.to_string(),
            line.cookies.to_string(),
            line.lookups.to_string(),
            pages(0),
            pages(1),
            mib(line.envoys[0].allocated),
            mib(line.envoys[1].allocated),
            mib(line.envoys[0].resident),
            mib(line.envoys[1].resident),
            mib(line.store_resident),
            mib(line.redis_used),
            line.redis_keys.to_string(),
            format!("{:.2}", cores[0]),
            format!("{:.2}", cores[1]),
            format!("{:.2}", cores[2]),
        ]
        .join(",")
    }

    /// The highest value in these quarters of the run (0 to 3).
    fn most(&self, quarters: std::ops::RangeInclusive<usize>, value: impl Fn(&Line) -> u64) -> u64 {
        let quarter = |at: usize| at * 4 / self.lines.len();
        let lines = self.lines.iter().enumerate().filter(|(at, _)| quarters.contains(&quarter(*at)));
        lines.map(|(_, line)| value(line)).max().expect("a line in each quarter")
    }

    /// Writes the summary, and then holds it against what must be.
    pub fn conclude(&self, fleet: &Fleet, tally: &Tally, seconds: u32) {
        let census = Census::settled(fleet);
        let summary = self.summary(fleet, &census, tally, seconds);
        std::fs::write(file("MOORING_SOAK_SUMMARY", "target/soak.md"), &summary).expect("a file to write to");
        eprintln!("{summary}");
        eprintln!("counted: {:?}", census.beginning("mooring_"));

        let logs: Vec<String> = fleet.iter().map(|proxy| proxy.envoy.log()).collect();
        assert!(logs.iter().all(|log| !log.contains("panicked") && !log.contains("critical")), "{logs:?}");
        for wrong in Count::WRONGS {
            assert_eq!(tally.of(wrong), 0, "{wrong:?}: {:#?}", tally.wrongs());
        }
        assert_eq!(census.vm_restarts(), 0);
        assert!(census.lookups() <= tally.of(Count::LookupsAllowed), "more lookups than the cache allows");
        let growth = if self.lines.len() * self.interval as usize >= SETTLED { SLACK } else { CACHES };
        for at in [0, 1] {
            for vm in 0..self.lines[0].envoys[at].wasm.len() {
                let (first, last) = (self.most(0..=0, |line| line.envoys[at].wasm[vm]), self.last_memory(at, vm));
                assert!(last <= first + growth, "the memory of a VM of Envoy {at} grew from {first} to {last} bytes");
            }
            let (before, after) = (
                self.most(1..=1, |line| line.envoys[at].allocated),
                self.most(3..=3, |line| line.envoys[at].allocated),
            );
            assert!(after <= before + before / 4, "the memory of Envoy {at} grew from {before} to {after} bytes");
        }
        let (before, after) = (self.most(1..=1, |line| line.redis_keys), self.most(3..=3, |line| line.redis_keys));
        assert!(after <= before + before / 4, "the store grew from {before} to {after} sessions");
        let store = |quarter| self.most(quarter..=quarter, |line| line.store_resident);
        let (before, after) = (store(1), store(3));
        assert!(after <= before + before / 4, "mooring-store's memory grew from {before} to {after} bytes");
    }

    fn last_memory(&self, at: usize, vm: usize) -> u64 {
        self.most(3..=3, |line| line.envoys[at].wasm[vm])
    }

    fn summary(&self, fleet: &Fleet, census: &Census, tally: &Tally, seconds: u32) -> String {
        let last = self.lines.last().expect("a line");
        let ratio = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB);
        let cookies = tally.cookies();
        let cookies: Vec<String> = cookies.iter().map(|(word, count)| format!("{count} {word}")).collect();
        let cores = [0, 1, 2]
            .map(|at| (last.processor[at] - self.processor[at]) as f64 / 100.0 / f64::from(last.second))
            .map(|cores| format!("{cores:.2}"));
        let memory = |quarter: usize, at: usize| {
            let vms = 0..last.envoys[at].wasm.len();
            let pages: Vec<String> = vms
                .map(|vm| (self.most(quarter..=quarter, |line| line.envoys[at].wasm[vm]) / PAGE).to_string())
                .collect();
            pages.join(", ")
        };
        let both = |value: &dyn Fn(usize) -> String| format!("{} / {}", value(0), value(1));
        let judged = |stat: &str| -> u64 {
            let of =
                |proxy: &EnvoyWorld| ["app", "other"].map(|name| proxy.envoy.stat(&format!("cluster.{name}.{stat}")));
            fleet.iter().flat_map(of).sum()
        };
        let renewals = tally.cookies().get("renewed").copied().unwrap_or(0);
        let rows = [
            ("time", format!("{} min {} s", seconds / 60, seconds % 60)),
            ("requests", format!("{} ({:.0} a second)", last.requests, ratio(last.requests, seconds.into()))),
            ("failed because of Mooring", tally.of(Count::Failed).to_string()),
            ("broken by a host that died while it served", tally.of(Count::DiedWithHost).to_string()),
            ("sessions born", format!("{}; {} clients at the end", last.born, last.alive)),
            (
                "ended, rotated, released, abandoned, expired",
                [Count::Ended, Count::Rotated, Count::Released, Count::Abandoned, Count::Expired]
                    .map(|count| tally.of(count).to_string())
                    .join(", "),
            ),
            ("requests with garbage", tally.of(Count::Garbage).to_string()),
            ("moved, their host gone", tally.of(Count::Moved).to_string()),
            ("moved, their host there", tally.of(Count::Misplaced).to_string()),
            (
                "what Envoy itself took out, the faults' included",
                format!(
                    "{} ejections, {} health checks failed",
                    judged("outlier_detection.ejections_enforced_total"),
                    judged("health_check.failure")
                ),
            ),
            ("valid sessions lost", tally.of(Count::Lost).to_string()),
            ("ended sessions or forgeries believed", tally.of(Count::Revived).to_string()),
            ("cookies", format!("{}: {}", last.cookies, cookies.join(", "))),
            ("cookies for each session", format!("{:.2}", ratio(last.cookies, last.born))),
            (
                "renewals for each session",
                format!("{:.2}; none more often than ten times in {} s", ratio(renewals, last.born), IDLE.as_secs()),
            ),
            (
                "lookups",
                format!(
                    "{}, {:.2} for each session and {:.2} for each request; one a session, worker and {ttl} s would be {allowed}",
                    census.lookups(),
                    ratio(census.lookups(), last.born),
                    ratio(census.lookups(), last.requests),
                    ttl = TTL.as_secs(),
                    allowed = tally.of(Count::LookupsAllowed),
                ),
            ),
            (
                "calls to the store that failed, or were skipped",
                ["lookup", "create", "move", "touch", "revoke"]
                    .map(|operation| census.calls(operation, &["failed", "skipped"]))
                    .iter()
                    .sum::<u64>()
                    .to_string(),
            ),
            ("VM restarts", census.vm_restarts().to_string()),
            ("pages (64 KiB) of each VM, first quarter", both(&|at| memory(0, at))),
            ("pages of each VM, last quarter", both(&|at| memory(3, at))),
            (
                "Envoy's allocated memory, second quarter",
                both(&|at| mib(self.most(1..=1, |line| line.envoys[at].allocated))),
            ),
            (
                "Envoy's allocated memory, last quarter",
                both(&|at| mib(self.most(3..=3, |line| line.envoys[at].allocated))),
            ),
            (
                "Envoy's resident memory, last quarter",
                both(&|at| mib(self.most(3..=3, |line| line.envoys[at].resident))),
            ),
            (
                "Redis, second and last quarter",
                format!(
                    "{} sessions in {}, {} in {}",
                    self.most(1..=1, |line| line.redis_keys),
                    mib(self.most(1..=1, |line| line.redis_used)),
                    self.most(3..=3, |line| line.redis_keys),
                    mib(self.most(3..=3, |line| line.redis_used)),
                ),
            ),
            (
                "mooring-store, resident, second and last quarter",
                [1, 3].map(|quarter| mib(self.most(quarter..=quarter, |line| line.store_resident))).join(", "),
            ),
            (
                "processor cores used",
                format!(
                    "{} by the Envoys, {} by the store and Redis, {} by clients and hosts",
                    cores[0], cores[1], cores[2]
                ),
            ),
        ];
        let mut text = String::from("| measured | |\n| --- | --- |\n");
        for (what, value) in rows {
            writeln!(text, "| {what} | {value} |").expect("a string");
        }
        text
    }
}

const HEADER: &str = "second,requests,failed,clients,sessions_born,moved,cookies,lookups,vm_pages_1,vm_pages_2,\
    allocated_mib_1,allocated_mib_2,resident_mib_1,resident_mib_2,store_resident_mib,redis_used_mib,redis_keys,\
    cores_envoys,cores_store,cores_clients";

/// What an Envoy takes; its Wasm memories with the smallest first.
fn footprint(envoy: &Envoy) -> Footprint {
    let mut footprint = Footprint::of(envoy);
    footprint.wasm.sort_unstable();
    footprint
}
