//! Nothing that anybody sends takes Envoy down, stops the plugin, or fools it.
//!
//! Everything is drawn from a seed. A failure names it: `MOORING_HOSTILE_SEED=… MOORING_HOSTILE_REQUESTS=… scripts/test envoy-test`.

mod burst;
mod cases;
mod getter;
mod http1;
mod http2;
mod sizes;
mod store;
mod tally;
mod traffic;
mod upstream;
mod wire;

/// A number from the environment.
#[allow(clippy::disallowed_methods)]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// What everything is drawn from.
fn seed() -> u64 {
    number("MOORING_HOSTILE_SEED").unwrap_or_else(|| fastrand::u64(..))
}
