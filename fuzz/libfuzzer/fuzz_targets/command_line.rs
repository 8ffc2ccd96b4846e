//! `cairn_fuzz::command_line` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::command_line(data));
