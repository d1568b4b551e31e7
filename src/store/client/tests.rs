//! One worker's client, with a clock of its own, and a model of the store.

/// What happens to a worker just now.
macro_rules! event {
    ($worker:expr) => {
        &mut Event { now: Some($worker.now), counts: &mut $worker.counts }
    };
}

mod breaker;
mod lookups;
mod pacing;
mod revocations;
mod writes;

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
        let client = StoreClient::new(config, 0).unwrap();
        Self { client, now: Monotonic(Duration::from_secs(1000)), counts: Counts::default(), calls: 0 }
    }

    fn pass(&mut self, time: Duration) {
        self.now = Monotonic(self.now.0 + time);
    }

    fn lookup(&mut self, session: &Session, id: u32) -> Option<LookupOutcome> {
        self.client.lookup(session, stream(id), event!(self))
    }

    fn write(&mut self, session: &Session, waiter: Option<u32>) -> bool {
        self.client.write(session, waiter.map(stream), event!(self))
    }

    fn touch(&mut self, session: &Session) -> bool {
        self.client.touch(session, Some(stream(1)), event!(self))
    }

    fn revoke(&mut self, session: &Session) -> bool {
        self.client.revoke(session, stream(1), event!(self))
    }

    fn tick(&mut self) -> Vec<Wake> {
        self.client.on_tick(event!(self))
    }

    /// Sends what is to be sent; the answers are for the test to give.
    fn send(&mut self) -> Vec<(CallId, Call)> {
        let mut sent = Vec::new();
        assert_eq!(self.client.admit(event!(self)), []);
        while let Some(call) = self.client.outgoing() {
            self.calls += 1;
            self.client.sent(CallId(self.calls), call.clone());
            sent.push((CallId(self.calls), call));
        }
        sent
    }

    fn answer(&mut self, id: CallId, answer: Answer) -> Vec<Wake> {
        self.client.answered(id, answer, event!(self))
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
        if let Some(found) = self.lookup(session, 99) {
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
    match value::open(value.as_bytes(), &key(), &config("").shared.keyring) {
        Some((Stored::Session { generation, pins }, _)) => {
            (generation, pins.iter().map(|pin| pin.host.to_text()).collect())
        }
        other => panic!("{other:?}"),
    }
}

impl Worker {
    fn put_into(mut self, store: &mut Model, session: &Session) {
        self.write(session, None);
        assert_eq!(self.talk(store), []);
    }
}

fn numbered(n: usize) -> Session {
    Session { id: SessionId((n as u128 + 1).to_be_bytes()), ..session(0, A) }
}

impl Worker {
    /// A request on this connection.
    fn find_for(&mut self, session: &Session, id: u32, connection: u64) -> Option<LookupOutcome> {
        let found = self.lookup(session, id);
        self.client.attribute(Some(connection));
        let wakes = self.client.admit(event!(self));
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

#[test]
fn a_call_is_measured_until_it_is_answered_or_given_up() {
    let mut worker = Worker::new();
    let measured = |worker: &mut Worker| worker.counts.take_measured();
    worker.lookup(&session(0, A), 1);
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
    assert_eq!(worker.client.admit(event!(worker)), []);
    let call = worker.client.outgoing().unwrap();
    let _ = worker.client.unsent(call, event!(worker));
    assert_eq!(measured(&mut worker), [], "it was never made");
}

#[test]
fn without_a_store_there_is_no_client() {
    let json = br#"{"keys":[{"id":"k","secret":{"base64":"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}}]}"#;
    assert!(StoreClient::new(&Rc::new(Config::parse(json, &|_| None).unwrap()), 0).is_none());
}
