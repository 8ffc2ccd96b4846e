//! `cairn_fuzz::wal_bytes` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::wal_bytes(data));
