//! What commands and supervisors say to each other, and the state file. `enclave_hypervisor::fuzzing` says what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    enclave_hypervisor::fuzzing::control(data);
});
