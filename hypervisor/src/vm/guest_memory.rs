//! The guest's memory: regions of a descriptor that the supervisor owns, mapped into this process.
#![expect(unsafe_code, reason = "memory is mapped and advised by address")]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

use super::error::VmError;
use crate::messages::MemoryRegion;

/// Regions begin at multiples of this in our address space, so that huge pages can map them in the guest as well.
const HUGE_PAGE: usize = 2 << 20;
/// What regions must be multiples of.
const PAGE: u64 = 4096;
/// Regions that a machine may be made of.
const MAX_REGIONS: usize = 64;

/// Maps the regions. The mappings last as long as the process.
///
/// # Errors
/// A description that is not ascending, overlaps, is unaligned or reaches past the descriptor's end.
pub(super) fn map(descriptor: OwnedFd, regions: &[MemoryRegion]) -> Result<GuestMemoryMmap, VmError> {
    let file = Arc::new(File::from(descriptor));
    let length = file.metadata().map_err(VmError::system("reading the length of guest memory"))?.len();
    check(regions, length)?;
    let regions = regions
        .iter()
        .map(|region| map_region(&file, *region).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    GuestMemoryMmap::from_arc_regions(regions)
        .map_err(|_| VmError::Memory("its regions are out of order or overlap"))
}

fn check(regions: &[MemoryRegion], file_length: u64) -> Result<(), VmError> {
    if regions.is_empty() || regions.len() > MAX_REGIONS {
        return Err(VmError::Memory("it has no regions or too many"));
    }
    for region in regions {
        let numbers = [region.guest_address, region.length, region.offset];
        if region.length == 0 || numbers.iter().any(|number| !number.is_multiple_of(PAGE)) {
            return Err(VmError::Memory("a region is empty or not made of whole pages"));
        }
        // Past the end of the file, an access would end the process.
        if region.offset.checked_add(region.length).is_none_or(|end| end > file_length) {
            return Err(VmError::Memory("a region reaches past the end of the descriptor"));
        }
        if region.guest_address.checked_add(region.length).is_none() {
            return Err(VmError::Memory("a region reaches past the end of the address space"));
        }
    }
    Ok(())
}

fn map_region(file: &Arc<File>, region: MemoryRegion) -> Result<GuestRegionMmap, VmError> {
    let length = usize::try_from(region.length).map_err(|_| VmError::Memory("a region is too long"))?;
    let address = map_aligned(file, length, region.offset)?;
    // SAFETY: the mapping has this length, was made above for nobody else, and is never unmapped.
    let builder = unsafe { MmapRegionBuilder::new(length).with_raw_mmap_pointer(address.cast()) };
    let mapping = builder
        .with_file_offset(FileOffset::from_arc(Arc::clone(file), region.offset))
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(libc::MAP_SHARED)
        .build()
        .map_err(|_| VmError::Memory("a region could not be mapped"))?;
    GuestRegionMmap::new(mapping, GuestAddress(region.guest_address))
        .ok_or(VmError::Memory("a region reaches past the end of the address space"))
}

/// Maps `length` bytes of `file` at a multiple of [`HUGE_PAGE`], kept out of core dumps and child processes.
fn map_aligned(file: &File, length: usize, offset: u64) -> Result<*mut core::ffi::c_void, VmError> {
    let failed = || VmError::system("mapping guest memory");
    let space = length.checked_add(HUGE_PAGE).ok_or(VmError::Memory("a region is too long"))?;
    // SAFETY: a new reservation of address space, at an address that the kernel chooses.
    let reserved = unsafe {
        rustix::mm::mmap_anonymous(
            core::ptr::null_mut(),
            space,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }
    .map_err(failed())?;
    let skip = reserved.addr().wrapping_neg() & (HUGE_PAGE - 1);
    // SAFETY: the reservation is longer than `length` by more than `skip`.
    let address = unsafe { reserved.byte_add(skip) };
    // SAFETY: replaces a part of the reservation above, which nobody uses.
    unsafe {
        rustix::mm::mmap(
            address,
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE,
            file,
            offset,
        )
    }
    .map_err(failed())?;
    // SAFETY: advice on the mapping just made; none of it changes contents.
    let kept_out = unsafe {
        rustix::mm::madvise(address, length, Advice::LinuxDontDump)
            .and_then(|()| rustix::mm::madvise(address, length, Advice::LinuxDontFork))
    };
    kept_out.map_err(failed())?;
    // SAFETY: as above. A host that has no huge pages for this memory says so; ordinary ones do.
    let _no_huge_pages = unsafe { rustix::mm::madvise(address, length, Advice::LinuxHugepage) }.is_err();
    Ok(address)
}
