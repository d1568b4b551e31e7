//! [`mooring_fuzz::filter`], for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mooring_fuzz::filter::check(data));
