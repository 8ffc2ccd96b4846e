//! `cairn_fuzz::members_answer` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::members_answer(data));
