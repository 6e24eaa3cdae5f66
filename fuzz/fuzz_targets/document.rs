//! Takes any bytes for an attestation document, and for a certificate. `attestation::fuzzing` says what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    attestation::fuzzing::document(bytes);
});
