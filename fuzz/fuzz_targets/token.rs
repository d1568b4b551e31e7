//! [`mooring_fuzz::token`], for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mooring_fuzz::token::check(data));
