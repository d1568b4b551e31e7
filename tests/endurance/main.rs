//! What the built plugin does under load while things break around it (`make chaos`), in the long run (`make soak`), and whether it asks
//! its store as often as the simulation of a fleet says.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod census;
mod chaos;
mod clients;
#[allow(dead_code)]
#[path = "../envoy/store/fleet.rs"]
mod fleet;
mod load;
#[allow(dead_code)]
#[path = "../envoy/store/meddler.rs"]
mod meddler;
#[allow(dead_code)]
#[path = "../envoy/memory.rs"]
mod memory;
#[allow(dead_code)]
#[path = "../envoy/rig.rs"]
mod rig;
mod rotation;
#[allow(dead_code)]
#[path = "../servers/mod.rs"]
mod servers;
#[allow(dead_code, unused_macros)]
#[path = "../shared/mod.rs"]
mod shared;
#[allow(dead_code)]
#[path = "../../examples/fleet/simulation.rs"]
mod simulation;
mod sizing;
mod soak;
#[allow(dead_code)]
#[path = "../envoy/upstream.rs"]
mod upstream;
