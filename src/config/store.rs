//! The rules of `store`.

use super::Environment;
use super::fields::{Field, Object};
use crate::text as bytes;
use std::fmt;
use std::time::Duration;
use store_contract::{DEFAULT_NAMESPACE, MAX_NAMESPACE, is_of_namespace};

/// Where the store is, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The protocol.
    pub protocol: Protocol,
    /// Envoy's name of the cluster.
    pub cluster: String,
    /// The `:authority` of requests.
    pub authority: String,
    /// What authenticates the plugin.
    pub token: Option<AccessToken>,
    /// The beginning of every key.
    pub namespace: String,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// How a store is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Mooring's own: `mooring-store`, or any server of the contract.
    Rest,
    /// Webdis, 0.1.20 or later, in front of one Redis or Valkey.
    Webdis,
    /// Upstash's REST interface.
    Upstash,
}

/// What authenticates the plugin to the store. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    /// Takes 1 to 1024 visible ASCII characters.
    pub fn new(text: &[u8]) -> Option<Self> {
        let fits = (1..=1024).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        std::str::from_utf8(text).ok().filter(|_| fits).map(|text| Self(text.into()))
    }

    /// Whether webdis can check it: it knows HTTP Basic (RFC 7617), and breaks what it compares with after 72 characters of base64.
    pub fn is_basic(&self) -> bool {
        self.0.contains(':') && self.0.len() <= 53
    }

    /// The value of an `authorization` header (RFC 7617).
    pub(crate) fn basic(&self) -> String {
        bytes::concat(&["Basic ", &bytes::base64::standard(self.0.as_bytes())])
    }

    /// The value of an `authorization` header (RFC 6750).
    pub(crate) fn bearer(&self) -> String {
        bytes::concat(&["Bearer ", &self.0])
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

/// The session store, and what depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Where the store is and how it is spoken to.
    pub endpoint: Endpoint,
    /// When a session is first written.
    pub create: Create,
    /// What becomes of a session that the store does not know.
    pub on_missing: OnMissing,
    /// What becomes of a request when the store fails.
    pub on_error: OnError,
    /// Whether responses wait for their writes.
    pub write: Write,
}

/// When a session is first written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// When the client first sends the cookie back: clients that keep no cookies never cost a write.
    OnReturn,
    /// With the first cookie.
    AtOnce,
}

/// What becomes of a session that the store does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// It goes on as the cookie has it, and is written.
    TrustCookie,
    /// It counts as revoked.
    NewSession,
}

/// What becomes of a request when the store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Its session goes on as the cookie has it.
    TrustCookie,
    /// It is balanced anew. The cookie stays as it is.
    Rebalance,
    /// It is answered with a 503.
    Fail,
}

/// Whether responses wait for their writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// They do not.
    Async,
    /// They do.
    Sync,
}

const MEMBERS: [&str; 10] =
    ["protocol", "cluster", "authority", "token", "namespace", "timeout", "create", "on_missing", "on_error", "write"];

pub(super) fn read(field: &Field<'_>, environment: Environment<'_>) -> Option<Store> {
    let store = field.object(&MEMBERS)?;
    let protocol = store.read("protocol", Protocol::Rest, |field| {
        field.word(&[("rest", Protocol::Rest), ("webdis", Protocol::Webdis), ("upstash", Protocol::Upstash)])
    });
    let cluster = read_cluster(&store);
    let authority = store.read("authority", "session-store".into(), |field| text(&field, "host name", 253, |_| true));
    let token = store.read_nullable("token", None, |field| read_token(&field, environment));
    let namespace = store.read("namespace", DEFAULT_NAMESPACE.into(), |field| {
        text(&field, "namespace (A-Z a-z 0-9 _ . -)", MAX_NAMESPACE, is_of_namespace)
    });
    let timeout = store.read("timeout", Duration::from_millis(100), |field| {
        field.duration(Duration::from_millis(1), Duration::from_secs(10))
    });
    let create = store.read("create", Create::OnReturn, |field| {
        field.word(&[("on_return", Create::OnReturn), ("at_once", Create::AtOnce)])
    });
    let on_missing = store.read("on_missing", OnMissing::TrustCookie, |field| {
        field.word(&[("trust_cookie", OnMissing::TrustCookie), ("new_session", OnMissing::NewSession)])
    });
    let on_error = store.read("on_error", OnError::TrustCookie, |field| {
        field.word(&[
            ("trust_cookie", OnError::TrustCookie),
            ("rebalance", OnError::Rebalance),
            ("fail", OnError::Fail),
        ])
    });
    let write =
        store.read("write", Write::Async, |field| field.word(&[("async", Write::Async), ("sync", Write::Sync)]));
    if let (Some(Protocol::Webdis), Some(Some(token)), Some(field)) = (protocol, &token, store.get("token"))
        && !token.is_basic()
    {
        field.error::<()>(
            "is none that webdis can check; accepted is user:password of at most 53 characters, or another protocol",
        );
    }
    if let (Some(OnMissing::NewSession), Some(create), Some(write), Some(field)) =
        (on_missing, create, write, store.get("on_missing"))
        && (create, write) != (Create::AtOnce, Write::Sync)
    {
        field.error::<()>(
            "new_session refuses a session that is not written yet; accepted is trust_cookie, \
             or new_session with \"create\": \"at_once\" and \"write\": \"sync\"",
        );
    }
    let endpoint = Endpoint {
        protocol: protocol?,
        cluster: cluster?,
        authority: authority?,
        token: token?,
        namespace: namespace?,
        timeout: timeout?,
    };
    Some(Store { endpoint, create: create?, on_missing: on_missing?, on_error: on_error?, write: write? })
}

fn read_cluster(store: &Object<'_>) -> Option<String> {
    let field = store.required("cluster", "the name of an Envoy cluster, 1 to 255 visible ASCII characters")?;
    text(&field, "the name of an Envoy cluster", 255, |_| true)
}

/// Visible ASCII, so that it can stand in a header.
fn text(field: &Field<'_>, what: &str, longest: usize, fits: impl Fn(u8) -> bool) -> Option<String> {
    let accepted = format!("{what}: 1 to {longest} visible ASCII characters");
    let text = field.string(&accepted)?;
    let kept = (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && fits(b));
    if kept { Some(text.into()) } else { field.error(format!("breaks a rule; accepted is {accepted}")) }
}

/// White space around it is not part of it: mounted files end with a line break.
fn read_token(field: &Field<'_>, environment: Environment<'_>) -> Option<AccessToken> {
    let (field, value) = field.source("text", "the token", environment)?;
    AccessToken::new(value.trim_ascii())
        .or_else(|| field.error("is not a token; accepted are 1 to 1024 visible ASCII characters"))
}
