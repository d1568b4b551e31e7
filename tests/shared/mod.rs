//! What the scenarios need, whether a fake proxy runs the filter's code or the real Envoy runs the plugin.

pub mod browser;
pub mod scenarios;
pub mod tokens;
pub mod world;
