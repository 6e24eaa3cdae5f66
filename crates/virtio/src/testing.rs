//! The driver's side, for tests of devices: guest memory, a driver of the mmio transport, and the queues it sets up.
//!
//! It does what Linux's driver does, in its order, and lets a test do what no driver should.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "test code: a failed assumption is a failed test"
)]

pub mod fuzz;
mod probe;

use std::sync::atomic::{Ordering, fence};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::VirtioDevice;
use crate::mmio::MmioTransport;
use crate::mmio::registers as register;

pub use probe::Probe;

/// Descriptor flag: the chain goes on.
pub const NEXT: u16 = 1;
/// Descriptor flag: the device may write.
pub const WRITE: u16 = 2;
/// Descriptor flag: points to a table of descriptors.
pub const INDIRECT: u16 = 4;

/// Guest memory in two regions with a hole between them, as below and above a hole for devices: `length` bytes from 0
/// on, and as many from 16 times `length` on.
pub fn memory(length: usize) -> GuestMemoryMmap {
    let upper = u64::try_from(length).expect("a length") * 16;
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), length), (GuestAddress(upper), length)])
        .expect("guest memory")
}

/// The driver's side of a split queue.
#[derive(Debug)]
pub struct DriverQueue {
    memory: GuestMemoryMmap,
    size: u16,
    base: u64,
    free: Vec<u16>,
    /// For each head, the descriptors of its chain.
    chains: Vec<Vec<u16>>,
    next_available: u16,
    next_used: u16,
}

impl DriverQueue {
    /// Bytes that a queue of the largest size used in tests (256) occupies.
    pub const BYTES: u64 = 0x4000;

    /// A queue at `base`, which must be a multiple of 16.
    pub fn new(memory: &GuestMemoryMmap, base: u64, size: u16) -> Self {
        let queue = Self {
            memory: memory.clone(),
            size,
            base,
            free: (0..size).rev().collect(),
            chains: vec![Vec::new(); usize::from(size)],
            next_available: 0,
            next_used: 0,
        };
        let bytes = usize::try_from(Self::BYTES).expect("a length");
        memory.write_slice(&vec![0; bytes], GuestAddress(base)).expect("the queue is in memory");
        queue
    }

    /// Address of the descriptor table.
    pub fn descriptors(&self) -> u64 {
        self.base
    }

    /// Address of the available ring.
    pub fn available(&self) -> u64 {
        self.base + 16 * u64::from(self.size)
    }

    /// Address of the used ring.
    pub fn used(&self) -> u64 {
        let end = self.available() + 6 + 2 * u64::from(self.size);
        end.next_multiple_of(4)
    }

    /// Writes a descriptor.
    pub fn write_descriptor(&self, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        write_descriptor(&self.memory, self.descriptors(), index, (address, length, flags, next));
    }

    /// Offers a chain of (address, length) buffers; None if there are not enough descriptors.
    pub fn add(&mut self, readable: &[(u64, u32)], writable: &[(u64, u32)]) -> Option<u16> {
        let count = readable.len() + writable.len();
        if count == 0 || count > self.free.len() {
            return None;
        }
        let indices = self.free.split_off(self.free.len() - count);
        let flagged = readable.iter().map(|buffer| (buffer, 0));
        let flagged = flagged.chain(writable.iter().map(|buffer| (buffer, WRITE)));
        for (at, (&(address, length), flags)) in flagged.enumerate() {
            let next = indices.get(at + 1).copied();
            let flags = flags | next.map_or(0, |_| NEXT);
            self.write_descriptor(indices[at], address, length, flags, next.unwrap_or(0));
        }
        let head = indices[0];
        self.chains[usize::from(head)] = indices;
        self.offer(head);
        Some(head)
    }

    /// Puts a head into the available ring, whatever it leads to.
    pub fn offer(&mut self, head: u16) {
        let slot = u64::from(self.next_available % self.size);
        let address = GuestAddress(self.available() + 4 + 2 * slot);
        self.memory.write_obj(head.to_le(), address).expect("the ring is in memory");
        self.next_available = self.next_available.wrapping_add(1);
        self.set_available_index(self.next_available);
    }

    /// Writes the available ring's index, whatever is in the ring.
    pub fn set_available_index(&mut self, index: u16) {
        self.next_available = index;
        fence(Ordering::SeqCst);
        let address = GuestAddress(self.available() + 2);
        self.memory.store(index.to_le(), address, Ordering::Release).expect("the ring is in memory");
    }

    /// Writes `used_event`: the device is to interrupt when it has used the buffer with this number.
    pub fn set_used_event(&self, index: u16) {
        let address = GuestAddress(self.available() + 4 + 2 * u64::from(self.size));
        self.memory.store(index.to_le(), address, Ordering::SeqCst).expect("the ring is in memory");
    }

    /// The available index at which the device wants to be notified.
    pub fn avail_event(&self) -> u16 {
        let address = GuestAddress(self.used() + 4 + 8 * u64::from(self.size));
        u16::from_le(self.memory.load(address, Ordering::SeqCst).expect("the ring is in memory"))
    }

    /// Writes the available ring's flags: 1 asks for no interrupts where there is no event index.
    pub fn set_available_flags(&self, flags: u16) {
        self.memory.write_obj(flags.to_le(), GuestAddress(self.available())).expect("the ring is in memory");
    }

