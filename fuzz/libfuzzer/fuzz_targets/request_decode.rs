//! `cairn_fuzz::request_decode` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::request_decode(data));
