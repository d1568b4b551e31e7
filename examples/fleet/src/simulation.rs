//! A fleet of proxies in virtual time: what clients send, what workers know, and what is asked of the store.
//!
//! What decides is the plugin's own: [`Cache`] (what a worker knows, and for how long) and [`Timeouts`] (when a cookie is renewed, and
//! when a session is over). When the store is asked and told follows `docs/store.md`, "What is asked when".
//!
//! A store answers at once, and so does a host: nobody waits for another's lookup, and no two requests of a client overlap. Nothing
//! fails, nobody logs in or out, and caches stay as they are: there are no deployments and no reloads.
//!
//! All that happens by chance happens without memory, so the next event is drawn from the sum of all rates (Gillespie's method):
//! there is no queue, and an event costs the same with ten clients and with ten million. Times are in seconds.

use mooring::clock::{Monotonic, UnixTime};
use mooring::config::CreateWhen;
use mooring::credential::keyring::KeyPosition;
use mooring::session::pin::Pins;
use mooring::session::{Session, SessionId, Timeouts};
use mooring::store::cache::{Cache, Entry, Record};
use std::time::Duration;

/// When the simulation begins. Far from 0: grown sessions began before it.
const START: u32 = 1_800_000_000;

/// With no absolute timeout, and clients that never leave, grown sessions are up to this old.
const OLDEST: f64 = 86_400.0;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of all proxies together.
    pub workers: u32,
    /// Clients that have a session and will come back.
    pub sessions: u32,
    /// What clients send.
    pub traffic: Traffic,
    /// How it is spread over the proxies.
    pub spread: Spread,
    /// What the plugin is configured with.
    pub rules: Rules,
}

impl Plan {
    /// The same with so much of the sessions, and of the entries of each cache: a worker knows as much of its sessions, and
    /// whatever is counted is so much of the whole. Exact but for chance where caches are large enough, and near where they are not.
    pub fn part(&self, part: f64) -> Self {
        let of = |number: u32| (f64::from(number) * part).round().max(1.0) as u32;
        let rules = Rules { entries: of(self.rules.entries), ..self.rules };
        Self { sessions: of(self.sessions), rules, ..self.clone() }
    }
}

/// What clients do. Durations are means; what takes for ever never comes.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Requests a second of a client while it is active.
    pub rate: f64,
    /// How long it is active. A client that becomes active again sends a request at once.
    pub active: f64,
    /// How long it pauses then. Not 0: a client that never pauses is active for ever.
    pub pause: f64,
    /// How long it comes back before it never does. Another comes in its place, without a cookie.
    pub life: f64,
    /// How long a session's host lives.
    pub host_life: f64,
}

/// Which worker a request meets.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// A client's requests go over any of so many connections, each to any worker.
    pub connections: u32,
    /// The mean time for which a connection is kept. 0: each request goes to any worker.
    pub hold: f64,
}

/// The plugin's configuration, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `cache.ttl`.
    pub ttl: Duration,
    /// `cache.entries`.
    pub entries: u32,
    /// `session`.
    pub timeouts: Timeouts,
    /// `store.create`.
    pub create: CreateWhen,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub requests: u64,
    /// Without a valid cookie: a session begins.
    pub begun: u64,
    /// Of a session that the worker knows.
    pub hits: u64,
    /// Of one that it asks the store for.
    pub lookups: u64,
    /// First writes of a session.
    pub creates: u64,
    /// Cookies issued anew because it is time; each of them touches the session in the store.
    pub renewals: u64,
    /// Sessions that got another host.
    pub moves: u64,
}

impl Counts {
    /// Of the requests with a session, those that cost no lookup.
    pub fn hit_ratio(&self) -> f64 {
        self.hits as f64 / (self.hits + self.lookups).max(1) as f64
    }

    /// `Set-Cookie` lines.
    pub fn cookies(&self) -> u64 {
        self.begun + self.renewals + self.moves
    }
}

/// What a client's cookie says, and what has become of its session.
#[derive(Clone, Copy)]
struct Cookie {
    id: u64,
    /// Seconds since the epoch, as is the next.
    created: u32,
    renewed: u32,
    generation: u32,
    /// The store has it. If so, then as the cookie does: no write is late here.
    stored: bool,
    host_gone: bool,
}

