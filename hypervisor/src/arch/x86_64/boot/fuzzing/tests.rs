//! The fuzz target's body, on its corpus and on mutations of it.

use super::super::tests::{bzimage, bzimage_below_4g, bzimage_with, elf, pvh_elf, simple_elf};
use super::*;

/// Mutations of each input.
const MUTATIONS: u64 = 150;

#[test]
fn the_corpus_breaks_nothing() {
    corpus::replay("kernel", MUTATIONS, |input| _ = kernel(input));
}

/// Kernels that are whole can be placed, or the corpus would say little.
#[test]
fn what_is_well_formed_is_placed() {
    for (name, input) in corpus::inputs("kernel") {
        assert_eq!(kernel(&input), !name.starts_with("refused"), "{name}");
    }
}

/// A kernel in a machine of 64 MiB with two virtual CPUs, a ramdisk of 1 MiB and a command line of 80 bytes.
fn on_a_machine(kernel: &[u8]) -> Vec<u8> {
    [&[63, 2, 5, 0, 4], kernel].concat()
}

#[test]
#[ignore = "writes the seeds of the corpus anew"]
fn write_seeds() {
    let two_segments = [(1, 4096, 2 * MIB, 16, 4096), (1, 4112, 3 * MIB, 16, 4096)];
    let overlapping = [(1, 4096, 2 * MIB, 16, 8192), (1, 4096, 2 * MIB + 4096, 16, 4096)];
    let short_setup = |image: &mut Vec<u8>| image[0x1F1] = 0;
    let old = |image: &mut Vec<u8>| image[0x206] = 0x0B;
    let high = |image: &mut Vec<u8>| image[0x258..0x260].copy_from_slice(&(MMIO_HOLE - MIB).to_le_bytes());
    let low = |image: &mut Vec<u8>| image[0x258..0x260].copy_from_slice(&0x9000_u64.to_le_bytes());
    corpus::write(
        "kernel",
        &[
            ("bzimage", on_a_machine(&bzimage())),
            ("bzimage-below-4g", on_a_machine(&bzimage_below_4g())),
            ("bzimage-short-setup", on_a_machine(&bzimage_with(4096, short_setup))),
            ("refused-old-bzimage", on_a_machine(&bzimage_with(64, old))),
            ("refused-high-bzimage", on_a_machine(&bzimage_with(64, high))),
            ("refused-low-bzimage", on_a_machine(&bzimage_with(64, low))),
            ("refused-small-machine", [&[15, 2, 5, 0, 4], bzimage().as_slice()].concat()),
            ("elf", on_a_machine(&simple_elf())),
            ("elf-two-segments", on_a_machine(&elf(3 * MIB, &two_segments, &[0xAB; 32]))),
            ("refused-overlapping-elf", on_a_machine(&elf(2 * MIB, &overlapping, &[0xAB; 16]))),
            ("pvh", on_a_machine(&pvh_elf(&0x20_0010_u32.to_le_bytes()))),
            ("pvh-wide", on_a_machine(&pvh_elf(&0x20_0010_u64.to_le_bytes()))),
            ("refused-pvh-outside", on_a_machine(&pvh_elf(&0x10_u32.to_le_bytes()))),
        ],
    );
}
