//! What the tests and benchmarks of Mooring share.
//!
//! | feature | modules |
//! | --- | --- |
//! | – | [`fake`] (a proxy that holds state), [`proxy`] (drives the filter on it, callback by callback), [`store`] (answers its calls, over each protocol), [`world`] (what a proxy with hosts behind it looks like to a client), [`scenarios`] (what Mooring does, told in that world), [`browser`], [`tokens`] |
//! | `pages` | `pages` (the documentation, and the examples in it) |
//! | `servers` | `servers` (the session store, Redis, Prometheus and others, as processes) |
//! | `envoy` | `rig` (a real Envoy), `fleet` (several that share hosts and a store), `upstream` (the hosts), `meddler` (what may stand between Envoys and their store), `memory` |
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

pub mod browser;
pub mod fake;
#[cfg(feature = "envoy")]
pub mod fleet;
#[cfg(feature = "envoy")]
pub mod meddler;
#[cfg(feature = "envoy")]
pub mod memory;
#[cfg(feature = "pages")]
pub mod pages;
pub mod proxy;
#[cfg(feature = "envoy")]
pub mod rig;
pub mod scenarios;
#[cfg(feature = "servers")]
pub mod servers;
pub mod store;
pub mod tokens;
#[cfg(feature = "envoy")]
pub mod upstream;
pub mod world;

use std::path::Path;

/// The project's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/test-kit")
}
