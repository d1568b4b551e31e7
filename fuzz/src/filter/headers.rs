//! What the upstream and the client get.

use super::options::COOKIE;
use super::{Run, Stage};
use crate::cookie;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mooring::carrier::cookie::Removed;
use mooring::clock::UnixTime;
use mooring::config::{Config, Via};
use mooring::credential::keyring::KeyPosition;
use mooring::credential::token;
use mooring::session::SessionId;
use mooring::shell::proxy::HeaderMap;
use mooring_test_kit::fake::{Call, Line};

/// Tokens know no later time. (The year is 36812.)
const LAST: UnixTime = UnixTime(0xff_0000_0000);

fn values<'a>(lines: &'a [Line], name: &str) -> Vec<&'a [u8]> {
    lines.iter().filter(|(key, _)| key == name.as_bytes()).map(|(_, value)| value.as_slice()).collect()
}

fn internal(config: &Config) -> [&str; 3] {
    [&config.upstream.header, &config.app.action_header.name, &config.app.session_header.name].map(|name| name.as_str())
}

/// The cookie lines that are left.
fn without_ours(lines: &[&[u8]]) -> Vec<Vec<u8>> {
    let left = lines.iter().filter_map(|line| match cookie::without(line, COOKIE) {
        Removed::Untouched => Some(line.to_vec()),
        Removed::Rest(rest) => Some(rest),
        Removed::Nothing => None,
    });
    left.collect()
}

impl Run {
    /// A request leaves the filter.
    pub(super) fn goes_to_upstream(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        stream.stage = Stage::Upstream;
        let state = self.host.state();
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
            let ours = ["cookie", host_header, action_header, session_header].map(str::as_bytes);
            lines.iter().filter(|(name, _)| !ours.contains(&name.as_slice())).cloned().collect()
        };
        assert_eq!(plain(lines), plain(&stream.came), "every other header stays");

        let came = values(&stream.came, "cookie");
        let went = values(lines, "cookie");
        if config.cookie.forward {
            assert_eq!(went, came);
        } else if !stream.broken.contains(&Call::Headers) && !stream.broken.contains(&Call::Clock) {
            assert_eq!(went, without_ours(&came), "ours is gone, and every other byte stays");
        }

        assert_eq!(values(lines, action_header), [b""; 0], "only an upstream says that");
        let hosts = values(lines, host_header);
        assert!(hosts.len() <= 1);
        for value in hosts {
            let host = match config.upstream.via {
                Via::StatefulSession => STANDARD.decode(value).expect("base64"),
                Via::OverrideHost => value.to_vec(),
            };
            let host = String::from_utf8(host).expect("text");
            let pins = stream.sessions.iter().filter_map(|id| self.hosts.get(id));
            assert!(pins.into_iter().any(|hosts| hosts.contains(&host)), "no session of this request has {host}");
        }

