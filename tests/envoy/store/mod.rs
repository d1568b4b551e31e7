//! Several Envoys that share upstream hosts and a session store, each of them real.

mod engines;
mod faults;
pub mod fleet;
mod following;
pub mod load;
mod logout;
pub mod meddler;
mod races;
mod reloads;
mod rules;
mod streams;
mod tls;
mod waiting;
