//! Sessions that several proxies share through a store.

use super::*;
use crate::ids::CallId;
use crate::observe::metrics::{CallResult, Operation};
use crate::store::client::{CallOutcome, Event, WriteOutcome};
use crate::store::protocol::model::Model;
use crate::store::protocol::{Answer, StoreKey};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const C: &str = "127.0.0.1:9003";

/// A proxy whose client's cookie is passed in and out, and a store that answers, or does not.
struct Proxies {
    scenes: Vec<Scene>,
    store: Model,
    /// Answers in the store's place.
    fault: Option<Answer>,
    /// The host that the bridge was asked for.
    asked: Option<String>,
    session_header: Option<String>,
    calls: u32,
    /// For how many writes responses waited.
    waited: u32,
}

/// What became of a request.
#[derive(Debug, PartialEq)]
enum Seen {
    /// It was served, and its cookie kept, issued or cleared.
    Served(Cookie),
    /// It was turned away, to come back after so many seconds.
    Refused(u64),
}

const KEPT: Seen = Seen::Served(Cookie::Kept);
const ISSUED: Seen = Seen::Served(Cookie::Issued);
const CLEARED: Seen = Seen::Served(Cookie::Cleared);

impl Proxies {
    /// Two proxies with these members of `store`, and others.
    fn new(store: &str, members: &str) -> Self {
        let comma = if store.is_empty() { "" } else { "," };
        let members = format!(r#""store":{{"cluster":"c"{comma}{store}}}{members}"#);
        Self {
            scenes: [(); 2].map(|()| Scene::new(&members)).into(),
            store: Model::default(),
            fault: None,
            asked: None,
            session_header: None,
            calls: 0,
            waited: 0,
        }
    }

    /// Makes the calls of a proxy and answers them. What `STREAM` is told.
    fn talk(&mut self, at: usize) -> Vec<CallOutcome> {
        let mut news = Vec::new();
        loop {
            let Scene { worker, proxy, .. } = &mut self.scenes[at];
            let now = proxy.monotonic();
            let store = worker.store.as_mut().unwrap();
            let mut event = Event { now, counts: &mut worker.counts };
            assert_eq!(store.admit(&mut event), []);
            let Some(call) = store.outgoing() else { return news };
            self.calls += 1;
            let (key, command) = call.asked();
            let answer = self.fault.clone().unwrap_or_else(|| self.store.answer(key, command));
            store.sent(CallId(self.calls), call);
            for (stream, told) in store.answered(CallId(self.calls), answer, &mut event) {
                assert_eq!(stream, STREAM);
                news.push(told);
            }
        }
    }

    /// One request with this cookie through a proxy, and its response. The cookie that the client has then.
    fn exchange(&mut self, at: usize, cookie: &mut Option<String>) -> Seen {
        let line = cookie.as_ref().map(|value| format!("m={value}"));
        let request = headers(&line.iter().map(|line| ("cookie", line.as_str())).collect::<Vec<_>>());
        let scene = &mut self.scenes[at];
        scene.cookie = cookie.clone();
        let affinity = affinity(&scene.config());
        let mut step = affinity.turn(&mut scene.worker, &scene.proxy).on_request(STREAM, Some(&request));
        if let RequestStep::Wait(waiting) = step {
            let Some(CallOutcome::Lookup(found)) = self.talk(at).pop() else { panic!("no answer") };
            let scene = &mut self.scenes[at];
            step = affinity.turn(&mut scene.worker, &scene.proxy).on_found(*waiting, found, Some(&request));
        }
        let (exchange, edits) = match step {
            RequestStep::Proceed(exchange, edits) => (exchange, edits),
            RequestStep::Refuse(seconds, exchange, _) => {
                let Scene { worker, proxy, .. } = &mut self.scenes[at];
                let logged = affinity.turn(worker, proxy).on_refused(&exchange).map(owned);
                self.scenes[at].take(&logged.into_iter().collect::<Vec<_>>());
                return Seen::Refused(seconds);
            }
            RequestStep::Wait(_) => panic!("waits again"),
        };
        self.asked = asked(&edits);
        self.session_header = added(&edits, "x-mooring-session");
        self.talk(at);
        // The bridge names the host that served, where that is not the one that was asked for.
        let scene = &mut self.scenes[at];
        scene.bridge(self.asked != scene.proxy.served);
        let edits: Vec<Edit<'static>> =
            match affinity.turn(&mut scene.worker, &scene.proxy).on_response(STREAM, exchange) {
                Response::Proceed(edits) => edits.into_iter().map(owned).collect(),
                Response::Wait(edits, mut held) => {
                    assert_eq!(added(&edits, "set-cookie"), None, "before the store has it");
                    let mut news = self.talk(at);
                    assert!(!news.is_empty(), "no answer");
                    loop {
                        let CallOutcome::Write(written) = news.remove(0) else { panic!("a lookup") };
                        self.waited += 1;
                        let scene = &mut self.scenes[at];
                        match affinity.turn(&mut scene.worker, &scene.proxy).on_written(*held, written) {
                            Response::Proceed(edits) => break edits.into_iter().map(owned).collect(),
                            Response::Wait(_, still) => held = still,
                        }
                    }
                }
            };
        self.talk(at);
        let seen = self.scenes[at].take(&edits);
        *cookie = self.scenes[at].cookie.clone();
        Seen::Served(seen)
    }

    /// As [`Self::exchange`], with a cookie that stays as it is.
    fn try_out(&mut self, at: usize, cookie: &Option<String>) -> Seen {
        self.exchange(at, &mut cookie.clone())
    }

    fn served_by(&mut self, host: &str) {
        self.scenes.iter_mut().for_each(|scene| scene.proxy.served = Some(host.into()));
    }

    fn says(&mut self, at: usize, action: &str) {
        self.scenes[at].says(action);
    }

    fn says_nothing(&mut self) {
        self.scenes.iter_mut().for_each(Scene::says_nothing);
    }

    fn later(&mut self, seconds: u64) {
        self.scenes.iter_mut().for_each(|scene| scene.later(seconds));
    }

    fn outcome(&mut self, at: usize) -> &'static str {
        self.scenes[at].outcome()
    }

