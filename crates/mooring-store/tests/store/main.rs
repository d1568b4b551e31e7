//! The session store as a process, in memory and over real Redis in all its forms. `make store-test` runs it.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod contract;
mod faults;
mod hostile;
mod http;
mod races;
mod stage;
mod startup;
