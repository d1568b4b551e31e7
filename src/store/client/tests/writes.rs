//! Writes: which copy wins, and what a lost session comes to.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_touch_that_returns_the_value_teaches_it() {
    let mut worker = Worker::with(&config_of(r#","store":{"cluster":"c","protocol":"upstash"}"#));
    let value = |generation, host| value::seal(&session(generation, host), &key(), &config("").shared.keyring);
    let body = format!(r#"{{"result":"{}"}}"#, value(1, A));
    worker.lookup(&session(1, A), 1);
    worker.answer_one(status(200, &body));
    worker.touch(&session(1, A));
    worker.answer_one(status(200, &format!(r#"{{"result":"{}"}}"#, value(2, B))));
    assert_eq!(hosts(&worker.lookup(&session(1, A), 1).expect("known")), B);
    assert_eq!(worker.calls(Operation::Touch, CallResult::Ok), 1);
}

#[test]
fn an_older_copy_that_was_found_is_replaced_by_every_newer_one() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    Worker::new().put_into(&mut store, &session(1, A));
    worker.look(&session(3, B), &mut store);
    worker.client.write_if_missing(&session(3, B), event!(worker));
    worker.client.write_if_missing(&session(3, B), event!(worker));
    worker.talk(&mut store);
    assert_eq!((stored(&store), worker.calls(Operation::Move, CallResult::Ok)), ((3, B.into()), 1));
}

#[test]
fn an_entry_lives_as_long_as_its_session_can_and_two_minutes_more() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    worker.write(&session(0, A), None);
    worker.talk(&mut store);
    assert_eq!(store.ttl(&key()), Some(1800 + 120), "the idle timeout");
    let late = Session { renewed: UnixTime(1_800_028_000), ..session(0, A) };
    worker.touch(&late);
    worker.talk(&mut store);
    assert_eq!(store.ttl(&key()), Some(1800 + 120), "never less than before");
    let mut store = Model::default();
    worker.write(&late, None);
    worker.talk(&mut store);
    assert_eq!(store.ttl(&key()), Some(800 + 120), "what is left of the absolute timeout");
    worker.revoke(&late);
    worker.talk(&mut store);
    assert_eq!((store.value(&key()), store.ttl(&key())), (Some(""), Some(800 + 120)), "a tombstone outlives the token");
}

#[test]
fn a_move_replaces_the_copy_that_it_knows_with_one_call() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    worker.write(&session(0, A), None);
    worker.talk(&mut store);
    assert!(worker.write(&session(1, B), Some(5)));
    assert_eq!(worker.talk(&mut store), [(stream(5), CallOutcome::Write(WriteOutcome::Settled))]);
    assert_eq!(stored(&store), (1, B.into()));
    assert_eq!((worker.calls, worker.calls(Operation::Move, CallResult::Ok)), (2, 1));
}

#[test]
fn of_two_movers_the_first_wins_and_the_other_adopts_its_copy() {
    let (mut store, mut one, mut two) = (Model::default(), Worker::new(), Worker::new());
    one.write(&session(0, A), None);
    one.talk(&mut store);
    two.look(&session(0, A), &mut store);
    assert!(one.write(&session(1, B), Some(1)) && two.write(&session(1, C), Some(2)));
    assert_eq!(one.talk(&mut store), [(stream(1), CallOutcome::Write(WriteOutcome::Settled))]);
    let [(StreamId(2), CallOutcome::Write(WriteOutcome::Adopted(record)))] = &two.talk(&mut store)[..] else {
        panic!()
    };
    assert_eq!(record.pins, pins(B));
    assert_eq!(two.calls(Operation::Move, CallResult::Conflict), 1);
    for worker in [&mut one, &mut two] {
        for cookie in [session(1, B), session(1, C), session(0, A)] {
            assert_eq!(hosts(&worker.lookup(&cookie, 9).expect("known")), B, "whichever cookie the client has");
        }
    }
}

#[test]
fn a_higher_generation_replaces_whatever_the_store_has() {
    let (mut store, mut one, mut two) = (Model::default(), Worker::new(), Worker::new());
    one.write(&session(0, A), None);
    one.talk(&mut store);
    // It never looked, so that it takes the session for a new one.
    assert!(two.write(&session(2, B), Some(2)));
    assert_eq!(two.talk(&mut store), [(stream(2), CallOutcome::Write(WriteOutcome::Settled))]);
    assert_eq!(stored(&store), (2, B.into()));
    assert_eq!(
        (two.calls(Operation::Create, CallResult::Conflict), two.calls(Operation::Move, CallResult::Ok)),
        (1, 1)
    );
}

#[test]
fn a_lower_generation_adopts_what_the_store_has() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    Worker::new().put_into(&mut store, &session(5, A));
    worker.write(&session(2, B), Some(2));
    let wakes = worker.talk(&mut store);
    assert!(matches!(&wakes[..], [(_, CallOutcome::Write(WriteOutcome::Adopted(record)))] if record.generation == 5));
    assert_eq!(stored(&store), (5, A.into()));
}

#[test]
fn a_mover_whose_worker_has_learned_of_another_s_move_meanwhile_adopts_that() {
    for theirs in [session(1, B), session(5, B)] {
        let (mut store, mut one, mut two) = (Model::default(), Worker::new(), Worker::new());
        one.write(&session(0, A), None);
        one.talk(&mut store);
        two.look(&session(0, A), &mut store);
        one.write(&theirs, None);
        one.talk(&mut store);
        two.look(&theirs, &mut store);
        // Of a request that began with the first copy.
        assert!(two.write(&session(1, C), Some(2)));
        let wakes = two.talk(&mut store);
        assert!(
            matches!(&wakes[..], [(_, CallOutcome::Write(WriteOutcome::Adopted(record)))] if record.pins == pins(B))
        );
        assert_eq!(stored(&store), (theirs.generation, B.into()));
        assert_eq!(hosts(&two.lookup(&session(1, C), 9).expect("known")), B);
    }
}

#[test]
fn a_race_that_does_not_end_is_given_up() {
    let mut worker = Worker::new();
    worker.write(&session(9, A), Some(1));
    let theirs = |generation| value::seal(&session(generation, B), &key(), &config("").shared.keyring);
    let mut wakes = Vec::new();
    for generation in 1..=u32::from(MAX_TRIES) {
        assert_eq!(wakes, []);
        wakes = worker.answer_one(status(412, &theirs(generation)));
    }
    assert_eq!(wakes, [(stream(1), CallOutcome::Write(WriteOutcome::Settled))]);
    assert_eq!(worker.send().len(), 0);
}

#[test]
fn a_value_under_an_older_key_is_written_anew_with_the_session() {
    let old = r#","keys":[{"id":"old","secret":{"base64":"QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI="}}]"#;
    let json = format!(r#"{{"store":{{"cluster":"c"}}{old}}}"#);
    let before = Rc::new(Config::parse(json.as_bytes(), &|_| None).unwrap());
    let (mut store, mut worker) = (Model::default(), Worker::new());
    Worker::with(&before).put_into(&mut store, &session(1, A));
    assert!(store.value(&key()).unwrap().starts_with("v1.old."));
    worker.write(&session(1, A), None);
    worker.talk(&mut store);
    assert!(store.value(&key()).unwrap().starts_with("v1.new."));
    worker.write(&session(1, A), None);
    worker.talk(&mut store);
    assert_eq!(stored(&store), (1, A.into()));
}

#[test]
fn a_touch_of_what_the_store_lost_writes_it_anew() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    worker.write(&session(1, A), None);
    worker.talk(&mut store);
    store.wipe();
    assert!(worker.touch(&session(1, A)));
    assert_eq!(worker.talk(&mut store), [(stream(1), CallOutcome::Write(WriteOutcome::Settled))]);
    assert_eq!(stored(&store), (1, A.into()));
    store.wipe();
    worker.write(&session(2, B), None);
    worker.talk(&mut store);
    assert_eq!(stored(&store), (2, B.into()), "so does a move");
}

#[test]
fn where_a_lost_session_is_over_nothing_writes_it_anew() {
    let rules = r#","store":{"cluster":"c","on_missing":"new_session","create":"at_once","write":"sync"}"#;
    for act in
        [(|worker, session| worker.write(session, Some(1))) as fn(&mut Worker, &Session) -> bool, |worker, session| {
            worker.touch(session)
        }]
    {
        let (mut store, mut worker) = (Model::default(), Worker::with(&config_of(rules)));
        worker.write(&session(0, A), None);
        worker.talk(&mut store);
        store.wipe();
        worker.pass(Duration::from_secs(1));
        assert!(act(&mut worker, &session(0, A)));
        assert_eq!(worker.talk(&mut store), [(stream(1), CallOutcome::Write(WriteOutcome::Revoked))]);
        assert_eq!(store.value(&key()), None);
        assert_eq!(worker.lookup(&session(0, A), 2), Some(LookupOutcome::Missing));
    }
}

#[test]
fn a_value_that_cannot_be_trusted_is_replaced_by_one_that_can() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    store.plant(&key(), "rubbish");
    worker.write(&session(1, B), Some(1));
    assert_eq!(worker.talk(&mut store), [(stream(1), CallOutcome::Write(WriteOutcome::Settled))]);
    assert_eq!(stored(&store), (1, B.into()));

    // Over the gateways, a tombstone of a key that is no more may look like that.
    let endpoint = config_of(r#","store":{"cluster":"c","protocol":"upstash"}"#);
    let mut worker = Worker::with(&endpoint);
    worker.write(&session(1, B), Some(1));
    let body = r#"{"result":"v1.gone.AA.BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"}"#;
    assert_eq!(worker.answer_one(status(200, body)), [(stream(1), CallOutcome::Write(WriteOutcome::Settled))]);
    assert_eq!(worker.send().len(), 0);
}

#[test]
fn where_a_lost_session_is_over_a_forgotten_version_does_not_revive_it() {
    let rules = r#","store":{"cluster":"c","on_missing":"new_session","create":"at_once","write":"sync"}"#;
    let (mut store, mut worker) = (Model::default(), Worker::with(&config_of(rules)));
    worker.write(&session(0, A), None);
    worker.talk(&mut store);
    store.wipe();
    // A long request: what was known when it began is known no more when it moves.
    worker.pass(Duration::from_secs(31));
    worker.write(&session(1, B), Some(1));
    worker.talk(&mut store);
    assert_eq!(store.value(&key()), None, "it may have been ended, and its tombstone lost with the rest");
}

#[test]
fn a_copy_that_the_store_has_already_is_not_written_again() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    Worker::new().put_into(&mut store, &session(0, A));
    assert!(worker.write(&session(0, A), Some(1)));
    assert_eq!(worker.talk(&mut store), [(stream(1), CallOutcome::Write(WriteOutcome::Settled))]);
    assert_eq!(worker.calls(Operation::Create, CallResult::Conflict), 1);
    assert_eq!(worker.calls(Operation::Move, CallResult::Ok), 0);
}