    fn calls(&self, at: usize, operation: Operation, result: CallResult) -> u32 {
        self.scenes[at].worker.counts.get(Counter::StoreCall(operation, result))
    }

    fn refused(&self, at: usize) -> bool {
        self.scenes[at].counted(Counter::Refused(Refusal::Revoked))
    }

    fn open(&self, cookie: &Option<String>) -> Session {
        token::open(cookie.as_ref().unwrap().as_bytes(), &self.scenes[0].affinity.shared.keyring).unwrap().0
    }

    fn key(&self, session: &Session) -> StoreKey {
        StoreKey::of(&session.id, "m", "mooring")
    }

    /// A client whose session is pinned to `A` and known to the store and to both proxies.
    fn settled(store: &str, members: &str) -> (Self, Option<String>) {
        let mut proxies = Self::new(store, members);
        let mut cookie = None;
        assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
        for at in [0, 1] {
            assert_eq!(proxies.exchange(at, &mut cookie), KEPT);
        }
        proxies.scenes.iter_mut().for_each(|scene| drop(scene.worker.counts.take()));
        (proxies, cookie)
    }
}

#[test]
fn a_session_is_written_when_the_client_returns_and_known_to_all_for_one_lookup_each() {
    let mut proxies = Proxies::new("", "");
    let mut cookie = None;
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    assert_eq!(proxies.calls, 0, "a client that keeps no cookies costs the store nothing");
    for at in [0, 1, 0, 1, 0, 1] {
        assert_eq!(proxies.exchange(at, &mut cookie), KEPT);
        assert_eq!(proxies.asked.as_deref(), Some(A));
    }
    assert_eq!(proxies.calls(0, Operation::Lookup, CallResult::Missing), 1);
    assert_eq!(proxies.calls(0, Operation::Create, CallResult::Ok), 1);
    assert_eq!(proxies.calls(1, Operation::Lookup, CallResult::Ok), 1);
    assert_eq!(proxies.calls, 3);
}

