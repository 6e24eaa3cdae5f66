//! The interrupt of a device: why it was raised, and the eventfd that KVM turns into an interrupt.

use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

/// Bit 0 of InterruptStatus: the device has used a buffer (VIRTIO 1.2 section 4.2.2).
const USED_BUFFER: u32 = 1;
/// Bit 1 of InterruptStatus: the configuration has changed, which includes "needs reset" (section 4.2.2).
const CONFIGURATION_CHANGE: u32 = 2;

/// Raises a device's interrupt. Shared by the device, its queues and the transport; takes no lock, so that a vCPU
/// that acknowledges an interrupt never waits for a device at work.
#[derive(Debug)]
pub struct Interrupt {
    status: AtomicU32,
    generation: AtomicU32,
    irq: EventFd,
}

impl Interrupt {
    /// An interrupt raised through `irq`, which the VM has connected to an edge-triggered interrupt line (irqfd).
    #[must_use]
    pub fn new(irq: EventFd) -> Self {
        Self { status: AtomicU32::new(0), generation: AtomicU32::new(0), irq }
    }

    /// Tells the driver that buffers have been used. Queues call this when the driver wants to know.
    pub fn signal_used(&self) {
        self.raise(USED_BUFFER);
    }

    /// Tells the driver that the configuration space has changed or that the device needs a reset.
    pub fn signal_configuration_change(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.raise(CONFIGURATION_CHANGE);
    }

    /// The bits of InterruptStatus that the driver has not acknowledged.
    pub fn status(&self) -> u32 {
        self.status.load(Ordering::SeqCst)
    }

    /// The driver has seen these bits.
    pub(crate) fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::SeqCst);
    }

    /// Forgets what was not acknowledged, as a device reset demands.
    pub(crate) fn clear(&self) {
        self.status.store(0, Ordering::SeqCst);
    }

    /// ConfigGeneration: differs after every change of the configuration space.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::SeqCst)
    }

    fn raise(&self, bit: u32) {
        self.status.fetch_or(bit, Ordering::SeqCst);
        // Writing fails only when the counter is at its maximum, which is an interrupt that is pending already.
        if let Err(error) = self.irq.write(1) {
            tracing::debug!(%error, "interrupt was pending already");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_stay_until_they_are_acknowledged() {
        let irq = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let interrupt = Interrupt::new(irq.try_clone().unwrap());
        interrupt.signal_used();
        interrupt.signal_configuration_change();
        assert_eq!(interrupt.status(), 3);
        assert_eq!(interrupt.generation(), 1);
        assert_eq!(irq.read().unwrap(), 2);
        interrupt.acknowledge(1);
        assert_eq!(interrupt.status(), 2);
        interrupt.clear();
        assert_eq!(interrupt.status(), 0);
    }

    #[test]
    fn a_full_counter_neither_blocks_nor_fails() {
        let irq = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        irq.write(u64::MAX - 1).unwrap();
        Interrupt::new(irq.try_clone().unwrap()).signal_used();
        assert_eq!(irq.read().unwrap(), u64::MAX - 1);
    }
}
