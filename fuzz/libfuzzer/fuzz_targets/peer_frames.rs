//! `cairn_fuzz::peer_frames` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::peer_frames(data));
