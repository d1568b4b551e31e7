//! Proxies that share a store come to agree on a session, whatever happened between them: requests under way on several at once,
//! hosts that fail, calls to the store that arrive late or in another order, answers and cookies that are lost.

use mooring::config::Protocol;
use mooring::ids::StreamId;
use mooring::session::pin::Pins;
use mooring::session::{Session, SessionId};
use mooring::shell::contexts::Action;
use mooring::shell::proxy::Proxy as _;
use mooring::store::protocol::model::Model;
use mooring::store::protocol::{Answer, StoreKey};
use mooring::store::value::{self, Stored};
use mooring_test_kit::fake::Sent;
use mooring_test_kit::proxy::{Proxy, ROOT, line};
use mooring_test_kit::store;
use mooring_test_kit::tokens::{self, keyring};
use mooring_test_kit::world::plugin;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const HOSTS: [&str; 3] = ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"];

/// Longer than the time to live, the breaker's longest pause, and the minute in which a session may move three times.
const QUIET: Duration = Duration::from_secs(61);

#[derive(Clone, Debug)]
enum Event {
    /// The client sends a request to one of the proxies.
    Request(Index),
    /// The upstream answers one of the requests under way. The client may never get it.
    Respond { which: Index, host: usize, action: Option<&'static str>, lost: bool },
    /// A call arrives at the store.
    Arrive(Index),
    /// A call comes back: with what the store said, or, if it is still on its way or something is lost, with nothing.
    Return { which: Index, fate: Fate },
    /// A host fails, or is back.
    Health(usize, bool),
    /// Time, in milliseconds.
    Pass(u64),
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    AnswerLost,
    /// If it has not arrived yet, it never will.
    CallLost,
}

fn event() -> impl Strategy<Value = Event> {
    let index = any::<Index>;
    let lost = || prop::bool::weighted(0.2);
    let action = prop_oneof![12 => Just(None), 1 => Just(Some("release"))];
    let fate = prop_oneof![4 => Just(Fate::Answered), 1 => Just(Fate::AnswerLost), 1 => Just(Fate::CallLost)];
    let respond = (index(), 0..HOSTS.len(), action, lost());
    prop_oneof![
        5 => index().prop_map(Event::Request),
        5 => respond.prop_map(|(which, host, action, lost)| Event::Respond { which, host, action, lost }),
        6 => index().prop_map(Event::Arrive),
        6 => (index(), fate).prop_map(|(which, fate)| Event::Return { which, fate }),
        3 => (0..HOSTS.len(), any::<bool>()).prop_map(|(host, up)| Event::Health(host, up)),
        1 => (0..800_u64).prop_map(Event::Pass),
    ]
}

fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    vec(event(), 0..most)
}

/// How proxies use their store.
fn rules() -> impl Strategy<Value = Value> {
    let (create, write) = (prop::bool::ANY, prop::bool::ANY);
    (create, write).prop_map(|(at_once, sync)| {
        let create = if at_once { "at_once" } else { "on_return" };
        json!({"cluster": "session_store", "create": create, "write": if sync { "sync" } else { "async" }})
    })
}

/// A call to the store.
struct Call {
    proxy: usize,
    sent: Sent,
    /// What the store said, once it arrived.
    said: Option<Answer>,
    /// Whether the proxy was told.
    returned: bool,
}

/// A request under way.
struct Flight {
    proxy: usize,
    stream: StreamId,
    /// Its response has come, and waits. Whether the client will never get it.
    held: Option<bool>,
}

struct Fleet {
    proxies: Vec<Proxy>,
    store: Model,
    up: [bool; 3],
    calls: Vec<Call>,
    flights: Vec<Flight>,
    /// The client's first session.
    id: SessionId,
    /// The client's cookie.
    cookie: Option<String>,
    /// Every cookie that was issued.
    issued: BTreeSet<String>,
}

/// What a request came to while nothing else happened.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    asked: Option<String>,
    /// The session that the upstream was told of.
    told: String,
    decision: String,
    new_cookie: bool,
}

