//! The long run: two Envoys and a store under a steady load of short lives, hosts that go down and come back, and reloads.
//!
//! Sessions are born, renewed, moved, rotated, released, ended, left to expire, and found again too late; clients send garbage in
//! between. Each of them is followed: whatever happens to it, the client knows what must not.

mod life;
mod processes;
mod report;
mod tally;

use crate::rotation::{Rotation, now};
use life::{Life, Site};
use mooring_test_kit::fleet::{Fleet, Plan, configuration};
use mooring_test_kit::rig::Launch;
use mooring_test_kit::servers::redis::Redis;
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::world::{HostState, World as _};
use report::Report;
use serde_json::json;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tally::Tally;
use tokio::runtime::{Builder, Runtime};

/// Short, so that everything that a session can come to happens within a minute or two.
const IDLE: Duration = Duration::from_secs(30);
const ABSOLUTE: Duration = Duration::from_secs(120);
const TTL: Duration = Duration::from_secs(10);

/// How often a host leaves, and for how long.
const FAULT_EVERY: u32 = 75;
const FAULT_LASTS: u32 = 10;

/// How long clients of an old configuration keep it, in seconds.
const DRAIN: [&str; 2] = ["--drain-time-s", "20"];

fn number(variable: &str, otherwise: u32) -> u32 {
    #[allow(clippy::disallowed_methods)]
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty());
    text.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}: a number is wanted")))
}

fn plugin(version: u32) -> serde_json::Value {
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    json!({
        "session": {"idle_timeout": seconds(IDLE), "absolute_timeout": seconds(ABSOLUTE)},
        "store": {"timeout": "100ms"},
        // What differs from reload to reload.
        "cache": {"ttl": seconds(TTL), "entries": 2000 + version},
    })
}

fn addresses(fleet: &Fleet) -> [String; 2] {
    [0, 1].map(|at| fleet[at].envoy.address.clone())
}

/// Starts lives at a steady rate.
async fn give_birth(site: Arc<Site>, births_per_minute: u32) {
    let mut ticks = tokio::time::interval(Duration::from_secs(60) / births_per_minute);
    loop {
        ticks.tick().await;
        tokio::spawn(Life::begin(Arc::clone(&site)).live());
    }
}

/// A host's way out of rotation and back, one after the other.
struct Faults {
    count: usize,
    out: Option<&'static str>,
}

impl Faults {
    fn leave(&mut self, fleet: &mut Fleet, rotation: &Rotation) {
        let host = ["a", "b", "c", "d", "e"][self.count % 5];
        rotation.leaves(host);
        match self.count % 3 {
            0 => fleet.set_host(host, HostState::Dead),
            1 => fleet.set_host(host, HostState::Unhealthy),
            _ => {
                let at = fleet[0].hosts.iter().position(|known| known.name == host).expect("a host");
                fleet[0].hosts[at].control("drain");
            }
        }
        (self.count, self.out) = (self.count + 1, Some(host));
    }

    fn come_back(&mut self, fleet: &mut Fleet, rotation: &Rotation) {
        let Some(host) = self.out.take() else { return };
        let at = fleet[0].hosts.iter().position(|known| known.name == host).expect("a host");
        // A dead host begins anew.
        if (self.count - 1) % 3 == 2 {
            fleet[0].hosts[at].control("undrain");
        }
        fleet.set_host(host, HostState::Healthy);
        rotation.is_back(host);
    }
}

#[test]
#[ignore = "an hour: make soak"]
fn what_a_long_run_shows_stays_within_its_bounds() {
    let seconds = number("MOORING_SOAK_SECONDS", 3600);
    let births = number("MOORING_SOAK_BIRTHS", 1200);
    let redis = Redis::start();
    let store = Store::start(&["--redis", &redis.url()]);
    let plan = Plan { launch: Launch::with(&DRAIN), ..Plan::new(plugin(0)) };
    let mut fleet = Fleet::of(&store.address, plan);
    let rotation = Rotation::default();
    let site =
        Arc::new(Site { proxies: RwLock::new(addresses(&fleet)), rotation: rotation.clone(), tally: Tally::default() });
    let runtime: Runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let births = runtime.spawn(give_birth(Arc::clone(&site), births));

    let minute = (seconds / 10).clamp(1, 60);
    let reload_every = (seconds / 12).max(20);
    let mut report = Report::begin(&fleet, &store, &redis, minute);
    let mut faults = Faults { count: 0, out: None };
    let begun = now();
    for second in 1..=seconds {
        std::thread::sleep((begun + Duration::from_secs(second.into())).saturating_duration_since(now()));
        match second % FAULT_EVERY {
            0 => faults.leave(&mut fleet, &rotation),
            FAULT_LASTS => faults.come_back(&mut fleet, &rotation),
            _ => {}
        }
        if second % reload_every == 0 {
            for proxy in fleet.iter_mut() {
                proxy.reconfigure(configuration(plugin(second)));
            }
            *site.proxies.write().expect("a lock") = addresses(&fleet);
        }
        if second % minute == 0 {
            report.line(&fleet, &store, &redis, &site.tally, second);
        }
    }
    births.abort();
    runtime.shutdown_background();
    report.conclude(&fleet, &site.tally, seconds);
}
