//! How clients carry a session: the affinity cookie, and what caches are told of responses that carry one.

pub mod cache_control;
pub mod cookie;
