//! `cairn_fuzz::http2_connection` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::http2_connection(data));
