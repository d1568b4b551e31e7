//! Hostile clients and hostile hosts, with clean clients beside them.

use super::cases::Tokens;
use super::tally::{Span, Tally};
use super::upstream::Hosts;
use super::wire::PATIENCE;
use super::{http1, http2, number, seed};
use crate::protocols::raw;
use fastrand::Rng;
use mooring_test_kit::memory::Footprint;
use mooring_test_kit::rig::{Bootstrap, Envoy, EnvoyWorld, eventually};
use mooring_test_kit::world::{Bridge, plugin};
use reqwest::blocking::Client;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many connections are open at a time.
const CONNECTIONS: usize = 24;

const WORKERS: u32 = 2;

/// Sessions outlast every run, and none of them is renewed in one.
fn configuration() -> serde_json::Value {
    plugin(json!({"session": {"absolute_timeout": "24h", "idle_timeout": "8h"}}))
}

/// Envoy with the shipped config, less what it does for the plugin: early header mutation, and taking `x-mooring-host` from requests
/// to the upstream. What is internal must stay so all the same.
fn start(hosts: &Hosts, adjust: impl FnOnce(&mut Bootstrap)) -> EnvoyWorld {
    let mut bootstrap = bootstrap(hosts);
    adjust(&mut bootstrap);
    EnvoyWorld::run(bootstrap, Vec::new(), WORKERS)
}

fn bootstrap(hosts: &Hosts) -> Bootstrap {
    let addresses: Vec<&str> = hosts.addresses.iter().map(String::as_str).collect();
    let (app, other) = addresses.split_at(3);
    let mut bootstrap = Bootstrap::new(Bridge::StatefulSession, app, other);
    bootstrap.set_plugin(&configuration());
    bootstrap.enable_trailers();
    let http = bootstrap.http().as_object_mut().expect("a connection manager");
    http.remove("early_header_mutation_extensions").expect("early header mutation");
    http.remove("access_log");
    let routes = bootstrap.http()["route_config"]["virtual_hosts"][0].as_object_mut().expect("a virtual host");
    routes.remove("request_headers_to_remove").expect("a header to remove");
    bootstrap.trust_hosts();
    bootstrap
}