        let ids = values(lines, session_header);
        assert!(ids.len() <= usize::from(config.app.session_header.enabled));
        for id in &ids {
            let known = |session: &SessionId| session.to_text().as_bytes() == *id;
            assert!(stream.sessions.iter().chain(&self.made).any(known), "nobody made this session");
        }
        stream.told = ids.first().map(|id| id.to_vec());
    }

    /// A response leaves the filter.
    pub(super) fn goes_to_client(&mut self, at: usize) {
        let stream = &self.streams[at];
        let lines = self.host.state().streams[&stream.id.into()].response_headers.clone();
        let Some(responded) = stream.responded else { return };
        if self.is_deleted(stream.root) {
            return;
        }
        let Some(config) = self.roots[stream.root].config.clone() else {
            assert_eq!(values(&lines, "x-decision"), [b""; 0], "without a configuration it passes untouched");
            return;
        };
        if stream.broken.contains(&Call::EditHeader) {
            return;
        }
        let [host_header, action_header, session_header] = internal(&config);
        if config.app.session_header.enabled {
            assert_eq!(values(&lines, session_header), [b""; 0], "an echo of the session's id");
        }
        if !stream.broken.contains(&Call::Header) {
            let action_header = Some(action_header).filter(|_| config.app.action_header.enabled);
            for name in action_header.into_iter().chain([host_header]) {
                assert_eq!(values(&lines, name), [b""; 0], "{name} is between filter, bridge and application");
            }
        }

        let prefix = format!("{COOKIE}=");
        let set_cookies = values(&lines, "set-cookie");
        let ours: Vec<&[u8]> = set_cookies.iter().filter_map(|line| line.strip_prefix(prefix.as_bytes())).collect();
        assert!(ours.len() <= 1, "one cookie a response");
        let Some(cookie) = ours.first() else { return };
        assert!(responded.may_set_cookie, "neither a local reply nor a 304 sets a cookie");
        let caching = values(&lines, "cache-control").join(&b","[..]);
        let caching = String::from_utf8_lossy(&caching).into_owned();
        assert!(caching.contains("private") || caching.contains("no-store"), "{caching}");
        let value = cookie.split(|byte| *byte == b';').next().unwrap_or_default().to_vec();
        if value.is_empty() {
            assert!(responded.ends, "only a logout takes the cookie away");
            return;
        }

        let (session, age) = token::open(&value, &config.keyring).expect("what is issued verifies");
        assert_eq!(age, KeyPosition::Current);
        assert_eq!(value.starts_with(b"m1e."), config.cookie.encrypt);
        if !stream.clock_moved && responded.now < LAST {
            assert_eq!(config.session.check(&session, responded.now), Ok(()), "what is issued is valid");
        }
        if responded.rotates {
            assert!(!stream.sessions.contains(&session.id), "a login gets a new id");
        } else if let Some(told) = stream.told.as_ref().filter(|_| stream.sessions.is_empty()) {
            assert_eq!(session.id.to_text().as_bytes(), told, "the id that the upstream was told");
        }
        let lost = [Call::Property, Call::SetProperty].iter().any(|call| stream.broken.contains(call));
        let may_be_lost = stream.redirected && (lost || stream.clock_moved);
        if config.store.is_none() && !responded.rotates && !stream.sessions.is_empty() && !may_be_lost {
            assert!(stream.sessions.contains(&session.id), "a good cookie is not replaced");
        }
        assert!(stream.sessions.contains(&session.id) || self.made.contains(&session.id));
        self.pinned(session.id, &session);
        self.keep(&String::from_utf8_lossy(&value));
    }

    /// Trailers leave the filter.
    pub(super) fn check_trailers(&mut self, at: usize, map: HeaderMap, names: &[&str]) {
        let stream = &self.streams[at];
        let deleted = self.is_deleted(stream.root);
        let state = self.host.state();
        let lines = &state.streams[&stream.id.into()];
        let lines = if map == HeaderMap::RequestTrailers { &lines.request_trailers } else { &lines.response_trailers };
        let Some(config) = self.roots[stream.root].config.as_ref().filter(|_| !deleted) else {
            assert_eq!(lines.len(), names.len());
            return;
        };
        if !state.broken.contains_key(&Call::EditHeader) {
            let sent_on = map == HeaderMap::ResponseTrailers;
            let [host_header, action_header, session_header] = internal(config);
            let mut taken = vec![host_header];
            taken.extend(Some(action_header).filter(|_| !sent_on || config.app.action_header.enabled));
            taken.extend(Some(session_header).filter(|_| !sent_on || config.app.session_header.enabled));
            let left: Vec<&&str> = names.iter().filter(|name| !taken.contains(name)).collect();
            assert!(lines.iter().map(|(name, _)| name.as_slice()).eq(left.iter().map(|name| name.as_bytes())));
        }
    }

    pub(super) fn is_deleted(&self, root: usize) -> bool {
        self.roots[root].over && self.host.state().gone.contains(&self.roots[root].id)
    }
}
