//! Takes any bytes for the kernel of an image. `enclave_hypervisor::fuzzing` says what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    enclave_hypervisor::fuzzing::kernel(data);
});
