//! [`mooring_fuzz::store_answer`], for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mooring_fuzz::store_answer::check(data));
