//! From a kernel's bytes to the state in which the first virtual CPU starts.
//!
//! The supervisor parses the kernel from its private, measured buffer, asks where the ramdisks go, and when they are
//! there lets everything else be written: kernel, command line, zero page or PVH start information, memory map,
//! ACPI tables, page tables. Nothing here reads guest memory.

use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::bzimage::BzImage;
use super::elf::{Elf, ElfEntry};
use super::layout::{
    ADDRESS_SPACE_END, COMMAND_LINE, COMMAND_LINE_SPACE, HIGH_MEMORY, MAX_VCPUS, PVH_START_INFO, ZERO_PAGE,
};
use super::memory_map::ranges_of;
use super::{acpi, descriptor_tables, mp_table, pvh, zero_page};

pub use super::memory_map::{RamRange, ram_ranges};
pub use crate::messages::EntryPoint;

/// Ramdisks are put at multiples of this where there is room, so that they share no huge page with anything.
const HUGE_PAGE: u64 = 2 << 20;

/// Page size: what the boot protocol wants of a ramdisk's address.
const PAGE: u64 = 4096;

/// Memory a kernel needs for itself beyond its image before init runs, in bytes. Linux takes some 20 MiB for page
/// structures, per-CPU data and its own allocations on the smallest machines.
const WORKING_MEMORY: u64 = 32 << 20;

/// Times what the ramdisks unpack to that Linux needs as memory, beside the ramdisks themselves: its root file system takes at most
/// half of the memory.
const UNPACKED_FACTOR: u64 = 2;

/// The longest command line of a kernel that does not say what it takes: what Linux on x86 takes, less the
/// terminating zero (`COMMAND_LINE_SIZE` in arch/x86/include/asm/setup.h).
const DEFAULT_COMMAND_LINE_MAX: u64 = 2047;

/// Why a kernel cannot be booted.
#[derive(Debug, Error)]
pub enum BootError {
    /// Neither format was recognised.
    #[error("the kernel is neither a bzImage nor a 64-bit x86 ELF file")]
    NotAKernel,
    /// The kernel contradicts itself.
    #[error("the kernel is damaged: {0}")]
    Damaged(&'static str),
    /// Older than the 64-bit boot protocol.
    #[error(
        "the kernel speaks version {}.{} of the Linux boot protocol; at least 2.12 with a 64-bit entry \
         (Linux 3.8 with CONFIG_64BIT) is needed",
        version >> 8,
        version & 0xFF
    )]
    Protocol {
        /// What the header says: major version in the high byte.
        version: u16,
    },
    /// No way in.
    #[error("the kernel has no 64-bit entry: it must be built with CONFIG_64BIT")]
    No64BitEntry,
    /// The command line is longer than the kernel reads.
    #[error("the command line has {length} bytes, but this kernel reads at most {max}: shorten it")]
    CommandLineTooLong {
        /// Bytes in the command line, trailing zeros left out.
        length: u64,
        /// What the kernel takes.
        max: u64,
    },
    /// The machine is too small.
    #[error(
        "the image needs {} MiB of memory, but the enclave has {} MiB: give it at least the former",
        needed.div_ceil(1 << 20),
        available >> 20
    )]
    MemoryTooSmall {
        /// Bytes that would do.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// This kernel cannot be told about ramdisks where they would have to lie.
    #[error(
        "the ramdisks have {length} bytes, but this kernel takes them only between {lowest:#x} and {limit:#x}: \
         make them smaller or use a bzImage kernel that can load them above 4 GiB"
    )]
    RamdiskTooBig {
        /// Bytes in the ramdisks.
        length: u64,
        /// The first address they may have.
        lowest: u64,
        /// One past the last.
        limit: u64,
    },
    /// The ramdisks were put where they must not be.
    #[error("the ramdisks at {address:#x} with {length} bytes lie outside the memory or on the kernel")]
    RamdiskMisplaced {
        /// Where they are.
        address: u64,
        /// Their length.
        length: u64,
    },
    /// A number of virtual CPUs that the machine cannot have.
    #[error("{0} virtual CPUs were asked for: 1 to {MAX_VCPUS} are possible")]
    VcpuCount(u32),
    /// Memory that should be there is not.
    #[error("guest memory could not be written: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// A kernel that can be booted.
