//! Under load, one thing after the other breaks. Each scenario counts what became of the requests and the sessions.
//!
//! `make test` runs them small; `make chaos` runs them at full size, and writes what they counted into docs/reliability.md.

// It needs LD_PRELOAD.
#[cfg(target_os = "linux")]
mod clock;
mod envoys;
mod hosts;
mod stage;
mod stores;
