//! A proxy that is measured, with the clients that load it, and proof that it does what it is measured for.

use super::accounting::{self, Cores};
use super::clients::{Affinity, Clients};
use super::hosts::{Hosts, Program};
use super::load::{CONNECTIONS, Load, drive};
use mooring_test_kit::rig::{Bootstrap, Envoy, Launch};
use mooring_test_kit::servers::eventually;
use reqwest::blocking::{Client, Response};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// How many clients are asked for, one by one, before a proxy is measured.
const PROBES: usize = 12;

pub enum Proxy {
    Envoy(Box<Envoy>),
    Other(Program),
}

impl Proxy {
    /// An Envoy with so many workers.
    pub fn envoy(bootstrap: &Bootstrap, workers: u32) -> Self {
        let launch = Launch::with(&["--concurrency", &workers.to_string()]);
        Self::Envoy(Box::new(Envoy::start(bootstrap.0.clone(), &launch)))
    }

    fn address(&self) -> &str {
        match self {
            Self::Envoy(envoy) => &envoy.address,
            Self::Other(program) => &program.address,
        }
    }

    fn processes(&self) -> Vec<u32> {
        match self {
            Self::Envoy(envoy) => vec![envoy.pid()],
            Self::Other(program) => program.processes.clone(),
        }
    }
}

/// What the plugin does with every request, and what it must count for it.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    Create,
    Resume,
    /// It resumes a session that it first looks up in the store.
    LookUp,
    /// It resumes a session, and may ask the store for it, or tell the store of it.
    Ask,
}

impl Work {
    /// One of each of these for a request, and nothing else but what may be.
    fn counters(self) -> &'static [&'static str] {
        match self {
            Self::Create => &["mooring_sessions.outcome=created.by=cookie"],
            Self::Resume | Self::Ask => &["mooring_sessions.outcome=resumed.by=cookie"],
            Self::LookUp => {
                &["mooring_sessions.outcome=resumed.by=cookie", "mooring_store_calls.operation=lookup.result=ok"]
            }
        }
    }

    /// How much of this may be counted besides. Calls to the store that are under way when load ends are cut off as the proxy is
    /// stopped: so many at the most.
    fn allowed(self, counter: &str, cut_off: u64) -> u64 {
        let call = counter.strip_prefix("mooring_store_calls.");
        match self {
            Self::Ask if call.is_some_and(|call| !call.ends_with("=failed")) => u64::MAX,
            Self::Ask | Self::LookUp if call.is_some() || counter.starts_with("mooring_faults.kind=store_") => cut_off,
            Self::Create | Self::Resume | Self::Ask | Self::LookUp => 0,
        }
    }
}

/// What a round told.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub load: Load,
    /// Processor time that the proxy took.
    pub cpu: Duration,
    /// What of it was in memory afterwards, in bytes.
    pub resident: u64,
}

impl Measured {
    /// Microseconds of processor time for a request.
    pub fn cost(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.load.requests as f64
    }
}

pub struct Contestant {
    pub name: String,
    pub clients: Clients,
    proxy: Proxy,
    /// Of the plugin's, where there is one.
    work: Option<Work>,
    /// What the plugin had counted when counting began.
    counted: BTreeMap<String, u64>,
    /// Requests since, and how often load ended with requests under way.
    answered: u64,
    ends: u64,
}

impl Contestant {
    pub fn new(name: &str, proxy: Proxy, clients: Clients, work: Option<Work>) -> Self {
        let counted = BTreeMap::new();
        Self { name: name.to_owned(), clients, proxy, work, counted, answered: 0, ends: 0 }
    }

    fn get(&self, client: &Client, headers: &str) -> Response {
        let mut request = client.get(format!("http://{}/", self.proxy.address()));
        for line in headers.split('\t').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").expect("a header line");
            request = request.header(name, value);
        }
        request.send().and_then(Response::error_for_status).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Asks for a cookie for each client, which they use from now on.
    pub fn issue(&mut self, hosts: &Hosts) {
        let headers = Clients::with(Affinity::None).headers(0, hosts);
        let http = client();
        let cookie = || {
            let response = self.get(&http, &headers);
            let cookie = set_cookie(&response).unwrap_or_else(|| panic!("{}: a newcomer got no cookie", self.name));
            cookie.split(';').next().unwrap_or_default().to_owned()
        };
        let cookies = (0..self.clients.count).map(|_| cookie()).collect();
        self.clients.affinity = Affinity::Issued(cookies);
    }

