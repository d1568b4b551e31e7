//! Answers that change nothing, and things that fail.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn local_replies_issue_and_move_nothing_whatever_host_they_name() {
    for details in
        ["upstream_reset_before_response_started{connection_failure}", "response_timeout", "direct_response", ""]
    {
        let mut fresh = Scene::new("");
        fresh.proxy.code_details = details;
        fresh.served_by(B);
        assert_eq!(fresh.exchange(), Cookie::Kept);
        assert_eq!(fresh.outcome(), "untouched");

        let mut resumed = Scene::resumed("");
        resumed.proxy.code_details = details;
        resumed.served_by(B);
        resumed.says("end");
        resumed.later(600);
        assert_eq!(resumed.exchange(), Cookie::Kept);
        assert_eq!(resumed.outcome(), "untouched");
    }
}

#[test]
fn a_304_carries_no_cookie() {
    let not_modified = |scene: &mut Scene| scene.proxy.response[0].1 = "304".into();
    let mut scene = Scene::new("");
    not_modified(&mut scene);
    assert_eq!(scene.exchange(), Cookie::Kept);
    let mut moved = Scene::resumed("");
    not_modified(&mut moved);
    moved.served_by(B);
    assert_eq!(moved.exchange(), Cookie::Kept);
    moved.says("end");
    assert_eq!(moved.exchange(), Cookie::Kept, "not even one that clears: a cache could hand it to others");
}

#[test]
fn an_answer_of_unknown_status_may_be_a_304() {
    let mut scene = Scene::new("");
    scene.proxy.response.clear();
    assert_eq!(scene.exchange(), Cookie::Kept);
    assert_eq!(scene.outcome(), "untouched");
}

#[test]
fn a_session_that_ends_while_its_answer_is_under_way_is_not_revived() {
    let mut scene = Scene::resumed("");
    let (exchange, _) = scene.request();
    scene.later(28_800);
    scene.served_by(B);
    assert_eq!(scene.respond(exchange), Cookie::Kept);
    assert_eq!(scene.outcome(), "untouched");
}

