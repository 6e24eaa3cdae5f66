//! Real files in memory, real mappings.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{SealFlags, fcntl_get_seals, ftruncate};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::*;

const MIB: u64 = 1 << 20;

/// Bytes of the file that the host has memory for.
fn allocated(memory: &GuestMemory) -> u64 {
    memory.descriptor.file().metadata().unwrap().blocks() * 512
}

/// The lines of /proc/self/smaps about the mapping at an address.
fn smaps(address: usize) -> String {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let start = smaps.find(&format!("{address:x}-")).expect("the mapping is listed");
    let rest = &smaps[start..];
    let end = rest.find("VmFlags").and_then(|flags| rest[flags..].find('\n').map(|line| flags + line));
    rest[..end.unwrap()].to_owned()
}

#[test]
fn nothing_is_allocated_until_it_is_written() {
    let memory = GuestMemory::allocate(8 << 30, None).unwrap();
    assert_eq!(allocated(&memory), 0);
}

#[test]
fn regions_follow_each_other_in_the_descriptor_and_leave_the_hole_free() {
    let memory = GuestMemory::allocate(5 << 30, None).unwrap();
    let [low, high] = memory.regions() else { panic!("{:?}", memory.regions()) };
    assert_eq!((low.guest_address, low.offset), (0, 0));
    assert_eq!((high.guest_address, high.offset), (4 << 30, low.length));
    assert!(low.length < 4 << 30);
    assert_eq!(low.length + high.length, 5 << 30);
}

#[test]
fn mappings_are_aligned_for_huge_pages_and_protected() {
    let mut memory = GuestMemory::allocate(64 * MIB, None).unwrap();
    let shared = memory.share().unwrap();
    let address = shared.get_host_address(GuestAddress(0)).unwrap().addr();
    assert!(address.is_multiple_of(2 << 20));
    let listed = smaps(address);
    let flags = listed.lines().find(|line| line.starts_with("VmFlags")).unwrap();
    // "dd": not in core dumps. "dc": not copied on fork.
    for flag in ["dd", "dc", "rd", "wr", "sh"] {
        assert!(flags.split_whitespace().any(|have| have == flag), "{flag} is missing: {flags}");
    }
    assert!(!flags.contains(" ex"), "{flags}");
    let locked = flags.split_whitespace().any(|flag| flag == "lo");
    assert_eq!(locked, memory.protection().locked, "{flags}");
}

/// The host's setting for memfds; the tests cannot know what it is.
fn shmem_enabled() -> String {
    fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default()
}

#[test]
fn transparent_huge_pages_are_had_though_memfds_get_none() {
    if !shmem_enabled().contains("[never]") || !rustix::process::geteuid().is_root() {
        println!(
            "SKIPPED transparent_huge_pages_are_had_though_memfds_get_none: needs root, and shmem_enabled as never"
        );
        return;
    }
    let mut memory = GuestMemory::allocate(32 * MIB, None).unwrap();
    memory.bytes_mut(0, 32 * MIB).unwrap().fill(1);
    let address = memory.share().unwrap().get_host_address(GuestAddress(0)).unwrap().addr();
    let listed = smaps(address);
    assert!(listed.contains("enclave-memory (deleted)"), "{listed}");
    let huge: u64 = listed
        .lines()
        .find_map(|line| line.strip_prefix("ShmemPmdMapped:")?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap();
    // A host without a free huge page gives small ones; it has not been seen without a single one.
    assert!(huge >= 2048, "{listed}");
    // Neither is it a program, nor does anything lead back to it.
    let path = format!("/proc/self/fd/{}", memory.descriptor().as_raw_fd());
    assert!(fs::read_link(&path).unwrap().to_str().unwrap().ends_with("/enclave-memory (deleted)"));
    let executable = rustix::fs::statvfs(&path).unwrap().f_flag;
    assert!(executable.contains(rustix::fs::StatVfsMountFlags::NOEXEC), "{executable:?}");
}

#[test]
fn a_file_with_huge_pages_has_the_size_asked_for_and_is_empty() {
    let Ok(file) = descriptor::file_with_huge_pages(3 * MIB) else {
        assert!(!rustix::process::geteuid().is_root(), "root may mount");
        println!("SKIPPED a_file_with_huge_pages_has_the_size_asked_for_and_is_empty: needs root");
        return;
    };
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.len(), metadata.blocks(), metadata.nlink()), (3 * MIB, 0, 0));
    assert_eq!(metadata.mode() & 0o777, 0o600);
}

#[test]
fn the_size_of_a_memfd_is_sealed() {
    let memory = GuestMemory::of(Descriptor::memfd(2 * MIB, None).unwrap()).unwrap();
    let seals = fcntl_get_seals(memory.descriptor()).unwrap();
    assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL), "{seals:?}");
    assert!(ftruncate(memory.descriptor(), 0).is_err());
    assert!(ftruncate(memory.descriptor(), 4 * MIB).is_err());
}

