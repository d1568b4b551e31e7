//! What holds after every callback: who is paused, who was woken, and what was asked of the store.

use super::gateway::{self, Asked, Wish};
use super::{Pending, Run, Settled, Stage, Stream};
use mooring::config::Protocol;
use mooring::config::WriteMode;
use mooring::credential::keyring::KeyPosition;
use mooring::ids::ContextId;
use mooring::ids::StreamId;
use mooring::session::SessionId;
use mooring::shell::contexts::{Action, Contexts};
use mooring::shell::proxy::Side;
use mooring::store::protocol::StoreKey;
use mooring::store::value::{self, Stored};
use mooring_test_kit::fake::{Call, FakeProxy, Sent};
use std::collections::BTreeSet;
use std::time::Duration;

/// How much later than its time limit a call counts as lost.
const GRACE: Duration = Duration::from_secs(1);

/// What an entry of the store outlives its session by.
const MARGIN: u32 = 120;

/// The most calls that one callback makes: 64 revocations that are tried again, and what three events of one stream can want.
const MOST_CALLS: usize = 64 + 3 * super::MOST_STREAMS;

impl Pending {
    /// What a call hands on that takes its place. A revocation is tried once more, and then nobody waits for it.
    pub(super) fn settled(&self) -> Option<Settled> {
        let revokes = matches!(self.wish, Wish::Revoke(_));
        let last = self.waiters.is_empty() || revokes && self.again;
        (!last).then(|| Settled { session: self.session, revokes, waiters: self.waiters.clone() })
    }
}

impl Run {
    /// A callback of the proxy's.
    pub(super) fn callback<T>(&mut self, context: ContextId, call: impl FnOnce(&mut Contexts<FakeProxy>) -> T) -> T {
        let broken: BTreeSet<Call> = self.host.state().broken.keys().copied().collect();
        for stream in &mut self.streams {
            if stream.paused.is_some() || ContextId::from(stream.id) == context {
                stream.broken.extend(&broken);
                stream.excused |=
                    stream.paused.is_some() && (broken.contains(&Call::Resume) || broken.contains(&Call::ActAs));
            }
        }
        self.host.enter(context);
        let result = call(&mut self.contexts);
        let mut state = self.host.state();
        if !broken.contains(&Call::ActAs) && !state.gone.contains(&context) {
            assert_eq!(state.effective, context, "a callback ends as it began");
        }
        assert_eq!(state.crashes, [""; 0]);
        let made = state.randomness.iter().skip(self.randomness_seen);
        self.made.extend(made.filter_map(|bytes| bytes.as_slice().try_into().ok().map(SessionId)));
        self.randomness_seen = state.randomness.len();
        let sent = std::mem::take(&mut state.sent);
        drop(state);
        assert!(sent.len() <= MOST_CALLS, "{} calls in a callback", sent.len());
        sent.into_iter().for_each(|sent| self.sent(context, sent, broken.contains(&Call::Clock)));
        self.settled.clear();
        result
    }