    /// The next chain that the device has used: its head and how many bytes were written.
    pub fn take_used(&mut self) -> Option<(u16, u32)> {
        let index: u16 = self
            .memory
            .load(GuestAddress(self.used() + 2), Ordering::Acquire)
            .expect("the ring is in memory");
        if u16::from_le(index) == self.next_used {
            return None;
        }
        let slot = u64::from(self.next_used % self.size);
        let entry: [u32; 2] =
            self.memory.read_obj(GuestAddress(self.used() + 4 + 8 * slot)).expect("the ring is in memory");
        self.next_used = self.next_used.wrapping_add(1);
        let head = u16::try_from(u32::from_le(entry[0])).expect("the device used a descriptor's number");
        self.free.append(&mut self.chains[usize::from(head)]);
        Some((head, u32::from_le(entry[1])))
    }

    /// How many chains have been taken by [`Self::take_used`].
    pub fn next_used(&self) -> u16 {
        self.next_used
    }

    /// Descriptors that are not in use.
    pub fn free_descriptors(&self) -> usize {
        self.free.len()
    }
}

/// Writes a descriptor (address, length, flags, next) into a table.
pub fn write_descriptor(memory: &GuestMemoryMmap, table: u64, index: u16, descriptor: (u64, u32, u16, u16)) {
    let (address, length, flags, next) = descriptor;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address.to_le_bytes());
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    let at = GuestAddress(table + 16 * u64::from(index));
    memory.write_slice(&bytes, at).expect("the table is in memory");
}

/// A driver of a device behind the mmio transport.
#[derive(Debug)]
pub struct Driver<D> {
    /// The device's registers.
    pub transport: MmioTransport<D>,
    /// Guest memory.
    pub memory: GuestMemoryMmap,
    /// The device's interrupt.
    pub irq: EventFd,
    /// The queues, once set up.
    pub queues: Vec<DriverQueue>,
}

impl<D: VirtioDevice> Driver<D> {
    /// Connects a device to memory, an interrupt and notifications. Does not touch a register yet.
    pub fn new(device: D, memory: GuestMemoryMmap) -> Self {
        let eventfd = || EventFd::new(EFD_NONBLOCK).expect("an eventfd");
        let irq = eventfd();
        let kicks = device.queue_max_sizes().iter().map(|_| eventfd()).collect();
        let raised = irq.try_clone().expect("an eventfd");
        let transport = MmioTransport::new(device, memory.clone(), raised, kicks).expect("a transport");
        Self { transport, memory, irq, queues: Vec::new() }
    }

    /// Writes a register.
    pub fn write(&self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    /// Reads a register.
    pub fn read(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.transport.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Adds a bit to the status, as drivers do.
    pub fn add_status(&self, bit: u32) {
        self.write(register::STATUS, self.read(register::STATUS) | bit);
    }

    /// Resets the device and goes as far as agreeing on all features it offers except `without`.
    pub fn negotiate(&self, without: u64) {
        self.write(register::STATUS, 0);
        self.add_status(register::ACKNOWLEDGE);
        self.add_status(register::DRIVER);
        for (selector, without) in [(0, without), (1, without >> 32)] {
            self.write(register::DEVICE_FEATURES_SEL, selector);
            let offered = self.read(register::DEVICE_FEATURES);
            let without = u32::try_from(without & u64::from(u32::MAX)).expect("32 bits");
            self.write(register::DRIVER_FEATURES_SEL, selector);
            self.write(register::DRIVER_FEATURES, offered & !without);
        }
        self.add_status(register::FEATURES_OK);
    }

    /// Tells the device where a queue is.
    pub fn set_up_queue(&self, index: u32, queue: &DriverQueue) {
        self.write(register::QUEUE_SEL, index);
        self.write(register::QUEUE_NUM, u32::from(queue.size));
        for (low, high, address) in [
            (register::QUEUE_DESC_LOW, register::QUEUE_DESC_HIGH, queue.descriptors()),
            (register::QUEUE_DRIVER_LOW, register::QUEUE_DRIVER_HIGH, queue.available()),
            (register::QUEUE_DEVICE_LOW, register::QUEUE_DEVICE_HIGH, queue.used()),
        ] {
            self.write(low, u32::try_from(address & u64::from(u32::MAX)).expect("32 bits"));
            self.write(high, u32::try_from(address >> 32).expect("32 bits"));
        }
        self.write(register::QUEUE_READY, 1);
    }

    /// Resets the device and makes it ready, with fresh queues of its largest sizes from address 0x1000 on.
    pub fn start(&mut self, without: u64) {
        self.negotiate(without);
        self.queues.clear();
        let mut base = 0x1000;
        for index in 0.. {
            self.write(register::QUEUE_SEL, index);
            let Ok(size) = u16::try_from(self.read(register::QUEUE_NUM_MAX)) else { break };
            if size == 0 {
                break;
            }
            let queue = DriverQueue::new(&self.memory, base, size);
            self.set_up_queue(index, &queue);
            self.queues.push(queue);
            base += DriverQueue::BYTES;
        }
        self.add_status(register::DRIVER_OK);
    }

    /// Notifies the device of a queue.
    pub fn kick(&self, queue: u32) {
        self.write(register::QUEUE_NOTIFY, queue);
    }

    /// Interrupts since the last call.
    pub fn interrupts(&self) -> u64 {
        self.irq.read().unwrap_or(0)
    }
}

/// How many cases a property test tries: `usual`, or what `PROPTEST_CASES` says, for long runs.
pub fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}
