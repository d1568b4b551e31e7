//! Many clients at once, each with a session of its own, at a steady rate; and newcomers between them.

use crate::clients::{Answer, Client, Failure};
use crate::rotation::{Rotation, now};
use mooring_test_kit::rig::eventually;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// Of so many requests one is by a client that was never here.
const NEWCOMERS: u32 = 20;

/// Of so many requests one takes the host a while, so that whatever breaks breaks some of them in the middle.
const SLOW: u32 = 10;

/// What a rotation calls an Envoy.
pub const ENVOY: &str = "envoy";

/// A request, and what became of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `None`: a newcomer.
    client: Option<usize>,
    began: Instant,
    pub ended: Instant,
    /// The client had a cookie.
    known: bool,
    /// The host that the session was on before; `None`: on none yet, or it was released.
    home: Option<String>,
    pub result: Result<Answer, Failure>,
}

impl Entry {
    pub fn served(&self) -> Option<&Answer> {
        self.result.as_ref().ok().filter(|answer| answer.status == 200)
    }

    /// What died took the request with it: the host that served it, where Envoy must not send the request again; or
    /// the Envoy that had it.
    pub fn died_with_it(&self, rotation: &Rotation) -> bool {
        match &self.result {
            Ok(answer) => {
                answer.status == 503
                    && answer.body.contains("reset reason: connection termination")
                    && rotation.explains(self.home.as_deref(), self.began, self.ended)
            }
            Err(Failure::Broken(_)) => rotation.was_out(ENVOY, self.began, self.ended),
            Err(Failure::Refused | Failure::TimedOut) => false,
        }
    }

    /// A session that there was goes on, where it was, with the cookie that it had.
    pub fn is_normal(&self) -> bool {
        self.served().is_some_and(|answer| self.client.is_none() || !answer.cookie && answer.host == self.home)
    }

    /// Another host served than before; `Some(true)`: because that one was out of rotation, or had let the session go.
    pub fn moved(&self, rotation: &Rotation) -> Option<bool> {
        let answer = self.served()?;
        match &self.home {
            Some(home) if answer.host.as_ref() != Some(home) => Some(rotation.was_out(home, self.began, self.ended)),
            Some(_) => None,
            None => (self.known && answer.decision == "pinned").then_some(true),
        }
    }

    /// A session that there was is no more: another began in its place.
    pub fn lost(&self) -> bool {
        self.known && self.served().is_some_and(|answer| answer.decision == "created")
    }

    /// A session that there was got a cookie.
    pub fn cookie(&self) -> bool {
        self.known && self.served().is_some_and(|answer| answer.cookie)
    }
}

/// What all clients share.
struct Shared {
    proxies: Arc<RwLock<Vec<String>>>,
    journal: Mutex<Vec<Entry>>,
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    sessions: usize,
    _runtime: Runtime,
}

impl Load {
    /// So many clients that together send so many requests a second to these proxies, each most of the time to one of them.
    pub fn start(proxies: Arc<RwLock<Vec<String>>>, sessions: usize, rate: u32) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let shared = Arc::new(Shared { proxies, journal: Mutex::default() });
        let sessions_u32 = u32::try_from(sessions).expect("a number of sessions");
        let pause = Duration::from_secs(1) * sessions_u32 / rate;
        for at in 0..sessions {
            runtime.spawn(come_back_again_and_again(Arc::clone(&shared), at, pause));
        }
        runtime.spawn(newcomers(Arc::clone(&shared), Duration::from_secs(1) * NEWCOMERS / rate));
        Self { shared, sessions, _runtime: runtime }
    }

    /// How many requests were answered, or failed.
    pub fn answered(&self) -> usize {
        self.shared.journal.lock().expect("a lock").len()
    }

    /// Waits for so many more.
    pub fn serve(&self, requests: usize) {
        let wanted = self.answered() + requests;
        eventually("requests to be served", || (self.answered() >= wanted).then_some(()));
    }

    /// Waits until each session was served normally, after the last that was not. Returns when that was, if it was after `since`.
    pub fn until_normal(&self, since: Instant) -> Option<Instant> {
        eventually("every session to be served as usual", || {
            let journal = self.shared.journal.lock().expect("a lock");
            let (mut settled, mut disturbed) = (BTreeSet::new(), None);
            for entry in journal.iter().rev().take_while(|entry| entry.ended >= since) {
                if !entry.is_normal() {
                    disturbed = Some(entry.ended);
                    break;
                }
                settled.extend(entry.client);
            }
            (settled.len() == self.sessions).then_some(disturbed)
        })
    }

    /// How many requests were under way or began between these instants.
    pub fn between(&self, from: Instant, until: Instant) -> usize {
        let journal = self.shared.journal.lock().expect("a lock");
        journal.iter().filter(|entry| (from..=until).contains(&entry.ended)).count()
    }

    /// Ends it: everything that happened after the first so many requests.
    pub fn stop(self, skip: usize) -> Vec<Entry> {
        let Self { shared, _runtime: runtime, .. } = self;
        runtime.shutdown_timeout(Duration::from_secs(5));
        shared.journal.lock().expect("a lock").split_off(skip)
    }
}

async fn come_back_again_and_again(shared: Arc<Shared>, at: usize, pause: Duration) {
    let mut client = Client::default();
    let mut home = None;
    tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
    let mut ticks = tokio::time::interval(pause);
    loop {
        ticks.tick().await;
        let count = shared.proxies.read().expect("a lock").len();
        let proxy = if fastrand::u32(0..4) == 0 { fastrand::usize(0..count) } else { at % count };
        let slow = fastrand::u32(0..SLOW) == 0;
        let entry = send(&shared, &mut client, Some(at), proxy, if slow { "/?delay_ms=30" } else { "/" }, &home).await;
        if let Some(answer) = entry.served() {
            match answer.decision.as_str() {
                "released" => home = None,
                // The session was not told to follow.
                "kept" | "pin_ignored" | "untouched" => {}
                _ => home = answer.host.clone(),
            }
        }
        shared.journal.lock().expect("a lock").push(entry);
    }
}

async fn newcomers(shared: Arc<Shared>, pause: Duration) {
    let mut ticks = tokio::time::interval(pause);
    loop {
        ticks.tick().await;
        let count = shared.proxies.read().expect("a lock").len();
        let entry = send(&shared, &mut Client::default(), None, fastrand::usize(0..count), "/", &None).await;
        shared.journal.lock().expect("a lock").push(entry);
    }
}

/// Where a proxy does not listen, the next one is asked, as a load balancer of connections would.
async fn send(
    shared: &Shared,
    client: &mut Client,
    at: Option<usize>,
    proxy: usize,
    path: &str,
    home: &Option<String>,
) -> Entry {
    let (began, known) = (now(), client.jar.cookie().is_some());
    let proxies = shared.proxies.read().expect("a lock").clone();
    let mut result = Err(Failure::Refused);
    for turn in 0..proxies.len() {
        let proxy = (proxy + turn) % proxies.len();
        result = client.get(proxy, &proxies[proxy], path).await;
        if !matches!(result, Err(Failure::Refused)) {
            break;
        }
    }
    Entry { client: at, began, ended: now(), known, home: home.clone(), result }
}
