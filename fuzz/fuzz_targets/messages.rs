//! The channels between the enclave's processes, each direction against any packets. `enclave_hypervisor::fuzzing` says
//! what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    enclave_hypervisor::fuzzing::messages(data);
});
