//! Runs one bare guest.

use std::path::Path;

use enclave_hypervisor::arch::layout::{HIGH_MEMORY, ZERO_PAGE};
use enclave_hypervisor::messages::EntryPoint;

use crate::code::Code;
use crate::vm_support::{Ended, Memory, Vm};

/// Memory of a guest that does not care, in bytes.
pub const SMALL: u64 = 4 << 20;

/// The program under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_enclave-hypervisor"))
}

/// Whether bare guests can run here; says so if not.
pub fn can_run() -> bool {
    let usable = std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if !usable {
        eprintln!("SKIPPED: /dev/kvm cannot be opened: {}", std::thread::current().name().unwrap_or("?"));
    }
    usable
}

/// Writes the code to the place of a kernel, with the tables that a kernel gets.
pub fn load(memory: &Memory, code: &Code) -> EntryPoint {
    // An ELF kernel around the code: the same path as a real one, page tables included.
    let entry = memory.place_bytes(elf(code.bytes()), b"", None, 1);
    assert!(matches!(entry, EntryPoint::Linux64 { boot_params: ZERO_PAGE, .. }));
    entry
}

/// Runs the code on one virtual CPU until the machine ends.
pub fn run(code: &Code) -> Ended {
    let memory = Memory::new(SMALL);
    let entry = load(&memory, code);
    start(&memory, entry, 1, true).wait()
}

/// Starts a machine in the given memory. All virtual CPUs share the first host CPU.
pub fn start(memory: &Memory, entry: EntryPoint, vcpus: usize, debug: bool) -> Vm {
    let vm = Vm::prepare(program(), &vec![0; vcpus], debug, false);
    vm.boot(memory, entry);
    vm
}

/// A small ELF kernel: the code in one segment at 1 MiB, entered at its first byte.
pub fn elf(code: &[u8]) -> Vec<u8> {
    let length = u64::try_from(code.len()).unwrap();
    let mut file = Vec::new();
    file.extend_from_slice(b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend_from_slice(&2u16.to_le_bytes()); // executable
    file.extend_from_slice(&62u16.to_le_bytes()); // x86-64
    file.extend_from_slice(&1u32.to_le_bytes());
    for field in [HIGH_MEMORY, 64, 0] {
        file.extend_from_slice(&field.to_le_bytes()); // entry, program headers, section headers
    }
    file.extend_from_slice(&0u32.to_le_bytes());
    for field in [64u16, 56, 1, 0, 0, 0] {
        file.extend_from_slice(&field.to_le_bytes());
    }
    file.extend_from_slice(&1u32.to_le_bytes()); // a segment to load
    file.extend_from_slice(&7u32.to_le_bytes());
    for field in [120, HIGH_MEMORY, HIGH_MEMORY, length, length, 4096] {
        file.extend_from_slice(&field.to_le_bytes());
    }
    file.extend_from_slice(code);
    file
}
