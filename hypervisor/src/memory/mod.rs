//! The guest's memory, as its owner sees it: a descriptor, the regions that guests find in it, and its end.
//!
//! The supervisor allocates it, fills it while nobody else can reach it, passes the descriptor on, and overwrites it
//! when the machine is gone, however that went. The virtual machine process only maps what it is given.

mod descriptor;
mod mapping;
mod received;

use std::os::fd::{AsFd, BorrowedFd};

use thiserror::Error;
use vm_memory::GuestMemoryMmap;

pub use self::descriptor::Descriptor;
use self::mapping::Mapping;
pub use self::mapping::Protection;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::received::check as check_regions;
pub use self::received::map;
use crate::arch::boot::{RamRange, ram_ranges};
use crate::messages::MemoryRegion;

/// Why guest memory cannot be had, or not be cleaned.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The size is not one that memory can have.
    #[error("guest memory of {bytes} bytes is not made of whole pages of {page} bytes; give it a multiple of {} MiB", page.div_ceil(1 << 20))]
    Size {
        /// Bytes that were asked for.
        bytes: u64,
        /// Bytes of a page.
        page: u64,
    },
    /// The host has no pages of this size.
    #[error("huge pages of {0} bytes do not exist on this host; 2 MiB (2097152) and 1 GiB (1073741824) may")]
    HugePageSize(u64),
    /// Too few huge pages are free.
    #[error(
        "there are not enough free huge pages for {bytes} bytes of guest memory ({source}); reserve {} pages of {page} bytes, \
         for example by /proc/sys/vm/nr_hugepages", bytes.div_ceil(*page)
    )]
    HugePages {
        /// Bytes that were asked for.
        bytes: u64,
        /// Bytes of a page.
        page: u64,
        /// What the kernel said.
        #[source]
        source: rustix::io::Errno,
    },
    /// A system call failed.
    #[error("guest memory: {step} failed: {source}")]
    System {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: rustix::io::Errno,
    },
    /// An address range that is not memory.
    #[error("there is no guest memory at {address:#x} for {length} bytes")]
    NoSuchRange {
        /// Guest physical address.
        address: u64,
        /// Bytes.
        length: u64,
    },
    /// The memory is no longer its owner's alone.
    #[error("guest memory is shared already and cannot be filled as a plain slice")]
    Shared,
    /// The regions do not make a guest's memory.
    #[error("the regions of guest memory do not fit together: {0}")]
    Regions(&'static str),
}

impl MemoryError {
    fn system(step: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |source| Self::System { step, source }
    }
}

/// The memory of one guest and the descriptor behind it.
#[derive(Debug)]
pub struct GuestMemory {
    descriptor: Descriptor,
    regions: Vec<MemoryRegion>,
    mappings: Vec<Mapping>,
    shared: Option<GuestMemoryMmap>,
    protection: Protection,
}

impl GuestMemory {
    /// Allocates `bytes` of memory, on huge pages of `huge_page_size` bytes if given: see [`Descriptor::create`].
    ///
    /// # Errors
    /// If the size is not a multiple of the page's, or the host has not got it.
    pub fn allocate(bytes: u64, huge_page_size: Option<u64>) -> Result<Self, MemoryError> {
        Self::of(Descriptor::create(bytes, huge_page_size)?)
    }

    /// Maps a descriptor that nobody has written yet. Huge pages set aside are taken now, other memory takes room in the host
    /// only where it is written.
    ///
    /// # Errors
    /// If the host has not got the memory.
    pub fn of(descriptor: Descriptor) -> Result<Self, MemoryError> {
        let regions = regions_of(descriptor.bytes(), descriptor.page_size())?;
        let mut protection = Protection::default();
        let mappings = regions
            .iter()
            .map(|region| Mapping::new(&descriptor, *region, &mut protection))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { descriptor, regions, mappings, shared: None, protection })
    }

    /// Where the memory lies for the guest and in the descriptor.
    #[must_use]
    pub fn regions(&self) -> &[MemoryRegion] {
        &self.regions
    }

    /// Where the memory lies for the guest.
    #[must_use]
    pub fn ranges(&self) -> Vec<RamRange> {
        let range =
            |region: &MemoryRegion| RamRange { guest_address: region.guest_address, length: region.length };
        self.regions.iter().map(range).collect()
    }

    /// The descriptor, to be passed on.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// What was reached of the measures that keep the memory from leaking.
    #[must_use]
    pub fn protection(&self) -> &Protection {
        &self.protection
    }

    /// A part of the memory as a plain slice, as long as it has not been shared.
    ///
    /// # Errors
    /// If there is no such memory, or it has been shared.
    pub fn bytes_mut(&mut self, address: u64, length: u64) -> Result<&mut [u8], MemoryError> {
        if self.shared.is_some() {
            return Err(MemoryError::Shared);
        }
        let pairs = self.regions.iter().zip(&mut self.mappings);
        for (region, mapping) in pairs {
            let inside = address.checked_sub(region.guest_address).filter(|offset| *offset <= region.length);
            if let Some(part) = inside.and_then(|offset| mapping.slice_mut(offset, length)) {
                return Ok(part);
            }
        }
        Err(MemoryError::NoSuchRange { address, length })
    }

    /// The memory for all who access it from now on; plain slices are not to be had afterwards.
    ///
    /// # Errors
    /// None in practice: the regions are ascending and disjoint.
    pub fn share(&mut self) -> Result<&GuestMemoryMmap, MemoryError> {
        let shared = match self.shared.take() {
            Some(shared) => shared,
            None => mapping::guest_memory(&self.descriptor, &self.regions, &self.mappings)?,
        };
        Ok(self.shared.insert(shared))
    }

    /// Overwrites what was ever written and gives it back to the host. To be called when nobody uses the memory any
    /// more; it can be used again afterwards, and is all zeros.
    ///
    /// # Errors
    /// If the descriptor cannot be written or its pages not be freed.
    pub fn scrub(&mut self) -> Result<Scrubbed, MemoryError> {
        let overwritten = if self.descriptor.is_huge() {
            self.mappings.iter_mut().map(Mapping::overwrite).sum()
        } else {
            self.descriptor.overwrite_allocated()?
        };
        self.descriptor.release()?;
        Ok(Scrubbed { overwritten })
    }
}

/// What overwriting has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes that had been in use and were overwritten.
    pub overwritten: u64,
}

/// The regions of a machine with `bytes` of memory, one after the other in the descriptor.
fn regions_of(bytes: u64, page: u64) -> Result<Vec<MemoryRegion>, MemoryError> {
    let mut offset = 0_u64;
    let mut regions = Vec::new();
    for RamRange { guest_address, length } in ram_ranges(bytes) {
        if !length.is_multiple_of(page) || !guest_address.is_multiple_of(page) {
            return Err(MemoryError::Size { bytes, page });
        }
        regions.push(MemoryRegion { guest_address, length, offset });
        offset = offset.saturating_add(length);
    }
    if regions.is_empty() { Err(MemoryError::Size { bytes, page }) } else { Ok(regions) }
}

#[cfg(test)]
mod tests;
