//! The REST contract of `docs/store.md`: conditional requests (RFC 9110, section 13), one resource a session.

use super::{Command, Dialect, Failure, Reply, Request, StoreKey, Version, head};
use crate::config::Endpoint;
use crate::text;
use store_contract::{SESSIONS, TOUCH, TTL_HEADER};

pub(super) struct Rest;

impl Dialect for Rest {
    fn request(&self, endpoint: &Endpoint, key: &StoreKey, command: &Command) -> Request {
        let path = text::concat(&[SESSIONS, key.as_str()]);
        let (method, path) = match command {
            Command::Lookup => ("GET", path),
            Command::Create { .. } | Command::Move { .. } => ("PUT", path),
            Command::Touch { .. } => ("POST", path + TOUCH),
            Command::Revoke { .. } => ("DELETE", path),
        };
        let mut headers = head(method, path, &endpoint.authority);
        headers.extend(endpoint.token.as_ref().map(|token| ("authorization", token.bearer())));
        let (condition, value, ttl) = match command {
            Command::Lookup => return Request { headers, body: String::new() },
            Command::Create { value, ttl } => (Some(("if-none-match", "*".into())), Some(value), ttl),
            Command::Move { expected, value, ttl } => {
                (Some(("if-match", expected.text("\"-\"").into())), Some(value), ttl)
            }
            Command::Touch { ttl } | Command::Revoke { ttl, .. } => (None, None, ttl),
        };
        headers.extend(condition);
        headers.push((TTL_HEADER, text::decimal(*ttl)));
        headers.extend(value.map(|_| ("content-type", "text/plain".into())));
        Request { headers, body: value.cloned().unwrap_or_default() }
    }

    fn tells_etags(&self) -> bool {
        true
    }

    fn tells_tombstones(&self) -> bool {
        true
    }

    fn reply(&self, command: &Command, status: u16, etag: Option<&[u8]>, body: Vec<u8>) -> Result<Reply, Failure> {
        let version = etag.and_then(Version::new);
        let value = |body, version: Option<Version>| Ok(Reply::Value(body, version.ok_or(Failure::Senseless)?));
        match (command, status) {
            (Command::Lookup, 200) => value(body, version),
            (Command::Create { .. } | Command::Move { .. }, 200 | 201 | 204) => {
                version.map(|version| Reply::Done(Some(version))).ok_or(Failure::Senseless)
            }
            (Command::Touch { .. } | Command::Revoke { .. }, 200 | 204) => Ok(Reply::Done(None)),
            (Command::Lookup | Command::Touch { .. }, 404) => Ok(Reply::Missing),
            (Command::Move { .. }, 412) if body.is_empty() => Ok(Reply::Missing),
            (Command::Create { .. } | Command::Move { .. }, 412) => value(body, version),
            (_, 410) => Ok(Reply::Revoked),
            (_, 300..) => Err(Failure::Refused),
            _ => Err(Failure::Senseless),
        }
    }
}