#[test]
fn created_at_once_it_is_there_before_the_client_returns() {
    let mut proxies = Proxies::new(r#""create":"at_once""#, "");
    let mut cookie = None;
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    assert_eq!(proxies.calls(0, Operation::Create, CallResult::Ok), 1);
    assert_eq!(proxies.exchange(0, &mut cookie), KEPT);
    assert_eq!(proxies.calls(0, Operation::Lookup, CallResult::Ok), 0, "who wrote it knows it");
    assert_eq!(proxies.exchange(1, &mut cookie), KEPT);
    assert_eq!(proxies.calls(1, Operation::Lookup, CallResult::Ok), 1);
}

#[test]
fn a_move_is_followed_by_the_other_proxy_with_either_cookie() {
    for write in ["", r#""write":"sync""#] {
        let (mut proxies, mut cookie) = Proxies::settled(write, "");
        let old = cookie.clone();
        proxies.served_by(B);
        assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
        assert_eq!(proxies.outcome(0), "moved");
        assert_eq!(proxies.calls(0, Operation::Move, CallResult::Ok), 0, "taken with the outcome");
        // The new cookie is newer than what the other knows: it asks.
        assert_eq!(proxies.try_out(1, &cookie), KEPT);
        assert_eq!(proxies.asked.as_deref(), Some(B));
        // Then it knows better than the old cookie, which follows.
        let mut behind = old;
        assert_eq!(proxies.exchange(1, &mut behind), ISSUED);
        assert_eq!(proxies.asked.as_deref(), Some(B));
        assert_eq!(proxies.open(&behind).generation, 1);
        assert_eq!(proxies.calls(1, Operation::Touch, CallResult::Ok), 1, "it was renewed by that");
        proxies.later(11);
        assert_eq!(proxies.exchange(1, &mut behind), KEPT, "once");
        proxies.later(20);
        assert_eq!(proxies.exchange(0, &mut behind), KEPT);
        assert_eq!(proxies.asked.as_deref(), Some(B));
    }
}

#[test]
fn an_old_cookie_follows_within_the_time_to_live() {
    let (mut proxies, mut cookie) = Proxies::settled("", "");
    let mut old = cookie.clone();
    proxies.served_by(B);
    proxies.exchange(0, &mut cookie);
    proxies.served_by(A);
    assert_eq!(proxies.exchange(1, &mut old), KEPT);
    proxies.served_by(B);
    proxies.later(30);
    assert_eq!(proxies.exchange(1, &mut old), ISSUED);
    assert_eq!(proxies.asked.as_deref(), Some(B));
    assert_eq!(proxies.open(&old).pins, proxies.open(&cookie).pins);
}

#[test]
fn movers_at_the_same_time_agree() {
    for write in ["", r#""write":"sync""#] {
        let (mut proxies, cookie) = Proxies::settled(write, "");
        let (mut one, mut two) = (cookie.clone(), cookie.clone());
        proxies.served_by(B);
        assert_eq!(proxies.exchange(0, &mut one), ISSUED);
        proxies.served_by(C);
        assert_eq!(proxies.exchange(1, &mut two), ISSUED);
        proxies.served_by(B);
        for client in [&one, &two, &cookie] {
            for at in [0, 1] {
                proxies.try_out(at, client);
                assert_eq!(proxies.asked.as_deref(), Some(B), "{write} {at}");
            }
        }
        if !write.is_empty() {
            assert_eq!(proxies.open(&two).pins, proxies.open(&one).pins, "who waits can say so at once");
        }
    }
}

#[test]
fn a_logout_on_one_proxy_holds_on_all() {
    let (mut proxies, mut cookie) = Proxies::settled("", "");
    let old = cookie.clone();
    proxies.says(0, "end");
    assert_eq!(proxies.exchange(0, &mut cookie), CLEARED);
    assert_eq!(cookie, None);
    proxies.says_nothing();
    assert_eq!(proxies.try_out(0, &old), ISSUED, "another session");
    assert!(proxies.refused(0));
    assert_eq!(proxies.try_out(1, &old), KEPT, "until the time to live is over");
    proxies.later(30);
    assert_eq!(proxies.try_out(1, &old), ISSUED);
    assert!(proxies.refused(1));
    assert_eq!(proxies.store.value(&proxies.key(&proxies.open(&old))), Some(""));
}

#[test]
fn a_logout_on_a_304_ends_the_session_too() {
    let (mut proxies, cookie) = Proxies::settled("", "");
    proxies.scenes[0].proxy.response =
        vec![(":status".into(), "304".into()), ("x-mooring-action".into(), "end".into())];
    assert_eq!(proxies.try_out(0, &cookie), KEPT, "a 304 carries no cookie");
    assert_eq!(proxies.store.value(&proxies.key(&proxies.open(&cookie))), Some(""));
}

#[test]
fn a_local_reply_ends_nothing() {
    let (mut proxies, cookie) = Proxies::settled("", "");
    proxies.scenes[0].proxy.code_details = "direct_response";
    proxies.says(0, "end");
    proxies.try_out(0, &cookie);
    assert_ne!(proxies.store.value(&proxies.key(&proxies.open(&cookie))), Some(""));
}

#[test]
fn a_rotation_writes_the_new_session_and_ends_the_old_one() {
    let (mut proxies, mut cookie) = Proxies::settled("", "");
    let old = cookie.clone();
    proxies.says(0, "rotate");
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    proxies.says_nothing();
    let (before, after) = (proxies.open(&old), proxies.open(&cookie));
    assert_ne!(before.id, after.id);
    assert_eq!((before.end, &before.pins), (after.end, &after.pins));
    assert_eq!(proxies.store.value(&proxies.key(&before)), Some(""));
    assert!(proxies.store.value(&proxies.key(&after)).is_some_and(|value| !value.is_empty()));
    assert_eq!(proxies.try_out(1, &cookie), KEPT);
    assert_eq!(proxies.calls(1, Operation::Lookup, CallResult::Ok), 1);
    proxies.later(30);
    assert_eq!(proxies.try_out(1, &old), ISSUED);
    assert!(proxies.refused(1));
}

#[test]
fn a_login_that_waits_for_its_writes_is_known_everywhere_when_it_is_answered() {
    let rules = r#""on_missing":"new_session","create":"at_once","write":"sync""#;
    let (mut proxies, mut cookie) = Proxies::settled(rules, "");
    proxies.says(0, "rotate");
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    proxies.says_nothing();
    assert_eq!(proxies.calls(0, Operation::Create, CallResult::Ok), 1);
    assert_eq!(proxies.calls(0, Operation::Revoke, CallResult::Ok), 1);
    assert_eq!(proxies.try_out(1, &cookie), KEPT);
}

#[test]
fn a_value_that_cannot_be_read_is_put_right_where_the_cookie_is_trusted() {
    for (on_error, healed) in [("trust_cookie", true), ("rebalance", false)] {
        let (mut proxies, mut cookie) = Proxies::settled(&format!(r#""on_error":"{on_error}""#), "");
        let key = proxies.key(&proxies.open(&cookie));
        proxies.store.plant(&key, "v1.new.AA.rubbish");
        proxies.later(30);
        assert_eq!(proxies.exchange(0, &mut cookie), KEPT);
        assert_eq!(proxies.asked.is_some(), healed);
        assert_eq!(proxies.store.value(&key) != Some("v1.new.AA.rubbish"), healed);
        assert_eq!(proxies.exchange(1, &mut cookie), KEPT);
        let lookups = proxies.calls(1, Operation::Lookup, CallResult::Ok);
        assert_eq!(lookups, u32::from(healed));
    }
}

#[test]
fn a_renewal_lets_the_store_keep_the_session() {
    let (mut proxies, mut cookie) = Proxies::settled("", "");
    let key = proxies.key(&proxies.open(&cookie));
    assert_eq!(proxies.store.ttl(&key), Some(1920));
    for _ in 0..3 {
        proxies.later(180);
        assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    }
    assert_eq!(proxies.calls(0, Operation::Touch, CallResult::Ok), 3);
    assert_eq!(proxies.calls(0, Operation::Move, CallResult::Ok), 0);
}

#[test]
fn a_session_that_did_not_change_writes_nothing() {
    let (mut proxies, mut cookie) = Proxies::settled("", "");
    let before = proxies.calls;
    for _ in 0..20 {
        proxies.later(1);
        assert_eq!(proxies.exchange(0, &mut cookie), KEPT);
    }
    assert_eq!(proxies.calls, before);
}

#[test]
fn the_order_in_which_pins_were_used_is_no_difference() {
    let (mut proxies, mut cookie) = Proxies::settled("", "");
    proxies.scenes[0].proxy.cluster = Some("other");
    proxies.served_by(B);
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED, "a second pin");
    proxies.scenes[0].proxy.cluster = Some("app");
    proxies.served_by(A);
    proxies.later(180);
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED, "renewed, and the first pin was used last");
    for _ in 0..3 {
        proxies.later(11);
        assert_eq!(proxies.exchange(0, &mut cookie), KEPT);
    }
}

#[test]
fn a_token_of_an_older_key_has_the_value_written_anew() {
    let (mut proxies, mut cookie) = Proxies::settled("", "");
    for scene in &mut proxies.scenes {
        let json = format!(
            r#"{{"keys":[{{"id":"newest","secret":{{"base64":"Q0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0M="}}}},{KEYS}],
            "cookie":{{"name":"m"}},"store":{{"cluster":"c"}}}}"#
        );
        scene.affinity = affinity(&read(&json));
        scene.worker = Worker::new(&scene.config(), 0);
    }
    let key = proxies.key(&proxies.open(&cookie));
    assert!(proxies.store.value(&key).unwrap().starts_with("v1.new."));
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    assert_eq!(proxies.outcome(0), "rekeyed");
    assert!(proxies.store.value(&key).unwrap().starts_with("v1.newest."));
}

