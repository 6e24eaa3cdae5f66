//! bzImage kernels, started at their 64-bit entry (Linux, Documentation/arch/x86/boot.rst).

use linux_loader::bootparam::setup_header;
use vm_memory::ByteValued;

use super::boot::{BootError, RamRange, to_u64};
use super::layout::{ADDRESS_SPACE_END, HIGH_MEMORY, MMIO_HOLE};

/// Offset of the setup header in the file, and in the zero page.
const HEADER_OFFSET: usize = 0x1F1;
/// The header ends this many bytes after the file's byte 0x201 says.
const HEADER_END_BASE: usize = 0x202;
/// "HdrS".
const HEADER_MAGIC: u32 = 0x5372_6448;
/// Mark of a boot sector.
const BOOT_FLAG: u16 = 0xAA55;
/// Bytes of one sector of the setup code.
const SECTOR: usize = 512;
/// Sectors of setup code if the header says zero.
const DEFAULT_SETUP_SECTORS: usize = 4;
/// First version of the protocol with `xloadflags`.
const OLDEST_PROTOCOL: u16 = 0x020C;
/// `loadflags`: the protected-mode code belongs at 1 MiB or above. Clear in a zImage.
const LOADED_HIGH: u8 = 1;
/// `xloadflags`: the kernel has a 64-bit entry.
const XLF_KERNEL_64: u16 = 1;
/// `xloadflags`: kernel, zero page, command line and ramdisk may lie above 4 GiB.
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 2;
/// Offset of the 64-bit entry from the start of the protected-mode code.
const ENTRY_64: u64 = 0x200;

/// What matters of a checked bzImage.
#[derive(Debug)]
pub(super) struct BzImage {
    header: setup_header,
    body_offset: usize,
    load_address: u64,
    /// Bytes from the load address on that belong to the kernel until it frees them.
    occupied: u64,
}

impl BzImage {
    /// Whether this claims to be a kernel with a setup header.
    pub(super) fn recognise(bytes: &[u8]) -> bool {
        read_header(bytes).is_some_and(|header| header.header == HEADER_MAGIC)
    }

    /// Checks everything that placing relies on.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BootError> {
        let header = read_header(bytes).ok_or(BootError::NotAKernel)?;
        check_protocol(&header)?;
        let sectors = match usize::from(header.setup_sects) {
            0 => DEFAULT_SETUP_SECTORS,
            sectors => sectors,
        };
        let body_offset = (sectors.saturating_add(1)).saturating_mul(SECTOR);
        let body_length = bytes.len().saturating_sub(body_offset);
        if body_length == 0 {
            return Err(BootError::Damaged("it ends within its setup code"));
        }
        // Where the kernel wants to run: loaded there, it does not have to move itself. A relocatable kernel that
        // is loaded lower moves there all the same.
        let load_address = header.pref_address;
        if !(HIGH_MEMORY..MMIO_HOLE).contains(&load_address) {
            return Err(BootError::Damaged("its preferred address is not between 1 MiB and 3 GiB"));
        }
        let occupied = u64::from(header.init_size).max(to_u64(body_length));
        if occupied <= ENTRY_64 || occupied > MMIO_HOLE.saturating_sub(load_address) {
            return Err(BootError::Damaged("its size in memory is impossible"));
        }
        Ok(Self { header, body_offset, load_address, occupied })
    }

    /// The protected-mode code.
    pub(super) fn body<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], BootError> {
        bytes.get(self.body_offset..).ok_or(BootError::Damaged("it ends within its setup code"))
    }

    /// Where the protected-mode code goes.
    pub(super) const fn load_address(&self) -> u64 {
        self.load_address
    }

    /// Address of the first instruction.
    pub(super) const fn entry(&self) -> u64 {
        self.load_address.saturating_add(ENTRY_64)
    }

    /// Memory in use until the kernel has unpacked itself and knows its ramdisk.
    pub(super) const fn footprint(&self) -> RamRange {
        RamRange { guest_address: self.load_address, length: self.occupied }
    }

    /// One past the highest address of a ramdisk.
    pub(super) fn ramdisk_limit(&self) -> u64 {
        if self.header.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G != 0 {
            ADDRESS_SPACE_END
        } else {
            u64::from(self.header.initrd_addr_max).saturating_add(1)
        }
    }

    /// The longest command line, without a terminating zero.
    pub(super) fn command_line_max(&self) -> u64 {
        self.header.cmdline_size.into()
    }

    /// The header for the zero page: the kernel's own, as the protocol demands.
    pub(super) const fn setup_header(&self) -> setup_header {
        self.header
    }
}

fn check_protocol(header: &setup_header) -> Result<(), BootError> {
    if header.boot_flag != BOOT_FLAG {
        return Err(BootError::Damaged("its boot sector has no mark"));
    }
    if header.version < OLDEST_PROTOCOL {
        return Err(BootError::Protocol { version: header.version });
    }
    if header.loadflags & LOADED_HIGH == 0 || header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(BootError::No64BitEntry);
    }
    Ok(())
}

/// The setup header with zeros where the file's is shorter than the one we know, or `None` if the file is too short.
fn read_header(bytes: &[u8]) -> Option<setup_header> {
    let end = HEADER_END_BASE.checked_add(usize::from(*bytes.get(0x201)?))?;
    let mut header = setup_header::default();
    let known = header.as_mut_slice();
    let found = bytes.get(HEADER_OFFSET..end)?;
    let length = found.len().min(known.len());
    known.get_mut(..length)?.copy_from_slice(found.get(..length)?);
    Some(header)
}
