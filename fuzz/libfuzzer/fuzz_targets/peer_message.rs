//! `cairn_fuzz::peer_message` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::peer_message(data));