#[test]
fn a_store_that_lost_everything_fills_up_again() {
    let (mut proxies, mut cookie) = Proxies::settled("", "");
    proxies.store.wipe();
    proxies.later(30);
    assert_eq!(proxies.exchange(0, &mut cookie), KEPT);
    assert_eq!(proxies.asked.as_deref(), Some(A));
    let key = proxies.key(&proxies.open(&cookie));
    assert!(proxies.store.value(&key).is_some());
}

#[test]
fn an_older_copy_in_the_store_is_replaced_by_the_client_s() {
    let (mut proxies, mut cookie) = Proxies::settled("", "");
    proxies.fault = Some(Answer::Nothing);
    proxies.served_by(B);
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED, "the store does not hear of the move");
    proxies.fault = None;
    proxies.later(30);
    assert_eq!(proxies.exchange(1, &mut cookie), KEPT);
    assert_eq!(proxies.asked.as_deref(), Some(B));
    proxies.later(30);
    assert_eq!(proxies.exchange(0, &mut cookie), KEPT);
    assert_eq!(proxies.asked.as_deref(), Some(B));
    assert_eq!(proxies.calls(0, Operation::Lookup, CallResult::Ok), 1);
    assert_eq!(proxies.calls(1, Operation::Move, CallResult::Ok), 1, "the first who found it written so");
}

