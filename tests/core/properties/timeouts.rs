//! No session outlives its timeouts, whatever happens in whatever order, and whatever the clock does. And none ends before.
//!
//! The oracle knows of each session when it was created and under which timeout, and of each cookie when it was issued. It knows
//! nothing of tokens: an id is read from one to tell sessions apart.

use mooring::clock::UnixTime;
use mooring::ids::ContextId;
use mooring::ids::StreamId;
use mooring::session::SessionId;
use mooring::shell::contexts::Action;
use mooring::store::protocol::Answer;
use mooring::store::protocol::model::Model;
use mooring_test_kit::proxy::{Proxy, ROOT, line};
use mooring_test_kit::tokens;
use mooring_test_kit::world::{NEW_SECRET, OLD_SECRET, plugin};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const HOSTS: [&str; 3] = ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"];

/// The rules of one configuration. `None`: that timeout is off.
#[derive(Clone, Debug)]
struct Rules {
    absolute: Option<u32>,
    idle: Option<u32>,
    skew: u32,
    /// Names of keys. The first signs.
    keys: Vec<&'static str>,
}

#[derive(Clone, Debug)]
enum Event {
    Visit(Visit),
    /// The configuration is replaced. The old one goes on for connections that have it.
    Configure(Rules),
    Pass(u32),
    /// The wall clock is set.
    Set(i64),
}

/// A request and its response.
#[derive(Clone, Debug)]
struct Visit {
    /// Over a connection that has an older configuration.
    old_connection: Option<Index>,
    /// Not the newest cookie, but any that was ever issued.
    old_cookie: Option<Index>,
    /// The wall clock is set so, and an internal redirect begins the request anew.
    redirected: Option<i64>,
    /// The wall clock is set so before the response.
    meanwhile: i64,
    /// The pinned host does not serve, but this one.
    moved: Option<usize>,
    action: Option<&'static str>,
    /// Calls to the store come to nothing.
    store_fails: bool,
}

fn rules() -> impl Strategy<Value = Rules> {
    let keys = prop::sample::subsequence(vec!["new", "old"], 1..=2).prop_shuffle();
    let absolute = prop_oneof![1 => Just(None), 4 => (1..300_u32).prop_map(Some)];
    let idle = prop_oneof![1 => Just(None), 4 => (1..150_u32).prop_map(Some)];
    (absolute, idle, prop_oneof![Just(0_u32), Just(60)], keys).prop_map(|(absolute, idle, skew, keys)| Rules {
        absolute,
        idle,
        skew,
        keys,
    })
}

fn visit() -> impl Strategy<Value = Visit> {
    let rarely = |index| prop_oneof![3 => Just(None), 1 => index];
    let step = || prop_oneof![3 => Just(0_i64), 1 => -200..200_i64];
    let action = prop_oneof![
        6 => Just(None),
        1 => prop::sample::select(vec!["rotate", "release", "end", "nonsense"]).prop_map(Some),
    ];
    (
        rarely(any::<Index>().prop_map(Some).boxed()),
        rarely(any::<Index>().prop_map(Some).boxed()),
        prop::option::weighted(0.15, step()),
        step(),
        prop::option::weighted(0.25, 0..HOSTS.len()),
        action,
        prop::bool::weighted(0.1),
    )
        .prop_map(|(old_connection, old_cookie, redirected, meanwhile, moved, action, store_fails)| Visit {
            old_connection,
            old_cookie,
            redirected,
            meanwhile,
            moved,
            action,
            store_fails,
        })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => visit().prop_map(Event::Visit),
        1 => rules().prop_map(Event::Configure),
        5 => (0..60_u32).prop_map(Event::Pass),
        1 => (-200..200_i64).prop_map(Event::Set),
    ]
}

/// A session, under every id that it had.
struct Session {
    created: u64,
    /// The timeout that was in force then.
    absolute: Option<u32>,
    ids: BTreeSet<SessionId>,
}

#[derive(Clone)]
struct Cookie {
    value: String,
    session: usize,
    id: SessionId,
    key: &'static str,
    issued: u64,
}

