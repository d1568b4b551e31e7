use super::*;
use crate::clock::UnixTime;
use crate::session::pin::{ClusterId, HostAddr, Pin, Pins};
use crate::store::protocol::model::Model;
use crate::store::value::Stored;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const A: &str = "127.0.0.1:9001";
const B: &str = "127.0.0.1:9002";
const C: &str = "127.0.0.1:9003";

fn config(members: &str) -> Rc<Config> {
    config_of(&format!(r#","store":{{"cluster":"c"}}{members}"#))
}

fn config_of(members: &str) -> Rc<Config> {
    let json = format!(
        r#"{{"keys":[{{"id":"new","secret":{{"base64":"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}}}},
        {{"id":"old","secret":{{"base64":"QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI="}}}}]{members}}}"#
    );
    Rc::new(Config::parse(json.as_bytes(), &|_| None).unwrap())
}

fn pins(host: &str) -> Pins {
    let pin = Pin { cluster: ClusterId::of(b"app"), host: HostAddr::parse(host.as_bytes()).unwrap() };
    Pins::from_vec(vec![pin]).unwrap()
}

fn session(generation: u32, host: &str) -> Session {
    let created = UnixTime(1_800_000_000);
    Session {
        id: SessionId([7; 16]),
        created,
        renewed: created.plus(100),
        end: Some(created.plus(28_800)),
        generation,
        pins: pins(host),
    }
}

fn stream(id: u32) -> StreamId {
    StreamId(id)
}

/// One worker's client, with its clock and its counters.
struct Worker {
    client: StoreClient,
    now: Monotonic,
    counts: Counts,
    calls: u32,
}

impl Worker {
    fn new() -> Self {
        Self::with(&config(""))
    }

    fn with(config: &Rc<Config>) -> Self {
        let client = StoreClient::new(config).unwrap();
        Self { client, now: Monotonic(Duration::from_secs(1000)), counts: Counts::default(), calls: 0 }
    }

    fn pass(&mut self, time: Duration) {
        self.now = Monotonic(self.now.0 + time);
    }

    fn find(&mut self, session: &Session, id: u32) -> Option<LookupOutcome> {
        self.client.find(session, stream(id), self.now, &mut self.counts)
    }

    fn put(&mut self, session: &Session, waiter: Option<u32>) -> bool {
        self.client.put(session, waiter.map(stream), self.now, &mut self.counts)
    }

    fn touch(&mut self, session: &Session) -> bool {
        self.client.touch(session, Some(stream(1)), self.now, &mut self.counts)
    }

    fn revoke(&mut self, session: &Session) -> bool {
        self.client.revoke(session, stream(1), self.now, &mut self.counts)
    }

    fn tick(&mut self) -> Vec<Wake> {
        self.client.on_tick(self.now, &mut self.counts)
    }

    /// Sends what is to be sent; the answers are for the test to give.
    fn send(&mut self) -> Vec<(CallId, Call)> {
        let mut sent = Vec::new();
        assert_eq!(self.client.admit(&mut self.counts), []);
        while let Some(call) = self.client.outgoing() {
            self.calls += 1;
            self.client.sent(CallId(self.calls), call.clone());
            sent.push((CallId(self.calls), call));
        }
        sent
    }

    fn answer(&mut self, id: CallId, answer: Answer) -> Vec<Wake> {
        self.client.answered(id, answer, self.now, &mut self.counts)
    }

    /// The one call that is to be made, answered thus.
    fn answer_one(&mut self, answer: Answer) -> Vec<Wake> {
        let sent = self.send();
        assert_eq!(sent.len(), 1, "{sent:?}");
        self.answer(sent[0].0, answer)
    }

    /// Lets the store answer until nothing is asked any more.
    fn talk(&mut self, store: &mut Model) -> Vec<Wake> {
        let mut wakes = Vec::new();
        loop {
            let sent = self.send();
            if sent.is_empty() {
                return wakes;
            }
            for (id, call) in sent {
                let (key, command) = call.asked();
                let answer = store.answer(key, command);
                wakes.extend(self.answer(id, answer));
            }
        }
    }

