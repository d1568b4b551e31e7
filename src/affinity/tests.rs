use super::*;
use crate::config::Config;
use crate::metrics::{Counter, Fault, Outcome};
use crate::token::{self, Refusal};
use crate::worker::Worker;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::cell::Cell;
use std::time::Duration;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const T0: UnixTime = UnixTime(1_800_000_000);
const A: &str = "127.0.0.1:9001";
const B: &str = "127.0.0.1:9002";
const VIA_UPSTREAM: &str = "via_upstream";

/// What the proxy knows, to be set by a test.
struct Proxy {
    now: Option<UnixTime>,
    cluster: Option<&'static str>,
    served: Option<String>,
    code_details: &'static str,
    response: Vec<(String, String)>,
    carried: Option<Vec<u8>>,
    randomness: bool,
    drawn: Cell<u8>,
    /// How often each of cluster, address and details was asked for.
    asked: Cell<u32>,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            now: Some(T0),
            cluster: Some("app"),
            served: Some(A.into()),
            code_details: VIA_UPSTREAM,
            response: vec![(":status".into(), "200".into())],
            carried: None,
            randomness: true,
            drawn: Cell::new(0),
            asked: Cell::new(0),
        }
    }
}

impl Proxy {
    fn draw<const N: usize>(&self) -> Option<[u8; N]> {
        self.drawn.set(self.drawn.get().wrapping_add(1));
        self.randomness.then(|| [self.drawn.get(); N])
    }

    fn ask<T>(&self, answer: T) -> T {
        self.asked.set(self.asked.get().saturating_add(1));
        answer
    }
}

impl Inputs for Proxy {
    fn now(&self) -> Option<UnixTime> {
        self.now
    }
    fn monotonic(&self) -> Option<Monotonic> {
        self.now.map(|now| Monotonic(Duration::from_secs(now.0)))
    }
    fn random_id(&self) -> Option<SessionId> {
        self.draw().map(SessionId)
    }
    fn random_nonce(&self) -> Option<[u8; 24]> {
        self.draw()
    }
    fn cluster_name(&self) -> Option<Vec<u8>> {
        self.ask(self.cluster.map(Into::into))
    }
    fn upstream_address(&self) -> Option<Vec<u8>> {
        self.ask(self.served.clone().map(Into::into))
    }
    fn code_details(&self) -> Option<Vec<u8>> {
        self.ask(Some(self.code_details.into()))
    }
    fn response_header(&self, name: &str) -> Option<Vec<u8>> {
        self.response.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone().into())
    }
    fn response_headers(&self) -> Option<Headers> {
        Some(Headers::from_pairs(self.response.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))))
    }
    fn carried(&self) -> Option<Vec<u8>> {
        self.carried.clone()
    }
}

/// A worker with one configuration, and a client with one cookie.
struct Scene {
    affinity: Affinity,
    worker: Worker,
    proxy: Proxy,
    cookie: Option<String>,
}

const KEYS: &str = r#"{"id":"new","secret":{"base64":"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}},
    {"id":"old","secret":{"base64":"QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI="}}"#;

