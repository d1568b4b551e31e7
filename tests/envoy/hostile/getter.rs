//! Why the plugin calls the proxy without the SDK: what one request does to a filter that is built on it.

use crate::protocols::raw;
use mooring_test_kit::rig::{Bootstrap, EnvoyWorld, eventually, start_hosts};
use mooring_test_kit::servers::root;
use mooring_test_kit::world::{Bridge, plugin};
use serde_json::json;

/// The filter in `tests/plugins/getter`, as `scripts/test envoy-test` builds it.
fn getter() -> String {
    #[allow(clippy::disallowed_methods)]
    let path =
        std::env::var("MOORING_GETTER_WASM").unwrap_or_else(|_| "target/wasm32-wasip1/release/getter.wasm".into());
    let path = root().join(path);
    assert!(path.exists(), "{} is missing: scripts/test envoy-test builds it", path.display());
    path.to_string_lossy().into_owned()
}

/// The status of a request with this cookie.
fn status(world: &EnvoyWorld, cookie: &[u8]) -> u16 {
    let request = [b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncookie: ", cookie, b"\r\n\r\n"].concat();
    raw(&world.envoy.address, &request).split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

/// An Envoy with one worker, and the plugin or another filter in its place. It closes when that fails, as Envoy does unless it is
/// told otherwise.
fn start(other: Option<String>) -> EnvoyWorld {
    let hosts = start_hosts("127.0.0.1:0");
    let addresses: Vec<&str> = hosts.iter().map(|host| host.address.as_str()).collect();
    let (app, others) = addresses.split_at(3);
    let mut bootstrap = Bootstrap::new(Bridge::StatefulSession, app, others);
    bootstrap.set_plugin(&plugin(json!({})));
    let wasm = bootstrap.wasm().as_object_mut().expect("a plugin");
    wasm.remove("failure_policy").expect("a policy");
    wasm.remove("reload_config");
    if let Some(path) = other {
        wasm["vm_config"]["code"]["local"]["filename"] = path.into();
    }
    let world = EnvoyWorld::run(bootstrap, hosts, 1);
    world.hosts.iter().for_each(|host| world.wait_for_health(host, true));
    world
}

const CLEAN: &[u8] = b"a=b";
const NOT_UTF8: &[u8] = b"a=\xff";

#[test]
fn one_cookie_that_is_not_utf_8_stops_a_filter_that_reads_it_with_the_sdk() {
    let world = start(Some(getter()));
    assert_eq!(status(&world, CLEAN), 200);
    assert_eq!(status(&world, NOT_UTF8), 503);
    for _ in 0..20 {
        assert_eq!(status(&world, CLEAN), 503, "for every client, from now on");
    }
    eventually("the reason in Envoy's log", || {
        let log = world.envoy.log();
        (log.contains("FromUtf8Error") && log.contains("proxy_on_request_headers failed")).then_some(())
    });
}

#[test]
fn the_same_cookie_is_nothing_to_the_plugin() {
    let world = start(None);
    assert_eq!(status(&world, CLEAN), 200);
    for _ in 0..20 {
        assert_eq!(status(&world, NOT_UTF8), 200);
        assert_eq!(status(&world, CLEAN), 200);
    }
    world.assert_sound();
}
