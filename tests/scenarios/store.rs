//! What the filter asks of the proxy for a session store: who is paused, who is woken, and for whom calls are made.

use crate::fake::ROOT;
use crate::shared::tokens::{self, keyring, sign, timed};
use crate::shared::world::plugin;
use mooring::clock::UnixTime;
use mooring::filter::{Action, Contexts};
use mooring::host::fake::{Call, FakeHost, Line, Sent};
use mooring::host::{ContextId, Map};
use mooring::pin::{ClusterId, HostAddr, Pin};
use mooring::store_client::{CallId, StreamId};
use serde_json::{Value, json};
use std::time::Duration;

/// A proxy with the filter, driven callback by callback.
struct Proxy {
    host: FakeHost,
    contexts: Contexts<FakeHost>,
    streams: u32,
}

fn line(name: &str, value: &str) -> Line {
    (name.into(), value.into())
}

impl Proxy {
    fn new(store: Value) -> Self {
        let host = FakeHost::default();
        host.state().now = UnixTime(tokens::now());
        let mut proxy = Self { contexts: Contexts::new(host.clone()), host, streams: 100 };
        proxy.configure(ROOT, store);
        proxy
    }

    fn configure(&mut self, root: ContextId, mut store: Value) {
        store["cluster"] = "session_store".into();
        self.host.state().configuration = plugin(json!({"store": store})).to_string().into_bytes();
        self.contexts.on_root_create(root);
        assert!(self.contexts.on_configure(root), "{:?}", self.host.state().log);
    }

    /// A request's headers come, with a valid cookie.
    fn request(&mut self, root: ContextId) -> (StreamId, Action) {
        self.streams += 1;
        let id = StreamId(self.streams);
        self.host.enter(id.into());
        self.contexts.on_stream_create(id, root);
        let now = tokens::now();
        let mut session = timed(now, now, now + 1000);
        let host = HostAddr::parse(b"127.0.0.1:9001").expect("a host");
        session.pins.set(Pin { cluster: ClusterId::of(b"app"), host });
        let cookie = format!("m={}", sign(&session, &keyring("m")));
        self.host.state().stream().request_headers = vec![line(":path", "/"), line("cookie", &cookie)];
        (id, self.contexts.on_request_headers(id))
    }

    /// A response comes from the upstream that was asked for.
    fn response(&mut self, id: StreamId, more: &[Line]) -> Action {
        self.host.enter(id.into());
        {
            let mut state = self.host.state();
            let stream = state.stream();
            stream.response_headers = vec![line(":status", "200")];
            stream.response_headers.extend_from_slice(more);
            stream.properties.insert("response.code_details".into(), "via_upstream".into());
            stream.properties.insert("upstream.address".into(), "127.0.0.1:9001".into());
            stream.properties.insert("xds.cluster_name".into(), "app".into());
        }
        self.contexts.on_response_headers(id)
    }

    fn end(&mut self, id: StreamId) {
        self.host.enter(id.into());
        self.contexts.on_done(id.into());
        self.contexts.on_delete(id.into());
        self.host.state().streams.remove(&id.into());
        self.host.state().gone.insert(id.into());
    }

    fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.host.state().sent)
    }

    /// The one call that was made.
    fn sent_one(&self) -> Sent {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    fn answer(&mut self, call: &Sent, status: &str, body: &[u8]) {
        self.host.enter(call.context);
        self.host.state().call_response = (vec![line(":status", status), line("etag", "\"1\"")], body.into());
        self.contexts.on_call_response(call.context, call.id, 2, body.len());
    }

    /// How often a stream's request and its response were resumed.
    fn resumed(&self, id: StreamId) -> (u32, u32) {
        let state = self.host.state();
        state.streams.get(&id.into()).map_or((0, 0), |stream| (stream.requests_resumed, stream.responses_resumed))
    }

    fn request_header(&self, id: StreamId, name: &str) -> Option<String> {
        let state = self.host.state();
        let lines = &state.streams.get(&id.into())?.request_headers;
        let (_, value) = lines.iter().find(|(key, _)| key == name.as_bytes())?;
        String::from_utf8(value.clone()).ok()
    }

    fn response_header(&self, id: StreamId, name: &str) -> Option<String> {
        let state = self.host.state();
        let lines = &state.streams.get(&id.into())?.response_headers;
        let (_, value) = lines.iter().find(|(key, _)| key == name.as_bytes())?;
        String::from_utf8(value.clone()).ok()
    }

    fn counter(&mut self, name: &str) -> u64 {
        self.host.enter(ROOT);
        self.contexts.on_tick(ROOT);
        self.host.state().counters.get(name).copied().unwrap_or(0)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.host.state().crashes, [""; 0]);
        }
    }
}

