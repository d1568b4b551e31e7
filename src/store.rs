//! The session store, as a worker sees it: what it asks ([`client`]), how that is said ([`protocol`], [`value`]), what it remembers
//! ([`cache`]), and when it leaves the store alone ([`breaker`]). Sends nothing: that is the shell's. `docs/store.md` is the contract.

pub mod breaker;
pub mod cache;
pub mod client;
pub mod protocol;
pub mod value;
