//! `struct boot_params`, what the Linux boot protocol hands to a kernel (Documentation/arch/x86/zero-page.rst).

use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::boot::{BootError, RamRange, Ramdisk};
use super::layout::{ACPI_TABLES, COMMAND_LINE, ZERO_PAGE};
use super::memory_map::memory_map;

/// "A boot loader without a number of its own."
const LOADER_UNDEFINED: u8 = 0xFF;
/// `loadflags`: the boot loader set up a heap for real-mode code. We run none.
const CAN_USE_HEAP: u8 = 0x80;
/// `vid_mode`: the ordinary one.
const VIDEO_MODE_NORMAL: u16 = 0xFFFF;

/// A header for an ELF kernel, which carries none: what Linux itself reads of it when started at its 64-bit entry.
pub(super) fn header_for_elf() -> setup_header {
    setup_header {
        boot_flag: 0xAA55,
        header: 0x5372_6448,
        version: 0x020C,
        loadflags: 1,
        kernel_alignment: 0x100_0000,
        ..setup_header::default()
    }
}

/// Writes the zero page.
pub(super) fn write(
    memory: &GuestMemoryMmap,
    ranges: &[RamRange],
    kernel_header: setup_header,
    ramdisk: Option<Ramdisk>,
) -> Result<(), BootError> {
    let mut header = kernel_header;
    header.type_of_loader = LOADER_UNDEFINED;
    header.loadflags &= !CAN_USE_HEAP;
    header.vid_mode = VIDEO_MODE_NORMAL;
    // Below 1 MiB, so the upper halves are zero.
    header.cmd_line_ptr = low_half(COMMAND_LINE);
    // A list in memory that nobody has written.
    header.setup_data = 0;
    let mut params = boot_params { acpi_rsdp_addr: ACPI_TABLES, ..boot_params::default() };
    let Ramdisk { address, length } = ramdisk.unwrap_or(Ramdisk { address: 0, length: 0 });
    header.ramdisk_image = low_half(address);
    header.ramdisk_size = low_half(length);
    params.ext_ramdisk_image = low_half(address >> 32);
    params.ext_ramdisk_size = low_half(length >> 32);
    params.hdr = header;
    for (slot, entry) in params.e820_table.iter_mut().zip(memory_map(ranges)) {
        *slot = boot_e820_entry {
            addr: entry.range.guest_address,
            size: entry.range.length,
            r#type: entry.kind as u32,
        };
        params.e820_entries = params.e820_entries.saturating_add(1);
    }
    Ok(memory.write_obj(params, GuestAddress(ZERO_PAGE))?)
}

/// The low 32 bits.
fn low_half(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default()
}
