//! `cairn_fuzz::call_metadata` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::call_metadata(data));
