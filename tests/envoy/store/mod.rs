//! Several Envoys that share upstream hosts and a session store, each of them real.

mod engines;
mod faults;
mod fleet;
mod following;
mod load;
mod logout;
mod meddler;
mod races;
mod rules;
mod streams;
mod tls;
mod waiting;
