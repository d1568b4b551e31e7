//! Lookups: shared, remembered, given up.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn one_lookup_serves_everybody_who_asks_meanwhile_and_for_the_time_to_live() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    Worker::new().put_into(&mut store, &session(3, A));
    for id in 1..=64 {
        assert_eq!(worker.lookup(&session(3, A), id), None);
    }
    let wakes = worker.talk(&mut store);
    let woken: Vec<u32> = wakes.iter().map(|(stream, _)| stream.0).collect();
    assert_eq!(woken, (1..=64).collect::<Vec<_>>());
    assert!(wakes.iter().all(|(_, news)| matches!(news, CallOutcome::Lookup(LookupOutcome::Session(_)))));
    assert_eq!(worker.calls(Operation::Lookup, CallResult::Ok), 1);
    worker.pass(Duration::from_millis(29_999));
    assert_eq!(hosts(&worker.lookup(&session(3, A), 65).expect("known")), A);
    worker.pass(Duration::from_millis(1));
    assert_eq!(worker.lookup(&session(3, A), 66), None, "the time to live is over");
}

#[test]
fn what_is_known_asked_shared_and_displaced_is_counted() {
    let mut worker = Worker::with(&config(r#","cache":{"entries":1}"#));
    let counts = |worker: &Worker| {
        [
            Counter::Hit(Memory::Sessions),
            Counter::Miss(Memory::Sessions),
            Counter::LookupShared,
            Counter::Evicted(Memory::Sessions),
        ]
        .map(|counter| worker.count(counter))
    };
    assert_eq!(worker.lookup(&session(0, A), 1), None);
    assert_eq!(counts(&worker), [0, 1, 0, 0]);
    assert_eq!(worker.lookup(&session(0, A), 2), None);
    assert_eq!(counts(&worker), [0, 2, 1, 0], "the second waits for the first one's lookup");
    assert_eq!(worker.client.remembered(), 0);
    worker.answer_one(status(410, ""));
    assert_eq!(worker.lookup(&session(0, A), 3), Some(LookupOutcome::Revoked));
    assert_eq!((counts(&worker), worker.client.remembered()), ([1, 2, 1, 0], 1));
    assert_eq!(worker.lookup(&Session { id: SessionId([8; 16]), ..session(0, A) }, 4), None);
    worker.answer_one(status(410, ""));
    assert_eq!((counts(&worker), worker.client.remembered()), ([1, 3, 1, 1], 1), "there is room for one");
}

#[test]
fn a_client_with_a_newer_copy_than_the_worker_knows_is_a_reason_to_ask() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    Worker::new().put_into(&mut store, &session(1, A));
    assert_eq!(hosts(&worker.look(&session(1, A), &mut store)), A);
    let mut other = Worker::new();
    other.look(&session(1, A), &mut store);
    other.write(&session(2, B), None);
    other.talk(&mut store);
    assert_eq!(hosts(&worker.lookup(&session(1, A), 1).expect("known")), A, "not heard of it yet");
    assert_eq!(hosts(&worker.look(&session(2, B), &mut store)), B);
}

#[test]
fn the_time_to_live_counts_from_when_the_store_was_asked() {
    let mut worker = Worker::new();
    let value = value::seal(&session(1, A), &key(), &config("").shared.keyring);
    assert_eq!(worker.lookup(&session(1, A), 1), None);
    let sent = worker.send();
    worker.pass(Duration::from_millis(90));
    worker.answer(sent[0].0, status(200, &value));
    worker.pass(Duration::from_millis(29_909));
    assert!(worker.lookup(&session(1, A), 1).is_some());
    worker.pass(Duration::from_millis(1));
    assert_eq!(worker.lookup(&session(1, A), 1), None, "30 s after the question, not after the answer");

    let mut worker = Worker::new();
    worker.write(&session(1, A), None);
    let sent = worker.send();
    worker.pass(Duration::from_millis(90));
    worker.answer(sent[0].0, status(201, ""));
    worker.pass(Duration::from_millis(29_910));
    assert_eq!(worker.lookup(&session(1, A), 1), None, "nor after that of a write");
}

#[test]
fn whoever_leaves_is_not_woken_and_the_rest_is() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    for id in 1..=3 {
        assert_eq!(worker.lookup(&session(0, A), id), None);
    }
    worker.client.forget_waiter(stream(2));
    let woken: Vec<u32> = worker.talk(&mut store).iter().map(|(stream, _)| stream.0).collect();
    assert_eq!(woken, [1, 3]);
    assert_eq!(worker.client.waiters, 0);

    assert!(worker.write(&session(1, B), Some(4)));
    worker.client.forget_waiter(stream(4));
    assert_eq!(worker.talk(&mut store), []);
}

