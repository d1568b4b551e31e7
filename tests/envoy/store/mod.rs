//! Several Envoys that share upstream hosts and a session store, each of them real.

mod engines;
mod faults;
mod following;
pub mod load;
mod logout;
mod races;
mod reloads;
mod rules;
mod streams;
mod tls;
mod waiting;
