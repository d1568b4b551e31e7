//! Who served, and what becomes of the session.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_new_client_gets_a_session_on_the_host_that_served() {
    let mut scene = Scene::new("");
    scene.bridge(true);
    let (exchange, edits) = scene.request();
    assert_eq!(asked(&edits), None);
    assert_eq!(scene.respond(exchange), Cookie::Issued);
    assert_eq!(scene.pin("app").as_deref(), Some(A));
    assert_eq!(scene.outcome(), "created");
}

#[test]
fn a_resumed_session_asks_for_its_host_and_gets_no_cookie() {
    let mut scene = Scene::resumed("");
    scene.proxy.asked.set(0);
    let (exchange, edits) = scene.request();
    assert_eq!(asked(&edits).as_deref(), Some(A));
    assert_eq!(scene.respond(exchange), Cookie::Kept);
    assert_eq!(scene.outcome(), "resumed");
    assert_eq!(scene.proxy.asked.get(), 0, "neither cluster, address nor details are asked for");
}

#[test]
fn sticky_follows_the_host_that_served() {
    let mut scene = Scene::resumed("");
    let before = scene.session();
    scene.served_by(B);
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!(scene.outcome(), "moved");
    let after = scene.session();
    assert_eq!(scene.pin("app").as_deref(), Some(B));
    assert_eq!((after.id, after.end, after.generation), (before.id, before.end, before.generation + 1));
}

