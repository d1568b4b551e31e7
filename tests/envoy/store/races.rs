//! Two proxies that change one session at the same moment.

use mooring_test_kit::fleet::Fleet;
use mooring_test_kit::rig::eventually;
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::world::HostState;
use reqwest::blocking::Client;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};

/// The host that served a request with this cookie, and the cookie that came back, if one did.
fn get(client: &Client, url: &str, cookie: &str) -> (String, Option<String>) {
    let response = client.get(url).header("cookie", format!("m={cookie}")).send().expect("a response");
    assert_eq!(response.status(), 200);
    let header = |name| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
    let issued = header("set-cookie").and_then(|line| Some(line.split_once(';')?.0.strip_prefix("m=")?.to_owned()));
    (header("x-served-by").expect("a host"), issued)
}

/// Sends each cookie to both proxies at the same moment. What came of it: the hosts and the cookies.
fn race(urls: &[String; 2], cookies: &[String]) -> Vec<[(String, Option<String>); 2]> {
    let client = || Client::builder().no_proxy().build().expect("a client");
    let barrier = Arc::new(Barrier::new(2));
    let sides = urls.clone().map(|url| {
        let (barrier, cookies) = (Arc::clone(&barrier), cookies.to_vec());
        std::thread::spawn(move || {
            let client = client();
            let one = |cookie: &String| {
                barrier.wait();
                get(&client, &url, cookie)
            };
            cookies.iter().map(one).collect::<Vec<_>>()
        })
    });
    let [left, right] = sides.map(|side| side.join().expect("a client"));
    left.into_iter().zip(right).map(|(left, right)| [left, right]).collect()
}

#[test]
fn two_proxies_that_move_a_session_at_the_same_moment_agree_on_one_host() {
    let store = Store::start(&[]);
    let mut fleet = Fleet::start(&store.address, json!({"cache": {"ttl": "300ms"}}));
    let urls = [fleet[0].url("/"), fleet[1].url("/")];
    let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
    let (mut raced, mut apart) = (0, 0);
    for state in [HostState::Dead, HostState::Unhealthy, HostState::Dead] {
        let mut old = Vec::new();
        while old.len() < 15 {
            let (browser, home) = fleet.browser(0);
            if home == "a" {
                let cookie = browser.cookie().expect("a cookie").to_owned();
                assert_eq!(get(&client, &urls[1], &cookie), ("a".into(), None));
                old.push(cookie);
            }
        }
        fleet.set_host("a", state);
        let outcomes = race(&urls, &old);
        raced += outcomes.len();
        apart += outcomes.iter().filter(|[left, right]| left.0 != right.0).count();
        for (old, [left, right]) in old.iter().zip(outcomes) {
            let cookies: Vec<String> = [Some(old.clone()), left.1, right.1].into_iter().flatten().collect();
            // What a worker knew before the race, it believes for the time to live.
            eventually("both proxies to agree", || {
                let asked = cookies.iter().flat_map(|cookie| urls.iter().map(move |url| (url, cookie)));
                let hosts: BTreeSet<String> =
                    asked.flat_map(|(url, cookie)| [(); 4].map(|()| get(&client, url, cookie).0)).collect();
                (hosts.len() == 1 && !hosts.contains("a")).then_some(())
            });
        }
        fleet.set_host("a", HostState::Healthy);
    }
    let conflicts = fleet.counter("mooring_store_calls.operation=move.result=conflict");
    eprintln!("{raced} races, {apart} that began on two hosts, {conflicts} lost compare-and-sets");
    assert!(apart > 0 && conflicts > 0, "no race was run: {apart} began apart, {conflicts} conflicts");
    fleet.assert_sound();
}