    /// A call went out, in a callback of this context.
    fn sent(&mut self, callback: ContextId, sent: Sent, without_clock: bool) {
        let at = self.roots.iter().position(|root| root.id == sent.context).expect("calls are made for roots");
        assert!(!self.is_deleted(at), "a root that is gone asks nothing");
        let root = &mut self.roots[at];
        let config = root.config.clone().expect("a root that is configured");
        let store = config.store.as_ref().expect("a store");
        let gateway = &store.endpoint;
        assert_eq!((sent.cluster.as_str(), sent.timeout), (gateway.cluster.as_str(), gateway.timeout));
        let asked = gateway::read(gateway.protocol, &sent);

        // The store is asked of sessions whose token verified, and of those that the filter made, and of no other.
        for id in root.met.iter().chain(&self.made) {
            if !root.keys.values().any(|known| known == id) {
                root.keys.insert(StoreKey::of(id, &config.scope, &gateway.namespace).as_str().into(), *id);
            }
        }
        let session = root.keys.get(&asked.key).copied();
        let session = session.unwrap_or_else(|| panic!("nobody has a token of {}", asked.key));

        match &asked.wish {
            Wish::Lookup => {
                let twice = |call: &Pending| {
                    call.root == at && call.key == asked.key && matches!(call.wish, Wish::Lookup) && !call.given_up
                };
                assert!(!self.calls.iter().any(twice), "one lookup of a session at a time");
            }
            Wish::Create(text, ttl) | Wish::Move(_, text, ttl) => {
                assert!(*ttl >= MARGIN);
                let key = StoreKey::of(&session, &config.scope, &gateway.namespace);
                let opened = value::open(text.as_bytes(), &key, &config.keyring);
                let Some((Stored::Session { pins, .. }, KeyPosition::Current)) = opened else {
                    panic!("what is written can be read: {opened:?}")
                };
                let hosts = self.hosts.entry(session).or_default();
                hosts.extend(pins.iter().map(|pin| pin.host.to_text()));
            }
            Wish::Touch(ttl) | Wish::Revoke(ttl) => assert!(*ttl >= MARGIN),
        }
        if gateway.protocol != Protocol::Rest {
            assert!(sent.headers.iter().any(|(name, value)| name == b":method" && value == b"POST"));
        }
        let now = if without_clock { Duration::ZERO } else { self.host.state().monotonic };
        let (Asked { key, wish }, given_up) = (asked, root.over);
        let awaited =
            matches!(wish, Wish::Revoke(_)) || store.write == WriteMode::Sync && !matches!(wish, Wish::Lookup);
        let (waiters, again) = if awaited { self.waiters(callback, session, &wish) } else { (Vec::new(), false) };
        self.calls.push(Pending { root: at, id: sent.id, key, session, wish, waiters, again, at: now, given_up });
    }

    /// Whose responses wait for a call: in a response's own callback that stream's, else those of the call that it takes the place of.
    fn waiters(&mut self, callback: ContextId, session: SessionId, wish: &Wish) -> (Vec<StreamId>, bool) {
        let responds = |stream: &&Stream| ContextId::from(stream.id) == callback && stream.stage == Stage::Response;
        if let Some(stream) = self.streams.iter().find(responds) {
            return (vec![stream.id], false);
        }
        let revokes = matches!(wish, Wish::Revoke(_));
        let same = |settled: &Settled| settled.session == session && settled.revokes == revokes;
        let waiters = self.settled.iter().position(same).map(|at| self.settled.remove(at).waiters);
        (waiters.unwrap_or_default(), revokes)
    }

    /// The timer of a root: what is overdue is given up.
    pub(super) fn forget_overdue(&mut self, root: usize) {
        let state = self.host.state();
        let Some(store) = self.roots[root].config.as_ref().and_then(|config| config.store.as_ref()) else { return };
        if state.broken.contains_key(&Call::Clock) {
            return;
        }
        for call in self.calls.iter_mut().filter(|call| call.root == root && !call.given_up) {
            call.given_up = state.monotonic.saturating_sub(call.at) > store.endpoint.timeout + GRACE;
            if call.given_up {
                self.settled.extend(call.settled());
            }
        }
        // The filter has its own order.
        let all: Vec<_> = self.settled.iter().map(|settled| (settled.session, settled.waiters.clone())).collect();
        for settled in &mut self.settled {
            let of_session = all.iter().filter(|(session, _)| *session == settled.session);
            settled.waiters = of_session.flat_map(|(_, waiters)| waiters.clone()).collect();
        }
    }

    /// What a stream's own callback came to.
    pub(super) fn came_to(&mut self, at: usize, side: Side, action: Action) {
        let answered = self.answer_of(at).is_some();
        let stream = &mut self.streams[at];
        match (side, action) {
            (Side::Request, Action::Pause) if answered => {}
            (_, Action::Pause) => stream.paused = Some(side),
            (Side::Request, Action::Continue) => {
                assert!(!answered, "who is answered does not go on");
                self.goes_to_upstream(at);
            }
            (Side::Response, Action::Continue) => self.goes_to_client(at),
        }
        if let Some(side) = self.streams[at].paused {
            let (requests, responses) = self.resumed(at);
            let (before, after) = match side {
                Side::Request => (self.streams[at].resumed.0, requests),
                Side::Response => (self.streams[at].resumed.1, responses),
            };
            assert_eq!(before, after, "it was resumed before it was paused");
        }
        self.watch();
    }

