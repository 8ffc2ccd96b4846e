//! `cairn_fuzz::hpack_block` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::hpack_block(data));
