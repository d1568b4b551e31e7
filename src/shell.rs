//! The shell: all that knows the proxy, and the only place with `unsafe`.
//!
//! [`contexts`] turns callbacks into calls of the core, and what it decides into host calls. [`host`] is the proxy as a trait. `exports` is
//! what the proxy calls, `proxy` what it is called by; a build for `wasm32-unknown-unknown` has neither.

pub mod contexts;
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod exports;
pub mod host;
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub mod proxy;
