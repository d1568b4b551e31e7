//! Logouts: waited for, tried again, owed, and never undone.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_tombstone_lives_until_the_token_s_own_end_or_what_the_config_gives_it() {
    let mut store = Model::default();
    let ended = |members: &str, end: Option<UnixTime>, store: &mut Model| {
        let mut worker = Worker::with(&config(members));
        worker.revoke(&Session { end, ..session(0, A) });
        worker.talk(store);
        store.ttl(&key())
    };
    let end = session(0, A).end;
    assert_eq!(ended("", end, &mut store), Some(28_700 + 120));
    let shorter = r#","session":{"absolute_timeout":"1h"}"#;
    assert_eq!(ended(shorter, end, &mut store), Some(28_700 + 120), "it may be made longer again");
    assert_eq!(ended(shorter, None, &mut store), Some(3500 + 120), "a token from before there was a store");
    let skewed = r#","session":{"clock_skew":"10m"}"#;
    assert_eq!(ended(skewed, end, &mut store), Some(28_700 + 600), "for proxies whose clocks are late");
}

#[test]
fn a_logout_that_is_tried_again_has_its_full_time_again() {
    let mut worker = Worker::new();
    worker.revoke(&session(0, A));
    worker.pass(Duration::from_secs(1));
    worker.answer_one(Answer::Nothing);
    let second = worker.send();
    worker.pass(Duration::from_millis(900));
    assert_eq!(worker.tick(), [], "it was sent 0.9 s ago");
    assert_eq!(worker.answer(second[0].0, status(410, "")), [(stream(1), CallOutcome::Write(WriteOutcome::Settled))]);
    worker.pass(Duration::from_secs(1));
    worker.tick();
    assert_eq!(worker.send().len(), 0, "what is revoked already need not be told again");
}

#[test]
fn a_logout_that_is_owed_has_its_full_time_each_time() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    worker.revoke(&session(0, A));
    worker.answer_one(Answer::Nothing);
    worker.answer_one(Answer::Nothing);
    worker.pass(Duration::from_secs(10));
    worker.tick();
    let sent = worker.send();
    worker.pass(Duration::from_millis(900));
    worker.tick();
    assert_eq!(worker.client.calls.len(), 1, "it was sent 0.9 s ago");
    let (key, command) = sent[0].1.asked();
    let answer = store.answer(key, command);
    worker.answer(sent[0].0, answer);
    assert_eq!((worker.fault(Fault::StoreLate), worker.client.owed.len()), (0, 0));
}

#[test]
fn what_ended_elsewhere_is_never_revived() {
    for act in
        [(|worker, session| worker.write(session, Some(1))) as fn(&mut Worker, &Session) -> bool, |worker, session| {
            worker.touch(session)
        }]
    {
        let (mut store, mut one, mut two) = (Model::default(), Worker::new(), Worker::new());
        one.write(&session(0, A), None);
        one.talk(&mut store);
        two.look(&session(0, A), &mut store);
        one.revoke(&session(0, A));
        one.talk(&mut store);
        assert!(act(&mut two, &session(0, A)));
        assert_eq!(two.talk(&mut store), [(stream(1), CallOutcome::Write(WriteOutcome::Revoked))]);
        assert_eq!(store.value(&key()), Some(""));
        for worker in [&mut one, &mut two] {
            worker.pass(Duration::from_secs(100_000));
            assert_eq!(worker.lookup(&session(9, A), 3), Some(LookupOutcome::Revoked), "whatever the client has");
        }
        let mut three = Worker::new();
        assert_eq!(three.look(&session(9, A), &mut store), LookupOutcome::Revoked);
    }
}

#[test]
fn an_answer_from_before_a_logout_does_not_undo_it() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    Worker::new().put_into(&mut store, &session(0, A));
    assert_eq!(worker.lookup(&session(0, A), 1), None);
    let sent = worker.send();
    let before = store.answer(sent[0].1.asked().0, sent[0].1.asked().1);
    worker.revoke(&session(0, A));
    assert_eq!(worker.answer(sent[0].0, before), [(stream(1), CallOutcome::Lookup(LookupOutcome::Revoked))]);
    assert_eq!(worker.lookup(&session(0, A), 2), Some(LookupOutcome::Revoked));
}

