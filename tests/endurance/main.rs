//! What the built plugin does under load while things break around it (`make chaos`), in the long run (`make soak`), and whether it asks
//! its store as often as the simulation of a fleet says.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod census;
mod chaos;
mod clients;
mod load;
mod rotation;
mod sizing;
mod soak;
