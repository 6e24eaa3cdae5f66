//! Any bytes as the kernel of an image, placed into memory of any size beside a ramdisk of any length.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "test code: a failed assumption is a failed test"
)]

#[cfg(test)]
mod tests;

use vm_memory::GuestMemoryMmap;

use super::super::registers;
use super::*;
use crate::arch::layout::MMIO_HOLE;

const MIB: u64 = 1 << 20;
/// A machine in which everything has room, on both sides of the hole.
const LARGE: u64 = 80 << 30;
/// What lies where nothing may be written.
const GUARD: [u8; 64] = [0xa5; 64];

/// Takes an input for a machine (five bytes: MiB of memory, virtual CPUs, bytes of the command line, KiB of ramdisk
/// in two) and a kernel. True if the kernel could be placed.
///
/// # Panics
/// The kernel, the ramdisk or the first instruction lies where it must not.
pub fn kernel(data: &[u8]) -> bool {
    let Some((&[memory_mib, vcpus, command_line, low, high], bytes)) = data.split_first_chunk() else {
        return false;
    };
    let Ok(kernel) = Kernel::parse(bytes.to_vec()) else { return false };
    let footprint = kernel.footprint();
    assert!(footprint.guest_address >= HIGH_MEMORY && footprint.end() <= MMIO_HOLE && footprint.length > 0);
    let ramdisk_length = u64::from(u16::from_le_bytes([low, high])) << 10;
    assert!(
        kernel.memory_needed(ramdisk_length, ramdisk_length) > footprint.end().saturating_add(ramdisk_length)
    );
    find_ramdisk(&kernel, &ram_ranges(LARGE), ramdisk_length << 8);

    let memory_bytes = (u64::from(memory_mib % 64) + 1) * MIB;
    let ranges = ram_ranges(memory_bytes);
    let ramdisk = find_ramdisk(&kernel, &ranges, ramdisk_length).map(|address| (address, ramdisk_length));
    let length = usize::try_from(memory_bytes).expect("a length");
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), length)]).expect("memory");
    let guards = guards(footprint, ramdisk, memory_bytes);
    for guard in &guards {
        memory.write_slice(&GUARD, *guard).expect("a guard in memory");
    }
    let command_line = vec![b'x'; usize::from(command_line) << 4];
    let entry = match kernel.place(&memory, &command_line, ramdisk, vcpus.into()) {
        Ok(entry) => entry,
        Err(BootError::RamdiskMisplaced { .. } | BootError::Memory(_)) => panic!("it was said to fit"),
        Err(_) => return false,
    };
    for guard in guards {
        let mut found = [0; GUARD.len()];
        memory.read_slice(&mut found, guard).expect("a guard in memory");
        assert_eq!(found, GUARD, "something was written at {:#x}", guard.0);
    }
    let (EntryPoint::Linux64 { instruction, .. } | EntryPoint::Pvh { instruction, .. }) = entry;
    assert!(footprint.contains(instruction, 1), "it begins at {instruction:#x}, outside of itself");
    true
}

/// The registers for any entry.
pub(crate) fn set_registers(entry: EntryPoint) {
    let _ = (registers::general(entry), registers::system(entry, kvm_bindings::kvm_sregs::default()));
}

/// Where the ramdisk goes, if it fits.
fn find_ramdisk(kernel: &Kernel, ranges: &[RamRange], length: u64) -> Option<u64> {
    let address = kernel.initrd_address(ranges, length).ok()?;
    assert!(address.is_multiple_of(PAGE) && address >= kernel.footprint().end());
    assert!(ranges.iter().any(|range| range.contains(address, length)), "outside of the memory");
    assert!(address + length <= kernel.ramdisk_limit());
    Some(address)
}

/// Places right behind the kernel, and at both ends of the ramdisk, that fit into the memory.
fn guards(footprint: RamRange, ramdisk: Option<(u64, u64)>, memory_bytes: u64) -> Vec<GuestAddress> {
    let length = to_u64(GUARD.len());
    let mut places = vec![footprint.end()];
    if let Some((address, ramdisk_length)) =
        ramdisk.filter(|(_, ramdisk_length)| *ramdisk_length >= 2 * length)
    {
        places.extend([address, address + ramdisk_length - length]);
    }
    places.retain(|place| place.checked_add(length).is_some_and(|end| end <= memory_bytes));
    places.into_iter().map(GuestAddress).collect()
}