impl Cookie {
    fn session(&self, timeouts: &Timeouts) -> Session {
        let begun = Session::begin(SessionId(u128::from(self.id).to_be_bytes()), seconds(self.created), timeouts);
        Session { renewed: seconds(self.renewed), generation: self.generation, ..begun }
    }
}

fn seconds(time: u32) -> UnixTime {
    UnixTime(time.into())
}

#[derive(Clone, Copy)]
struct Connection {
    worker: u32,
    until: f64,
}

/// None: the next request makes one.
const CLOSED: Connection = Connection { worker: 0, until: 0.0 };

/// The fleet, its clients and its store.
pub struct Fleet {
    plan: Plan,
    random: fastrand::Rng,
    now: f64,
    clients: Vec<Option<Cookie>>,
    /// Those of a client stand together.
    connections: Vec<Connection>,
    active: Vec<u32>,
    pausing: Vec<u32>,
    /// What each worker knows.
    caches: Vec<Cache>,
    ids: u64,
    counts: Counts,
}

impl Fleet {
    /// All clients are active and have no cookie yet.
    pub fn new(plan: Plan, seed: u64) -> Self {
        let caches = (0..plan.workers).map(|_| Cache::new(plan.rules.entries, plan.rules.ttl)).collect();
        Self {
            random: fastrand::Rng::with_seed(seed),
            now: 0.0,
            clients: vec![None; plan.sessions as usize],
            connections: vec![CLOSED; plan.sessions as usize * plan.spread.connections as usize],
            active: (0..plan.sessions).collect(),
            pausing: Vec::new(),
            caches,
            ids: 0,
            counts: Counts::default(),
            plan,
        }
    }

    /// Clients that have been at it for long: their sessions are of every age, and known to the store. Caches are empty.
    pub fn grown(plan: Plan, seed: u64) -> Self {
        let mut fleet = Self::new(plan, seed);
        let Traffic { active, pause, life, .. } = fleet.plan.traffic;
        let timeouts = fleet.plan.rules.timeouts;
        let oldest = timeouts.absolute.map_or(OLDEST, f64::from);
        let interval = timeouts.idle.map_or(OLDEST, |idle| f64::from(idle) / 10.0);
        let pauses = if active.is_finite() { pause / (active + pause) } else { 0.0 };
        for client in std::mem::take(&mut fleet.active) {
            let age = if life.is_finite() { fleet.exponential(life) % oldest } else { fleet.random.f64() * oldest };
            let mut unrenewed = fleet.random.f64() * interval;
            if fleet.random.f64() < pauses {
                unrenewed += fleet.exponential(pause);
                fleet.pausing.push(client);
            } else {
                fleet.active.push(client);
            }
            let before = |ago: f64| START - ago as u32;
            fleet.clients[client as usize] = Some(Cookie {
                id: fleet.next_id(),
                created: before(age),
                renewed: before(unrenewed.min(age)),
                generation: 0,
                stored: true,
                host_gone: false,
            });
        }
        fleet
    }

