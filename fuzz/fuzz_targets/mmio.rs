//! The virtio-mmio transport, against any sequence of register accesses. `virtio::testing::fuzz` says what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| virtio::testing::fuzz::mmio(data));
