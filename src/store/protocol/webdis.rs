//! Webdis: a command in the body, its words divided by slashes, and JSON in return, under the command's name. Its own errors have
//! a status and no body (403: not allowed or not authenticated; 503: no Redis); those of Redis have the status 200.

use super::{Command, Dialect, Failure, Reply, Request, StoreKey, head, redis};
use crate::config::Endpoint;
use crate::text;
use crate::text::json::Json;

pub(super) struct Webdis;

impl Dialect for Webdis {
    fn request(&self, endpoint: &Endpoint, key: &StoreKey, command: &Command) -> Request {
        let mut headers = head("POST", "/".into(), &endpoint.authority);
        // HTTP Basic is what its access lists know: the token is `user:password`.
        headers.extend(endpoint.token.as_ref().map(|token| ("authorization", token.basic())));
        let words = redis::words(key, command);
        Request { headers, body: text::joined(words.iter().map(|word| escaped(word)), "/") }
    }

    fn tells_etags(&self) -> bool {
        false
    }

    fn tells_tombstones(&self) -> bool {
        false
    }

    fn reply(&self, command: &Command, status: u16, _etag: Option<&[u8]>, body: Vec<u8>) -> Result<Reply, Failure> {
        if status != 200 {
            return Err(Failure::Refused);
        }
        let Ok(Json::Object(members)) = serde_json::from_slice(&body) else { return Err(Failure::Senseless) };
        match members.as_slice() {
            // A status: [true, "OK"], or [false, "ERR …"].
            [(name, Json::Array(result))] if name == redis::name(command) => match result.as_slice() {
                [Json::Bool(true), Json::String(word)] => redis::reply(command, &Json::Bool(true), word == "OK"),
                [Json::Bool(false), _] => Err(Failure::Refused),
                _ => Err(Failure::Senseless),
            },
            [(name, result)] if name == redis::name(command) => redis::reply(command, result, false),
            _ => Err(Failure::Senseless),
        }
    }
}

/// Percent-encodes whatever webdis could read as more than a letter: it ends words at `/`, takes `+` for a space, and cuts `.json` off.
fn escaped(word: &str) -> String {
    let mut escaped = String::with_capacity(word.len());
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            escaped.push(char::from(byte));
        } else {
            let digit = |value: u8| b"0123456789ABCDEF".get(usize::from(value & 0xf)).map(|digit| char::from(*digit));
            escaped.extend([Some('%'), digit(byte >> 4), digit(byte)].into_iter().flatten());
        }
    }
    escaped
}
