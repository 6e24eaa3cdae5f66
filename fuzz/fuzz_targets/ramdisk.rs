//! Takes any bytes for a ramdisk. What counts as a failure is in `image::newc::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| image::newc::fuzzing::ramdisk(bytes));
