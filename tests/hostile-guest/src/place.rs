//! Where a hostile driver has its queues and buffers, and how far it goes beyond.

use crate::random::Random;

/// Bytes of the driver's memory: tables, available rings, used rings and buffers, a quarter each.
pub const AREA: u64 = 1 << 20;
/// Bytes of each part.
const PART: u64 = AREA / 4;
/// Room that anything a queue has needs: 256 descriptors of 16 bytes.
const QUEUE_ROOM: u64 = 0x1000;
/// Room that a buffer of usual length needs.
const BUFFER_ROOM: u64 = 0x1_1000;

/// The guest's memory as its hostile driver sees it.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Guest physical address of [`AREA`] bytes that are the driver's own. What begins in them may reach beyond by as much again:
    /// there is either no memory, or some that nobody uses.
    pub area: u64,
    /// Whether it lets devices write to any memory, its own code included, instead of to its buffers and used rings only. Such a
    /// guest does not live long.
    pub reckless: bool,
}

impl Place {
    /// Where they end.
    const fn end(&self) -> u64 {
        self.area.saturating_add(AREA)
    }

    /// An address in one of the parts, with this much room behind it.
    fn part(&self, number: u64, room: u64, align: u64, random: &mut Random) -> u64 {
        if self.reckless && random.once_in(8) {
            return random.below(self.end()) / align * align;
        }
        let start = self.area.saturating_add(number.saturating_mul(PART));
        start.saturating_add(random.below(PART.saturating_sub(room)) / align * align)
    }

    /// A place for descriptors, which devices only read.
    pub(crate) fn table(&self, random: &mut Random) -> u64 {
        self.part(0, QUEUE_ROOM, 16, random)
    }

    /// A place for an available ring, which devices only read.
    pub(crate) fn available(&self, random: &mut Random) -> u64 {
        self.part(1, QUEUE_ROOM, 2, random)
    }

    /// A place for a used ring.
    pub(crate) fn used(&self, random: &mut Random) -> u64 {
        self.part(2, QUEUE_ROOM, 4, random)
    }

    /// A place for a buffer that a device reads or writes.
    pub(crate) fn buffer(&self, random: &mut Random) -> u64 {
        self.part(3, BUFFER_ROOM, 8, random)
    }

    /// An address where nothing of anybody's is: behind the end, at the very end of all addresses, among devices.
    pub(crate) fn nowhere(&self, random: &mut Random) -> u64 {
        match random.below(4) {
            0 => self.end().saturating_add(random.below(1 << 20)),
            1 => random.bits() | 1 << 63,
            2 => u64::MAX.saturating_sub(random.below(64)),
            _ => 0xD000_0000_u64.saturating_add(random.below(0x2000)),
        }
    }

    /// An address that nobody else writes to at the same time, to be scribbled on: in rings or buffers, not in tables, where half
    /// a descriptor may be another one.
    pub(crate) fn scribble(&self, random: &mut Random) -> u64 {
        let part = 1_u64.saturating_add(random.below(3));
        self.part(part, QUEUE_ROOM, 8, random)
    }
}
