//! The vsock device, against any packets and any host programs. `_ = vsock_device::testing::fuzz` says what holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    vsock_device::testing::fuzz::vsock(data);
});
