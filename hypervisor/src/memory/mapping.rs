//! Guest memory mapped into this process: aligned for huge pages, kept out of core dumps, swap, page merging and
//! child processes.
#![expect(unsafe_code, reason = "memory is mapped, advised and lent by address")]

use core::ptr::NonNull;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::mm::{
    Advice, MapFlags, MlockFlags, ProtFlags, madvise, mlock_with, mmap, mmap_anonymous, munmap,
};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

use super::MemoryError;
use super::descriptor::Descriptor;
use crate::messages::MemoryRegion;

/// Mappings begin at multiples of this, or of their pages' size if larger, so that huge pages can hold them.
const ALIGNMENT: usize = 2 << 20;

/// Which measures could be taken for all of the memory. What is not here (core dumps, child processes) is always
/// taken, or there is no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection {
    /// Transparent huge pages were asked for, or the memory is made of huge pages. Whether a memfd gets them is for the
    /// host's `shmem_enabled` to say.
    pub huge_pages: bool,
    /// The host will not merge its pages with others', or merges none at all.
    pub never_merged: bool,
    /// Pages are locked as they are first used and never reach swap. Not so if the limit on locked memory is too low.
    pub locked: bool,
}

impl Default for Protection {
    fn default() -> Self {
        Self { huge_pages: true, never_merged: true, locked: true }
    }
}

/// One region, mapped. The mapping lasts as long as the process: [`GuestMemoryMmap`] is cloned freely and nothing tells
/// when its last user is gone.
#[derive(Debug)]
pub(super) struct Mapping {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping belongs to no thread; slices of it follow the borrow of the value.
unsafe impl Send for Mapping {}
// SAFETY: nothing is accessed through a shared reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a region, and strikes from `protection` what could not be reached.
    pub(super) fn new(
        descriptor: &Descriptor,
        region: MemoryRegion,
        protection: &mut Protection,
    ) -> Result<Self, MemoryError> {
        let length = usize::try_from(region.length)
            .map_err(|_| MemoryError::Regions("a region is longer than this process's address space"))?;
        let address = map_aligned(descriptor, length, region.offset)?;
        advise(address, length, descriptor.is_huge(), protection)?;
        Ok(Self { address, length })
    }

    /// A part of the region.
    pub(super) fn slice_mut(&mut self, offset: u64, length: u64) -> Option<&mut [u8]> {
        let (offset, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
        if offset.checked_add(length)? > self.length {
            return None;
        }
        // SAFETY: the range was just found to lie in the mapping, which is readable, writable and never unmapped. The
        // caller (GuestMemory) lends slices only while nobody else can reach the memory: neither has it been made a
        // GuestMemoryMmap nor has the descriptor left the process. The borrow of `self` excludes other slices.
        Some(unsafe { core::slice::from_raw_parts_mut(self.address.as_ptr().add(offset), length) })
    }

    /// Overwrites all of the region with zeros, and returns how many bytes that was.
    pub(super) fn overwrite(&mut self) -> u64 {
        // SAFETY: as for a slice, except that others may still have the memory mapped: by the contract of
        // `GuestMemory::scrub` none of them uses it, and if one did the bytes would be arbitrary, no more.
        unsafe { core::ptr::write_bytes(self.address.as_ptr(), 0, self.length) };
        self.length as u64
    }
}

/// The mapped regions as one guest's memory.
pub(super) fn guest_memory(
    descriptor: &Descriptor,
    regions: &[MemoryRegion],
    mappings: &[Mapping],
) -> Result<GuestMemoryMmap, MemoryError> {
    let file =
        descriptor.file().try_clone().map_err(|_| MemoryError::Regions("no descriptor is left for them"))?;
    let file = Arc::new(file);
    let region = |(region, mapping): (&MemoryRegion, &Mapping)| {
        // SAFETY: the mapping has this length and is never unmapped.
        let builder =
            unsafe { MmapRegionBuilder::new(mapping.length).with_raw_mmap_pointer(mapping.address.as_ptr()) };
        let mapped = builder
            .with_file_offset(FileOffset::from_arc(Arc::clone(&file), region.offset))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_SHARED)
            .with_hugetlbfs(descriptor.is_huge())
            .build()
            .map_err(|_| MemoryError::Regions("one is not page-aligned"))?;
        GuestRegionMmap::new(mapped, GuestAddress(region.guest_address))
            .map(Arc::new)
            .ok_or(MemoryError::Regions("one reaches past the address space"))
    };
    let regions = regions.iter().zip(mappings).map(region).collect::<Result<Vec<_>, _>>()?;
    GuestMemoryMmap::from_arc_regions(regions).map_err(|_| MemoryError::Regions("they overlap"))
}

