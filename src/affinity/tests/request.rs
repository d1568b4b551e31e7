//! What a request brings, and what is made of it.

use super::*;
use crate::credential::token::Protection;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn what_a_client_sends_under_internal_names_never_counts() {
    let mut scene = Scene::new("");
    let spoofed = headers(&[
        ("x-mooring-host", "MTI3LjAuMC4xOjkwMDM="),
        ("x-mooring-session", "mine"),
        ("x-mooring-action", "end"),
        ("x-mooring-action", "end"),
    ]);
    let (_, edits) = scene.request_with(&spoofed);
    assert!(edits.contains(&Edit::Remove("x-mooring-host")));
    assert!(edits.contains(&Edit::Remove("x-mooring-action")));
    assert!(matches!(edits.iter().find(|edit| matches!(edit, Edit::Set("x-mooring-session", _))),
        Some(Edit::Set(_, value)) if value != b"mine"));

    let mut off = Scene::new(r#""app":{"action_header":null,"session_header":null}"#);
    let (_, edits) = off.request_with(&spoofed);
    assert_eq!(edits, off.affinity.internal_headers().map(Edit::Remove), "switched off, they are removed all the same");
}

#[test]
fn a_request_without_anything_of_ours_is_not_edited_needlessly() {
    let mut scene = Scene::new(r#""app":{"session_header":null}"#);
    let (_, edits) = scene.request_with(&headers(&[("cookie", "a=1"), ("accept", "*/*")]));
    assert_eq!(edits, []);
}

#[test]
fn a_path_that_the_cookie_does_not_belong_to_has_no_session() {
    let mut scene = Scene::resumed("");
    scene.cookie_carrier().path = "/shop".into();
    scene.bridge(true);
    for (path, decided) in [("/", Cookie::Kept), ("/shopping", Cookie::Kept), ("/shop/cart", Cookie::Issued)] {
        let (exchange, edits) = scene.request_with(&headers(&[(":path", path), ("x-mooring-session", "mine")]));
        if decided == Cookie::Kept {
            assert_eq!(edits, [Edit::Remove("x-mooring-session")], "{path}");
        }
        assert_eq!(scene.respond(exchange), decided, "{path}");
    }
}

#[test]
fn our_cookie_is_taken_from_what_the_upstream_gets() {
    let mut scene = Scene::new(r#""app":{"session_header":null}"#);
    let edits = |scene: &mut Scene, lines: &[(&str, &str)]| scene.request_with(&headers(lines)).1;
    assert_eq!(edits(&mut scene, &[("cookie", "a=1; m=x; b=2")]), [Edit::Set("cookie", b"a=1; b=2".to_vec())]);
    assert_eq!(edits(&mut scene, &[("cookie", "m=x")]), [Edit::Remove("cookie")]);
    assert_eq!(
        edits(&mut scene, &[("cookie", "a=1"), ("cookie", "m=x"), ("cookie", "m=y; b=2"), ("cookie", "")]),
        [
            Edit::Remove("cookie"),
            Edit::Add("cookie", b"a=1".to_vec()),
            Edit::Add("cookie", b"b=2".to_vec()),
            Edit::Add("cookie", b"".to_vec())
        ]
    );
    let mut forward = Scene::resumed("");
    forward.cookie_carrier().forward = true;
    let (_, edits) = forward.request();
    assert!(!edits.iter().any(|edit| matches!(edit, Edit::Set("cookie", _) | Edit::Remove("cookie"))));
}

#[test]
fn a_refused_token_is_counted_and_replaced() {
    let good = Scene::resumed("").cookie.unwrap();
    let other_scope = Scene::resumed(r#""scope":"other""#).cookie.unwrap();
    for (cookie, seconds, refusal) in [
        ("garbage".to_owned(), 0, Refusal::Malformed),
        (good.replace(".new.", ".gone."), 0, Refusal::UnknownKey),
        (other_scope, 0, Refusal::BadTag),
        (good.clone(), 1_800, Refusal::ExpiredIdle),
        (good.clone(), 28_800, Refusal::ExpiredAbsolute),
    ] {
        let mut scene = Scene::new("");
        scene.cookie = Some(cookie.clone());
        scene.later(seconds);
        scene.bridge(true);
        let (exchange, edits) = scene.request();
        assert_eq!(asked(&edits), None, "{refusal:?}");
        assert!(scene.counted(Counter::Refused(refusal)), "{refusal:?}");
        assert_eq!(scene.respond(exchange), Cookie::Issued);
        assert_eq!(scene.outcome(), "created");
        assert_ne!(scene.cookie, Some(cookie));
    }
    let mut scene = Scene::new("");
    scene.cookie = Some(good);
    scene.proxy.now = Some(UnixTime(T0.0 - 61));
    scene.request();
    assert!(scene.counted(Counter::Refused(Refusal::Future)));
}

#[test]
fn a_session_that_began_since_the_clock_was_read_is_not_of_the_future() {
    let mut scene = Scene::resumed(r#""session":{"clock_skew":"0s"}"#);
    scene.proxy.tick_ago = 1;
    let (exchange, edits) = scene.request();
    assert_eq!(asked(&edits), Some(A.into()));
    scene.proxy.carried = scene.affinity.carry(&exchange);
    scene.cookie = None;
    assert_eq!(asked(&scene.request().1), Some(A.into()), "nor after an internal redirect");
    scene.proxy.now = Some(UnixTime(T0.0 - 1));
    assert_eq!(asked(&scene.request().1), None);
}

#[test]
fn of_several_cookies_the_newest_that_verifies_wins() {
    let mut scene = Scene::resumed("");
    let old = scene.cookie.clone().unwrap();
    scene.later(600);
    scene.served_by(B);
    assert_eq!(scene.exchange(), Cookie::Issued);
    let new = scene.cookie.clone().unwrap();
    for line in [format!("m={old}; m={new}"), format!("m={new}; x=1; m={old}"), format!("m=; m=junk; m={old}; m={new}")]
    {
        let (_, edits) = scene.request_with(&headers(&[("cookie", &line)]));
        assert_eq!(asked(&edits).as_deref(), Some(B), "{line}");
    }
    let (_, edits) = scene.request_with(&headers(&[("cookie", &format!("m={old}")), ("cookie", &format!("m={new}"))]));
    assert_eq!(asked(&edits).as_deref(), Some(B), "over several lines");
    let fifth = format!("m=1; m=2; m=3; m=4; m={new}");
    assert_eq!(asked(&scene.request_with(&headers(&[("cookie", &fifth)])).1), None, "four are looked at");
}

#[test]
fn a_higher_generation_wins_within_one_second() {
    let mut scene = Scene::resumed("");
    let old = scene.cookie.clone().unwrap();
    scene.served_by(B);
    scene.exchange();
    let line = format!("m={old}; m={}", scene.cookie.clone().unwrap());
    assert_eq!(asked(&scene.request_with(&headers(&[("cookie", &line)])).1).as_deref(), Some(B));
}

#[test]
fn a_strict_bridge_is_asked_only_for_hosts_of_the_routed_cluster() {
    let mut scene = Scene::resumed(r#""upstream":{"failover":"none"}"#);
    assert_eq!(asked(&scene.request().1).as_deref(), Some(A));
    scene.proxy.cluster = Some("other");
    assert_eq!(asked(&scene.request().1), None);
}

#[test]
fn encryption_is_the_config_s_choice_and_both_kinds_are_read() {
    let mut scene = Scene::resumed("");
    assert!(scene.cookie.as_ref().unwrap().starts_with("m1e.new."));
    scene.policy().encrypt = false;
    assert_eq!(asked(&scene.request().1).as_deref(), Some(A));
    scene.later(600);
    scene.proxy.randomness = false;
    assert_eq!(scene.exchange(), Cookie::Issued, "a signed token needs no nonce");
    assert!(scene.cookie.as_ref().unwrap().starts_with("m1s.new."));
    scene.policy().encrypt = true;
    assert_eq!(asked(&scene.request().1).as_deref(), Some(A));
}

#[test]
fn of_two_copies_of_one_session_the_higher_generation_wins() {
    let mut scene = Scene::resumed("");
    let keyring = scene.affinity.shared.keyring.clone();
    let stale = Session { renewed: UnixTime(T0.0 + 60), ..scene.session() };
    scene.served_by(B);
    scene.exchange();
    scene.later(60);
    let (stale, moved) = (token::seal(&stale, &keyring, &Protection::Signed), scene.cookie.clone().unwrap());
    for line in [format!("m={stale}; m={moved}"), format!("m={moved}; m={stale}")] {
        assert_eq!(asked(&scene.request_with(&headers(&[("cookie", &line)])).1).as_deref(), Some(B), "{line}");
    }
}

#[test]
fn of_two_sessions_the_one_renewed_last_wins_and_the_future_counts_as_now() {
    let mut scene = Scene::resumed("");
    scene.later(100);
    let keyring = scene.affinity.shared.keyring.clone();
    let base = scene.session();
    let token = |id: u8, created: u64, renewed: u64, generation: u32| {
        let (created, renewed) = (UnixTime(T0.0 + created), UnixTime(T0.0 + renewed));
        let session = Session { id: SessionId([id; 16]), created, renewed, generation, ..base.clone() };
        token::seal(&session, &keyring, &Protection::Signed)
    };
    let chosen = |scene: &mut Scene, first: &str, second: &str| {
        let (_, edits) = scene.request_with(&headers(&[("cookie", &format!("m={first}; m={second}"))]));
        added(&edits, "x-mooring-session").unwrap()
    };
    let (seven, eight) = (SessionId([7; 16]).to_text(), SessionId([8; 16]).to_text());
    assert_eq!(
        chosen(&mut scene, &token(7, 0, 50, 9), &token(8, 0, 60, 0)),
        eight,
        "renewed later, of a lower generation"
    );
    assert_eq!(chosen(&mut scene, &token(7, 0, 100, 0), &token(8, 0, 900, 0)), seven, "as new as can be: the first");
    assert_eq!(chosen(&mut scene, &token(7, 10, 100, 0), &token(8, 20, 900, 0)), eight, "then what began later");
}

#[test]
fn clusters_that_share_hosts_share_a_pin_until_they_have_their_own() {
    let mut scene = Scene::resumed("");
    scene.proxy.cluster = Some("third");
    scene.served_by(B);
    scene.exchange();
    scene.proxy.cluster = Some("same hosts as third");
    assert_eq!(asked(&scene.request().1).as_deref(), Some(B), "the bridge ignores it where it is not there");
}

#[test]
fn a_pin_that_is_used_is_not_the_first_to_go() {
    let clusters = ["c1", "c2", "c3", "c4", "c5", "c6", "c7"];
    let mut scene = Scene::resumed("");
    scene.bridge(true);
    for cluster in clusters {
        scene.proxy.cluster = Some(cluster);
        assert_eq!(scene.exchange(), Cookie::Issued);
    }
    scene.proxy.cluster = Some("app");
    scene.bridge(false);
    scene.later(600);
    assert_eq!(scene.exchange(), Cookie::Issued, "renewed while it used the oldest pin");
    scene.bridge(true);
    scene.proxy.cluster = Some("c8");
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!((scene.pin("app").is_some(), scene.pin("c1").is_some()), (true, false));
}
