//! What clients send that no library would: raw bytes, spoofed headers, many connections at once.

use crate::protocols::raw;
use mooring_test_kit::browser::Browser;
use mooring_test_kit::rig::EnvoyWorld;
use mooring_test_kit::world::{HostState, Request, Setup, World};
use serde_json::json;

fn default() -> EnvoyWorld {
    EnvoyWorld::start(Setup::with(json!({})))
}

#[test]
fn whatever_a_client_sends_the_next_request_is_served() {
    let mut world = default();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let token = browser.cookie().expect("a cookie").to_owned();
    let many = format!("Cookie: {}", "m=x; ".repeat(300));
    let long = format!("Cookie: m={}", "y".repeat(50_000));
    for lines in [
        vec![&b"Cookie: a=\xff"[..]],
        vec![b"Cookie: \xff\xfe\xfd=\x80; m=\xff"],
        vec![b"Cookie:"],
        vec![b"Cookie:   \t "],
        vec![b"cookie: m=", b"COOKIE: m=\"", b"Cookie: m=m1e.new..", b"Cookie: m=....."],
        vec![
            b"Cookie: m=m1e.new.AAAA.AAAA",
            b"x-mooring-host: \xff",
            b"x-mooring-session: \x80",
            b"x-mooring-action: \xff",
        ],
        vec![many.as_bytes()],
        vec![long.as_bytes()],
        vec![b"Cookie: m=\x01\x7f"],
        vec![b"x_mooring_host: MTI3LjAuMC4xOjE="],
        vec![b"Cookie: m=a\0b"],
        vec![b"\xff\xff: 1"],
    ] {
        let mut request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n".to_vec();
        for line in &lines {
            request.extend_from_slice(line);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let answer = raw(&world.envoy.address, &request);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        // Envoy itself refuses what is no HTTP, and names with underscores. Nothing else is refused.
        let refused = lines.iter().any(|line| line.contains(&0) || line.contains(&1) || !line[0].is_ascii_alphabetic());
        let refused = refused || lines.iter().any(|line| line.starts_with(b"x_"));
        assert_eq!(status, if refused { "400" } else { "200" }, "{lines:?}: {answer}");
        for _ in 0..4 {
            let next = browser.get(&mut world, "/");
            assert_eq!((next.host(), next.decision()), (home.as_str(), "resumed".into()), "after {lines:?}");
        }
    }
    let beside =
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: a=\u{e9}\r\nCookie: m={token}\r\n\r\n");
    assert!(raw(&world.envoy.address, beside.as_bytes()).contains(&format!("x-served-by: {home}")));
    world.assert_sound();
}

#[test]
fn requests_in_a_row_on_one_connection_are_each_answered() {
    let mut world = default();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let token = browser.cookie().expect("a cookie");
    let one = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nCookie: m={token}\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nCookie: m=\x01\r\n\r\n"
    );
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let valid = one.replace('\u{1}', "x");
    let answer = raw(&world.envoy.address, format!("{valid}{valid}{last}").as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 5, "{answer}");
    assert_eq!(answer.matches("x-decision: resumed").count(), 2);
    assert_eq!(answer.matches("x-decision: created").count(), 3);
    assert!(answer.matches(&format!("x-served-by: {home}")).count() >= 2);
}

#[test]
fn many_clients_at_once_each_stay_on_their_host_on_every_worker() {
    let world = default();
    let url = world.url("/");
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || {
                let get = |cookie: Option<&str>| {
                    let client = reqwest::blocking::Client::builder().no_proxy().pool_max_idle_per_host(0);
                    let mut request = client.build().expect("a client").get(&url);
                    if let Some(cookie) = cookie {
                        request = request.header("cookie", cookie);
                    }
                    let response = request.send().expect("a response");
                    let header = |name| response.headers().get(name).map(|v| v.to_str().expect("text").to_owned());
                    (header("x-served-by").expect("a host"), header("set-cookie"))
                };
                let (home, cookie) = get(None);
                let cookie = cookie.expect("a cookie").split(';').next().expect("a pair").to_owned();
                for _ in 0..40 {
                    assert_eq!(get(Some(&cookie)), (home.clone(), None));
                }
                home
            })
        })
        .collect();
    let mut hosts: Vec<String> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    hosts.sort();
    hosts.dedup();
    assert_eq!(hosts, ["a", "b", "c"]);
    for worker in ["worker_0", "worker_1"] {
        // Envoy names the stat after the address that was configured: port 0.
        let connections = world.envoy.stat(&format!("listener.127.0.0.1_0.{worker}.downstream_cx_total"));
        assert!(connections > 100, "{worker} had {connections} connections");
    }
}

#[test]
fn when_a_host_dies_all_its_sessions_at_once_are_served_by_others() {
    let mut world = default();
    let dead = "a";
    let mut cookies = Vec::new();
    while cookies.len() < 24 {
        let mut browser = Browser::default();
        if browser.get(&mut world, "/").host() == dead {
            cookies.push(browser.cookie().expect("a cookie").to_owned());
        }
    }
    world.set_host(dead, HostState::Dead);
    let begin = std::sync::Barrier::new(cookies.len());
    let answers: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = cookies
            .iter()
            .map(|cookie| {
                let (begin, address) = (&begin, &world.envoy.address);
                scope.spawn(move || {
                    let request =
                        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: m={cookie}\r\n\r\n");
                    begin.wait();
                    raw(address, request.as_bytes())
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-decision: moved"), "{answer}");
    }
}

#[test]
fn a_draining_host_lets_its_sessions_go_and_gets_no_new_ones_to_keep() {
    let mut world = default();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let at = world.hosts.iter().position(|host| host.name == home).expect("a host");
    // Its health check fails as well, but what it says counts at once.
    world.hosts[at].control("drain");
    let mut last = String::new();
    for _ in 0..10 {
        last = browser.get(&mut world, "/").host().to_owned();
    }
    assert_ne!(last, home);
    assert_eq!(browser.get(&mut world, "/").decision(), "resumed");
}

#[test]
fn a_session_survives_hosts_that_reset_connections() {
    let mut world = default();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let cookie = browser.cookie().map(str::to_owned);
    let failed = browser.send(&mut world, Request::get("/?reset=1"));
    assert_eq!(failed.served_by, None);
    assert_eq!(failed.header("set-cookie"), [""; 0]);
    assert_eq!(browser.cookie().map(str::to_owned), cookie);
    assert_eq!(browser.get(&mut world, "/").host(), home);
}
