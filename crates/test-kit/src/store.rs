//! The store behind its protocols: requests as they go out, read by the letter and put to its model, and the answers to them.

use crate::fake::Sent;
use mooring::config::Protocol;
use mooring::store::protocol::model::Model;
use mooring::store::protocol::{Answer, Command, StoreKey, Version};
use serde_json::{Value, json};
use store_contract::{SESSIONS, TOUCH, TTL_HEADER};

/// What a request asks for. It panics where the request is not one of the protocol.
pub fn read(protocol: Protocol, sent: &Sent) -> (StoreKey, Command) {
    let read = match protocol {
        Protocol::Rest => rest(sent),
        Protocol::Webdis => std::str::from_utf8(&sent.body).ok().and_then(|body| {
            let words: Option<Vec<String>> = body.split('/').map(unescaped).collect();
            redis(sent, &words?)
        }),
        Protocol::Upstash => serde_json::from_slice(&sent.body).ok().and_then(|words: Vec<String>| redis(sent, &words)),
    };
    let (key, command) = read.unwrap_or_else(|| panic!("no request of {protocol:?}: {sent:?}"));
    (StoreKey::for_test(&key), command)
}

fn header<'a>(sent: &'a Sent, name: &str) -> Option<&'a str> {
    let (_, value) = sent.headers.iter().find(|(key, _)| key == name.as_bytes())?;
    std::str::from_utf8(value).ok()
}

fn rest(sent: &Sent) -> Option<(String, Command)> {
    let path = header(sent, ":path")?.strip_prefix(SESSIONS)?;
    let ttl = || header(sent, TTL_HEADER)?.parse().ok();
    let value = || String::from_utf8(sent.body.clone()).ok();
    let (key, command) = match (header(sent, ":method")?, path.strip_suffix(TOUCH)) {
        ("POST", Some(key)) => (key, Command::Touch { ttl: ttl()? }),
        ("GET", None) => (path, Command::Lookup),
        ("DELETE", None) => (path, Command::Revoke { tombstone: String::new(), ttl: ttl()? }),
        ("PUT", None) => match (header(sent, "if-none-match"), header(sent, "if-match")) {
            (Some("*"), None) => (path, Command::Create { value: value()?, ttl: ttl()? }),
            (None, Some(etag)) => {
                let expected = Version::for_test(etag.as_bytes())?;
                (path, Command::Move { expected, value: value()?, ttl: ttl()? })
            }
            _ => return None,
        },
        _ => return None,
    };
    Some((key.into(), command))
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

fn redis(sent: &Sent, words: &[String]) -> Option<(String, Command)> {
    if header(sent, ":method") != Some("POST") {
        return None;
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ttl = |ttl: &str| ttl.parse().ok();
    let (key, command) = match words[..] {
        ["GET", key] => (key, Command::Lookup),
        ["EVAL", _, "1", key, lasts] => (key, Command::Touch { ttl: ttl(lasts)? }),
        ["EVAL", _, "1", key, value, lasts] => (key, Command::Create { value: value.into(), ttl: ttl(lasts)? }),
        ["EVAL", _, "1", key, tag, value, lasts] => {
            let expected = Version::for_test(tag.as_bytes())?;
            (key, Command::Move { expected, value: value.into(), ttl: ttl(lasts)? })
        }
        ["SET", key, tombstone, "EX", lasts] => {
            (key, Command::Revoke { tombstone: tombstone.into(), ttl: ttl(lasts)? })
        }
        _ => return None,
    };
    Some((key.into(), command))
}

/// Does what is asked, and answers as a server of the protocol would.
pub fn answer(store: &mut Model, protocol: Protocol, key: &StoreKey, command: &Command) -> Answer {
    let said = store.answer(key, command);
    let (Answer::Response { status, body, .. }, false) = (&said, protocol == Protocol::Rest) else { return said };
    let result = match (command, status) {
        (Command::Revoke { .. }, _) if protocol == Protocol::Webdis => json!([true, "OK"]),
        (Command::Revoke { .. }, _) => json!("OK"),
        (_, 201) | (Command::Move { .. }, 204) => json!(1),
        (_, 410) => json!(""),
        (_, 404) => Value::Null,
        (_, 412) if body.is_empty() => Value::Null,
        _ => json!(store.value(key)),
    };
    in_words_of(protocol, command, &result)
}

/// A response with this result of a command, of one of the protocols that pass commands on.
fn in_words_of(protocol: Protocol, command: &Command, result: &Value) -> Answer {
    let name = match command {
        _ if protocol == Protocol::Upstash => "result",
        Command::Lookup => "GET",
        Command::Create { .. } | Command::Move { .. } | Command::Touch { .. } => "EVAL",
        Command::Revoke { .. } => "SET",
    };
    Answer::Response { status: 200, etag: None, body: json!({name: result}).to_string().into() }
}

/// The answer to a lookup that finds this value.
pub fn found(protocol: Protocol, value: &str) -> Answer {
    match protocol {
        Protocol::Rest => Answer::Response { status: 200, etag: Some(b"\"7\"".into()), body: value.into() },
        Protocol::Webdis | Protocol::Upstash => in_words_of(protocol, &Command::Lookup, &json!(value)),
    }
}