fn map_aligned(descriptor: &Descriptor, length: usize, offset: u64) -> Result<NonNull<u8>, MemoryError> {
    let alignment = usize::try_from(descriptor.page_size()).map_or(ALIGNMENT, |page| page.max(ALIGNMENT));
    let reserved = reserve(length, alignment)?;
    // Huge pages are set aside now, so that too few of them fail here and not in the guest.
    let reserve_nothing = if descriptor.is_huge() { MapFlags::empty() } else { MapFlags::NORESERVE };
    // SAFETY: replaces exactly the reservation, which nobody uses.
    let mapped = unsafe {
        mmap(
            reserved.as_ptr().cast(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::FIXED | reserve_nothing,
            descriptor.file(),
            offset,
        )
    };
    mapped.map_err(|source| {
        // SAFETY: the reservation is still there and still unused.
        let _ = unsafe { munmap(reserved.as_ptr().cast(), length) };
        if descriptor.is_huge() && source == Errno::NOMEM {
            MemoryError::HugePages { bytes: descriptor.bytes(), page: descriptor.page_size(), source }
        } else {
            MemoryError::System { step: "mapping it", source }
        }
    })?;
    Ok(reserved)
}

/// Reserves address space for `length` bytes at a multiple of `alignment`.
fn reserve(length: usize, alignment: usize) -> Result<NonNull<u8>, MemoryError> {
    let space = length
        .checked_add(alignment)
        .ok_or(MemoryError::Regions("a region is longer than the address space"))?;
    // SAFETY: new address space, at an address that the kernel chooses.
    let start = unsafe {
        mmap_anonymous(
            core::ptr::null_mut(),
            space,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }
    .map_err(MemoryError::system("reserving address space"))?
    .cast::<u8>();
    let before = start.addr().wrapping_neg() & (alignment.wrapping_sub(1));
    let after = alignment.wrapping_sub(before);
    // SAFETY: `before` is less than `alignment`, by which the reservation is longer than `length`.
    let (aligned, end) = unsafe { (start.add(before), start.add(before).add(length)) };
    // SAFETY: both lie in the reservation, at its two ends, outside what is returned. Should it fail, address space
    // stays reserved and nothing else happens.
    unsafe {
        if before > 0 {
            let _ = munmap(start.cast(), before);
        }
        let _ = munmap(end.cast(), after);
    }
    NonNull::new(aligned).ok_or(MemoryError::System { step: "reserving address space", source: Errno::NOMEM })
}

fn advise(
    address: NonNull<u8>,
    length: usize,
    huge: bool,
    protection: &mut Protection,
) -> Result<(), MemoryError> {
    let address = address.as_ptr().cast();
    // SAFETY: advice on a mapping of this length that was just made; none of it changes contents.
    let advise = |advice| unsafe { madvise(address, length, advice) };
    advise(Advice::LinuxDontDump).map_err(MemoryError::system("keeping it out of core dumps"))?;
    advise(Advice::LinuxDontFork).map_err(MemoryError::system("keeping it from child processes"))?;
    protection.huge_pages &= huge || advise(Advice::LinuxHugepage).is_ok();
    // A kernel that cannot merge pages does not know the advice.
    protection.never_merged &= matches!(advise(Advice::LinuxUnmergeable), Ok(()) | Err(Errno::INVAL));
    // SAFETY: as above. Huge pages are never swapped.
    protection.locked &= huge || unsafe { mlock_with(address, length, MlockFlags::ONFAULT) }.is_ok();
    Ok(())
}
