//! What goes to the store, to upstreams and to clients, after every callback.

use super::options::{COOKIE, TOKEN_HEADER};
use super::{Pending, Run, Stage, carries_in_header};
use crate::cookie;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mooring::clock::UnixTime;
use mooring::config::{Config, OnError, Via};
use mooring::credential::keyring::KeyPosition;
use mooring::credential::token;
use mooring::session::SessionId;
use mooring::shell::proxy::HeaderMap;
use mooring::store::protocol::{Command, StoreKey};
use mooring::store::value::{self, Stored};
use mooring_test_kit::fake::{Call, Line, Sent};
use mooring_test_kit::store;
use std::time::Duration;

/// Tokens know no later time. (The year is 36812.)
const LAST: UnixTime = UnixTime(0xff_0000_0000);

/// What an entry of the store outlives its session by.
const MARGIN: u32 = 120;

/// How many calls a root has under way at most, logouts aside.
const MOST_CALLS: usize = 32;

fn values<'a>(lines: &'a [Line], name: &str) -> Vec<&'a [u8]> {
    lines.iter().filter(|(key, _)| key == name.as_bytes()).map(|(_, value)| value.as_slice()).collect()
}

fn internal(config: &Config) -> [&str; 3] {
    [&config.policy.upstream.header, &config.policy.app.action_header.name, &config.policy.app.session_header.name]
        .map(|name| name.as_str())
}

fn ends(command: &Command) -> bool {
    matches!(command, Command::Revoke { .. })
}

impl Run {
    /// Takes notice of the calls that the filter made.
    pub(super) fn take_calls(&mut self) {
        {
            let state = self.proxy.host.state();
            let made = state.randomness.iter().skip(self.randomness_seen);
            self.made.extend(made.filter_map(|bytes| bytes.as_slice().try_into().ok().map(SessionId)));
            self.randomness_seen = state.randomness.len();
        }
        self.proxy.sent().into_iter().for_each(|sent| self.sent(sent));
    }

    /// Takes notice of what the filter did in a callback.
    pub(super) fn look_around(&mut self) {
        self.take_calls();
        let errors = self.proxy.host.errors();
        let lost = errors.iter().filter(|message| message.contains("revocation_lost")).count();
        assert_eq!(
            errors.len() - lost,
            self.refused,
            "a refused configuration, and a logout that is lost, are all errors that there are"
        );
        for at in 0..self.streams.len() {
            let stream = &self.streams[at];
            let (paused, answered) = {
                let state = self.proxy.host.state();
                let held = &state.streams[&stream.id.into()];
                (held.paused.is_some(), held.answered.clone())
            };
            match (stream.stage, answered) {
                (Stage::Request, Some((status, headers))) => self.is_answered(at, status, &headers),
                (Stage::Request, None) if !paused => self.goes_to_upstream(at),
                (Stage::Response, _) if !paused => self.goes_to_client(at),
                (Stage::Request | Stage::Upstream | Stage::Answered | Stage::Response | Stage::Over, _) => {}
            }
        }
    }

    /// A call went out.
    fn sent(&mut self, sent: Sent) {
        let at = self.roots.iter().position(|root| root.id == sent.context).expect("calls are made for roots");
        let root = &mut self.roots[at];
        let config = root.config.clone().expect("a root that is configured");
        let endpoint = &config.shared.store.as_ref().expect("a store").endpoint;
        assert_eq!((&sent.cluster, sent.timeout), (&endpoint.cluster, endpoint.timeout));
        let (key, command) = store::read(endpoint.protocol, &sent);

        // The store is asked of sessions whose token verified, and of those that the filter made, and of no other.
        for id in root.met.iter().chain(&self.made) {
            if !root.keys.values().any(|known| known == id) {
                root.keys.insert(StoreKey::of(id, &config.shared.scope, &endpoint.namespace).as_str().into(), *id);
            }
        }
        let session = *root.keys.get(key.as_str()).expect("a session of which somebody has a token");
        match &command {
            Command::Lookup => {}
            Command::Create { value, ttl } | Command::Move { value, ttl, .. } => {
                assert!(*ttl >= MARGIN);
                let Some((Stored::Session { pins, .. }, KeyPosition::Current)) =
                    value::open(value.as_bytes(), &key, &config.shared.keyring)
                else {
                    panic!("what is written can be read: {value}")
                };
                self.hosts.entry(session).or_default().extend(pins.iter().map(|pin| pin.host.to_text()));
            }
            Command::Touch { ttl } | Command::Revoke { ttl, .. } => assert!(*ttl >= MARGIN),
        }

        let calls = || self.calls.iter().filter(|call| call.root == at && !call.late);
        let same = |call: &Pending| call.command == Command::Lookup && call.session == session;
        assert!(command != Command::Lookup || !calls().any(same), "one lookup of a session at a time");
        let under_way = calls().filter(|call| !ends(&call.command)).count();
        assert!(ends(&command) || under_way < MOST_CALLS, "{under_way} calls at a time");
        let state = self.proxy.host.state();
        let made = if state.broken.contains_key(&Call::Clock) { Duration::ZERO } else { state.monotonic };
        drop(state);
        self.calls.push(Pending { root: at, sent, key, command, session, at: made, late: false });
    }

