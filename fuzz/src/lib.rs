//! What is fuzzed, a module a target: `check` takes any bytes, and panics when Mooring breaks a promise on them.
//!
//! An input is read from its beginning, a byte a choice ([`input`]); what is not there is 0, so that every input means something.
//! Digits are small choices: the files under `seeds/<target>/` that have a name were written by hand, and read like the cases that
//! they are. What a run of the fuzzer found worth keeping stands beside them, under its hash: `scripts/fuzz` says how.

pub mod config;
pub mod cookie;
pub mod filter;
pub mod input;
pub mod keys;
pub mod store_answer;
pub mod token;

/// A target: its name, and its check.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 5] = [
    ("config", config::check),
    ("cookie", cookie::check),
    ("filter", filter::check),
    ("store_answer", store_answer::check),
    ("token", token::check),
];
