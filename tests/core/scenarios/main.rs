//! The scenarios on a fake proxy: the filter's code, natively, with a model of Envoy around it.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod broken_proxy;
mod fake;
mod gauges;
mod log;
mod security;
mod store;

mooring_test_kit::all_scenarios!(fake::FakeWorld);
