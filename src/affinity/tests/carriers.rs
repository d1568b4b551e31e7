//! How clients carry their sessions: by cookie, by header, and by both.

use super::*;
use crate::carrier::Way;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const HEADER: &str = "x-session-token";
const HEADER_ONLY: &str = r#""identify":[{"header":{}}]"#;
const HEADER_FIRST: &str = r#""identify":[{"header":{}},{"cookie":{}}]"#;
const COOKIE_FIRST: &str = r#""identify":[{"cookie":{}},{"header":{"issue":"always"}}]"#;

/// What a client met.
struct Met {
    request: Vec<Edit<'static>>,
    response: Vec<Edit<'static>>,
    /// The decision's words.
    line: Option<String>,
}

impl Met {
    /// The token in the response's header: empty where it is taken away.
    fn token(&self) -> Option<String> {
        added(&self.response, HEADER)
    }

    fn cookie(&self) -> Option<String> {
        added(&self.response, "set-cookie")
            .map(|line| line.trim_start_matches("m=").split(';').next().unwrap().to_owned())
    }

    fn host(&self) -> Option<String> {
        asked(&self.request)
    }
}

fn scene(members: &str) -> Scene {
    let mut scene = Scene::new(&format!(r#"{members},"access_log":"all""#));
    scene.bridge(true);
    scene
}

fn meet(scene: &mut Scene, lines: &[(&str, &str)]) -> Met {
    let (exchange, request) = scene.request_with(&headers(lines));
    respond(scene, request, exchange)
}

fn respond(scene: &mut Scene, request: Vec<Edit<'static>>, exchange: Exchange) -> Met {
    let edits = answers(scene.affinity.turn(&mut scene.worker, &scene.proxy).on_response(STREAM, exchange));
    let response: Vec<_> = edits.into_iter().map(owned).collect();
    scene.take(&response);
    Met { request, response, line: scene.logged.take() }
}

/// A session of a client's that sends the header.
fn begun(scene: &mut Scene) -> String {
    let met = meet(scene, &[(HEADER, "")]);
    scene.bridge(false);
    met.token().unwrap()
}

#[test]
fn who_sends_the_header_empty_gets_a_token_in_it_and_comes_back_by_it() {
    let mut scene = scene(HEADER_ONLY);
    let first = meet(&mut scene, &[(HEADER, "")]);
    assert_eq!(first.line.as_deref(), Some("created none by=header"));
    assert_eq!(first.request[0], Edit::Remove(HEADER), "no upstream sees that it asked");
    assert_eq!(first.cookie(), None);
    assert!(first.response.contains(&Edit::Add("cache-control", b"private".into())));
    let token = first.token().unwrap();
    scene.bridge(false);
    let second = meet(&mut scene, &[("a", "b"), (HEADER, &token)]);
    assert_eq!((second.host().as_deref(), second.token()), (Some(A), None));
    assert_eq!(second.line.as_deref(), Some("resumed token by=header"));
    assert!(second.request.contains(&Edit::Remove(HEADER)), "nor the token");
}

#[test]
fn who_does_not_ask_gets_nothing_and_is_nothing_to_tell_of() {
    let mut scene = scene(HEADER_ONLY);
    let met = meet(&mut scene, &[("cookie", "m=garbage")]);
    assert_eq!(met.line.as_deref(), Some("untouched outside"));
    assert!(met.token().is_none() && met.cookie().is_none() && met.request.is_empty());
    assert!(scene.counted(Counter::Session(Outcome::Untouched, By(Way::None))));
    let mut always = self::scene(r#""identify":[{"header":{"issue":"always"}}]"#);
    assert!(meet(&mut always, &[]).token().is_some());
}

#[test]
fn a_token_that_is_refused_asks_for_another() {
    let mut scene = scene(HEADER_ONLY);
    let met = meet(&mut scene, &[(HEADER, "garbage")]);
    assert_eq!(met.line.as_deref(), Some("created malformed by=header"));
    assert!(met.token().is_some());
}

#[test]
fn the_first_way_that_yields_a_session_wins_and_no_token_reaches_the_upstream() {
    let mut scene = scene(HEADER_FIRST);
    let in_header = begun(&mut scene);
    scene.bridge(true);
    let in_cookie = meet(&mut scene, &[]).cookie().unwrap();
    scene.bridge(false);
    let cookie = format!("m={in_cookie}; other=1");
    for (header, line) in
        [(in_header.as_str(), "resumed token by=header"), ("garbage", "resumed token"), ("", "resumed token")]
    {
        let met = meet(&mut scene, &[("cookie", &cookie), (HEADER, header)]);
        assert_eq!(met.line.as_deref(), Some(line), "{header}");
        assert!(met.request.contains(&Edit::Remove(HEADER)));
        assert!(met.request.contains(&Edit::Set("cookie", b"other=1".into())));
    }
}

#[test]
fn a_new_session_begins_by_the_first_way_that_may() {
    let mut scene = scene(HEADER_FIRST);
    let unasked = meet(&mut scene, &[]);
    assert!(unasked.cookie().is_some() && unasked.token().is_none());
    let asked = meet(&mut scene, &[(HEADER, "")]);
    assert!(asked.cookie().is_none() && asked.token().is_some());
    let mut cookie_first = self::scene(COOKIE_FIRST);
    let met = meet(&mut cookie_first, &[(HEADER, "")]);
    assert!(met.cookie().is_some() && met.token().is_none());
    cookie_first.cookie_carrier().path = "/shop".into();
    let met = meet(&mut cookie_first, &[(":path", "/api")]);
    assert!(met.cookie().is_none() && met.token().is_some(), "the cookie's path is not the header's");
}

#[test]
fn what_the_application_says_goes_for_the_way_that_won_alone() {
    let mut scene = scene(HEADER_FIRST);
    let in_header = begun(&mut scene);
    scene.bridge(true);
    let in_cookie = meet(&mut scene, &[]).cookie().unwrap();
    scene.bridge(false);
    let cookie = format!("m={in_cookie}");
    scene.says("rotate");
    let rotated = meet(&mut scene, &[("cookie", &cookie), (HEADER, &in_header)]);
    assert!(rotated.token().is_some_and(|token| token != in_header) && rotated.cookie().is_none());
    scene.says_nothing();
    scene.says("end");
    let ended = meet(&mut scene, &[("cookie", &cookie), (HEADER, &rotated.token().unwrap())]);
    assert_eq!((ended.token().as_deref(), ended.cookie()), (Some(""), None));
    assert_eq!(ended.line.as_deref(), Some("ended token by=header"));
    let refused = meet(&mut scene, &[("cookie", "m=garbage"), (HEADER, "garbage")]);
    assert_eq!((refused.token().as_deref(), refused.cookie().as_deref()), (Some(""), Some("")), "of no session, both");
}

#[test]
fn a_renewal_goes_the_way_the_session_came() {
    let mut scene = scene(HEADER_FIRST);
    let token = begun(&mut scene);
    scene.later(200);
    let renewed = meet(&mut scene, &[(HEADER, &token)]);
    assert!(renewed.token().is_some_and(|new| new != token) && renewed.cookie().is_none());
}

#[test]
fn after_an_internal_redirect_the_answer_goes_the_way_that_the_first_pass_found() {
    let mut scene = scene(HEADER_FIRST);
    let token = begun(&mut scene);
    scene.later(200);
    let (first, _) = scene.request_with(&headers(&[(HEADER, &token)]));
    scene.proxy.carried = scene.affinity.carry(&first);
    let renewed = meet(&mut scene, &[]);
    assert_eq!(renewed.line.as_deref(), Some("renewed redirected by=header"));
    assert!(renewed.token().is_some() && renewed.cookie().is_none());
    let (asks, _) = scene.request_with(&headers(&[(HEADER, "")]));
    scene.proxy.carried = scene.affinity.carry(&asks);
    let created = meet(&mut scene, &[]);
    assert!(created.token().is_some() && created.cookie().is_none());
}

#[test]
fn what_cannot_be_read_goes_without_any_token() {
    let mut scene = scene(HEADER_FIRST);
    let step = scene.affinity.turn(&mut scene.worker, &scene.proxy).on_request(STREAM, None);
    assert!(proceeds(step).1.contains(&Edit::Remove(HEADER)));
}

#[test]
fn several_tokens_in_one_header_are_as_several_cookies() {
    let mut scene = scene(HEADER_ONLY);
    let old = begun(&mut scene);
    scene.later(200);
    let new = meet(&mut scene, &[(HEADER, &old)]).token().unwrap();
    let met = meet(&mut scene, &[(HEADER, &format!("{old}, garbage")), (HEADER, &new)]);
    assert_eq!(met.line.as_deref(), Some("resumed token by=header"), "the newest wins");
}

#[test]
fn an_upstream_cannot_give_the_client_a_token() {
    let mut scene = scene(HEADER_FIRST);
    let met = meet(&mut scene, &[]);
    assert!(met.response.contains(&Edit::Remove(HEADER)));
    assert!(scene.affinity.inward_headers().any(|name| name == HEADER), "nor in trailers");
}

#[test]
fn an_end_after_a_failure_takes_away_what_the_client_sent_alone() {
    let mut scene = scene(HEADER_FIRST);
    let token = begun(&mut scene);
    let (exchange, request) = scene.request_with(&headers(&[(HEADER, &token)]));
    scene.says("end");
    let met = respond(&mut scene, request, exchange.unasked());
    assert_eq!((met.token().as_deref(), met.cookie()), (Some(""), None));
}