impl Fleet {
    /// Proxies and a client that has a session, on the first host.
    fn new(proxies: usize, store: &Value) -> Self {
        let session = json!({"idle_timeout": "10h", "absolute_timeout": "7d"});
        let plugin = plugin(json!({"store": store, "session": session, "cache": {"ttl": "5s"}}));
        let proxies: Vec<Proxy> = (0..proxies).map(|_| Proxy::with(&plugin)).collect();
        for (at, proxy) in proxies.iter().enumerate() {
            // The fake's random bytes are counted: no two proxies may begin at the same place.
            for _ in 0..at * 1000 {
                proxy.host.random(&mut [0; 16]).expect("bytes");
            }
        }
        let mut fleet = Self {
            proxies,
            store: Model::default(),
            up: [true; 3],
            calls: Vec::new(),
            flights: Vec::new(),
            id: SessionId([0; 16]),
            cookie: None,
            issued: BTreeSet::new(),
        };
        assert_eq!(fleet.see(0).decision, "created");
        fleet.id = fleet.session().id;
        fleet
    }

    /// What the client's cookie says.
    fn session(&self) -> Session {
        tokens::session(self.cookie.as_ref().expect("a cookie"))
    }

    fn happen(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Request(proxy) => self.request(proxy.index(self.proxies.len())),
                Event::Respond { which, host, action, lost } => {
                    let ready = (0..self.flights.len()).filter(|at| self.is_ready(&self.flights[*at]));
                    let ready: Vec<usize> = ready.filter(|_| self.up.contains(&true)).collect();
                    if !ready.is_empty() {
                        let flight = self.flights.remove(ready[which.index(ready.len())]);
                        self.respond(flight, *host, *action, *lost);
                    }
                }
                Event::Arrive(which) => self.arrive(which.index(usize::MAX)),
                Event::Return { which, fate } => self.come_back(which.index(usize::MAX), *fate),
                Event::Health(host, up) => self.up[*host] = *up,
                Event::Pass(millis) => self.pass(Duration::from_millis(*millis)),
            }
            self.look_around();
        }
    }

    /// Takes notice of calls that were made, and of responses that were held.
    fn look_around(&mut self) {
        self.calls.retain(|call| call.said.is_none() || !call.returned);
        for (at, proxy) in self.proxies.iter().enumerate() {
            let calls = proxy.sent().into_iter();
            self.calls.extend(calls.map(|sent| Call { proxy: at, sent, said: None, returned: false }));
        }
        for flight in std::mem::take(&mut self.flights) {
            let waits = self.proxies[flight.proxy].paused(flight.stream).is_some();
            match flight.held {
                Some(lost) if !waits => drop(self.deliver(&flight, lost)),
                Some(_) | None => self.flights.push(flight),
            }
        }
    }

    /// One of the calls that have not arrived yet arrives at the store.
    fn arrive(&mut self, which: usize) {
        let before = self.stored();
        let mut on_their_way: Vec<&mut Call> = self.calls.iter_mut().filter(|call| call.said.is_none()).collect();
        if !on_their_way.is_empty() {
            let at = which % on_their_way.len();
            let call = &mut on_their_way[at];
            let (key, command) = store::read(Protocol::Rest, &call.sent);
            call.said = Some(self.store.answer(&key, &command));
        }
        match (before, self.stored()) {
            (None, _) => {}
            (Some(Stored::Tombstone), after) => assert_eq!(after, Some(Stored::Tombstone), "what ended came back"),
            (Some(Stored::Session { .. }), None) => panic!("a session was lost"),
            (Some(Stored::Session { .. }), Some(Stored::Tombstone)) => {}
            (
                Some(Stored::Session { generation: before, pins: old }),
                Some(Stored::Session { generation: after, pins: new }),
            ) => {
                assert!(after >= before, "an older copy took the place of a newer one");
                assert!(after > before || new.agrees_with(&old), "of two movers the second won");
            }
        }
    }

    /// One of the calls that have not come back yet comes back.
    fn come_back(&mut self, which: usize, fate: Fate) {
        let mut open: Vec<&mut Call> = self.calls.iter_mut().filter(|call| !call.returned).collect();
        if !open.is_empty() {
            let at = which % open.len();
            let call = &mut open[at];
            call.returned = true;
            let answer = match (fate, &call.said) {
                (Fate::Answered, Some(said)) => said.clone(),
                (Fate::CallLost, None) => {
                    call.said = Some(Answer::Nothing);
                    Answer::Nothing
                }
                (Fate::Answered, None) | (Fate::AnswerLost, _) | (Fate::CallLost, Some(_)) => Answer::Nothing,
            };
            self.proxies[call.proxy].tell(&call.sent, answer);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.proxies.iter_mut().for_each(|proxy| proxy.pass(time));
    }

    fn request(&mut self, proxy: usize) {
        let mut headers = vec![line(":path", "/")];
        headers.extend(self.cookie.as_ref().map(|cookie| line("cookie", format!("m={cookie}"))));
        let (stream, _) = self.proxies[proxy].receive(ROOT, headers);
        self.flights.push(Flight { proxy, stream, held: None });
    }

    /// Whether a request is at its upstream.
    fn is_ready(&self, flight: &Flight) -> bool {
        flight.held.is_none() && self.proxies[flight.proxy].paused(flight.stream).is_none()
    }

    /// The response of the host that was asked for, or if that is down of another; the bridge names it then.
    fn respond(&mut self, mut flight: Flight, host: usize, action: Option<&'static str>, lost: bool) {
        match self.serve(&flight, host, action) {
            Action::Continue => drop(self.deliver(&flight, lost)),
            Action::Pause => {
                flight.held = Some(lost);
                self.flights.push(flight);
            }
        }
    }

    fn serve(&mut self, flight: &Flight, host: usize, action: Option<&'static str>) -> Action {
        let up: Vec<&str> = HOSTS.into_iter().zip(self.up).filter(|(_, up)| *up).map(|(host, _)| host).collect();
        let proxy = &mut self.proxies[flight.proxy];
        let asked = proxy.asked(flight.stream).filter(|asked| up.contains(&asked.as_str()));
        let serving = asked.unwrap_or_else(|| up[host % up.len()].to_owned());
        let said = action.map(|action| line("x-mooring-action", action));
        proxy.bridged(flight.stream, &serving, said.as_slice())
    }

    /// The client gets a response. Returns the decision, and whether it came with a cookie.
    fn deliver(&mut self, flight: &Flight, lost: bool) -> (String, bool) {
        let proxy = &mut self.proxies[flight.proxy];
        let decision = proxy.response_header(flight.stream, "x-decision").unwrap_or_default();
        let cookie = proxy.set_cookie(flight.stream);
        proxy.end(flight.stream);
        self.issued.extend(cookie.clone().filter(|cookie| !cookie.is_empty()));
        let new_cookie = cookie.is_some();
        if let Some(cookie) = cookie.filter(|_| !lost) {
            self.cookie = Some(cookie).filter(|cookie| !cookie.is_empty());
        }
        (decision, new_cookie)
    }

    /// A request that gets as far as its upstream.
    fn sent_through(&mut self, proxy: usize) -> Flight {
        self.request(proxy);
        let flight = self.flights.pop().expect("the request");
        for round in 0.. {
            if self.is_ready(&flight) {
                break;
            }
            assert!(round < 1000, "it waits for ever");
            self.look_around();
            self.arrive(0);
            self.come_back(0, Fate::Answered);
        }
        flight
    }

    /// Everything under way comes to its end, and time passes.
    fn come_to_rest(&mut self) {
        self.up[0] |= !self.up.contains(&true);
        for round in 0.. {
            assert!(round < 1000, "somebody waits for ever");
            while !self.calls.is_empty() {
                self.arrive(0);
                self.come_back(0, Fate::Answered);
                self.look_around();
            }
            match self.flights.iter().position(|flight| self.is_ready(flight)) {
                Some(at) => {
                    let flight = self.flights.remove(at);
                    self.respond(flight, 0, None, false);
                }
                None if self.flights.is_empty() => break,
                None => {}
            }
            self.look_around();
        }
        // What is owed to the store is told.
        self.wait(Duration::ZERO);
        self.wait(QUIET);
    }

    fn wait(&mut self, time: Duration) {
        self.pass(time);
        self.proxies.iter_mut().for_each(|proxy| proxy.talk(&mut self.store));
    }

    /// A request while nothing else happens.
    fn see(&mut self, proxy: usize) -> Seen {
        self.request(proxy);
        let flight = self.flights.pop().expect("the request");
        self.proxies[proxy].talk(&mut self.store);
        let asked = self.proxies[proxy].asked(flight.stream);
        let told = self.proxies[proxy].request_header(flight.stream, "x-mooring-session").expect("it goes on");
        self.serve(&flight, 0, None);
        self.proxies[proxy].talk(&mut self.store);
        let (decision, new_cookie) = self.deliver(&flight, false);
        Seen { asked, told, decision, new_cookie }
    }

    /// What the store has of the session.
    fn stored(&self) -> Option<Stored> {
        let key = StoreKey::of(&self.id, "m", "mooring");
        match self.store.value(&key)? {
            "" => Some(Stored::Tombstone),
            value => Some(value::open(value.as_bytes(), &key, &keyring("m")).expect("a value of ours").0),
        }
    }
}

