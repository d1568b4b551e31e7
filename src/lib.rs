//! Mooring keeps each client's session on one upstream host: a proxy-wasm filter for Envoy and Istio.
//!
//! Pure core, thin shell. From the outside in; a room knows those below it alone (`tests/core/layers.rs`):
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`shell`] | all that knows the proxy: its callbacks, the calls to it, a context for each root and stream |
//! | `affinity` | a request's two halves: which host it asks for, and what its response does to the session; what a worker's requests share |
//! | [`store`] | the session store, as a worker sees it: client, protocols, values, cache, breaker |
//! | [`config`] | the plugin's configuration: JSON in, a validated form or every error of it out |
//! | [`observe`] | what can be seen from outside: decisions, metrics and the log |
//! | [`carrier`] | how clients carry a session: the seam, and the ways behind it, by cookie and by header |
//! | [`credential`] | what a client shows: token, keys, tokens that verified |
//! | [`session`] | a session, its pins, its timeouts |
//! | [`clock`], [`headers`], [`ids`], `lru`, `text` | what all of these are made of |
//!
//! A build for `wasm32-unknown-unknown` has nothing of the proxy. Programs are in `crates/`. `docs/how-it-works.md` tells what a request
//! goes through, `docs/token.md` specifies the token.
//!
//! # Words
//!
//! | word | meaning |
//! | --- | --- |
//! | session | what a client and the application have in common, from its start to its end; 128 random bits name it |
//! | pin | the host on which a session is in one cluster |
//! | host, cluster | Envoy's: an upstream address, and the set of addresses that a route leads to |
//! | scope | what separates applications that share keys: a token is good in one scope |
//! | worker | one of Envoy's threads, with a VM and a memory of its own |
//! | root, stream | the proxy's contexts: one configuration on one worker, and one request with its response |
//! | exchange | what is known of a request when its response comes |
//! | basis, outcome | what a request came with, and what became of its session: the two words of the access log |
//! | token | a session, signed (and encrypted) under a key; what the client holds |
//! | carrier, way | how a token travels, and the word for it: in a cookie, or in a header |
//! | key | a secret that signs tokens; the keyring's first signs, all verify |
//! | renewal | a new token for the same session, because time has passed |
//! | idle timeout, absolute timeout | how long a session lives without requests, and at most |
//! | bridge | the part of Envoy that turns our header into an override host: the filter `stateful_session`, or the policy `override_host` |
//! | override host | Envoy's: the host that the load balancer must take if it is healthy |
//! | failover | what becomes of a session whose host is gone: `sticky`, `temporary`, `none` |
//! | generation | how often a session's pins have changed: the higher one wins |
//! | tombstone | what the store keeps of a session that ended |
//! | record | what the store has of a session: generation and pins |
//! | lookup, create, move, touch, revoke | what is asked of the store |
#![warn(unreachable_pub)]

mod affinity;
pub mod carrier;
pub mod clock;
pub mod config;
pub mod credential;
pub mod headers;
pub mod ids;
mod lru;
pub mod observe;
pub mod session;
pub mod shell;
pub mod store;
mod text;
