//! The security module, against any requests of a guest. `nsm_device::module::fuzzing` says what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    nsm_device::module::fuzzing::nsm(data);
});
