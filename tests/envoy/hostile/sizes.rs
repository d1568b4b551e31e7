//! What is large or deep costs a bounded amount of memory, and no stack.

use super::upstream::Hosts;
use crate::protocols::raw;
use mooring_test_kit::browser::Browser;
use mooring_test_kit::memory::{PAGE, wasm_memories};
use mooring_test_kit::rig::{Bootstrap, EnvoyWorld};
use mooring_test_kit::world::{Bridge, Setup, World, plugin};
use serde_json::json;

/// So many bytes of memory for each byte of a request's headers, and so many beside. A line counts for 32 bytes more than it has, as
/// in HTTP/2 (RFC 9113, section 6.5.2).
const FACTOR: u64 = 8;
const BESIDE: u64 = 4 * PAGE;

/// An Envoy with one worker that lets through whatever an Envoy can let through.
fn generous(hosts: &Hosts) -> EnvoyWorld {
    let addresses: Vec<&str> = hosts.addresses.iter().map(String::as_str).collect();
    let (app, other) = addresses.split_at(3);
    let mut bootstrap = Bootstrap::new(Bridge::StatefulSession, app, other);
    bootstrap.set_plugin(&plugin(json!({})));
    bootstrap.http()["max_request_headers_kb"] = 8192.into();
    bootstrap.http()["common_http_protocol_options"]["max_headers_count"] = 30_000.into();
    bootstrap.trust_hosts();
    EnvoyWorld::run(bootstrap, Vec::new(), 1)
}

/// Sends a request with these header lines, and returns the head of the answer.
fn get(world: &EnvoyWorld, lines: &str) -> String {
    let answer =
        raw(&world.envoy.address, format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 "), "{} bytes: {:?}", lines.len(), answer.lines().next());
    answer
}

fn line<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_request_of_any_size_takes_memory_in_proportion_and_is_served_on_its_host() {
    let hosts = Hosts::start();
    let world = generous(&hosts);
    let first = get(&world, "");
    let home = line(&first, "x-served-by").expect("a host").to_owned();
    let ours = line(&first, "set-cookie").and_then(|cookie| cookie.split(';').next()).expect("a cookie").to_owned();
    let begun: u64 = wasm_memories(world.envoy.pid()).iter().sum();
    let mut largest = 0u64;
    let mut largest_lines = String::new();
    for size in [1, 60_000, 1 << 20, 4 << 20, 8_300_000] {
        let many = format!("x-line: {}\r\n", "y".repeat(size / 25_000));
        for (form, lines) in [
            ("a cookie", format!("cookie: {ours}; a={}\r\n", "x".repeat(size))),
            ("cookies", format!("cookie: {}{ours}\r\n", "c=1; ".repeat(size / 5))),
            ("cookies of our name", format!("cookie: {ours}; {}\r\n", "m=1; ".repeat(size / 5))),
            (
                "lines of cookies",
                format!("cookie: {ours}\r\n{}", format!("cookie: c={}\r\n", "d".repeat(size / 25_000)).repeat(20_000)),
            ),
            ("lines", format!("cookie: {ours}\r\n{}", many.repeat(20_000))),
        ] {
            // What is as long as Envoy lets through at most.
            if lines.len() > 8_300_000 + 500 {
                continue;
            }
            let before: u64 = wasm_memories(world.envoy.pid()).iter().sum();
            let answer = get(&world, &lines);
            assert_eq!(line(&answer, "x-decision"), Some("resumed"), "{form}, {size}");
            assert_eq!(line(&answer, "x-served-by"), Some(home.as_str()), "{form}, {size}");
            let after: u64 = wasm_memories(world.envoy.pid()).iter().sum();
            let counted = (lines.len() + lines.matches('\n').count() * 32) as u64;
            if counted >= largest {
                (largest, largest_lines) = (counted, lines.clone());
            }
            eprintln!(
                "{form}: {} bytes of headers, counted as {counted}: {} bytes over {begun}",
                lines.len(),
                after - begun
            );
            // What came before was no larger.
            assert!(after - begun <= FACTOR * largest + BESIDE, "{form}, {size}: {before}, then {after}");
        }
    }
    // Once more, and again: it is used anew.
    let before = wasm_memories(world.envoy.pid());
    (0..4).for_each(|_| drop(get(&world, &largest_lines)));
    let after = wasm_memories(world.envoy.pid());
    assert!(after.iter().zip(&before).all(|(after, before)| after <= &(before + PAGE)), "{before:?}, then {after:?}");
    world.assert_sound();
    hosts.assert_nothing_leaked();
}

#[test]
fn a_configuration_of_any_depth_is_refused_and_the_old_one_serves_on() {
    let mut world = EnvoyWorld::start(Setup::with(json!({})));
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    for (open, levels) in [
        ("[", 200_000),
        ("{\"keys\":", 100_000),
        ("{\"keys\":[", 127),
        ("[{\"store\":[", 100_000),
        ("\"", 1),
        ("\u{1}", 1),
    ] {
        world.bootstrap.wasm()["configuration"]["value"] = open.repeat(levels).into();
        let listeners = world.bootstrap.0["static_resources"]["listeners"].clone();
        assert!(!world.envoy.reload(&listeners), "{levels} of {open} were accepted");
        for _ in 0..4 {
            let next = browser.get(&mut world, "/");
            assert_eq!((next.host(), next.decision()), (home.as_str(), "resumed".into()), "after {levels} of {open}");
        }
    }
    world.assert_sound();
}
