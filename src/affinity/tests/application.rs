//! What the application says, and what it learns.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn the_application_learns_the_id_that_the_client_gets() {
    let mut scene = Scene::new("");
    scene.bridge(true);
    let (exchange, edits) = scene.request();
    scene.respond(exchange);
    let id = Edit::Set("x-mooring-session", scene.session().id.to_text().into_bytes());
    assert!(edits.contains(&id), "of a new session");
    scene.bridge(false);
    assert!(scene.request().1.contains(&id), "and of a resumed one");
}

#[test]
fn rotate_gives_a_new_id_and_nothing_else() {
    let mut scene = Scene::resumed("");
    let before = scene.session();
    scene.later(10);
    scene.says("rotate");
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!(scene.outcome(), Outcome::Rotated);
    let after = scene.session();
    assert_ne!(after.id, before.id);
    assert_eq!((after.created, after.end, after.pins), (before.created, before.end, before.pins));
}

#[test]
fn rotate_on_a_first_response_gives_an_id_that_the_upstream_has_not_seen() {
    let mut scene = Scene::new("");
    scene.bridge(true);
    let (exchange, edits) = scene.request();
    scene.says("rotate");
    assert_eq!(scene.respond(exchange), Cookie::Issued);
    let seen = Edit::Set("x-mooring-session", scene.session().id.to_text().into_bytes());
    assert!(!edits.contains(&seen));
}

#[test]
fn end_clears_the_cookie_and_begins_no_session() {
    let mut scene = Scene::resumed("");
    scene.says(" End ");
    assert_eq!(scene.exchange(), Cookie::Cleared);
    assert_eq!(scene.outcome(), Outcome::Ended);
    assert_eq!(scene.exchange(), Cookie::Kept, "who has no cookie gets none to clear");
    scene.cookie = Some("garbage".into());
    assert_eq!(scene.exchange(), Cookie::Cleared, "any cookie of our name goes");
}

#[test]
fn release_forgets_the_host_and_keeps_the_session() {
    let mut scene = Scene::resumed("");
    let before = scene.session();
    scene.says("release");
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!(scene.outcome(), Outcome::Released);
    let after = scene.session();
    assert_eq!((after.id, after.pins.len(), after.generation), (before.id, 0, before.generation + 1));
    assert_eq!(scene.exchange(), Cookie::Kept, "nothing is left to forget");
    scene.proxy.response.retain(|(name, _)| name != "x-mooring-action");
    let (exchange, edits) = scene.request();
    assert_eq!(asked(&edits), None, "the next request is balanced anew");
    scene.served_by(B);
    assert_eq!(scene.respond(exchange), Cookie::Issued);
    assert_eq!(scene.pin("app").as_deref(), Some(B));
}

#[test]
fn a_new_session_on_a_releasing_host_is_not_pinned_there() {
    let mut scene = Scene::new("");
    scene.bridge(true);
    scene.says("release");
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert!(scene.session().pins.is_empty());
}

#[test]
fn a_stand_in_that_releases_does_not_cost_a_session_its_home() {
    let mut scene = Scene::resumed(r#""upstream":{"failover":"temporary"}"#);
    scene.served_by(B);
    scene.says("release");
    assert_eq!(scene.exchange(), Cookie::Kept);
    assert_eq!(scene.pin("app").as_deref(), Some(A));
}

#[test]
fn requests_that_began_before_rotate_end_or_release_do_not_undo_it() {
    for action in ["rotate", "end", "release"] {
        let mut scene = Scene::resumed("");
        let (slow, _) = scene.request();
        scene.says(action);
        scene.exchange();
        scene.proxy.response.retain(|(name, _)| name != "x-mooring-action");
        scene.served_by(B);
        assert_eq!(scene.respond(slow), Cookie::Kept, "{action}");
    }
}

#[test]
fn an_action_that_is_not_known_is_counted_and_does_nothing() {
    for action in ["", "rotate, end", "logout", "\u{e9}"] {
        let mut scene = Scene::resumed("");
        scene.says(action);
        assert_eq!(scene.exchange(), Cookie::Kept, "{action}");
        assert!(scene.counted(Counter::Fault(Fault::UnknownAction)));
    }
    let mut off = Scene::resumed(r#""app":{"action_header":null}"#);
    off.says("end");
    let (exchange, _) = off.request();
    let edits = off.affinity.on_response(exchange, &mut off.worker, &off.proxy);
    assert_eq!(edits, ["x-mooring-action", "x-mooring-session"].map(Edit::Remove), "switched off, it is not passed on");
}

#[test]
fn a_second_pass_of_a_stream_knows_the_session_of_the_first() {
    let mut fresh = Scene::new("");
    fresh.bridge(true);
    let (first, edits) = fresh.request();
    fresh.proxy.carried = fresh.affinity.carry(&first);
    let (second, again) = fresh.request();
    assert_eq!(edits, again, "the same new id for the upstream");
    assert_eq!(fresh.respond(second), Cookie::Issued);

    let mut resumed = Scene::resumed("");
    let (first, _) = resumed.request();
    resumed.proxy.carried = resumed.affinity.carry(&first);
    resumed.cookie = None;
    let (second, edits) = resumed.request();
    assert_eq!(asked(&edits).as_deref(), Some(A));
    resumed.says("end");
    assert_eq!(resumed.respond(second), Cookie::Cleared, "the client's cookie was taken out by the first pass");
    resumed.later(28_800);
    assert_eq!(asked(&resumed.request().1), None, "what was carried ends as the session does");
}

#[test]
fn what_was_carried_wrongly_is_ignored() {
    for carried in [&b""[..], b"\x00", b"\x00\x00short", b"\x01\x00junk", b"\x09\x00", &[0; 19]] {
        let mut scene = Scene::new("");
        scene.bridge(true);
        scene.proxy.carried = Some(carried.to_vec());
        assert_eq!(scene.exchange(), Cookie::Issued, "{carried:?}");
    }
}
