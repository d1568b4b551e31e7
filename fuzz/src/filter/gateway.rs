//! The store behind its protocols: the requests that the filter makes, read by the letter, and put to the store's model.

use mooring::config::{Endpoint, Protocol};
use mooring::store::protocol::model::Model;
use mooring::store::protocol::{Answer, Command, Reply, StoreKey, Version};
use mooring_test_kit::fake::{Line, Sent};
use serde_json::{Value, json};

/// A request to the store.
pub struct Asked {
    /// The key.
    pub key: String,
    /// What is asked of it.
    pub wish: Wish,
}

/// What is asked of the store. A version is the text in which the protocol has it.
pub enum Wish {
    /// The value.
    Lookup,
    /// To put a value where none is.
    Create(String, u32),
    /// To put a value where this version is.
    Move(String, String, u32),
    /// To keep it for longer.
    Touch(u32),
    /// To end it.
    Revoke(u32),
}

fn header<'a>(sent: &'a Sent, name: &str) -> Option<&'a str> {
    let (_, value) = sent.headers.iter().find(|(key, _)| key == name.as_bytes())?;
    std::str::from_utf8(value).ok()
}

/// Reads a request. It panics where the request is not one of the protocol.
pub fn read(protocol: Protocol, sent: &Sent) -> Asked {
    let read = match protocol {
        Protocol::Rest => rest(sent),
        Protocol::Webdis => String::from_utf8(sent.body.clone()).ok().and_then(|body| {
            let words: Option<Vec<String>> = body.split('/').map(unescaped).collect();
            words.and_then(|words| redis(&words))
        }),
        Protocol::Upstash => serde_json::from_slice(&sent.body).ok().and_then(|words: Vec<String>| redis(&words)),
    };
    read.unwrap_or_else(|| panic!("no request of {protocol:?}: {sent:?}"))
}

fn rest(sent: &Sent) -> Option<Asked> {
    let path = header(sent, ":path")?.strip_prefix("/v1/sessions/")?;
    let ttl = || header(sent, "mooring-ttl")?.parse().ok();
    let value = || String::from_utf8(sent.body.clone()).ok();
    let (key, wish) = match (header(sent, ":method")?, path.strip_suffix("/touch")) {
        ("POST", Some(key)) => (key, Wish::Touch(ttl()?)),
        ("GET", None) => (path, Wish::Lookup),
        ("DELETE", None) => (path, Wish::Revoke(ttl()?)),
        ("PUT", None) => match (header(sent, "if-none-match"), header(sent, "if-match")) {
            (Some("*"), None) => (path, Wish::Create(value()?, ttl()?)),
            (None, Some(version)) => (path, Wish::Move(version.into(), value()?, ttl()?)),
            _ => return None,
        },
        _ => return None,
    };
    Some(Asked { key: key.into(), wish })
}

fn unescaped(word: &str) -> Option<String> {
    let mut parts = word.split('%');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        plain.push(char::from(u8::from_str_radix(part.get(..2)?, 16).ok()?));
        plain.push_str(part.get(2..)?);
    }
    Some(plain)
}

fn redis(words: &[String]) -> Option<Asked> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (key, wish) = match words.as_slice() {
        ["GET", key] => (key, Wish::Lookup),
        ["EVAL", _, "1", key, ttl] => (key, Wish::Touch(ttl.parse().ok()?)),
        ["EVAL", _, "1", key, value, ttl] => (key, Wish::Create((*value).into(), ttl.parse().ok()?)),
        ["EVAL", _, "1", key, tag, value, ttl] => (key, Wish::Move((*tag).into(), (*value).into(), ttl.parse().ok()?)),
        ["SET", key, _, "EX", ttl] => (key, Wish::Revoke(ttl.parse().ok()?)),
        _ => return None,
    };
    Some(Asked { key: (*key).into(), wish })
}

/// What comes back: header lines and body.
pub type Response = (Vec<Line>, Vec<u8>);

/// A response of this status.
pub fn response(status: &str, etag: Option<&[u8]>, body: &[u8]) -> Response {
    let mut lines = vec![(b":status".to_vec(), status.into())];
    lines.extend(etag.map(|etag| (b"etag".to_vec(), etag.to_vec())));
    (lines, body.to_vec())
}

/// Does what is asked, and answers as the gateway would.
pub fn serve(model: &mut Model, gateway: &Endpoint, key: &StoreKey, wish: &Wish) -> Response {
    let rest = gateway.protocol == Protocol::Rest;
    let command = match wish {
        Wish::Lookup => Command::Lookup,
        Wish::Create(value, ttl) => Command::Create { value: value.clone(), ttl: *ttl },
        Wish::Move(expected, value, ttl) => {
            let expected = if rest { version(expected) } else { version_of_tag(model, key, expected) };
            let expected = expected.unwrap_or_else(Version::of_nothing);
            Command::Move { expected, value: value.clone(), ttl: *ttl }
        }
        Wish::Touch(ttl) => Command::Touch { ttl: *ttl },
        Wish::Revoke(ttl) => Command::Revoke { tombstone: String::new(), ttl: *ttl },
    };
    let Answer::Response { status, etag, body } = model.answer(key, &command) else {
        return response("500", None, b"");
    };
    if rest {
        return response(&status.to_string(), etag.as_deref(), &body);
    }
    let (name, result) = match (wish, status) {
        (Wish::Revoke(_), _) => ("SET", json!("OK")),
        (wish, status) => {
            let name = if matches!(wish, Wish::Lookup) { "GET" } else { "EVAL" };
            let there = || Value::from(model.value(key).unwrap_or_default());
            (
                name,
                match status {
                    201 => json!(1),
                    204 if matches!(wish, Wish::Move(..)) => json!(1),
                    410 => json!(""),
                    404 => Value::Null,
                    412 if body.is_empty() => Value::Null,
                    _ => there(),
                },
            )
        }
    };
    let answer = match (gateway.protocol, name) {
        (Protocol::Webdis, "SET") => json!({"SET": [true, "OK"]}),
        (Protocol::Webdis, name) => json!({name: result}),
        _ => json!({"result": result}),
    };
    response("200", None, answer.to_string().as_bytes())
}

/// A version as the model has it: that of an answer with this `ETag`.
fn version(etag: &str) -> Option<Version> {
    let gateway = Endpoint {
        protocol: Protocol::Rest,
        cluster: String::new(),
        authority: String::new(),
        token: None,
        namespace: String::new(),
        timeout: Default::default(),
    };
    let answer = Answer::Response { status: 200, etag: Some(etag.into()), body: Vec::new() };
    match gateway.reply(&Command::Lookup, answer) {
        Ok(Reply::Value(_, version)) => Some(version),
        _ => None,
    }
}

/// The scripts compare the end of the value.
fn version_of_tag(model: &mut Model, key: &StoreKey, tag: &str) -> Option<Version> {
    let there = model.value(key).is_some_and(|value| value.ends_with(tag));
    match model.answer(key, &Command::Lookup) {
        Answer::Response { status: 200, etag: Some(etag), .. } if there => version(std::str::from_utf8(&etag).ok()?),
        _ => None,
    }
}
