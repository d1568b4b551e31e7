//! What a decision is called, in counters and in the access log.

use super::*;
use crate::credential::keyring::KeyPosition;
use crate::observe::decision::Displaced;
use crate::observe::metrics::{Ending, Histogram};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

impl Scene {
    fn is(&self, counter: Counter) -> u32 {
        self.worker.counts.get(counter)
    }

    fn pinned_hosts(&mut self) -> Vec<(String, u32)> {
        let counted = self.worker.counts.take_named(&self.affinity.shared.keyring);
        counted.into_iter().filter(|(name, _)| name.starts_with("mooring_sessions_pinned.")).collect()
    }
}

#[test]
fn the_access_log_is_told_what_happened_and_what_the_request_came_with() {
    let mut scene = Scene::new("");
    scene.bridge(true);
    scene.exchange();
    assert_eq!(scene.logged.as_deref(), Some("created none"));
    let good = scene.cookie.clone();
    scene.cookie = good.as_ref().map(|token| token.replace("m1e.new.", "m1s.new."));
    scene.exchange();
    assert_eq!(scene.logged.as_deref(), Some("created bad_tag"));
    scene.cookie = good;
    scene.bridge(false);
    scene.later(180);
    scene.exchange();
    assert_eq!(scene.logged.as_deref(), Some("renewed token"));
    scene.says("end");
    scene.exchange();
    assert_eq!(scene.logged.as_deref(), Some("ended token"));
}