    fn resumed(&self, at: usize) -> (u32, u32) {
        let state = self.host.state();
        let stream = state.streams.get(&self.streams[at].id.into());
        stream.map_or((0, 0), |stream| (stream.requests_resumed, stream.responses_resumed))
    }

    fn answer_of(&self, at: usize) -> Option<u32> {
        let state = self.host.state();
        let stream = state.streams.get(&self.streams[at].id.into())?;
        let (status, headers) = stream.answered.as_ref()?;
        let header = |name: &[u8]| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
        assert_eq!((*status, header(b"cache-control")), (503, Some(&b"no-store"[..])));
        let seconds = header(b"retry-after").and_then(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok());
        assert!(seconds.is_some_and(|seconds| (1..=31).contains(&seconds)), "{seconds:?}");
        Some(*status)
    }

    /// Who was woken, and whether whoever is paused will be.
    pub(super) fn watch(&mut self) {
        let known: BTreeSet<ContextId> = self.streams.iter().map(|stream| stream.id.into()).collect();
        let acted = self.host.state().streams.keys().find(|id| !known.contains(id)).copied();
        assert_eq!(acted, None, "nobody acts for a stream that is gone, or for none");
        assert_eq!(self.host.state().log.len(), self.refused, "a refused configuration is all that is logged");

        for at in 0..self.streams.len() {
            let resumed = self.resumed(at);
            let stream = &mut self.streams[at];
            let (requests, responses) = (resumed.0 - stream.resumed.0, resumed.1 - stream.resumed.1);
            stream.resumed = resumed;
            assert!(requests <= u32::from(stream.paused == Some(Side::Request)), "a request is resumed once a pause");
            assert!(
                responses <= u32::from(stream.paused == Some(Side::Response)),
                "a response is resumed once a pause"
            );
            let (stage, root) = (stream.stage, stream.root);
            if stage == Stage::Request && self.answer_of(at).is_some() {
                assert_eq!(requests, 0, "answered or resumed, not both");
                let rules = self.roots[root].config.as_ref().and_then(|config| config.store.as_ref());
                assert!(rules.is_some_and(|rules| rules.on_error == mooring::config::OnError::Fail));
                (self.streams[at].stage, self.streams[at].paused) = (Stage::Answered, None);
            }
            if requests == 1 {
                self.streams[at].paused = None;
                self.goes_to_upstream(at);
            }
            if responses == 1 {
                self.streams[at].paused = None;
                self.waited_long_enough(at);
                self.goes_to_client(at);
            }
            self.will_be_woken(at);
            self.is_left_alone(at);
        }
    }

    /// A response goes on when all that it waits for has come to something.
    fn waited_long_enough(&self, at: usize) {
        let stream = &self.streams[at];
        let early = self.calls.iter().any(|call| !call.given_up && call.waiters == [stream.id]);
        assert!(!early, "{:?} goes on, and what it waits for is under way", stream.id);
    }

    fn will_be_woken(&self, at: usize) {
        let stream = &self.streams[at];
        let Some(side) = stream.paused.filter(|_| !stream.excused) else { return };
        let awaited = |call: &&Pending| {
            call.root == stream.root
                && !call.given_up
                && match side {
                    Side::Request => matches!(call.wish, Wish::Lookup) && stream.sessions.contains(&call.session),
                    Side::Response => call.waiters.contains(&stream.id),
                }
        };
        assert!(self.calls.iter().any(|call| awaited(&call)), "{:?} is paused, and nothing is under way", stream.id);
    }

    fn is_left_alone(&self, at: usize) {
        let stream = &self.streams[at];
        let Some((request, response)) = &stream.last else { return };
        let state = self.host.state();
        let now = state.streams.get(&stream.id.into());
        let same = now.is_none_or(|now| now.request_headers == *request && now.response_headers == *response);
        assert!(same, "a stream that is done is left alone");
    }
}