#[test]
fn a_call_that_cannot_be_made_wakes_its_waiters_at_once() {
    let mut worker = Worker::new();
    assert_eq!(worker.lookup(&session(0, A), 1), None);
    assert_eq!(worker.client.admit(event!(worker)), []);
    let call = worker.client.outgoing().expect("a call");
    let wakes = worker.client.unsent(call, event!(worker));
    assert_eq!(wakes, [(stream(1), CallOutcome::Lookup(LookupOutcome::Failed))]);
    assert_eq!(worker.lookup(&session(0, A), 2), None, "and is no reason not to try again");
    assert_eq!(worker.client.admit(event!(worker)), []);
    assert!(worker.client.outgoing().is_some());
}

#[test]
fn an_answer_to_a_call_that_is_not_awaited_is_counted_and_ignored() {
    let mut worker = Worker::new();
    assert_eq!(worker.answer(CallId(77), status(200, "x")), []);
    worker.lookup(&session(0, A), 1);
    let sent = worker.send();
    assert_eq!(worker.answer(sent[0].0, status(404, "")).len(), 1);
    assert_eq!(worker.answer(sent[0].0, status(404, "")), [], "a second answer");
    assert_eq!(worker.fault(Fault::StoreLate), 2);
}

#[test]
fn a_call_that_is_never_answered_is_given_up() {
    let mut worker = Worker::new();
    worker.lookup(&session(0, A), 1);
    let sent = worker.send();
    worker.pass(Duration::from_millis(1100));
    assert_eq!(worker.tick(), [], "the proxy has a second more than the time limit");
    worker.pass(Duration::from_millis(1));
    assert_eq!(worker.tick(), [(stream(1), CallOutcome::Lookup(LookupOutcome::Failed))]);
    assert_eq!(worker.fault(Fault::StoreUnavailable), 1);
    assert_eq!(worker.answer(sent[0].0, status(404, "")), []);
    assert_eq!(worker.fault(Fault::StoreLate), 1);
}

#[test]
fn a_miss_is_remembered_briefly_and_filled_once() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    assert_eq!(worker.look(&session(2, A), &mut store), LookupOutcome::Missing);
    assert_eq!(worker.lookup(&session(2, A), 1), Some(LookupOutcome::Missing));
    for _ in 0..3 {
        worker.client.write_if_missing(&session(2, A), event!(worker));
    }
    worker.talk(&mut store);
    assert_eq!(worker.calls(Operation::Create, CallResult::Ok), 1);
    assert_eq!(stored(&store), (2, A.into()));
    assert_eq!(hosts(&worker.lookup(&session(2, A), 1).expect("known")), A);
    worker.pass(Duration::from_secs(30));
    assert_eq!(worker.lookup(&session(2, A), 1), None);
}

#[test]
fn a_value_that_cannot_be_trusted_is_a_failure_and_asked_for_once_a_second() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    let other = StoreKey::of(&SessionId([8; 16]), "__Host-mooring", "mooring");
    store.plant(&key(), &value::seal(&session(9, B), &other, &config("").shared.keyring));
    assert_eq!(worker.look(&session(0, A), &mut store), LookupOutcome::Unreadable);
    assert_eq!(worker.lookup(&session(0, A), 1), Some(LookupOutcome::Unreadable));
    assert_eq!(worker.calls(Operation::Lookup, CallResult::Failed), 1);
    worker.pass(Duration::from_secs(1));
    assert_eq!(worker.lookup(&session(0, A), 1), None);
}