#[test]
fn temporary_and_none_keep_the_pin() {
    for failover in ["temporary", "none"] {
        let mut scene = Scene::resumed(&format!(r#""upstream":{{"failover":"{failover}"}}"#));
        scene.served_by(B);
        assert_eq!(scene.exchange(), Cookie::Kept);
        assert_eq!(scene.outcome(), "kept");
        scene.later(600);
        assert_eq!(scene.exchange(), Cookie::Issued, "a renewal that is due comes all the same");
        assert_eq!(scene.pin("app").as_deref(), Some(A));
    }
}

#[test]
fn a_bridge_header_that_the_upstream_made_up_moves_nothing() {
    let mut scene = Scene::resumed("");
    scene.bridge(true);
    assert_eq!(scene.exchange(), Cookie::Kept);
    assert_eq!(scene.outcome(), "resumed");
}

#[test]
fn a_cookie_makes_the_response_private_unless_it_is() {
    for (said, added) in
        [(None, true), (Some("public, max-age=60"), true), (Some("private"), false), (Some("no-store"), false)]
    {
        let mut scene = Scene::new("");
        scene.proxy.response.extend(said.map(|said| ("cache-control".to_owned(), said.to_owned())));
        let (exchange, _) = scene.request();
        let edits = answers(scene.affinity.turn(&mut scene.worker, &scene.proxy).on_response(STREAM, exchange));
        assert_eq!(edits.contains(&Edit::Add("cache-control", b"private".to_vec())), added, "{said:?}");
    }
    let mut resumed = Scene::resumed("");
    let (exchange, _) = resumed.request();
    let edits = answers(resumed.affinity.turn(&mut resumed.worker, &resumed.proxy).on_response(STREAM, exchange));
    assert_eq!(edits, [Edit::Remove("x-mooring-session")], "a response without our cookie stays as it is");
}

#[test]
fn a_session_is_renewed_after_a_tenth_of_its_idle_timeout_and_lives_on() {
    let mut scene = Scene::resumed("");
    scene.later(179);
    assert_eq!(scene.exchange(), Cookie::Kept);
    scene.later(1);
    scene.worker.counts.take();
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!(scene.outcome(), "renewed");
    assert_eq!(scene.exchange(), Cookie::Kept, "once");
    let created = scene.session().created;
    for _ in 0..15 {
        scene.later(1_790);
        assert_eq!(scene.exchange(), Cookie::Issued);
        assert_eq!(scene.session().created, created);
    }
    scene.later(1_790);
    scene.worker.counts.take();
    scene.request();
    assert!(scene.counted(Counter::Refused(Refusal::ExpiredAbsolute)), "but not beyond its absolute end");
}

#[test]
fn a_token_of_an_older_key_is_issued_anew_under_the_first() {
    let mut scene = Scene::resumed("");
    let rotated = Scene {
        affinity: {
            let (new, old) = KEYS.split_once("}},").unwrap();
            let json = format!(r#"{{"keys":[{},{new}}}}}],"cookie":{{"name":"m"}}}}"#, old.trim());
            affinity(&read(&json))
        },
        worker: Worker::default(),
        proxy: Proxy::default(),
        cookie: scene.cookie.take(),
        logged: None,
    };
    let mut scene = rotated;
    let (exchange, edits) = scene.request();
    assert_eq!(asked(&edits).as_deref(), Some(A));
    assert_eq!(scene.respond(exchange), Cookie::Issued);
    assert_eq!(scene.outcome(), "rekeyed");
    assert!(scene.cookie.as_ref().unwrap().starts_with("m1e.old."));
    assert_eq!(scene.exchange(), Cookie::Kept);
}

#[test]
fn a_second_cluster_gets_a_pin_of_its_own_and_nothing_flaps() {
    let mut scene = Scene::resumed("");
    scene.proxy.cluster = Some("other");
    scene.served_by(B);
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!(scene.outcome(), "pinned");
    scene.bridge(false);
    for cluster in ["app", "other", "app", "other"] {
        scene.proxy.cluster = Some(cluster);
        let (exchange, edits) = scene.request();
        assert_eq!(asked(&edits).as_deref(), Some(if cluster == "app" { A } else { B }));
        assert_eq!(scene.respond(exchange), Cookie::Kept);
    }
}

#[test]
fn internal_headers_do_not_reach_the_client() {
    let mut scene = Scene::resumed("");
    scene.served_by(A);
    scene.says("nonsense");
    let (exchange, _) = scene.request();
    let edits = answers(scene.affinity.turn(&mut scene.worker, &scene.proxy).on_response(STREAM, exchange));
    for name in scene.affinity.internal_headers() {
        assert!(edits.contains(&Edit::Remove(name)), "{name}");
    }
}

#[test]
fn the_override_host_bridge_gets_plain_addresses_and_is_watched_by_address() {
    let mut scene = Scene::new(r#""upstream":{"via":"override_host"}"#);
    assert_eq!(scene.exchange(), Cookie::Issued);
    let (exchange, edits) = scene.request();
    assert!(edits.contains(&Edit::Set("x-mooring-host", A.into())));
    assert_eq!(scene.respond(exchange), Cookie::Kept);
    scene.proxy.served = Some(B.into());
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!(scene.pin("app").as_deref(), Some(B));
}

#[test]
fn a_persistent_cookie_says_how_long_the_session_can_last() {
    let mut scene = Scene::new("");
    scene.cookie_carrier().persistent = true;
    let (exchange, _) = scene.request();
    let edits = answers(scene.affinity.turn(&mut scene.worker, &scene.proxy).on_response(STREAM, exchange));
    assert!(added(&edits, "set-cookie").unwrap().contains("; Max-Age=1800;"));
}

#[test]
fn the_debug_header_is_one_word() {
    let mut scene = Scene::resumed(r#""debug_header":"x-debug""#);
    scene.served_by(B);
    let (exchange, _) = scene.request();
    let edits = answers(scene.affinity.turn(&mut scene.worker, &scene.proxy).on_response(STREAM, exchange));
    assert!(edits.contains(&Edit::Set("x-debug", b"moved".to_vec())));
}

#[test]
fn a_persistent_cookie_does_not_outlast_the_session_s_end() {
    let mut scene = Scene::resumed("");
    scene.cookie_carrier().persistent = true;
    scene.policy().session.idle = Some(28_800);
    scene.later(28_000);
    let (exchange, _) = scene.request();
    let edits = answers(scene.affinity.turn(&mut scene.worker, &scene.proxy).on_response(STREAM, exchange));
    assert!(added(&edits, "set-cookie").unwrap().contains("; Max-Age=800;"));
}

#[test]
fn on_the_override_host_bridge_an_upstream_cannot_name_a_host_to_the_client() {
    let mut scene = Scene::new(r#""upstream":{"via":"override_host"}"#);
    scene.bridge(true);
    let (exchange, _) = scene.request();
    let edits = answers(scene.affinity.turn(&mut scene.worker, &scene.proxy).on_response(STREAM, exchange));
    assert!(edits.contains(&Edit::Remove("x-mooring-host")));
}

#[test]
fn a_failure_to_issue_is_what_the_debug_header_says() {
    let mut scene = Scene::resumed(r#""debug_header":"x-debug""#);
    scene.says("rotate");
    let (exchange, _) = scene.request();
    scene.proxy.randomness = false;
    let edits = answers(scene.affinity.turn(&mut scene.worker, &scene.proxy).on_response(STREAM, exchange));
    assert_eq!(added(&edits, "x-debug").as_deref(), Some("failed"));
}
