//! Takes any bytes for a policy of a key, and of a caller. `kms::policy::fuzzing` says what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kms::policy::fuzzing::policy(bytes);
});