/// The hosts of these pins.
fn hosts(pins: &Pins) -> Vec<String> {
    pins.iter().map(|pin| pin.host.to_text()).collect()
}
proptest! {
    #[test]
    fn proxies_agree_on_a_session_s_host_once_it_is_quiet(
        proxies in 2..5_usize, rules in rules(), events in events(80),
    ) {
        let mut fleet = Fleet::new(proxies, &rules);
        fleet.happen(&events);
        fleet.come_to_rest();

        // Its host may be down: then it moves, once.
        fleet.see(0);
        let agreed = fleet.session();
        let home = hosts(&agreed.pins);
        prop_assert_eq!(home.len(), 1);
        let told = fleet.id.to_text();
        let settled = Seen { asked: Some(home[0].clone()), told, decision: "resumed".into(), new_cookie: false };
        for round in 0..3 {
            for proxy in 0..proxies {
                prop_assert_eq!(&fleet.see(proxy), &settled, "proxy {} in round {}", proxy, round);
            }
            let stored = Stored::Session { generation: agreed.generation, pins: agreed.pins.clone() };
            prop_assert_eq!(fleet.stored(), Some(stored));
            fleet.wait(QUIET);
        }
    }

    #[test]
    fn a_session_that_one_proxy_ended_is_refused_by_all_once_it_is_quiet(
        proxies in 2..5_usize, rules in rules(), before in events(40), at in any::<Index>(), lost in any::<bool>(),
        after in events(40),
    ) {
        let mut fleet = Fleet::new(proxies, &rules);
        fleet.happen(&before);
        fleet.up[0] = true;
        let flight = fleet.sent_through(at.index(proxies));
        fleet.respond(flight, 0, Some("end"), lost);
        fleet.happen(&after);
        fleet.come_to_rest();

        prop_assert_eq!(fleet.stored(), Some(Stored::Tombstone));
        let copies: Vec<String> = fleet.issued.iter().filter(|cookie| tokens::session(cookie).id == fleet.id).cloned().collect();
        prop_assert!(!copies.is_empty());
        for proxy in 0..proxies {
            prop_assert_eq!(fleet.proxies[proxy].counter("mooring_faults.kind=revocation_lost"), 0);
            for copy in &copies {
                fleet.cookie = Some(copy.clone());
                let seen = fleet.see(proxy);
                prop_assert_eq!((&seen.asked, seen.decision.as_str()), (&None, "created"));
                prop_assert_ne!(seen.told, fleet.id.to_text());
            }
        }
    }
}
