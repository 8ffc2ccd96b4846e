//! `cairn_fuzz::etcd_log` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::etcd_log(data));