#[test]
fn what_is_released_or_pinned_anew_is_written() {
    let (mut proxies, mut cookie) = Proxies::settled("", "");
    let old = cookie.clone();
    proxies.says(0, "release");
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    proxies.says_nothing();
    proxies.later(30);
    proxies.try_out(1, &old);
    assert_eq!(proxies.asked, None, "another proxy knows of the release");
    proxies.scenes[0].proxy.cluster = Some("other");
    proxies.served_by(B);
    proxies.scenes[0].worker.counts.take();
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    assert_eq!(proxies.outcome(0), "pinned");
    proxies.later(30);
    proxies.scenes[1].proxy.cluster = Some("other");
    proxies.try_out(1, &old);
    assert_eq!(proxies.asked.as_deref(), Some(B), "and of the pin");
}

#[test]
fn with_sync_every_write_is_waited_for() {
    let (mut proxies, mut cookie) = Proxies::settled(r#""write":"sync","create":"at_once""#, "");
    proxies.waited = 0;
    proxies.later(180);
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    assert_eq!(proxies.waited, 1, "a renewal");
    proxies.served_by(B);
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    assert_eq!(proxies.waited, 2, "a move");
    assert_eq!(proxies.try_out(0, &None), ISSUED);
    assert_eq!(proxies.waited, 3, "a first cookie");
    proxies.says(0, "rotate");
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    assert_eq!(proxies.waited, 5, "a login, for both of its writes");
}

#[test]
fn with_async_a_logout_alone_is_waited_for() {
    let (mut proxies, mut cookie) = Proxies::settled("", "");
    proxies.waited = 0;
    proxies.later(180);
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    proxies.served_by(B);
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    assert_eq!(proxies.waited, 0);
    proxies.says(0, "end");
    assert_eq!(proxies.exchange(0, &mut cookie), CLEARED);
    assert_eq!(proxies.waited, 1);
}

#[test]
fn a_write_that_finds_the_session_ended_gives_no_cookie() {
    let (mut proxies, cookie) = Proxies::settled(r#""write":"sync""#, "");
    proxies.says(1, "end");
    proxies.try_out(1, &cookie);
    proxies.says_nothing();
    proxies.scenes.iter_mut().for_each(|scene| drop(scene.worker.counts.take()));
    proxies.served_by(B);
    assert_eq!(proxies.try_out(0, &cookie), KEPT, "it would have moved");
    assert_eq!(proxies.calls(0, Operation::Move, CallResult::Revoked), 1);
    assert_eq!(proxies.outcome(0), "untouched");
    assert_eq!(proxies.try_out(0, &cookie), ISSUED);
    assert!(proxies.refused(0));
}

#[test]
fn a_write_that_was_overtaken_by_a_logout_gives_no_cookie() {
    let (mut proxies, cookie) = Proxies::settled(r#""write":"sync""#, "");
    let line = format!("m={}", cookie.as_deref().unwrap());
    let request = headers(&[("cookie", line.as_str())]);
    let scene = &mut proxies.scenes[0];
    let affinity = affinity(&scene.config());
    let (mover, _) = proceeds(affinity.turn(&mut scene.worker, &scene.proxy).on_request(STREAM, Some(&request)));
    let (leaver, _) = proceeds(affinity.turn(&mut scene.worker, &scene.proxy).on_request(STREAM, Some(&request)));
    scene.served_by(B);
    let Response::Wait(_, held) = affinity.turn(&mut scene.worker, &scene.proxy).on_response(STREAM, mover) else {
        panic!("it does not wait")
    };
    scene.says("end");
    let Response::Wait(..) = affinity.turn(&mut scene.worker, &scene.proxy).on_response(STREAM, leaver) else {
        panic!("it does not wait")
    };
    scene.says_nothing();
    let Response::Proceed(edits) =
        affinity.turn(&mut scene.worker, &scene.proxy).on_written(*held, WriteOutcome::Settled)
    else {
        panic!("it waits on")
    };
    assert_eq!(added(&edits, "set-cookie"), None);
}

#[test]
fn a_copy_of_the_same_generation_with_other_pins_follows_too() {
    let (mut proxies, cookie) = Proxies::settled("", "");
    let (mut one, mut two) = (cookie.clone(), cookie);
    proxies.served_by(B);
    proxies.exchange(0, &mut one);
    proxies.served_by(C);
    proxies.exchange(1, &mut two);
    proxies.served_by(B);
    proxies.later(11);
    proxies.scenes[1].worker.counts.take();
    assert_eq!(proxies.exchange(1, &mut two), ISSUED);
    assert_eq!(proxies.outcome(1), "adopted");
    assert_eq!(proxies.open(&two).pins, proxies.open(&one).pins);
    proxies.later(1);
    assert_eq!(proxies.exchange(1, &mut two), KEPT);
}

#[test]
fn a_newer_copy_that_is_on_its_way_to_the_client_is_not_sent_twice() {
    let (mut proxies, mut cookie) = Proxies::settled("", "");
    let old = cookie.clone();
    proxies.served_by(B);
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED);
    assert_eq!(proxies.try_out(0, &old), KEPT, "a request with the cookie from before");
    assert_eq!(proxies.asked.as_deref(), Some(B));
    proxies.later(10);
    assert_eq!(proxies.try_out(0, &old), ISSUED, "it was lost");
}

#[test]
fn a_failing_store_costs_nothing_but_its_say() {
    for fault in [
        Answer::Nothing,
        Answer::TooLarge,
        Answer::Response { status: 503, etag: None, body: Vec::new() },
        Answer::Response { status: 200, etag: Some(b"\"e\"".to_vec()), body: b"<html>".to_vec() },
    ] {
        for write in ["", r#""write":"sync""#] {
            let (mut proxies, mut cookie) = Proxies::settled(write, "");
            proxies.fault = Some(fault.clone());
            for _ in 0..20 {
                proxies.later(31);
                proxies.exchange(0, &mut cookie);
                assert_eq!(proxies.asked.as_deref(), Some(A), "{fault:?}");
                assert_eq!(proxies.session_header, Some(proxies.open(&cookie).id.to_text()));
            }
            proxies.served_by(B);
            assert_eq!(proxies.exchange(0, &mut cookie), ISSUED, "it moves all the same");
            proxies.exchange(0, &mut cookie);
            assert_eq!(proxies.asked.as_deref(), Some(B));
            let mut fresh = None;
            assert_eq!(proxies.exchange(0, &mut fresh), ISSUED, "and sessions begin");
        }
    }
}

#[test]
fn on_error_rebalance_leaves_session_and_cookie_alone() {
    let (mut proxies, mut cookie) = Proxies::settled(r#""on_error":"rebalance""#, "");
    let before = cookie.clone();
    proxies.fault = Some(Answer::Nothing);
    proxies.later(200);
    proxies.served_by(B);
    assert_eq!(proxies.exchange(0, &mut cookie), KEPT);
    assert_eq!((proxies.asked.clone(), proxies.session_header.clone()), (None, None));
    assert_eq!(proxies.outcome(0), "failed");
    assert_eq!(cookie, before);
    proxies.fault = None;
    proxies.served_by(A);
    assert_eq!(proxies.exchange(0, &mut cookie), ISSUED, "renewed as ever");
    assert_eq!(proxies.asked.as_deref(), Some(A));
}

#[test]
fn a_logout_and_a_login_are_carried_out_whether_the_store_can_be_asked_or_not() {
    for (action, seen) in [("end", CLEARED), ("rotate", ISSUED)] {
        let (mut proxies, mut cookie) = Proxies::settled(r#""on_error":"rebalance""#, "");
        let old = cookie.clone();
        proxies.fault = Some(Answer::Nothing);
        proxies.later(31);
        proxies.says(0, action);
        assert_eq!(proxies.exchange(0, &mut cookie), seen, "{action}");
        proxies.says_nothing();
        proxies.fault = None;
        assert_eq!(proxies.try_out(0, &old), ISSUED, "the old one is refused here at once");
        assert!(proxies.refused(0));
        let now = proxies.scenes[0].proxy.monotonic();
        let worker = &mut proxies.scenes[0].worker;
        assert_eq!(worker.store.as_mut().unwrap().on_tick(&mut Event { now, counts: &mut worker.counts }), []);
        proxies.talk(0);
        assert_eq!(proxies.try_out(1, &old), ISSUED, "and elsewhere when the store has heard of it");
        assert!(proxies.refused(1));
    }
}

#[test]
fn on_error_fail_turns_the_request_away() {
    let (mut proxies, cookie) = Proxies::settled(r#""on_error":"fail""#, "");
    proxies.fault = Some(Answer::Nothing);
    proxies.later(31);
    assert_eq!(proxies.try_out(0, &cookie), Seen::Refused(1));
    for _ in 0..4 {
        proxies.try_out(0, &cookie);
    }
    assert_eq!(proxies.try_out(0, &cookie), Seen::Refused(2), "the breaker is open for a second");
    assert_eq!(proxies.try_out(0, &None), ISSUED, "who has no session needs no store");
    proxies.fault = None;
    proxies.later(1);
    assert_eq!(proxies.try_out(0, &cookie), KEPT);
}

#[test]
fn on_missing_new_session_refuses_what_the_store_does_not_know() {
    let rules = r#""on_missing":"new_session","create":"at_once","write":"sync""#;
    let (mut proxies, cookie) = Proxies::settled(rules, "");
    assert_eq!(proxies.try_out(1, &cookie), KEPT);
    proxies.store.wipe();
    proxies.later(30);
    let mut client = cookie.clone();
    assert_eq!(proxies.exchange(0, &mut client), ISSUED);
    assert!(proxies.refused(0));
    assert_ne!(proxies.open(&client).id, proxies.open(&cookie).id);
    assert_eq!(proxies.exchange(1, &mut client), KEPT, "the new one is known");
    proxies.fault = Some(Answer::Nothing);
    proxies.later(31);
    assert_eq!(proxies.try_out(1, &cookie), KEPT, "a store that fails is another matter");
}

#[test]
fn without_a_monotonic_clock_the_store_is_not_relied_on() {
    let (mut proxies, cookie) = Proxies::settled(r#""on_error":"fail""#, "");
    proxies.scenes[0].proxy.monotonic = false;
    assert_eq!(proxies.try_out(0, &cookie), Seen::Refused(1));
}

#[test]
fn only_a_token_that_verifies_makes_the_proxy_ask() {
    let (mut proxies, cookie) = Proxies::settled("", "");
    let before = proxies.calls;
    let good = cookie.unwrap();
    proxies.later(31);
    for at in (0..good.len()).step_by(7) {
        let mut forged = good.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(proxies.try_out(0, &String::from_utf8(forged).ok()), ISSUED);
    }
    proxies.later(30_000);
    assert_eq!(proxies.try_out(0, &Some(good)), ISSUED, "expired");
    assert_eq!(proxies.calls, before);
}

#[test]
fn a_second_pass_knows_what_the_first_found_out() {
    let (mut proxies, cookie) = Proxies::settled(r#""on_error":"rebalance""#, "");
    for fault in [None, Some(Answer::Nothing)] {
        proxies.fault = fault;
        proxies.later(31);
        let line = format!("m={}", cookie.as_deref().unwrap());
        let request = headers(&[("cookie", line.as_str())]);
        let scene = &mut proxies.scenes[0];
        let affinity = affinity(&scene.config());
        let RequestStep::Wait(waiting) =
            affinity.turn(&mut scene.worker, &scene.proxy).on_request(STREAM, Some(&request))
        else {
            panic!("no lookup")
        };
        let Some(CallOutcome::Lookup(found)) = proxies.talk(0).pop() else { panic!("no answer") };
        let scene = &mut proxies.scenes[0];
        let (first, _) =
            proceeds(affinity.turn(&mut scene.worker, &scene.proxy).on_found(*waiting, found, Some(&request)));
        scene.proxy.carried = affinity.carry(&first);
        let redirected = headers(&[]);
        let (second, edits) =
            proceeds(affinity.turn(&mut scene.worker, &scene.proxy).on_request(STREAM, Some(&redirected)));
        assert_eq!(second.standing, first.standing);
        assert_eq!(asked(&edits).is_some(), matches!(first.standing, Standing::Resumed(_)));
        scene.proxy.carried = None;
    }
}

#[test]
fn a_value_under_an_older_key_does_not_outlive_the_key() {
    let keys = |keys: &str| {
        let json =
            format!(r#"{{"keys":[{keys}],"cookie":{{"name":"m"}},"store":{{"cluster":"c","on_error":"fail"}}}}"#);
        affinity(&read(&json))
    };
    let newest = r#"{"id":"newest","secret":{"base64":"Q0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0M="}}"#;
    let (mut proxies, mut cookie) = Proxies::settled(r#""on_error":"fail""#, "");
    for scene in &mut proxies.scenes {
        scene.affinity = keys(&format!("{newest},{KEYS}"));
        scene.worker = Worker::new(&scene.config(), 0);
    }
    assert_eq!(proxies.try_out(0, &cookie), ISSUED);
    // The re-issued cookie arrives, but the one write of the value does not.
    proxies.scenes.iter_mut().for_each(|scene| scene.worker = Worker::new(&scene.config(), 0));
    let key = proxies.key(&proxies.open(&cookie));
    let old = crate::store::value::seal(&proxies.open(&cookie), &key, &config("").shared.keyring);
    proxies.exchange(0, &mut cookie);
    proxies.store.plant(&key, &old);
    for _ in 0..40 {
        proxies.later(200);
        proxies.exchange(0, &mut cookie);
    }
    // The old keys go.
    for scene in &mut proxies.scenes {
        scene.affinity = keys(newest);
        scene.worker = Worker::new(&scene.config(), 0);
    }
    assert!(!matches!(proxies.exchange(0, &mut cookie), Seen::Refused(_)), "503 for the rest of the session");
}
