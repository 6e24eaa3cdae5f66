//! Descriptor chains: what the driver wrote in its descriptor tables, copied, checked, then used.
//!
//! VIRTIO 1.2 section 2.7.5 (descriptor table) and 2.7.5.3 (indirect descriptors).

use virtio_bindings::bindings::virtio_ring::VRING_DESC_F_INDIRECT;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::guest_io::GuestIoError;

/// The most bytes one chain may have, in each direction together. Drivers of our devices use at most 64 KiB and a
/// header; the limit keeps the work for one chain small.
pub const MAX_CHAIN_BYTES: u32 = 1024 * 1024;

/// Size of a descriptor in its table (section 2.7.5).
const DESCRIPTOR_BYTES: u64 = 16;

/// Why a chain was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A head or a next field points outside the table.
    #[error("descriptor {index} is outside its table of {size}")]
    Index {
        /// The descriptor asked for.
        index: u16,
        /// Number of descriptors in the table.
        size: u16,
    },
    /// The chain has more descriptors than the queue, so it must be a loop.
    #[error("a chain has more than {0} descriptors")]
    TooLong(u16),
    /// The chain has more bytes than [`MAX_CHAIN_BYTES`].
    #[error("a chain has more than {MAX_CHAIN_BYTES} bytes")]
    TooLarge,
    /// A buffer or table is not in guest memory.
    #[error("{length} bytes at {address:#x} are not all in guest memory")]
    Range {
        /// Guest address.
        address: u64,
        /// Length in bytes.
        length: u32,
    },
    /// A buffer the device may read follows one it may write (section 2.7.4.2 forbids it).
    #[error("a readable buffer follows a writable one")]
    Order,
    /// An indirect descriptor where there may be none: not negotiated, nested, or with a next field.
    #[error("an indirect descriptor where none is allowed")]
    Indirect,
    /// An indirect table whose length is not that of one or more descriptors, at most 65535.
    #[error("an indirect table of {0} bytes")]
    IndirectLength(u32),
}

/// A part of a buffer within one region of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Guest address.
    pub address: GuestAddress,
    /// Length in bytes, never zero.
    pub length: usize,
}

/// The readable or the writable buffers of a chain, all of them in guest memory.
#[derive(Debug, Default)]
pub struct Buffers {
    segments: Vec<Segment>,
    bytes: usize,
}

impl Buffers {
    /// Total length in bytes, at most [`MAX_CHAIN_BYTES`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is not a single byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The parts that hold `length` bytes from `offset` on, or as many as there are.
    pub fn segments(&self, offset: usize, length: usize) -> impl Iterator<Item = Segment> + '_ {
        let mut skip = offset;
        let mut left = length;
        self.segments.iter().filter_map(move |segment| {
            let skipped = skip.min(segment.length);
            skip -= skipped;
            let length = (segment.length - skipped).min(left);
            left -= length;
            let address = segment.address.checked_add(u64::try_from(skipped).ok()?)?;
            (length > 0).then_some(Segment { address, length })
        })
    }

    /// Copies bytes from `offset` on to `target`; returns how many there were.
    ///
    /// # Errors
    /// Guest memory could not be read.
    pub fn read(
        &self,
        memory: &GuestMemoryMmap,
        offset: usize,
        target: &mut [u8],
    ) -> Result<usize, GuestIoError> {
        let mut rest = target;
        let mut copied = 0;
        for segment in self.segments(offset, rest.len()) {
            let Some((part, tail)) = rest.split_at_mut_checked(segment.length) else { break };
            memory.read_slice(part, segment.address)?;
            copied += segment.length;
            rest = tail;
        }
        Ok(copied)
    }

    /// Copies `source` to the buffers from `offset` on; returns how many bytes there was room for.
    ///
    /// # Errors
    /// Guest memory could not be written.
    pub fn write(
        &self,
        memory: &GuestMemoryMmap,
        offset: usize,
        source: &[u8],
    ) -> Result<usize, GuestIoError> {
        let mut rest = source;
        let mut copied = 0;
        for segment in self.segments(offset, rest.len()) {
            let Some((part, tail)) = rest.split_at_checked(segment.length) else { break };
            memory.write_slice(part, segment.address)?;
            copied += segment.length;
            rest = tail;
        }
        Ok(copied)
    }

    fn clear(&mut self) {
        self.segments.clear();
        self.bytes = 0;
    }

    /// Adds a buffer, cut where it crosses from one region of guest memory into the next.
    fn push(&mut self, memory: &GuestMemoryMmap, descriptor: &Descriptor) -> Result<(), ChainError> {
        let length = descriptor.len();
        let outside = || ChainError::Range { address: descriptor.addr().raw_value(), length };
        let wanted = usize::try_from(length).map_err(|_| outside())?;
        let mut address = descriptor.addr();
        for slice in memory.get_slices(address, wanted) {
            let length = slice.map_err(|_| outside())?.len();
            self.segments.push(Segment { address, length });
            self.bytes += length;
            address =
                u64::try_from(length).ok().and_then(|step| address.checked_add(step)).ok_or_else(outside)?;
        }
        Ok(())
    }
}

