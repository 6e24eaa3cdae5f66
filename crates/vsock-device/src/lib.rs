//! virtio-vsock: packets, connections, credit, and what answers at the host's end.
//!
//! Specification: VIRTIO 1.2 section 5.10. The guest reaches the host as CID 3 (the parent instance, as in AWS) and
//! as CID 2 (the specification's host) and is answered from the CID that it used. Anything else is reset.
//!
//! The parts, each knowing only those before it:
//! - [`packet`]: the header on the wire; `credit`: how many bytes may be under way;
//! - [`services`]: what the device answers itself; [`host`]: everything else at the host's end;
//! - `connection`: one connection's state; `muxer`: all of them; `delivery`: who gets the guest's next buffer;
//! - [`VsockDevice`]: the queues.
//!
//! Rules that hold throughout: bytes move between guest buffers and sockets without a copy as long as the socket takes
//! them; no packet from the guest waits for a buffer of the guest's; whatever a guest or a host program does, what is
//! kept for it is bounded by [`limits`].

// Beside the lints of the workspace; tests may.
#![cfg_attr(not(test), warn(clippy::string_slice))]

mod connection;
mod credit;
mod delivery;
mod device;
mod handshake;
pub mod host;
pub mod limits;
mod muxer;
pub mod packet;
mod poll;
mod rx;
pub mod services;
mod slab;
#[cfg(any(test, feature = "test-utils"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod timers;

pub use device::{DEVICE_ID, NewDeviceError, VsockDevice};
pub use host::{ConnectRequest, HostEnd, HostEvent};
pub use limits::Limits;
pub use services::{ApplicationEnd, GuestReport};