#[test]
fn where_nothing_was_due_the_access_log_is_told_only_on_request() {
    for (members, logged) in
        [("", None), (r#""access_log":"changes""#, None), (r#""access_log":"all""#, Some("resumed token"))]
    {
        let mut scene = Scene::resumed(members);
        scene.exchange();
        assert_eq!(scene.logged.as_deref(), logged);
        assert_eq!(scene.outcome(), "resumed", "counted all the same");
    }
}

#[test]
fn a_request_outside_of_the_path_is_plain() {
    for (access_log, logged) in [("changes", None), ("all", Some("untouched outside"))] {
        let mut scene = Scene::new(&format!(r#""access_log":"{access_log}""#));
        scene.cookie_carrier().path = "/app".into();
        let (exchange, _) = scene.request_with(&headers(&[(":path", "/"), ("cookie", "m=x")]));
        scene.respond(exchange);
        assert_eq!(scene.logged.as_deref(), logged);
        assert_eq!((scene.is(Counter::Request(Basis::Outside)), scene.outcome()), (1, "untouched"));
    }
}

#[test]
fn a_move_says_why() {
    for (attempts, why) in [
        (Some(1), Displaced::Unavailable),
        (None, Displaced::Unavailable),
        (Some(2), Displaced::Retried),
        (Some(u64::MAX), Displaced::Retried),
    ] {
        let mut scene = Scene::resumed("");
        scene.proxy.attempts = attempts;
        scene.served_by(B);
        scene.exchange();
        assert_eq!(scene.logged, Some(format!("moved token {}", why.word())));
        assert_eq!(scene.is(Counter::Displaced(why)), 1);
        assert_eq!(scene.outcome(), "moved");
    }
}

#[test]
fn whatever_else_is_due_a_host_that_did_not_serve_is_told() {
    let mut scene = Scene::resumed(r#""upstream":{"failover":"temporary"}"#);
    scene.served_by(B);
    scene.exchange();
    assert_eq!(scene.logged.as_deref(), Some("kept token unavailable"));
    scene.later(200);
    scene.exchange();
    assert_eq!(scene.logged.as_deref(), Some("renewed token unavailable"));
    scene.says("rotate");
    scene.exchange();
    assert_eq!(scene.logged.as_deref(), Some("rotated token unavailable"));
    assert_eq!(scene.is(Counter::Displaced(Displaced::Unavailable)), 3);
    scene.says_nothing();
    scene.bridge(false);
    scene.later(200);
    scene.exchange();
    assert_eq!(scene.logged.as_deref(), Some("renewed token"));
    assert_eq!(scene.is(Counter::Displaced(Displaced::Unavailable)), 3);
}

#[test]
fn every_request_is_counted_by_what_it_came_with() {
    let mut scene = Scene::new("");
    scene.bridge(true);
    scene.exchange();
    scene.bridge(false);
    scene.exchange();
    let (exchange, _) = scene.request_with(&headers(&[("cookie", "m=x; m=y")]));
    scene.respond(exchange);
    let request = scene.affinity.turn(&mut scene.worker, &scene.proxy).on_request(STREAM, None);
    assert!(matches!(request, RequestStep::Proceed(..)));
    for basis in [Basis::None, Basis::Refused(Refusal::Malformed), Basis::Token, Basis::Unread] {
        assert_eq!(scene.is(Counter::Request(basis)), 1, "{basis:?}");
    }
    assert_eq!(scene.is(Counter::Refused(Refusal::Malformed)), 2, "each cookie");
}

#[test]
fn a_further_pass_of_a_stream_is_counted_as_one() {
    let mut scene = Scene::resumed("");
    let (exchange, _) = scene.request();
    scene.proxy.carried = scene.affinity.carry(&exchange);
    let (exchange, _) = scene.request_with(&headers(&[]));
    scene.respond(exchange);
    assert_eq!(scene.is(Counter::Request(Basis::Redirected)), 1);
    assert_eq!(scene.outcome(), "resumed");
}

#[test]
fn a_valid_token_is_counted_by_its_key() {
    let mut scene = Scene::resumed("");
    scene.exchange();
    let old = scene.cookie.take();
    assert_eq!(scene.is(Counter::Accepted(KeyPosition::Current)), 1);
    let json = format!(r#"{{"keys":[{}],"cookie":{{"name":"m"}},"scope":"m"}}"#, swapped(KEYS));
    scene.affinity = affinity(&read(&json));
    scene.worker = Worker::new(&scene.config(), 0);
    scene.cookie = old;
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!(scene.is(Counter::Accepted(KeyPosition::Older(1))), 1);
    assert_eq!(scene.exchange(), Cookie::Kept);
    let accepted = [KeyPosition::Current, KeyPosition::Older(1)].map(|age| scene.is(Counter::Accepted(age)));
    assert_eq!(accepted, [1, 1], "issued anew under the first");
}

/// The same keys, the other first.
fn swapped(keys: &str) -> String {
    let (one, other) = keys.split_once("},\n").unwrap();
    format!("{other},{one}}}")
}

#[test]
fn a_session_that_gets_a_pin_is_counted_by_its_host() {
    let mut scene = Scene::new("");
    scene.bridge(true);
    scene.exchange();
    scene.exchange();
    scene.served_by(B);
    scene.exchange();
    let name = |host: &str| format!("mooring_sessions_pinned.host={host}");
    assert_eq!(scene.pinned_hosts(), [(name(A), 1), (name(B), 1)]);
    scene.proxy.randomness = false;
    scene.served_by(A);
    scene.exchange();
    assert_eq!(scene.pinned_hosts(), [], "nothing could be issued");
}

#[test]
fn an_end_tells_how_long_the_session_had_lasted() {
    let measured = |scene: &mut Scene| scene.worker.counts.take_measured();
    let mut scene = Scene::resumed("");
    scene.later(100);
    scene.says("end");
    scene.exchange();
    assert_eq!(measured(&mut scene), [(Histogram::Lifetime(Ending::Ended), 100)]);
    // Until it was renewed last; whichever timeout came first.
    let (idle, absolute) = (30 * 60, 8 * 60 * 60);
    for back_after in [idle, 3 * absolute] {
        let mut scene = Scene::resumed("");
        scene.later(200);
        scene.exchange();
        scene.later(back_after);
        scene.exchange();
        assert_eq!(measured(&mut scene), [(Histogram::Lifetime(Ending::ExpiredIdle), 200)]);
    }
    for members in [r#""session":{"idle_timeout":"0s"}"#, r#""session":{"idle_timeout":"400d"}"#] {
        let mut scene = Scene::resumed(members);
        scene.later(absolute + 5);
        scene.exchange();
        assert_eq!(measured(&mut scene), [(Histogram::Lifetime(Ending::ExpiredAbsolute), absolute)]);
    }
}

#[test]
fn an_end_is_measured_once_a_request_and_not_beside_a_session_that_goes_on() {
    let mut scene = Scene::resumed("");
    let expired = scene.cookie.take().unwrap();
    scene.later(30 * 60);
    scene.bridge(true);
    scene.exchange();
    let good = scene.cookie.clone().unwrap();
    let measured = |scene: &mut Scene, line: String| {
        let (exchange, _) = scene.request_with(&headers(&[("cookie", line.as_str())]));
        scene.respond(exchange);
        scene.worker.counts.take_measured().len()
    };
    assert_eq!(measured(&mut scene, format!("m={expired}; m={expired}")), 1);
    assert_eq!(measured(&mut scene, format!("m={expired}; m={good}")), 0);
}
