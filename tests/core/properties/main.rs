//! What must hold whatever comes: properties over generated input. `PROPTEST_CASES` sets how many cases of each are tried.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod breaker;
mod cache;
mod convergence;
mod cookie;
mod timeouts;
mod token;
