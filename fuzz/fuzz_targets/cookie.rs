//! [`mooring_fuzz::cookie`], for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mooring_fuzz::cookie::check(data));