    /// Asks twice for each of a few clients: they must stay, be where the benchmark put them, and get no cookie.
    /// Newcomers must get one from whoever gives cookies.
    pub fn check(&self, hosts: &Hosts) {
        let http = client();
        let mut served = BTreeSet::new();
        for number in 0..PROBES {
            let headers = self.clients.headers(number, hosts);
            let place = || {
                let response = self.get(&http, &headers);
                let cookie = set_cookie(&response);
                let port = response.headers().get("x-served-by").expect("a host's answer");
                (port.to_str().expect("text").parse::<u16>().expect("a port"), cookie)
            };
            let [(first, cookie), (second, again)] = [place(), place()];
            served.insert(first);
            if matches!(self.clients.affinity, Affinity::None) {
                let issues = matches!(self.work, Some(Work::Create));
                assert_eq!(cookie.is_some(), issues, "{}: a newcomer got {cookie:?}", self.name);
                continue;
            }
            assert_eq!(first, second, "{}: client {number} moved", self.name);
            assert_eq!([cookie, again], [None, None], "{}: client {number} got a cookie that it has", self.name);
            if self.clients.know_their_hosts() {
                assert_eq!(first, hosts.of(number), "{}: client {number} is elsewhere", self.name);
            }
        }
        assert!(served.len() > 1, "{}: all clients are on one host", self.name);
    }

    /// Keeps it to the proxy's core.
    pub fn pin(&self, cores: &Cores) {
        cores.give_to_proxy(&self.proxy.processes());
    }

    pub fn pause(&self) {
        accounting::pause(&self.proxy.processes());
    }

    pub fn resume(&self) {
        accounting::resume(&self.proxy.processes());
    }

    /// Loads it without measuring.
    pub fn warm_up(&mut self, clients: &Path) {
        self.load(clients, 1);
    }

    /// Loads it until every client had its turn in one go.
    pub fn meet_all(&mut self, clients: &Path) {
        let count = self.clients.count as u64;
        let met = [1, 2, 4, 8, 16, 32, 64].into_iter().any(|seconds| self.load(clients, seconds).requests >= count);
        assert!(met, "{}: too slow for {count} clients", self.name);
    }

    /// Where it serves: no other contestant does.
    pub fn address(&self) -> &str {
        self.proxy.address()
    }

    /// The processes that it consists of.
    pub fn processes(&self) -> Vec<u32> {
        self.proxy.processes()
    }

    /// Loads it for so many seconds with what stands in the file.
    pub fn measure(&mut self, clients: &Path, seconds: u64) -> Measured {
        let processes = self.proxy.processes();
        let before = accounting::cpu_time(&processes);
        let load = self.load(clients, seconds);
        let cpu = accounting::cpu_time(&processes) - before;
        Measured { load, cpu, resident: accounting::resident(&processes) }
    }

    fn load(&mut self, clients: &Path, seconds: u64) -> Load {
        let load = drive(self.proxy.address(), clients, seconds);
        self.answered += load.requests;
        self.ends += 1;
        load
    }

    /// What the plugin counted so far. It hands its counts over once a second: they are complete when they stay as they are for
    /// longer.
    /// What became of requests and of calls, and what went wrong.
    fn counters(&self) -> BTreeMap<String, u64> {
        const TOLD: [&str; 4] = ["sessions.", "store_calls.", "tokens_refused.", "faults."];
        let Proxy::Envoy(envoy) = &self.proxy else { return BTreeMap::new() };
        let read = || {
            let stats = envoy.admin("/stats?filter=wasmcustom")?;
            let counters = stats.lines().filter_map(|line| line.strip_prefix("wasmcustom.")?.rsplit_once(": "));
            let told = |name: &str| name.strip_prefix("mooring_").is_none_or(|n| TOLD.iter().any(|t| n.starts_with(t)));
            let counters = counters.filter(|(name, _)| told(name));
            Some(counters.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
        };
        let mut last: BTreeMap<String, u64> = eventually("Envoy's counters", read);
        let mut same = 0;
        eventually("the plugin's counters to settle", || {
            std::thread::sleep(Duration::from_millis(100));
            let now = read()?;
            same = if now == last { same + 1 } else { 0 };
            last = now;
            (same > 14).then_some(())
        });
        last
    }

    /// Counting begins.
    pub fn begin_to_count(&mut self) {
        if self.work.is_some() {
            self.counted = self.counters();
        }
        (self.answered, self.ends) = (0, 0);
    }

    /// Since counting began the plugin did with each request what it is measured for, and nothing else.
    pub fn check_counters(&self) {
        let Some(work) = self.work else { return };
        let now = self.counters();
        let moved = |name: &str| now.get(name).map_or(0, |value| value - self.counted.get(name).unwrap_or(&0));
        // Those that were under way when load ended may have been counted too.
        let expected = self.answered..=self.answered + self.ends * CONNECTIONS;
        for name in work.counters() {
            assert!(expected.contains(&moved(name)), "{}: {name}: {} of {expected:?}", self.name, moved(name));
        }
        let cut_off = self.ends * CONNECTIONS;
        let others = now.keys().filter(|name| !work.counters().contains(&name.as_str()));
        let others =
            others.map(|name| (name, moved(name))).filter(|(name, moved)| *moved > work.allowed(name, cut_off));
        let others: Vec<(&String, u64)> = others.collect();
        assert!(others.is_empty(), "{}: this was counted too: {others:?}", self.name);
    }
}

fn client() -> Client {
    Client::builder().no_proxy().http1_only().timeout(Duration::from_secs(10)).build().expect("a client")
}

fn set_cookie(response: &Response) -> Option<String> {
    response.headers().get("set-cookie").map(|value| value.to_str().expect("text").to_owned())
}
