//! `cairn_fuzz::permissions` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::permissions(data));
