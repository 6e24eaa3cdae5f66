//! Guests of a few instructions in the real virtual machine process, on whatever /dev/kvm there is.
//!
//! Each test writes machine code to guest memory, enters it as a 64-bit kernel would be, and looks at what comes out
//! of the serial port and how the machine ends. A machine without /dev/kvm cannot run them and says so.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed assumption in a test is a failed test"
)]

#[path = "../vm_support/mod.rs"]
mod vm_support;

mod code;
mod driver;
mod endings;
mod executor;
mod guest;
mod hostile;
mod memory;
mod nsm;
mod processor;
mod virtio;
mod vsock;