    /// A request is answered in the upstream's place.
    fn is_answered(&mut self, at: usize, status: u32, headers: &[Line]) {
        let stream = &mut self.streams[at];
        stream.stage = Stage::Answered;
        let store = self.roots[stream.root].config.as_ref().and_then(|config| config.shared.store.as_ref());
        assert!(store.is_some_and(|store| store.on_error == OnError::Fail));
        assert_eq!((status, values(headers, "cache-control")), (503, vec![&b"no-store"[..]]));
        let seconds =
            std::str::from_utf8(values(headers, "retry-after")[0]).ok().and_then(|text| text.parse::<u64>().ok());
        assert!(seconds.is_some_and(|seconds| (1..=31).contains(&seconds)), "{seconds:?}");
    }

    /// A request leaves the filter.
    fn goes_to_upstream(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        stream.stage = Stage::Upstream;
        let state = self.proxy.host.state();
        let lines = &state.streams[&stream.id.into()].request_headers;
        let Some(config) = &self.roots[stream.root].config else {
            assert_eq!(*lines, stream.came, "without a configuration it passes untouched");
            return;
        };
        if stream.broken.contains(&Call::EditHeader) {
            return;
        }
        let [host_header, action_header, session_header] = internal(config);
        let plain = |lines: &[Line]| -> Vec<Line> {
            let ours = ["cookie", TOKEN_HEADER, host_header, action_header, session_header].map(str::as_bytes);
            lines.iter().filter(|(name, _)| !ours.contains(&name.as_slice())).cloned().collect()
        };
        assert_eq!(plain(lines), plain(&stream.came), "every other header stays");

        let cookies = values(lines, "cookie");
        if config.policy.cookie().is_none_or(|cookie| cookie.forward) {
            assert_eq!(cookies, values(&stream.came, "cookie"));
        } else if !stream.broken.contains(&Call::Headers) && !stream.broken.contains(&Call::Clock) {
            assert!(cookies.iter().all(|line| cookie::values(line, COOKIE).is_empty()), "ours is gone");
        }

        if carries_in_header(config) && !stream.broken.contains(&Call::Headers) {
            assert_eq!(values(lines, TOKEN_HEADER), [b""; 0], "no upstream gets a token");
        }

        assert_eq!(values(lines, action_header), [b""; 0], "only an upstream says that");
        let hosts = values(lines, host_header);
        assert!(hosts.len() <= 1);
        for value in hosts {
            let host = match config.policy.upstream.via {
                Via::StatefulSession => STANDARD.decode(value).expect("base64"),
                Via::OverrideHost => value.to_vec(),
            };
            let host = String::from_utf8(host).expect("text");
            let mut pins = stream.sessions.iter().filter_map(|id| self.hosts.get(id));
            assert!(pins.any(|hosts| hosts.contains(&host)), "no session of this request has {host}");
        }

        let ids = values(lines, session_header);
        assert!(ids.len() <= usize::from(config.policy.app.session_header.enabled));
        for id in &ids {
            let known = |session: &SessionId| session.to_text().as_bytes() == *id;
            assert!(!stream.ended.iter().any(known), "a session is accepted that had ended");
            assert!(stream.sessions.iter().chain(&self.made).any(known), "nobody made this session");
        }
        stream.told = ids.first().map(|id| id.to_vec());
    }