/// A chain taken from a queue. Made once and filled again and again, so that taking a chain allocates nothing.
#[derive(Debug, Default)]
pub struct Chain {
    head: u16,
    readable: Buffers,
    writable: Buffers,
}

impl Chain {
    /// An empty chain for [`crate::ReadyQueue::pop`] to fill.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number the chain is returned under.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// What the device may read.
    #[must_use]
    pub fn readable(&self) -> &Buffers {
        &self.readable
    }

    /// What the device may write.
    #[must_use]
    pub fn writable(&self) -> &Buffers {
        &self.writable
    }

    /// Reads the chain that begins at `head` from the tables in guest memory.
    pub(crate) fn fill(
        &mut self,
        memory: &GuestMemoryMmap,
        head: u16,
        queue: Table,
        indirect_allowed: bool,
    ) -> Result<(), ChainError> {
        self.head = head;
        self.readable.clear();
        self.writable.clear();

        let mut table = queue;
        let mut index = head;
        let mut may_be_indirect = indirect_allowed;
        let mut total = 0u32;
        let mut buffers = 0;
        while buffers < queue.size {
            let descriptor = table.descriptor(memory, index)?;
            if is_indirect(&descriptor) {
                if !may_be_indirect || descriptor.has_next() {
                    return Err(ChainError::Indirect);
                }
                // At most once, so that this step, which counts no buffer, cannot repeat.
                may_be_indirect = false;
                table = Table::indirect(memory, &descriptor)?;
                index = 0;
                continue;
            }
            total = total
                .checked_add(descriptor.len())
                .filter(|total| *total <= MAX_CHAIN_BYTES)
                .ok_or(ChainError::TooLarge)?;
            self.push(memory, &descriptor)?;
            buffers += 1;
            if !descriptor.has_next() {
                return Ok(());
            }
            index = descriptor.next();
        }
        Err(ChainError::TooLong(queue.size))
    }

    fn push(&mut self, memory: &GuestMemoryMmap, descriptor: &Descriptor) -> Result<(), ChainError> {
        if descriptor.is_write_only() {
            self.writable.push(memory, descriptor)
        } else if self.writable.is_empty() {
            self.readable.push(memory, descriptor)
        } else {
            Err(ChainError::Order)
        }
    }
}

/// A table of descriptors in guest memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub(crate) address: GuestAddress,
    pub(crate) size: u16,
}

impl Table {
    /// The table that an indirect descriptor points to.
    fn indirect(memory: &GuestMemoryMmap, descriptor: &Descriptor) -> Result<Self, ChainError> {
        let bytes = u64::from(descriptor.len());
        let size = u16::try_from(bytes / DESCRIPTOR_BYTES)
            .ok()
            .filter(|size| *size > 0 && bytes.is_multiple_of(DESCRIPTOR_BYTES))
            .ok_or(ChainError::IndirectLength(descriptor.len()))?;
        let length = usize::try_from(bytes).map_err(|_| ChainError::IndirectLength(descriptor.len()))?;
        if !memory.check_range(descriptor.addr(), length) {
            return Err(ChainError::Range {
                address: descriptor.addr().raw_value(),
                length: descriptor.len(),
            });
        }
        Ok(Self { address: descriptor.addr(), size })
    }

    /// A private copy of one descriptor.
    fn descriptor(&self, memory: &GuestMemoryMmap, index: u16) -> Result<Descriptor, ChainError> {
        if index >= self.size {
            return Err(ChainError::Index { index, size: self.size });
        }
        let outside = ChainError::Range { address: self.address.raw_value(), length: u32::from(index) };
        let address = self.address.checked_add(u64::from(index) * DESCRIPTOR_BYTES).ok_or(outside)?;
        memory.read_obj(address).map_err(|_| outside)
    }
}

fn is_indirect(descriptor: &Descriptor) -> bool {
    u32::from(descriptor.flags()) & VRING_DESC_F_INDIRECT != 0
}
