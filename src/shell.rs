//! The shell: all that knows the proxy, and the only place with `unsafe`.
//!
//! [`contexts`] turns callbacks into calls of the core, and what it decides into calls to the proxy. [`proxy`] is the proxy as a trait,
//! `abi` the real one: the imports. `exports` has the callbacks, `log` what is written to the log. A build for `wasm32-unknown-unknown` has neither imports nor callbacks.

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod abi;
pub mod contexts;
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod exports;
mod log;
pub mod proxy;