#[test]
fn a_logout_is_waited_for_twice_then_tried_again_until_the_store_knows() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    worker.open_breaker();
    assert!(worker.revoke(&session(0, A)), "past the breaker");
    assert_eq!(worker.lookup(&session(0, A), 2), Some(LookupOutcome::Revoked), "here it holds at once");
    assert_eq!(worker.answer_one(Answer::Nothing), []);
    assert_eq!(worker.answer_one(Answer::Nothing), [(stream(1), CallOutcome::Write(WriteOutcome::Settled))]);
    assert_eq!(worker.send().len(), 0);
    for _ in 0..10 {
        worker.pass(Duration::from_secs(1));
        assert_eq!(worker.tick(), []);
        assert_eq!(worker.answer_one(Answer::Nothing), []);
    }
    worker.pass(Duration::from_secs(1));
    worker.tick();
    assert_eq!(worker.talk(&mut store), []);
    assert_eq!(store.value(&key()), Some(""));
    worker.tick();
    assert_eq!(worker.send().len(), 0);
    assert_eq!(worker.fault(Fault::RevocationLost), 0);
}

#[test]
fn a_logout_that_the_store_never_hears_of_is_counted() {
    let mut worker = Worker::new();
    worker.revoke(&session(0, A));
    worker.answer_one(Answer::Nothing);
    worker.answer_one(Answer::Nothing);
    worker.pass(REVOKE_FOR);
    worker.tick();
    worker.answer_one(Answer::Nothing);
    assert_eq!(worker.fault(Fault::RevocationLost), 1);
    worker.tick();
    assert_eq!(worker.send().len(), 0);

    worker.revoke(&session(0, A));
    worker.answer_one(Answer::Nothing);
    worker.answer_one(Answer::Nothing);
    worker.client.on_done(event!(worker));
    assert_eq!(worker.fault(Fault::RevocationLost), 2, "nor when the root ends before");
}

#[test]
fn a_logout_is_not_held_back_by_calls_that_wait_and_holds_meanwhile() {
    let mut worker = Worker::new();
    worker.burst(0..600, 1);
    worker.send();
    assert!(worker.revoke(&session(0, A)));
    let sent = worker.send();
    assert_eq!(sent.len(), 1);
    assert!(sent[0].1.is_revocation());
    assert_eq!(worker.find_for(&session(0, A), 700, 1), Some(LookupOutcome::Revoked));
}

#[test]
fn what_this_worker_knows_to_have_ended_is_not_written_into_an_empty_store() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    worker.write(&session(0, A), None);
    worker.talk(&mut store);
    worker.revoke(&session(0, A));
    worker.talk(&mut store);
    store.wipe();
    worker.write(&session(1, B), Some(1));
    worker.touch(&session(1, B));
    worker.talk(&mut store);
    assert_eq!(store.value(&key()), None);
}

#[test]
fn a_revocation_under_way_when_the_root_ends_is_counted() {
    let mut worker = Worker::new();
    worker.revoke(&session(0, A));
    worker.send();
    worker.client.on_done(event!(worker));
    assert_eq!(worker.fault(Fault::RevocationLost), 1);
}

#[test]
fn a_session_whose_end_is_owed_stays_ended_when_the_cache_is_full() {
    let (mut store, mut worker) = (Model::default(), Worker::with(&config(r#","cache":{"entries":1}"#)));
    worker.write(&session(0, A), None);
    worker.talk(&mut store);
    worker.revoke(&session(0, A));
    worker.answer_one(Answer::Nothing);
    worker.answer_one(Answer::Nothing);
    worker.look(&Session { id: SessionId([8; 16]), ..session(0, A) }, &mut store);
    assert_eq!(worker.look(&session(0, A), &mut store), LookupOutcome::Revoked);
}

#[test]
fn a_logout_of_which_nobody_knows_the_time_is_tried_again_for_a_minute_all_the_same() {
    let mut worker = Worker::new();
    worker.tick();
    assert!(worker.client.revoke(&session(0, A), stream(1), &mut Event { now: None, counts: &mut worker.counts }));
    worker.answer_one(Answer::Nothing);
    worker.answer_one(Answer::Nothing);
    worker.pass(Duration::from_secs(30));
    worker.tick();
    assert_eq!(worker.send().len(), 1);
    assert_eq!(worker.fault(Fault::RevocationLost), 0);
}

#[test]
fn a_session_whose_logout_is_owed_is_not_kept_alive_though_the_cache_forgot_it() {
    let (mut store, mut worker) = (Model::default(), Worker::with(&config(r#","cache":{"entries":1}"#)));
    worker.revoke(&session(0, A));
    worker.answer_one(Answer::Nothing);
    worker.answer_one(Answer::Nothing);
    worker.write(&numbered(7), None);
    worker.talk(&mut store);
    assert!(!worker.touch(&session(0, A)));
    assert_eq!(worker.send().len(), 0);
}
