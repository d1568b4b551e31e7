//! The built plugin in the real Envoy: every scenario, and what only the real thing can show. `make envoy-test` runs it.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod configs;
mod hostile;
mod metrics;
mod protocols;
mod security;
mod store;
mod traffic;

mooring_test_kit::all_scenarios!(mooring_test_kit::rig::EnvoyWorld);
