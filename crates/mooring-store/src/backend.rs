//! Where sessions are kept. Each operation is atomic: a backend never reads and then writes in two steps that others can come between.

pub(crate) mod memory;
pub(crate) mod redis;

use crate::contract::{ETag, SessionKey, Ttl, Value};
use std::fmt;

/// What is kept under a key.
pub(crate) enum Lookup {
    /// A value.
    Found(Value),
    /// A tombstone.
    Revoked,
    /// Nothing.
    Missing,
}

/// What became of a conditional write.
pub(crate) enum Write {
    /// It is written.
    Done,
    /// Another value is there, and stays.
    Differs(Value),
    /// Nothing is there to replace.
    Missing,
    /// A tombstone is there, and stays.
    Revoked,
}

/// What became of a touch.
pub(crate) enum Touch {
    /// The session lives at least as long as was asked.
    Done,
    /// Nothing is there.
    Missing,
    /// A tombstone is there, and stays as it is.
    Revoked,
}

/// Why an operation could not be done. Nothing is known of whether a write took effect, except where it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The backend did not answer in time.
    Timeout,
    /// There is no connection to the backend.
    Unreachable,
    /// The backend refuses our credentials, or forbids a command.
    Auth,
    /// The backend takes no writes.
    ReadOnly,
    /// The backend is still reading its data.
    Loading,
    /// The cluster, or the part of it that has the key, is down.
    ClusterDown,
    /// There is no room, and nothing was written.
    Full,
    /// What is kept under the key is not of the store's making.
    Foreign,
    /// Any other error that the backend reports.
    Error,
}

impl Failure {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Timeout,
        Self::Unreachable,
        Self::Auth,
        Self::ReadOnly,
        Self::Loading,
        Self::ClusterDown,
        Self::Full,
        Self::Foreign,
        Self::Error,
    ];

    /// One word, for metrics, logs and `/readyz`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Auth => "auth",
            Self::ReadOnly => "readonly",
            Self::Loading => "loading",
            Self::ClusterDown => "clusterdown",
            Self::Full => "full",
            Self::Foreign => "foreign",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// Where sessions are kept. A clone is another handle of the same.
pub(crate) trait Backend: Clone + Send + Sync + 'static {
    /// What is kept under `key`.
    fn lookup(&self, key: &SessionKey) -> impl Future<Output = Result<Lookup, Failure>> + Send;

    /// Writes `value` where nothing is. Never answers [`Write::Missing`].
    fn create(&self, key: &SessionKey, value: &Value, ttl: Ttl) -> impl Future<Output = Result<Write, Failure>> + Send;

    /// Replaces the value that has this etag; its time to live is set anew.
    fn move_to(
        &self,
        key: &SessionKey,
        from: &ETag,
        value: &Value,
        ttl: Ttl,
    ) -> impl Future<Output = Result<Write, Failure>> + Send;

    /// Makes what is left of a value's life at least `ttl`.
    fn touch(&self, key: &SessionKey, ttl: Ttl) -> impl Future<Output = Result<Touch, Failure>> + Send;

    /// Leaves a tombstone that lives at least `ttl`, whatever was there.
    fn revoke(&self, key: &SessionKey, ttl: Ttl) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Why the backend cannot serve now; `None` when it can.
    fn unready(&self) -> Option<Failure>;
}
