//! `cairn_fuzz::txn_check` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::txn_check(data));
