//! Kernels made by hand: what is accepted, where everything goes, and what is refused.

use proptest::prelude::*;
use vm_memory::{ByteValued, GuestMemoryBackend};

use super::super::layout::{ACPI_TABLES, GDT, MMIO_HOLE, MMIO_HOLE_END, PAGE_TABLES};
use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Where the test kernel wants to run, and what it needs there.
const PREFERRED: u64 = 16 * MIB;
const INIT_SIZE: u32 = 8 << 20;
const INITRD_MAX: u32 = 0x7FFF_FFFF;
const COMMAND_LINE_MAX: u32 = 100;

/// A bzImage of one setup sector and `body` bytes of 0xCC. Offsets: Documentation/arch/x86/boot.rst.
pub(super) fn bzimage_with(body: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut image = vec![0; 1024];
    let mut put = |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0x1F1, &[1]);
    put(0x1FE, &0xAA55u16.to_le_bytes());
    put(0x200, &[0xEB, 0x6A]); // the jump that says where the header ends
    put(0x202, b"HdrS");
    put(0x206, &0x020Fu16.to_le_bytes());
    put(0x211, &[0x81]); // loaded high, and a heap that the boot loader must disclaim
    put(0x22C, &INITRD_MAX.to_le_bytes());
    put(0x230, &0x20_0000u32.to_le_bytes());
    put(0x234, &[1]);
    put(0x236, &0b11u16.to_le_bytes()); // 64-bit entry, loadable above 4 GiB
    put(0x238, &COMMAND_LINE_MAX.to_le_bytes());
    put(0x250, &0xDEAD_BEEFu64.to_le_bytes()); // setup_data, which no image may hand to itself
    put(0x258, &PREFERRED.to_le_bytes());
    put(0x260, &INIT_SIZE.to_le_bytes());
    image.resize(1024 + body, 0xCC);
    change(&mut image);
    image
}

pub(super) fn bzimage() -> Vec<u8> {
    bzimage_with(4096, |_| {})
}

/// A kernel that must be told about its ramdisk with 32 bits.
pub(super) fn bzimage_below_4g() -> Vec<u8> {
    bzimage_with(4096, |image| image[0x236] = 1)
}

/// Type, offset in the file, address, bytes in the file, bytes in memory.
pub(super) type ProgramHeader = (u32, u64, u64, u64, u64);

