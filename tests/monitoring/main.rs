//! The rules, alerts and dashboard under `deploy/monitoring/`, on a real Prometheus that scrapes real Envoys. `make monitoring-test`
//! runs it, and promtool's own tests of the rules before.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod dashboard;
#[allow(dead_code)]
#[path = "../envoy/store/fleet.rs"]
mod fleet;
#[allow(dead_code)]
#[path = "../envoy/rig.rs"]
mod rig;
mod rules;
#[allow(dead_code)]
#[path = "../servers/mod.rs"]
mod servers;
#[allow(dead_code, unused_macros)]
#[path = "../shared/mod.rs"]
mod shared;
mod stage;
#[allow(dead_code)]
#[path = "../envoy/upstream.rs"]
mod upstream;
