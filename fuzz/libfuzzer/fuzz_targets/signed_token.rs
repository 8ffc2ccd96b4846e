//! `cairn_fuzz::signed_token` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::signed_token(data));
