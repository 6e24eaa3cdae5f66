//! `struct hvm_start_info`, what the PVH entry hands to a kernel (Xen, xen/include/public/arch-x86/hvm/start_info.h).

use linux_loader::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::boot::{BootError, RamRange, Ramdisk, to_u64};
use super::layout::{ACPI_TABLES, COMMAND_LINE, MMIO_HOLE_END, PVH_START_INFO, ZERO_PAGE};
use super::memory_map::memory_map;

/// "xEn3" with the high bit of the first byte set.
const MAGIC: u32 = 0x336E_C578;
/// The version with a memory map.
const VERSION: u32 = 1;
/// The one module: the ramdisks.
const MODULE: u64 = PVH_START_INFO + 0x40;
/// The memory map.
const MEMORY_MAP: u64 = MODULE + 0x20;
/// Entries that fit before the zero page.
const MEMORY_MAP_MAX: u64 = (ZERO_PAGE - MEMORY_MAP) / 24;

/// One past the highest address of a ramdisk: Linux keeps 32 bits of what it is told here.
pub(super) const RAMDISK_LIMIT: u64 = MMIO_HOLE_END;

/// Writes the start information, the memory map and the module list.
pub(super) fn write(
    memory: &GuestMemoryMmap,
    ranges: &[RamRange],
    ramdisk: Option<Ramdisk>,
) -> Result<(), BootError> {
    let map = memory_map(ranges);
    if to_u64(map.len()) > MEMORY_MAP_MAX {
        return Err(BootError::Damaged("the memory has more pieces than the start information can tell"));
    }
    let mut entries: u32 = 0;
    let mut address = MEMORY_MAP;
    for entry in map {
        let entry = hvm_memmap_table_entry {
            addr: entry.range.guest_address,
            size: entry.range.length,
            type_: entry.kind as u32,
            reserved: 0,
        };
        memory.write_obj(entry, GuestAddress(address))?;
        address = address.saturating_add(24);
        entries = entries.saturating_add(1);
    }
    if let Some(ramdisk) = ramdisk {
        let module = hvm_modlist_entry { paddr: ramdisk.address, size: ramdisk.length, ..Default::default() };
        memory.write_obj(module, GuestAddress(MODULE))?;
    }
    let start_info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        nr_modules: u32::from(ramdisk.is_some()),
        modlist_paddr: if ramdisk.is_some() { MODULE } else { 0 },
        cmdline_paddr: COMMAND_LINE,
        rsdp_paddr: ACPI_TABLES,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: entries,
        ..Default::default()
    };
    Ok(memory.write_obj(start_info, GuestAddress(PVH_START_INFO))?)
}
