//! Clients as people have them, through the real Envoy with the built plugin: a browser, curl, and programs with cookie jars.
//! `make clients-test` runs it.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod attributes;
mod browser;
mod page;
mod programs;
mod rpc;
mod sites;
mod stage;
mod tokens;
