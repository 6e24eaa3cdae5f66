//! Takes any bytes for the documents of a container image. `image::fuzzing` says what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    image::fuzzing::layout(data);
});
