//! Takes any bytes for an attestation document, for a certificate, and for a policy that a report is made with. `attestation::fuzzing` says what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    attestation::fuzzing::document(bytes);
});
