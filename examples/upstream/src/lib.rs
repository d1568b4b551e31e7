//! A small HTTP server to put behind Envoy, without the process around it: tests run it on a listener of their own.

pub mod demo;
pub mod server;
