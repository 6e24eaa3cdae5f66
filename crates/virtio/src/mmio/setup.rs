//! One queue's configuration, as the driver writes it before `DRIVER_OK`.

use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// Bytes per descriptor, per available and per used entry, and of the rings' fixed fields (section 2.7).
const DESCRIPTOR_BYTES: u64 = 16;
const AVAILABLE_ENTRY_BYTES: u64 = 2;
const USED_ENTRY_BYTES: u64 = 8;
const RING_FIXED_BYTES: u64 = 6;

/// Alignments of the three parts (section 2.7).
const DESCRIPTOR_ALIGN: u64 = 16;
const AVAILABLE_ALIGN: u64 = 2;
const USED_ALIGN: u64 = 4;

/// Why a queue's configuration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The size is not a power of two from 1 to the maximum.
    #[error("queue size {size} is not a power of two up to {max}")]
    Size {
        /// What the driver wrote.
        size: u32,
        /// The largest the device supports.
        max: u16,
    },
    /// A part is not aligned as it must be.
    #[error("{part} at {address:#x} is not aligned to {align} bytes")]
    Alignment {
        /// Which part.
        part: &'static str,
        /// Guest address.
        address: u64,
        /// Bytes.
        align: u64,
    },
    /// A part is not in guest memory.
    #[error("{part} at {address:#x} is not in guest memory")]
    Range {
        /// Which part.
        part: &'static str,
        /// Guest address.
        address: u64,
    },
}

/// What the queue registers hold for one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueSetup {
    pub(super) max: u16,
    pub(super) size: u32,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    pub(super) ready: bool,
}

impl QueueSetup {
    /// The state after a reset.
    pub(super) fn new(max: u16) -> Self {
        Self { max, size: u32::from(max), descriptors: 0, available: 0, used: 0, ready: false }
    }

    /// Checks everything that the device will rely on.
    pub(super) fn validate(&self, memory: &GuestMemoryMmap) -> Result<(), SetupError> {
        let size = u64::from(self.checked_size()?);
        let ring = |entry| RING_FIXED_BYTES + entry * size;
        let table = DESCRIPTOR_BYTES * size;
        part(memory, "the descriptor table", self.descriptors, table, DESCRIPTOR_ALIGN)?;
        // virtio-queue takes an available ring at address 0 for a queue that was never set up.
        if self.available == 0 {
            return Err(SetupError::Range { part: "the available ring", address: 0 });
        }
        let available = ring(AVAILABLE_ENTRY_BYTES);
        part(memory, "the available ring", self.available, available, AVAILABLE_ALIGN)?;
        part(memory, "the used ring", self.used, ring(USED_ENTRY_BYTES), USED_ALIGN)
    }

    /// The queue so configured. Call `validate` first.
    pub(super) fn build(&self, event_index: bool) -> Result<Queue, SetupError> {
        let size = self.checked_size()?;
        let refused = |_| SetupError::Size { size: self.size, max: self.max };
        let mut queue = Queue::new(self.max).map_err(refused)?;
        queue.set_size(size);
        let (low, high) = halves(self.descriptors);
        queue.set_desc_table_address(low, high);
        let (low, high) = halves(self.available);
        queue.set_avail_ring_address(low, high);
        let (low, high) = halves(self.used);
        queue.set_used_ring_address(low, high);
        queue.set_event_idx(event_index);
        queue.set_ready(true);
        Ok(queue)
    }

    fn checked_size(&self) -> Result<u16, SetupError> {
        u16::try_from(self.size)
            .ok()
            .filter(|size| size.is_power_of_two() && *size <= self.max)
            .ok_or(SetupError::Size { size: self.size, max: self.max })
    }
}

fn part(
    memory: &GuestMemoryMmap,
    part: &'static str,
    address: u64,
    bytes: u64,
    align: u64,
) -> Result<(), SetupError> {
    if !address.is_multiple_of(align) {
        return Err(SetupError::Alignment { part, address, align });
    }
    let inside = usize::try_from(bytes).is_ok_and(|bytes| memory.check_range(GuestAddress(address), bytes));
    if inside { Ok(()) } else { Err(SetupError::Range { part, address }) }
}

/// The two 32-bit halves in which an address is written.
fn halves(address: u64) -> (Option<u32>, Option<u32>) {
    let low = u32::try_from(address & u64::from(u32::MAX)).ok();
    let high = u32::try_from(address >> 32).ok();
    (low, high)
}

/// Replaces the lower 32 bits.
pub(super) fn set_low(address: &mut u64, value: u32) {
    *address = (*address & !u64::from(u32::MAX)) | u64::from(value);
}

/// Replaces the upper 32 bits.
pub(super) fn set_high(address: &mut u64, value: u32) {
    *address = (*address & u64::from(u32::MAX)) | (u64::from(value) << 32);
}