#[test]
fn a_lookup_pauses_the_request_is_made_for_the_root_and_its_answer_resumes() {
    let mut proxy = Proxy::new(json!({"timeout": "250ms", "token": {"text": "t0ken"}}));
    let (id, action) = proxy.request(ROOT);
    assert_eq!(action, Action::Pause);
    assert_eq!(proxy.host.state().effective, id.into(), "the callback goes on as it began");
    let call = proxy.sent_one();
    assert_eq!((call.context, call.cluster.as_str()), (ROOT, "session_store"));
    assert_eq!((call.timeout, call.body.len()), (Duration::from_millis(250), 0));
    let names: Vec<_> = call.headers.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    assert_eq!(names, [":method", ":path", ":authority", "authorization"]);
    assert_eq!(proxy.request_header(id, "x-mooring-host"), None);
    proxy.answer(&call, "404", b"");
    assert_eq!(proxy.resumed(id), (1, 0));
    assert_eq!(proxy.request_header(id, "x-mooring-host").as_deref(), Some("MTI3LjAuMC4xOjkwMDE="));
    assert_eq!(proxy.request_header(id, "cookie"), None);
    let create = proxy.sent_one();
    assert_eq!(create.context, ROOT);
    proxy.answer(&create, "201", b"");
    assert_eq!(proxy.response(id, &[]), Action::Continue);
    proxy.end(id);
    let (next, action) = proxy.request(ROOT);
    assert_eq!((action, proxy.sent().len()), (Action::Continue, 0), "now it is known");
    assert!(proxy.request_header(next, "x-mooring-host").is_some());
}

#[test]
fn requests_of_one_session_wait_for_one_lookup() {
    let mut proxy = Proxy::new(json!({}));
    let waiting: Vec<StreamId> = (0..64).map(|_| proxy.request(ROOT).0).collect();
    let call = proxy.sent_one();
    proxy.answer(&call, "404", b"");
    assert!(waiting.iter().all(|id| proxy.resumed(*id) == (1, 0)));
    assert!(waiting.iter().all(|id| proxy.request_header(*id, "x-mooring-host").is_some()));
    assert_eq!(proxy.sent().len(), 1, "one of them writes it");
}

#[test]
fn a_call_that_the_proxy_does_not_make_pauses_nobody() {
    for broken in [Call::Call, Call::ActAs] {
        for status in [2, 10] {
            let mut proxy = Proxy::new(json!({}));
            proxy.host.break_call(broken, status);
            let (id, action) = proxy.request(ROOT);
            assert_eq!((action, proxy.sent().len()), (Action::Continue, 0), "{broken:?}");
            assert_eq!(proxy.resumed(id), (0, 0), "in its own callback it need not be resumed");
            assert!(proxy.request_header(id, "x-mooring-host").is_some());
            assert_eq!(proxy.counter("mooring_faults.kind=store_unavailable"), 1);
        }
    }
}

