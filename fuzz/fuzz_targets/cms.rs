//! Takes any bytes for an envelope of a key service, and for a recipient's public key. `kms_protocol::fuzzing` says what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kms_protocol::fuzzing::envelope(bytes);
});
