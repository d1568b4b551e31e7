//! The simulation of a fleet (examples/fleet), held against a real one: two Envoys of two workers with envoy/store.yaml, a store, and
//! clients who come as the simulated ones do.

use crate::census::Census;
use crate::clients::Client;
use crate::rotation::now;
use fleet::simulation::{self, Plan, Rules, Spread, Traffic};
use mooring::config::CreateWhen;
use mooring::session::Timeouts;
use mooring_test_kit::fleet::{Fleet, requests};
use mooring_test_kit::servers::store::Store;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;

const SESSIONS: u32 = 120;

/// Requests a second of each client.
const RATE: f64 = 1.5;

/// Of each client, each to either Envoy, where the kernel gives it to either worker.
const CONNECTIONS: usize = 2;

/// For how many seconds, on average, a client keeps a connection.
const HOLD: f64 = 4.0;

/// How long they come, in seconds.
const TIME: f64 = 16.0;

const TTL: Duration = Duration::from_secs(1);

/// In seconds: a cookie is renewed after two.
const IDLE: u32 = 20;

/// So many times as many sessions are simulated: nearly nothing of that is chance.
const OFTEN: u32 = 100;

/// How far the real fleet may be off: it has chance, a machine that is busy, and whole seconds that begin when they like.
const TOLERANCE: f64 = 0.2;

#[test]
fn a_fleet_asks_its_store_as_often_as_the_simulation_says() {
    let store = Store::start(&[]);
    let idle_timeout = format!("{IDLE}s");
    let fleet =
        Fleet::start(&store.address, json!({"cache": {"ttl": "1s"}, "session": {"idle_timeout": idle_timeout}}));
    let sent = send(fleet.iter().map(|proxy| proxy.envoy.address.clone()).collect());
    let census = Census::settled(&fleet);
    fleet.assert_sound();

    let measured_rate = f64::from(sent) / f64::from(SESSIONS) / TIME;
    let mut simulated = simulation::Fleet::new(plan(measured_rate), 1);
    let simulated = simulated.run(TIME);
    let expected = |count: u64| count as f64 / f64::from(OFTEN);

    let begun = census.of("mooring_sessions.outcome=created");
    let lookups = census.lookups();
    let renewals = census.of("mooring_sessions.outcome=renewed");
    let hits = u64::from(sent) - begun - lookups;
    let figures = [
        ("hits", hits, expected(simulated.hits)),
        ("lookups", lookups, expected(simulated.lookups)),
        ("renewals", renewals, expected(simulated.renewals)),
    ];
    eprintln!("{sent} requests, {measured_rate:.3} a second of each of {SESSIONS} clients, for {TIME} s");
    for (name, measured, expected) in figures {
        let off = measured as f64 / expected - 1.0;
        eprintln!("{name}: {measured} measured, {expected:.0} simulated, {:+.1} %", off * 100.0);
    }

    assert_eq!(lookups, requests(&store, "lookup"), "what the store heard");
    // One that comes with the first write of its session may arrive before it.
    assert_eq!(renewals, census.calls("touch", &["ok", "missing"]), "what the store was told of them");
    assert_eq!((begun, census.calls("create", &["ok"])), (SESSIONS.into(), SESSIONS.into()));
    assert_eq!(expected(simulated.begun).round() as u32, SESSIONS);
    assert_eq!(expected(simulated.creates).round() as u32, SESSIONS);
    for (name, measured, expected) in figures {
        assert!(measured > 500, "{name}: too few to tell anything");
        assert!((measured as f64 / expected - 1.0).abs() < TOLERANCE, "{name}: {measured}, not {expected}");
    }
}

fn plan(rate: f64) -> Plan {
    const NEVER: f64 = f64::INFINITY;
    Plan {
        workers: 4,
        sessions: SESSIONS * OFTEN,
        traffic: Traffic { rate, active: NEVER, pause: NEVER, life: NEVER, host_life: NEVER },
        spread: Spread { connections: CONNECTIONS as u32, hold: HOLD },
        rules: Rules {
            ttl: TTL,
            // More than there are sessions, as is true of the real fleet.
            entries: 1_000_000,
            timeouts: Timeouts { absolute: Some(28_800), idle: Some(IDLE), clock_skew: 60 },
            create: CreateWhen::OnReturn,
        },
    }
}

/// Lets all clients come, without a cookie at first. Returns how many requests they sent.
fn send(proxies: Vec<String>) -> u32 {
    let proxies = Arc::new(proxies);
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let until = now() + Duration::from_secs_f64(TIME);
    runtime.block_on(async {
        let clients: Vec<_> = (0..SESSIONS).map(|_| tokio::spawn(come(Arc::clone(&proxies), until))).collect();
        let mut sent = 0;
        for client in clients {
            sent += client.await.expect("a client");
        }
        sent
    })
}

/// A client whose requests come by chance, over connections that it does not keep for long.
async fn come(proxies: Arc<Vec<String>>, until: Instant) -> u32 {
    let mut client = Client::default();
    let mut connections = [const { None::<(usize, Instant)> }; CONNECTIONS];
    let (mut sent, mut next) = (0, now());
    loop {
        // Whatever answers take: what is late is made up for.
        next += exponential(1.0 / RATE);
        if next >= until {
            return sent;
        }
        tokio::time::sleep_until(next.into()).await;
        let slot = fastrand::usize(0..CONNECTIONS);
        let kept = connections[slot].filter(|(_, end)| now() < *end);
        let (proxy, end) = kept.unwrap_or_else(|| {
            client.leave(slot);
            (fastrand::usize(0..proxies.len()), now() + exponential(HOLD))
        });
        connections[slot] = Some((proxy, end));
        let answer = client.get(slot, &proxies[proxy], "/").await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        sent += 1;
    }
}

fn exponential(mean: f64) -> Duration {
    Duration::from_secs_f64(-mean * fastrand::f64().max(f64::MIN_POSITIVE).ln())
}
