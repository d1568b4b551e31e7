//! A fleet of proxies with a session store, simulated.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

pub mod simulation;
