//! Whole proxies under load: what a request costs each of them, of the processor, and how that grows (`make bench`,
//! `make bench-scale`).
//! `scripts/bench` runs it and writes what it measured into `docs/performance.md`.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

/// The processor time that another process took, and where it runs, are Linux's to tell and to set.
#[cfg(target_os = "linux")]
mod bench;

#[cfg(target_os = "linux")]
fn main() {
    bench::run();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    panic!("only Linux tells what processor time another process took: run this there");
}