/// Clients that do nothing wrong, and are served all the while.
struct CleanClients {
    over: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl CleanClients {
    /// A few sessions, each on connections that stay open and on new ones, over HTTP/1.1 and HTTP/2.
    fn start(url: &str) -> Self {
        let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = |over_http1: bool| {
            let (url, over, served) = (url.to_owned(), Arc::clone(&over), Arc::clone(&served));
            std::thread::spawn(move || {
                let builder = || Client::builder().no_proxy().timeout(PATIENCE);
                let http1 = || builder().http1_only().build().expect("a client");
                let http2 = || builder().http2_prior_knowledge().build().expect("a client");
                let kept = if over_http1 { http1() } else { http2() };
                let (home, cookie, _) = get(&kept, &url, None);
                let pair = cookie.expect("a cookie").split(';').next().expect("a pair").to_owned();
                for turn in 0u64.. {
                    let client = match turn % 8 {
                        0 => http1(),
                        4 => http2(),
                        _ => kept.clone(),
                    };
                    let answer = get(&client, &url, Some(&pair));
                    assert_eq!(answer, (home.clone(), None, "resumed".to_owned()), "a clean client, turn {turn}");
                    served.fetch_add(1, Ordering::Relaxed);
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    // They are there to be served, not to be a load.
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
        };
        let threads = [true, false, true, false].map(thread).into();
        Self { over, served, threads }
    }

    /// Serves them once more, and says how often they were.
    fn stop(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .for_each(|thread| thread.join().expect("a clean client is always served, on its host"));
        self.served.load(Ordering::Relaxed)
    }
}

/// The host, a new cookie, and the decision.
fn get(client: &Client, url: &str, cookie: Option<&str>) -> (String, Option<String>, String) {
    let mut request = client.get(url);
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    let response = request.send().expect("a response");
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.text().expect("a body");
    assert_eq!(status, 200, "{headers:?}, {body}");
    let header = |name| headers.get(name).map(|value| value.to_str().expect("text").to_owned());
    (header("x-served-by").expect("a host"), header("set-cookie"), header("x-decision").expect("a decision"))
}

/// Has clients converse until so many requests are sent. `turn` counts conversations: each draws from the seed and its number.
async fn converse(
    address: &str,
    seed: u64,
    turn: &Arc<AtomicU64>,
    tokens: &Arc<Tokens>,
    tally: &Arc<Mutex<Tally>>,
    until: u64,
) {
    let client = || {
        let (address, turn, tokens, tally) =
            (address.to_owned(), Arc::clone(turn), Arc::clone(tokens), Arc::clone(tally));
        async move {
            while tally.lock().expect("a lock").requests() < until {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                let mut rng = Rng::with_seed(seed.wrapping_add(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                let mut own = Tally::default();
                let conversation = async {
                    match turn % 5 {
                        0..3 => http1::converse(&address, &mut rng, &tokens, &mut own).await,
                        3 => http2::converse(&address, &mut rng, &tokens, &mut own).await,
                        _ => http2::converse_in_frames(&address, &mut rng, &tokens, &mut own).await,
                    }
                };
                if tokio::time::timeout(PATIENCE, conversation).await.is_err() {
                    own.wrong.push(format!("conversation {turn} hangs"));
                }
                tally.lock().expect("a lock").add(own);
            }
        }
    };
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(client())).collect();
    for client in clients {
        client.await.expect("a client");
    }
}

#[test]
fn nothing_that_clients_and_hosts_send_stops_the_plugin_or_fools_it() {
    let requests = number("MOORING_HOSTILE_REQUESTS").unwrap_or(100_000);
    let seed = seed();
    eprintln!("MOORING_HOSTILE_SEED={seed} MOORING_HOSTILE_REQUESTS={requests}");
    let hosts = Hosts::start();
    let mut world = start(&hosts, |_| ());
    let tokens = Arc::new(Tokens::new(&mut Rng::with_seed(seed), &hosts.addresses));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let clean = CleanClients::start(&world.url("/"));
    let (turn, tally) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Tally::default())));

    #[allow(clippy::disallowed_methods)]
    let begun = std::time::Instant::now();
    let run = |until| runtime.block_on(converse(&world.envoy.address, seed, &turn, &tokens, &tally, until));
    run(requests / 5);
    let warm = Footprint::of(&world.envoy);
    let warm_vms = vms(&world.envoy);
    run(requests);
    let took = begun.elapsed();
    let clean_requests = clean.stop();
    world.envoy.assert_running();
    let envoy = &world.envoy;
    eventually("nothing to be under way", || (envoy.stat("http.http.downstream_rq_active") == 0).then_some(()));
    let counts = settled(&world);
    let end = Footprint::of(envoy);

    let tally = std::mem::take(&mut *tally.lock().expect("a lock"));
    let Tally { sent, came, decisions, good, refused, reasons, wrong } = &tally;
    eprintln!("{:?} in {took:?}; {came:?}; by decision {decisions:?}", sent);
    eprintln!("good tokens {good:?}, refused {refused:?}, of them {reasons:?}");
    eprintln!("clean requests {clean_requests}, at hosts {}", hosts.seen.requests.load(Ordering::Relaxed));
    eprintln!("warmed up {warm:?}, at the end {end:?}");
    eprintln!("{counts:?}");

    assert!(wrong.is_empty(), "seed {seed}: {} answers are wrong, the first: {}", wrong.len(), wrong[0]);
    let answered = tally.requests() - came.get("nothing").copied().unwrap_or(0);
    assert!(answered > requests / 2, "seed {seed}: {answered} were answered");
    hosts.assert_nothing_leaked();
    world.assert_sound();
    assert_eq!(vms(envoy), warm_vms, "a VM came or went");
    let count = |name: &str| counts.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count);
    let sum = |of: &str| counts.iter().filter(|(name, _)| name.starts_with(of)).map(|(_, count)| count).sum::<u64>();
    // What the clean clients add: their first visits, and what followed.
    let clean = |span: &Span| Span { sent: span.sent + clean_requests, seen: span.seen + clean_requests };
    clean(good).assert_holds(sum("mooring_sessions.outcome=resumed"), "sessions resumed");
    refused.assert_holds(sum("mooring_tokens_refused"), "tokens refused");
    for (reason, span) in reasons {
        let count = count(&format!("mooring_tokens_refused.reason={reason}"));
        assert!(count >= span.seen, "{count} of {reason}, against {span:?}");
        // What was altered may be refused for these as well; the others take a tag that holds.
        let forged = ["malformed", "unknown_key", "bad_tag"].contains(reason);
        assert!(forged || count <= span.sent, "{count} of {reason}, against {span:?}");
    }
    let passed: u64 = decisions.values().sum();
    let all = Span { sent: tally.requests() + clean_requests + 4, seen: passed + clean_requests + 4 };
    all.assert_holds(sum("mooring_sessions."), "outcomes");
    assert_eq!(sum("mooring_faults.kind=proxy_call") + sum("mooring_faults.kind=randomness"), 0);
    end.assert_flat_since(&warm, 30);
}

/// How many VMs there have been, and how many there are.
fn vms(envoy: &Envoy) -> (u64, u64) {
    let of_v8 = |what| envoy.stat(&format!("wasm.envoy.wasm.runtime.v8.{what}"));
    let counts = (of_v8("created"), of_v8("active"));
    assert_ne!(counts.1, 0, "Envoy counts its VMs under another name");
    counts
}

/// Whether two answers are one, but for their header lines.
fn same(one: &str, other: &str) -> bool {
    let parts = |answer: &str| {
        let (head, body) = answer.rsplit_once("\n\n").unwrap_or((answer, ""));
        let statuses = head.lines().filter(|line| line.starts_with("HTTP/1.1 ")).map(str::to_owned);
        (statuses.collect::<Vec<_>>(), body.to_owned())
    };
    parts(one) == parts(other)
}

#[test]
fn what_a_hostile_host_answers_comes_as_it_would_without_the_plugin() {
    let seed = seed();
    let hosts = Hosts::start();
    let with = start(&hosts, |_| ());
    let without = start(&hosts, |bootstrap| {
        let filters = bootstrap.http()["http_filters"].as_array_mut().expect("filters");
        filters.retain(|filter| filter["name"] == "envoy.filters.http.router");
    });
    let mut rng = Rng::with_seed(seed);
    let mut statuses = BTreeMap::<String, u32>::new();
    for _ in 0..400 {
        let path = format!("/other/{}", rng.u64(..));
        let head = ["GET", "HEAD", "POST"][rng.usize(..3)];
        let request = format!("{head} {path} HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close\r\n\r\n");
        let ask = |world: &EnvoyWorld| raw(&world.envoy.address, request.as_bytes());
        // A host that resets its connection races with itself, and one of the two Envoys may be in front.
        let found = (0..50).map(|_| (ask(&with), ask(&without))).find(|(one, other)| same(one, other));
        let (answer, _) =
            found.unwrap_or_else(|| panic!("seed {seed}: {head} {path}: {} | {}", ask(&with), ask(&without)));
        let internal = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("x-mooring"));
        assert_eq!(internal, None, "seed {seed}: {head} {path}");
        *statuses.entry(answer.lines().next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    eprintln!("{statuses:?}");
    with.assert_sound();
    hosts.assert_nothing_leaked();
}

/// The plugin's counters, once they have stayed the same for longer than it takes to hand them over.
fn settled(world: &EnvoyWorld) -> Vec<(String, u64)> {
    let mut last = (String::new(), 0);
    let stats = eventually("the plugin's counts", || {
        let stats = world.envoy.admin("/stats?filter=^wasmcustom")?;
        last = if stats == last.0 { (stats, last.1 + 1) } else { (stats, 0) };
        std::thread::sleep(Duration::from_millis(50));
        (last.1 > 25).then(|| last.0.clone())
    });
    let count = |line: &str| {
        let (name, count) = line.strip_prefix("wasmcustom.")?.split_once(": ")?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    stats.lines().filter_map(count).filter(|(_, count)| *count > 0).collect()
}