fn affinity(members: &str) -> Affinity {
    let comma = if members.is_empty() { "" } else { "," };
    let json = format!(r#"{{"keys":[{KEYS}],"cookie":{{"name":"m"}}{comma}{members}}}"#);
    Affinity::new(Config::parse(json.as_bytes(), &|_| None).unwrap())
}

/// What a response did, as the client sees it.
#[derive(Debug, PartialEq)]
enum Cookie {
    Kept,
    Issued,
    Cleared,
}

impl Scene {
    fn new(members: &str) -> Self {
        Self { affinity: affinity(members), worker: Worker::default(), proxy: Proxy::default(), cookie: None }
    }

    /// A client whose session is pinned to `A` in the cluster `app`.
    fn resumed(members: &str) -> Self {
        let mut scene = Self::new(members);
        scene.bridge(true);
        assert_eq!(scene.exchange(), Cookie::Issued);
        scene.bridge(false);
        scene.worker.counts.take();
        scene
    }

    /// Whether the native filter names the serving host on the response.
    fn bridge(&mut self, speaks: bool) {
        self.proxy.response.retain(|(name, _)| name != "x-mooring-host");
        if speaks {
            self.proxy.response.push(("x-mooring-host".into(), "eA==".into()));
        }
    }

    fn served_by(&mut self, host: &str) {
        self.proxy.served = Some(host.into());
        self.bridge(true);
    }

    fn says(&mut self, action: &str) {
        self.proxy.response.push(("x-mooring-action".into(), action.into()));
    }

    fn later(&mut self, seconds: u64) {
        self.proxy.now = self.proxy.now.map(|now| UnixTime(now.0 + seconds));
    }

    fn request(&mut self) -> (Exchange, Vec<Edit<'static>>) {
        let cookie = self.cookie.as_ref().map(|value| format!("m={value}"));
        let lines = cookie.iter().map(|line| (&b"cookie"[..], line.as_bytes()));
        self.request_with(&Headers::from_pairs(lines))
    }

    fn request_with(&mut self, headers: &Headers) -> (Exchange, Vec<Edit<'static>>) {
        let (exchange, edits) = self.affinity.on_request(&mut self.worker, Some(headers), &self.proxy);
        (exchange, edits.into_iter().map(owned).collect())
    }

    fn respond(&mut self, exchange: Exchange) -> Cookie {
        let edits = self.affinity.on_response(exchange, &mut self.worker, &self.proxy);
        let set_cookie = added(&edits, "set-cookie");
        match set_cookie.as_deref().and_then(|line| line.strip_prefix("m=")?.split_once(';')) {
            None => Cookie::Kept,
            Some(("", _)) => {
                self.cookie = None;
                Cookie::Cleared
            }
            Some((value, _)) => {
                self.cookie = Some(value.into());
                Cookie::Issued
            }
        }
    }

    /// One request and its response.
    fn exchange(&mut self) -> Cookie {
        let (exchange, _) = self.request();
        self.respond(exchange)
    }

    fn session(&self) -> Session {
        token::open(self.cookie.as_ref().unwrap().as_bytes(), &self.affinity.config.keyring).unwrap().0
    }

    fn pin(&self, cluster: &str) -> Option<String> {
        self.session().pins.host_in(ClusterId::of(cluster.as_bytes())).map(ToString::to_string)
    }

    /// The one outcome since last time.
    fn outcome(&mut self) -> Outcome {
        let outcomes: Vec<_> = self
            .worker
            .counts
            .take()
            .into_iter()
            .filter_map(|(counter, _)| match counter {
                Counter::Session(outcome) => Some(outcome),
                Counter::Refused(_) | Counter::Fault(_) => None,
            })
            .collect();
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        outcomes[0]
    }

    fn counted(&self, counter: Counter) -> bool {
        self.worker.counts.clone().take().iter().any(|(known, _)| *known == counter)
    }
}

fn owned(edit: Edit<'_>) -> Edit<'static> {
    let name = |name: &str| &*Box::leak(name.to_owned().into_boxed_str());
    match edit {
        Edit::Set(key, value) => Edit::Set(name(key), value),
        Edit::Add(key, value) => Edit::Add(name(key), value),
        Edit::Remove(key) => Edit::Remove(name(key)),
    }
}

fn headers(lines: &[(&str, &str)]) -> Headers {
    Headers::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

/// The value that the edits set or add under `name`.
fn added(edits: &[Edit<'_>], name: &str) -> Option<String> {
    edits.iter().find_map(|edit| match edit {
        Edit::Set(key, value) | Edit::Add(key, value) if *key == name => String::from_utf8(value.clone()).ok(),
        Edit::Set(..) | Edit::Add(..) | Edit::Remove(_) => None,
    })
}

/// The host that the edits ask the bridge for.
fn asked(edits: &[Edit<'_>]) -> Option<String> {
    added(edits, "x-mooring-host").map(|value| String::from_utf8(STANDARD.decode(value).unwrap()).unwrap())
}

#[test]
fn a_new_client_gets_a_session_on_the_host_that_served() {
    let mut scene = Scene::new("");
    scene.bridge(true);
    let (exchange, edits) = scene.request();
    assert_eq!(asked(&edits), None);
    assert_eq!(scene.respond(exchange), Cookie::Issued);
    assert_eq!(scene.pin("app").as_deref(), Some(A));
    assert_eq!(scene.outcome(), Outcome::Created);
}

#[test]
fn a_resumed_session_asks_for_its_host_and_gets_no_cookie() {
    let mut scene = Scene::resumed("");
    scene.proxy.asked.set(0);
    let (exchange, edits) = scene.request();
    assert_eq!(asked(&edits).as_deref(), Some(A));
    assert_eq!(scene.respond(exchange), Cookie::Kept);
    assert_eq!(scene.outcome(), Outcome::Resumed);
    assert_eq!(scene.proxy.asked.get(), 0, "neither cluster, address nor details are asked for");
}

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
    let removed = ["x-mooring-host", "x-mooring-session", "x-mooring-action"].map(Edit::Remove);
    assert_eq!(edits, removed, "switched off, they are removed all the same");
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
    scene.affinity.config.cookie.path = "/shop".into();
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
    forward.affinity.config.cookie.forward = true;
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
        assert_eq!(scene.outcome(), Outcome::Created);
        assert_ne!(scene.cookie, Some(cookie));
    }
    let mut scene = Scene::new("");
    scene.cookie = Some(good);
    scene.proxy.now = Some(UnixTime(T0.0 - 61));
    scene.request();
    assert!(scene.counted(Counter::Refused(Refusal::Future)));
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
fn sticky_follows_the_host_that_served() {
    let mut scene = Scene::resumed("");
    let before = scene.session();
    scene.served_by(B);
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!(scene.outcome(), Outcome::Moved);
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
        assert_eq!(scene.outcome(), Outcome::Kept);
        scene.later(600);
        assert_eq!(scene.exchange(), Cookie::Issued, "a renewal that is due comes all the same");
        assert_eq!(scene.pin("app").as_deref(), Some(A));
    }
}

#[test]
fn a_strict_bridge_is_asked_only_for_hosts_of_the_routed_cluster() {
    let mut scene = Scene::resumed(r#""upstream":{"failover":"none"}"#);
    assert_eq!(asked(&scene.request().1).as_deref(), Some(A));
    scene.proxy.cluster = Some("other");
    assert_eq!(asked(&scene.request().1), None);
}

#[test]
fn a_bridge_header_that_the_upstream_made_up_moves_nothing() {
    let mut scene = Scene::resumed("");
    scene.bridge(true);
    assert_eq!(scene.exchange(), Cookie::Kept);
    assert_eq!(scene.outcome(), Outcome::Resumed);
}

#[test]
fn local_replies_issue_and_move_nothing_whatever_host_they_name() {
    for details in
        ["upstream_reset_before_response_started{connection_failure}", "response_timeout", "direct_response", ""]
    {
        let mut fresh = Scene::new("");
        fresh.proxy.code_details = details;
        fresh.served_by(B);
        assert_eq!(fresh.exchange(), Cookie::Kept);
        assert_eq!(fresh.outcome(), Outcome::Untouched);

        let mut resumed = Scene::resumed("");
        resumed.proxy.code_details = details;
        resumed.served_by(B);
        resumed.says("end");
        resumed.later(600);
        assert_eq!(resumed.exchange(), Cookie::Kept);
        assert_eq!(resumed.outcome(), Outcome::Untouched);
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
fn a_cookie_makes_the_response_private_unless_it_is() {
    for (said, added) in
        [(None, true), (Some("public, max-age=60"), true), (Some("private"), false), (Some("no-store"), false)]
    {
        let mut scene = Scene::new("");
        scene.proxy.response.extend(said.map(|said| ("cache-control".to_owned(), said.to_owned())));
        let (exchange, _) = scene.request();
        let edits = scene.affinity.on_response(exchange, &mut scene.worker, &scene.proxy);
        assert_eq!(edits.contains(&Edit::Add("cache-control", b"private".to_vec())), added, "{said:?}");
    }
    let mut resumed = Scene::resumed("");
    let (exchange, _) = resumed.request();
    let edits = resumed.affinity.on_response(exchange, &mut resumed.worker, &resumed.proxy);
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
    assert_eq!(scene.outcome(), Outcome::Renewed);
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
fn a_session_that_ends_while_its_answer_is_under_way_is_not_revived() {
    let mut scene = Scene::resumed("");
    let (exchange, _) = scene.request();
    scene.later(1_800);
    scene.served_by(B);
    assert_eq!(scene.respond(exchange), Cookie::Kept);
    assert_eq!(scene.outcome(), Outcome::Untouched);
}

#[test]
fn a_token_of_an_older_key_is_issued_anew_under_the_first() {
    let mut scene = Scene::resumed("");
    let rotated = Scene {
        affinity: {
            let (new, old) = KEYS.split_once("}},").unwrap();
            let json = format!(r#"{{"keys":[{},{new}}}}}],"cookie":{{"name":"m"}}}}"#, old.trim());
            Affinity::new(Config::parse(json.as_bytes(), &|_| None).unwrap())
        },
        worker: Worker::default(),
        proxy: Proxy::default(),
        cookie: scene.cookie.take(),
    };
    let mut scene = rotated;
    let (exchange, edits) = scene.request();
    assert_eq!(asked(&edits).as_deref(), Some(A));
    assert_eq!(scene.respond(exchange), Cookie::Issued);
    assert_eq!(scene.outcome(), Outcome::Rekeyed);
    assert!(scene.cookie.as_ref().unwrap().starts_with("m1e.old."));
    assert_eq!(scene.exchange(), Cookie::Kept);
}

#[test]
fn a_second_cluster_gets_a_pin_of_its_own_and_nothing_flaps() {
    let mut scene = Scene::resumed("");
    scene.proxy.cluster = Some("other");
    scene.served_by(B);
    assert_eq!(scene.exchange(), Cookie::Issued);
    assert_eq!(scene.outcome(), Outcome::Pinned);
    scene.bridge(false);
    for cluster in ["app", "other", "app", "other"] {
        scene.proxy.cluster = Some(cluster);
        let (exchange, edits) = scene.request();
        assert_eq!(asked(&edits).as_deref(), Some(if cluster == "app" { A } else { B }));
        assert_eq!(scene.respond(exchange), Cookie::Kept);
    }
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
    assert_eq!(scene.outcome(), Outcome::PinIgnored);
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
fn internal_headers_do_not_reach_the_client() {
    let mut scene = Scene::resumed("");
    scene.served_by(A);
    scene.says("nonsense");
    let (exchange, _) = scene.request();
    let edits = scene.affinity.on_response(exchange, &mut scene.worker, &scene.proxy);
    for name in scene.affinity.internal_headers() {
        assert!(edits.contains(&Edit::Remove(name)), "{name}");
    }
}

#[test]
fn without_randomness_nothing_is_issued_and_a_good_cookie_stays() {
    let mut fresh = Scene::new("");
    fresh.proxy.randomness = false;
    assert_eq!(fresh.exchange(), Cookie::Kept);
    assert_eq!(fresh.outcome(), Outcome::Failed);

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
        scene.proxy.response.retain(|(name, _)| name != "x-mooring-action");
        assert_eq!(scene.exchange(), Cookie::Issued, "and is not taken for one that is over");
    }
}

#[test]
fn without_headers_or_a_clock_the_client_keeps_what_it_has() {
    let mut scene = Scene::resumed("");
    let (exchange, edits) = scene.affinity.on_request(&mut scene.worker, None, &scene.proxy);
    assert_eq!(edits, scene.affinity.internal_headers().map(Edit::Remove));
    assert_eq!(scene.respond(exchange), Cookie::Kept);
    assert_eq!(scene.outcome(), Outcome::Failed);

    scene.proxy.now = None;
    let (exchange, edits) = scene.request();
    assert_eq!(asked(&edits), None);
    scene.proxy.now = Some(T0);
    assert_eq!(scene.respond(exchange), Cookie::Kept);
    assert_eq!(scene.outcome(), Outcome::Failed);

    let (exchange, _) = scene.request();
    scene.proxy.now = None;
    assert_eq!(scene.respond(exchange), Cookie::Kept);
    assert_eq!(scene.outcome(), Outcome::Failed);
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
fn a_persistent_cookie_says_how_long_the_session_can_last() {
    let mut scene = Scene::new("");
    scene.affinity.config.cookie.persistent = true;
    let (exchange, _) = scene.request();
    let edits = scene.affinity.on_response(exchange, &mut scene.worker, &scene.proxy);
    assert!(added(&edits, "set-cookie").unwrap().contains("; Max-Age=1800;"));
}

#[test]
fn encryption_is_the_config_s_choice_and_both_kinds_are_read() {
    let mut scene = Scene::resumed("");
    assert!(scene.cookie.as_ref().unwrap().starts_with("m1e.new."));
    scene.affinity.config.cookie.encrypt = false;
    assert_eq!(asked(&scene.request().1).as_deref(), Some(A));
    scene.later(600);
    scene.proxy.randomness = false;
    assert_eq!(scene.exchange(), Cookie::Issued, "a signed token needs no nonce");
    assert!(scene.cookie.as_ref().unwrap().starts_with("m1s.new."));
    scene.affinity.config.cookie.encrypt = true;
    assert_eq!(asked(&scene.request().1).as_deref(), Some(A));
}

#[test]
fn the_debug_header_is_one_word() {
    let mut scene = Scene::resumed(r#""debug_header":"x-debug""#);
    scene.served_by(B);
    let (exchange, _) = scene.request();
    let edits = scene.affinity.on_response(exchange, &mut scene.worker, &scene.proxy);
    assert!(edits.contains(&Edit::Set("x-debug", b"moved".to_vec())));
}
