//! Upstash's REST interface: a command as a JSON array, `{"result": …}` or `{"error": …}` in return.

use super::{Command, Dialect, Failure, Reply, Request, StoreKey, head, redis};
use crate::config::Endpoint;
use crate::text;
use crate::text::json::Json;

pub(super) struct Upstash;

impl Dialect for Upstash {
    fn request(&self, endpoint: &Endpoint, key: &StoreKey, command: &Command) -> Request {
        let mut headers = head("POST", "/".into(), &endpoint.authority);
        headers.extend(endpoint.token.as_ref().map(|token| ("authorization", token.bearer())));
        headers.push(("content-type", "application/json".into()));
        Request { headers, body: json(&redis::words(key, command)) }
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
        match serde_json::from_slice(&body) {
            Ok(Json::Object(members)) => match members.as_slice() {
                [(name, result)] if name == "result" => {
                    redis::reply(command, result, *result == Json::String("OK".into()))
                }
                [(name, _)] if name == "error" => Err(Failure::Refused),
                _ => Err(Failure::Senseless),
            },
            _ => Err(Failure::Senseless),
        }
    }
}

/// An array of strings. What our commands consist of needs no escapes beyond these.
fn json(words: &[String]) -> String {
    let quoted = words.iter().map(|word| text::concat(&["\"", &word.replace('\\', "\\\\").replace('"', "\\\""), "\""]));
    text::concat(&["[", &text::joined(quoted, ","), "]"])
}
