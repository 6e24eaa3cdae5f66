//! What a guest finds in its memory.

use enclave_hypervisor::arch::boot::{Kernel, ram_ranges};
use enclave_hypervisor::exit_reason::ExitReason;
use vm_memory::{Bytes, GuestAddress};

use crate::code::Code;
use crate::guest::{can_run, elf, start};
use crate::vm_support::Memory;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[test]
fn a_guest_reads_both_ends_of_a_ramdisk_above_two_gibibytes() {
    if !can_run() {
        return;
    }
    // Sparse: only the pages that are touched exist.
    let memory = Memory::new(3 * GIB);
    let length = 700 * MIB;
    let code_for =
        |address: u64| Code::new().load(address).print_eax().load(address + length - 4).print_eax().reset();
    // The address depends on the kernel's length only, and all code for this has the same length.
    let kernel = Kernel::parse(elf(code_for(0).bytes())).unwrap();
    let address = kernel.initrd_address(&ram_ranges(3 * GIB), length).unwrap();
    assert!(address > 2 * GIB, "{address:#x}");
    memory.mapped.write_slice(b"head", GuestAddress(address)).unwrap();
    memory.mapped.write_slice(b"tail", GuestAddress(address + length - 4)).unwrap();
    let entry = memory.place_bytes(elf(code_for(address).bytes()), b"", Some((address, length)), 1);
    let ended = start(&memory, entry, 1, true).wait();
    assert_eq!((ended.reason, ended.text()), (ExitReason::GuestReset, "headtail".to_owned()));
}

#[test]
fn a_guest_finds_its_command_line_byte_for_byte() {
    if !can_run() {
        return;
    }
    let line = "console=ttyS0 \u{e9} \"quoted  text\"";
    // The pointer is in the zero page, which RSI points to; print until the zero byte.
    // mov ebx, [rsi+0x228]; again: mov al, [rbx]; test al, al; jz end; mov dx, 0x3F8; out dx, al; inc ebx; jmp again
    let code = Code::new()
        .raw(&[0x8B, 0x9E, 0x28, 0x02, 0x00, 0x00])
        .raw(&[
            0x8A, 0x03, 0x84, 0xC0, 0x74, 0x0A, 0xBA, 0xF8, 0x03, 0x00, 0x00, 0xEE, 0xFF, 0xC3, 0xEB, 0xF0,
        ])
        .reset();
    let memory = Memory::new(4 * MIB);
    let entry = memory.place_bytes(elf(code.bytes()), line.as_bytes(), None, 1);
    let ended = start(&memory, entry, 1, true).wait();
    assert_eq!((ended.reason, ended.text()), (ExitReason::GuestReset, line.to_owned()));
}

#[test]
fn a_guest_finds_the_acpi_tables_where_kernels_search() {
    if !can_run() {
        return;
    }
    let code = Code::new().load(0xE_0000).print_eax().load(0xE_0004).print_eax().reset();
    assert_eq!(crate::guest::run(&code).text(), "RSD PTR ");
}
