//! Where the guest's memory lies, and how the guest is told (the e820 map).

use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::layout::{ACPI_TABLES, HIGH_MEMORY, LOW_MEMORY_END, MMIO_HOLE, MMIO_HOLE_END, VIDEO_HOLE};

/// One range of guest memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamRange {
    /// Guest physical address of the first byte.
    pub guest_address: u64,
    /// Length.
    pub length: u64,
}

impl RamRange {
    /// One past the last address.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.guest_address.saturating_add(self.length)
    }

    /// Whether `length` bytes at `address` lie in the range.
    #[must_use]
    pub fn contains(&self, address: u64, length: u64) -> bool {
        address >= self.guest_address && address.checked_add(length).is_some_and(|end| end <= self.end())
    }
}

/// Kinds of memory in the e820 map (ACPI 6.5 table 15.4; the PVH memory map uses the same numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryKind {
    /// Free to use.
    Ram = 1,
    /// Not to be touched.
    Reserved = 2,
    /// ACPI tables.
    Acpi = 3,
}

/// One entry of the e820 map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryMapEntry {
    /// The addresses.
    pub range: RamRange,
    /// What they are for.
    pub kind: MemoryKind,
}

/// Where `memory_bytes` of memory lie: from zero up to the hole below 4 GiB, and what is left from 4 GiB on.
#[must_use]
pub fn ram_ranges(memory_bytes: u64) -> Vec<RamRange> {
    let low = memory_bytes.min(MMIO_HOLE);
    let high = memory_bytes.saturating_sub(low);
    [(0, low), (MMIO_HOLE_END, high)]
        .into_iter()
        .filter(|&(_, length)| length > 0)
        .map(|(guest_address, length)| RamRange { guest_address, length })
        .collect()
}

/// The ranges of memory that is already mapped, ascending; ranges that touch are one.
#[must_use]
pub fn ranges_of(memory: &GuestMemoryMmap) -> Vec<RamRange> {
    let mut ranges: Vec<RamRange> = Vec::new();
    for region in memory.iter() {
        let next = RamRange { guest_address: region.start_addr().raw_value(), length: region.len() };
        match ranges.last_mut() {
            Some(last) if last.end() == next.guest_address => {
                last.length = last.length.saturating_add(next.length);
            }
            _ => ranges.push(next),
        }
    }
    ranges
}

/// The e820 map of a machine with this memory: all of it, less the legacy area below 1 MiB.
#[must_use]
pub fn memory_map(ranges: &[RamRange]) -> Vec<MemoryMapEntry> {
    let legacy = [
        (0, LOW_MEMORY_END, MemoryKind::Ram),
        (LOW_MEMORY_END, VIDEO_HOLE, MemoryKind::Reserved),
        (ACPI_TABLES, HIGH_MEMORY, MemoryKind::Acpi),
    ];
    let above =
        ranges.iter().map(|range| (range.guest_address.max(HIGH_MEMORY), range.end(), MemoryKind::Ram));
    legacy
        .into_iter()
        .chain(above)
        .filter(|&(start, end, _)| start < end)
        .map(|(start, end, kind)| MemoryMapEntry {
            range: RamRange { guest_address: start, length: end.saturating_sub(start) },
            kind,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn memory_that_fits_below_the_hole_is_one_range() {
        assert_eq!(ram_ranges(MMIO_HOLE), [RamRange { guest_address: 0, length: MMIO_HOLE }]);
        assert!(ram_ranges(0).is_empty());
    }

    #[test]
    fn one_page_more_goes_above_four_gibibytes() {
        let ranges = ram_ranges(MMIO_HOLE + 4096);
        assert_eq!(ranges.len(), 2);
        assert_eq!(ranges[1], RamRange { guest_address: MMIO_HOLE_END, length: 4096 });
    }

    #[test]
    fn touching_regions_become_one_range() {
        use vm_memory::GuestAddress;
        let regions =
            [(GuestAddress(0), 0x1000), (GuestAddress(0x1000), 0x3000), (GuestAddress(0x1_0000), 0x1000)];
        let memory = GuestMemoryMmap::from_ranges(&regions).unwrap();
        assert_eq!(
            ranges_of(&memory),
            [
                RamRange { guest_address: 0, length: 0x4000 },
                RamRange { guest_address: 0x1_0000, length: 0x1000 }
            ]
        );
    }

    proptest! {
        #[test]
        fn the_map_tells_all_memory_once(mib in 2u64..1 << 22) {
            let bytes = mib * MIB;
            let ranges = ram_ranges(bytes);
            prop_assert_eq!(ranges.iter().map(|range| range.length).sum::<u64>(), bytes);
            let map = memory_map(&ranges);
            for pair in map.windows(2) {
                prop_assert!(pair[0].range.end() <= pair[1].range.guest_address, "{:?}", map);
            }
            for entry in &map {
                let range = entry.range;
                prop_assert!(range.length > 0);
                prop_assert!(range.end() <= MMIO_HOLE || range.guest_address >= MMIO_HOLE_END);
                prop_assert!(ranges.iter().any(|ram| ram.contains(range.guest_address, range.length)));
            }
            let told: u64 = map.iter().map(|entry| entry.range.length).sum();
            // All but what a PC has no memory at: 0xA0000 to 0xE0000.
            prop_assert_eq!(told, bytes - (ACPI_TABLES - VIDEO_HOLE));
        }
    }
}
