//! The session store: what is asked of it, and what it answers. One module a protocol.
//!
//! Sends nothing: a [`Request`] goes out and an [`Answer`] comes back through the shell. `docs/store.md` is the contract.

#[cfg(any(test, feature = "model"))]
pub mod model;
mod redis;
mod rest;
mod upstash;
mod webdis;

use crate::config::{Endpoint, Protocol};
use crate::session::SessionId;
use crate::text;
use crate::text::base64;
use sha2::{Digest as _, Sha256};
use store_contract::KEY_SEPARATOR;

/// The longest answer that is read, in bytes: a value.
pub const MAX_ANSWER: usize = store_contract::MAX_VALUE;

/// The longest version that is remembered, in bytes.
const MAX_VERSION: usize = 64;

/// The name of a session in the store, from which the session's id cannot be told: namespace, `:`, base64url of
/// SHA-256 over a label, the scope and the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreKey(String);

impl StoreKey {
    /// The key of a session.
    pub fn of(id: &SessionId, scope: &str, namespace: &str) -> Self {
        // A scope is at most 128 bytes: its length fits.
        let length = u16::try_from(scope.len()).unwrap_or(u16::MAX).to_be_bytes();
        let hash = Sha256::new().chain_update(b"mooring/1/store-key").chain_update(length);
        let hash = hash.chain_update(scope.as_bytes()).chain_update(id.0).finalize();
        Self(text::concat(&[namespace, KEY_SEPARATOR, &base64::url_safe(&hash)]))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which value a compare-and-set expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// An `ETag`, or a value's tag. Means something to the protocol that made it.
    Text(Box<str>),
    /// That of nothing, and of a value that has none: a move that expects it finds out what is there, and replaces nothing.
    OfNothing,
}

impl Version {
    fn new(text: &[u8]) -> Option<Self> {
        let fits = (1..=MAX_VERSION).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        std::str::from_utf8(text).ok().filter(|_| fits).map(|text| Self::Text(text.into()))
    }

    /// How the protocol writes it, which has no value of the version `of_nothing`.
    fn text<'a>(&'a self, of_nothing: &'a str) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::OfNothing => of_nothing,
        }
    }
}

#[cfg(any(test, feature = "model"))]
impl Version {
    /// A version of this text, if it can be one.
    pub fn for_test(text: &[u8]) -> Option<Self> {
        Self::new(text)
    }
}

#[cfg(feature = "model")]
impl StoreKey {
    /// A key of this text.
    pub fn for_test(text: &str) -> Self {
        Self(text.into())
    }
}

/// What is asked of the store. Times to live are in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The value, if there is one.
    Lookup,
    /// Put where nothing is.
    Create {
        /// What is put.
        value: String,
        /// For how long.
        ttl: u32,
    },
    /// Put where this version is.
    Move {
        /// The version to be replaced.
        expected: Version,
        /// What is put.
        value: String,
        /// For how long.
        ttl: u32,
    },
    /// Let live for at least so long, if it is there. Never revives a tombstone.
    Touch {
        /// For how long.
        ttl: u32,
    },
    /// Put a tombstone, whatever is there.
    Revoke {
        /// The tombstone, where the plugin writes it itself.
        tombstone: String,
        /// For how long.
        ttl: u32,
    },
}

/// What the store said, in every protocol's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is as was asked. After a write, with the version that is there now.
    Done(Option<Version>),
    /// This is there. To a [`Command::Create`] or [`Command::Move`]: and therefore nothing was put.
    Value(Vec<u8>, Version),
    /// Nothing is there, and therefore nothing was done.
    Missing,
    /// A tombstone is there, and therefore nothing was done.
    Revoked,
}

/// Why an answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing came, or the store (or the proxy in its place) says that it cannot: 5xx.
    Unavailable,
    /// The store will not: any other status that the protocol does not know, or its own word for an error.
    Refused,
    /// More than [`MAX_ANSWER`] bytes.
    TooLarge,
    /// Not what the protocol can answer.
    Senseless,
    /// The proxy would not send it: it has no host for it that is well, or no such cluster.
    Unsent,
    /// Too much at once on this side: the proxy had no room for it, or its turn did not come in time.
    Overloaded,
    /// Its turn did not come before the store was left alone.
    LeftAlone,
}

/// A request to the store, as headers and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Header lines, `:method`, `:path` and `:authority` among them.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No response came.
    Nothing,
    /// A response with a body longer than [`MAX_ANSWER`], which was not read.
    TooLarge,
    /// The proxy's own, in place of a response: its bounds for the cluster are reached.
    Overloaded,
    /// A response.
    Response {
        /// Its status.
        status: u16,
        /// Its `ETag`, where [that matters](Endpoint::tells_etags).
        etag: Option<Vec<u8>>,
        /// Its body.
        body: Vec<u8>,
    },
}

/// One way to speak to a store.
trait Dialect {
    /// Puts a command into the protocol's words.
    fn request(&self, endpoint: &Endpoint, key: &StoreKey, command: &Command) -> Request;

    /// Whether a response tells the version in its `ETag`.
    fn tells_etags(&self) -> bool;

    /// Whether a response tells by its status that there is a tombstone. Then none hides in a value that cannot be read.
    fn tells_tombstones(&self) -> bool;

    /// Reads a response to `command` with a status below 500.
    fn reply(&self, command: &Command, status: u16, etag: Option<&[u8]>, body: Vec<u8>) -> Result<Reply, Failure>;
}

impl Endpoint {
    fn dialect(&self) -> &'static dyn Dialect {
        match self.protocol {
            Protocol::Rest => &rest::Rest,
            Protocol::Webdis => &webdis::Webdis,
            Protocol::Upstash => &upstash::Upstash,
        }
    }

    /// Whether the `ETag` of a response matters.
    pub fn tells_etags(&self) -> bool {
        self.dialect().tells_etags()
    }

    /// Whether a value that cannot be read is no tombstone for sure.
    pub fn tells_tombstones(&self) -> bool {
        self.dialect().tells_tombstones()
    }

    /// The request that asks for `command`.
    pub fn request(&self, key: &StoreKey, command: &Command) -> Request {
        self.dialect().request(self, key, command)
    }

    /// What the answer to `command` says.
    ///
    /// # Errors
    /// [`Failure`], where it says nothing that can be relied on.
    pub fn reply(&self, command: &Command, answer: Answer) -> Result<Reply, Failure> {
        match answer {
            Answer::Nothing => Err(Failure::Unavailable),
            Answer::TooLarge => Err(Failure::TooLarge),
            Answer::Overloaded => Err(Failure::Overloaded),
            Answer::Response { status: 500.., .. } => Err(Failure::Unavailable),
            Answer::Response { status, etag, body } => self.dialect().reply(command, status, etag.as_deref(), body),
        }
    }
}

/// The lines that every request has.
fn head(method: &str, path: String, authority: &str) -> Vec<(&'static str, String)> {
    vec![(":method", method.into()), (":path", path), (":authority", authority.into())]
}

#[cfg(test)]
mod tests;
