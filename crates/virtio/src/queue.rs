//! A queue that driver and device may use: the split virtqueue of VIRTIO 1.2 section 2.7.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use crate::chain::Table;
use crate::{Chain, ChainError, Interrupt};

/// Why a queue cannot go on. The driver broke a rule; the device needs a reset.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// A chain of descriptors was refused.
    #[error("bad descriptor chain: {0}")]
    Chain(#[from] ChainError),
    /// The rings say what they must not say, or are not in memory.
    #[error("bad ring: {0}")]
    Ring(#[from] virtio_queue::Error),
}

/// A queue after `DRIVER_OK`: its place and size have been checked and cannot change until the device is reset.
#[derive(Debug)]
pub struct ReadyQueue {
    queue: Queue,
    memory: GuestMemoryMmap,
    kick: Arc<EventFd>,
    interrupt: Arc<Interrupt>,
    indirect_allowed: bool,
}

impl ReadyQueue {
    /// For transports, which vouch that `queue` is valid in `memory` and that the driver is ready.
    pub(crate) fn new(
        queue: Queue,
        memory: GuestMemoryMmap,
        kick: Arc<EventFd>,
        interrupt: Arc<Interrupt>,
        indirect_allowed: bool,
    ) -> Self {
        Self { queue, memory, kick, interrupt, indirect_allowed }
    }

    /// Number of descriptors.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Becomes readable when the driver has made buffers available.
    #[must_use]
    pub fn kick(&self) -> BorrowedFd<'_> {
        borrow(&self.kick)
    }

    /// Makes `kick` unreadable until the driver's next notification.
    pub fn drain_kick(&self) {
        // An error says that there was nothing to read: the descriptor never blocks.
        let _nothing_pending = self.kick.read().is_err();
    }

    /// Takes the next chain into `chain`. False if the driver has made no more available.
    ///
    /// # Errors
    /// The driver broke the rules of queues. The device must be reset.
    pub fn pop(&mut self, chain: &mut Chain) -> Result<bool, QueueError> {
        let table = Table { address: GuestAddress(self.queue.desc_table()), size: self.queue.size() };
        let Some(head) = self.queue.iter(&self.memory)?.next().map(|chain| chain.head_index()) else {
            return Ok(false);
        };
        chain.fill(&self.memory, head, table, self.indirect_allowed)?;
        Ok(true)
    }

    /// Gives back the chain that was taken last, as if it had never been taken.
    pub fn undo_pop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Returns a chain to the driver, `length` bytes of it written. The driver is told by [`Self::signal`].
    ///
    /// # Errors
    /// The ring is not in memory any more, which cannot be: the device must be reset.
    pub fn add_used(&mut self, head: u16, length: u32) -> Result<(), QueueError> {
        Ok(self.queue.add_used(&self.memory, head, length)?)
    }

    /// Raises the interrupt if chains were returned since the last call and the driver wants to know.
    ///
    /// # Errors
    /// As for [`Self::add_used`].
    pub fn signal(&mut self) -> Result<(), QueueError> {
        if self.queue.needs_notification(&self.memory)? && !self.interrupts_suppressed() {
            self.interrupt.signal_used();
        }
        Ok(())
    }

    /// Asks the driver not to notify: the device is looking anyway. Only a hint.
    ///
    /// # Errors
    /// As for [`Self::add_used`].
    pub fn disable_notification(&mut self) -> Result<(), QueueError> {
        Ok(self.queue.disable_notification(&self.memory)?)
    }

    /// Asks the driver to notify again. True if chains came in the meantime, for which there may be no notification.
    ///
    /// # Errors
    /// As for [`Self::add_used`].
    pub fn enable_notification(&mut self) -> Result<bool, QueueError> {
        Ok(self.queue.enable_notification(&self.memory)?)
    }

    /// Guest memory, to read and write the buffers of chains.
    #[must_use]
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Where the queue is: its size, and the addresses of descriptors, available and used ring.
    #[cfg(any(test, feature = "test-utils"))]
    #[must_use]
    pub fn placement(&self) -> (u16, u64, u64, u64) {
        (self.queue.size(), self.queue.desc_table(), self.queue.avail_ring(), self.queue.used_ring())
    }

    /// The flag that takes the place of the event index where that was not negotiated (section 2.7.7).
    fn interrupts_suppressed(&self) -> bool {
        if self.queue.event_idx_enabled() {
            return false;
        }
        let flags: Result<u16, _> = self.memory.read_obj(GuestAddress(self.queue.avail_ring()));
        flags.is_ok_and(|flags| u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT != 0)
    }
}

/// Lets an `EventFd` be used where the standard library's descriptor types are wanted.
#[expect(unsafe_code, reason = "EventFd predates the standard library's descriptor types")]
pub(crate) fn borrow(eventfd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as the `EventFd` that the result borrows from.
    unsafe { BorrowedFd::borrow_raw(eventfd.as_raw_fd()) }
}

#[cfg(test)]
mod tests;
