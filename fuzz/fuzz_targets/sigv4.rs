//! Takes any bytes for a signed request, and for an `Authorization` header. `kms_protocol::fuzzing` says what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kms_protocol::fuzzing::signed_request(bytes);
});
