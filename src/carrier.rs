//! How clients carry a session: the affinity cookie, and what caches are told of responses that carry one.

pub(crate) mod cache_control;
pub mod cookie;
