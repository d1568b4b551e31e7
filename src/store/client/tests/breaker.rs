//! What opens the breaker, and what does not.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_store_breaker_is_open_until_the_pause_is_over() {
    let mut worker = Worker::new();
    assert!(!worker.client.breaker_is_open(Some(worker.now)));
    worker.open_breaker();
    assert!(worker.client.breaker_is_open(Some(worker.now)));
    worker.pass(Duration::from_secs(1));
    assert!(!worker.client.breaker_is_open(Some(worker.now)), "the next call is made");
    assert!(worker.touch(&session(0, A)));
    assert!(worker.client.breaker_is_open(Some(worker.now)), "and no other, until it is answered");
    worker.answer_one(status(204, ""));
    assert!(!worker.client.breaker_is_open(Some(worker.now)));
}

#[test]
fn five_failures_open_the_breaker_and_then_nothing_is_asked() {
    let mut worker = Worker::new();
    worker.open_breaker();
    assert_eq!(worker.lookup(&session(0, A), 1), Some(LookupOutcome::Failed));
    assert!(!worker.write(&session(1, A), Some(1)) && !worker.touch(&session(1, A)));
    assert_eq!(worker.send().len(), 0);
    assert_eq!(worker.calls(Operation::Lookup, CallResult::Skipped), 1);
    assert_eq!(worker.client.retry_after(Some(worker.now)), 2);
    worker.pass(Duration::from_secs(1));
    assert_eq!(worker.lookup(&session(0, A), 2), None, "a probe");
    assert_eq!(worker.lookup(&session(0, A), 3), None, "waits for the same");
    let another = Session { id: SessionId([8; 16]), ..session(0, A) };
    assert_eq!(worker.lookup(&another, 4), Some(LookupOutcome::Failed), "one probe at a time");
    assert_eq!(worker.answer_one(status(404, "")).len(), 2);
    assert_eq!(worker.lookup(&another, 5), None, "it answers again");
}

#[test]
fn what_opens_the_breaker_and_what_does_not() {
    let large = || Answer::TooLarge;
    for (answer, fault) in [
        ((|| Answer::Nothing) as fn() -> Answer, Fault::StoreUnavailable),
        (|| status(503, ""), Fault::StoreUnavailable),
        (|| status(401, ""), Fault::StoreRefused),
        (|| status(429, ""), Fault::StoreRefused),
        (|| status(201, ""), Fault::StoreSenseless),
        (large, Fault::StoreTooLarge),
    ] {
        let mut worker = Worker::new();
        for at in 0..5 {
            assert_eq!(worker.fault(Fault::StoreLeftAlone), 0);
            assert_eq!(worker.lookup(&session(0, A), at), None);
            assert_eq!(worker.answer_one(answer()), [(stream(at), CallOutcome::Lookup(LookupOutcome::Failed))]);
        }
        assert_eq!((worker.fault(fault), worker.fault(Fault::StoreLeftAlone)), (5, 1), "{fault:?}");
        assert_eq!(worker.calls(Operation::Lookup, CallResult::Failed), 5);
    }
    let mut worker = Worker::new();
    for _ in 0..20 {
        worker.pass(Duration::from_secs(1));
        assert_eq!(worker.lookup(&session(0, A), 1), None);
        worker.answer_one(status(200, "v1.new.AA.rubbish"));
    }
    assert_eq!((worker.fault(Fault::StoreValue), worker.fault(Fault::StoreLeftAlone)), (20, 0));
}

#[test]
fn what_waits_is_given_up_at_once_when_the_store_breaker_is_open() {
    let mut worker = Worker::new();
    worker.burst(0..MAX_CALLS * 6, 1);
    let mut woken = 0;
    for _ in 0..5 {
        let sent = worker.send();
        worker.pass(Duration::from_millis(100));
        woken += sent.iter().map(|(id, _)| worker.answer(*id, Answer::Nothing).len()).sum::<usize>();
    }
    assert_eq!((woken, worker.send().len()), (MAX_CALLS * 6, 0));
    assert_eq!(worker.fault(Fault::StoreLeftAlone), 1);
    assert!(worker.calls(Operation::Lookup, CallResult::Skipped) as usize > MAX_CALLS);
}

#[test]
fn a_lookup_that_fails_together_with_others_is_made_once_more() {
    let mut worker = Worker::new();
    worker.burst(0..3, 1);
    let sent = worker.send();
    worker.pass(Duration::from_millis(100));
    let woken: Vec<_> = sent.iter().map(|(id, _)| worker.answer(*id, Answer::Nothing).len()).collect();
    assert_eq!(woken, [1, 0, 0], "whoever fails first says that something is wrong");
    let again = worker.send();
    assert_eq!(again.len(), 2);
    assert_eq!(worker.answer(again[0].0, status(404, "")).len(), 1);
    worker.pass(Duration::from_millis(100));
    assert_eq!(worker.answer(again[1].0, Answer::Nothing).len(), 1, "twice, not more");
    assert_eq!((worker.send().len(), worker.client.waiters), (0, 0));
}

#[test]
fn calls_that_fail_together_do_not_open_the_breaker() {
    let mut worker = Worker::new();
    for round in 0..4 {
        worker.burst(round * 50..round * 50 + 50, 1);
        let sent = worker.send();
        worker.pass(Duration::from_millis(100));
        sent.iter().for_each(|(id, _)| drop(worker.answer(*id, Answer::Nothing)));
        assert!(!worker.client.breaker_is_open(Some(worker.now)), "{round}");
    }
    assert!(worker.fault(Fault::StoreUnavailable) as usize >= 4 * MAX_CALLS);
    let sent = worker.send();
    worker.pass(Duration::from_millis(100));
    sent.iter().for_each(|(id, _)| drop(worker.answer(*id, Answer::Nothing)));
    assert!(worker.client.breaker_is_open(Some(worker.now)), "the fifth round in a row");
}

#[test]
fn what_the_proxy_has_no_room_for_or_no_host_is_not_held_against_the_store() {
    let mut worker = Worker::new();
    for n in 0..20 {
        worker.burst(n..n + 1, 1);
        assert_eq!(worker.answer_one(Answer::Overloaded).len(), 1);
        worker.burst(100 + n..101 + n, 1);
        assert_eq!(worker.client.admit(event!(worker)), []);
        let call = worker.client.outgoing().unwrap();
        assert_eq!(worker.client.unsent(call, event!(worker)).len(), 1);
        worker.pass(Duration::from_secs(1));
    }
    assert_eq!((worker.fault(Fault::StoreOverload), worker.fault(Fault::StoreUnavailable)), (20, 20));
    assert_eq!(worker.fault(Fault::StoreLeftAlone), 0);
}

#[test]
fn a_probe_that_the_proxy_has_no_room_for_is_followed_by_another() {
    let mut worker = Worker::new();
    worker.open_breaker();
    worker.pass(Duration::from_secs(1));
    for n in 0..3 {
        worker.burst(n..n + 1, 1);
        worker.answer_one(Answer::Overloaded);
    }
    worker.burst(10..11, 1);
    worker.answer_one(status(404, ""));
    assert!(!worker.client.breaker_is_open(Some(worker.now)));
}
