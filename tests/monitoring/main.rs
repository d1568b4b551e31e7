//! The rules, alerts and dashboard under `deploy/monitoring/`, on a real Prometheus that scrapes real Envoys. `make monitoring-test`
//! runs it, and promtool's own tests of the rules before.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod dashboard;
mod rules;
mod stage;