struct World {
    proxy: Proxy,
    store: Option<(Model, &'static str)>,
    /// Each root has its own, the newest at the end.
    rules: Vec<Rules>,
    sessions: Vec<Session>,
    cookies: Vec<Cookie>,
    /// Ids of which the store was told that they are over, or should have been.
    over: BTreeSet<SessionId>,
}

fn root(at: usize) -> ContextId {
    ContextId(ROOT.0 + u32::try_from(at).expect("few"))
}

fn configuration(rules: &Rules, write: Option<&str>) -> Value {
    let seconds = |timeout: Option<u32>| format!("{}s", timeout.unwrap_or(0));
    let secret = |id: &&str| if *id == "new" { NEW_SECRET } else { OLD_SECRET };
    let keys: Vec<Value> = rules.keys.iter().map(|id| json!({"id": id, "secret": {"base64": secret(id)}})).collect();
    let (absolute, idle, skew) = (seconds(rules.absolute), seconds(rules.idle), seconds(Some(rules.skew)));
    plugin(json!({
        "keys": keys,
        "session": {"absolute_timeout": absolute, "idle_timeout": idle, "clock_skew": skew},
        "store": write.map(|write| json!({"cluster": "session_store", "write": write})),
    }))
}

impl World {
    fn new(rules: Rules, write: Option<&'static str>) -> Self {
        let mut world = Self {
            proxy: Proxy::with(&plugin(json!({}))),
            store: write.map(|write| (Model::default(), write)),
            rules: Vec::new(),
            sessions: Vec::new(),
            cookies: Vec::new(),
            over: BTreeSet::new(),
        };
        world.configure(rules);
        world
    }

    fn configure(&mut self, mut rules: Rules) {
        if self.store.is_some() {
            rules.absolute = rules.absolute.or(Some(1000));
        }
        let write = self.store.as_ref().map(|(_, write)| *write);
        assert!(self.proxy.set_up(root(self.rules.len()), &configuration(&rules, write)));
        self.rules.push(rules);
    }

    fn now(&self) -> u64 {
        self.proxy.host.state().now.0
    }

    fn set_clock(&mut self, step: i64) {
        {
            let mut state = self.proxy.host.state();
            state.now = UnixTime(state.now.0.saturating_add_signed(step));
        }
        (0..self.rules.len()).for_each(|at| self.proxy.tick(root(at)));
    }

    fn pass(&mut self, seconds: u32) {
        self.set_clock(seconds.into());
        self.proxy.host.state().monotonic += Duration::from_secs(seconds.into());
    }

    fn talk(&mut self, fails: bool) {
        let Some((store, _)) = &mut self.store else { return };
        if fails {
            let mut sent = self.proxy.sent();
            while let Some(call) = sent.pop() {
                self.proxy.tell(&call, Answer::Nothing);
                sent.extend(self.proxy.sent());
            }
        }
        self.proxy.talk(store);
    }

    /// Whether the cookie's session may still choose a host.
    fn is_alive(&self, cookie: &Cookie, rules: &Rules) -> bool {
        let (session, now) = (&self.sessions[cookie.session], self.now());
        // Whichever was shorter: a configuration shortens the life of a session, and never lengthens it.
        let absolute = [session.absolute, rules.absolute].into_iter().flatten().min();
        let over = absolute.is_some_and(|timeout| now.saturating_sub(session.created) >= timeout.into());
        // A token cannot say that it was renewed before its session was created.
        let renewed = cookie.issued.max(session.created);
        let idle = rules.idle.is_some_and(|timeout| now.saturating_sub(renewed) >= timeout.into());
        let future = session.created > now + u64::from(rules.skew);
        rules.keys.contains(&cookie.key) && !over && !idle && !future
    }

