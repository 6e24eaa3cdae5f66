//! Guest memory in a process that is given it: the virtual machine process.

use std::fs::File;
use std::os::fd::OwnedFd;

use vm_memory::GuestMemoryMmap;

use super::MemoryError;
use super::descriptor::Descriptor;
use super::mapping::{self, Mapping, Protection};
use crate::messages::MemoryRegion;

/// Regions that a machine may be made of.
const MAX_REGIONS: usize = 64;

/// Maps the regions of a descriptor with the same protection that its owner gives them. The mappings last as long as the
/// process.
///
/// # Errors
/// A description that is not ascending, overlaps, is not made of whole pages or reaches past the descriptor's end; a
/// mapping that cannot be made.
pub fn map(
    descriptor: OwnedFd,
    regions: &[MemoryRegion],
) -> Result<(GuestMemoryMmap, Protection), MemoryError> {
    let descriptor = Descriptor::received(File::from(descriptor))?;
    check(regions, descriptor.page_size(), descriptor.bytes())?;
    let mut protection = Protection::default();
    let mappings = regions
        .iter()
        .map(|region| Mapping::new(&descriptor, *region, &mut protection))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((mapping::guest_memory(&descriptor, regions, &mappings)?, protection))
}

/// Checks everything that mapping relies on, for a descriptor of `bytes` bytes made of pages of `page` bytes.
pub(crate) fn check(regions: &[MemoryRegion], page: u64, bytes: u64) -> Result<(), MemoryError> {
    if regions.is_empty() || regions.len() > MAX_REGIONS {
        return Err(MemoryError::Regions("there are none, or too many"));
    }
    for region in regions {
        let numbers = [region.guest_address, region.length, region.offset];
        if region.length == 0 || numbers.iter().any(|number| !number.is_multiple_of(page)) {
            return Err(MemoryError::Regions("one is empty or not made of whole pages"));
        }
        // Past the end of the file, an access would end the process.
        if region.offset.checked_add(region.length).is_none_or(|end| end > bytes) {
            return Err(MemoryError::Regions("one reaches past the end of the descriptor"));
        }
        if region.guest_address.checked_add(region.length).is_none() {
            return Err(MemoryError::Regions("one reaches past the end of the address space"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::memory::GuestMemory;

    const PAGE: u64 = 4096;

    fn region(guest_address: u64, length: u64, offset: u64) -> MemoryRegion {
        MemoryRegion { guest_address, length, offset }
    }

    #[test]
    fn what_the_owner_wrote_is_found_by_whoever_is_given_the_descriptor() {
        let mut owner = GuestMemory::allocate(5 << 30, None).unwrap();
        for address in [PAGE, 4 << 30] {
            owner.bytes_mut(address, 5).unwrap().copy_from_slice(b"hello");
        }
        let (given, protection) =
            map(owner.descriptor().try_clone_to_owned().unwrap(), owner.regions()).unwrap();
        assert_eq!(&protection, owner.protection());
        for address in [PAGE, 4 << 30] {
            let mut read = [0; 5];
            given.read_slice(&mut read, GuestAddress(address)).unwrap();
            assert_eq!(&read, b"hello");
        }
    }

    #[test]
    fn regions_that_make_no_memory_are_refused() {
        let owner = GuestMemory::allocate(2 << 20, None).unwrap();
        let too_many: Vec<_> = (0..65).map(|at| region(at * PAGE, PAGE, at * PAGE)).collect();
        for regions in [
            &[][..],
            &too_many,
            &[region(0, 0, 0)],
            &[region(1, PAGE, 0)],
            &[region(0, PAGE + 1, 0)],
            &[region(0, PAGE, 1)],
            &[region(0, (2 << 20) + PAGE, 0)],
            &[region(0, PAGE, 2 << 20)],
            &[region(0, PAGE, u64::MAX - PAGE + 1)],
            &[region(u64::MAX - PAGE + 1, PAGE, 0)],
            &[region(PAGE, PAGE, 0), region(0, PAGE, PAGE)],
            &[region(0, 2 * PAGE, 0), region(PAGE, PAGE, 2 * PAGE)],
        ] {
            let refused = map(owner.descriptor().try_clone_to_owned().unwrap(), regions);
            assert!(matches!(refused, Err(MemoryError::Regions(_))), "{regions:x?}");
        }
    }

    #[test]
    fn a_descriptor_that_is_no_memory_is_refused() {
        let (end, _other) = std::io::pipe().unwrap();
        assert!(map(end.into(), &[region(0, PAGE, 0)]).is_err());
    }
}