    /// Lets time pass. Returns what happened meanwhile.
    pub fn run(&mut self, time: f64) -> Counts {
        self.counts = Counts::default();
        let until = self.now + time;
        let Traffic { rate, active, pause, life, host_life } = self.plan.traffic;
        let all = self.clients.len() as f64;
        loop {
            let (awake, pausing) = (self.active.len() as f64, self.pausing.len() as f64);
            let rates = [awake * rate, awake / active, pausing / pause, all / life, all / host_life];
            let total: f64 = rates.iter().sum();
            self.now += self.exponential(1.0 / total);
            if self.now >= until {
                // What would have been next is forgotten: chance has no memory.
                self.now = until;
                return self.counts;
            }
            let mut at = self.random.f64() * total;
            let event = rates.iter().position(|rate| {
                at -= rate;
                at < 0.0
            });
            match event {
                Some(0) => {
                    let client = self.active[self.random.usize(0..self.active.len())];
                    self.request(client);
                }
                Some(1) => {
                    let client = swap_remove_any(&mut self.active, &mut self.random);
                    self.pausing.push(client);
                }
                Some(2) => {
                    let client = swap_remove_any(&mut self.pausing, &mut self.random);
                    self.active.push(client);
                    self.request(client);
                }
                Some(3) => self.replace_any(),
                Some(4) => {
                    let client = self.random.usize(0..self.clients.len());
                    self.clients[client].iter_mut().for_each(|cookie| cookie.host_gone = true);
                }
                // What rounding leaves over.
                _ => {}
            }
        }
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.random.f64().max(f64::MIN_POSITIVE).ln()
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        // As good as random, and never the same twice: odd factors are bijections.
        self.ids.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    /// Somebody never comes back, and somebody else is there for the first time.
    fn replace_any(&mut self) {
        let at = self.random.usize(0..self.clients.len());
        let client = match at.checked_sub(self.active.len()) {
            None => self.active[at],
            Some(at) => {
                let client = self.pausing.swap_remove(at);
                self.active.push(client);
                client
            }
        };
        self.clients[client as usize] = None;
        let connections = self.plan.spread.connections as usize;
        self.connections[client as usize * connections..][..connections].fill(CLOSED);
        self.request(client);
    }

    /// The worker that the client's next request meets.
    fn worker(&mut self, client: u32) -> usize {
        let Spread { connections, hold } = self.plan.spread;
        let at = client as usize * connections as usize + self.random.usize(0..connections as usize);
        if self.now >= self.connections[at].until {
            let until = self.now + self.exponential(hold);
            self.connections[at] = Connection { worker: self.random.u32(0..self.plan.workers), until };
        }
        self.connections[at].worker as usize
    }

    /// A request and its response.
    fn request(&mut self, client: u32) {
        self.counts.requests += 1;
        let Rules { timeouts, create, .. } = self.plan.rules;
        let now = Monotonic(Duration::from_secs_f64(self.now));
        let clock = START + self.now as u32;
        let worker = self.worker(client);
        let known = self.clients[client as usize].map(|cookie| (cookie, cookie.session(&timeouts)));
        let Some((mut cookie, session)) = known.filter(|(_, session)| timeouts.check(session, seconds(clock)).is_ok())
        else {
            self.counts.begun += 1;
            let stored = create == CreateWhen::AtOnce;
            let id = self.next_id();
            let cookie = Cookie { id, created: clock, renewed: clock, generation: 0, stored, host_gone: false };
            if stored {
                self.counts.creates += 1;
                self.caches[worker].learn(cookie.session(&timeouts).id, record(0), now, now);
            }
            self.clients[client as usize] = Some(cookie);
            return;
        };
        let cache = &mut self.caches[worker];
        match cache.get(&session.id, now) {
            Some(Entry::Session(record)) if session.generation <= record.generation => self.counts.hits += 1,
            Some(_) | None => {
                self.counts.lookups += 1;
                if !cookie.stored {
                    cache.learn(session.id, Entry::Missing, now, now);
                    self.counts.creates += 1;
                    cookie.stored = true;
                }
                // The answer to the lookup, or to the write.
                cache.learn(session.id, record(session.generation), now, now);
            }
        }
        if cookie.host_gone {
            self.counts.moves += 1;
            (cookie.host_gone, cookie.generation, cookie.renewed) = (false, cookie.generation + 1, clock);
            cache.change(session.id, cookie.generation, &session.pins, now);
            cache.learn(session.id, record(cookie.generation), now, now);
        } else if timeouts.renewal_due(&session, seconds(clock)) {
            self.counts.renewals += 1;
            cookie.renewed = clock;
        }
        self.clients[client as usize] = Some(cookie);
    }
}

/// What the store has of a session.
fn record(generation: u32) -> Entry {
    Entry::Session(Record { generation, pins: Pins::default(), version: None, age: KeyPosition::Current })
}

fn swap_remove_any(clients: &mut Vec<u32>, random: &mut fastrand::Rng) -> u32 {
    clients.swap_remove(random.usize(0..clients.len()))
}
