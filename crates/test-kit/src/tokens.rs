//! Tokens that a test makes itself, with the plugin's keys.

use crate::world::{NEW_SECRET, OLD_SECRET, plugin};
use mooring::clock::UnixTime;
use mooring::config::Config;
use mooring::credential::keyring::Keyring;
use mooring::credential::token::{self, Protection};
use mooring::session::{Session, SessionId};
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

/// The keyring of [`plugin`], for another scope than the cookie's name if one is given.
pub fn keyring(scope: &str) -> Keyring {
    let json = plugin(json!({"scope": scope})).to_string();
    Config::parse(json.as_bytes(), &|_| None).expect("the plugin's configuration").shared.keyring.clone()
}

/// The session in a cookie.
pub fn session(cookie: &str) -> Session {
    token::open(cookie.as_bytes(), &keyring("m")).expect("a cookie of ours").0
}

/// A signed token of `session`.
pub fn sign(session: &Session, keyring: &Keyring) -> String {
    token::seal(session, keyring, &Protection::Signed)
}

/// A session that was created, renewed and ends at these times.
pub fn timed(created: u64, renewed: u64, end: u64) -> Session {
    Session {
        id: SessionId([9; 16]),
        created: UnixTime(created),
        renewed: UnixTime(renewed),
        end: Some(UnixTime(end)),
        generation: 0,
        pins: Default::default(),
    }
}

/// The clock that proxies here go by.
#[allow(clippy::disallowed_methods)]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

/// A plugin's keys in another order: the old one signs.
pub fn keys_reversed() -> serde_json::Value {
    json!([{"id": "old", "secret": {"base64": OLD_SECRET}}, {"id": "new", "secret": {"base64": NEW_SECRET}}])
}
