//! The proxy's names for its contexts, streams and calls.

/// A context of the proxy's: a root or a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextId(pub u32);

impl From<StreamId> for ContextId {
    fn from(stream: StreamId) -> Self {
        Self(stream.0)
    }
}

/// A stream of the proxy's: a request and its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u32);

/// A call under way, as the proxy names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u32);
