//! What can be seen from outside: the words for what was decided ([`decision`]), and what is counted ([`metrics`]).

pub mod decision;
pub mod metrics;
