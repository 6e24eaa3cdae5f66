//! Which devices the guest finds at which addresses, and who answers an access.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use virtio::VirtioDevice;
use virtio::mmio::MmioTransport;

use super::console::Console;
use crate::arch::layout::{VIRTIO_MMIO, VIRTIO_MMIO_SIZE};
use crate::arch::ports::{self, SerialPort};
use crate::exit_reason::ExitReason;

/// What memory that is not there reads as.
const ABSENT: u8 = 0xFF;

/// A device behind a range of guest physical addresses.
pub(super) trait MmioDevice: Send + Sync {
    /// The guest reads at `offset` from the start of the range.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// The guest writes there.
    fn write(&self, offset: u64, data: &[u8]);
    /// Readable while [`Self::handle_events`] has work.
    fn event_source(&self) -> BorrowedFd<'_>;
    /// Lets the device work, a bounded amount.
    fn handle_events(&self);
}

impl<D: VirtioDevice> MmioDevice for MmioTransport<D> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        Self::read(self, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        Self::write(self, offset, data);
    }

    fn event_source(&self) -> BorrowedFd<'_> {
        Self::event_source(self)
    }

    fn handle_events(&self) {
        Self::handle_events(self);
    }
}

impl SerialPort for Console {
    fn read(&self, register: u8) -> u8 {
        Self::read(self, register)
    }

    fn write(&self, register: u8, value: u8) {
        Self::write(self, register, value);
    }
}

/// The devices. Every virtual CPU's thread accesses them.
pub(super) struct Machine {
    console: Console,
    /// In the order of their addresses.
    virtio: Vec<Arc<dyn MmioDevice>>,
}

impl Machine {
    /// A machine with a console and virtio devices, which get their addresses by their order.
    pub(super) fn new(console: Console, virtio: Vec<Arc<dyn MmioDevice>>) -> Self {
        Self { console, virtio }
    }

    pub(super) fn read_port(&self, port: u16, data: &mut [u8]) {
        ports::read(&self.console, port, data);
    }

    /// Returns the reason if the access ends the machine.
    pub(super) fn write_port(&self, port: u16, data: &[u8]) -> Option<ExitReason> {
        ports::write(&self.console, port, data)
    }

    pub(super) fn read_memory(&self, address: u64, data: &mut [u8]) {
        match self.device_at(address) {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(ABSENT),
        }
    }

    pub(super) fn write_memory(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.device_at(address) {
            device.write(offset, data);
        }
    }

    fn device_at(&self, address: u64) -> Option<(&dyn MmioDevice, u64)> {
        let offset = address.checked_sub(VIRTIO_MMIO)?;
        let index = usize::try_from(offset / VIRTIO_MMIO_SIZE).ok()?;
        Some((self.virtio.get(index)?.as_ref(), offset % VIRTIO_MMIO_SIZE))
    }
}
