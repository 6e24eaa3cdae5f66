//! The NSM device between any guest and any security module. `enclave_hypervisor::fuzzing` says what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| enclave_hypervisor::fuzzing::nsm_shim(data));
