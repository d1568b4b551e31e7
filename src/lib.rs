//! Mooring keeps each client's session on one upstream host: a proxy-wasm filter for Envoy and Istio.
//!
//! Pure core, thin shell. From the outside in:
//!
//! | layer | modules |
//! | --- | --- |
//! | shell | `shell` (the SDK's callbacks), [`filter`] (callbacks to decisions, edits to host calls), [`host`] (the proxy as a trait) |
//! | decisions | [`affinity`] (one request), [`worker`] (what a worker's requests share) |
//! | parts | [`config`], [`token`], [`keyring`], [`session`], [`pin`], [`cookie`], [`cache_control`], [`headers`], [`metrics`], [`recent`], [`clock`] |
//!
//! Only the shell names the proxy; a build for `wasm32-unknown-unknown` has neither it nor the SDK. `docs/how-it-works.md` tells what
//! a request goes through, `docs/token.md` specifies the token.

pub mod affinity;
pub mod cache_control;
pub mod clock;
pub mod config;
pub mod cookie;
pub mod filter;
pub mod headers;
pub mod host;
pub mod keyring;
pub mod metrics;
pub mod pin;
pub mod recent;
pub mod session;
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod shell;
pub mod token;
pub mod worker;