    /// What a lookup comes to.
    fn look(&mut self, session: &Session, store: &mut Model) -> LookupOutcome {
        if let Some(found) = self.find(session, 99) {
            return found;
        }
        match self.talk(store).as_slice() {
            [(StreamId(99), CallOutcome::Lookup(found))] => found.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn count(&self, counter: Counter) -> u32 {
        self.counts.get(counter)
    }

    fn calls(&self, operation: Operation, result: CallResult) -> u32 {
        self.count(Counter::StoreCall(operation, result))
    }

    fn fault(&self, fault: Fault) -> u32 {
        self.count(Counter::Fault(fault))
    }

    fn open_breaker(&mut self) {
        for _ in 0..5 {
            assert!(self.touch(&session(0, A)));
            self.answer_one(Answer::Nothing);
        }
        assert_eq!(self.fault(Fault::StoreLeftAlone), 1);
    }
}

fn status(status: u16, body: &str) -> Answer {
    Answer::Response { status, etag: Some(b"\"e\"".to_vec()), body: body.into() }
}

fn hosts(found: &LookupOutcome) -> String {
    let LookupOutcome::Session(record) = found else { panic!("{found:?}") };
    record.pins.iter().map(|pin| pin.host.to_text()).collect()
}

fn key() -> StoreKey {
    StoreKey::of(&SessionId([7; 16]), "__Host-mooring", "mooring")
}

/// The store's copy.
fn stored(store: &Model) -> (u32, String) {
    let value = store.value(&key()).expect("a value");
    match value::open(value.as_bytes(), &key(), &config("").keyring) {
        Some((Stored::Session { generation, pins }, _)) => {
            (generation, pins.iter().map(|pin| pin.host.to_text()).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_lookup_serves_everybody_who_asks_meanwhile_and_for_the_time_to_live() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    Worker::new().put_into(&mut store, &session(3, A));
    for id in 1..=64 {
        assert_eq!(worker.find(&session(3, A), id), None);
    }
    let wakes = worker.talk(&mut store);
    let woken: Vec<u32> = wakes.iter().map(|(stream, _)| stream.0).collect();
    assert_eq!(woken, (1..=64).collect::<Vec<_>>());
    assert!(wakes.iter().all(|(_, news)| matches!(news, CallOutcome::Lookup(LookupOutcome::Session(_)))));
    assert_eq!(worker.calls(Operation::Lookup, CallResult::Ok), 1);
    worker.pass(Duration::from_millis(29_999));
    assert_eq!(hosts(&worker.find(&session(3, A), 65).expect("known")), A);
    worker.pass(Duration::from_millis(1));
    assert_eq!(worker.find(&session(3, A), 66), None, "the time to live is over");
}

impl Worker {
    fn put_into(mut self, store: &mut Model, session: &Session) {
        self.put(session, None);
        assert_eq!(self.talk(store), []);
    }
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
    assert_eq!(worker.find(&session(0, A), 1), None);
    assert_eq!(counts(&worker), [0, 1, 0, 0]);
    assert_eq!(worker.find(&session(0, A), 2), None);
    assert_eq!(counts(&worker), [0, 2, 1, 0], "the second waits for the first one's lookup");
    assert_eq!(worker.client.remembered(), 0);
    worker.answer_one(status(410, ""));
    assert_eq!(worker.find(&session(0, A), 3), Some(LookupOutcome::Revoked));
    assert_eq!((counts(&worker), worker.client.remembered()), ([1, 2, 1, 0], 1));
    assert_eq!(worker.find(&Session { id: SessionId([8; 16]), ..session(0, A) }, 4), None);
    worker.answer_one(status(410, ""));
    assert_eq!((counts(&worker), worker.client.remembered()), ([1, 3, 1, 1], 1), "there is room for one");
}

#[test]
fn a_call_is_measured_until_it_is_answered_or_given_up() {
    let mut worker = Worker::new();
    let measured = |worker: &mut Worker| worker.counts.take_measured();
    worker.find(&session(0, A), 1);
    let sent = worker.send();
    worker.pass(Duration::from_micros(7_900));
    worker.answer(sent[0].0, status(404, ""));
    assert_eq!(measured(&mut worker), [(Histogram::StoreCall(Operation::Lookup), 7)]);
    worker.touch(&session(0, A));
    worker.send();
    worker.pass(Duration::from_secs(2));
    worker.tick();
    assert_eq!(measured(&mut worker), [(Histogram::StoreCall(Operation::Touch), 2000)]);
    worker.touch(&session(0, A));
    assert_eq!(worker.client.admit(&mut worker.counts), []);
    let call = worker.client.outgoing().unwrap();
    let _ = worker.client.unsent(call, worker.now, &mut worker.counts);
    assert_eq!(measured(&mut worker), [], "it was never made");
}

#[test]
fn a_store_is_left_alone_until_the_pause_is_over() {
    let mut worker = Worker::new();
    assert!(!worker.client.is_left_alone(worker.now));
    worker.open_breaker();
    assert!(worker.client.is_left_alone(worker.now));
    worker.pass(Duration::from_secs(1));
    assert!(!worker.client.is_left_alone(worker.now), "the next call is made");
    assert!(worker.touch(&session(0, A)));
    assert!(worker.client.is_left_alone(worker.now), "and no other, until it is answered");
    worker.answer_one(status(204, ""));
    assert!(!worker.client.is_left_alone(worker.now));
}

#[test]
fn a_client_with_a_newer_copy_than_the_worker_knows_is_a_reason_to_ask() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    Worker::new().put_into(&mut store, &session(1, A));
    assert_eq!(hosts(&worker.look(&session(1, A), &mut store)), A);
    let mut other = Worker::new();
    other.look(&session(1, A), &mut store);
    other.put(&session(2, B), None);
    other.talk(&mut store);
    assert_eq!(hosts(&worker.find(&session(1, A), 1).expect("known")), A, "not heard of it yet");
    assert_eq!(hosts(&worker.look(&session(2, B), &mut store)), B);
}

#[test]
fn the_time_to_live_counts_from_when_the_store_was_asked() {
    let mut worker = Worker::new();
    let value = value::seal(&session(1, A), &key(), &config("").keyring);
    assert_eq!(worker.find(&session(1, A), 1), None);
    let sent = worker.send();
    worker.pass(Duration::from_millis(90));
    worker.answer(sent[0].0, status(200, &value));
    worker.pass(Duration::from_millis(29_909));
    assert!(worker.find(&session(1, A), 1).is_some());
    worker.pass(Duration::from_millis(1));
    assert_eq!(worker.find(&session(1, A), 1), None, "30 s after the question, not after the answer");

    let mut worker = Worker::new();
    worker.put(&session(1, A), None);
    let sent = worker.send();
    worker.pass(Duration::from_millis(90));
    worker.answer(sent[0].0, status(201, ""));
    worker.pass(Duration::from_millis(29_910));
    assert_eq!(worker.find(&session(1, A), 1), None, "nor after that of a write");
}

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
fn a_touch_that_returns_the_value_teaches_it() {
    let mut worker = Worker::with(&config_of(r#","store":{"cluster":"c","protocol":"upstash"}"#));
    let value = |generation, host| value::seal(&session(generation, host), &key(), &config("").keyring);
    let body = format!(r#"{{"result":"{}"}}"#, value(1, A));
    worker.find(&session(1, A), 1);
    worker.answer_one(status(200, &body));
    worker.touch(&session(1, A));
    worker.answer_one(status(200, &format!(r#"{{"result":"{}"}}"#, value(2, B))));
    assert_eq!(hosts(&worker.find(&session(1, A), 1).expect("known")), B);
    assert_eq!(worker.calls(Operation::Touch, CallResult::Ok), 1);
}

#[test]
fn an_older_copy_that_was_found_is_replaced_by_every_newer_one() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    Worker::new().put_into(&mut store, &session(1, A));
    worker.look(&session(3, B), &mut store);
    worker.client.fill(&session(3, B), worker.now, &mut worker.counts);
    worker.client.fill(&session(3, B), worker.now, &mut worker.counts);
    worker.talk(&mut store);
    assert_eq!((stored(&store), worker.calls(Operation::Move, CallResult::Ok)), ((3, B.into()), 1));
}

#[test]
fn whoever_leaves_is_not_woken_and_the_rest_is() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    for id in 1..=3 {
        assert_eq!(worker.find(&session(0, A), id), None);
    }
    worker.client.leave(stream(2));
    let woken: Vec<u32> = worker.talk(&mut store).iter().map(|(stream, _)| stream.0).collect();
    assert_eq!(woken, [1, 3]);
    assert_eq!(worker.client.waiters, 0);

    assert!(worker.put(&session(1, B), Some(4)));
    worker.client.leave(stream(4));
    assert_eq!(worker.talk(&mut store), []);
}

#[test]
fn a_call_that_cannot_be_made_wakes_its_waiters_at_once() {
    let mut worker = Worker::new();
    assert_eq!(worker.find(&session(0, A), 1), None);
    assert_eq!(worker.client.admit(&mut worker.counts), []);
    let call = worker.client.outgoing().expect("a call");
    let wakes = worker.client.unsent(call, worker.now, &mut worker.counts);
    assert_eq!(wakes, [(stream(1), CallOutcome::Lookup(LookupOutcome::Failed))]);
    assert_eq!(worker.find(&session(0, A), 2), None, "and is no reason not to try again");
    assert_eq!(worker.client.admit(&mut worker.counts), []);
    assert!(worker.client.outgoing().is_some());
}

#[test]
fn an_answer_to_a_call_that_is_not_awaited_is_counted_and_ignored() {
    let mut worker = Worker::new();
    assert_eq!(worker.answer(CallId(77), status(200, "x")), []);
    worker.find(&session(0, A), 1);
    let sent = worker.send();
    assert_eq!(worker.answer(sent[0].0, status(404, "")).len(), 1);
    assert_eq!(worker.answer(sent[0].0, status(404, "")), [], "a second answer");
    assert_eq!(worker.fault(Fault::StoreLate), 2);
}

#[test]
fn a_call_that_is_never_answered_is_given_up() {
    let mut worker = Worker::new();
    worker.find(&session(0, A), 1);
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
    assert_eq!(worker.find(&session(2, A), 1), Some(LookupOutcome::Missing));
    for _ in 0..3 {
        worker.client.fill(&session(2, A), worker.now, &mut worker.counts);
    }
    worker.talk(&mut store);
    assert_eq!(worker.calls(Operation::Create, CallResult::Ok), 1);
    assert_eq!(stored(&store), (2, A.into()));
    assert_eq!(hosts(&worker.find(&session(2, A), 1).expect("known")), A);
    worker.pass(Duration::from_secs(30));
    assert_eq!(worker.find(&session(2, A), 1), None);
}

#[test]
fn an_entry_lives_as_long_as_its_session_can_and_two_minutes_more() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    worker.put(&session(0, A), None);
    worker.talk(&mut store);
    assert_eq!(store.ttl(&key()), Some(1800 + 120), "the idle timeout");
    let late = Session { renewed: UnixTime(1_800_028_000), ..session(0, A) };
    worker.touch(&late);
    worker.talk(&mut store);
    assert_eq!(store.ttl(&key()), Some(1800 + 120), "never less than before");
    let mut store = Model::default();
    worker.put(&late, None);
    worker.talk(&mut store);
    assert_eq!(store.ttl(&key()), Some(800 + 120), "what is left of the absolute timeout");
    worker.revoke(&late);
    worker.talk(&mut store);
    assert_eq!((store.value(&key()), store.ttl(&key())), (Some(""), Some(800 + 120)), "a tombstone outlives the token");
}

#[test]
fn a_move_replaces_the_copy_that_it_knows_with_one_call() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    worker.put(&session(0, A), None);
    worker.talk(&mut store);
    assert!(worker.put(&session(1, B), Some(5)));
    assert_eq!(worker.talk(&mut store), [(stream(5), CallOutcome::Write(WriteOutcome::Settled))]);
    assert_eq!(stored(&store), (1, B.into()));
    assert_eq!((worker.calls, worker.calls(Operation::Move, CallResult::Ok)), (2, 1));
}

#[test]
fn of_two_movers_the_first_wins_and_the_other_adopts_its_copy() {
    let (mut store, mut one, mut two) = (Model::default(), Worker::new(), Worker::new());
    one.put(&session(0, A), None);
    one.talk(&mut store);
    two.look(&session(0, A), &mut store);
    assert!(one.put(&session(1, B), Some(1)) && two.put(&session(1, C), Some(2)));
    assert_eq!(one.talk(&mut store), [(stream(1), CallOutcome::Write(WriteOutcome::Settled))]);
    let [(StreamId(2), CallOutcome::Write(WriteOutcome::Adopted(record)))] = &two.talk(&mut store)[..] else {
        panic!()
    };
    assert_eq!(record.pins, pins(B));
    assert_eq!(two.calls(Operation::Move, CallResult::Conflict), 1);
    for worker in [&mut one, &mut two] {
        for cookie in [session(1, B), session(1, C), session(0, A)] {
            assert_eq!(hosts(&worker.find(&cookie, 9).expect("known")), B, "whichever cookie the client has");
        }
    }
}

#[test]
fn a_higher_generation_replaces_whatever_the_store_has() {
    let (mut store, mut one, mut two) = (Model::default(), Worker::new(), Worker::new());
    one.put(&session(0, A), None);
    one.talk(&mut store);
    // It never looked, so that it takes the session for a new one.
    assert!(two.put(&session(2, B), Some(2)));
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
    worker.put(&session(2, B), Some(2));
    let wakes = worker.talk(&mut store);
    assert!(matches!(&wakes[..], [(_, CallOutcome::Write(WriteOutcome::Adopted(record)))] if record.generation == 5));
    assert_eq!(stored(&store), (5, A.into()));
}

#[test]
fn a_mover_whose_worker_has_learned_of_another_s_move_meanwhile_adopts_that() {
    for theirs in [session(1, B), session(5, B)] {
        let (mut store, mut one, mut two) = (Model::default(), Worker::new(), Worker::new());
        one.put(&session(0, A), None);
        one.talk(&mut store);
        two.look(&session(0, A), &mut store);
        one.put(&theirs, None);
        one.talk(&mut store);
        two.look(&theirs, &mut store);
        // Of a request that began with the first copy.
        assert!(two.put(&session(1, C), Some(2)));
        let wakes = two.talk(&mut store);
        assert!(
            matches!(&wakes[..], [(_, CallOutcome::Write(WriteOutcome::Adopted(record)))] if record.pins == pins(B))
        );
        assert_eq!(stored(&store), (theirs.generation, B.into()));
        assert_eq!(hosts(&two.find(&session(1, C), 9).expect("known")), B);
    }
}

#[test]
fn a_race_that_does_not_end_is_given_up() {
    let mut worker = Worker::new();
    worker.put(&session(9, A), Some(1));
    let theirs = |generation| value::seal(&session(generation, B), &key(), &config("").keyring);
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
    worker.put(&session(1, A), None);
    worker.talk(&mut store);
    assert!(store.value(&key()).unwrap().starts_with("v1.new."));
    worker.put(&session(1, A), None);
    worker.talk(&mut store);
    assert_eq!(stored(&store), (1, A.into()));
}

#[test]
fn a_touch_of_what_the_store_lost_writes_it_anew() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    worker.put(&session(1, A), None);
    worker.talk(&mut store);
    store.wipe();
    assert!(worker.touch(&session(1, A)));
    assert_eq!(worker.talk(&mut store), [(stream(1), CallOutcome::Write(WriteOutcome::Settled))]);
    assert_eq!(stored(&store), (1, A.into()));
    store.wipe();
    worker.put(&session(2, B), None);
    worker.talk(&mut store);
    assert_eq!(stored(&store), (2, B.into()), "so does a move");
}

#[test]
fn where_a_lost_session_is_over_nothing_writes_it_anew() {
    let rules = r#","store":{"cluster":"c","on_missing":"new_session","create":"at_once","write":"sync"}"#;
    for act in
        [(|worker, session| worker.put(session, Some(1))) as fn(&mut Worker, &Session) -> bool, |worker, session| {
            worker.touch(session)
        }]
    {
        let (mut store, mut worker) = (Model::default(), Worker::with(&config_of(rules)));
        worker.put(&session(0, A), None);
        worker.talk(&mut store);
        store.wipe();
        worker.pass(Duration::from_secs(1));
        assert!(act(&mut worker, &session(0, A)));
        assert_eq!(worker.talk(&mut store), [(stream(1), CallOutcome::Write(WriteOutcome::Revoked))]);
        assert_eq!(store.value(&key()), None);
        assert_eq!(worker.find(&session(0, A), 2), Some(LookupOutcome::Missing));
    }
}

#[test]
fn what_ended_elsewhere_is_never_revived() {
    for act in
        [(|worker, session| worker.put(session, Some(1))) as fn(&mut Worker, &Session) -> bool, |worker, session| {
            worker.touch(session)
        }]
    {
        let (mut store, mut one, mut two) = (Model::default(), Worker::new(), Worker::new());
        one.put(&session(0, A), None);
        one.talk(&mut store);
        two.look(&session(0, A), &mut store);
        one.revoke(&session(0, A));
        one.talk(&mut store);
        assert!(act(&mut two, &session(0, A)));
        assert_eq!(two.talk(&mut store), [(stream(1), CallOutcome::Write(WriteOutcome::Revoked))]);
        assert_eq!(store.value(&key()), Some(""));
        for worker in [&mut one, &mut two] {
            worker.pass(Duration::from_secs(100_000));
            assert_eq!(worker.find(&session(9, A), 3), Some(LookupOutcome::Revoked), "whatever the client has");
        }
        let mut three = Worker::new();
        assert_eq!(three.look(&session(9, A), &mut store), LookupOutcome::Revoked);
    }
}

#[test]
fn an_answer_from_before_a_logout_does_not_undo_it() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    Worker::new().put_into(&mut store, &session(0, A));
    assert_eq!(worker.find(&session(0, A), 1), None);
    let sent = worker.send();
    let before = store.answer(sent[0].1.asked().0, sent[0].1.asked().1);
    worker.revoke(&session(0, A));
    assert_eq!(worker.answer(sent[0].0, before), [(stream(1), CallOutcome::Lookup(LookupOutcome::Revoked))]);
    assert_eq!(worker.find(&session(0, A), 2), Some(LookupOutcome::Revoked));
}

#[test]
fn five_failures_open_the_breaker_and_then_nothing_is_asked() {
    let mut worker = Worker::new();
    worker.open_breaker();
    assert_eq!(worker.find(&session(0, A), 1), Some(LookupOutcome::Failed));
    assert!(!worker.put(&session(1, A), Some(1)) && !worker.touch(&session(1, A)));
    assert_eq!(worker.send().len(), 0);
    assert_eq!(worker.calls(Operation::Lookup, CallResult::Skipped), 1);
    assert_eq!(worker.client.retry_after(worker.now), 2);
    worker.pass(Duration::from_secs(1));
    assert_eq!(worker.find(&session(0, A), 2), None, "a probe");
    assert_eq!(worker.find(&session(0, A), 3), None, "waits for the same");
    let another = Session { id: SessionId([8; 16]), ..session(0, A) };
    assert_eq!(worker.find(&another, 4), Some(LookupOutcome::Failed), "one probe at a time");
    assert_eq!(worker.answer_one(status(404, "")).len(), 2);
    assert_eq!(worker.find(&another, 5), None, "it answers again");
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
            assert_eq!(worker.find(&session(0, A), at), None);
            assert_eq!(worker.answer_one(answer()), [(stream(at), CallOutcome::Lookup(LookupOutcome::Failed))]);
        }
        assert_eq!((worker.fault(fault), worker.fault(Fault::StoreLeftAlone)), (5, 1), "{fault:?}");
        assert_eq!(worker.calls(Operation::Lookup, CallResult::Failed), 5);
    }
    let mut worker = Worker::new();
    for _ in 0..20 {
        worker.pass(Duration::from_secs(1));
        assert_eq!(worker.find(&session(0, A), 1), None);
        worker.answer_one(status(200, "v1.new.AA.rubbish"));
    }
    assert_eq!((worker.fault(Fault::StoreValue), worker.fault(Fault::StoreLeftAlone)), (20, 0));
}

#[test]
fn a_value_that_cannot_be_trusted_is_a_failure_and_asked_for_once_a_second() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    let other = StoreKey::of(&SessionId([8; 16]), "__Host-mooring", "mooring");
    store.plant(&key(), &value::seal(&session(9, B), &other, &config("").keyring));
    assert_eq!(worker.look(&session(0, A), &mut store), LookupOutcome::Unreadable);
    assert_eq!(worker.find(&session(0, A), 1), Some(LookupOutcome::Unreadable));
    assert_eq!(worker.calls(Operation::Lookup, CallResult::Failed), 1);
    worker.pass(Duration::from_secs(1));
    assert_eq!(worker.find(&session(0, A), 1), None);
}

#[test]
fn a_value_that_cannot_be_trusted_is_replaced_by_one_that_can() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    store.plant(&key(), "rubbish");
    worker.put(&session(1, B), Some(1));
    assert_eq!(worker.talk(&mut store), [(stream(1), CallOutcome::Write(WriteOutcome::Settled))]);
    assert_eq!(stored(&store), (1, B.into()));

