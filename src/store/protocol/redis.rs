//! The commands as Redis and Valkey understand them, for the gateways that pass commands on. Each is one command or one script, so
//! that it is atomic.

use super::{Command, Failure, Reply, StoreKey, Version};
use crate::store::value;
use crate::text;
use crate::text::json::Json;

/// Puts ARGV[1] for ARGV[2] seconds where nothing is. (Not the script of `mooring-store`, which cannot read values: here a tombstone is a
/// signed value, and a copy is known by its tag.)
///
/// 1: it was put; else what is there. (`SET … NX GET` would do from Redis 7 on,
/// but its `null` is said to mean either on Upstash.)
const CREATE: &str = "local v=redis.call('GET',KEYS[1]) if v then return v end \
                      redis.call('SET',KEYS[1],ARGV[1],'EX',ARGV[2]) return 1";

/// Puts ARGV[2] for ARGV[3] seconds where the value ends with the tag ARGV[1]. 1: it was put; else what is there.
const MOVE: &str = "local v=redis.call('GET',KEYS[1]) \
                    if v and string.sub(v,-43)==ARGV[1] then \
                    redis.call('SET',KEYS[1],ARGV[2],'EX',ARGV[3]) return 1 end return v";

/// Lets a value live for at least ARGV[1] seconds, and returns it. A tombstone outlives every session, so that it stays as it is.
const TOUCH: &str = "local v=redis.call('GET',KEYS[1]) \
                     if v and redis.call('TTL',KEYS[1])<tonumber(ARGV[1]) then \
                     redis.call('EXPIRE',KEYS[1],ARGV[1]) end return v";

/// The words of the command.
pub(super) fn words(key: &StoreKey, command: &Command) -> Vec<String> {
    let key = key.as_str();
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    match command {
        Command::Lookup => words(&["GET", key]),
        Command::Create { value, ttl } => words(&["EVAL", CREATE, "1", key, value, &text::decimal(*ttl)]),
        Command::Move { expected, value, ttl } => {
            words(&["EVAL", MOVE, "1", key, expected.text("-"), value, &text::decimal(*ttl)])
        }
        Command::Touch { ttl } => words(&["EVAL", TOUCH, "1", key, &text::decimal(*ttl)]),
        Command::Revoke { tombstone, ttl } => words(&["SET", key, tombstone, "EX", &text::decimal(*ttl)]),
    }
}

/// The first of the words.
pub(super) fn name(command: &Command) -> &'static str {
    match command {
        Command::Lookup => "GET",
        Command::Create { .. } | Command::Move { .. } | Command::Touch { .. } => "EVAL",
        Command::Revoke { .. } => "SET",
    }
}

/// Reads the result of a command. `ok`: it is the status "OK", in the endpoint's own form.
pub(super) fn reply(command: &Command, result: &Json, ok: bool) -> Result<Reply, Failure> {
    match (command, result) {
        (Command::Create { value, .. } | Command::Move { value, .. }, Json::Number(1.0)) => {
            Ok(Reply::Done(version(value.as_bytes())))
        }
        (Command::Revoke { .. }, _) if ok => Ok(Reply::Done(None)),
        (Command::Lookup | Command::Move { .. } | Command::Touch { .. }, Json::Null) => Ok(Reply::Missing),
        // What `mooring-store` leaves in Redis when a session ended.
        (
            Command::Lookup | Command::Create { .. } | Command::Move { .. } | Command::Touch { .. },
            Json::String(text),
        ) if text.is_empty() => Ok(Reply::Revoked),
        (
            Command::Lookup | Command::Create { .. } | Command::Move { .. } | Command::Touch { .. },
            Json::String(text),
        ) => {
            // What has no tag is not a value of ours. It is handed on all the same: that is for the reader of values to say.
            let version = version(text.as_bytes()).unwrap_or(Version::OfNothing);
            Ok(Reply::Value(text.clone().into_bytes(), version))
        }
        _ => Err(Failure::Senseless),
    }
}

/// The version of a value is its tag: it says everything about key and body.
fn version(value: &[u8]) -> Option<Version> {
    Version::new(value::tag(value)?)
}
