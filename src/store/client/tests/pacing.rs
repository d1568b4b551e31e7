//! Calls that wait for their turn.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn waiters_calls_that_wait_and_revocations_that_are_owed_are_bounded() {
    let mut worker = Worker::new();
    for n in 0..MAX_QUEUED {
        assert_eq!(worker.find_for(&numbered(n), 1, n as u64), None);
    }
    assert_eq!(worker.lookup(&numbered(MAX_QUEUED), 1), Some(LookupOutcome::Failed));
    assert_eq!(
        worker.lookup(&numbered(0), 1),
        Some(LookupOutcome::Failed),
        "nobody else waits for a lookup that is under way"
    );
    assert_eq!(worker.fault(Fault::StoreOverload), 2);
    assert!(!worker.write(&numbered(MAX_QUEUED), None));
    assert_eq!((worker.fault(Fault::StoreOverload), worker.calls(Operation::Create, CallResult::Skipped)), (3, 1));
    assert!(worker.revoke(&numbered(MAX_QUEUED)), "a logout has room of its own");

    let mut worker = Worker::new();
    for n in 0..MAX_REVOCATIONS * 3 {
        worker.revoke(&numbered(n));
    }
    assert_eq!(worker.client.revocations.len(), MAX_REVOCATIONS);
    assert_eq!(worker.client.owed.len(), MAX_REVOCATIONS);
    assert_eq!(worker.fault(Fault::RevocationLost) as usize, MAX_REVOCATIONS);
    worker.client.revocations.clear();
    worker.tick();
    let left = (worker.client.revocations.len(), worker.client.owed.len());
    assert_eq!(left, (REVOKES_A_TICK, MAX_REVOCATIONS - REVOKES_A_TICK));
}

/// Whose lookups these are.
fn asked_for(sent: &[(CallId, Call)]) -> Vec<u64> {
    sent.iter().map(|(_, call)| call.client.unwrap_or(0)).collect()
}

#[test]
fn few_calls_are_under_way_and_the_others_wait_for_their_turn() {
    let mut worker = Worker::new();
    worker.burst(0..600, 1);
    let sent = worker.send();
    assert_eq!(sent.len(), MAX_CALLS);
    assert_eq!(worker.send().len(), 0);
    assert_eq!(worker.answer(sent[0].0, status(404, "")), [(stream(0), CallOutcome::Lookup(LookupOutcome::Missing))]);
    let next = worker.send();
    assert_eq!(next.len(), 1, "one more for one answer");
    assert_eq!(next[0].1.id, numbered(MAX_CALLS).id);
    assert_eq!(worker.fault(Fault::StoreOverload), 0);
}

#[test]
fn for_whom_a_call_is_matters_only_where_some_wait() {
    let mut worker = Worker::new();
    for n in 0..MAX_CALLS {
        assert_eq!(worker.lookup(&numbered(n), 1), None);
        assert!(!worker.client.must_queue(), "{n}");
        worker.send();
    }
    assert_eq!(worker.lookup(&numbered(MAX_CALLS), 1), None);
    assert!(worker.client.must_queue());
    worker.client.attribute(Some(1));
    assert_eq!(worker.send().len(), 0);
    assert!(!worker.client.must_queue(), "it was said");
    assert_eq!(worker.lookup(&numbered(MAX_CALLS), 2), None);
    assert!(!worker.client.must_queue(), "a lookup that is shared is nobody's");
}

#[test]
fn clients_take_turns_however_much_one_of_them_asks_for() {
    let mut worker = Worker::new();
    worker.burst(0..500, 1);
    let sent = worker.send();
    worker.burst(1000..1002, 2);
    worker.burst(2000..2001, 3);
    for (id, _) in sent.iter().take(6) {
        worker.answer(*id, status(404, ""));
    }
    assert_eq!(asked_for(&worker.send()), [1, 2, 3, 1, 2, 1]);
}

#[test]
fn one_client_has_so_many_calls_wait_and_others_find_room() {
    let mut worker = Worker::new();
    worker.burst(0..MAX_CALLS, 1);
    worker.send();
    worker.burst(MAX_CALLS..MAX_CALLS + MAX_QUEUED_OF_ONE, 1);
    assert_eq!(worker.find_for(&numbered(5000), 5000, 1), Some(LookupOutcome::Failed));
    assert_eq!((worker.fault(Fault::StoreOverload), worker.calls(Operation::Lookup, CallResult::Skipped)), (1, 1));
    assert_eq!(worker.find_for(&numbered(6000), 6000, 2), None);
    assert_eq!(worker.client.lookups.len(), MAX_CALLS + MAX_QUEUED_OF_ONE + 1);
}

#[test]
fn the_time_of_a_call_runs_from_when_it_is_sent() {
    let mut worker = Worker::with(&config_of(r#","store":{"cluster":"c","timeout":"100ms"}"#));
    worker.burst(0..MAX_CALLS + 1, 1);
    let sent = worker.send();
    worker.pass(Duration::from_millis(900));
    worker.answer(sent[0].0, status(404, ""));
    let late = worker.send();
    assert_eq!(late.len(), 1);
    worker.counts.take_measured();
    worker.pass(Duration::from_millis(900));
    assert_eq!(worker.tick().len(), 1, "those of before are lost: one counts, and the others are asked again");
    worker.counts.take_measured();
    worker.answer(late[0].0, status(404, ""));
    assert_eq!(worker.counts.take_measured(), [(Histogram::StoreCall(Operation::Lookup), 900)]);
}

#[test]
fn a_call_whose_turn_does_not_come_in_time_is_given_up_and_not_held_against_the_store() {
    let mut worker = Worker::with(&config_of(r#","store":{"cluster":"c","timeout":"5s"}"#));
    worker.burst(0..MAX_CALLS + 10, 1);
    worker.write(&numbered(900), Some(900));
    worker.client.attribute(Some(1));
    assert_eq!(worker.send().len(), MAX_CALLS);
    worker.pass(MAX_WAIT);
    assert_eq!(worker.tick(), []);
    worker.pass(Duration::from_millis(1));
    let wakes = worker.tick();
    assert_eq!(wakes.iter().filter(|(_, news)| *news == CallOutcome::Lookup(LookupOutcome::Failed)).count(), 10);
    assert_eq!(wakes.iter().filter(|(_, news)| *news == CallOutcome::Write(WriteOutcome::Settled)).count(), 1);
    assert_eq!((worker.fault(Fault::StoreOverload), worker.fault(Fault::StoreUnavailable)), (11, 0));
    assert_eq!(worker.calls(Operation::Lookup, CallResult::Skipped), 10);
    assert!(!worker.client.breaker_is_open(Some(worker.now)));
}

#[test]
fn a_lookup_that_nobody_waits_for_any_more_is_not_made() {
    let mut worker = Worker::new();
    worker.burst(0..600, 1);
    assert_eq!(worker.lookup(&numbered(599), 1000), None);
    worker.send();
    (0..600).for_each(|id| worker.client.forget_waiter(stream(id)));
    assert_eq!((worker.client.queue.len(), worker.client.waiters), (1, 1), "but for the one that another waits for");
    assert_eq!(worker.client.lookups.len(), MAX_CALLS + 1);
    assert_eq!(worker.lookup(&numbered(598), 1001), None, "who asks anew waits anew");
}