#[test]
fn a_request_that_is_under_way_is_no_idleness() {
    let mut scene = Scene::resumed(r#""session":{"idle_timeout":"30s"}"#);
    let (long_poll, _) = scene.request();
    scene.later(60);
    assert_eq!(scene.respond(long_poll), Cookie::Issued);
    assert_eq!(scene.outcome(), "renewed");
}

#[test]
fn a_session_whose_pins_are_not_honoured_is_left_alone_after_three_moves() {
    let mut scene = Scene::resumed("");
    for (host, cookie) in [(B, Cookie::Issued), (A, Cookie::Issued), (B, Cookie::Issued), (A, Cookie::Kept)] {
        scene.served_by(host);
        assert_eq!(scene.exchange(), cookie);
    }
    scene.worker.counts.take();
    scene.exchange();
    assert_eq!(scene.outcome(), "pin_ignored");
    scene.later(60);
    assert_eq!(scene.exchange(), Cookie::Issued, "and tried again after a minute");
}

#[test]
fn more_clusters_than_pins_do_not_make_a_cookie_each_time() {
    let clusters = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"];
    let mut scene = Scene::new("");
    scene.bridge(true);
    let mut issued = 0;
    for round in 0..10 {
        for cluster in clusters {
            scene.proxy.cluster = Some(cluster);
            issued += usize::from(scene.exchange() == Cookie::Issued);
        }
        assert!(issued <= 11, "round {round}: {issued}");
    }
}

#[test]
fn without_randomness_nothing_is_issued_and_a_good_cookie_stays() {
    let mut fresh = Scene::new("");
    fresh.proxy.randomness = false;
    assert_eq!(fresh.exchange(), Cookie::Kept);
    assert_eq!(fresh.outcome(), "failed");

    for action in ["", "rotate", "release"] {
        let mut scene = Scene::resumed("");
        let cookie = scene.cookie.clone();
        scene.proxy.randomness = false;
        scene.later(600);
        scene.says(action);
        let (exchange, edits) = scene.request();
        assert_eq!(asked(&edits).as_deref(), Some(A), "a session that is there goes on");
        assert_eq!(scene.respond(exchange), Cookie::Kept);
        assert!(scene.counted(Counter::Fault(Fault::Randomness)));
        scene.proxy.randomness = true;
        scene.cookie = cookie;
        scene.says_nothing();
        assert_eq!(scene.exchange(), Cookie::Issued, "and is not taken for one that is over");
    }
}

#[test]
fn without_headers_or_a_clock_the_client_keeps_what_it_has() {
    let mut scene = Scene::resumed("");
    let (exchange, edits) = proceeds(scene.affinity.turn(&mut scene.worker, &scene.proxy).on_request(STREAM, None));
    assert_eq!(edits, scene.affinity.internal_headers().map(Edit::Remove));
    assert_eq!(scene.respond(exchange), Cookie::Kept);
    assert_eq!(scene.outcome(), "failed");

    scene.proxy.now = None;
    let (exchange, edits) = scene.request();
    assert_eq!(asked(&edits), None);
    scene.proxy.now = Some(T0);
    assert_eq!(scene.respond(exchange), Cookie::Kept);
    assert_eq!(scene.outcome(), "failed");

    let (exchange, _) = scene.request();
    scene.proxy.now = None;
    assert_eq!(scene.respond(exchange), Cookie::Kept);
    assert_eq!(scene.outcome(), "failed");
}

#[test]
fn a_session_of_an_unknown_host_is_a_session_all_the_same() {
    for served in [None, Some("not an address".to_owned())] {
        let mut scene = Scene::new("");
        scene.bridge(true);
        scene.proxy.served = served;
        assert_eq!(scene.exchange(), Cookie::Issued);
        assert!(scene.session().pins.is_empty());
        assert!(scene.counted(Counter::Fault(Fault::HostUnknown)));
        assert_eq!(scene.exchange(), Cookie::Kept, "without a cookie each time");
    }
}

#[test]
fn a_bridge_that_says_nothing_to_a_new_session_is_counted() {
    let mut scene = Scene::new("");
    scene.exchange();
    assert!(scene.counted(Counter::Fault(Fault::BridgeSilent)));
    let mut other = Scene::new(r#""upstream":{"via":"override_host"}"#);
    other.exchange();
    assert!(!other.counted(Counter::Fault(Fault::BridgeSilent)), "the other bridge never speaks");
}

#[test]
fn a_slower_answer_to_an_older_cookie_rolls_nothing_back() {
    let mut scene = Scene::resumed("");
    scene.later(179);
    let (slow, _) = scene.request();
    scene.served_by(B);
    assert_eq!(scene.exchange(), Cookie::Issued);
    scene.bridge(false);
    scene.proxy.served = Some(A.into());
    scene.later(1);
    assert_eq!(scene.respond(slow), Cookie::Kept, "a renewal was due, of a copy with the old pin");
    assert_eq!(scene.pin("app").as_deref(), Some(B));
}

#[test]
fn requests_in_parallel_get_one_renewal_and_one_move() {
    let mut scene = Scene::resumed("");
    scene.later(180);
    let requests: Vec<_> = (0..6).map(|_| scene.request().0).collect();
    let issued = requests.into_iter().map(|request| scene.respond(request)).filter(|cookie| *cookie == Cookie::Issued);
    assert_eq!(issued.count(), 1, "renewals");

    let requests: Vec<_> = (0..6).map(|_| scene.request().0).collect();
    scene.served_by(B);
    let issued = requests.into_iter().map(|request| scene.respond(request)).filter(|cookie| *cookie == Cookie::Issued);
    assert_eq!(issued.count(), 1, "moves");
    scene.later(30);
    scene.served_by(A);
    assert_eq!(scene.exchange(), Cookie::Issued, "and a second move within the minute is followed");
}

#[test]
fn two_clusters_that_are_met_at_once_lose_no_pin_that_was_issued() {
    let mut scene = Scene::resumed("");
    scene.proxy.cluster = Some("one");
    let (one, _) = scene.request();
    scene.proxy.cluster = Some("two");
    let (two, _) = scene.request();
    scene.served_by(B);
    scene.proxy.cluster = Some("one");
    assert_eq!(scene.respond(one), Cookie::Issued);
    scene.proxy.cluster = Some("two");
    assert_eq!(scene.respond(two), Cookie::Kept);
    assert_eq!(scene.exchange(), Cookie::Issued, "the next request brings the other pin");
    assert!(["app", "one", "two"].into_iter().all(|cluster| scene.pin(cluster).is_some()));
}

#[test]
fn a_client_that_never_got_the_new_cookie_keeps_a_session_that_is_renewed() {
    for action in ["", "rotate", "release"] {
        let mut scene = Scene::resumed("");
        let held = scene.cookie.clone();
        if action.is_empty() {
            scene.served_by(B);
        } else {
            scene.says(action);
        }
        assert_eq!(scene.exchange(), Cookie::Issued);
        scene.says_nothing();
        scene.cookie = held;
        scene.proxy.served = Some(A.into());
        scene.bridge(false);
        for _ in 0..30 {
            scene.later(100);
            scene.exchange();
            assert!(!scene.counted(Counter::Refused(Refusal::ExpiredIdle)), "{action}: it came every 100 s");
        }
    }
}

#[test]
fn edits_that_the_proxy_did_not_take_are_no_reason_to_move() {
    let mut scene = Scene::resumed("");
    let (exchange, _) = scene.request();
    scene.served_by(B);
    assert_eq!(scene.respond(exchange.unasked()), Cookie::Kept);
    assert_eq!(scene.outcome(), "failed");
}

#[test]
fn a_logout_needs_neither_clock_nor_randomness_nor_readable_headers() {
    let mut scene = Scene::resumed("");
    let (exchange, _) = scene.request();
    scene.says("end");
    scene.proxy.now = None;
    scene.proxy.randomness = false;
    assert_eq!(scene.respond(exchange), Cookie::Cleared);
    let (unread, _) = proceeds(scene.affinity.turn(&mut scene.worker, &scene.proxy).on_request(STREAM, None));
    assert_eq!(scene.respond(unread), Cookie::Cleared);
}

#[test]
fn a_logout_on_a_304_is_remembered() {
    let mut scene = Scene::resumed("");
    let (slow, _) = scene.request();
    scene.proxy.response[0].1 = "304".into();
    scene.says("end");
    assert_eq!(scene.exchange(), Cookie::Kept);
    scene.says_nothing();
    scene.proxy.response[0].1 = "200".into();
    scene.served_by(B);
    assert_eq!(scene.respond(slow), Cookie::Kept);
}

#[test]
fn a_flood_of_new_clients_does_not_make_a_worker_forget_a_logout() {
    let mut scene = Scene::resumed("");
    let (slow, _) = scene.request();
    scene.says("end");
    assert_eq!(scene.exchange(), Cookie::Cleared);
    scene.says_nothing();
    for _ in 0..10_000 {
        scene.cookie = None;
        assert_eq!(scene.exchange(), Cookie::Issued);
    }
    scene.served_by(B);
    assert_eq!(scene.respond(slow), Cookie::Kept);
}
