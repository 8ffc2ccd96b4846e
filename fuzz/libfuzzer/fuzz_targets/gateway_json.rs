//! `cairn_fuzz::gateway_json` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::gateway_json(data));
