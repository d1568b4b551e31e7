//! Mooring keeps each client's session on one upstream host: a proxy-wasm filter for Envoy and Istio.
//!
//! Pure core, thin shell. From the outside in:
//!
//! | layer | modules |
//! | --- | --- |
//! | shell | `shell` (what the proxy calls), [`filter`] (callbacks to decisions, edits to host calls), [`host`] (the proxy as a trait) |
//! | decisions | [`affinity`] (one request), [`worker`] (what a worker's requests share), [`store_client`] (its side of the store) |
//! | parts | [`config`], [`token`], [`keyring`], [`session`], [`pin`], [`cookie`], [`cache_control`], [`headers`], [`store`] (protocols and values), [`cache`], [`breaker`], [`decision`] (its words), [`metrics`], [`recent`], [`verified`], [`clock`], `json`, `base64`, `text`, `words` |
//!
//! Only the shell knows the proxy; a build for `wasm32-unknown-unknown` has none of it. `mooring-store`, the store's server, is a
//! program of its own (`src/bin/`). `docs/how-it-works.md` tells what a request goes through, `docs/token.md` specifies the token.

pub mod affinity;
mod base64;
pub mod breaker;
pub mod cache;
pub mod cache_control;
pub mod clock;
pub mod config;
pub mod cookie;
pub mod decision;
pub mod filter;
pub mod headers;
pub mod host;
mod json;
pub mod keyring;
pub mod metrics;
pub mod pin;
pub mod recent;
pub mod session;
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod shell;
pub mod store;
pub mod store_client;
mod text;
pub mod token;
pub mod verified;
mod words;
pub mod worker;
