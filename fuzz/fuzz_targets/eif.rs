//! Takes any bytes for an enclave image. What counts as a failure is in `eif::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| eif::fuzzing::image(bytes));
