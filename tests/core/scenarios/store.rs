//! What the filter asks of the proxy for a session store: who is paused, who is woken, and for whom calls are made.

use mooring::ids::{ContextId, StreamId};
use mooring::session::SessionId;
use mooring::session::pin::{ClusterId, HostAddr, Pin};
use mooring::shell::contexts::Action;
use mooring::shell::proxy::HeaderMap;
use mooring::store::protocol::model::Model;
use mooring_test_kit::fake::Call;
use mooring_test_kit::proxy::{Proxy, ROOT, line};
use mooring_test_kit::tokens::{self, keyring, sign, timed};
use mooring_test_kit::world::plugin;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_lookup_pauses_the_request_is_made_for_the_root_and_its_answer_resumes() {
    let mut proxy = Proxy::with_store(json!({"timeout": "250ms", "token": {"text": "t0ken"}}));
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
fn a_call_that_the_proxy_does_not_make_pauses_nobody() {
    for broken in [Call::Call, Call::ActAs] {
        for status in [2, 10] {
            let mut proxy = Proxy::with_store(json!({}));
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
    let mut proxy = Proxy::with_store(json!({}));
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
        let mut proxy = Proxy::with_store(json!({}));
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
    let mut proxy = Proxy::with_store(json!({}));
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
        let mut proxy = Proxy::with_store(json!({}));
        let (id, _) = proxy.request(ROOT);
        let call = proxy.sent_one();
        proxy.callback(ROOT, |contexts| contexts.on_call_response(ROOT, call.id, lines, 0));
        assert_eq!(proxy.resumed(id), (1, 0));
        assert!(proxy.request_header(id, "x-mooring-host").is_some(), "the cookie is trusted");
        assert_eq!(proxy.counter("mooring_faults.kind=store_unavailable"), 1);
    }
}

#[test]
fn an_answer_that_is_too_long_is_not_read() {
    let mut proxy = Proxy::with_store(json!({}));
    let (id, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    let before = proxy.host.state().calls;
    proxy.callback(ROOT, |contexts| contexts.on_call_response(ROOT, call.id, 1, 4097));
    assert_eq!(proxy.resumed(id), (1, 0));
    assert!(proxy.host.state().calls - before < 10);
    assert_eq!(proxy.counter("mooring_faults.kind=store_too_large"), 1);
}

#[test]
fn an_answer_that_just_fits_is_read() {
    let mut proxy = Proxy::with_store(json!({}));
    proxy.request(ROOT);
    let call = proxy.sent_one();
    proxy.answer(&call, "200", &[b'x'; 4096]);
    assert_eq!(proxy.counter("mooring_faults.kind=store_too_large"), 0);
    assert_eq!(proxy.counter("mooring_faults.kind=store_value"), 1);
}

#[test]
fn a_request_that_is_turned_away_at_once_is_paused() {
    let mut proxy = Proxy::with_store(json!({"on_error": "fail"}));
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
    let mut proxy = Proxy::with_store(json!({}));
    let id = known(&mut proxy);
    proxy.end(id);
    let before = proxy.host.state().calls;
    proxy.response(id, &[]);
    proxy.trailers(id, HeaderMap::ResponseTrailers, Vec::new());
    assert_eq!(proxy.host.state().calls, before, "a stream");
    proxy.delete(ROOT);
    let before = proxy.host.state().calls;
    proxy.tick(ROOT);
    assert_eq!(proxy.host.state().calls, before, "a root");
}

#[test]
fn a_logout_that_the_store_has_not_confirmed_when_the_root_ends_is_counted() {
    let mut proxy = Proxy::with_store(json!({}));
    let id = known(&mut proxy);
    proxy.response(id, &[line("x-mooring-action", "end")]);
    proxy.delete(ROOT);
    let lost = proxy.host.state().counters.get("mooring_faults.kind=revocation_lost").copied();
    assert_eq!(lost, Some(1));
}

#[test]
fn on_error_fail_answers_in_the_upstream_s_place() {
    let mut proxy = Proxy::with_store(json!({"on_error": "fail"}));
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
    let mut proxy = Proxy::with_store(json!({}));
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
    let mut proxy = Proxy::with_store(json!({}));
    let id = known(&mut proxy);
    proxy.host.break_call(Call::Call, 10);
    assert_eq!(proxy.response(id, &[line("x-mooring-action", "end")]), Action::Continue);
    assert!(proxy.response_header(id, "set-cookie").is_some());
    assert_eq!(proxy.resumed(id), (1, 0), "in its own callback it need not be resumed");
    proxy.host.break_call(Call::Call, 0);
    proxy.tick(ROOT);
    let revoke = proxy.sent_one();
    assert_eq!(revoke.context, ROOT, "it is tried again");
}

#[test]
fn a_held_response_that_the_proxy_replaces_is_not_resumed() {
    let mut proxy = Proxy::with_store(json!({}));
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
    let mut proxy = Proxy::with_store(json!({}));
    let id = known(&mut proxy);
    proxy.response(id, &[line("x-mooring-action", "end")]);
    let revoke = proxy.sent_one();
    proxy.end(id);
    proxy.answer(&revoke, "204", b"");
    assert!(!proxy.host.state().streams.contains_key(&id.into()));
}

#[test]
fn what_the_proxy_never_answers_is_given_up_by_the_timer() {
    let mut proxy = Proxy::with_store(json!({"timeout": "1s"}));
    let (id, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    for (seconds, resumed) in [(2, 0), (1, 1)] {
        proxy.host.state().monotonic += Duration::from_secs(seconds);
        proxy.tick(ROOT);
        assert_eq!(proxy.resumed(id), (resumed, 0));
    }
    proxy.answer(&call, "404", b"");
    assert_eq!(proxy.resumed(id), (1, 0));
    assert_eq!(proxy.counter("mooring_faults.kind=store_late"), 1);
}

#[test]
fn an_answer_goes_to_the_root_that_asked_though_another_is_in_force() {
    let mut proxy = Proxy::with_store(json!({}));
    let (old, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    let other = ContextId(2);
    proxy.configure_store(other, json!({"namespace": "other"}));
    let (new, _) = proxy.request(other);
    let other_call = proxy.sent_one();
    assert_eq!(other_call.context, other);
    proxy.answer(&call, "404", b"");
    assert_eq!((proxy.resumed(old), proxy.resumed(new)), ((1, 0), (0, 0)));
    proxy.answer(&other_call, "404", b"");
    assert_eq!(proxy.resumed(new), (1, 0));
}

#[test]
fn without_a_store_nothing_is_asked() {
    let mut proxy = Proxy::with_store(json!({}));
    let plain = ContextId(2);
    assert!(proxy.set_up(plain, &plugin(json!({}))));
    let (id, action) = proxy.request(plain);
    assert_eq!((action, proxy.sent().len()), (Action::Continue, 0));
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
                let mut proxy = Proxy::with_store(json!({"write": "sync", "create": "at_once"}));
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

#[test]
fn where_the_proxy_does_not_take_the_answer_the_request_goes_on_without_what_is_internal() {
    let mut proxy = Proxy::with_store(json!({"on_error": "fail"}));
    proxy.host.break_call(Call::Call, 10);
    proxy.host.break_call(Call::Resume, 10);
    let now = tokens::now();
    let cookie = format!("m={}", sign(&timed(now, now, now + 1000), &keyring("m")));
    let headers = [
        line(":path", "/"),
        line("cookie", &cookie),
        line("x-mooring-host", "ZXZpbA=="),
        line("x-mooring-session", "evil"),
    ];
    let (id, action) = proxy.receive(ROOT, headers.into());
    assert_eq!(action, Action::Continue);
    assert_eq!(
        (proxy.request_header(id, "x-mooring-host"), proxy.request_header(id, "x-mooring-session")),
        (None, None)
    );
    assert_eq!(proxy.request_header(id, "cookie"), None, "nor the cookie");
    proxy.host.break_call(Call::Resume, 0);
    let names = ["x-mooring-host", "x-mooring-action", "x-mooring-session"];
    proxy.response(id, &names.map(|name| line(name, "end")));
    assert_eq!(names.map(|name| proxy.response_header(id, name)), [None, None, None], "nor one of the upstream's");
    assert_eq!(proxy.counter("mooring_sessions.outcome=failed"), 0, "counted by its response alone");
    let state = proxy.host.state();
    let outcomes = state.counters.iter().filter(|(name, _)| name.starts_with("mooring_sessions."));
    assert_eq!(outcomes.map(|(_, count)| count).sum::<u64>(), 1);
}

#[test]
fn a_request_that_the_proxy_answers_meanwhile_is_counted() {
    let mut proxy = Proxy::with_store(json!({}));
    let (id, _) = proxy.request(ROOT);
    proxy.response(id, &[]);
    assert_eq!(proxy.counter("mooring_sessions.outcome=untouched"), 1);
    assert_eq!(proxy.counter("mooring_requests.session=unconfirmed"), 1);
    assert_eq!(proxy.logged(id).as_deref(), Some("untouched unconfirmed"));
}

#[test]
fn a_client_that_does_not_wait_is_counted() {
    let mut proxy = Proxy::with_store(json!({}));
    let (id, _) = proxy.request(ROOT);
    proxy.end(id);
    assert_eq!(proxy.counter("mooring_requests.session=unconfirmed"), 1);
}

#[test]
fn a_response_that_the_proxy_answers_in_place_of_is_logged() {
    let mut proxy = Proxy::with_store(json!({"write": "sync", "create": "at_once"}));
    let (id, _) = proxy.receive(ROOT, vec![line(":path", "/")]);
    assert_eq!(proxy.response(id, &[]), Action::Pause);
    proxy.response(id, &[]);
    assert_eq!(proxy.logged(id).as_deref(), Some("untouched none"));
}

#[test]
fn a_request_that_is_turned_away_is_logged() {
    let mut proxy = Proxy::with_store(json!({"on_error": "fail"}));
    let (id, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    proxy.give(&call, Vec::new(), Vec::new());
    assert_eq!(proxy.host.state().streams[&id.into()].answered.as_ref().map(|(status, _)| *status), Some(503));
    assert_eq!(proxy.logged(id).as_deref(), Some("failed unconfirmed"));
    assert_eq!(proxy.counter("mooring_requests.session=unconfirmed"), 1);
    assert_eq!(proxy.counter("mooring_sessions.outcome=failed"), 1);
}

#[test]
fn what_is_owed_is_counted_as_lost_when_another_configuration_takes_its_place() {
    let mut proxy = Proxy::with_store(json!({}));
    let (id, _) = proxy.request(ROOT);
    let call = proxy.sent_one();
    proxy.answer(&call, "404", b"");
    proxy.sent();
    assert_eq!(proxy.response(id, &[line("x-mooring-action", "end")]), Action::Pause);
    proxy.configure_store(ROOT, json!({}));
    assert_eq!(proxy.counter("mooring_faults.kind=revocation_lost"), 1);
}

#[test]
fn an_etag_is_read_where_the_protocol_has_one() {
    for (protocol, headers) in [("rest", 2), ("webdis", 1), ("upstash", 1)] {
        let mut proxy = Proxy::with_store(json!({"protocol": protocol}));
        proxy.request(ROOT);
        let call = proxy.sent_one();
        proxy.host.state().journal = Some(Vec::new());
        proxy.answer(&call, "404", b"");
        let journal = proxy.host.state().journal.take().expect("a journal");
        assert_eq!(journal.iter().filter(|call| **call == Call::Header).count(), headers, "{protocol}: {journal:?}");
    }
}

/// The store is asked once a request: after one that ended, another way counts if the worker knows its session.
#[test]
fn a_session_that_ended_gives_way_to_one_that_is_known_by_another_way() {
    let members = json!({"store": {"cluster": "session_store"}, "identify": [{"header": {}}, {"cookie": {}}], "access_log": "all"});
    let mut proxy = Proxy::with(&plugin(members));
    let now = proxy.host.state().now.0;
    let token = |number: u8, host: &str| {
        let mut session = timed(now - 10, now - 10, now + 1000);
        session.id = SessionId([number; 16]);
        let host = HostAddr::parse(host.as_bytes()).expect("a host");
        session.pins.set(Pin { cluster: ClusterId::of(b"app"), host });
        sign(&session, &keyring("m"))
    };
    let (in_header, in_cookie) = (token(1, "127.0.0.1:9001"), token(2, "127.0.0.1:9002"));
    let cookie = line("cookie", format!("m={in_cookie}"));
    let both = vec![line(":path", "/"), line("x-session-token", &in_header), cookie.clone()];

    let unknown = proxy.receive(ROOT, both.clone()).0;
    let lookup = proxy.sent_one();
    proxy.answer(&lookup, "410", b"");
    proxy.response(unknown, &[]);
    assert_eq!(proxy.logged(unknown).as_deref(), Some("created revoked by=header"), "the store is not asked again");

    let (id, _) = proxy.receive(ROOT, vec![line(":path", "/"), cookie]);
    let mut model = Model::default();
    proxy.talk(&mut model);
    proxy.response(id, &[]);
    let known = proxy.receive(ROOT, both).0;
    assert!(proxy.sent().is_empty() && proxy.paused(known).is_none(), "both are known by now");
    assert_eq!(proxy.asked(known).as_deref(), Some("127.0.0.1:9002"));
    proxy.response(known, &[]);
    assert_eq!(proxy.logged(known).as_deref(), Some("resumed cache"));
}
