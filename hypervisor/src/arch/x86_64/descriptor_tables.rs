//! Page tables and segment descriptors for the first instruction of a kernel that starts in 64-bit mode.
//!
//! Linux replaces both within its first microseconds. The page tables map the first 4 GiB to themselves with 2 MiB
//! pages, which covers everything that the boot protocol wants mapped.

use kvm_bindings::kvm_segment;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::boot::BootError;
use super::layout::{GDT, PAGE_TABLES};

/// Page table entry: present and writable.
const TABLE: u64 = 0b11;
/// Page directory entry: present, writable, a 2 MiB page.
const LARGE_PAGE: u64 = TABLE | 1 << 7;
/// Gibibytes mapped: one page directory each.
const DIRECTORIES: u64 = 4;
/// Entries of a table.
const ENTRIES: u64 = 512;
/// Bytes of a table.
const TABLE_SIZE: u64 = 4096;
/// Bytes that an entry of a page directory maps.
const LARGE_PAGE_SIZE: u64 = 2 << 20;

/// Code segment selector that the boot protocol demands (`__BOOT_CS`).
pub(super) const CODE_SELECTOR: u16 = 0x10;
/// Data segment selector that the boot protocol demands (`__BOOT_DS`).
pub(super) const DATA_SELECTOR: u16 = 0x18;
/// Task state segment selector: processors insist on one.
pub(super) const TASK_SELECTOR: u16 = 0x20;

/// Bytes of the GDT less one, as the register wants it.
pub(super) const GDT_LIMIT: u16 = 6 * 8 - 1;

/// Type of a code segment that may be read and was accessed.
const CODE: u8 = 0xB;
/// Type of a data segment that may be written and was accessed.
const DATA: u8 = 0x3;
/// Type of a task state segment in use.
const BUSY_TASK: u8 = 0xB;

/// A code segment over all memory: 64-bit, or 32-bit.
pub(super) fn code_segment(long_mode: bool) -> kvm_segment {
    kvm_segment { l: u8::from(long_mode), db: u8::from(!long_mode), ..flat_segment(CODE_SELECTOR, CODE) }
}

/// A data segment over all memory.
pub(super) fn data_segment() -> kvm_segment {
    kvm_segment { db: 1, ..flat_segment(DATA_SELECTOR, DATA) }
}

/// The smallest task state segment.
pub(super) fn task_segment() -> kvm_segment {
    kvm_segment { selector: TASK_SELECTOR, type_: BUSY_TASK, present: 1, limit: 0x67, ..Default::default() }
}

fn flat_segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment { selector, type_, present: 1, s: 1, g: 1, limit: u32::MAX, ..Default::default() }
}

/// The eight bytes of a descriptor (Intel SDM volume 3, figure 3-8).
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = u64::from(if segment.g == 1 { segment.limit >> 12 } else { segment.limit });
    let base = segment.base;
    let access = u64::from(segment.type_)
        | u64::from(segment.s) << 4
        | u64::from(segment.dpl) << 5
        | u64::from(segment.present) << 7;
    let flags = u64::from(segment.avl)
        | u64::from(segment.l) << 1
        | u64::from(segment.db) << 2
        | u64::from(segment.g) << 3;
    (limit & 0xFFFF)
        | (base & 0xFF_FFFF) << 16
        | access << 40
        | (limit >> 16 & 0xF) << 48
        | flags << 52
        | (base >> 24 & 0xFF) << 56
}

/// Writes page tables and descriptors.
pub(super) fn write(memory: &GuestMemoryMmap) -> Result<(), BootError> {
    let directory_pointers = PAGE_TABLES + TABLE_SIZE;
    let directories = directory_pointers + TABLE_SIZE;
    memory.write_obj(directory_pointers | TABLE, GuestAddress(PAGE_TABLES))?;
    for directory in 0..DIRECTORIES {
        let address = directories + directory * TABLE_SIZE;
        memory.write_obj(address | TABLE, GuestAddress(directory_pointers + directory * 8))?;
    }
    // The directories follow each other, so this fills all of them.
    for page in 0..DIRECTORIES * ENTRIES {
        memory.write_obj((page * LARGE_PAGE_SIZE) | LARGE_PAGE, GuestAddress(directories + page * 8))?;
    }
    // Null and unused, code, data, and a task state segment, which takes two places.
    let descriptors =
        [0, 0, descriptor(&code_segment(true)), descriptor(&data_segment()), descriptor(&task_segment()), 0];
    for (index, descriptor) in (0u64..).zip(descriptors) {
        memory.write_obj(descriptor, GuestAddress(GDT + index * 8))?;
    }
    Ok(())
}