#[derive(Debug)]
pub struct Kernel {
    bytes: Vec<u8>,
    format: Format,
}

#[derive(Debug)]
enum Format {
    BzImage(BzImage),
    Elf(Elf),
}

/// Where a ramdisk lies in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ramdisk {
    pub(super) address: u64,
    pub(super) length: u64,
}

impl Kernel {
    /// Recognises and checks a kernel. The bytes must not change afterwards: hand over the buffer that was measured.
    ///
    /// # Errors
    /// What is wrong with the kernel.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BootError> {
        let format = if BzImage::recognise(&bytes) {
            Format::BzImage(BzImage::parse(&bytes)?)
        } else if Elf::recognise(&bytes) {
            Format::Elf(Elf::parse(&bytes)?)
        } else {
            return Err(BootError::NotAKernel);
        };
        Ok(Self { bytes, format })
    }

    /// Bytes of guest memory that are enough to boot with ramdisks of `packed` bytes in all, which unpack to `unpacked` bytes.
    /// Uncompressed ramdisks unpack to their own length.
    #[must_use]
    pub fn memory_needed(&self, packed: u64, unpacked: u64) -> u64 {
        let ramdisks = unpacked.saturating_mul(UNPACKED_FACTOR).saturating_add(packed);
        self.footprint().end().saturating_add(WORKING_MEMORY).saturating_add(ramdisks)
    }

    /// Where ramdisks of together at most `max_length` bytes go: as high as possible below the hole under 4 GiB,
    /// above it only if they do not fit below and the kernel can be told so.
    ///
    /// # Errors
    /// [`BootError::MemoryTooSmall`] or [`BootError::RamdiskTooBig`], which say what would do.
    pub fn initrd_address(&self, ranges: &[RamRange], max_length: u64) -> Result<u64, BootError> {
        let available = ranges.iter().map(|range| range.length).sum();
        let needed = self.memory_needed(max_length, max_length);
        let lowest = self.footprint().end();
        let limit = self.ramdisk_limit();
        // A multiple of a page's size keeps the arithmetic below exact.
        let length = max_length.max(1).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        if length > limit.saturating_sub(lowest) {
            return Err(BootError::RamdiskTooBig { length: max_length, lowest, limit });
        }
        ranges
            .iter()
            .find_map(|range| highest_address(range, lowest, limit, length))
            .ok_or(BootError::MemoryTooSmall { needed: needed.max(available), available })
    }

    /// Writes everything that the first instruction needs, the ramdisks excepted.
    ///
    /// `initrd` is the ramdisks' address and length. The command line is taken byte for byte; a zero byte ends it.
    ///
    /// # Errors
    /// What does not fit, or is too long.
    pub fn place(
        &self,
        memory: &GuestMemoryMmap,
        command_line: &[u8],
        initrd: Option<(u64, u64)>,
        vcpus: u32,
    ) -> Result<EntryPoint, BootError> {
        if !(1..=MAX_VCPUS).contains(&vcpus) {
            return Err(BootError::VcpuCount(vcpus));
        }
        self.check_command_line(command_line)?;
        let ranges = ranges_of(memory);
        let ramdisk = self.check_placement(&ranges, initrd)?;
        // Fresh memory is zero: so is what terminates the command line.
        memory.write_slice(command_line, GuestAddress(COMMAND_LINE))?;
        acpi::write(memory, vcpus)?;
        mp_table::write(memory, vcpus)?;
        match &self.format {
            Format::BzImage(kernel) => {
                memory.write_slice(kernel.body(&self.bytes)?, GuestAddress(kernel.load_address()))?;
                descriptor_tables::write(memory)?;
                zero_page::write(memory, &ranges, kernel.setup_header(), ramdisk)?;
                Ok(EntryPoint::Linux64 { instruction: kernel.entry(), boot_params: ZERO_PAGE })
            }
            Format::Elf(kernel) => {
                kernel.load(&self.bytes, memory)?;
                match kernel.entry() {
                    ElfEntry::Linux64(instruction) => {
                        descriptor_tables::write(memory)?;
                        zero_page::write(memory, &ranges, zero_page::header_for_elf(), ramdisk)?;
                        Ok(EntryPoint::Linux64 { instruction, boot_params: ZERO_PAGE })
                    }
                    ElfEntry::Pvh(instruction) => {
                        pvh::write(memory, &ranges, ramdisk)?;
                        Ok(EntryPoint::Pvh { instruction: instruction.into(), start_info: PVH_START_INFO })
                    }
                }
            }
        }
    }

    /// Memory that the kernel occupies from its first byte until it runs from its final place.
    fn footprint(&self) -> RamRange {
        match &self.format {
            Format::BzImage(kernel) => kernel.footprint(),
            Format::Elf(kernel) => kernel.footprint(),
        }
    }

    /// One past the highest address that a ramdisk may have.
    fn ramdisk_limit(&self) -> u64 {
        match &self.format {
            Format::BzImage(kernel) => kernel.ramdisk_limit(),
            Format::Elf(kernel) => match kernel.entry() {
                ElfEntry::Linux64(_) => ADDRESS_SPACE_END,
                ElfEntry::Pvh(_) => pvh::RAMDISK_LIMIT,
            },
        }
    }

    fn check_command_line(&self, command_line: &[u8]) -> Result<(), BootError> {
        let max = match &self.format {
            Format::BzImage(kernel) => kernel.command_line_max(),
            Format::Elf(_) => DEFAULT_COMMAND_LINE_MAX,
        };
        // The space reserved for it holds a terminating zero as well.
        let max = max.min(COMMAND_LINE_SPACE - 1);
        let trailing_zeros = command_line.iter().rev().take_while(|&&byte| byte == 0).count();
        let length = to_u64(command_line.len().saturating_sub(trailing_zeros));
        if length > max || to_u64(command_line.len()) >= COMMAND_LINE_SPACE {
            return Err(BootError::CommandLineTooLong { length, max });
        }
        Ok(())
    }

    fn check_placement(
        &self,
        ranges: &[RamRange],
        initrd: Option<(u64, u64)>,
    ) -> Result<Option<Ramdisk>, BootError> {
        let footprint = self.footprint();
        let inside = |address, length| ranges.iter().any(|range| range.contains(address, length));
        // From zero, so that everything below 1 MiB is there as well.
        if !inside(0, footprint.end()) {
            let available = ranges.iter().map(|range| range.length).sum();
            let ramdisks = initrd.map_or(0, |(_, length)| length);
            let needed = self.memory_needed(ramdisks, ramdisks).max(available);
            return Err(BootError::MemoryTooSmall { needed, available });
        }
        let Some((address, length)) = initrd.filter(|&(_, length)| length > 0) else {
            return Ok(None);
        };
        let end = address.saturating_add(length);
        if address < footprint.end() || !inside(address, length) || end > self.ramdisk_limit() {
            return Err(BootError::RamdiskMisplaced { address, length });
        }
        Ok(Some(Ramdisk { address, length }))
    }
}

/// The highest address in `range`, from `lowest` on and below `limit`, at which `length` bytes fit.
fn highest_address(range: &RamRange, lowest: u64, limit: u64, length: u64) -> Option<u64> {
    let highest = range.end().min(limit).checked_sub(length)?;
    let lowest = range.guest_address.max(lowest).max(HIGH_MEMORY);
    [HUGE_PAGE, PAGE]
        .into_iter()
        .map(|alignment| highest & !(alignment - 1))
        .find(|&address| address >= lowest)
}

/// Lossless on every machine this can run on.
pub(super) fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
