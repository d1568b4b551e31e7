//! What can be seen from outside: the words for what was decided ([`decision`]), what is counted ([`metrics`]), and what the log is
//! told ([`log`]).

pub mod decision;
pub mod log;
pub mod metrics;
