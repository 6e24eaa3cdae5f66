//! What every virtio device does, whatever transport it is reached through.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

use crate::{Interrupt, QueueError, ReadyQueue};

/// A virtio device, without knowledge of its transport.
///
/// A transport calls the methods one at a time. The life of a device is any number of rounds of `activate`, some
/// `handle_events`, `reset`; `reset` may also come without a preceding `activate`.
pub trait VirtioDevice: Send {
    /// The device's type (VIRTIO 1.2 section 5).
    fn device_id(&self) -> u32;

    /// The device's own feature bits (0 to 23 and 50 up). The transport adds those of queues and of the transport.
    fn device_features(&self) -> u64;

    /// The largest size of each queue, in the order of the device's specification; powers of two.
    fn queue_max_sizes(&self) -> &[u16];

    /// Reads `data.len()` bytes of configuration space at `offset`; bytes past its end read as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Takes the queues: from now on the driver may use the device.
    ///
    /// # Errors
    /// The device cannot work with what it was given; the transport then tells the driver that it needs a reset.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError>;

    /// Gives up the queues and everything that came from the driver. The device can be activated again.
    fn reset(&mut self);

    /// A descriptor (an epoll set) that is readable while `handle_events` has work. It stays the same for the
    /// device's life, whether active or not.
    fn event_source(&self) -> BorrowedFd<'_>;

    /// Does a bounded amount of work; what is left keeps `event_source` readable. Called in any state: an inactive
    /// device still has to take the events that come from the host.
    ///
    /// # Errors
    /// The device cannot go on. The transport resets it and tells the driver that it needs a reset.
    fn handle_events(&mut self) -> Result<(), DeviceError>;
}

/// What a device gets when the driver is ready.
#[derive(Debug)]
pub struct Activation {
    /// Guest memory; every queue lies in it.
    pub memory: GuestMemoryMmap,
    /// The features that driver and device have agreed on.
    pub features: u64,
    /// All queues of the device, in the order of [`VirtioDevice::queue_max_sizes`].
    pub queues: Vec<ReadyQueue>,
    /// For configuration changes; queues signal their own completions.
    pub interrupt: Arc<Interrupt>,
}

/// Why a device could not be activated.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// The transport handed over another number of queues than the device has.
    #[error("the device has {expected} queues, but {found} were handed to it")]
    QueueCount {
        /// How many the device has.
        expected: usize,
        /// How many it was given.
        found: usize,
    },
    /// The host refused a system call that the device needs.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why an active device stopped.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The driver broke the rules of its queues.
    #[error("the driver misused a queue: {0}")]
    Queue(#[from] QueueError),
    /// The driver broke the rules of the device.
    #[error("the driver broke the device's protocol: {0}")]
    Protocol(&'static str),
    /// The host refused a system call that the device needs.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}
