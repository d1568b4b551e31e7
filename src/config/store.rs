//! The rules of `store`.

use super::Environment;
use super::reader::{Field, Object};
use crate::text as bytes;
use crate::text::words::closed_set;
use std::fmt;
use std::time::Duration;
use store_contract::{DEFAULT_NAMESPACE, MAX_NAMESPACE, MAX_TOKEN, is_of_namespace};

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

closed_set! {
    /// How a store is spoken to.
    pub enum Protocol {
        /// Mooring's own: `mooring-store`, or any server of the contract.
        Rest = "rest",
        /// Webdis, 0.1.20 or later, in front of one Redis or Valkey.
        Webdis = "webdis",
        /// Upstash's REST interface.
        Upstash = "upstash",
    }
}

/// What authenticates the plugin to the store. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    /// Takes 1 to [`MAX_TOKEN`] visible ASCII characters.
    pub fn new(text: &[u8]) -> Option<Self> {
        let fits = (1..=MAX_TOKEN).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
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
pub struct StoreConfig {
    /// Where the store is and how it is spoken to.
    pub endpoint: Endpoint,
    /// When a session is first written.
    pub create: CreateWhen,
    /// What becomes of a session that the store does not know.
    pub on_missing: OnMissing,
    /// What becomes of a request when the store fails.
    pub on_error: OnError,
    /// Whether responses wait for their writes.
    pub write: WriteMode,
}

closed_set! {
    /// When a session is first written.
    pub enum CreateWhen {
        /// When the client first sends the cookie back: clients that keep no cookies never cost a write.
        OnReturn = "on_return",
        /// With the first cookie.
        AtOnce = "at_once",
    }
}

closed_set! {
    /// What becomes of a session that the store does not know.
    pub enum OnMissing {
        /// It goes on as the cookie has it, and is written.
        TrustCookie = "trust_cookie",
        /// It counts as revoked.
        NewSession = "new_session",
    }
}

closed_set! {
    /// What becomes of a request when the store fails.
    pub enum OnError {
        /// Its session goes on as the cookie has it.
        TrustCookie = "trust_cookie",
        /// It is balanced anew. The cookie stays as it is.
        Rebalance = "rebalance",
        /// It is answered with a 503.
        Fail = "fail",
    }
}

closed_set! {
    /// Whether responses wait for their writes.
    pub enum WriteMode {
        /// They do not.
        Async = "async",
        /// They do.
        Sync = "sync",
    }
}

const MEMBERS: [&str; 10] =
    ["protocol", "cluster", "authority", "token", "namespace", "timeout", "create", "on_missing", "on_error", "write"];

pub(super) fn read(field: &Field<'_>, environment: Environment<'_>) -> Option<StoreConfig> {
    let store = field.object(&MEMBERS)?;
    let protocol = store.read("protocol", Protocol::Rest, |field| field.word());
    let cluster = read_cluster(&store);
    let authority = store.read("authority", "session-store", |field| text(&field, "host name", 253, |_| true));
    let token = store.read_or_off("token", |field| read_token(&field, environment));
    let namespace = store.read("namespace", DEFAULT_NAMESPACE, |field| {
        text(&field, "namespace (A-Z a-z 0-9 _ . -)", MAX_NAMESPACE, is_of_namespace)
    });
    let timeout = store.read("timeout", Duration::from_millis(100), |field| {
        field.duration(Duration::from_millis(1), Duration::from_secs(10))
    });
    let create = store.read("create", CreateWhen::OnReturn, |field| field.word());
    let on_missing = store.read("on_missing", OnMissing::TrustCookie, |field| field.word());
    let on_error = store.read("on_error", OnError::TrustCookie, |field| field.word());
    let write = store.read("write", WriteMode::Async, |field| field.word());
    if let (Some(Protocol::Webdis), Some(Some(token)), Some(field)) = (protocol, &token, store.get("token"))
        && !token.is_basic()
    {
        field.error::<()>(
            "is none that webdis can check; accepted is user:password of at most 53 characters, or another protocol",
        );
    }
    if let (Some(OnMissing::NewSession), Some(create), Some(write), Some(field)) =
        (on_missing, create, write, store.get("on_missing"))
        && (create, write) != (CreateWhen::AtOnce, WriteMode::Sync)
    {
        field.error::<()>(
            "new_session refuses a session that is not written yet; accepted is trust_cookie, \
             or new_session with \"create\": \"at_once\" and \"write\": \"sync\"",
        );
    }
    let endpoint = Endpoint {
        protocol: protocol?,
        cluster: cluster?.into(),
        authority: authority?.into(),
        token: token?,
        namespace: namespace?.into(),
        timeout: timeout?,
    };
    Some(StoreConfig { endpoint, create: create?, on_missing: on_missing?, on_error: on_error?, write: write? })
}

fn read_cluster<'a>(store: &Object<'a>) -> Option<&'a str> {
    let field = store.required("cluster", "the name of an Envoy cluster, 1 to 255 visible ASCII characters")?;
    text(&field, "the name of an Envoy cluster", 255, |_| true)
}

/// Visible ASCII, so that it can stand in a header.
fn text<'a>(field: &Field<'a>, what: &str, longest: usize, fits: impl Fn(u8) -> bool) -> Option<&'a str> {
    let accepted = format!("{what}: 1 to {longest} visible ASCII characters");
    let text = field.string(&accepted)?;
    let kept = (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && fits(b));
    if kept { Some(text) } else { field.error(format!("breaks a rule; accepted is {accepted}")) }
}

/// White space around it is not part of it: mounted files end with a line break.
fn read_token(field: &Field<'_>, environment: Environment<'_>) -> Option<AccessToken> {
    let (field, value) = field.source("text", "the token", environment)?;
    AccessToken::new(value.trim_ascii())
        .or_else(|| field.error(format!("is not a token; accepted are 1 to {MAX_TOKEN} visible ASCII characters")))
}
