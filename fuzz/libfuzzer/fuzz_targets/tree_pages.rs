//! `cairn_fuzz::tree_pages` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::tree_pages(data));