/// An ELF file with these program headers and contents.
pub(super) fn elf(entry: u64, headers: &[ProgramHeader], contents: &[u8]) -> Vec<u8> {
    let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3E\0\x01\0\0\0".to_vec();
    for field in [entry, 64, 0] {
        file.extend_from_slice(&field.to_le_bytes());
    }
    file.extend_from_slice(&[
        0,
        0,
        0,
        0,
        64,
        0,
        56,
        0,
        u8::try_from(headers.len()).unwrap(),
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    for (kind, offset, address, file_length, memory_length) in headers {
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&7u32.to_le_bytes());
        for field in [offset, address, address, file_length, memory_length, &4096] {
            file.extend_from_slice(&field.to_le_bytes());
        }
    }
    file.resize(4096, 0);
    file.extend_from_slice(contents);
    file
}

/// One segment of 16 bytes in the file and a page in memory at 2 MiB.
pub(super) fn simple_elf() -> Vec<u8> {
    elf(2 * MIB, &[(1, 4096, 2 * MIB, 16, 4096)], &[0xAB; 16])
}

/// A note after another owner's, padded as notes are.
fn notes(description: &[u8]) -> Vec<u8> {
    let mut notes = b"\x04\0\0\0\x05\0\0\0\x03\0\0\0GNU\0hello\0\0\0".to_vec();
    notes.extend_from_slice(&4u32.to_le_bytes());
    notes.extend_from_slice(&u32::try_from(description.len()).unwrap().to_le_bytes());
    notes.extend_from_slice(&18u32.to_le_bytes());
    notes.extend_from_slice(b"Xen\0");
    notes.extend_from_slice(description);
    notes
}

pub(super) fn pvh_elf(description: &[u8]) -> Vec<u8> {
    let notes = notes(description);
    let length = u64::try_from(notes.len()).unwrap();
    let mut contents = vec![0xAB; 4096];
    contents.extend_from_slice(&notes);
    elf(2 * MIB, &[(1, 4096, 2 * MIB, 4096, 8192), (4, 8192, 0, length, length)], &contents)
}

/// Memory as the supervisor lays it out; only touched pages exist.
fn memory(bytes: u64) -> GuestMemoryMmap {
    let ranges: Vec<_> = ram_ranges(bytes)
        .iter()
        .map(|range| (GuestAddress(range.guest_address), usize::try_from(range.length).unwrap()))
        .collect();
    GuestMemoryMmap::from_ranges(&ranges).unwrap()
}

fn read<T: ByteValued>(memory: &GuestMemoryMmap, address: u64) -> T {
    memory.read_obj(GuestAddress(address)).unwrap()
}

fn parse_error(kernel: Vec<u8>) -> BootError {
    Kernel::parse(kernel).unwrap_err()
}

#[test]
fn a_bzimage_is_loaded_where_it_wants_to_run() {
    let memory = memory(64 * MIB);
    let entry = Kernel::parse(bzimage()).unwrap().place(&memory, b"quiet", None, 1).unwrap();
    assert_eq!(entry, EntryPoint::Linux64 { instruction: PREFERRED + 0x200, boot_params: ZERO_PAGE });
    let mut body = vec![0; 4097];
    memory.read_slice(&mut body, GuestAddress(PREFERRED)).unwrap();
    assert!(body[..4096].iter().all(|byte| *byte == 0xCC) && body[4096] == 0);
    let mut line = [0xFF; 6];
    memory.read_slice(&mut line, GuestAddress(COMMAND_LINE)).unwrap();
    assert_eq!(&line, b"quiet\0");
}

#[test]
fn the_zero_page_says_what_the_boot_protocol_wants() {
    let memory = memory(64 * MIB);
    let kernel = Kernel::parse(bzimage()).unwrap();
    kernel.place(&memory, b"", Some((32 * MIB, 12345)), 1).unwrap();
    let at = |offset| ZERO_PAGE + offset;
    assert_eq!(read::<u16>(&memory, at(0x1FE)), 0xAA55);
    assert_eq!(&read::<[u8; 4]>(&memory, at(0x202)), b"HdrS");
    assert_eq!(read::<u8>(&memory, at(0x210)), 0xFF, "loader without a number");
    assert_eq!(read::<u8>(&memory, at(0x211)), 1, "no heap");
    assert_eq!(u64::from(read::<u32>(&memory, at(0x218))), 32 * MIB);
    assert_eq!(read::<u32>(&memory, at(0x21C)), 12345);
    assert_eq!(u64::from(read::<u32>(&memory, at(0x228))), COMMAND_LINE);
    assert_eq!(read::<u32>(&memory, at(0x238)), COMMAND_LINE_MAX, "the kernel's own header");
    assert_eq!(read::<u64>(&memory, at(0x250)), 0, "no setup data");
    assert_eq!(read::<u64>(&memory, at(0x70)), ACPI_TABLES);
    assert_eq!(read::<[u32; 2]>(&memory, at(0xC0)), [0, 0], "no upper halves");
    assert_eq!(read::<u8>(&memory, at(0x1EF)), 0, "the sentinel");
    assert_eq!(read::<u8>(&memory, at(0x1E8)), 4);
    let last = at(0x2D0) + 3 * 20;
    assert_eq!(read::<u64>(&memory, last), MIB);
    assert_eq!(read::<u64>(&memory, last + 8), 63 * MIB);
    assert_eq!(read::<u32>(&memory, last + 16), 1);
}

#[test]
fn a_ramdisk_of_five_gibibytes_goes_above_four_and_is_announced_in_full() {
    let bytes = 20 * GIB;
    let memory = memory(bytes);
    let kernel = Kernel::parse(bzimage()).unwrap();
    let address = kernel.initrd_address(&ram_ranges(bytes), 5 * GIB).unwrap();
    assert!(address >= MMIO_HOLE_END && address.is_multiple_of(2 * MIB));
    kernel.place(&memory, b"", Some((address, 5 * GIB)), 1).unwrap();
    let low = |offset| u64::from(read::<u32>(&memory, ZERO_PAGE + offset));
    assert_eq!(low(0x218) | low(0xC0) << 32, address);
    assert_eq!(low(0x21C) | low(0xC4) << 32, 5 * GIB);
}

#[test]
fn a_ramdisk_that_fits_below_the_hole_stays_there() {
    let kernel = Kernel::parse(bzimage()).unwrap();
    let address = kernel.initrd_address(&ram_ranges(20 * GIB), 2 * GIB + 1).unwrap();
    assert_eq!(address, MMIO_HOLE - 2 * GIB - 2 * MIB);
}

#[test]
fn an_old_kernel_gets_its_ramdisk_below_its_limit_or_an_error() {
    let kernel = Kernel::parse(bzimage_below_4g()).unwrap();
    let ranges = ram_ranges(20 * GIB);
    let limit = u64::from(INITRD_MAX) + 1;
    let lowest = PREFERRED + u64::from(INIT_SIZE);
    assert_eq!(kernel.initrd_address(&ranges, limit - lowest).unwrap(), lowest);
    let error = kernel.initrd_address(&ranges, limit - lowest + 1).unwrap_err();
    assert!(matches!(error, BootError::RamdiskTooBig { limit: found, .. } if found == limit), "{error}");
}

#[test]
fn a_ramdisk_that_does_not_fit_says_how_much_memory_would_do() {
    let kernel = Kernel::parse(bzimage()).unwrap();
    let error = kernel.initrd_address(&ram_ranges(64 * MIB), 64 * MIB).unwrap_err();
    let BootError::MemoryTooSmall { needed, available } = error else { panic!("{error}") };
    assert_eq!(available, 64 * MIB);
    assert_eq!(needed, kernel.memory_needed(64 * MIB, 64 * MIB));
    assert!(kernel.initrd_address(&ram_ranges(needed), 64 * MIB).is_ok());
}

#[test]
fn memory_that_ends_within_the_kernel_is_too_small() {
    let end = PREFERRED + u64::from(INIT_SIZE);
    let kernel = Kernel::parse(bzimage()).unwrap();
    assert!(kernel.place(&memory(end), b"", None, 1).is_ok());
    let error = kernel.place(&memory(end - 4096), b"", None, 1).unwrap_err();
    assert!(matches!(error, BootError::MemoryTooSmall { .. }), "{error}");
}

#[test]
fn ramdisks_on_the_kernel_or_outside_memory_are_refused() {
    let kernel = Kernel::parse(bzimage()).unwrap();
    let end = PREFERRED + u64::from(INIT_SIZE);
    let memory = memory(64 * MIB);
    assert!(kernel.place(&memory, b"", Some((end, 64 * MIB - end)), 1).is_ok());
    for ramdisk in
        [(end - 1, 10), (PREFERRED, 1), (0, 1), (end, 64 * MIB - end + 1), (u64::MAX, 2), (64 * MIB, 1)]
    {
        let error = kernel.place(&memory, b"", Some(ramdisk), 1).unwrap_err();
        assert!(matches!(error, BootError::RamdiskMisplaced { .. }), "{ramdisk:x?}: {error}");
    }
}

#[test]
fn a_command_line_may_be_as_long_as_the_kernel_says() {
    let kernel = Kernel::parse(bzimage()).unwrap();
    let memory = memory(64 * MIB);
    let longest = vec![b'x'; 100];
    assert!(kernel.place(&memory, &longest, None, 1).is_ok());
    // Zeros at the end, as some builders append them, are not part of the line.
    assert!(kernel.place(&memory, &[longest.as_slice(), &[0, 0]].concat(), None, 1).is_ok());
    let error = kernel.place(&memory, &[b'x'; 101], None, 1).unwrap_err();
    assert!(matches!(error, BootError::CommandLineTooLong { length: 101, max: 100 }), "{error}");
}

#[test]
fn an_elf_kernel_takes_what_linux_takes() {
    let kernel = Kernel::parse(simple_elf()).unwrap();
    let memory = memory(64 * MIB);
    assert!(kernel.place(&memory, &[b'x'; 2047], None, 1).is_ok());
    assert!(kernel.place(&memory, &[b'x'; 2048], None, 1).is_err());
}

#[test]
fn no_virtual_cpus_and_more_than_the_limit_are_refused() {
    let kernel = Kernel::parse(bzimage()).unwrap();
    let memory = memory(64 * MIB);
    for count in [1, MAX_VCPUS] {
        assert!(kernel.place(&memory, b"", None, count).is_ok());
    }
    for count in [0, MAX_VCPUS + 1] {
        assert!(matches!(kernel.place(&memory, b"", None, count), Err(BootError::VcpuCount(_))));
    }
}

#[test]
fn kernels_that_cannot_be_entered_in_64_bit_mode_are_refused() {
    let old = parse_error(bzimage_with(4096, |image| image[0x206] = 0x0B));
    assert!(old.to_string().contains("2.11"), "{old}");
    assert!(matches!(parse_error(bzimage_with(4096, |image| image[0x236] = 2)), BootError::No64BitEntry));
    assert!(matches!(parse_error(bzimage_with(4096, |image| image[0x211] = 0)), BootError::No64BitEntry));
}

#[test]
fn damaged_bzimages_are_refused() {
    let changes: [fn(&mut Vec<u8>); 6] = [
        |image| image[0x1FE] = 0,
        |image| image.truncate(1024),
        |image| image[0x1F1] = 200,
        |image| image[0x258..0x260].copy_from_slice(&0u64.to_le_bytes()),
        |image| image[0x258..0x260].copy_from_slice(&MMIO_HOLE.to_le_bytes()),
        |image| image[0x260..0x264].copy_from_slice(&u32::MAX.to_le_bytes()),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let error = parse_error(bzimage_with(4096, change));
        assert!(matches!(error, BootError::Damaged(_)), "{number}: {error}");
    }
}

#[test]
fn what_is_no_kernel_is_called_that() {
    for bytes in [Vec::new(), b"#!/bin/sh\n".to_vec(), vec![0; 4096], b"\x7FELF\x01\x01".to_vec()] {
        assert!(matches!(parse_error(bytes), BootError::NotAKernel));
    }
    let mut arm = simple_elf();
    arm[18] = 183;
    assert!(matches!(parse_error(arm), BootError::NotAKernel));
}

#[test]
fn an_elf_kernel_without_a_note_is_entered_in_64_bit_mode() {
    let memory = memory(64 * MIB);
    let entry = Kernel::parse(simple_elf()).unwrap().place(&memory, b"", None, 1).unwrap();
    assert_eq!(entry, EntryPoint::Linux64 { instruction: 2 * MIB, boot_params: ZERO_PAGE });
    assert_eq!(read::<[u8; 17]>(&memory, 2 * MIB)[..], [&[0xAB; 16][..], &[0]].concat());
    assert_eq!(&read::<[u8; 4]>(&memory, ZERO_PAGE + 0x202), b"HdrS");
}

#[test]
fn a_note_names_the_pvh_entry() {
    let entry = u32::try_from(2 * MIB + 0x80).unwrap();
    for description in [entry.to_le_bytes().to_vec(), u64::from(entry).to_le_bytes().to_vec()] {
        let memory = memory(64 * MIB);
        let kernel = Kernel::parse(pvh_elf(&description)).unwrap();
        let placed = kernel.place(&memory, b"hi", Some((32 * MIB, 99)), 1).unwrap();
        assert_eq!(placed, EntryPoint::Pvh { instruction: entry.into(), start_info: PVH_START_INFO });
        let at = |offset| PVH_START_INFO + offset;
        assert_eq!(read::<[u32; 4]>(&memory, at(0)), [0x336E_C578, 1, 0, 1]);
        assert_eq!(read::<u64>(&memory, at(24)), COMMAND_LINE);
        assert_eq!(read::<u64>(&memory, at(32)), ACPI_TABLES);
        let module = read::<u64>(&memory, at(16));
        assert_eq!(read::<[u64; 2]>(&memory, module), [32 * MIB, 99]);
        let map = read::<u64>(&memory, at(40));
        assert_eq!(read::<u32>(&memory, at(48)), 4);
        assert_eq!(read::<[u64; 2]>(&memory, map + 3 * 24), [MIB, 63 * MIB]);
    }
}

#[test]
fn a_pvh_ramdisk_stays_below_four_gibibytes() {
    let kernel = Kernel::parse(pvh_elf(&0x20_0080u32.to_le_bytes())).unwrap();
    let address = kernel.initrd_address(&ram_ranges(40 * GIB), 2 * GIB).unwrap();
    assert!(address + 2 * GIB <= MMIO_HOLE);
    assert!(kernel.initrd_address(&ram_ranges(40 * GIB), 5 * GIB).is_err());
}

#[test]
fn damaged_elf_files_are_refused() {
    let segment = (1, 4096, 2 * MIB, 16, 4096);
    let cases: [(&str, u64, &[ProgramHeader]); 9] = [
        ("no segment", 2 * MIB, &[]),
        ("entry elsewhere", 4 * MIB, &[segment]),
        ("entry one past the end", 2 * MIB + 4096, &[segment]),
        ("past the end of the file", 2 * MIB, &[(1, 4096, 2 * MIB, 17, 4096)]),
        ("more in the file than in memory", 2 * MIB, &[(1, 4096, 2 * MIB, 16, 15)]),
        ("below 1 MiB", 0xF_F000, &[(1, 4096, 0xF_F000, 16, 16)]),
        ("in the hole", MMIO_HOLE - 1, &[(1, 4096, MMIO_HOLE - 1, 16, 16)]),
        ("overflow", u64::MAX, &[(1, 4096, u64::MAX, 16, 16)]),
        ("overlap", 2 * MIB, &[segment, (1, 4096, 2 * MIB + 4095, 16, 16)]),
    ];
    for (what, entry, headers) in cases {
        let error = parse_error(elf(entry, headers, &[0xAB; 16]));
        assert!(matches!(error, BootError::Damaged(_)), "{what}: {error}");
    }
}

#[test]
fn page_tables_map_the_first_four_gibibytes_to_themselves() {
    let memory = memory(64 * MIB);
    Kernel::parse(bzimage()).unwrap().place(&memory, b"", None, 1).unwrap();
    for address in [0, 0x10_0000, MMIO_HOLE, 0xFEE0_0000, MMIO_HOLE_END - 1] {
        let pointer = |table: u64, index: u64| read::<u64>(&memory, (table & !0xFFF) + index * 8);
        let directory_pointers = pointer(PAGE_TABLES, address >> 39);
        let directory = pointer(directory_pointers, address >> 30 & 511);
        let page = pointer(directory, address >> 21 & 511);
        assert_eq!((directory_pointers & 3, directory & 3, page & 0x83), (3, 3, 0x83));
        assert_eq!(page & !0xFFF, address & !(2 * MIB - 1));
    }
    assert_eq!(
        read::<[u64; 5]>(&memory, GDT),
        [0, 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x0000_8B00_0000_0067]
    );
}

proptest! {
    #[test]
    fn ramdisks_are_put_into_memory_beside_the_kernel(mib in 1u64..1 << 16, length in 0u64..40 * GIB) {
        let ranges = ram_ranges(mib * MIB);
        for kernel in [bzimage(), bzimage_below_4g(), simple_elf()] {
            let kernel = Kernel::parse(kernel).unwrap();
            match kernel.initrd_address(&ranges, length) {
                Ok(address) => {
                    prop_assert!(address.is_multiple_of(4096));
                    prop_assert!(address >= kernel.footprint().end());
                    prop_assert!(address + length <= kernel.ramdisk_limit());
                    prop_assert!(ranges.iter().any(|range| range.contains(address, length)));
                }
                Err(BootError::MemoryTooSmall { needed, available }) => prop_assert!(needed > available
                    || length + kernel.footprint().end() > ranges[0].length),
                Err(BootError::RamdiskTooBig { limit, .. }) => prop_assert!(length > limit - kernel.footprint().end()),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }

    #[test]
    fn a_damaged_kernel_is_refused_or_placed_within_memory(
        which in 0usize..4,
        damage in prop::collection::vec((0usize..8300, any::<u8>()), 1..12),
        length in 0usize..9000,
    ) {
        let mut kernel = match which {
            0 => bzimage(),
            1 => simple_elf(),
            2 => pvh_elf(&0x20_0080u32.to_le_bytes()),
            _ => vec![0; 600],
        };
        for (offset, value) in damage {
            if let Some(byte) = kernel.get_mut(offset) {
                *byte = value;
            }
        }
        kernel.truncate(length.max(600));
        if let Ok(kernel) = Kernel::parse(kernel) {
            let memory = memory(32 * MIB);
            prop_assert!(memory.num_regions() == 1);
            let _refused_or_not = kernel.place(&memory, b"quiet", Some((30 * MIB, MIB)), 1);
        }
    }
}
