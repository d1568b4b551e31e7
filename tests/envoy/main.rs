//! The built plugin in the real Envoy: every scenario, and what only the real thing can show. `make envoy-test` runs it.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod configs;
mod hostile;
mod memory;
mod metrics;
mod protocols;
#[allow(dead_code)]
mod rig;
mod security;
#[allow(dead_code)]
#[path = "../servers/mod.rs"]
mod servers;
#[path = "../shared/mod.rs"]
mod shared;
mod store;
mod traffic;
mod upstream;

all_scenarios!(rig::EnvoyWorld);
