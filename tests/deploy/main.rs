//! What `deploy/` and `scripts/image` have is tried: every object is held against the model of its kind, the image is read back,
//! and what Istio and Envoy Gateway make of the objects runs in real Envoys, with hosts and a session store. `make deploy-test`
//! runs it.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod envoy_gateway;
mod image;
mod istio;
mod kubernetes;
mod labels;
mod objects;
mod promises;