    // Over the gateways, a tombstone of a key that is no more may look like that.
    let endpoint = config_of(r#","store":{"cluster":"c","protocol":"upstash"}"#);
    let mut worker = Worker::with(&endpoint);
    worker.put(&session(1, B), Some(1));
    let body = r#"{"result":"v1.gone.AA.BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"}"#;
    assert_eq!(worker.answer_one(status(200, body)), [(stream(1), CallOutcome::Write(WriteOutcome::Settled))]);
    assert_eq!(worker.send().len(), 0);
}

#[test]
fn a_logout_is_waited_for_twice_then_tried_again_until_the_store_knows() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    worker.open_breaker();
    assert!(worker.revoke(&session(0, A)), "past the breaker");
    assert_eq!(worker.find(&session(0, A), 2), Some(LookupOutcome::Revoked), "here it holds at once");
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
    worker.client.on_done(&mut worker.counts);
    assert_eq!(worker.fault(Fault::RevocationLost), 2, "nor when the root ends before");
}

#[test]
fn waiters_calls_that_wait_and_revocations_that_are_owed_are_bounded() {
    let mut worker = Worker::new();
    for n in 0..MAX_QUEUED {
        assert_eq!(worker.find_for(&numbered(n), 1, n as u64), None);
    }
    assert_eq!(worker.find(&numbered(MAX_QUEUED), 1), Some(LookupOutcome::Failed));
    assert_eq!(
        worker.find(&numbered(0), 1),
        Some(LookupOutcome::Failed),
        "nobody else waits for a lookup that is under way"
    );
    assert_eq!(worker.fault(Fault::StoreOverload), 2);
    assert!(!worker.put(&numbered(MAX_QUEUED), None));
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

fn numbered(n: usize) -> Session {
    Session { id: SessionId((n as u128 + 1).to_be_bytes()), ..session(0, A) }
}

impl Worker {
    /// A request on this connection.
    fn find_for(&mut self, session: &Session, id: u32, connection: u64) -> Option<LookupOutcome> {
        let found = self.find(session, id);
        self.client.attribute(Some(connection));
        let wakes = self.client.admit(&mut self.counts);
        match wakes.as_slice() {
            [] => found,
            [(woken, CallOutcome::Lookup(found))] if *woken == stream(id) => Some(found.clone()),
            _ => panic!("{wakes:?}"),
        }
    }

    /// A burst of one client: stream and session have the same number.
    fn burst(&mut self, numbers: std::ops::Range<usize>, connection: u64) {
        for n in numbers {
            assert_eq!(self.find_for(&numbered(n), n as u32, connection), None);
        }
    }
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
        assert_eq!(worker.find(&numbered(n), 1), None);
        assert!(!worker.client.must_queue(), "{n}");
        worker.send();
    }
    assert_eq!(worker.find(&numbered(MAX_CALLS), 1), None);
    assert!(worker.client.must_queue());
    worker.client.attribute(Some(1));
    assert_eq!(worker.send().len(), 0);
    assert!(!worker.client.must_queue(), "it was said");
    assert_eq!(worker.find(&numbered(MAX_CALLS), 2), None);
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
    worker.put(&numbered(900), Some(900));
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
    assert!(!worker.client.is_left_alone(worker.now));
}

