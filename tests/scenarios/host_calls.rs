//! How many calls of the proxy a request costs. They, and not the cryptography, are what a request pays for.

use crate::fake::FakeWorld;
use crate::shared::browser::Browser;
use crate::shared::world::{Setup, World};
use serde_json::{Value, json};

/// Calls for one more request of a session that stays where it is.
fn calls_when_resumed(members: Value) -> u64 {
    let mut world = FakeWorld::start(Setup::with(members));
    let mut browser = Browser::default();
    browser.get(&mut world, "/");
    let before = world.host.state().calls;
    let response = browser.get(&mut world, "/");
    assert_eq!(response.header("set-cookie").len(), 0, "it stayed");
    world.host.state().calls - before
}

#[test]
fn a_resumed_session_costs_nine_calls() {
    // Request: the headers, the clock, the override header, the session id, the cookie taken out.
    // Response: the bridge's header, the action header, the session id removed (an upstream may echo it), the clock.
    assert_eq!(calls_when_resumed(json!({"debug_header": null})), 9);
}

#[test]
fn what_is_switched_off_is_not_paid_for() {
    let all = calls_when_resumed(json!({"debug_header": null}));
    let forward = json!({"debug_header": null, "cookie": {"name": "m", "forward": true}});
    assert_eq!(calls_when_resumed(forward), all - 1, "the cookie stays");
    let no_id = json!({"debug_header": null, "app": {"session_header": null}});
    assert_eq!(calls_when_resumed(no_id), all - 1, "no id for the upstream");
    assert_eq!(calls_when_resumed(json!({"debug_header": "x-decision"})), all + 1);
}
