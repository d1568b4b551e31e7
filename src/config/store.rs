//! The rules of `store`.

use super::Environment;
use super::fields::{Field, Object};
use crate::store::{Gateway, ProtocolName, Token};
use std::time::Duration;

/// The session store, and what depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Where the store is and how it is spoken to.
    pub gateway: Gateway,
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
    let protocol = store.read("protocol", ProtocolName::Rest, |field| {
        field.word(&[
            ("rest", ProtocolName::Rest),
            ("webdis", ProtocolName::Webdis),
            ("upstash", ProtocolName::Upstash),
        ])
    });
    let cluster = read_cluster(&store);
    let authority = store.read("authority", "session-store".into(), |field| text(&field, "host name", 253, |_| true));
    let token = store.read_nullable("token", None, |field| read_token(&field, environment));
    let namespace = store.read("namespace", "mooring".into(), |field| {
        text(&field, "namespace (A-Z a-z 0-9 _ . -)", 64, |b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
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
    if let (Some(ProtocolName::Webdis), Some(Some(token)), Some(field)) = (protocol, &token, store.get("token"))
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
    let gateway = Gateway {
        protocol: protocol?,
        cluster: cluster?,
        authority: authority?,
        token: token?,
        namespace: namespace?,
        timeout: timeout?,
    };
    Some(Store { gateway, create: create?, on_missing: on_missing?, on_error: on_error?, write: write? })
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
fn read_token(field: &Field<'_>, environment: Environment<'_>) -> Option<Token> {
    let (field, value) = field.source("text", "the token", environment)?;
    Token::new(value.trim_ascii())
        .or_else(|| field.error("is not a token; accepted are 1 to 1024 visible ASCII characters"))
}