    /// A response leaves the filter.
    fn goes_to_client(&mut self, at: usize) {
        self.streams[at].stage = Stage::Over;
        let stream = &self.streams[at];
        let untold = self.calls.iter().any(|call| !call.late && stream.awaits.contains(&call.sent.id));
        assert!(!untold || self.roots[stream.root].over, "a response goes on before the store has answered");
        let lines = self.proxy.host.state().streams[&stream.id.into()].response_headers.clone();
        let Some(responded) = stream.responded.filter(|_| !self.roots[stream.root].over) else { return };
        let Some(config) = self.roots[stream.root].config.clone() else {
            assert_eq!(values(&lines, "x-decision"), [b""; 0], "without a configuration it passes untouched");
            return;
        };
        if stream.broken.contains(&Call::EditHeader) {
            return;
        }
        let [host_header, action_header, session_header] = internal(&config);
        if config.policy.app.session_header.enabled {
            assert_eq!(values(&lines, session_header), [b""; 0], "an echo of the session's id");
        }
        if !stream.broken.contains(&Call::Header) {
            let action_header = Some(action_header).filter(|_| config.policy.app.action_header.enabled);
            for name in action_header.into_iter().chain([host_header]) {
                assert_eq!(values(&lines, name), [b""; 0], "{name} is between filter, bridge and application");
            }
        }

        let prefix = format!("{COOKIE}=");
        let set_cookies = values(&lines, "set-cookie");
        let ours: Vec<&[u8]> = set_cookies.iter().filter_map(|line| line.strip_prefix(prefix.as_bytes())).collect();
        let in_header = values(&lines, TOKEN_HEADER);
        if !responded.ends {
            assert!(ours.len() + in_header.len() <= 1, "one token a response, by one way");
        }
        let Some(cookie) = ours.first().or(in_header.first()) else { return };
        assert!(responded.may_set_cookie, "neither a local reply nor a 304 sets a cookie");
        let caching = values(&lines, "cache-control").join(&b","[..]);
        let caching = String::from_utf8_lossy(&caching).into_owned();
        assert!(caching.contains("private") || caching.contains("no-store"), "{caching}");
        let value = cookie.split(|byte| *byte == b';').next().unwrap_or_default().to_vec();
        if value.is_empty() {
            assert!(responded.ends, "only a logout takes the cookie away");
            return;
        }

        let (session, age) = token::open(&value, &config.shared.keyring).expect("what is issued verifies");
        assert_eq!(age, KeyPosition::Current);
        assert_eq!(value.starts_with(b"m1e."), config.policy.encrypt);
        if !stream.clock_moved && responded.now < LAST {
            assert_eq!(config.policy.session.check(&session, responded.now), Ok(()), "what is issued is valid");
        }
        assert!(!stream.ended.contains(&session.id), "a session goes on that had ended");
        assert!(stream.sessions.contains(&session.id) || self.made.contains(&session.id));
        if responded.rotates {
            assert!(!stream.sessions.contains(&session.id), "a login gets a new id");
        } else if let Some(told) = stream.told.as_ref().filter(|_| stream.sessions.is_empty()) {
            assert_eq!(session.id.to_text().as_bytes(), told, "the id that the upstream was told");
        }
        let lost = [Call::Property, Call::SetProperty].iter().any(|call| stream.broken.contains(call));
        let may_be_lost = stream.redirected && (lost || stream.clock_moved);
        if config.shared.store.is_none() && !responded.rotates && !stream.sessions.is_empty() && !may_be_lost {
            assert!(stream.sessions.contains(&session.id), "a good cookie is not replaced");
        }
        self.pinned(&session);
        self.keep(&String::from_utf8_lossy(&value));
    }

    /// Trailers leave the filter.
    pub(super) fn check_trailers(&self, at: usize, map: HeaderMap, names: &[&str], left: &[Line]) {
        let (stream, sent_on) = (&self.streams[at], map == HeaderMap::ResponseTrailers);
        let root = &self.roots[stream.root];
        let mut taken = Vec::new();
        if let Some(config) = root.config.as_ref().filter(|_| !root.over) {
            if self.proxy.host.state().broken.contains_key(&Call::EditHeader) {
                return;
            }
            let [host_header, action_header, session_header] = internal(config);
            taken.push(host_header);
            taken.extend(Some(TOKEN_HEADER).filter(|_| carries_in_header(config)));
            taken.extend(Some(action_header).filter(|_| !sent_on || config.policy.app.action_header.enabled));
            taken.extend(Some(session_header).filter(|_| !sent_on || config.policy.app.session_header.enabled));
        }
        let expected = names.iter().filter(|name| !taken.contains(name)).map(|name| name.as_bytes());
        assert!(left.iter().map(|(name, _)| name.as_slice()).eq(expected), "{left:?}");
    }
}
