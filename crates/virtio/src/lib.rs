//! Virtio queues and devices, and the mmio transport.
//!
//! Specification: OASIS "Virtual I/O Device (VIRTIO) Version 1.2"; comments cite its sections.
//!
//! The parts and what each may assume:
//! - a [`VirtioDevice`] knows its queues and its configuration, and no transport;
//! - a [`ReadyQueue`] exists only after the driver has said `DRIVER_OK`: only a transport can make one, with a
//!   configuration it has checked and that nobody can change any more;
//! - a [`Chain`] taken from a queue lies in guest memory as a whole: its lengths are bounded and every range checked;
//! - [`IoVecs`] moves bytes between such chains and sockets without a copy;
//! - [`mmio::MmioTransport`] is the state machine between the driver's register accesses and a device.

// Beside the lints of the workspace; tests may.
#![cfg_attr(not(test), warn(clippy::string_slice))]

mod chain;
mod device;
mod guest_io;
mod interrupt;
pub mod mmio;
mod queue;
#[cfg(any(test, feature = "test-utils"))]
pub mod testing;

pub use chain::{Buffers, Chain, ChainError, MAX_CHAIN_BYTES, Segment};
pub use device::{ActivateError, Activation, DeviceError, VirtioDevice};
pub use guest_io::{GuestIoError, IoVecs, MAX_SEGMENTS};
pub use interrupt::Interrupt;
pub use queue::{QueueError, ReadyQueue};
