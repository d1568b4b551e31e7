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
    assert_eq!(scene.outcome(), "rotated");
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
    assert_eq!(scene.outcome(), "ended");
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
    assert_eq!(scene.outcome(), "released");
    let after = scene.session();
    assert_eq!((after.id, after.pins.len(), after.generation), (before.id, 0, before.generation + 1));
    assert_eq!(scene.exchange(), Cookie::Kept, "nothing is left to forget");
    scene.says_nothing();
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
        scene.says_nothing();
        scene.served_by(B);
        assert_eq!(scene.respond(slow), Cookie::Kept, "{action}");
    }
}

#[test]
fn an_action_that_is_not_known_is_counted_and_does_nothing() {
    for (action, unknown) in [("logout", true), ("end;", true), ("\u{e9}", true), ("", false), (" , ,", false)] {
        let mut scene = Scene::resumed("");
        scene.says(action);
        assert_eq!(scene.exchange(), Cookie::Kept, "{action}");
        assert_eq!(scene.counted(Counter::Fault(Fault::UnknownAction)), unknown, "{action}");
    }
    let mut off = Scene::resumed(r#""app":{"action_header":null}"#);
    off.says("end");
    let (exchange, _) = off.request();
    let edits = answers(off.affinity.turn(&mut off.worker, &off.proxy).on_response(STREAM, exchange));
    assert_eq!(edits, [Edit::Remove("x-mooring-session")], "switched off, it is not looked at");
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

#[test]
fn a_login_gets_a_new_id_whoever_ended_the_session_before() {
    for before in ["end", "rotate", "release"] {
        let mut scene = Scene::resumed("");
        let planted = scene.cookie.clone();
        let (slow_login, _) = scene.request();
        scene.says(before);
        scene.exchange();
        scene.says_nothing();
        scene.says("rotate");
        scene.cookie = planted.clone();
        let id = scene.session().id;
        assert_eq!(scene.exchange(), Cookie::Issued, "{before}: a planted token is rotated at login");
        assert_ne!(scene.session().id, id);
        scene.cookie = planted;
        assert_eq!(scene.respond(slow_login), Cookie::Issued, "{before}: so is a login that was under way");
        assert_ne!(scene.session().id, id);
    }
}

#[test]
fn a_session_that_was_rotated_does_not_come_back() {
    let mut scene = Scene::resumed("");
    let old = scene.cookie.clone();
    scene.later(600);
    scene.says("rotate");
    scene.exchange();
    scene.says_nothing();
    scene.cookie = old;
    assert_eq!(scene.exchange(), Cookie::Kept, "a request with the old cookie, sent before the new one had come");
}

#[test]
fn of_several_actions_the_strongest_counts() {
    for (lines, cookie) in [
        (vec!["release", "end"], Cookie::Cleared),
        (vec!["end, release"], Cookie::Cleared),
        (vec!["rotate", "END"], Cookie::Cleared),
        (vec!["nonsense,end"], Cookie::Cleared),
    ] {
        let mut scene = Scene::resumed("");
        lines.iter().for_each(|line| scene.says(line));
        assert_eq!(scene.exchange(), cookie, "{lines:?}");
    }
    let mut scene = Scene::resumed("");
    scene.says("release, rotate");
    scene.exchange();
    assert_eq!(scene.outcome(), "rotated");
}

#[test]
fn a_rotated_session_begins_with_generation_0_and_a_first_one_too() {
    let mut scene = Scene::resumed("");
    assert_eq!(scene.session().generation, 0);
    scene.served_by(B);
    scene.exchange();
    assert_eq!(scene.session().generation, 1);
    scene.says("rotate");
    scene.exchange();
    assert_eq!(scene.session().generation, 0);
}

#[test]
fn a_session_that_is_released_at_once_has_the_id_that_the_upstream_was_told() {
    let mut scene = Scene::new("");
    scene.says("release");
    let (exchange, edits) = scene.request();
    scene.respond(exchange);
    assert_eq!(added(&edits, "x-mooring-session"), Some(scene.session().id.to_text()));
}

#[test]
fn a_host_that_took_a_session_over_and_releases_it_is_not_kept() {
    let mut scene = Scene::resumed("");
    scene.served_by(B);
    scene.says("release");
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!(scene.pin("app"), None);
}

#[test]
fn a_release_that_changes_nothing_does_not_hold_a_renewal_up() {
    let mut scene = Scene::resumed(r#""upstream":{"failover":"temporary"}"#);
    scene.later(600);
    scene.served_by(B);
    scene.says("release");
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!(scene.outcome(), "renewed");
    assert_eq!(scene.pin("app").as_deref(), Some(A));
}

#[test]
fn a_second_pass_knows_of_an_older_key_and_whether_a_cookie_was_there() {
    let mut scene = Scene::resumed("");
    let keys = &mut scene.shared().keyring;
    *keys =
        crate::credential::keyring::Keyring::new(keys.find(b"old").unwrap().0.clone(), vec![keys.signing().clone()]);
    let (first, _) = scene.request();
    scene.proxy.carried = scene.affinity.carry(&first);
    scene.cookie = None;
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!(scene.outcome(), "rekeyed");

    let mut fresh = Scene::new("");
    let (first, _) = fresh.request();
    fresh.proxy.carried = fresh.affinity.carry(&first);
    fresh.says("end");
    assert_eq!(fresh.exchange(), Cookie::Kept, "no cookie was there, so none is cleared");
}

#[test]
fn a_redirect_out_of_the_cookie_s_path_keeps_the_session() {
    let mut scene = Scene::resumed("");
    let (first, _) = scene.request();
    scene.proxy.carried = scene.affinity.carry(&first);
    scene.cookie_carrier().path = "/shop".into();
    let (_, edits) = scene.request_with(&headers(&[(":path", "/elsewhere")]));
    assert_eq!(asked(&edits).as_deref(), Some(A));
}