    fn visit(&mut self, visit: &Visit) -> Result<(), TestCaseError> {
        let at = visit.old_connection.map_or(self.rules.len() - 1, |index| index.index(self.rules.len()));
        let rules = self.rules[at].clone();
        let cookie = visit.old_cookie.filter(|_| !self.cookies.is_empty());
        let cookie =
            cookie.map(|index| &self.cookies[index.index(self.cookies.len())]).or(self.cookies.last()).cloned();
        let mut headers = vec![line(":path", "/")];
        headers.extend(cookie.as_ref().map(|cookie| line("cookie", format!("m={}", cookie.value))));

        let mut alive = cookie.as_ref().is_some_and(|cookie| self.is_alive(cookie, &rules));
        let (mut id, mut action) = self.proxy.receive(root(at), headers);
        self.talk(visit.store_fails);
        self.check(id, action, cookie.as_ref(), alive)?;
        if let Some(step) = visit.redirected {
            self.set_clock(step);
            alive = alive && cookie.as_ref().is_some_and(|cookie| self.is_alive(cookie, &rules));
            (id, action) = self.proxy.redirect(id, root(at));
            self.talk(visit.store_fails);
            self.check(id, action, cookie.as_ref(), alive)?;
        }

        self.set_clock(visit.meanwhile);
        let now = self.now();
        let serving = visit.moved.map(|host| HOSTS[host].to_owned()).or(self.proxy.asked(id));
        let said = visit.action.map(|word| line("x-mooring-action", word));
        self.proxy.bridged(id, &serving.unwrap_or_else(|| HOSTS[0].to_owned()), said.as_slice());
        self.talk(visit.store_fails);

        let decision = self.proxy.response_header(id, "x-decision").unwrap_or_default();
        if let Some(cookie) = &cookie
            && matches!(decision.as_str(), "ended" | "rotated")
        {
            self.over.insert(cookie.id);
        }
        if let Some(value) = self.proxy.set_cookie(id).filter(|value| !value.is_empty()) {
            self.issued(value, &decision, cookie.as_ref(), alive, now, &rules)?;
        }
        self.proxy.end(id);
        Ok(())
    }

    /// A request is on its way: to the host of its session if that is alive, and else to any.
    fn check(&self, id: StreamId, action: Action, cookie: Option<&Cookie>, alive: bool) -> Result<(), TestCaseError> {
        prop_assert!(action == Action::Continue || self.proxy.resumed(id).0 == 1, "it waits");
        let asked = self.proxy.request_header(id, "x-mooring-host");
        let told = self.proxy.request_header(id, "x-mooring-session").expect("an id");
        let Some(cookie) = cookie else {
            prop_assert_eq!(asked, None);
            return Ok(());
        };
        if !alive {
            prop_assert_eq!(asked, None, "a session outlived its timeouts");
            let known = self.sessions.iter().flat_map(|session| &session.ids);
            prop_assert!(!known.map(|id| id.to_text()).any(|id| id == told), "its id outlived its timeouts");
        } else if self.store.is_none() || !self.over.contains(&cookie.id) {
            prop_assert_eq!(told, cookie.id.to_text(), "a session ended before its timeouts");
            let pinned = !tokens::session(&cookie.value).pins.is_empty();
            prop_assert!(asked.is_some() || !pinned || self.store.is_some(), "its host was forgotten");
        }
        Ok(())
    }

    /// A cookie was issued in response to this one.
    fn issued(
        &mut self,
        value: String,
        decision: &str,
        cookie: Option<&Cookie>,
        alive: bool,
        now: u64,
        rules: &Rules,
    ) -> Result<(), TestCaseError> {
        let id = tokens::session(&value).id;
        let before = self.sessions.iter().position(|session| session.ids.contains(&id));
        let session = match (decision, cookie) {
            ("created", _) => {
                prop_assert_eq!(before, None, "an id is used twice");
                self.sessions.push(Session { created: now, absolute: rules.absolute, ids: BTreeSet::new() });
                self.sessions.len() - 1
            }
            (_, Some(cookie)) => {
                prop_assert!(alive, "{}: the cookie of a session that is over was replaced by one", decision);
                prop_assert_eq!(before, Some(cookie.session).filter(|_| decision != "rotated"));
                cookie.session
            }
            (_, None) => return Err(TestCaseError::fail(format!("{decision}: a cookie, and no session"))),
        };
        self.sessions[session].ids.insert(id);
        self.cookies.push(Cookie { value, session, id, key: rules.keys[0], issued: now });
        Ok(())
    }
}

fn run(rules: Rules, write: Option<&'static str>, events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut world = World::new(rules, write);
    for event in events {
        match event {
            Event::Visit(visit) => world.visit(&visit)?,
            Event::Configure(rules) => world.configure(rules),
            Event::Pass(seconds) => world.pass(seconds),
            Event::Set(step) => world.set_clock(step),
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_session_lives_as_long_as_its_timeouts_say_and_no_longer(first in rules(), events in vec(event(), 1..60)) {
        run(first, None, events)?;
    }

    #[test]
    fn a_session_in_a_store_lives_no_longer_than_its_timeouts_say(
        first in rules(), write in prop::sample::select(vec!["async", "sync"]), events in vec(event(), 1..60),
    ) {
        run(first, Some(write), events)?;
    }
}