#[test]
fn slices_are_lent_inside_the_memory_only_and_until_it_is_shared() {
    let mut memory = GuestMemory::allocate(2 * MIB, None).unwrap();
    memory.bytes_mut(0x1000, 5).unwrap().copy_from_slice(b"hello");
    assert_eq!(memory.bytes_mut(0, 2 * MIB).unwrap().len(), 2 << 20);
    assert!(memory.bytes_mut(2 * MIB, 0).unwrap().is_empty());
    for (address, length) in
        [(0, 2 * MIB + 1), (2 * MIB, 1), (1, u64::MAX), (u64::MAX, 1), (u64::MAX, u64::MAX)]
    {
        assert!(
            matches!(memory.bytes_mut(address, length), Err(MemoryError::NoSuchRange { .. })),
            "{address:#x}"
        );
    }
    let mut read = [0; 5];
    memory.share().unwrap().read_slice(&mut read, GuestAddress(0x1000)).unwrap();
    assert_eq!(&read, b"hello");
    assert!(matches!(memory.bytes_mut(0, 1), Err(MemoryError::Shared)));
}

#[test]
fn memory_across_the_hole_is_not_one_slice() {
    let mut memory = GuestMemory::allocate(5 << 30, None).unwrap();
    let low = memory.regions()[0].length;
    assert!(memory.bytes_mut(low - 1, 2).is_err());
    assert!(memory.bytes_mut(low, 1).is_err());
    assert_eq!(memory.bytes_mut(4 << 30, 1 << 30).unwrap().len(), 1 << 30);
}

#[test]
fn scrubbing_overwrites_what_was_used_frees_it_and_does_not_grow_the_rest() {
    let mut memory = GuestMemory::allocate(4 << 30, None).unwrap();
    let shared = memory.share().unwrap().clone();
    for address in [0, 0x10_0000, 1 << 30, (4 << 30) + 0x1000] {
        shared.write_slice(b"a secret", GuestAddress(address)).unwrap();
    }
    let used = allocated(&memory);
    assert!(used > 0);
    // Overwriting alone must leave no more allocated than there was: watch it before the hole is punched.
    let overwritten = memory.descriptor.overwrite_allocated().unwrap();
    assert_eq!(overwritten, used);
    assert_eq!(allocated(&memory), used);
    for address in [0, 0x10_0000, 1 << 30, (4 << 30) + 0x1000] {
        let mut read = [1; 8];
        shared.read_slice(&mut read, GuestAddress(address)).unwrap();
        assert_eq!(read, [0; 8]);
    }
    assert_eq!(memory.scrub().unwrap(), Scrubbed { overwritten: used });
    assert_eq!(allocated(&memory), 0);
    assert_eq!(memory.scrub().unwrap(), Scrubbed { overwritten: 0 });
}

#[test]
fn the_shared_memory_is_the_descriptors() {
    let mut memory = GuestMemory::allocate(2 * MIB, None).unwrap();
    let fd = memory.descriptor().as_raw_fd();
    let shared = memory.share().unwrap();
    shared.write_slice(b"seen by both", GuestAddress(0x2000)).unwrap();
    let region = shared.iter().next().unwrap();
    assert_eq!(region.file_offset().unwrap().start(), 0);
    let other = fs::File::open(format!("/proc/self/fd/{fd}")).unwrap();
    let mut read = [0; 12];
    std::os::unix::fs::FileExt::read_exact_at(&other, &mut read, 0x2000).unwrap();
    assert_eq!(&read, b"seen by both");
}

#[test]
fn sizes_that_pages_do_not_divide_are_refused() {
    for bytes in [0, 1, 4095, 2 * MIB + 1] {
        assert!(matches!(GuestMemory::allocate(bytes, None), Err(MemoryError::Size { .. })), "{bytes}");
    }
    assert!(matches!(GuestMemory::allocate(3 * MIB, Some(2 * MIB)), Err(MemoryError::Size { .. })));
    assert!(matches!(GuestMemory::allocate(MIB, Some(MIB)), Err(MemoryError::HugePageSize(_))));
}

#[test]
fn huge_pages_are_used_and_cleaned_whole_or_their_lack_is_said() {
    // The machine may or may not have huge pages reserved: both answers are checked.
    let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free: u64 = free.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    match GuestMemory::allocate(4 * MIB, Some(2 * MIB)) {
        Ok(mut memory) => {
            memory.bytes_mut(2 * MIB, 6).unwrap().copy_from_slice(b"secret");
            assert_eq!(memory.scrub().unwrap(), Scrubbed { overwritten: 4 * MIB });
            assert_eq!(memory.bytes_mut(2 * MIB, 6).unwrap(), [0; 6]);
        }
        Err(error) => {
            assert!(free < 2, "{free} huge pages are free, but: {error}");
            let text = error.to_string();
            assert!(text.contains("huge pages"), "{text}");
        }
    }
}