#[test]
fn what_waits_is_given_up_at_once_when_the_store_is_left_alone() {
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
        assert!(!worker.client.is_left_alone(worker.now), "{round}");
    }
    assert!(worker.fault(Fault::StoreUnavailable) as usize >= 4 * MAX_CALLS);
    let sent = worker.send();
    worker.pass(Duration::from_millis(100));
    sent.iter().for_each(|(id, _)| drop(worker.answer(*id, Answer::Nothing)));
    assert!(worker.client.is_left_alone(worker.now), "the fifth round in a row");
}

#[test]
fn what_the_proxy_has_no_room_for_or_no_host_is_not_held_against_the_store() {
    let mut worker = Worker::new();
    for n in 0..20 {
        worker.burst(n..n + 1, 1);
        assert_eq!(worker.answer_one(Answer::Overloaded).len(), 1);
        worker.burst(100 + n..101 + n, 1);
        assert_eq!(worker.client.admit(&mut worker.counts), []);
        let call = worker.client.outgoing().unwrap();
        assert_eq!(worker.client.unsent(call, worker.now, &mut worker.counts).len(), 1);
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
    assert!(!worker.client.is_left_alone(worker.now));
}

#[test]
fn a_lookup_that_nobody_waits_for_any_more_is_not_made() {
    let mut worker = Worker::new();
    worker.burst(0..600, 1);
    assert_eq!(worker.find(&numbered(599), 1000), None);
    worker.send();
    (0..600).for_each(|id| worker.client.leave(stream(id)));
    assert_eq!((worker.client.queue.len(), worker.client.waiters), (1, 1), "but for the one that another waits for");
    assert_eq!(worker.client.lookups.len(), MAX_CALLS + 1);
    assert_eq!(worker.find(&numbered(598), 1001), None, "who asks anew waits anew");
}

#[test]
fn without_a_store_there_is_no_client() {
    let json = br#"{"keys":[{"id":"k","secret":{"base64":"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}}]}"#;
    assert!(StoreClient::new(&Rc::new(Config::parse(json, &|_| None).unwrap())).is_none());
}

#[test]
fn where_a_lost_session_is_over_a_forgotten_version_does_not_revive_it() {
    let rules = r#","store":{"cluster":"c","on_missing":"new_session","create":"at_once","write":"sync"}"#;
    let (mut store, mut worker) = (Model::default(), Worker::with(&config_of(rules)));
    worker.put(&session(0, A), None);
    worker.talk(&mut store);
    store.wipe();
    // A long request: what was known when it began is known no more when it moves.
    worker.pass(Duration::from_secs(31));
    worker.put(&session(1, B), Some(1));
    worker.talk(&mut store);
    assert_eq!(store.value(&key()), None, "it may have been ended, and its tombstone lost with the rest");
}

#[test]
fn what_this_worker_knows_to_have_ended_is_not_written_into_an_empty_store() {
    let (mut store, mut worker) = (Model::default(), Worker::new());
    worker.put(&session(0, A), None);
    worker.talk(&mut store);
    worker.revoke(&session(0, A));
    worker.talk(&mut store);
    store.wipe();
    worker.put(&session(1, B), Some(1));
    worker.touch(&session(1, B));
    worker.talk(&mut store);
    assert_eq!(store.value(&key()), None);
}

#[test]
fn a_revocation_under_way_when_the_root_ends_is_counted() {
    let mut worker = Worker::new();
    worker.revoke(&session(0, A));
    worker.send();
    worker.client.on_done(&mut worker.counts);
    assert_eq!(worker.fault(Fault::RevocationLost), 1);
}

#[test]
fn a_session_whose_end_is_owed_stays_ended_when_the_cache_is_full() {
    let (mut store, mut worker) = (Model::default(), Worker::with(&config(r#","cache":{"entries":1}"#)));
    worker.put(&session(0, A), None);
    worker.talk(&mut store);
    worker.revoke(&session(0, A));
    worker.answer_one(Answer::Nothing);
    worker.answer_one(Answer::Nothing);
    worker.look(&Session { id: SessionId([8; 16]), ..session(0, A) }, &mut store);
    assert_eq!(worker.look(&session(0, A), &mut store), LookupOutcome::Revoked);
}