#[test]
fn a_client_that_leaves_while_it_waits_breaks_nobody() {
    let mut proxy = Proxy::new(json!({}));
    let (gone, _) = proxy.request(ROOT);
    let (waiting, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    proxy.end(gone);
    proxy.answer(&call, "404", b"");
    assert_eq!((proxy.resumed(gone), proxy.resumed(waiting)), ((0, 0), (1, 0)));
    assert!(!proxy.host.state().streams.contains_key(&gone.into()), "nobody acted for it");
}

#[test]
fn clients_that_left_do_not_count_among_those_who_wait() {
    for answered_by_the_proxy in [false, true] {
        let mut proxy = Proxy::new(json!({}));
        for at in 0..8200 {
            let (id, action) = proxy.request(ROOT);
            assert_eq!(action, Action::Pause, "number {at}");
            if answered_by_the_proxy {
                proxy.response(id, &[]);
            } else {
                proxy.end(id);
            }
        }
        assert_eq!(proxy.sent().len(), 1);
    }
}

#[test]
fn a_request_that_the_proxy_answers_meanwhile_is_not_resumed() {
    let mut proxy = Proxy::new(json!({}));
    let (id, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    assert_eq!(proxy.response(id, &[]), Action::Continue);
    proxy.answer(&call, "404", b"");
    assert_eq!(proxy.resumed(id), (0, 0));
    assert_eq!(proxy.response_header(id, "set-cookie"), None);
}

#[test]
fn a_call_that_comes_to_nothing_lets_the_request_go_on() {
    for lines in [0, 1] {
        let mut proxy = Proxy::new(json!({}));
        let (id, _) = proxy.request(ROOT);
        let call = proxy.sent_one();
        proxy.host.enter(ROOT);
        proxy.contexts.on_call_response(ROOT, call.id, lines, 0);
        assert_eq!(proxy.resumed(id), (1, 0));
        assert!(proxy.request_header(id, "x-mooring-host").is_some(), "the cookie is trusted");
        assert_eq!(proxy.counter("mooring_faults.kind=store_unavailable"), 1);
    }
}

#[test]
fn an_answer_that_is_too_long_is_not_read() {
    let mut proxy = Proxy::new(json!({}));
    let (id, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    let before = proxy.host.state().calls;
    proxy.host.enter(ROOT);
    proxy.contexts.on_call_response(ROOT, call.id, 1, 4097);
    assert_eq!(proxy.resumed(id), (1, 0));
    assert!(proxy.host.state().calls - before < 10);
    assert_eq!(proxy.counter("mooring_faults.kind=store_too_large"), 1);
}

#[test]
fn an_answer_that_just_fits_is_read() {
    let mut proxy = Proxy::new(json!({}));
    proxy.request(ROOT);
    let call = proxy.sent_one();
    proxy.answer(&call, "200", &[b'x'; 4096]);
    assert_eq!(proxy.counter("mooring_faults.kind=store_too_large"), 0);
    assert_eq!(proxy.counter("mooring_faults.kind=store_value"), 1);
}

#[test]
fn a_request_that_is_turned_away_at_once_is_paused() {
    let mut proxy = Proxy::new(json!({"on_error": "fail"}));
    for _ in 0..5 {
        let (id, _) = proxy.request(ROOT);
        let call = proxy.sent_one();
        proxy.answer(&call, "503", b"");
        proxy.end(id);
    }
    let (id, action) = proxy.request(ROOT);
    assert_eq!((action, proxy.sent().len()), (Action::Pause, 0), "the breaker is open");
    assert!(proxy.host.state().streams[&id.into()].answered.is_some());
}

#[test]
fn contexts_that_are_gone_are_forgotten() {
    let mut proxy = Proxy::new(json!({}));
    let id = known(&mut proxy);
    proxy.end(id);
    let before = proxy.host.state().calls;
    proxy.response(id, &[]);
    proxy.contexts.on_trailers(id, Map::ResponseTrailers);
    assert_eq!(proxy.host.state().calls, before, "a stream");
    proxy.contexts.on_delete(ROOT);
    proxy.contexts.on_tick(ROOT);
    assert_eq!(proxy.host.state().calls, before, "a root");
}

#[test]
fn a_logout_that_the_store_has_not_confirmed_when_the_root_ends_is_counted() {
    let mut proxy = Proxy::new(json!({}));
    let id = known(&mut proxy);
    proxy.response(id, &[line("x-mooring-action", "end")]);
    proxy.contexts.on_done(ROOT);
    let lost = proxy.host.state().counters.get("mooring_faults.kind=revocation_lost").copied();
    assert_eq!(lost, Some(1));
}

#[test]
fn on_error_fail_answers_in_the_upstream_s_place() {
    let mut proxy = Proxy::new(json!({"on_error": "fail"}));
    let (id, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    proxy.answer(&call, "503", b"");
    assert_eq!(proxy.resumed(id), (0, 0), "who is answered is not resumed as well");
    let answered = proxy.host.state().streams.get_mut(&id.into()).and_then(|stream| stream.answered.take());
    let (status, headers) = answered.expect("an answer");
    assert_eq!(status, 503);
    assert!(headers.contains(&line("retry-after", "1")), "{headers:?}");

    proxy.host.break_call(Call::Call, 10);
    let (id, action) = proxy.request(ROOT);
    assert_eq!(action, Action::Pause, "answered in its own callback");
    assert!(proxy.host.state().streams[&id.into()].answered.is_some());
    assert_eq!(proxy.response(id, &[]), Action::Continue);
    assert_eq!(proxy.counter("mooring_sessions.outcome=failed"), 2);
}

#[test]
fn an_answer_that_the_proxy_does_not_take_lets_the_request_go_on() {
    let mut proxy = Proxy::new(json!({"on_error": "fail"}));
    proxy.host.break_call(Call::Call, 10);
    proxy.host.break_call(Call::Resume, 10);
    let (_, action) = proxy.request(ROOT);
    assert_eq!(action, Action::Continue);
}

/// A request that is known to the store, and its stream.
fn known(proxy: &mut Proxy) -> StreamId {
    let (id, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    proxy.answer(&call, "404", b"");
    let create = proxy.sent_one();
    proxy.answer(&create, "201", b"");
    id
}

#[test]
fn a_logout_holds_the_response_until_the_store_knows() {
    let mut proxy = Proxy::new(json!({}));
    let id = known(&mut proxy);
    assert_eq!(proxy.response(id, &[line("x-mooring-action", "end")]), Action::Pause);
    assert_eq!(proxy.response_header(id, "x-mooring-action"), None);
    assert_eq!(proxy.response_header(id, "set-cookie"), None);
    let revoke = proxy.sent_one();
    assert_eq!(revoke.context, ROOT);
    assert!(revoke.headers.contains(&line(":method", "DELETE")));
    proxy.answer(&revoke, "204", b"");
    assert_eq!(proxy.resumed(id), (1, 1));
    assert!(proxy.response_header(id, "set-cookie").is_some_and(|cookie| cookie.starts_with("m=;")));
    proxy.end(id);
    let (next, action) = proxy.request(ROOT);
    assert_eq!(action, Action::Continue);
    assert_eq!(proxy.request_header(next, "x-mooring-host"), None);
    assert_eq!(proxy.counter("mooring_tokens_refused.reason=revoked"), 1);
}

#[test]
fn a_logout_of_which_the_store_cannot_be_told_is_answered_all_the_same() {
    let mut proxy = Proxy::new(json!({}));
    let id = known(&mut proxy);
    proxy.host.break_call(Call::Call, 10);
    assert_eq!(proxy.response(id, &[line("x-mooring-action", "end")]), Action::Continue);
    assert!(proxy.response_header(id, "set-cookie").is_some());
    assert_eq!(proxy.resumed(id), (1, 0), "in its own callback it need not be resumed");
    proxy.host.break_call(Call::Call, 0);
    proxy.host.enter(ROOT);
    proxy.contexts.on_tick(ROOT);
    let revoke = proxy.sent_one();
    assert_eq!(revoke.context, ROOT, "it is tried again");
}

#[test]
fn a_held_response_that_the_proxy_replaces_is_not_resumed() {
    let mut proxy = Proxy::new(json!({}));
    let id = known(&mut proxy);
    assert_eq!(proxy.response(id, &[line("x-mooring-action", "end")]), Action::Pause);
    let revoke = proxy.sent_one();
    // The upstream resets: the proxy answers by itself.
    assert_eq!(proxy.response(id, &[]), Action::Continue);
    proxy.answer(&revoke, "204", b"");
    assert_eq!(proxy.resumed(id), (1, 0));
}

#[test]
fn a_client_that_leaves_a_held_response_breaks_nobody() {
    let mut proxy = Proxy::new(json!({}));
    let id = known(&mut proxy);
    proxy.response(id, &[line("x-mooring-action", "end")]);
    let revoke = proxy.sent_one();
    proxy.end(id);
    proxy.answer(&revoke, "204", b"");
    assert!(!proxy.host.state().streams.contains_key(&id.into()));
}

#[test]
fn what_the_proxy_never_answers_is_given_up_by_the_timer() {
    let mut proxy = Proxy::new(json!({"timeout": "1s"}));
    let (id, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    for (seconds, resumed) in [(2, 0), (1, 1)] {
        proxy.host.state().monotonic += Duration::from_secs(seconds);
        proxy.host.enter(ROOT);
        proxy.contexts.on_tick(ROOT);
        assert_eq!(proxy.resumed(id), (resumed, 0));
    }
    proxy.answer(&call, "404", b"");
    assert_eq!(proxy.resumed(id), (1, 0));
    assert_eq!(proxy.counter("mooring_faults.kind=store_late"), 1);
}

#[test]
fn a_call_that_nobody_made_is_counted_and_ignored() {
    let mut proxy = Proxy::new(json!({}));
    proxy.host.enter(ROOT);
    proxy.contexts.on_call_response(ROOT, CallId(4711), 1, 3);
    assert_eq!(proxy.counter("mooring_faults.kind=store_late"), 1);
}

#[test]
fn an_answer_goes_to_the_root_that_asked_though_another_is_in_force() {
    let mut proxy = Proxy::new(json!({}));
    let (old, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    let other = ContextId(2);
    proxy.configure(other, json!({"namespace": "other"}));
    let (new, _) = proxy.request(other);
    let other_call = proxy.sent_one();
    assert_eq!(other_call.context, other);
    proxy.answer(&call, "404", b"");
    assert_eq!((proxy.resumed(old), proxy.resumed(new)), ((1, 0), (0, 0)));
    proxy.answer(&other_call, "404", b"");
    assert_eq!(proxy.resumed(new), (1, 0));
}

#[test]
fn a_session_that_is_known_costs_one_call_of_the_proxy_more_than_without_a_store() {
    let mut proxy = Proxy::new(json!({}));
    known(&mut proxy);
    let before = proxy.host.state().calls;
    assert_eq!(proxy.request(ROOT).1, Action::Continue);
    // As without a store, and the clock that the cache goes by.
    assert_eq!(proxy.host.state().calls - before, 6);
}

#[test]
fn without_a_store_nothing_is_asked_and_no_clock_is_read_for_it() {
    let mut proxy = Proxy::new(json!({}));
    let plain = ContextId(2);
    proxy.host.state().configuration = plugin(json!({})).to_string().into_bytes();
    proxy.contexts.on_root_create(plain);
    assert!(proxy.contexts.on_configure(plain));
    let before = proxy.host.state().calls;
    let (id, action) = proxy.request(plain);
    assert_eq!((action, proxy.sent().len()), (Action::Continue, 0));
    // The headers, the clock, the override header, the session id, the cookie taken out.
    assert_eq!(proxy.host.state().calls - before, 5);
    assert!(proxy.request_header(id, "x-mooring-host").is_some());
}

/// Nobody is paused for whom no call is under way, whichever host call fails, and whenever.
#[test]
fn whatever_fails_whoever_was_paused_goes_on() {
    let kinds = [
        Call::Headers,
        Call::Header,
        Call::EditHeader,
        Call::Property,
        Call::SetProperty,
        Call::Clock,
        Call::Random,
        Call::Metric,
        Call::Call,
    ];
    for kind in kinds {
        for status in [1, 2, 10, u32::MAX] {
            for stage in 0..4 {
                let mut proxy = Proxy::new(json!({"write": "sync", "create": "at_once"}));
                let break_at = |proxy: &Proxy, at: u32| {
                    proxy.host.break_call(kind, if at == stage { status } else { 0 });
                };
                break_at(&proxy, 0);
                let (id, action) = proxy.request(ROOT);
                let sent = proxy.sent();
                assert_eq!(action == Action::Pause, sent.len() == 1, "{kind:?} {status} {stage}");
                break_at(&proxy, 1);
                sent.iter().for_each(|call| proxy.answer(call, "404", b""));
                assert_eq!(proxy.resumed(id).0 == 1, action == Action::Pause, "{kind:?} {status} {stage}");
                proxy.sent();
                break_at(&proxy, 2);
                let action = proxy.response(id, &[line("x-mooring-action", "rotate")]);
                let mut sent = proxy.sent();
                assert!(action == Action::Continue || !sent.is_empty(), "{kind:?} {status} {stage}");
                break_at(&proxy, 3);
                while let Some(call) = sent.pop() {
                    assert_eq!(proxy.resumed(id).1, 0, "{kind:?} {status} {stage}: before the last answer");
                    proxy.answer(&call, "503", b"");
                    // A logout that is not taken is tried once more.
                    sent.extend(proxy.sent());
                }
                assert_eq!(proxy.resumed(id).1 == 1, action == Action::Pause, "{kind:?} {status} {stage}");
            }
        }
    }
}

/// Requests, responses, answers in any order, clients that leave, calls that are not made, time: nobody waits for what will not come.
#[test]
fn in_any_order_of_events_whoever_is_paused_is_woken_once() {
    let rules = [
        json!({}),
        json!({"on_error": "fail", "write": "sync"}),
        json!({"on_error": "rebalance", "create": "at_once", "write": "sync", "on_missing": "new_session"}),
    ];
    for seed in 0..200_u32 {
        let mut random = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut draw = |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) % below
        };
        let mut proxy = Proxy::new(rules[seed as usize % rules.len()].clone());
        let mut calls: Vec<Sent> = Vec::new();
        let mut streams: Vec<(StreamId, bool)> = Vec::new();
        let mut paused: Vec<(StreamId, bool)> = Vec::new();
        for step in 0..200 {
            let draining = step >= 120;
            match draw(if draining { 2 } else { 9 }) {
                0 | 1 => {
                    if calls.is_empty() {
                        continue;
                    }
                    let call = calls.swap_remove(draw(u32::try_from(calls.len()).expect("few")) as usize);
                    let body = if draw(2) == 0 { &b""[..] } else { b"v1.new.AA.x" };
                    let status = ["200", "201", "204", "404", "410", "412", "429", "503", "xyz"][draw(9) as usize];
                    proxy.answer(&call, status, body);
                }
                2 | 3 => {
                    let (id, action) = proxy.request(ROOT);
                    streams.push((id, false));
                    if action == Action::Pause && proxy.host.state().streams[&id.into()].answered.is_none() {
                        paused.push((id, false));
                    }
                }
                4 | 5 => {
                    let ready = |(id, responded): &&mut (StreamId, bool)| {
                        !*responded && !paused.iter().any(|(paused, _)| paused == id)
                    };
                    let Some((id, responded)) = streams.iter_mut().find(ready) else { continue };
                    *responded = true;
                    let id = *id;
                    let action = ["", "end", "rotate", "release"][draw(4) as usize];
                    let action = Some(line("x-mooring-action", action)).filter(|(_, word)| !word.is_empty());
                    if proxy.response(id, action.as_slice()) == Action::Pause {
                        paused.push((id, true));
                    }
                }
                6 => {
                    if let Some((id, _)) = streams.pop() {
                        paused.retain(|(paused, _)| *paused != id);
                        proxy.end(id);
                    }
                }
                7 => proxy.host.break_call(Call::Call, if draw(2) == 0 { 10 } else { 0 }),
                _ => {
                    let mut state = proxy.host.state();
                    state.monotonic += Duration::from_millis(draw(3000).into());
                    drop(state);
                    proxy.host.enter(ROOT);
                    proxy.contexts.on_tick(ROOT);
                }
            }
            calls.extend(proxy.sent());
            let state = proxy.host.state();
            paused.retain(|(id, response)| {
                let stream = &state.streams[&(*id).into()];
                let resumed = if *response { stream.responses_resumed } else { stream.requests_resumed };
                assert!(resumed <= 1, "{seed}: woken twice");
                assert!(resumed == 0 || stream.answered.is_none(), "{seed}: answered and resumed");
                resumed == 0 && stream.answered.is_none()
            });
            drop(state);
            assert!(paused.is_empty() || !calls.is_empty(), "{seed}: paused, and no call is under way");
        }
        while let Some(call) = calls.pop() {
            proxy.answer(&call, "503", b"");
            calls.extend(proxy.sent());
        }
        for (id, response) in paused {
            let state = proxy.host.state();
            let stream = &state.streams[&id.into()];
            let resumed = if response { stream.responses_resumed } else { stream.requests_resumed };
            assert!(resumed == 1 || stream.answered.is_some(), "{seed}: {id:?} was never woken");
        }
    }
}

#[test]
fn an_answer_that_the_proxy_does_not_take_lets_no_header_of_the_client_s_pass() {
    let mut proxy = Proxy::new(json!({"on_error": "fail"}));
    proxy.host.break_call(Call::Call, 10);
    proxy.host.break_call(Call::Resume, 10);
    let id = StreamId(900);
    proxy.host.enter(id.into());
    proxy.contexts.on_stream_create(id, ROOT);
    let now = tokens::now();
    let cookie = format!("m={}", sign(&timed(now, now, now + 1000), &keyring("m")));
    proxy.host.state().stream().request_headers = vec![
        line(":path", "/"),
        line("cookie", &cookie),
        line("x-mooring-host", "ZXZpbA=="),
        line("x-mooring-session", "evil"),
    ];
    assert_eq!(proxy.contexts.on_request_headers(id), Action::Continue);
    assert_eq!(
        (proxy.request_header(id, "x-mooring-host"), proxy.request_header(id, "x-mooring-session")),
        (None, None)
    );
}

#[test]
fn a_request_that_the_proxy_answers_meanwhile_is_counted() {
    let mut proxy = Proxy::new(json!({}));
    let (id, _) = proxy.request(ROOT);
    proxy.response(id, &[]);
    assert_eq!(proxy.counter("mooring_sessions.outcome=untouched"), 1);
}
